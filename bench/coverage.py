"""Do 95 % intervals hold the truth in 95 of 100 runs? 1,000 simulated runs whose truth is known, each interval asked.

    python -m bench.coverage [--runs 1000] [--processes 2]

A run is ten minutes of two tenants at a queue with one server (M/M/1, half busy), where a request that waits makes the
next ones wait: `queue`. Its percentiles, rates and slowdowns are known by arithmetic. `independent` draws latencies
from a lognormal distribution instead. Every interval is made by the functions that make those of a report. Prints how
many of the runs' intervals hold the truth, and exits 1 when any share is outside 92-98 %.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.special import ndtri

from analysis.fairness import Shares
from analysis.latency import Floats, describe
from analysis.load import Profile, Slo, Tenant
from analysis.repeats import t_interval
from analysis.requests import Int64s
from analysis.slowdown import LATENCIES, Side, slowdowns, throughput_ratio
from analysis.uncertainty import CELLS, Cells, fairness_ci95, rates_ci95

__all__ = ["LIMITS", "Asked", "coverage", "main"]

LIMITS = (0.92, 0.98)
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

SECONDS = 600.0
BEFORE_S = 60.0  # the queue is as busy as it gets long before the window
SERVED_PER_S = 10.0
RATES_PER_S = (3.0, 2.0)
LIMIT_S = (0.4, 0.6)  # SLO of each tenant on the time from arrival to answer
INPUT_TOKENS, OUTPUT_TOKENS = 40, (50, 150)  # output: uniform, all at the end of the answer
INDEPENDENT = 3000
REPEATS = 5

PROFILE = Profile(tenants=(Tenant(id="a", slo=Slo()), Tenant(id="b", slo=Slo())))
EQUAL = Profile(tenants=(Tenant(id="a", weight=RATES_PER_S[0]), Tenant(id="b", weight=RATES_PER_S[1])))


@dataclass(frozen=True)
class Asked:
    """One interval of one run, and the truth that it should hold."""

    name: str
    interval: tuple[float | None, float | None]
    truth: float

    @property
    def held(self) -> bool:
        """Whether it does; a bound that is undefined bounds nothing."""
        low, high = self.interval
        return (low is None or low <= self.truth) and (high is None or self.truth <= high)

    @property
    def undefined(self) -> bool:
        """Whether a bound is."""
        return None in self.interval


@dataclass(frozen=True, eq=False)
class Served:
    """Requests of one tenant in the order of arrival; all of shape (n,), the window from 0 to SECONDS.

    Attributes:
        index: place among all that the tenant sent, those before the window too.
    """

    index: Int64s
    due_s: Floats
    took_s: Floats
    tokens: Int64s

    @property
    def ended_s(self) -> Floats:
        """When the answer was there."""
        return self.due_s + self.took_s


@dataclass(frozen=True, eq=False)
class Sent:
    """What one tenant asks for: when, how long a server needs for it, and how many tokens it is."""

    due_s: Floats
    needs_s: Floats
    tokens: Int64s


def _sent(rng: np.random.Generator, rate_per_s: float) -> Sent:
    count = rng.poisson(rate_per_s * (BEFORE_S + SECONDS))
    due_s = np.sort(rng.uniform(-BEFORE_S, SECONDS, count))
    low, high = OUTPUT_TOKENS
    return Sent(due_s, rng.exponential(1 / SERVED_PER_S, count), rng.integers(low, high + 1, count))


def _serve(*tenants: Sent) -> list[Served]:
    """First come, first served: an answer is there when the last of the busy period's was, plus what it needs."""
    due_s = np.concatenate([one.due_s for one in tenants])
    of = np.concatenate([np.full(len(one.due_s), code) for code, one in enumerate(tenants)])
    order = np.argsort(due_s)
    due_s, of = due_s[order], of[order]
    worked_s = np.cumsum(np.concatenate([one.needs_s for one in tenants])[order])
    before_s = np.concatenate(([0.0], worked_s[:-1]))
    took_s = np.maximum.accumulate(due_s - before_s) + worked_s - due_s
    return [
        Served(np.arange(len(one.due_s)), due_s[of == code], took_s[of == code], one.tokens)
        for code, one in enumerate(tenants)
    ]


EDGES_S = np.linspace(0, SECONDS, CELLS + 1)


def _per_cell(stamps_s: Floats, weights: Floats | Int64s | None = None) -> Floats:
    sums: Floats = np.histogram(stamps_s, EDGES_S, weights=weights)[0].astype(np.float64)
    return sums


def _cells(one: Served, limit_s: float) -> Cells:
    met = one.took_s <= limit_s
    return Cells(
        length_s=np.diff(EDGES_S),
        finished=_per_cell(one.ended_s),
        finished_good=_per_cell(one.ended_s[met]),
        tokens=_per_cell(one.ended_s, one.tokens),
        tokens_good=_per_cell(one.ended_s[met], one.tokens[met]),
        with_slo=_per_cell(one.due_s),
        met=_per_cell(one.due_s[met]),
    )


def _shares(tenants: list[Served]) -> Shares:
    tokens = np.array([_per_cell(one.ended_s, one.tokens) for one in tenants])
    scheduled = np.array([_per_cell(one.due_s) for one in tenants]).astype(np.int64)
    asked = np.array([_per_cell(one.due_s, INPUT_TOKENS + 2 * one.tokens) for one in tenants])
    input_tokens = np.array([INPUT_TOKENS * _per_cell(one.ended_s) for one in tenants])
    met = [_per_cell(one.due_s[one.took_s <= limit]) for one, limit in zip(tenants, LIMIT_S, strict=True)]
    return Shares(tokens, input_tokens + 2 * tokens, asked, scheduled, np.array(met).astype(np.int64))


