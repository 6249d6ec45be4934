"""Bootstrap: how far a figure of a run could have come out otherwise, from the sums of adjacent stretches of time.

Requests that are served together are slow together, so single requests must not be drawn anew; whole blocks of adjacent
cells of the window are (moving blocks: Künsch 1989; wrapped around the end, so that every cell counts alike: Politis
and Romano 1992). A statistic is computed again from the sums of the drawn cells: `draws(n) @ sums`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["FEWEST_CELLS", "bias_corrected", "block_cells", "draws", "interval"]

Floats = npt.NDArray[np.float64]

FEWEST_CELLS = 8
"""With fewer cells there is no interval: three blocks or so tell nothing of how they spread."""
_BLOCKS = 10


def block_cells(cells: int) -> int:
    """Cells in a block: so many that about 10 blocks make up the window, and at least `n^(1/3)`.

    10 to 30 batches are enough to know the spread of a mean, and more only makes them depend on each other
    (Schmeiser 1982).
    """
    return max(1, math.ceil(cells / _BLOCKS), round(math.pow(cells, 1 / 3)))


@lru_cache(maxsize=16)
def draws(cells: int, *, replicates: int = 1000, block: int | None = None, seed: int = 0) -> Floats:
    """How often each of the adjacent cells stands in each replicate: shape (replicates, cells), rows add up to `cells`.

    The plain block bootstrap is too sure of itself with few blocks: its spread is that of blocks around their own
    mean, and a normal's where Student's t belongs. So a replicate draws fewer cells than there are, n / f with
    `f = n / (n - b) · (t(n / b - 1) / z)²`, and counts each f times: the variance of a replicate grows by f, weights
    stay positive, and any statistic takes part (m out of n: Bickel, Götze, van Zwet 1997). The array is read-only.

    Args:
        cells: of equal length.
        block: cells in a block; None: `block_cells`.
    """
    if cells < FEWEST_CELLS:
        weights = np.full((replicates, cells), np.nan)
    else:
        block = min(block or block_cells(cells), cells // 3)
        drawn = cells / _widening(cells, block)
        blocks = math.ceil(drawn / block)
        starts = np.random.default_rng(seed).integers(0, cells, (replicates, blocks))
        share = np.full(blocks * block, cells / drawn)  # of a cell of the last block only what is still wanted
        share[int(drawn) :] = 0.0
        if int(drawn) < len(share):
            share[int(drawn)] = (drawn - int(drawn)) * cells / drawn
        drawn_cells = (starts[:, :, None] + np.arange(block)) % cells
        places = drawn_cells.reshape(replicates, -1) + np.arange(replicates)[:, None] * cells
        counted = np.bincount(places.ravel(), np.tile(share, replicates), replicates * cells)
        weights = counted.reshape(replicates, cells)
    weights.flags.writeable = False
    return weights


def _widening(cells: int, block: int) -> float:
    """By how much the variance of the plain block bootstrap falls short."""
    from scipy.special import ndtri, stdtrit  # scipy loads when the first interval is asked for

    return cells / (cells - block) * float(stdtrit(cells / block - 1, 0.975) / ndtri(0.975)) ** 2


def interval(estimate: float | None, replicates: Floats) -> tuple[float | None, float | None]:
    """The 95 % interval of a statistic: the 2.5th and 97.5th percentile of its replicates.

    (None, None) where the statistic or one of its bounds is undefined: more than 2.5 % of the replicates NaN. A bound
    never excludes the estimate itself.

    Args:
        replicates: the statistic of each row of `draws`, NaN where it is undefined there.
    """
    return _between(estimate, replicates, (0.025, 0.975))


def bias_corrected(estimate: float | None, replicates: Floats) -> tuple[float | None, float | None]:
    """The 95 % interval of a statistic that noise pushes to one side, as it does an index of fairness.

    Where a share s of the replicates is below the estimate, the percentiles are `Φ(2 Φ⁻¹(s) ± z)` (Efron 1981), and
    `interval`'s where s is one half.
    """
    from scipy.special import ndtr, ndtri

    known = replicates[~np.isnan(replicates)]
    if estimate is None or not len(known):
        return None, None
    below = (np.count_nonzero(known < estimate) + np.count_nonzero(known == estimate) / 2) / len(known)
    shift = 2 * float(ndtri(min(max(below, 0.5 / len(known)), 1 - 0.5 / len(known))))
    return _between(estimate, replicates, (float(ndtr(shift + ndtri(0.025))), float(ndtr(shift + ndtri(0.975)))))


def _between(
    estimate: float | None, replicates: Floats, shares: tuple[float, float]
) -> tuple[float | None, float | None]:
    if estimate is None or not math.isfinite(estimate):
        return None, None
    known = replicates[~np.isnan(replicates)]
    if len(known) < 0.975 * len(replicates) or not len(known):
        return None, None
    low, high = np.quantile(known, shares)
    return min(float(low), estimate), max(float(high), estimate)
