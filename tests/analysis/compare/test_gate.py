"""Limits: how they are read, and when they hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.compare.comparison import compare
from analysis.compare.gate import ALIASES, Limit, LimitError, UndefinedError, read_limit
from tests.analysis.compare.runs import compared_run

TENANTS = ("chat", "batch")


@pytest.mark.parametrize(
    ("text", "tenant", "metric", "percentile", "op", "kind", "number"),
    [
        ("ttft_ms.p99 > +10%", None, "ttft_ms", "p99", ">", "percent", 0.1),
        ("chat:slo_attainment < -0.02", "chat", "slo_attainment", None, "<", "step", -0.02),
        ("tpot_ms.p95>=60ms", None, "tpot_ms", "p95", ">=", "absolute", 60),
        ("e2e_scheduled_ms.p99.9 > 2s", None, "e2e_scheduled_ms", "p99_9", ">", "absolute", 2000),
        ("output_tokens_per_s <= -5%", None, "output_tokens_per_s", None, "<=", "percent", -0.05),
        ("ttft_p99_ms > 500", None, "ttft_scheduled_ms", "p99", ">", "absolute", 500),
        ("cost > +0.5USD", None, "cost_per_million_output_tokens", None, ">", "step", 0.5),
        (" batch : e2el.p50 < 1e3 ", "batch", "e2e_ms", "p50", "<", "absolute", 1000),
    ],
)
def test_read(text: str, tenant: str, metric: str, percentile: str, op: str, kind: str, number: float) -> None:
    limit = read_limit(text, TENANTS, baseline=True)
    assert (limit.tenant, limit.metric, limit.percentile, limit.op, limit.kind) == (
        tenant,
        metric,
        percentile,
        op,
        kind,
    )
    assert limit.number == pytest.approx(number)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft", "can't be understood; it has the form"),
        ("ttft_ms.p99 == 3", "can't be understood"),
        ("tpt_ms.p99 > 3", "no metric 'tpt_ms'; did you mean 'tpot_ms'?"),
        ("ttft_ms > 3", "ttft_ms needs one of mean, p50"),
        ("ttft_ms.p98 > 3", "found 'p98'; allowed are mean, p50, p90, p95, p99, p99_9"),
        ("requests_per_s.p99 > 3", "has no percentiles"),
        ("ttft_p99_ms.p99 > 3", "has a percentile already"),
        ("chatt:ttft_ms.p99 > 3", "no tenant 'chatt'; did you mean 'chat'?; there are chat, batch"),
        ("chat:jain_service < 0.9", "jain_service is of all tenants together"),
        ("ttft_ms.p99 > 10%", "10% of what? Say +10% or -10%"),
        ("ttft_ms.p99 > 10tokens", "found the unit 'tokens'; ttft_ms has ms, s"),
        ("slo_attainment < 0.9ms", "slo_attainment has no unit"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(LimitError, match=re.escape(said)):
        read_limit(text, TENANTS, baseline=True)


def test_relative_needs_a_baseline() -> None:
    with pytest.raises(LimitError, match="name one with --baseline"):
        read_limit("ttft_ms.p99 > +10%", TENANTS, baseline=False)
    assert not read_limit("ttft_ms.p99 > 10", TENANTS, baseline=False).relative


def test_every_alias_is_of_a_metric() -> None:
    for alias, metric in ALIASES.items():
        point = ".p99" if metric.endswith("_ms") else ""
        assert read_limit(f"{alias}{point} > 1", TENANTS, baseline=False).metric == metric


@pytest.mark.parametrize(
    ("text", "bound", "holds", "does_not"),
    [
        ("ttft_ms.p99 > +10%", 110, 110.1, 110),
        ("ttft_ms.p99 >= -5", 95, 95, 94.9),
        ("ttft_ms.p99 < -10%", 90, 89, 90),
        ("ttft_ms.p99 <= 42", 42, 42, 43),
    ],
)
def test_bounds_against_a_baseline_of_100(text: str, bound: float, holds: float, does_not: float) -> None:
    limit: Limit = read_limit(text, TENANTS, baseline=True)
    assert limit.against(100.0) == pytest.approx(bound)
    assert limit.holds(holds, bound)
    assert not limit.holds(does_not, bound)


@pytest.mark.parametrize(("text", "bound"), [("isolation_leakage > +10%", -0.18), ("isolation_leakage < -10%", -0.22)])
def test_a_percentage_of_a_negative_baseline(text: str, bound: float) -> None:
    """A leakage of -0.2 again is neither more nor less than before."""
    limit = read_limit(text, TENANTS, baseline=True)
    assert limit.against(-0.2) == pytest.approx(bound)
    assert not limit.holds(-0.2, limit.against(-0.2))


def test_a_slower_run_fails(tmp_path: Path) -> None:
    before = compared_run(tmp_path / "before", ttft_s=0.2)
    after = compared_run(tmp_path / "after", ttft_s=0.3)
    done = compare([after], baseline=before, fail_if=["ttft_ms.p50 > +10%", "chat:slo_attainment < 0.9"])
    first, second = done.judgements
    assert (first.label, first.failed, first.noise) == ("logical", True, False)
    assert (second.failed, second.value.value) == (False, 1.0)
    assert str(first) == (
        "FAIL: logical: ttft_ms.p50 > +10%: 300 ms, baseline 200, limit 220; the difference from the baseline is "
        "beyond noise"
    )
    assert [column.label for column in done.comparison.columns] == ["logical (baseline)", "logical"]


def test_the_baseline_may_be_among_the_runs(tmp_path: Path) -> None:
    logical = compared_run(tmp_path / "logical", ttft_s=0.2)
    compared_run(tmp_path / "mps", "mps", ttft_s=0.1)
    done = compare([tmp_path], baseline=logical, fail_if=["ttft_ms.p50 > +10%"])
    assert [(judgement.label, judgement.failed) for judgement in done.judgements] == [("mps", False)]


def test_each_load_beside_the_baseline_of_its_own(tmp_path: Path) -> None:
    for load in (1.0, 2.0):
        for mode, ttft_s in (("logical", 0.2 * load), ("mps", 0.25 * load)):
            compared_run(tmp_path / f"{mode}-{load:g}", mode, load=load, ttft_s=ttft_s)
    done = compare([tmp_path], baseline=tmp_path / "logical-1", fail_if=["ttft_ms.p50 > +20%"])
    assert [(one.label, one.failed) for one in done.judgements] == [("mps, scale 1", True), ("mps, scale 2", True)]
    assert [one.baseline.value for one in done.judgements if one.baseline] == pytest.approx([200, 400])


def test_undefined_is_an_error(tmp_path: Path) -> None:
    run = compared_run(tmp_path / "run")
    with pytest.raises(UndefinedError, match=r"batch:slo_attainment is undefined in logical: .*; leave it out"):
        compare([run], fail_if=["batch:slo_attainment < 0.9"])


def test_nothing_beside_the_baseline(tmp_path: Path) -> None:
    run = compared_run(tmp_path / "run")
    with pytest.raises(LimitError, match="nothing to judge beside the baseline"):
        compare([run], baseline=run, fail_if=["ttft_ms.p50 > +20%"])
