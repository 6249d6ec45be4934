"""The metrics once more, in slow and obvious Python over records, with exact fractions of a second."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from fairshare_locust.record import RequestRecord

__all__ = [
    "LATENCIES",
    "Span",
    "asked",
    "attainment",
    "chunks",
    "gap",
    "in_flight",
    "inside",
    "jain",
    "latencies_ms",
    "makespan_tokens_per_s",
    "met",
    "percentile",
    "seconds",
    "service",
    "starvation",
    "tokens",
    "tpot_ms",
    "union",
]

Span = tuple[Fraction, Fraction]


def seconds(stamp: float) -> Fraction:
    """A stamp as the decimal number that stands in the file."""
    return Fraction(str(stamp))


def chunks(one: RequestRecord) -> list[tuple[Fraction, Fraction]]:
    """Arrival and tokens of each content chunk."""
    if one.first_token_s is None:
        return []
    gaps = one.chunk_gap_us or []
    at = [seconds(one.first_token_s)]
    for gap_us in gaps:
        at.append(at[-1] + Fraction(gap_us, 1_000_000))
    output = len(at) if one.output_tokens is None else one.output_tokens
    told = one.chunk_tokens
    if told and sum(told):
        return [(time, Fraction(output * tokens, sum(told))) for time, tokens in zip(at, told, strict=True)]
    return [(time, Fraction(output, len(at))) for time in at]


def tpot_ms(one: RequestRecord) -> float | None:
    """Time per output token after the first chunk."""
    count = len(chunks(one))
    output = one.output_tokens if one.output_tokens is not None else count
    later = output - (one.chunk_tokens[0] if one.chunk_tokens else 1)
    if count < 2 or later <= 0 or one.last_token_s is None or one.first_token_s is None:
        return None
    return float((seconds(one.last_token_s) - seconds(one.first_token_s)) * 1000 / later)


def union(intervals: list[Span]) -> list[Span]:
    """Closed intervals that overlap or touch, as one."""
    merged: list[Span] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def backlog(records: list[RequestRecord], tenant: str) -> list[Span]:
    intervals = []
    for one in records:
        if one.tenant == tenant and one.outcome != "shed" and one.ended_s is not None:
            end = one.ended_s if one.first_token_s is None else one.first_token_s
            intervals.append((seconds(one.scheduled_s), seconds(end)))
    return union(intervals)


def credits(records: list[RequestRecord], tenant: str, weight: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Every instant at which a tenant was credited, and how much."""
    events = []
    for one in records:
        if one.tenant == tenant:
            for place, (time, tokens) in enumerate(chunks(one)):
                first = (one.input_tokens or 0) if place == 0 else 0
                events.append((time, (first + 2 * tokens) / weight))
    return events


def gap(
    records: list[RequestRecord], weights: tuple[Fraction, Fraction], window: Span, last_s: Fraction | None = None
) -> Fraction | None:
    """Largest service gap of tenants a and b, trying every instant at which it can change."""
    events = [credits(records, tenant, weight) for tenant, weight in zip("ab", weights, strict=True)]
    largest = None
    for one in backlog(records, "a"):
        for other in backlog(records, "b"):
            start, end = max(one[0], other[0], window[0]), min(one[1], other[1])
            if start > end or start >= window[1]:
                continue
            times = [start, *(time for tenant in events for time, _ in tenant)]
            if last_s is not None:
                times += [time + last_s for tenant in events for time, _ in tenant]
            for now in times:
                if not (start <= now <= end and now < window[1]):
                    continue
                sums = [
                    sum(
                        (
                            size
                            for time, size in tenant
                            if start <= time <= now and (last_s is None or time > now - last_s)
                        ),
                        Fraction(0),
                    )
                    for tenant in events
                ]
                largest = max(largest or Fraction(0), abs(sums[0] - sums[1]))
    return largest


def starvation(records: list[RequestRecord], tenant: str, window: Span) -> Fraction | None:
    """Longest stretch with something outstanding and no token."""
    waits = union(
        [
            (seconds(one.scheduled_s), seconds(one.ended_s))
            for one in records
            if one.tenant == tenant and one.outcome != "shed" and one.ended_s is not None
        ]
    )
    longest = None
    for start, end in waits:
        if start >= window[1] or end < window[0]:
            continue
        start, end = max(start, window[0]), min(end, window[1])
        tokens = [time for one in records if one.tenant == tenant for time, _ in chunks(one) if start <= time <= end]
        stops = [start, *sorted(tokens), end]
        longest = max([longest or Fraction(0), *(after - before for before, after in pairwise(stops))])
    return longest


