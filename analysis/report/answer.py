"""Answer: what a run says in three sentences: what tenants got, what they did to each other, what to make of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.intervals import PERCENTILES, minimum_count
from analysis.report.numbers import number, percentile, ratio, share, stamp

__all__ = ["answer"]

_NAMED = 4
"""So many tenants are named one by one; of more, the two ends."""

_EVEN, _FAIRLY_EVEN = 0.95, 0.8
_STARVED_S = 1.0
_TAIL = "p99"
_OFTEN = 100
"""A run that would have to be this many times as long is not asked for."""


def answer(content: Mapping[str, Any]) -> list[str]:
    """Three sentences.

    Args:
        content: what `summary.json` holds; it is not changed.
    """
    return [_got(content), _together(content), _trust(content)]


def _got(content: Mapping[str, Any]) -> str:
    """What the tenants got, and whether their SLOs held."""
    tenants = content["tenants"]
    if not any(entry["scheduled"] for entry in tenants.values()):
        return "No request was scheduled in the window, so nothing can be said of what a tenant got."
    what = _at_load(content["window"]["loads"]) + (
        _only_one(tenants) if len(tenants) == 1 else _each(tenants, content["totals"])
    )
    totals = content["totals"]
    failed = sum(totals["failed"].values())
    if failed == totals["scheduled"]:
        return f"{what}: all {failed:,} requests failed."
    lost = f"; {failed:,} of {totals['scheduled']:,} requests failed" if failed else ""
    return f"{what}{_slos(tenants)}{lost}."


def _at_load(loads: Sequence[Mapping[str, Any]] | None) -> str:
    """Which of several loads the figures are from: the highest that kept every SLO, or else the lowest."""
    if not loads:
        return ""
    held = [one["load"] for one in loads if one["held"]]
    if held:
        return f"At load {held[-1]:g}, the highest of {len(loads)} at which every SLO held, "
    if any(one["held"] is False for one in loads):
        return f"No load kept every SLO; at {loads[0]['load']:g}, the lowest, "
    return f"At load {loads[-1]['load']:g}, the highest, "


def _only_one(tenants: Mapping[str, Any]) -> str:
    (name, entry) = next(iter(tenants.items()))
    ttft = entry["ttft_scheduled_ms"]
    waited = f", and waited {percentile(ttft, _TAIL)} ms for a first token at {_TAIL}" if ttft["count"] else ""
    return f"{name} got {number(entry['output_tokens_per_s'])} output tokens/s{waited}"


def _each(tenants: Mapping[str, Any], totals: Mapping[str, Any]) -> str:
    rates = {name: entry["output_tokens_per_s"] for name, entry in tenants.items() if entry["scheduled"]}
    if len(rates) <= _NAMED:
        said = [f"{name} {number(rate)}" for name, rate in rates.items()]
        each = _listed([f"{name} got {number(rate)}" for name, rate in list(rates.items())[:1]] + said[1:])
        return f"{each} output tokens/s{_sum_of(rates, totals)}"
    known = {name: rate for name, rate in rates.items() if rate is not None}
    least, most = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    return (
        f"{len(rates)} tenants got from {number(known[least])} ({least}) to {number(known[most])} ({most}) "
        f"output tokens/s{_sum_of(rates, totals)}"
    )


def _sum_of(rates: Mapping[str, Any], totals: Mapping[str, Any]) -> str:
    together = totals["output_tokens_per_s"]
    return f", {number(together)} together" if len(rates) > 1 and together is not None else ""


def _slos(tenants: Mapping[str, Any]) -> str:
    """Which SLOs held, with the shares of requests that met them."""
    judged = {name: entry for name, entry in tenants.items() if entry["slo_attainment"] is not None}
    if not judged:
        return ", with no SLO to judge it by"
    broken = [name for name, entry in judged.items() if entry["slo_broken"]]
    if broken:
        listed = _listed(
            [f"{name}'s ({share(judged[name]['slo_attainment'])} of requests met it)" for name in broken[:_NAMED]]
        )
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        return f"; broken SLOs: {listed}{more}{', all others held' if len(broken) < len(judged) else ''}"
    worst = min(judged, key=lambda name: judged[name]["slo_attainment"])
    met = share(judged[worst]["slo_attainment"])
    if len(judged) == 1:
        return f"; {worst}'s SLO held ({met} of requests met it)"
    if judged[worst]["slo_attainment"] == 1:
        return "; every SLO held for every request"
    return f"; every SLO held ({met} of requests met it for {worst}, the worst)"


def _together(content: Mapping[str, Any]) -> str:
    """What the tenants did to each other, and how even their shares were."""
    if len(content["tenants"]) == 1:
        alone = "There was one tenant only, so there is no sharing to judge"
        return f"{alone}{_starved(content)}."
    fairness, interference = content["fairness"], content["interference"]
    parts = [] if interference is None else list(_slowed(interference))
    if fairness is None:
        parts.append("fairness is undefined, as the tenants never ran together")
    else:
        parts.append(_evenness(fairness, content["tenants"]))
    if interference is None and fairness is not None:
        parts.append("what they cost each other can't be told without a run of each alone")
    return _sentence("; ".join(parts) + _starved(content))


def _slowed(interference: Mapping[str, Any]) -> Iterator[str]:
    leakage, efficiency = interference["isolation_leakage"], interference["sharing_efficiency"]
    if leakage["value"] is not None:
        metric, rank, victim = leakage["metric"], leakage["percentile"], leakage["victim"]
        slowdown = interference["tenants"][victim]["slowdown"][metric][rank]
        name = f"{_MEASURED.get(metric, metric)} at {rank}"
        if slowdown["value"] > 1:
            times = f"{number(slowdown['value'])} times as long as alone"
            yield f"sharing slowed {victim} most: its {name} was {times}{_ci(slowdown)}"
        else:
            yield (
                f"no tenant was slower than alone: {victim}'s {name}, the worst, was {number(slowdown['value'])} times "
                f"as long{_ci(slowdown)}"
            )
    if efficiency["value"] is not None:
        only = "" if efficiency["value"] > 1 else "only "
        yield f"together they got {only}{number(efficiency['value'])} times the output of taking turns{_ci(efficiency)}"


_MEASURED = {"e2e_scheduled_ms": "end-to-end time", "ttft_scheduled_ms": "time to first token", "tpot_ms": "TPOT"}


def _evenness(fairness: Mapping[str, Any], tenants: Mapping[str, Any]) -> str:
    """Jain's index of service in words, and whether it is demand that differs."""
    service, demand = fairness["jain_service"], fairness["jain_demand"]
    if service is None:
        return "fairness is undefined, as no tenant got any service"
    sharing = sum(entry["scheduled"] > 0 for entry in tenants.values())
    if sharing < 2:
        return "fairness has nothing to compare, as only one tenant sent requests"
    words = "evenly" if service >= _EVEN else "fairly evenly" if service >= _FAIRLY_EVEN else "unevenly"
    scale = f"1 is equal, {ratio(1 / sharing)} the least"
    said = f"service by weight was shared {words} (Jain's index {ratio(service)}; {scale})"
    if demand is None:
        return said
    if demand >= _EVEN:
        also = "and" if service >= _EVEN else "as they asked for different amounts:"
        return f"{said}, {also} each got a like share of what it asked for ({ratio(demand)})"
    also = "but" if service >= _EVEN else "and"
    return f"{said}, {also} some got less of what they asked than others ({ratio(demand)})"


