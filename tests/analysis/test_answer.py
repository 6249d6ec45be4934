"""The answer in three sentences, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.load import Slo, Tenant
from analysis.report.answer import answer
from analysis.summary import summarise
from tests.analysis.build import record, run, worker


def entry(**values: Any) -> dict[str, Any]:
    """A tenant that got 100 tokens/s, with enough requests for any tail, all of them ok."""
    return {
        "scheduled": 1000,
        "failed": {"timeout": 0, "shed": 0},
        "output_tokens_per_s": 100.0,
        "ttft_scheduled_ms": {"count": 1000, "p99": 250.0, "certified": {"p99": True}},
        "slo_attainment": None,
        "slo_broken": None,
        "starvation_s_max": 0.2,
        **values,
    }


def told(tenants: dict[str, dict[str, Any]] | None = None, **values: Any) -> list[str]:
    """The answer to a valid run of two tenants on a real GPU, where `values` doesn't say otherwise."""
    tenants = {"chat": entry(), "batch": entry(output_tokens_per_s=300.0)} if tenants is None else tenants
    rates = [one["output_tokens_per_s"] or 0.0 for one in tenants.values()]
    failed: dict[str, int] = {}
    for one in tenants.values():
        for outcome, count in one["failed"].items():
            failed[outcome] = failed.get(outcome, 0) + count
    return answer(
        {
            "tenants": tenants,
            "totals": {
                "scheduled": sum(one["scheduled"] for one in tenants.values()),
                "failed": failed,
                "output_tokens_per_s": sum(rates),
            },
            "run": {"simulated": False},
            "window": {"loads": None},
            "verdict": {"status": "valid", "reasons": [], "checks": [None] * 20},
            "fairness": {"jain_service": 0.8, "jain_demand": 1.0},
            "interference": None,
            "steady": None,
            **values,
        }
    )


def got(*args: Any, **values: Any) -> str:
    return told(*args, **values)[0]


def together(*args: Any, **values: Any) -> str:
    return told(*args, **values)[1]


def trust(*args: Any, **values: Any) -> str:
    return told(*args, **values)[2]


# ---- What the tenants got


def test_each_tenant_is_named_with_its_throughput() -> None:
    assert got() == "chat got 100 and batch 300 output tokens/s, 400 together, with no SLO to judge it by."


def test_of_many_tenants_the_two_ends_are_named() -> None:
    tenants = {f"t{place}": entry(output_tokens_per_s=10.0 * place) for place in range(1, 7)}
    assert got(tenants).startswith("6 tenants got from 10.0 (t1) to 60.0 (t6) output tokens/s, 210 together")


def test_a_tenant_without_requests_is_not_named() -> None:
    idle = entry(scheduled=0, output_tokens_per_s=0.0)
    assert got({"chat": entry(), "idle": idle}).startswith("chat got 100 output tokens/s, with no SLO")


def test_one_tenant_is_told_with_its_wait() -> None:
    said = got({"chat": entry(slo_attainment=0.99, slo_broken=False)})
    assert said == (
        "chat got 100 output tokens/s, and waited 250 ms for a first token at p99; chat's SLO held (99.0% of requests "
        "met it)."
    )


def test_nothing_scheduled() -> None:
    idle = entry(scheduled=0, output_tokens_per_s=None)
    assert got({"chat": idle}) == (
        "No request was scheduled in the window, so nothing can be said of what a tenant got."
    )


def test_slos_that_held() -> None:
    kept, nearly = entry(slo_attainment=1.0, slo_broken=False), entry(slo_attainment=0.975, slo_broken=False)
    assert got({"chat": kept, "batch": kept}).endswith("; every SLO held for every request.")
    assert got({"chat": kept, "batch": nearly}).endswith(
        "; every SLO held (97.5% of requests met it for batch, the worst)."
    )


def test_slos_that_broke() -> None:
    kept, broken = entry(slo_attainment=1.0, slo_broken=False), entry(slo_attainment=0.5, slo_broken=True)
    assert got({"chat": kept, "batch": broken}).endswith(
        "; broken SLOs: batch's (50.0% of requests met it), all others held."
    )
    assert got({"chat": broken}).endswith("; broken SLOs: chat's (50.0% of requests met it).")
    many = {f"t{place}": broken for place in range(6)}
    assert got(many).endswith("t3's (50.0% of requests met it) and 2 more.")


