"""Intervals of rates, attainment and fairness."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fairness import Shares
from analysis.intervals import design_effects, order_statistics, share_interval, woodruff
from analysis.latency import Sample, describe
from analysis.load import Slo, Tenant
from analysis.summary import summarise
from analysis.uncertainty import RATES, Cells, cells_of, equal, fairness_ci95, rates_ci95
from analysis.window import Window, Windows
from tests.analysis.build import profile, record, run

GENERATOR = np.random.default_rng(5)


def cells(**counts: Any) -> Cells:
    """100 cells of 0.1 s; what is not given is 0."""
    zero = dict.fromkeys((field.name for field in dataclasses.fields(Cells)), np.zeros(100))
    return Cells(**{**zero, "length_s": np.full(100, 0.1), **counts})


def shares(*tokens: Any) -> Shares:
    """Tokens of each tenant in each cell; one request a cell, half of them met."""
    table = np.array(tokens, np.float64)
    ones = np.ones(table.shape, np.int64)
    return Shares(table, 2 * table, 2 * table, ones, ones * (np.arange(table.shape[1]) % 2))


def test_cells_make_up_every_window() -> None:
    first, second = Window.of_seconds((0, 10)), Window.of_seconds((4, 10), (20, 30))
    windows = Windows((first, second, Window()), Window.of_seconds((4, 10)), Window.of_seconds((0, 10), (20, 30)))
    found = cells_of(windows)
    assert Window.union(found) == windows.whole
    assert {round((end - start) / 1e9, 6) for start, end in found} == {0.1}
    edges = {stamp for span in found for stamp in span}
    assert {4_000_000_000, 10_000_000_000, 20_000_000_000} <= edges
    assert cells_of(Windows((Window(),), Window(), Window())) == []


def test_a_constant_rate_is_certain() -> None:
    found = rates_ci95(cells(finished=np.ones(100), tokens=np.full(100, 5.0)))
    assert found["requests_per_s"] == pytest.approx((10.0, 10.0))
    assert found["output_tokens_per_s"] == pytest.approx((50.0, 50.0))


def test_what_did_not_happen_worked_by_hand() -> None:
    # exp(-rate · 10 s) = 2.5 % at 0.3689 per second.
    found = rates_ci95(cells())
    assert found["requests_per_s"] == pytest.approx((0.0, 0.36889), abs=1e-5)
    assert found["output_tokens_per_s"] == (None, None)
    assert found["slo_attainment"] == (None, None)


def test_all_met_is_not_certain() -> None:
    # 0.9638^100 = 2.5 %.
    found = rates_ci95(cells(with_slo=np.ones(100), met=np.ones(100)))
    assert found["slo_attainment"] == pytest.approx((0.9638, 1.0), abs=1e-4)


def test_misses_in_a_row_count_as_few() -> None:
    met = np.arange(100) % 2 == 0
    apart = rates_ci95(cells(with_slo=np.ones(100), met=met * 1.0))["slo_attainment"]
    in_a_row = rates_ci95(cells(with_slo=np.ones(100), met=np.sort(met) * 1.0))["slo_attainment"]
    assert apart == pytest.approx((0.3983, 0.6017), abs=1e-4)  # Clopper and Pearson's for 50 of 100
    assert in_a_row[0] is not None
    assert in_a_row[0] < 0.2


def test_a_poisson_rate_is_as_uncertain_as_it_is() -> None:
    widths = []
    for _ in range(50):
        low, high = rates_ci95(cells(finished=GENERATOR.poisson(10, 100).astype(float)))["requests_per_s"]
        assert low is not None
        assert high is not None
        widths.append(high - low)
    assert np.mean(widths) == pytest.approx(2 * 2.2622 * math.sqrt(1000) / 10, rel=0.1)  # t(9) · √n / T


def test_equal_tenants_may_be_equal() -> None:
    counted = shares(GENERATOR.poisson(50, 100), GENERATOR.poisson(50, 100))
    found = fairness_ci95(counted, profile())
    assert found["jain_throughput"][1] == 1.0
    assert found["max_min_ratio"][0] == 1.0
    assert found["attainment_gap"] == (None, None)  # nobody has an SLO


def test_unequal_tenants_are_not() -> None:
    counted = shares(GENERATOR.poisson(30, 100), GENERATOR.poisson(10, 100))
    low, high = fairness_ci95(counted, profile())["jain_throughput"]
    assert low is not None
    assert high is not None
    assert 0.7 < low < 0.8 < high < 0.9  # 40² / (2 · (30² + 10²)) = 0.8


def test_one_tenant_alone_is_fair() -> None:
    found = fairness_ci95(shares(GENERATOR.poisson(30, 100)), profile(Tenant(id="a")))
    assert (found["jain_throughput"], found["max_min_ratio"]) == ((1.0, 1.0), (1.0, 1.0))


def test_few_cells_tell_nothing() -> None:
    assert set(fairness_ci95(shares([1, 2, 3], [1, 2, 3]), profile()).values()) == {(None, None)}


@pytest.mark.parametrize(
    ("off", "expected"),
    [(0.0, True), (1.9 * math.sqrt(2), True), (2.1 * math.sqrt(2), False)],  # z = 1.96 of a difference
)
def test_equality_worked_by_hand(off: float, expected: bool) -> None:
    replicates = np.random.default_rng(1).normal(size=(200_000, 2))
    assert equal(np.array([0.0, off]), replicates) is expected


def test_certain_values_are_equal_only_if_they_are() -> None:
    still = np.tile([1.0, 1.0, 2.0], (10, 1))
    assert not equal(np.array([1.0, 1.0, 2.0]), still)
    assert equal(np.ones(3), np.ones((10, 3)))


def test_design_effects_worked_by_hand() -> None:
    # Half of 20 in one of two batches: variance 2 · (5² + 5²) / 20 = 5 over 1/4, times (12.706 / 1.960)².
    assert design_effects(np.array([[0, 10]]), np.array([10, 10])) == pytest.approx([20 * 42.03], rel=1e-3)
    assert design_effects(np.array([[5, 5], [9, 9]]), np.array([10, 10])) == [1.0, 1.0]
    assert design_effects(np.array([[0]]), np.array([0])) == [1.0]


@settings(deadline=None)
@given(st.sampled_from([500, 900, 950, 990, 999]), st.integers(0, 3000))
def test_independent_samples_have_order_statistics(per_mille: int, count: int) -> None:
    assert woodruff(per_mille, count, 1.0) == order_statistics(per_mille, count)


@settings(deadline=None)
@given(st.sampled_from([500, 900, 950, 990]), st.integers(50, 3000), st.floats(1.01, 20))
def test_fewer_independent_samples_enclose_more(per_mille: int, count: int, effect: float) -> None:
    lower, upper = woodruff(per_mille, count, effect)
    tight_lower, tight_upper = order_statistics(per_mille, count)
    assert lower is None or (tight_lower is not None and lower <= tight_lower)
    assert upper is None or (tight_upper is not None and upper >= tight_upper - 1)


def test_a_share_of_none_or_all() -> None:
    assert share_interval(0.0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert share_interval(1.0, 10) == pytest.approx((0.025**0.1, 1.0))


def test_values_in_the_order_of_time_are_worth_less_than_shuffled_ones() -> None:
    values = np.arange(1000.0)
    low, high = describe(values).ci95["p50"]
    assert order_statistics(500, 1000) == (469, 532)
    assert describe(values[np.arange(1000) * 617 % 1000]).ci95["p50"] == (468.0, 531.0)  # the 469th and the 532nd
    assert low is None or low < 468.0
    assert high is None or high > 531.0


def test_gaps_of_a_slow_time_are_worth_less() -> None:
    alike = Sample(np.arange(10.0), np.full(10, 100), np.arange(10, dtype=np.int8))
    unknown = describe(Sample(np.arange(10.0), np.full(10, 100))).ci95["p50"]
    assert unknown == (4.0, 5.0)
    assert describe(alike).ci95["p50"] != unknown


def test_a_summary_has_them_all(tmp_path: Path) -> None:
    tenants = (Tenant(id="a", slo=Slo(ttft_ms=600)), Tenant(id="b"))
    records = [record("ab"[index % 2], index, scheduled_s=index / 20, gaps_us=[1000]) for index in range(180)]
    content = summarise(run(tmp_path, records, *tenants)).content
    for row in (*content["tenants"].values(), content["totals"]):
        assert tuple(row["ci95"]) == RATES
        low, high = row["ci95"]["requests_per_s"]
        assert low <= row["requests_per_s"] <= high
        low, high = row["ci95"]["output_tokens_per_s"]
        assert low <= row["output_tokens_per_s"] <= high
    assert content["tenants"]["a"]["ci95"]["slo_attainment"] == [pytest.approx(0.025 ** (1 / 90)), 1.0]
    assert content["tenants"]["b"]["ci95"]["slo_attainment"] == [None, None]
    assert content["fairness"]["ci95"]["jain_throughput"][1] == 1.0


@pytest.mark.parametrize("outcome", ["timeout", None])
def test_no_answer_has_no_token_rate(tmp_path: Path, outcome: str | None) -> None:
    records = [record(index=index, outcome=outcome) for index in range(30)] if outcome else []
    content = summarise(run(tmp_path, records)).content
    assert content["tenants"]["a"]["ci95"]["output_tokens_per_s"] == [None, None]
    assert content["fairness"]["ci95"]["jain_throughput"] == [None, None]
