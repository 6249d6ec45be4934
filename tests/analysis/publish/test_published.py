"""What of a run is sent."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis import report_run
from analysis.publish.published import flat_metrics, published
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.build import quick_pictures, record, write_run


def test_numbers_get_flat_names_worked_by_hand() -> None:
    content = {
        "tenants": {
            "chat": {"ttft_ms": {"count": 3, "p99": 9.5, "ci95": {"p99": [1, None]}, "certified": {"p99": True}}}
        },
        "totals": {"slo_attainment": None, "e2e_ms": {"mean": math.inf}},
        "fairness": {"jain_throughput": 0.5, "series": {"t_s": [0.0]}},
        "gpu": None,
        "sources": {"requests_lines": 7},
    }
    assert flat_metrics(content) == {
        "tenants/chat/ttft_ms/count": 3,
        "tenants/chat/ttft_ms/p99": 9.5,
        "fairness/jain_throughput": 0.5,
    }


def test_names_that_services_forbid_stay_apart() -> None:
    content = {"tenants": {name: {"weight": place} for place, name in enumerate(("a/b", "a_b", "ä_b"))}}
    assert flat_metrics(content) == {"tenants/a_b/weight": 0, "tenants/a_b/weight-2": 1, "tenants/__b/weight": 2}


def test_a_report_is_what_is_published(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record(gaps_us=[20_000] * 9), record("b", outcome="timeout")])
    with quick_pictures():
        report_run(folder)
    found = published(folder)
    assert found.name == "run"
    assert found.metrics["tenants/a/output_tokens_per_s"] == 1.0
    assert "tenants/b/ttft_ms/p50" not in found.metrics
    assert "tenants/b/ttft_ms_adjusted/p50" not in found.metrics  # inf
    assert found.settings["plan"] == "mixed"
    assert found.settings["version_locust"] == "2.47.0"
    assert found.settings["sharing"] == "logical"
    assert [one.key for one in found.tables][:2] == ["tenants", "latency"]
    assert {"summary.json", "report.html", "report.md", "report.tex"} <= {path.name for path in found.documents}
    assert found.figures


def test_without_a_report_it_says_what_to_do(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [])
    with pytest.raises(RunDirectoryError, match=r"summary\.json is missing; run `python -m analysis report"):
        published(folder)
    (folder / "analysis").mkdir()
    (folder / "analysis" / "summary.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="can't be read"):
        published(folder)
    (folder / "analysis" / "summary.json").write_text('{"kind": "locust_csv"}')
    with pytest.raises(RunDirectoryError, match="without its records"):
        published(folder)