def test_failures_are_told() -> None:
    some = entry(failed={"timeout": 3, "shed": 1})
    assert got({"chat": some, "batch": entry()}).endswith("; 4 of 2,000 requests failed.")


def test_all_failed() -> None:
    lost = entry(failed={"timeout": 1000, "shed": 0}, output_tokens_per_s=0.0, slo_attainment=0.0, slo_broken=True)
    assert got({"chat": lost, "batch": lost}) == (
        "chat got 0 and batch 0 output tokens/s, 0 together: all 2,000 requests failed."
    )


@pytest.mark.parametrize(
    ("held", "start"),
    [
        ([True, True, False], "At load 2, the highest of 3 at which every SLO held, chat got"),
        ([False, False, False], "No load kept every SLO; at 1, the lowest, chat got"),
        ([None, None, None], "At load 3, the highest, chat got"),
    ],
)
def test_the_load_that_the_figures_are_from(held: list[bool | None], start: str) -> None:
    loads = [{"load": float(place), "held": one} for place, one in enumerate(held, 1)]
    assert got(window={"loads": loads}).startswith(start)


# ---- What they did to each other


def slowed(value: float | None, *, efficiency: float | None = 1.8) -> dict[str, Any]:
    one = {"value": value, "ci95": [1.2, 2.4]}
    leakage = None if value is None else 1 - 1 / value
    return {
        "tenants": {"chat": {"slowdown": {"e2e_scheduled_ms": {"p95": one}}}},
        "isolation_leakage": {
            "value": leakage,
            "ci95": [None, None],
            "victim": None if value is None else "chat",
            "metric": "e2e_scheduled_ms",
            "percentile": "p95",
        },
        "sharing_efficiency": {"value": efficiency, "ci95": [None, None]},
    }


def test_without_runs_alone_the_cost_to_each_other_is_not_known() -> None:
    assert together() == (
        "Service by weight was shared fairly evenly (Jain's index 0.800; 1 is equal, 0.500 the least), as they asked "
        "for different amounts: each got a like share of what it asked for (1.000); what they cost each other can't be "
        "told without a run of each alone."
    )


def test_the_worst_victim_is_named() -> None:
    said = together(interference=slowed(1.5))
    assert said.startswith(
        "Sharing slowed chat most: its end-to-end time at p95 was 1.50 times as long as alone (95 % interval 1.20 to "
        "2.40); together they got 1.80 times the output of taking turns; service by weight"
    )
    assert "can't be told" not in said


def test_no_victim_and_no_gain() -> None:
    said = together(interference=slowed(0.98, efficiency=0.9))
    assert said.startswith("No tenant was slower than alone: chat's end-to-end time at p95, the worst, was 0.980 times")
    assert "together they got only 0.900 times the output of taking turns" in said


def test_interference_that_is_undefined_is_left_out() -> None:
    said = together(interference=slowed(None, efficiency=None))
    assert said.startswith("Service by weight was shared")


@pytest.mark.parametrize(
    ("service", "demand", "words"),
    [
        (0.99, 1.0, "shared evenly (Jain's index 0.990; 1 is equal, 0.500 the least), and each got a like share"),
        (0.6, 1.0, "shared unevenly (Jain's index 0.600; 1 is equal, 0.500 the least), as they asked for different"),
        (0.6, 0.7, ", and some got less of what they asked than others (0.700)"),
        (0.99, 0.7, ", but some got less of what they asked than others (0.700)"),
        (0.99, None, "shared evenly (Jain's index 0.990; 1 is equal, 0.500 the least); what they"),
        (None, None, "Fairness is undefined, as no tenant got any service"),
    ],
)
def test_how_even_service_was(service: float | None, demand: float | None, words: str) -> None:
    assert words in together(fairness={"jain_service": service, "jain_demand": demand})


def test_tenants_that_never_ran_together() -> None:
    assert together(fairness=None) == "Fairness is undefined, as the tenants never ran together."


def test_one_tenant_has_nothing_to_share() -> None:
    assert together({"chat": entry()}) == "There was one tenant only, so there is no sharing to judge."


def test_one_of_two_that_sent_requests() -> None:
    tenants = {"chat": entry(), "idle": entry(scheduled=0)}
    assert together(tenants).startswith("Fairness has nothing to compare, as only one tenant sent requests")


def test_a_long_starvation_is_told() -> None:
    tenants = {"chat": entry(starvation_s_max=2.34), "batch": entry(starvation_s_max=None)}
    assert together(tenants).endswith("; chat once went 2.3 s without a token.")


