"""Entry: the figures of one tenant, or of several together, over a window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.latency import Floats, Latency, describe
from analysis.load import Profile
from analysis.rates import Tally, rates, tally
from analysis.requests import Mask, Requests
from analysis.tokens import TokenTable
from analysis.window import Window

__all__ = ["Basis", "entry", "slo_broken"]


@dataclass(frozen=True, eq=False)
class Basis:
    """What every figure is computed from.

    Attributes:
        latencies: arrays of shape (n,), by name.
        met: shape (n,), requests that met their SLOs.
        table: token arrivals, with the ends of all windows among its edges.
    """

    requests: Requests
    profile: Profile
    latencies: Mapping[str, Floats]
    met: Mask
    table: TokenTable

    def of_tenant(self, code: int) -> Mask:
        """A tenant's requests, by its place in the profile: shape (n,)."""
        own: Mask = self.requests.tenant == code
        return own

    def scheduled(self, windows: Iterable[tuple[int, Window]]) -> Mask:
        """Requests that tenants had scheduled in a window: shape (n,)."""
        chosen = np.zeros(len(self.requests), np.bool_)
        for code, window in windows:
            chosen |= self.of_tenant(code) & window.contains(self.requests.scheduled_ns)
        return chosen

    @cached_property
    def _by_time(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.requests.scheduled_ns, kind="stable")

    def in_time(self, chosen: Mask) -> npt.NDArray[np.intp]:
        """Rows of the chosen requests, in the order in which they were due: shape (chosen,)."""
        rows: npt.NDArray[np.intp] = self._by_time[chosen[self._by_time]]
        return rows

    def tally(self, code: int, window: Window) -> Tally:
        """Counts of one tenant in a window."""
        missed_tokens, good_tokens = self.table.within(window)[code].tolist()
        return tally(
            self.requests,
            self.of_tenant(code),
            window,
            self.met,
            has_slo=self.profile.tenants[code].slo is not None,
            tokens=(missed_tokens, good_tokens),
        )

    def described(self, chosen: Mask) -> dict[str, Latency]:
        """Every latency of the chosen requests."""
        rows = self.in_time(chosen)
        return {name: describe(values[rows]) for name, values in self.latencies.items()}


def entry(counted: Tally, length_s: float, latencies: Mapping[str, Latency]) -> dict[str, Any]:
    """Counts, rates and latencies as they stand in `summary.json`."""
    return {
        "scheduled": counted.scheduled,
        "completed": counted.completed,
        "failed": counted.failed,
        **asdict(rates(counted, length_s)),
        "slo_attainment": counted.slo_attainment,
        "output_tokens": counted.tokens,
        **{name: latency.as_json() for name, latency in latencies.items()},
    }


def slo_broken(attainment: float | None, wanted: float) -> bool | None:
    """Whether too small a share of the requests met the SLO; None without an SLO or a request."""
    return None if attainment is None else attainment < wanted
