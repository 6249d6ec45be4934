"""Service over time: who was waiting when, who was served when, and how far two waiting tenants drift apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.latency import Floats
from analysis.load import Profile
from analysis.requests import NEVER, SHED, Int64s, Requests
from analysis.tokens import arrivals
from analysis.window import Window

__all__ = [
    "Intervals",
    "ServiceCurve",
    "backlogged",
    "largest_gaps",
    "outstanding",
    "service_curve",
    "starvation_s",
]

_RUN = 128  # instants judged by the service at their ends
_RUNS_AT_ONCE = 1 << 13


@dataclass(frozen=True, eq=False)
class Intervals:
    """m disjoint intervals `[starts, ends]` in ns, both ends included, ascending; `span` is what each lies in."""

    starts: Int64s
    ends: Int64s
    span: Int64s

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def union(cls, starts: Int64s, ends: Int64s) -> Intervals:
        """The instants that are in any of `[starts, ends]`."""
        order = np.argsort(starts, kind="stable")
        starts, reached = starts[order], np.maximum.accumulate(ends[order])
        first = np.ones(len(starts), np.bool_)
        first[1:] = starts[1:] > reached[:-1]
        last = np.roll(first, -1)
        return cls(starts[first], reached[last], np.zeros(int(first.sum()), np.int64))

    def intersect(self, other: Intervals) -> Intervals:
        """The instants that are in both; `span` becomes that of `other`."""
        low = np.searchsorted(other.ends, self.starts, side="left")
        counts = np.maximum(np.searchsorted(other.starts, self.ends, side="right") - low, 0)
        mine = np.repeat(np.arange(len(self)), counts)
        theirs = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
        return Intervals(
            np.maximum(self.starts[mine], other.starts[theirs]),
            np.minimum(self.ends[mine], other.ends[theirs]),
            other.span[theirs],
        )

    def to_the_end_of(self, spans: Intervals) -> Intervals:
        """Intervals that reach the last nanosecond of their span go on to its end, which is not in it."""
        return Intervals(self.starts, self.ends + (self.ends == spans.ends[self.span]), self.span)

    @classmethod
    def of_spans(cls, spans: Sequence[tuple[int, int]]) -> Intervals:
        """Half-open spans of whole nanoseconds, each a span of its own."""
        starts = np.array([start for start, _ in spans], np.int64)
        ends = np.array([end - 1 for _, end in spans], np.int64)
        return cls(starts, ends, np.arange(len(spans)))


def backlogged(requests: Requests, tenant: int) -> Intervals:
    """When some unshed request of a tenant is due and without its first token: the client's view of VTC's queue."""
    end = np.where(requests.got_token, requests.first_token_ns, requests.ended_ns)
    return _while_some(requests, tenant, end)


def outstanding(requests: Requests, tenant: int) -> Intervals:
    """When some unshed request of a tenant is due and has not ended."""
    return _while_some(requests, tenant, requests.ended_ns)


def _while_some(requests: Requests, tenant: int, end_ns: Int64s) -> Intervals:
    chosen = (requests.tenant == tenant) & (requests.outcome != SHED) & (end_ns != NEVER)
    return Intervals.union(requests.scheduled_ns[chosen], end_ns[chosen])


@dataclass(frozen=True, eq=False)
class ServiceCurve:
    """Service that one tenant was credited with, in weighted tokens over its weight.

    Input counts in full with the first content chunk, output when it arrives.

    Attributes:
        times_ns: when each content chunk arrived, ascending; shape (n,).
        sums: service before the first of them, then after each; shape (n + 1,).
    """

    times_ns: Int64s
    sums: Floats

    def until(self, stamps_ns: Int64s) -> Floats:
        """Service up to each stamp, and at it."""
        return self.sums[np.searchsorted(self.times_ns, stamps_ns, side="right")]

    def before(self, stamps_ns: Int64s) -> Floats:
        """Service before each stamp."""
        return self.sums[np.searchsorted(self.times_ns, stamps_ns, side="left")]


def service_curve(requests: Requests, profile: Profile, tenant: int, window: Window) -> ServiceCurve:
    """A tenant's credit inside a window."""
    times: list[Int64s] = []
    sizes: list[Floats] = []
    for block in arrivals(requests, requests.tenant == tenant):
        size = block.tokens * profile.output_weight
        first_chunk = np.flatnonzero(np.diff(block.request, prepend=-1))
        size[first_chunk] += requests.input_tokens[block.request[first_chunk]] * profile.input_weight
        inside = window.contains(block.time_ns)
        times.append(block.time_ns[inside])
        sizes.append(size[inside])
    if not times:
        return ServiceCurve(np.empty(0, np.int64), np.zeros(1))
    # Each array is as long as all the chunks of a tenant: none is kept longer than it is needed.
    time = np.concatenate(times)
    times.clear()
    order = np.argsort(time)
    time = time[order]
    size = np.concatenate(sizes)
    sizes.clear()
    sums = np.zeros(len(time) + 1)
    np.take(size, order, out=sums[1:])
    del size, order
    np.cumsum(sums, out=sums)
    sums /= profile.tenants[tenant].weight
    return ServiceCurve(time, sums)


