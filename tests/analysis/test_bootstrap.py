"""The block bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from analysis.bootstrap import FEWEST_CELLS, bias_corrected, block_cells, draws, interval


@pytest.mark.parametrize(("cells", "block"), [(1, 1), (8, 2), (27, 3), (60, 6), (100, 10), (200, 20)])
def test_about_ten_blocks(cells: int, block: int) -> None:
    assert block_cells(cells) == block


@settings(deadline=None, max_examples=30)
@given(st.integers(FEWEST_CELLS, 150), st.integers(1, 5))
def test_a_replicate_is_made_of_blocks_of_adjacent_cells(cells: int, seed: int) -> None:
    drawn = draws(cells, replicates=20, seed=seed)
    assert drawn.shape == (20, cells)
    assert (drawn >= 0).all()
    assert drawn.sum(axis=1) == pytest.approx(np.full(20, cells))


def test_the_widening_worked_by_hand() -> None:
    # 100 cells in blocks of 10: f = 100 / 90 · (t(9) / z)² = 1.1111 · (2.2622 / 1.9600)² = 1.4802.
    widening = 100 / 90 * (float(t.ppf(0.975, 9)) / float(norm.ppf(0.975))) ** 2
    assert widening == pytest.approx(1.4802, abs=1e-4)
    drawn = draws(100)
    assert set(np.round(np.unique(drawn) / widening, 6)) >= {0.0, 1.0, 2.0}  # a cell drawn k times counts k · f
    # Independent cells: the mean's variance in the replicates is that of a mean, times the widening.
    cells = np.random.default_rng(3).normal(size=(400, 100))
    ratios = (cells @ drawn.T / 100).var(axis=1) / (cells.var(axis=1) / 100)
    assert float(ratios.mean()) == pytest.approx(1.4802 * 0.9, rel=0.1)  # blocks of 10 lose a tenth, which f gives back


def test_every_cell_is_drawn_alike_and_neighbours_together() -> None:
    drawn = draws(40, replicates=20_000)
    assert drawn.mean(axis=0) == pytest.approx(np.ones(40), abs=0.05)
    together = np.asarray(np.corrcoef(drawn.T))
    assert together[10, 11] > 0.6 > 0.1 > together[10, 20]
    assert together[0, 39] > 0.6  # wrapped around


def test_the_same_seed_draws_the_same() -> None:
    assert draws(30, seed=0) is draws(30, seed=0)
    assert not np.array_equal(draws(30, seed=0), draws(30, seed=1))
    with pytest.raises(ValueError, match="read-only"):
        draws(30)[0, 0] = 1.0


def test_too_few_cells_tell_nothing() -> None:
    assert np.isnan(draws(FEWEST_CELLS - 1)).all()
    assert draws(0).shape == (1000, 0)


def test_an_interval_worked_by_hand() -> None:
    assert interval(500.0, np.arange(1001.0)) == (25.0, 975.0)
    assert interval(1.0, np.arange(1001.0)) == (1.0, 975.0)  # never without the estimate


@pytest.mark.parametrize("estimate", [None, math.nan, math.inf])
def test_no_interval_without_an_estimate(estimate: float | None) -> None:
    assert interval(estimate, np.arange(10.0)) == (None, None)


def test_no_interval_where_replicates_are_undefined() -> None:
    assert interval(1.0, np.full(10, np.nan)) == (None, None)
    assert interval(1.0, np.append(np.ones(95), np.full(5, np.nan))) == (None, None)
    assert interval(1.0, np.append(np.ones(99), np.nan)) == (1.0, 1.0)
    assert bias_corrected(None, np.ones(10)) == (None, None)
    assert bias_corrected(1.0, np.full(10, np.nan)) == (None, None)


def test_the_correction_moves_both_bounds() -> None:
    replicates = np.arange(1001.0)
    assert bias_corrected(500.0, replicates) == pytest.approx((25.0, 975.0), abs=1e-6)
    # 84.1 % below: shift 2 · 1 → Φ(2 - 1.96) = 51.6 %, Φ(2 + 1.96) ≈ 100 %.
    assert bias_corrected(841.0, replicates) == pytest.approx((515.0, 1000.0), abs=3.0)
