"""ClockSync: how another process's clock stands to ours, by messages there and back.

Each exchange has NTP's four stamps (RFC 5905): sent by our clock, received and replied by theirs, returned by ours.
The offset `((received - sent) + (replied - returned)) / 2` is wrong by half the round trip at most, however it was
spent, so the shortest round trip says most. Between exchanges the clocks drift apart.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

__all__ = ["ClockEstimate", "ClockSync"]

# Oscillators of computers are within 100 ppm of the second, and mostly within a tenth of that.
_MOST_DRIFT = 100e-6
_KEPT = 64
_FIRST_KEPT = 16


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """Their clock shows ours plus `offset_s`, give or take `uncertainty_s`, at the moment it is asked for.

    Attributes:
        drift_ppm: seconds that theirs gains in a million; None while that can't be told from 0.
        round_trip_s: of the exchange that the estimate rests on.
        exchanges: how many there have been.
    """

    offset_s: float
    uncertainty_s: float
    drift_ppm: float | None
    round_trip_s: float
    exchanges: int

    def describe(self) -> dict[str, Any]:
        """As `run.json` has it."""
        return {
            "offset_s": round(self.offset_s, 6),
            "uncertainty_s": round(self.uncertainty_s, 6),
            "drift_ppm": None if self.drift_ppm is None else round(self.drift_ppm, 3),
            "round_trip_s": round(self.round_trip_s, 6),
            "exchanges": self.exchanges,
        }


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float  # by our clock, half-way
    offset_s: float
    round_trip_s: float

    @property
    def bound_s(self) -> float:
        return self.round_trip_s / 2 * (1 + _MOST_DRIFT)  # they drift apart on the way, too


class ClockSync:
    """Takes in exchanges as they come; keeps few of them."""

    def __init__(self) -> None:
        self._first: list[_Sample] = []
        self._recent: deque[_Sample] = deque(maxlen=_KEPT)
        self._exchanges = 0

    def add(self, sent_s: float, received_s: float, replied_s: float, returned_s: float) -> None:
        """One exchange; `sent_s` and `returned_s` are on our clock, the other two on theirs."""
        round_trip_s = max(0.0, (returned_s - sent_s) - (replied_s - received_s))
        offset_s = ((received_s - sent_s) + (replied_s - returned_s)) / 2
        sample = _Sample((sent_s + returned_s) / 2, offset_s, round_trip_s)
        if len(self._first) < _FIRST_KEPT:
            self._first.append(sample)
        self._recent.append(sample)
        self._exchanges += 1

    def estimate(self, now_s: float) -> ClockEstimate | None:
        """The offset at a time on our clock; None before the first exchange."""
        if not self._recent:
            return None
        drift, drift_bound = self._drift()

        def bound_s(sample: _Sample) -> float:
            return sample.bound_s + abs(now_s - sample.at_s) * drift_bound

        best = min(self._recent, key=bound_s)
        return ClockEstimate(
            best.offset_s + drift * (now_s - best.at_s),
            bound_s(best),
            drift * 1e6 if abs(drift) > drift_bound else None,
            best.round_trip_s,
            self._exchanges,
        )

    def _drift(self) -> tuple[float, float]:
        """Seconds that their clock gains in a second, and by how much that may be wrong."""
        early = min(self._first, key=lambda sample: sample.round_trip_s)
        late = min(reversed(self._recent), key=lambda sample: sample.round_trip_s)
        apart_s = late.at_s - early.at_s
        if apart_s <= 0:
            return 0.0, _MOST_DRIFT
        bound = (early.bound_s + late.bound_s) / apart_s
        if bound >= _MOST_DRIFT:  # the exchanges say less than what is known of clocks
            return 0.0, _MOST_DRIFT
        return (late.offset_s - early.offset_s) / apart_s, bound
