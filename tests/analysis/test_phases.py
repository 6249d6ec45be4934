"""Figures by phase."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from analysis.load import Slo, Tenant
from analysis.summary import summarise
from fairshare_locust.record import RequestRecord
from tests.analysis.build import part, record, run
from tests.analysis.random_records import records

TENANTS = (Tenant(id="a", slo=Slo(ttft_ms=600.0)), Tenant(id="b", weight=2.0))


def phases_of(folder: Path, some: list[RequestRecord], *parts: dict[str, Any]) -> list[dict[str, Any]]:
    content = summarise(run(folder, some, *TENANTS, info={"phases": list(parts), "ended_s": 30.0})).content
    found: list[dict[str, Any]] = content["phases"]
    return found


def test_parts_worked_by_hand(tmp_path: Path) -> None:
    some = [
        record("a", 0, scheduled_s=1.0, first_token_s=1.4, gaps_us=[100_000] * 3, input_tokens=10),
        record("a", 1, scheduled_s=12.0, first_token_s=13.0, gaps_us=[100_000], input_tokens=10),
        record("a", 2, scheduled_s=14.0, first_token_s=14.5, gaps_us=[], input_tokens=10),
        record("b", 0, scheduled_s=15.0, sent_s=15.2, outcome="timeout", first_token_s=19.9, gaps_us=[200_000]),
    ]
    first, second = phases_of(
        tmp_path,
        some,
        part("solo-a/measure", 0, 10, "a"),
        part("solo-a/drain", 10, 11, "", measured=False),
        part("all/measure", 11, 20, "ab", 2.0),
    )
    assert [(one["name"], one["start_s"], one["end_s"], one["load"]) for one in (first, second)] == [
        ("solo-a/measure", 0.0, 10.0, 1.0),
        ("all/measure", 11.0, 20.0, 2.0),
    ]
    assert list(first["tenants"]) == ["a"]
    assert first["fairness"] is None
    alone, a, b = first["tenants"]["a"], second["tenants"]["a"], second["tenants"]["b"]
    assert [one["scheduled"] for one in (alone, a, b, second["totals"])] == [1, 2, 1, 3]
    assert [one["completed"] for one in (alone, a, b, second["totals"])] == [1, 2, 0, 2]
    assert b["failed"]["timeout"] == 1
    assert [one["asked_requests_per_s"] for one in (alone, a, b)] == [1 / 10, 2 / 9, 1 / 9]
    assert [one["output_tokens_per_s"] for one in (alone, a, b)] == [4 / 10, 3 / 9, 1 / 9]  # one token came after 20 s
    assert [one["ttft_scheduled_ms"]["p50"] for one in (alone, a, b)] == [400.0, 500.0, 4900.0]
    assert [one["ttft_ms"]["p99"] for one in (alone, a, b)] == [400.0, 1000.0, 4700.0]
    assert [one["tpot_ms"]["p50"] for one in (alone, a)] == [100.0, 100.0]
    assert [one["e2e_ms"]["count"] for one in (alone, a, b)] == [1, 2, 0]
    assert [one["slo_attainment"] for one in (alone, a, b)] == [1.0, 0.5, None]
    assert [one["slo_broken"] for one in (alone, a, b)] == [False, True, None]
    # 3 tokens over weight 1, 1 over weight 2; service 20 + 6 and 2 / 2
    assert second["fairness"]["jain_throughput"] == pytest.approx(3.5**2 / (2 * (3**2 + 0.5**2)))
    assert second["fairness"]["jain_service"] == pytest.approx(27**2 / (2 * (26**2 + 1)))
    assert second["fairness"]["starvation_s_max"] == 4.9


def test_a_part_in_which_the_client_was_late_says_so(tmp_path: Path) -> None:
    late = [record("a", index, scheduled_s=11.0 + index, sent_s=11.3 + index) for index in range(3)]
    first, second = phases_of(
        tmp_path,
        [record("a", 9, scheduled_s=1.0), *late],
        part("load-1/measure", 0, 10, "a"),
        part("load-2/measure", 10, 20, "a", 2.0),
    )
    assert first["reasons"] == []
    assert [reason.split(" over ")[0] for reason in second["reasons"]] == ["a: send lag p99 300.0 ms"]


def test_a_run_without_measured_parts_has_none(tmp_path: Path) -> None:
    assert phases_of(tmp_path, [record("a")], part("warmup", 0, 10, "ab", measured=False)) == []


@settings(deadline=None, max_examples=15)
@given(records())
def test_a_part_has_the_figures_of_a_run_that_measured_nothing_else(some: list[RequestRecord]) -> None:
    first, second = part("one/measure", 0, 4, "ab"), part("two/measure", 4.5, 9, "ab")
    with tempfile.TemporaryDirectory() as folder:
        both = phases_of(Path(folder), some, first, second)
        for found, only in zip(both, (first, second), strict=True):
            info = {"phases": [only], "ended_s": 30.0}
            alone = summarise(run(Path(folder), some, *TENANTS, info=info)).content
            for name, entry in found["tenants"].items():
                assert_part_of(alone["tenants"][name], {key: entry[key] for key in entry.keys() - {"slo_broken"}})
            assert_part_of(alone["totals"], found["totals"])
            assert_part_of(alone["fairness"], found["fairness"])


def assert_part_of(whole: dict[str, Any], some: dict[str, Any]) -> None:
    """The same values; tokens may have been added in another order."""
    for key, value in some.items():
        assert value == (whole[key] if isinstance(value, dict) else pytest.approx(whole[key])), key
