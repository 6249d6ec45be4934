"""Every number of a run of arbitrary records, against the slow reference."""

from __future__ import annotations

import math
import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cost import joules_per_output_token
from analysis.intervals import PERCENTILES
from analysis.latency import ADJUSTED
from analysis.load import Slo, Tenant
from analysis.summary import summarise
from fairshare_locust.record import RequestRecord
from tests.analysis import reference
from tests.analysis.build import run
from tests.analysis.random_records import records

WINDOW = (Fraction(0), Fraction(10))
LIMITS = {"a": {"ttft_scheduled_ms": 700.0, "tpot_ms": 300.0, "e2e_scheduled_ms": 1500.0}, "b": {}}
WEIGHTS = {"a": Fraction(1), "b": Fraction(2)}
TENANTS = (Tenant(id="a", slo=Slo(ttft_ms=700, tpot_ms=300, e2e_ms=1500)), Tenant(id="b", weight=2))
USD = Fraction("3.6") / 3600 * 10  # per hour, for the window


def content_of(some: list[RequestRecord]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        cost = {"gpu_hour_usd": 3.6, "gpus": 1}
        return summarise(run(Path(folder) / "run", some, *TENANTS, cost=cost)).content


def near(expected: float | Fraction | None) -> Any:
    """Equal up to the last digits of a float; None only to None."""
    return None if expected is None else pytest.approx(float(expected))


def described(entry: dict[str, Any], values: list[float]) -> None:
    """Count, mean and percentiles of a latency."""
    assert entry["count"] == len(values)
    assert entry["mean"] == near(sum(values) / len(values) if values else None)
    for name, per_mille in PERCENTILES.items():
        assert entry[name] == near(reference.percentile(values, per_mille)), name


def check_entry(entry: dict[str, Any], some: list[RequestRecord], good: set[str]) -> None:
    """The entry of a tenant, or of all: `some` are its requests, `good` those of the run that met their SLOs."""
    due = [one for one in some if reference.inside(one.scheduled_s, WINDOW)]
    ok = [one for one in due if one.outcome == "ok"]
    ended = [one for one in some if one.outcome == "ok" and reference.inside(one.ended_s, WINDOW)]
    met = [one for one in some if one.request_id in good]
    assert (entry["scheduled"], entry["completed"]) == (len(due), len(ok))
    assert sum(entry["failed"].values()) == len(due) - len(ok)
    assert entry["asked_requests_per_s"] == near(len(due) / 10)
    assert entry["offered_requests_per_s"] == near(sum(reference.inside(one.sent_s, WINDOW) for one in due) / 10)
    assert entry["requests_per_s"] == near(len(ended) / 10)
    assert entry["goodput_requests_per_s"] == near(sum(one.request_id in good for one in ended) / 10)
    assert entry["output_tokens"] == near(reference.tokens(some, WINDOW))
    assert entry["output_tokens_per_s"] == near(reference.tokens(some, WINDOW) / 10)
    assert entry["goodput_tokens_per_s"] == near(reference.tokens(met, WINDOW) / 10)
    assert entry["makespan_tokens_per_s"] == near(reference.makespan_tokens_per_s(some))
    for name in reference.LATENCIES:
        values = [(one, reference.latencies_ms(one)[name]) for one in due]
        described(entry[name], [value for _, value in values if value is not None])
        if name in ADJUSTED:
            passed = [value for one, value in values if value is not None and one.outcome == "ok"]
            described(entry[f"{name}_adjusted"], passed + [math.inf] * (len(due) - len(ok)))


@settings(deadline=None, max_examples=25)
@given(records())
def test_every_number_of_a_run(some: list[RequestRecord]) -> None:
    content = content_of(some)
    of = {tenant: [one for one in some if one.tenant == tenant] for tenant in "ab"}
    good = {one.request_id for one in some if reference.met(one, LIMITS[one.tenant])}
    for tenant in "ab":
        check_entry(content["tenants"][tenant], of[tenant], good)
    check_entry(content["totals"], some, good)

    attained = reference.attainment(of["a"], LIMITS["a"], WINDOW)
    assert content["tenants"]["a"]["slo_attainment"] == near(attained)
    assert content["tenants"]["b"]["slo_attainment"] is None
    assert content["totals"]["slo_attainment"] == near(attained)

    due = {tenant: [one for one in of[tenant] if reference.inside(one.scheduled_s, WINDOW)] for tenant in "ab"}
    part = [tenant for tenant in "ab" if due[tenant]]
    service = {tenant: reference.service(of[tenant], WINDOW) for tenant in "ab"}
    asked = {tenant: sum(map(reference.asked, due[tenant]), Fraction(0)) for tenant in "ab"}
    got: list[Fraction] = [reference.tokens(of[tenant], WINDOW) / 10 / WEIGHTS[tenant] for tenant in part]
    fairness = content["fairness"]
    assert fairness["jain_throughput"] == near(reference.jain(got))
    assert fairness["jain_service"] == near(reference.jain([service[tenant] / WEIGHTS[tenant] for tenant in part]))
    satisfied: list[Fraction] = []
    for tenant in part:
        if asked[tenant]:
            share = service[tenant] / asked[tenant]
            satisfied.append(share if share < 1 else Fraction(1))
    assert fairness["jain_demand"] == near(reference.jain(satisfied))
    smallest = min(got) if got else None
    assert fairness["max_min_ratio"] == near(max(got) / smallest if smallest else None)
    assert fairness["attainment_gap"] == near(0.0 if due["a"] else None)  # only a has an SLO
    weights = (WEIGHTS["a"], WEIGHTS["b"])
    assert fairness["service_gap_max_tokens"] == near(reference.gap(some, weights, WINDOW))
    assert fairness["service_gap_window_max_tokens"] == near(reference.gap(some, weights, WINDOW, Fraction(5)))
    starved = {tenant: reference.starvation(some, tenant, WINDOW) for tenant in "ab"}
    for tenant in "ab":
        assert content["tenants"][tenant]["starvation_s_max"] == near(starved[tenant])
    known = [value for value in starved.values() if value is not None]
    assert fairness["starvation_s_max"] == near(max(known) if known else None)

    check_cost(content["cost"], of)
    check_series(content["timeline"], of)


def check_cost(cost: dict[str, Any], of: dict[str, list[RequestRecord]]) -> None:
    """Money by share of the service."""
    tokens = {tenant: reference.tokens(of[tenant], WINDOW) for tenant in "ab"}
    service = {tenant: reference.service(of[tenant], WINDOW) for tenant in "ab"}
    everything = sum(service.values())
    assert cost["cost_per_million_output_tokens"] == near(
        USD / sum(tokens.values()) * 10**6 if sum(tokens.values()) else None
    )
    assert cost["window_usd"] == near(USD)
    waits: list[reference.Span] = [
        (reference.seconds(one.scheduled_s), min(reference.seconds(one.ended_s), WINDOW[1]))
        for one in (*of["a"], *of["b"])
        if one.outcome != "shed" and one.ended_s is not None and reference.inside(one.scheduled_s, WINDOW)
    ]
    busy = sum((end - start for start, end in reference.union(waits)), Fraction(0))
    assert cost["idle_share"] == near((10 - busy) / 10)
    assert cost["idle_usd"] == near(USD * (10 - busy) / 10)
    for tenant in "ab":
        own = USD * service[tenant] / everything if everything else None
        per_million = own / tokens[tenant] * 10**6 if own is not None and tokens[tenant] else None
        assert cost["tenants_usd"][tenant] == near(own)
        assert cost["tenants"][tenant] == near(per_million)


def check_series(timeline: dict[str, Any], of: dict[str, list[RequestRecord]]) -> None:
    """Requests in flight, tokens and requests due in each stretch of the run."""
    edges = [*map(reference.seconds, timeline["t_s"]), reference.seconds(timeline["end_s"])]
    for tenant in "ab":
        entry = timeline["tenants"][tenant]
        for place, stretch in enumerate(pairwise(edges)):
            length = stretch[1] - stretch[0]
            assert entry["in_flight"][place] == near(reference.in_flight(of[tenant], stretch))
            assert entry["output_tokens_per_s"][place] == near(reference.tokens(of[tenant], stretch) / length)
            due = sum(reference.inside(one.scheduled_s, stretch) for one in of[tenant])
            assert entry["asked_requests_per_s"][place] == near(due / length)


@given(st.none() | st.fractions(0, 10**6), st.fractions(0, 10**6))
def test_energy_per_token(joules: Fraction | None, tokens: Fraction) -> None:
    found = joules_per_output_token(None if joules is None else float(joules), float(tokens))
    assert found == near(joules / tokens if joules is not None and tokens else None)
