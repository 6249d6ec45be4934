"""Whether two processes are alike, and how a difference is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fairshare_locust.distributed.likeness import differences, file_digest, package_versions, profile_files
from fairshare_locust.profile import load_profile

PROFILE = """
name: files
run: {duration_s: 5}
model: {name: tiny}
traces: [{name: rows, path: rows.csv, format: azure}]
tenants:
  - id: a
    arrival: {process: trace, trace: rows}
    workload: {source: jsonl, path: prompts.jsonl, output_tokens: 4}
  - id: b
    arrival: {process: poisson, rate_per_s: 1}
    workload:
      source: mixture
      parts:
        - {weight: 1, workload: {source: text, path: lines.txt, output_tokens: 4}}
        - {weight: 1, workload: {source: jsonl, path: prompts.jsonl, output_tokens: 4}}
"""


def test_files_of_a_profile(tmp_path: Path) -> None:
    for name in ("rows.csv", "prompts.jsonl", "lines.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "profile.yaml").write_text(PROFILE)
    assert profile_files(load_profile(tmp_path / "profile.yaml")) == [
        ("traces[0].path", tmp_path / "rows.csv"),
        ("tenants[0].workload.path", tmp_path / "prompts.jsonl"),
        ("tenants[1].workload.parts[0].workload.path", tmp_path / "lines.txt"),
    ]


def test_a_files_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_versions_name_what_draws_and_asks() -> None:
    versions = package_versions()
    assert list(versions) == ["fairshare_locust", "locust", "numpy", "tokenizers", "python"]
    assert all(versions.values())
    assert "code " in versions["fairshare_locust"]


def test_differences_name_key_and_both_values() -> None:
    ours = {"seed": 1, "tenants": [{"id": "a", "rate": 2}], "name": "x", "only_here": True}
    theirs = {"seed": 1, "tenants": [{"id": "a", "rate": 3}], "name": "y" * 100, "only_there": None}
    assert differences(ours, theirs) == [
        "tenants[0].rate: 3 there, 2 here",
        f"name: {'y' * 59}… there, x here",
        "only_here: nothing there, True here",
        "only_there: None there, nothing here",
    ]


def test_alike_is_no_difference() -> None:
    assert differences({"a": [1, {"b": None}]}, {"a": (1, {"b": None})}) == []


def test_lists_of_other_lengths_differ_as_a_whole() -> None:
    assert differences({"tenants": [1, 2]}, {"tenants": [1]}) == ["tenants: [1] there, [1, 2] here"]


def test_many_differences_are_counted() -> None:
    found = differences({str(i): i for i in range(15)}, {})
    assert len(found) == 11
    assert found[-1] == "and 5 more"
