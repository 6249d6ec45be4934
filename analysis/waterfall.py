"""Waterfall: what the requests around the longest wait for a first token went through, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.latency import Floats
from analysis.requests import NEVER, OK, Mask, Requests
from fairshare_locust.record.record import OUTCOMES

__all__ = ["MOST", "Bar", "Waterfall", "waterfall"]

MOST = 40
"""So many requests can be told apart in a picture."""

_SHORTEST_NS = 3_000_000_000
_MARGIN = 0.25  # of the wait, before and after it


@dataclass(frozen=True)
class Bar:
    """One request, in seconds on the run clock; not cut at the ends of the slice.

    Attributes:
        tenant: its place in the profile.
        due_s: `scheduled_s`.
        queued_until_s: sent, and out of the engine's queue where `tells_queue`; the end of one that was never sent.
        first_token_s: None if no token came.
        last_s: the last token of an ok request, the end of any other; None if it is not known.
        tells_queue: whether the engine told how long it was queued.
    """

    tenant: int
    due_s: float
    queued_until_s: float
    first_token_s: float | None
    last_s: float | None
    outcome: str
    tells_queue: bool

    @property
    def failed(self) -> bool:
        """Whether it ended in any way but ok."""
        return self.outcome != OUTCOMES[OK]


@dataclass(frozen=True)
class Waterfall:
    """The requests that were outstanding in a slice of a run, in the order in which they were due.

    Attributes:
        worst: place among the bars of the request that waited longest for its first token.
        left_out: requests of the slice that are not among the bars: they were due further from the worst one.
    """

    start_s: float
    end_s: float
    bars: tuple[Bar, ...]
    worst: int
    left_out: int


def waterfall(requests: Requests, ttft_scheduled_ms: Floats, chosen: Mask, most: int = MOST) -> Waterfall | None:
    """The few seconds around the longest wait; None if none of the chosen requests got a token.

    The slice spans that wait and a quarter of it on either side, at least 3 s. It shows the requests of all tenants
    that were outstanding in it; where these are more than `most`, those that were due nearest to the worst one.

    Args:
        ttft_scheduled_ms: shape (n,), NaN where undefined.
        chosen: shape (n,), among which the longest wait is looked for; of equals, the first in the file.
    """
    waits = np.where(chosen & ~np.isnan(ttft_scheduled_ms), ttft_scheduled_ms, -1.0)
    if not len(waits) or waits.max() < 0:
        return None
    worst = int(waits.argmax())
    due_ns, first_ns = int(requests.scheduled_ns[worst]), int(requests.first_token_ns[worst])
    margin_ns = max(round((first_ns - due_ns) * _MARGIN), (_SHORTEST_NS - (first_ns - due_ns)) // 2)
    start_ns, end_ns = max(0, due_ns - margin_ns), first_ns + margin_ns
    ended = (requests.ended_ns != NEVER) & (requests.ended_ns < start_ns)
    inside = np.flatnonzero((requests.scheduled_ns <= end_ns) & ~ended)
    distance = np.abs(requests.scheduled_ns[inside] - due_ns)
    distance[inside == worst] = -1  # it stays, however many others were due at that instant
    nearest = inside[np.argsort(distance, kind="stable")[:most]]
    nearest.sort()
    shown = nearest[np.argsort(requests.scheduled_ns[nearest], kind="stable")]
    return Waterfall(
        start_s=start_ns / 1e9,
        end_s=end_ns / 1e9,
        bars=tuple(_bar(requests, int(index)) for index in shown),
        worst=int(np.flatnonzero(shown == worst)[0]),
        left_out=len(inside) - len(shown),
    )


def _bar(requests: Requests, index: int) -> Bar:
    due_ns = int(requests.scheduled_ns[index])
    sent_ns, first_ns, last_ns, ended_ns = (
        _known(stamps[index])
        for stamps in (requests.sent_ns, requests.first_token_ns, requests.last_token_ns, requests.ended_ns)
    )
    ok = requests.outcome[index] == OK
    end_ns = last_ns if ok and last_ns is not None else ended_ns
    tells_queue = sent_ns is not None and not np.isnan(requests.queued_s[index])
    if sent_ns is None:
        queued_until_ns = due_ns if end_ns is None else end_ns
    else:
        queued_until_ns = sent_ns + (round(float(requests.queued_s[index]) * 1e9) if tells_queue else 0)
        # The engine's clock is not the client's: a queue can't outlast the wait that the client saw.
        queued_until_ns = min([queued_until_ns, *(end for end in (first_ns, end_ns) if end is not None)])
    return Bar(
        tenant=int(requests.tenant[index]),
        due_s=due_ns / 1e9,
        queued_until_s=queued_until_ns / 1e9,
        first_token_s=None if first_ns is None else first_ns / 1e9,
        last_s=None if end_ns is None else end_ns / 1e9,
        outcome=OUTCOMES[requests.outcome[index]],
        tells_queue=tells_queue,
    )


def _known(stamp_ns: np.int64) -> int | None:
    return None if stamp_ns == NEVER else int(stamp_ns)
