"""Columns: who belongs together, and what each of them says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.compare.columns import FIGURES, grouped, label_of, modes_of, title_of, unit_of
from analysis.compare.comparison import compare
from analysis.compare.runs import open_compared
from analysis.load import Slo, Tenant
from tests.analysis.compare.runs import CHAT, compared_run


def labels(*paths: Path) -> list[tuple[str, int]]:
    runs = [open_compared(path) for path in paths]
    return [(label_of(group), len(group.runs)) for group in grouped(runs, modes_of(runs))]


def test_repeats_stand_in_one_column(tmp_path: Path) -> None:
    paths = [compared_run(tmp_path / f"{mode}-{seed}", mode, seed=seed) for seed in (1, 2) for mode in ("mps", "mig")]
    assert labels(*paths) == [("mps", 2), ("mig", 2)]


def test_the_same_seed_twice_stands_side_by_side(tmp_path: Path) -> None:
    assert labels(compared_run(tmp_path / "old"), compared_run(tmp_path / "new")) == [
        ("logical (old)", 1),
        ("logical (new)", 1),
    ]


def test_another_deployment_is_no_repeat(tmp_path: Path) -> None:
    changed = {"deployment": {"engine": "simulator", "sharing": "mps", "simulator": {"max_num_seqs": 8}}}
    assert labels(
        compared_run(tmp_path / "a", "mps", seed=1), compared_run(tmp_path / "b", "mps", seed=2, changes=changed)
    ) == [("mps (a)", 1), ("mps (b)", 1)]


def test_engines_that_differ_are_named(tmp_path: Path) -> None:
    paths = (compared_run(tmp_path / "a", engine="vllm"), compared_run(tmp_path / "b", engine="tgi"))
    assert labels(*paths) == [("vllm logical", 1), ("tgi logical", 1)]


def test_a_matrix_is_grouped_by_load(tmp_path: Path) -> None:
    paths = [
        compared_run(tmp_path / f"{mode}-{load}-{seed}", mode, seed=seed, load=load)
        for mode in ("logical", "mps")
        for load in (2.0, 0.5)
        for seed in (1, 2)
    ]
    assert labels(*paths) == [
        ("logical, scale 0.5", 2),
        ("mps, scale 0.5", 2),
        ("logical, scale 2", 2),
        ("mps, scale 2", 2),
    ]


def test_figures_of_a_column(tmp_path: Path) -> None:
    """Two runs with other seeds, TTFT 200 and 300 ms: mean 250, s = 70.71, t(1) = 12.706, 12.706 · 50 = 635.3."""
    paths = [compared_run(tmp_path / f"{seed}", seed=seed, ttft_s=seed / 10) for seed in (2, 3)]
    [column] = compare(paths).comparison.columns
    value = column.get("ttft_p99_ms")
    assert value.value == pytest.approx(250)
    assert list(value.ci95) == pytest.approx([250 - 635.3, 250 + 635.3], abs=0.1)
    assert column.runs == ("2", "3")
    assert column.tenants["chat"]["ttft_p99_ms"].value == pytest.approx(250)
    assert column.simulated == "simulated server, no GPU"
    assert set(column.values) == set(FIGURES)


def test_the_worst_tenant_and_its_slo(tmp_path: Path) -> None:
    tenants = (Tenant(id="chat", slo=Slo(ttft_ms=500)), Tenant(id="strict", slo=Slo(ttft_ms=100, attainment=0.5)))
    [column] = compare([compared_run(tmp_path / "run", tenants=tenants)]).comparison.columns
    assert column.get("slo_attainment").value == 0.5
    assert column.get("worst_tenant_attainment").value == 0
    assert column.slo_kept == {"chat": True, "strict": False}


def test_no_slo_no_request(tmp_path: Path) -> None:
    run = compared_run(tmp_path / "run")
    (run / "requests.jsonl").write_bytes(b"")
    [column] = compare([run]).comparison.columns
    assert column.slo_kept == {"chat": None, "batch": None}
    assert column.get("worst_tenant_attainment").value is None
    assert column.get("cost_per_million_output_tokens").value is None


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        ({"process": "closed", "concurrency": 8, "think_s": {"distribution": "constant", "value": 0.0}}, 16.0),
        ({"process": "closed", "concurrency": 8, "think_s": 0}, 16.0),
        ({"process": "closed", "concurrency": 8, "think_s": {"distribution": "constant", "value": 1.0}}, None),
        ({"process": "closed", "concurrency": 8, "think_s": {"distribution": "uniform", "low": 0, "high": 1}}, None),
        ({"process": "poisson", "rate_per_s": 2}, None),
    ],
)
def test_requests_that_closed_loops_keep_in_flight(
    tmp_path: Path, arrival: dict[str, Any], expected: float | None
) -> None:
    [column] = compare([compared_run(tmp_path / "run", tenants=CHAT, arrival=arrival)]).comparison.columns
    assert column.fixed_concurrency == expected


def test_every_row_has_a_title() -> None:
    assert title_of("ttft_p99_ms") == "TTFT p99"
    assert unit_of("ttft_p99_ms") == "ms"
    assert unit_of("kv_cache_peak") == ""
    assert title_of("worst_tenant_ttft_p99_ms") == "TTFT p99, worst tenant"
    assert len({title_of(key) for key in FIGURES}) == len(FIGURES)