def _side(one: Served) -> Side:
    within = one.due_s >= 0
    undefined = np.full(int(within.sum()), np.nan)
    return Side(
        seed=1,
        index=one.index[within].astype(np.int32),
        due_ns=np.rint(one.due_s[within] * 1e9).astype(np.int64),
        cell=np.searchsorted(EDGES_S, one.due_s[within], side="right") - 1,
        latencies_ms={**dict.fromkeys(LATENCIES, undefined), "e2e_scheduled_ms": one.took_s[within] * 1e3},
        starts_ns=np.rint(EDGES_S[:-1] * 1e9).astype(np.int64),
        lengths_ns=np.rint(np.diff(EDGES_S) * 1e9).astype(np.int64),
        tokens=_per_cell(one.ended_s, one.tokens),
    )


def _jain(*values: float) -> float:
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


def one_run(seed: int) -> list[Asked]:
    """Every interval of one run."""
    return list(_asked(np.random.default_rng(seed)))


def _asked(rng: np.random.Generator) -> Iterator[Asked]:
    latencies = describe(rng.lognormal(5, 1, INDEPENDENT))
    for name, p in PERCENTILES.items():
        yield Asked(f"{name}, independent", latencies.ci95[name], math.exp(5 + float(ndtri(p))))

    sent = [_sent(rng, rate) for rate in RATES_PER_S]
    tenants = _serve(*sent)
    left_per_s = SERVED_PER_S - sum(RATES_PER_S)  # an answer takes exponentially long, with this rate
    first = tenants[0]
    latencies = describe(first.took_s[first.due_s >= 0] * 1e3)
    for name, p in PERCENTILES.items():
        yield Asked(f"{name}, queue", latencies.ci95[name], -math.log(1 - p) / left_per_s * 1e3)

    rate, mean_tokens = RATES_PER_S[0], sum(OUTPUT_TOKENS) / 2
    met = [1 - math.exp(-left_per_s * limit) for limit in LIMIT_S]
    found = rates_ci95(_cells(first, LIMIT_S[0]))
    yield Asked("requests_per_s", found["requests_per_s"], rate)
    yield Asked("output_tokens_per_s", found["output_tokens_per_s"], rate * mean_tokens)
    yield Asked("goodput_requests_per_s", found["goodput_requests_per_s"], rate * met[0])
    yield Asked("goodput_tokens_per_s", found["goodput_tokens_per_s"], rate * mean_tokens * met[0])
    yield Asked("slo_attainment", found["slo_attainment"], met[0])

    counted = _shares(tenants)
    indices = fairness_ci95(counted, PROFILE)
    jain = _jain(*RATES_PER_S)
    yield Asked("jain_throughput", indices["jain_throughput"], jain)
    yield Asked("jain_service", indices["jain_service"], jain)
    yield Asked("max_min_ratio", indices["max_min_ratio"], RATES_PER_S[0] / RATES_PER_S[1])
    yield Asked("attainment_gap", indices["attainment_gap"], abs(met[0] - met[1]))
    indices = fairness_ci95(counted, EQUAL)
    yield Asked("jain_throughput, equal tenants", indices["jain_throughput"], 1.0)

    (alone,) = _serve(sent[0])
    solo, shared = _side(alone), _side(first)
    slowed = slowdowns(solo, shared)["e2e_scheduled_ms"]
    truth = (SERVED_PER_S - rate) / left_per_s
    for name in PERCENTILES:
        yield Asked(f"slowdown {name}, paired", slowed[name].ci95, truth)
    (other,) = _serve(_sent(rng, rate))
    slowed = slowdowns(_unpaired(_side(other)), _unpaired(shared))["e2e_scheduled_ms"]
    for name in PERCENTILES:
        yield Asked(f"slowdown {name}, unpaired", slowed[name].ci95, truth)
    yield Asked("throughput_ratio", throughput_ratio(_unpaired(_side(other)), _unpaired(shared)).ci95, 1.0)

    yield Asked("mean of repeats", t_interval(rng.normal(100, 5, REPEATS).tolist())[1], 100.0)


def _unpaired(side: Side) -> Side:
    return Side(**{**vars(side), "seed": None})


@dataclass(frozen=True)
class Covered:
    """How an interval did over all runs: shares of them that held the truth, and that lacked a bound."""

    name: str
    held: float
    undefined: float

    @property
    def good(self) -> bool:
        """Whether it is as sure as it says."""
        return LIMITS[0] <= self.held <= LIMITS[1]


def coverage(runs: int, processes: int = 1) -> list[Covered]:
    """The coverage of every interval over so many runs."""
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            every = list(pool.map(one_run, range(runs), chunksize=10))
    else:
        every = list(map(one_run, range(runs)))
    by_name: dict[str, list[Asked]] = defaultdict(list)
    for run in every:
        for asked in run:
            by_name[asked.name].append(asked)
    return [
        Covered(name, sum(one.held for one in some) / runs, sum(one.undefined for one in some) / runs)
        for name, some in by_name.items()
    ]


def main() -> int:
    """Run the bench; 1 if an interval is too sure of itself, or too unsure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    found = coverage(options.runs, options.processes)
    table = Table("interval", "holds the truth", "lacks a bound", "", box=box.SIMPLE)
    for one in found:
        table.add_row(one.name, f"{one.held:.1%}", f"{one.undefined:.1%}", "" if one.good else "outside 92-98 %")
    Console().print(f"{options.runs} runs", table)
    return 0 if all(one.good for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
