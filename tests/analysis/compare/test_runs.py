"""Finding runs, and what is read of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from analysis.compare.runs import find_runs, open_compared, read_content, solo_of, split_solo
from analysis.load import load_run
from analysis.summary import summarise
from fairshare_locust import __version__
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.compare.runs import compared_run


def test_runs_of_a_matrix(tmp_path: Path) -> None:
    """In the folder, one level deeper, and by a link only once; what is no run is passed over."""
    first = compared_run(tmp_path / "first")
    deeper = compared_run(tmp_path / "mps" / "second")
    (tmp_path / "notes").mkdir()
    (tmp_path / "latest").symlink_to("first")
    assert find_runs([tmp_path]) == [first, deeper]
    assert find_runs([tmp_path / "latest", first]) == [first]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run directory"):
        find_runs([tmp_path])
    with pytest.raises(RunDirectoryError, match="there is no such folder"):
        find_runs([tmp_path / "nowhere"])


def test_a_cell_that_is_none(tmp_path: Path) -> None:
    path = compared_run(tmp_path / "run", cell={"load": 1})
    with pytest.raises(RunDirectoryError, match=r"run\.json: cell can't be understood: KeyError: 'mode'"):
        open_compared(path)


def test_solo_runs_are_no_columns(tmp_path: Path) -> None:
    shared = open_compared(compared_run(tmp_path / "shared"))
    alone = open_compared(compared_run(tmp_path / "alone", plan="solo"))
    assert split_solo([shared, alone]) == ([shared], [alone])
    assert split_solo([alone]) == ([alone], [])


def test_the_solo_run_of_a_run(tmp_path: Path) -> None:
    """Of its own mode, else any; of the same seed, load and work; and none where the run names one itself."""
    solo = [
        open_compared(compared_run(tmp_path / f"solo-{mode}-{seed}", mode, seed=seed, plan="solo"))
        for mode in ("logical", "mps")
        for seed in (7, 8)
    ]
    names = [path.name for path in (one.path for one in solo)]
    assert names == ["solo-logical-7", "solo-logical-8", "solo-mps-7", "solo-mps-8"]

    def found(name: str, mode: str, **values: object) -> list[str]:
        run = open_compared(compared_run(tmp_path / name, mode, **values))  # type: ignore[arg-type]
        return [path.name for path in solo_of(run, solo)]

    assert found("a", "mps", seed=8) == ["solo-mps-8"]
    assert found("b", "mig") == ["solo-logical-7"]
    assert found("c", "mps", seed=9) == []
    assert found("d", "mps", load=2.0) == []
    assert found("e", "mps", solo="../solo") == []
    other = {"tenants": [{"id": "chat", "workload": {"source": "synthetic"}}]}
    assert found("f", "mps", changes=other) == []


def test_a_summary_that_is_up_to_date_is_reused(tmp_path: Path) -> None:
    path = compared_run(tmp_path / "run", versions={"fairshare_locust": __version__})
    run = open_compared(path)
    content = summarise(load_run(path)).content
    kept = orjson.loads(summarise(load_run(path)).to_json())
    kept["run"]["name"] = "kept"
    summary = path / "analysis" / "summary.json"
    summary.parent.mkdir()
    summary.write_bytes(orjson.dumps(kept))
    assert read_content(run, reuse=True)["run"]["name"] == "kept"
    assert read_content(run, reuse=False)["run"]["name"] == content["run"]["name"]

    later_ns = summary.stat().st_mtime_ns + 1_000_000_000
    os.utime(path / "requests.jsonl", ns=(later_ns, later_ns))
    assert read_content(run, reuse=True)["run"]["name"] != "kept"
    os.utime(summary, ns=(later_ns, later_ns))
    assert read_content(run, reuse=True)["run"]["name"] == "kept"
    changes: tuple[dict[str, Any], ...] = (
        {"schema": 0},
        {"totals": {}},
        {"run": {"versions": {"fairshare_locust": "0.0"}, "name": "kept"}},
    )
    for change in changes:
        summary.write_bytes(orjson.dumps(kept | change))
        assert read_content(run, reuse=True)["run"]["name"] != "kept"
    summary.write_text("{")
    assert read_content(run, reuse=True)["run"]["name"] != "kept"


def test_inf_comes_back_as_a_number(tmp_path: Path) -> None:
    path = compared_run(tmp_path / "run", versions={"fairshare_locust": __version__})
    kept = orjson.loads(summarise(load_run(path)).to_json())
    kept["totals"]["ttft_ms_adjusted"]["p99"] = "inf"
    (path / "analysis").mkdir()
    (path / "analysis" / "summary.json").write_bytes(orjson.dumps(kept))
    assert read_content(open_compared(path), reuse=True)["totals"]["ttft_ms_adjusted"]["p99"] == float("inf")
