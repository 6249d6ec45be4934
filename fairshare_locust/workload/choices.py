"""Choices: which of several things each request gets, drawn by weight."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Choices"]

_BLOCK = 1024


class Choices:
    """Independent draws by index, in proportion to the weights, from a stream that nobody else draws from."""

    def __init__(self, weights: ArrayLike, stream: np.random.Generator) -> None:
        shares = np.cumsum(np.asarray(weights, dtype=np.float64))
        self._shares = shares / shares[-1]
        self._stream = stream
        self._chosen = array("l")
        self._earlier = array("l")
        self._counts = [0] * len(shares)

    def at(self, index: int) -> tuple[int, int]:
        """What the request with this index gets, and how many before it got the same."""
        while index >= len(self._chosen):
            drawn: Sequence[int] = np.searchsorted(self._shares, self._stream.random(_BLOCK), side="right").tolist()
            for chosen in drawn:
                self._earlier.append(self._counts[chosen])
                self._counts[chosen] += 1
            self._chosen.extend(drawn)
        return self._chosen[index], self._earlier[index]