def largest_gaps(
    one: ServiceCurve, other: ServiceCurve, both: Intervals, spans: int, last_ns: int | None = None
) -> list[float | None]:
    """Largest `|W_i / w_i - W_j / w_j|` in each span; None in a span where the two were never backlogged together.

    Both services start at 0 with each interval, ends included (VTC, OSDI '24). The difference changes only when
    service comes, or leaves the last `last_ns`. Runs of such instants are skipped if the service at their ends
    shows that no difference inside can be the largest: the result is exact.

    Args:
        both: when both are backlogged; `span` says to which entry of the result an interval belongs.
        last_ns: at each instant, count only the service of the last `last_ns` of the interval.
    """
    gap = _Gap(one, other, both, last_ns)
    largest = np.full(spans, -1.0)
    largest[both.span] = 0.0
    for times in (one.times_ns, other.times_ns):
        if len(times) and len(both):
            for shift in (0,) if last_ns is None else (0, last_ns):
                _raise_largest(largest, gap, times, shift)
    return [float(value) if value >= 0 else None for value in largest]


@dataclass(frozen=True, eq=False)
class _Gap:
    """The difference of two services, counted from 0 in each interval."""

    one: ServiceCurve
    other: ServiceCurve
    both: Intervals
    last_ns: int | None

    def counted(self, stamps_ns: Int64s, interval: Int64s) -> tuple[Floats, Floats, Floats, Floats]:
        """Service of the one up to each stamp, and the part of it that does not count; the same of the other."""
        starts = self.both.starts[interval]
        values = []
        for curve in (self.one, self.other):
            left_out = curve.before(starts)
            if self.last_ns is not None:
                left_out = np.maximum(left_out, curve.until(stamps_ns - self.last_ns))
            values += [curve.until(stamps_ns), left_out]
        return values[0], values[1], values[2], values[3]


def _raise_largest(largest: Floats, gap: _Gap, times_ns: Int64s, shift: int) -> None:
    """Raise the largest difference of each span to that at the instants `times_ns + shift`."""
    both = gap.both
    first = times_ns[::_RUN] + shift
    last = times_ns[np.minimum(np.arange(len(first)) * _RUN + _RUN - 1, len(times_ns) - 1)] + shift
    interval = np.minimum(np.searchsorted(both.ends, first, side="left"), len(both) - 1)
    span = both.span[interval]
    touches = (both.starts[interval] <= last) & (both.ends[interval] >= first)
    within = (both.starts[interval] <= first) & (last <= both.ends[interval])
    bound = np.full(len(first), np.inf)
    if within.any():
        at_first = gap.counted(first[within], interval[within])
        at_last = gap.counted(last[within], interval[within])
        one = (at_first[0] - at_last[1], at_first[0] - at_first[1], at_last[0] - at_first[1])  # least, at first, most
        other = (at_first[2] - at_last[3], at_first[2] - at_first[3], at_last[2] - at_first[3])
        np.maximum.at(largest, span[within], np.abs(one[1] - other[1]))
        bound[within] = np.maximum(one[2] - other[0], other[2] - one[0])

    runs = np.flatnonzero(touches)
    runs = runs[np.argsort(-bound[runs], kind="stable")]  # the most promising first
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        some = runs[start : start + _RUNS_AT_ONCE]
        some = np.sort(some[bound[some] > largest[span[some]]])
        place = (some[:, np.newaxis] * _RUN + np.arange(_RUN)).ravel()
        stamps = times_ns[place[place < len(times_ns)]] + shift
        index = np.searchsorted(both.starts, stamps, side="right") - 1
        inside = (index >= 0) & (stamps <= both.ends[index])
        stamps, index = stamps[inside], index[inside]
        one_until, one_left_out, other_until, other_left_out = gap.counted(stamps, index)
        difference = np.abs((one_until - one_left_out) - (other_until - other_left_out))
        np.maximum.at(largest, both.span[index], difference)


def starvation_s(token_times_ns: Int64s, waiting: Intervals, spans: int) -> list[float | None]:
    """Longest stretch in each span with a request outstanding and no token; None where none was outstanding.

    The stretches before the first and after the last token of an interval count.

    Args:
        token_times_ns: ascending.
        waiting: when a request was outstanding; `span` says to which entry of the result an interval belongs.
    """
    low = np.searchsorted(token_times_ns, waiting.starts, side="left")
    high = np.searchsorted(token_times_ns, waiting.ends, side="right")
    longest = waiting.ends - waiting.starts
    some = high > low
    longest[some] = np.maximum(
        token_times_ns[low[some]] - waiting.starts[some], waiting.ends[some] - token_times_ns[high[some] - 1]
    )
    several = high > low + 1
    if several.any():
        gaps = np.append(np.diff(token_times_ns), 0)  # one more, so that every range may end before the last
        ranges = np.column_stack((low[several], high[several] - 1)).ravel()
        between = np.maximum.reduceat(gaps, ranges)[::2]
        longest[several] = np.maximum(longest[several], between)
    worst = np.full(spans, -1, np.int64)
    np.maximum.at(worst, waiting.span, longest)
    return [int(value) / 1e9 if value >= 0 else None for value in worst]
