"""What got through: counts, requests and tokens per second, and the share that met the SLOs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.latency import Floats
from analysis.load import Tenant
from analysis.requests import NEVER, OK, Mask, Requests
from analysis.window import Window
from fairshare_locust.record.record import OUTCOMES

__all__ = ["Rates", "Tally", "makespan_tokens_per_s", "met_slos", "rates", "tally"]


def met_slos(requests: Requests, tenants: Sequence[Tenant], latencies_ms: Mapping[str, Floats]) -> Mask:
    """Which requests met all their SLOs: shape (n,).

    Met = `ok` and no value above its limit. An `ok` request without any token misses TTFT and e2e; a TPOT that
    does not apply is left out. Without SLO every `ok` request counts as met.
    """
    met: Mask = requests.outcome == OK
    for code, tenant in enumerate(tenants):
        if tenant.slo is None:
            continue
        of_tenant = requests.tenant == code
        if tenant.slo.ttft_ms is not None:
            met &= ~of_tenant | (latencies_ms["ttft_scheduled_ms"] <= tenant.slo.ttft_ms)  # NaN is never below
        if tenant.slo.e2e_ms is not None:
            met &= ~of_tenant | (latencies_ms["e2e_scheduled_ms"] <= tenant.slo.e2e_ms)
        if tenant.slo.tpot_ms is not None:
            tpot_ms = latencies_ms["tpot_ms"]
            met &= ~of_tenant | np.isnan(tpot_ms) | (tpot_ms <= tenant.slo.tpot_ms)
    return met


PUNCTUAL_NS = 10_000_000  # the send lag that is always allowed


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of one tenant in its window, or of several in theirs.

    Attributes:
        outcomes: requests scheduled in the window, by what became of them.
        offered: those of them that were sent in the window.
        punctual: those that were sent in the window or as soon as they were due: what is due at its very end is sent
            after it, and yet on time.
        finished, finished_good: `ok` requests that ended in the window; those that met their SLOs.
        tokens, tokens_good: output tokens that arrived in the window; those of requests that met their SLOs.
        with_slo, met: requests scheduled in the window by a tenant with SLO; those that met it.
    """

    outcomes: tuple[int, ...] = (0,) * len(OUTCOMES)
    offered: int = 0
    punctual: int = 0
    finished: int = 0
    finished_good: int = 0
    tokens: float = 0.0
    tokens_good: float = 0.0
    with_slo: int = 0
    met: int = 0

    @property
    def scheduled(self) -> int:
        """All requests scheduled in the window."""
        return sum(self.outcomes)

    @property
    def completed(self) -> int:
        """Those that ended `ok`."""
        return self.outcomes[OK]

    @property
    def failed(self) -> dict[str, int]:
        """Those that did not, by outcome."""
        return {name: count for name, count in zip(OUTCOMES, self.outcomes, strict=True) if name != "ok"}

    @property
    def slo_attainment(self) -> float | None:
        """Ratio of requests that met all their SLOs to requests scheduled; None without an SLO or a request."""
        return self.met / self.with_slo if self.with_slo else None

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """Several tenants pooled."""
        every = list(tallies)
        return cls(
            outcomes=tuple(sum(one.outcomes[code] for one in every) for code in range(len(OUTCOMES))),
            offered=sum(one.offered for one in every),
            punctual=sum(one.punctual for one in every),
            finished=sum(one.finished for one in every),
            finished_good=sum(one.finished_good for one in every),
            tokens=sum(one.tokens for one in every),
            tokens_good=sum(one.tokens_good for one in every),
            with_slo=sum(one.with_slo for one in every),
            met=sum(one.met for one in every),
        )


def tally(
    requests: Requests, of_tenant: Mask, window: Window, met: Mask, *, has_slo: bool, tokens: tuple[float, float]
) -> Tally:
    """Count one tenant's requests.

    Args:
        of_tenant, met: shape (n,); the tenant's requests, and those that met their SLOs.
        tokens: output tokens that arrived in the window, of requests that missed and of those that met.
    """
    scheduled = of_tenant & window.contains(requests.scheduled_ns)
    in_window = window.contains(requests.sent_ns)
    lag_ns = requests.sent_ns - requests.scheduled_ns
    at_once = (lag_ns >= 0) & (lag_ns <= PUNCTUAL_NS)
    finished = of_tenant & (requests.outcome == OK) & window.contains(requests.ended_ns)
    outcomes = np.bincount(requests.outcome[scheduled], minlength=len(OUTCOMES))
    return Tally(
        outcomes=tuple(outcomes.tolist()),
        offered=int((scheduled & in_window).sum()),
        punctual=int((scheduled & (in_window | at_once)).sum()),
        finished=int(finished.sum()),
        finished_good=int((finished & met).sum()),
        tokens=tokens[0] + tokens[1],
        tokens_good=tokens[1],
        with_slo=int(scheduled.sum()) if has_slo else 0,
        met=int((scheduled & met).sum()) if has_slo else 0,
    )


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Per second of a window; None for an empty one."""

    asked_requests_per_s: float | None
    offered_requests_per_s: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    goodput_requests_per_s: float | None
    goodput_tokens_per_s: float | None


def rates(counted: Tally, length_s: float) -> Rates:
    """A tally over the length of its window."""

    def per_s(count: float) -> float | None:
        return count / length_s if length_s else None

    return Rates(
        asked_requests_per_s=per_s(counted.scheduled),
        offered_requests_per_s=per_s(counted.offered),
        requests_per_s=per_s(counted.finished),
        output_tokens_per_s=per_s(counted.tokens),
        goodput_requests_per_s=per_s(counted.finished_good),
        goodput_tokens_per_s=per_s(counted.tokens_good),
    )


def makespan_tokens_per_s(requests: Requests, chosen: Mask) -> float | None:
    """All output tokens of the whole run over first `sent_s` to last `last_token_s`; None without a token."""
    sent = requests.sent_ns[chosen & (requests.sent_ns != NEVER)]
    last_token = requests.last_token_ns[chosen & (requests.last_token_ns != NEVER)]
    if not len(sent) or not len(last_token) or last_token.max() <= sent.min():
        return None
    return float(requests.output_tokens[chosen].sum() / ((last_token.max() - sent.min()) / 1e9))
