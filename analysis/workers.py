"""Workers: the load processes of a run side by side, and whether one of them waits longer for first tokens.

Requests of one moment meet the same server, and its load drifts: latencies that are near in time are alike, so a test
that pools them all takes drift for difference. Here a tenant's window is cut into blocks of time, a load process is
compared with the others block by block, and only the differences of the blocks are tested: Wilcoxon's signed-rank
test (Biometrics Bulletin 1, 1945), with Bonferroni's correction over all comparisons of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.intervals import PERCENTILES, rank
from analysis.latency import Floats, describe
from analysis.requests import Int32s, Int64s, Mask, Requests
from analysis.window import Window

__all__ = ["Comparison", "Sent", "compare", "describe_workers"]

LEVEL = 0.01
LEAST_DIFFERENCE_MS = 0.5
LEAST_DIFFERENCE_OF_MEDIAN = 0.02

_BLOCKS = 20
_LEAST_BLOCKS = 8
_LEAST_REQUESTS = 3  # of either side, for a block to count


@dataclass(frozen=True, eq=False, kw_only=True)
class Sent:
    """A tenant's requests in its window that got a token: who sent each, when it was due, and its TTFT from sending.

    Arrays of shape (n,), in any order.
    """

    tenant: str
    window: Window
    worker: Int32s
    scheduled_ns: Int64s
    ttft_ms: Floats


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """TTFT from sending of a tenant's requests that one load process sent, against those that the others sent.

    Attributes:
        requests: of this process, with a token, in the tenant's window.
        median_ms, others_median_ms: over the window, by nearest rank.
        blocks: with enough requests of both sides.
        difference_ms: median over the blocks of this process's median less the others'; None with too few blocks.
        p_value: that such differences come by chance, of this comparison alone; None likewise.
        apart: beyond chance among all comparisons of the run, and by enough to be worth telling.
    """

    tenant: str
    worker: int
    requests: int
    median_ms: float
    others_median_ms: float
    blocks: int
    difference_ms: float | None
    p_value: float | None
    apart: bool

    def as_json(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return asdict(self)


def compare(every: Sequence[Sent]) -> tuple[Comparison, ...]:
    """Each load process against the others, for each tenant that several have sent for."""
    pairs = [(sent, worker, found) for sent in every for worker, found in _differences(sent).items()]
    tested = sum(len(found) >= _LEAST_BLOCKS for *_, found in pairs)
    return tuple(_comparison(*pair, LEVEL / max(1, tested)) for pair in pairs)


def _differences(sent: Sent) -> dict[int, Floats]:
    """By load process, if there are several: its median TTFT less the others', in each block with enough of both.

    Medians of an even number are halfway between the two in the middle: the lower one would be too low for the
    side with fewer requests.
    """
    workers: list[int] = np.unique(sent.worker).tolist()
    if len(workers) < 2:
        return {}
    found: dict[int, list[float]] = {worker: [] for worker in workers}
    spans = sent.window.sub_windows(max(1e-9, sent.window.length_s / _BLOCKS))
    block = np.searchsorted([start for start, _ in spans], sent.scheduled_ns, side="right")
    order = np.argsort(block, kind="stable")
    for here in np.split(order, np.searchsorted(block[order], np.arange(2, len(spans) + 1))):
        ttft_ms, sender = sent.ttft_ms[here], sent.worker[here]
        for worker in workers:
            own = sender == worker
            if _LEAST_REQUESTS <= own.sum() <= len(own) - _LEAST_REQUESTS:
                found[worker].append(float(np.median(ttft_ms[own]) - np.median(ttft_ms[~own])))
    return {worker: np.array(differences, np.float64) for worker, differences in found.items()}


def _comparison(sent: Sent, worker: int, differences: Floats, level: float) -> Comparison:
    """A comparison is beyond chance at `level` or below."""
    own = sent.worker == worker
    others_median_ms = _median(sent.ttft_ms[~own])
    difference_ms = p_value = None
    apart = False
    if len(differences) >= _LEAST_BLOCKS:
        difference_ms = float(np.median(differences))
        p_value = _signed_rank_p(differences)
        worth_telling_ms = max(LEAST_DIFFERENCE_MS, LEAST_DIFFERENCE_OF_MEDIAN * others_median_ms)
        apart = p_value <= level and abs(difference_ms) > worth_telling_ms
    return Comparison(
        tenant=sent.tenant,
        worker=worker,
        requests=int(own.sum()),
        median_ms=_median(sent.ttft_ms[own]),
        others_median_ms=others_median_ms,
        blocks=len(differences),
        difference_ms=difference_ms,
        p_value=p_value,
        apart=apart,
    )


def _median(values: Floats) -> float:
    """By nearest rank, as every percentile of the report; there is at least one value."""
    return float(np.sort(values)[rank(PERCENTILES["p50"], len(values)) - 1])


def _signed_rank_p(differences: Floats) -> float:
    """Two-sided."""
    from scipy.stats import wilcoxon  # scipy.stats loads when load processes are compared

    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def describe_workers(
    workers: Iterable[Mapping[str, Any]], requests: Requests, chosen: Mask, send_lag_ms: Floats
) -> Iterator[dict[str, Any]]:
    """What is known of each load process, as `summary.json` has it.

    Args:
        workers: as `run.json` has them; what an older one lacks is None.
        chosen, send_lag_ms: shape (n,); the requests that count, and the lag of each.
    """
    for worker in workers:
        index = int(worker.get("index", 0))
        health, clock = worker.get("health") or {}, worker.get("clock") or {}
        own = chosen & (requests.worker == index)
        yield {
            "index": index,
            "hostname": worker.get("hostname"),
            "state": worker.get("state"),
            "requests": int(own.sum()),
            "send_lag_ms": describe(send_lag_ms[own]).as_json(),
            "event_loop_lag_ms_p99": (health.get("event_loop_lag_ms") or {}).get("p99"),
            "cpu_share_p95": (health.get("cpu_share") or {}).get("p95"),
            "clock_offset_s": worker.get("clock_offset_s"),
            "clock_uncertainty_s": clock.get("uncertainty_s"),
        }
