"""Series: numbers by index that are drawn block by block, when the first of a block is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Series", "running_sums"]

BLOCK = 1024


class Series:
    """An endless series of numbers. `draw` gives block 0, 1, 2, … of `BLOCK` numbers each; every block is drawn once.

    Asking for a number costs O(1), amortised, and never copies what has been drawn before.
    """

    def __init__(self, draw: Callable[[int], NDArray[np.float64]]) -> None:
        self._draw = draw
        self._blocks: list[NDArray[np.float64]] = []

    def block(self, number: int) -> NDArray[np.float64]:
        """Numbers `number * BLOCK` to `(number + 1) * BLOCK - 1`, shape (BLOCK,)."""
        while number >= len(self._blocks):
            self._blocks.append(self._draw(len(self._blocks)))
        return self._blocks[number]

    def at(self, index: int) -> float:
        """Number `index`, from 0."""
        number, place = divmod(index, BLOCK)
        return float(self.block(number)[place])


def running_sums(draw: Callable[[int], NDArray[np.float64]]) -> Series:
    """Number i is the sum of the first i + 1 that `draw(count)` gives."""
    last = 0.0

    def block(_: int) -> NDArray[np.float64]:
        nonlocal last
        sums = last + np.cumsum(draw(BLOCK))
        last = float(sums[-1])
        return sums

    return Series(block)