LATENCIES = ("ttft_ms", "ttft_scheduled_ms", "tpot_ms", "e2e_ms", "e2e_scheduled_ms", "send_lag_ms")


def latencies_ms(one: RequestRecord) -> dict[str, float | None]:
    """All latencies of one request; None where it has none."""

    def between(start: float | None, end: float | None) -> float | None:
        return None if start is None or end is None else float((seconds(end) - seconds(start)) * 1000)

    ended_well = one.outcome == "ok"
    return {
        "ttft_ms": between(one.sent_s, one.first_token_s),
        "ttft_scheduled_ms": between(one.scheduled_s, one.first_token_s),
        "tpot_ms": tpot_ms(one),
        "e2e_ms": between(one.sent_s, one.last_token_s) if ended_well else None,
        "e2e_scheduled_ms": between(one.scheduled_s, one.last_token_s) if ended_well else None,
        "send_lag_ms": between(one.scheduled_s, one.sent_s),
    }


def percentile(values: list[float], per_mille: int) -> float | None:
    """The smallest value that at least so many thousandths of them do not exceed."""
    for value in sorted(values):
        if sum(other <= value for other in values) * 1000 >= per_mille * len(values):
            return value
    return None


def inside(stamp: float | Fraction | None, window: Span) -> bool:
    """Whether a stamp lies in `[start, end)`."""
    if stamp is None:
        return False
    exact = stamp if isinstance(stamp, Fraction) else seconds(stamp)
    return window[0] <= exact < window[1]


def tokens(records: list[RequestRecord], window: Span) -> Fraction:
    """Output tokens that arrived in a window."""
    return sum((count for one in records for time, count in chunks(one) if inside(time, window)), Fraction(0))


def service(records: list[RequestRecord], window: Span) -> Fraction:
    """Input of the requests whose first token came in a window, and twice the output that arrived in it."""
    inputs = sum((one.input_tokens or 0) for one in records if inside(one.first_token_s, window))
    return inputs + 2 * tokens(records, window)


def asked(one: RequestRecord) -> Fraction:
    """Service that a request asked for."""
    if one.outcome != "ok":
        return Fraction((one.input_tokens or 0) + 2 * (one.requested_output_tokens or 0))
    if one.first_token_s is None:
        return Fraction(0)
    return (one.input_tokens or 0) + 2 * sum((count for _, count in chunks(one)), Fraction(0))


def met(one: RequestRecord, limits_ms: dict[str, float]) -> bool:
    """Whether a request was ok and kept every limit that applies to it."""
    if one.outcome != "ok":
        return False
    for name, limit in limits_ms.items():
        value = latencies_ms(one)[name]
        if value is None and name != "tpot_ms":
            return False
        if value is not None and value > limit:
            return False
    return True


def attainment(records: list[RequestRecord], limits_ms: dict[str, float], window: Span) -> float | None:
    """Share of the requests due in a window that met their limits."""
    due = [one for one in records if inside(one.scheduled_s, window)]
    return sum(met(one, limits_ms) for one in due) / len(due) if due else None


def makespan_tokens_per_s(records: list[RequestRecord]) -> float | None:
    """All tokens over the time from the first that was sent to the last token."""
    sent = [seconds(one.sent_s) for one in records if one.sent_s is not None]
    last = [seconds(one.last_token_s) for one in records if one.last_token_s is not None]
    if not sent or not last or max(last) <= min(sent):
        return None
    return float(sum(count for one in records for _, count in chunks(one)) / (max(last) - min(sent)))


def jain(values: list[Fraction]) -> float | None:
    """Jain's index, straight from its formula."""
    squares = sum(value * value for value in values)
    return float(sum(values) ** 2 / (len(values) * squares)) if squares else None


def in_flight(records: list[RequestRecord], window: Span) -> float:
    """Mean number of requests between being sent and their end."""
    spent = Fraction(0)
    for one in records:
        if one.sent_s is not None and one.ended_s is not None:
            spent += max(Fraction(0), min(seconds(one.ended_s), window[1]) - max(seconds(one.sent_s), window[0]))
    return float(spent / (window[1] - window[0]))