def _starved(content: Mapping[str, Any]) -> str:
    """The longest time without a token, where it is worth a word."""
    waits = {name: entry["starvation_s_max"] for name, entry in content["tenants"].items()}
    known = {name: wait for name, wait in waits.items() if wait is not None}
    if not known:
        return ""
    worst = max(known, key=lambda name: known[name])
    return f"; {worst} once went {stamp(known[worst])} s without a token" if known[worst] >= _STARVED_S else ""


def _trust(content: Mapping[str, Any]) -> str:
    """Whether the figures can be believed, and what to do next."""
    verdict = content["verdict"]
    if verdict["status"] != "valid":
        first, more = verdict["reasons"][0].rstrip("."), len(verdict["reasons"]) - 1
        others = f" ({more} more reason{'s' if more > 1 else ''} above)" if more else ""
        return f"Don't build on these figures yet, the run is suspect{others}: {first}."
    doubts = list(_doubts(content))
    passed = f"All {len(verdict['checks'])} checks passed"
    if not doubts:
        return f"{passed}: {_next(content)}."
    return f"{passed}, but {_listed(doubts)}: {_next(content)}."


def _doubts(content: Mapping[str, Any]) -> Iterator[str]:
    if content["run"]["simulated"]:
        yield "no GPU stands behind the figures"
    short = _short_warmup(content)
    if short is not None:
        yield f"the warm-up of {stamp(short[0])} s is shorter than the {stamp(short[1])} s that the figures suggest"
    if _drifts(content):
        yield "the figures drift within the window"
    thin = _thin(content)
    if thin is not None:
        tenant, count = thin
        needed = minimum_count(PERCENTILES[_TAIL])
        yield f"tails are indicative ({tenant} has {count:,} of the {needed:,} requests that a {_TAIL} needs)"


def _short_warmup(content: Mapping[str, Any]) -> tuple[float, float] | None:
    """The chosen and the suggested warm-up in s, where a warning says that the chosen one is too short."""
    steady = content["steady"]
    if steady is None or steady["suggested_warmup_s"] is None or not steady["too_short"]:
        return None
    return steady["chosen_warmup_s"], steady["suggested_warmup_s"]


def _drifts(content: Mapping[str, Any]) -> bool:
    return any(drift["drifts"] for drift in (content["steady"] or {"drift": {}})["drift"].values())


def _thin(content: Mapping[str, Any]) -> tuple[str, int] | None:
    """The tenant with the fewest samples of TTFT, and how many, where they are too few for a tail."""
    counts = {name: entry["ttft_scheduled_ms"]["count"] for name, entry in content["tenants"].items()}
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        return None
    least = min(counts, key=lambda name: counts[name])
    return (least, counts[least]) if counts[least] < minimum_count(PERCENTILES[_TAIL]) else None


def _next(content: Mapping[str, Any]) -> str:
    """The most useful next step."""
    if not any(entry["scheduled"] for entry in content["tenants"].values()):
        return "let the run go on beyond its warm-up"
    short = _short_warmup(content)
    if short is not None:
        return f"set run.warmup_s to {math.ceil(short[1])} or more and run again"
    if _drifts(content):
        return "run for longer, or find out what changes"
    if any(entry["slo_broken"] for entry in content["tenants"].values()):
        return "lower the load, or compare another way of sharing under the same load"
    thin = _thin(content)
    if thin is not None:
        times = -(-minimum_count(PERCENTILES[_TAIL]) // thin[1])
        if times < _OFTEN:
            return f"run {times} times as long before you rely on a tail"
        return "rely on medians only, or send far more requests"
    if len(content["tenants"]) > 1 and content["interference"] is None:
        return "run the plan interference to learn what the tenants cost each other"
    return "compare it with other ways of sharing under the same load"


def _ci(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return "" if low is None and high is None else f" (95 % interval {number(low)} to {number(high)})"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