# ---- What to make of it


def test_a_suspect_run_says_why() -> None:
    verdict = {"status": "suspect", "reasons": ["chat: sends ran late; add workers.", "b."], "checks": []}
    assert trust(verdict=verdict) == (
        "Don't build on these figures yet, the run is suspect (1 more reason above): chat: sends ran late; add workers."
    )


def test_a_sound_run_leads_on_to_what_is_not_known() -> None:
    assert trust() == "All 20 checks passed: run the plan interference to learn what the tenants cost each other."


def test_a_sound_run_with_interference_leads_on_to_other_modes() -> None:
    assert trust(interference=slowed(1.5)) == (
        "All 20 checks passed: compare it with other ways of sharing under the same load."
    )


def test_a_simulated_run_says_so() -> None:
    assert trust(run={"simulated": True}).startswith("All 20 checks passed, but no GPU stands behind the figures: ")


def test_thin_tails_say_how_long_to_run() -> None:
    thin = entry(ttft_scheduled_ms={"count": 100, "p99": 1.0, "certified": {"p99": False}})
    assert trust({"chat": thin, "batch": entry()}) == (
        "All 20 checks passed, but tails are indicative (chat has 100 of the 662 requests that a p99 needs): run 7 "
        "times as long before you rely on a tail."
    )
    thinner = entry(ttft_scheduled_ms={"count": 2, "p99": 1.0, "certified": {"p99": False}})
    assert trust({"chat": thinner}).endswith(": rely on medians only, or send far more requests.")


def test_a_short_warm_up_comes_first() -> None:
    warning = "the warm-up of 5 s is too short: output_tokens_per_s settles at about 12.5 s"
    steady: dict[str, Any] = {
        "chosen_warmup_s": 5.0,
        "suggested_warmup_s": 12.5,
        "too_short": True,
        "drift": {},
        "warnings": [warning],
    }
    assert trust(steady=steady) == (
        "All 20 checks passed, but the warm-up of 5 s is shorter than the 12.5 s that the figures suggest: set "
        "run.warmup_s to 13 or more and run again."
    )
    assert "warm-up" not in trust(steady={**steady, "warnings": [], "too_short": False})  # longer, but within noise
    assert "warm-up" not in trust(steady={**steady, "suggested_warmup_s": None})


def test_drift_is_told() -> None:
    steady: dict[str, Any] = {
        "chosen_warmup_s": 5.0,
        "suggested_warmup_s": None,
        "too_short": False,
        "warnings": [],
        "drift": {"x": {"drifts": True}},
    }
    assert trust(steady=steady) == (
        "All 20 checks passed, but the figures drift within the window: run for longer, or find out what changes."
    )


def test_broken_slos_ask_for_less_load() -> None:
    broken = entry(slo_attainment=0.5, slo_broken=True)
    assert trust({"chat": broken, "batch": entry()}).endswith(
        ": lower the load, or compare another way of sharing under the same load."
    )


# ---- In a summary


def test_a_summary_has_three_sentences(tmp_path: Path) -> None:
    records = [record(name, index, gaps_us=[20_000] * 9) for name in "ab" for index in range(20)]
    content = summarise(run(tmp_path, records, Tenant(id="a", slo=Slo(ttft_ms=100)), Tenant(id="b"))).content
    # 20 requests of 10 tokens in 10 s each; TTFT is 500 ms.
    assert content["answer"][0] == (
        "a got 20.0 and b 20.0 output tokens/s, 40.0 together; broken SLOs: a's (0.0% of requests met it)."
    )
    assert content["answer"][1].startswith("Service by weight was shared evenly (Jain's index 1.000")
    assert len(content["answer"]) == 3
    assert [name for name, one in content["tenants"].items() if one["slo_broken"]] == ["a"]


@pytest.mark.parametrize("outcome", ["timeout", "shed", "cancelled"])
def test_a_summary_of_failures_only(tmp_path: Path, outcome: str) -> None:
    content = summarise(run(tmp_path, [record(name, outcome=outcome) for name in "ab"])).content
    assert content["answer"][0].endswith("all 2 requests failed.")
    assert all(sentence.endswith(".") for sentence in content["answer"])


def test_a_summary_of_nothing(tmp_path: Path) -> None:
    answered = summarise(run(tmp_path, [], info={"workers": [worker(0)]})).content["answer"]
    assert answered[0].startswith("No request was scheduled in the window")
    assert len(answered) == 3
