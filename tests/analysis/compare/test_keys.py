"""Runs that can't be compared, and the keys that say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.compare.keys import differences, refuse
from analysis.compare.runs import open_compared
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.compare.runs import CHAT, compared_run


def told(*paths: Path) -> list[str]:
    runs = [open_compared(path) for path in paths]
    return differences(runs, [run.sharing for run in runs])


def test_modes_may_differ(tmp_path: Path) -> None:
    first = compared_run(tmp_path / "A")
    other = compared_run(tmp_path / "B", "mps", changes={"name": "x", "telemetry": {"nvml": "never"}, "cost": None})
    assert told(first, other) == []
    refuse([])


def test_arrivals_that_differ_are_named(tmp_path: Path) -> None:
    first = compared_run(tmp_path / "A", arrival={"process": "poisson", "rate_per_s": 2.0}, tenants=CHAT[:1])
    other = compared_run(tmp_path / "B", arrival={"process": "poisson", "rate_per_s": 4.0}, tenants=CHAT[:1])
    assert told(first, other) == ["tenants.chat.arrival.rate_per_s: 2 in A, 4 in B"]
    with pytest.raises(RunDirectoryError, match=r"rate_per_s: 2 in A, 4 in B\n.*or say --force"):
        refuse(told(first, other))


def test_tenants_windows_plans_and_seeds(tmp_path: Path) -> None:
    first = compared_run(tmp_path / "A", tenants=CHAT[1:])
    other = compared_run(
        tmp_path / "B",
        "mps",
        seed=8,
        tenants=CHAT[1:],
        changes={"run": {"warmup_s": 3, "duration_s": 10, "drain_s": 2, "fairness_window_s": 5.0}},
        plan="interference",
    )
    assert told(first, other) == [
        "plan: mixed in A, interference in B",
        "run.warmup_s: 0 in A, 3 in B",
        "seed: 7 in logical, 8 in mps",
    ]
    more = compared_run(tmp_path / "C")
    assert "tenants.chat.weight: absent in A, 1 in C" in told(first, more)


def test_endpoints_and_keys_of_tenants_may_differ(tmp_path: Path) -> None:
    tenants: list[dict[str, Any]] = [
        {"id": "chat", "endpoint": end, "api_key_env": end, "headers": {}, "model": end} for end in ("x", "y")
    ]
    first, other = (compared_run(tmp_path / name, changes={"tenants": [tenants[at]]}) for at, name in enumerate("AB"))
    assert told(first, other) == []


def test_repeats_have_other_seeds_the_same_in_each_mode(tmp_path: Path) -> None:
    paths = [compared_run(tmp_path / f"{mode}{seed}", mode, seed=seed) for mode in ("a", "b") for seed in (1, 2)]
    assert told(*paths) == []
    assert told(*paths[:3]) == ["seed: 1, 2 in a, 1 in b"]


def test_loads_differ_in_arrivals_only(tmp_path: Path) -> None:
    def run(name: str, load: float, rate_per_s: float, weight: float = 1.0) -> Path:
        tenants = (CHAT[1],)
        path = compared_run(
            tmp_path / name, load=load, tenants=tenants, arrival={"process": "constant", "rate_per_s": rate_per_s}
        )
        resolved = path / "profile.resolved.yaml"
        resolved.write_text(resolved.read_text().replace("weight: 1.0", f"weight: {weight}"))
        return path

    low, high = run("low", 1, 1.0), run("high", 2, 2.0)
    assert told(low, high) == []
    assert told(low, high, run("odd", 2, 3.0)) == ["tenants.batch.arrival.rate_per_s: 2 in high, 3 in odd"]
    assert told(low, run("heavy", 2, 2.0, 5.0)) == ["tenants.batch.weight: 1 in low, 5 in heavy"]


def phases(*names: str, end_s: float = 10.0) -> list[dict[str, Any]]:
    return [{"name": name, "start_s": 0.0, "end_s": end_s, "measured": True, "tenants": ["chat"]} for name in names]


def test_windows_that_an_early_stop_has_shortened(tmp_path: Path) -> None:
    """Both were asked for 10 s. One of them was stopped after 4.5 s, as its phases tell, another as its end does."""
    first = compared_run(tmp_path / "A")
    cut = compared_run(tmp_path / "B", "mps", phases=phases("measure", end_s=4.5))
    ended = compared_run(tmp_path / "C", "mps", ended_s=4.5)
    assert told(first, cut) == ["measured seconds of measure: 10.0 in A, 4.5 in B"]
    assert told(first, ended) == ["measured seconds of measure: 10.0 in A, 4.5 in C"]
    assert told(first, compared_run(tmp_path / "D", "mps", phases=phases("measure", end_s=9.95))) == []


def test_windows_that_may_differ(tmp_path: Path) -> None:
    """Parts that only one of two sweeps came to, and those that end with a number of requests."""
    two, one = (
        compared_run(tmp_path / f"{len(names)}", mode, phases=phases(*names))
        for mode, names in (("logical", ("1x/measure", "2x/measure")), ("mps", ("1x/measure",)))
    )
    assert told(two, one) == []
    by_count = {"run": {"warmup_s": 0, "duration_s": None, "requests": 10, "drain_s": 2, "fairness_window_s": 5.0}}
    ends = [
        compared_run(
            tmp_path / f"n{end_s:g}", f"mode{end_s:g}", changes=by_count, phases=phases("measure", end_s=end_s)
        )
        for end_s in (10.0, 4.0)
    ]
    assert told(*ends) == []
