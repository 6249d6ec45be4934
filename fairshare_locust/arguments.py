"""Arguments that several commands take: what may be said. None of it knows a command-line parser."""

from __future__ import annotations

import math

from fairshare_locust.errors import FairshareError

__all__ = ["scale_of", "seed_of"]


def scale_of(text: str) -> float:
    """By what the load is multiplied. Raises FairshareError with what was found, and what may be."""
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale <= 1e6:
        raise FairshareError(f"found {text!r}; must be a number greater than 0 (at most 1e6)")
    return scale


def seed_of(text: str) -> int:
    """What replaces the profile's seed. Raises FairshareError with what was found, and what may be."""
    if not text.isdecimal() or len(text) > 100 or int(text) > 2**63 - 1:
        raise FairshareError(f"found {text!r}; must be a whole number from 0 to 2^63 - 1")
    return int(text)
