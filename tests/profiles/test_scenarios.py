"""The scenarios that ship: well formed, and each shows what it is about. Their runs are shortened; margins are wide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import get_args

import pytest

from analysis.load import load_run
from analysis.summary import summarise
from fairshare_locust.__main__ import main
from fairshare_locust.profile import Profile, load_profile
from fairshare_locust.profile.model import Sharing
from fairshare_locust.record import RequestRecord
from fairshare_locust.simulator.virtual import VirtualRun
from fairshare_locust.trace import load_traces
from tests.profiles.conftest import PROFILES, SHORTENED, ScenarioRun

SHIPPED = sorted(PROFILES.glob("*.yaml"))
SIMULATED = [path for path in SHIPPED if load_profile(path).deployment.engine == "simulator"]


def of(name: str) -> Callable[..., pytest.MarkDecorator]:
    """A test on the run of this scenario."""
    return pytest.mark.parametrize("scenario", [name], indirect=True)


# --- files


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_profile_is_named_as_its_file(path: Path) -> None:
    assert load_profile(path).name == path.stem


@pytest.mark.parametrize("path", [path for path in SIMULATED if path.stem != "demo"], ids=lambda path: path.stem)
def test_a_scenario_opens_with_its_question_and_where_to_look(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    opening = text[: text.index("name: ")].splitlines()
    words = " ".join(line.removeprefix("#").strip() for line in opening)

    assert all(line.startswith("#") for line in opening)
    assert "?" in words
    assert "look at " in words.lower() or "look for " in words.lower()


@pytest.mark.parametrize("path", SIMULATED, ids=lambda path: path.stem)
def test_a_scenario_passes_the_check(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(path)])

    said = capsys.readouterr()
    assert code == 0, said.err
    assert all(tenant.id in said.out for tenant in load_profile(path).tenants)


OF_EXPERIMENTS = ("decomposition", "solo_multitenant")  # tests/experiments runs these


def test_every_scenario_is_run_somewhere() -> None:
    assert sorted(path.stem for path in SIMULATED) == sorted([*SHORTENED, *OF_EXPERIMENTS, "sharing"])


def test_an_engine_each_costs_throughput_and_shares_it_better(tmp_path: Path) -> None:
    """The modes of sharing.yaml, in virtual time."""
    profile = load_profile(PROFILES / "sharing.yaml")
    tokens_per_s, jain = {}, {}
    for mode in get_args(Sharing):
        shared = replace(profile, deployment=replace(profile.deployment, sharing=mode))
        content = summarise(load_run(VirtualRun(shared, "mixed").run(tmp_path, mode).path)).content
        tokens_per_s[mode] = content["totals"]["output_tokens_per_s"]
        jain[mode] = content["fairness"]["jain_throughput"]
    assert tokens_per_s["logical"] > 1.2 * tokens_per_s["mps"]
    assert tokens_per_s["mps"] > tokens_per_s["mig"]  # what one does not use, the others have
    assert jain["logical"] < jain["mig"] < jain["mps"]


# --- runs


@pytest.mark.parametrize("scenario", SHORTENED, indirect=True)
def test_every_request_is_answered_as_asked(scenario: ScenarioRun) -> None:
    records = scenario.records

    assert scenario.finished.code == 0, scenario.finished.output
    assert {record.tenant for record in records} == {tenant.id for tenant in scenario.profile.tenants}
    assert {record.outcome for record in records} == {"ok"}
    assert all(record.output_tokens == record.requested_output_tokens for record in records)


@of("overload")
def test_overload_lets_everyone_wait_and_goodput_collapse(scenario: ScenarioRun) -> None:
    within, beyond = (scenario.part(f"{name}/measure") for name in ("within", "beyond"))

    met, due = dict.fromkeys(("within", "beyond"), 0.0), dict.fromkeys(("within", "beyond"), 0.0)
    for tenant in ("chat", "crowd"):  # the one that asks for little is no better off
        before, after = (part["tenants"][tenant] for part in (within, beyond))
        assert after["ttft_scheduled_ms"]["p95"] > 4 * before["ttft_scheduled_ms"]["p95"]
        met["within"] += before["slo_attainment"] * before["scheduled"]
        met["beyond"] += after["slo_attainment"] * after["scheduled"]
        due["within"] += before["scheduled"]
        due["beyond"] += after["scheduled"]
    assert beyond["totals"]["scheduled"] > 1.5 * within["totals"]["scheduled"]
    # Cut short, the run ends while the queue still grows.
    assert met["beyond"] / due["beyond"] < 0.6 * met["within"] / due["within"]


@of("noisy_neighbour")
def test_a_noisy_neighbour_harms_while_it_is_there(scenario: ScenarioRun) -> None:
    before, present, after = (scenario.part(f"measure-{number}") for number in (1, 2, 3))

    def chat(part: dict[str, dict[str, dict[str, dict[str, float]]]], percentile: str) -> float:
        return part["tenants"]["chat"]["ttft_scheduled_ms"][percentile]

    assert ["batch" in part["tenants"] for part in (before, present, after)] == [False, True, False]
    assert chat(present, "p95") > 4 * chat(before, "p95")
    assert chat(after, "p50") < chat(present, "p50") / 4
    assert present["tenants"]["chat"]["slo_attainment"] < 0.5


@of("prompt_bomb")
def test_a_prompt_bomb_stalls_the_decode_of_others(scenario: ScenarioRun) -> None:
    without, present = (scenario.part(f"measure-{number}") for number in (1, 2))
    options = scenario.profile.deployment.simulator

    for tenant in ("chat", "steady"):
        assert present["tenants"][tenant]["tpot_ms"]["p50"] > 1.4 * without["tenants"][tenant]["tpot_ms"]["p50"]
        # A step full of prompt tokens lasts as long as they take; nobody gets a token before it ends.
        full_step_ms = options.max_num_batched_tokens * options.compute_per_token_us / 1000
        assert scenario.summary["tenants"][tenant]["icl_ms"]["p99"] > 0.9 * full_step_ms


@of("short_long_mix")
def test_short_answers_do_not_wait_for_long_ones(scenario: ScenarioRun) -> None:
    short, long = (scenario.summary["tenants"][name] for name in ("short", "long"))
    fairness = scenario.summary["fairness"]

    assert 0.6 < short["tpot_ms"]["p50"] / long["tpot_ms"]["p50"] < 1.6
    assert long["e2e_ms"]["p50"] > 4 * short["e2e_ms"]["p50"]
    assert fairness["jain_throughput"] < 0.85
    assert fairness["jain_demand"] > 0.9


@of("on_off")
def test_bursts_make_the_tail_of_who_is_always_there(scenario: ScenarioRun) -> None:
    ttft_ms = scenario.summary["tenants"]["steady"]["ttft_scheduled_ms"]

    assert ttft_ms["p95"] > 4 * ttft_ms["p50"]


@of("on_off")
def test_bursts_come_and_go(scenario: ScenarioRun) -> None:
    arrival = next(tenant.arrival for tenant in scenario.profile.tenants if tenant.id == "bursty")
    assert arrival.process == "on_off"
    period_s = arrival.on_s + arrival.off_s

    bursts = defaultdict(list)
    for record in scenario.records:
        if record.tenant == "bursty":
            bursts[record.scheduled_s // period_s].append(record.scheduled_s % period_s)

    assert len(bursts) >= 2
    assert all(offset_s <= arrival.on_s for offsets_s in bursts.values() for offset_s in offsets_s)


@of("ramping_aggressor")
def test_a_ramp_is_borne_until_the_server_is_full(scenario: ScenarioRun) -> None:
    timeline = scenario.summary["timeline"]
    run, arrival = scenario.profile.run, scenario.profile.tenants[1].arrival
    assert arrival.process == "ramp"
    assert run.duration_s is not None
    end_s = run.warmup_s + run.duration_s
    starts_s, chat, aggressor = timeline["t_s"], timeline["tenants"]["chat"], timeline["tenants"]["aggressor"]

    def between(values: list[float | None], from_s: float, to_s: float) -> list[float]:
        return [v for t, v in zip(starts_s, values, strict=True) if from_s <= t < to_s and v is not None]

    half_s = arrival.after_s + arrival.over_s / 2
    early, late = (arrival.after_s, half_s), (end_s - arrival.over_s / 6, end_s)
    assert mean(between(aggressor["asked_requests_per_s"], *late)) > 2 * mean(
        between(aggressor["asked_requests_per_s"], *early)
    )
    ttft_p50_ms = chat["ttft_scheduled_ms"]["p50"]
    assert mean(between(ttft_p50_ms, *late)) > 4 * min(between(ttft_p50_ms, *early))


@of("priority")
def test_priority_lets_chat_overtake(scenario: ScenarioRun) -> None:
    chat, batch = (scenario.summary["tenants"][name] for name in ("chat", "batch"))

    assert chat["ttft_scheduled_ms"]["p95"] < batch["ttft_scheduled_ms"]["p50"] / 2
    assert 0.5 < chat["tpot_ms"]["p50"] / batch["tpot_ms"]["p50"] < 2  # overtaking is in the queue only


@of("weighted")
def test_a_server_without_weights_gives_equal_parts(scenario: ScenarioRun) -> None:
    tokens_per_s = {name: entry["output_tokens_per_s"] for name, entry in scenario.summary["tenants"].items()}
    fairness = scenario.summary["fairness"]

    assert max(tokens_per_s.values()) < 1.3 * min(tokens_per_s.values())
    assert fairness["jain_throughput"] == pytest.approx(2.5**2 / (3 * 2.25), abs=0.04)
    assert 1.6 < fairness["max_min_ratio"] < 2.5


@of("azure_code_and_chat")
def test_code_gets_prompts_read_and_conversation_gets_answers(scenario: ScenarioRun) -> None:
    lengths = {
        name: (
            mean(record.input_tokens or 0 for record in scenario.records if record.tenant == name),
            mean(record.output_tokens or 0 for record in scenario.records if record.tenant == name),
        )
        for name in ("code", "conv")
    }
    fairness = scenario.summary["fairness"]

    assert lengths["code"][0] > 1.2 * lengths["conv"][0]
    assert lengths["conv"][1] > 3 * lengths["code"][1]
    assert fairness["jain_service"] > fairness["jain_throughput"] + 0.1


@of("fairshare_l4")
def test_the_l4_gives_figures_like_the_published(scenario: ScenarioRun) -> None:
    totals, fairness = scenario.summary["totals"], scenario.summary["fairness"]

    assert totals["output_tokens_per_s"] == pytest.approx(569.8, rel=0.2)
    assert totals["e2e_ms"]["p95"] == pytest.approx(4580, rel=0.3)
    assert fairness["jain_throughput"] == pytest.approx(0.957, abs=0.03)


@of("gpushare_matrix")
def test_beyond_the_knee_concurrency_buys_only_waiting(scenario: ScenarioRun) -> None:
    parts = [scenario.part(f"concurrency-{streams}/measure")["totals"] for streams in (8, 16, 24)]

    few, more, most = (part["e2e_ms"]["p50"] for part in parts)
    assert few < more / 1.3
    assert few < most / 1.8
    assert parts[2]["output_tokens_per_s"] < 1.5 * parts[0]["output_tokens_per_s"]
    assert [part["load"] for part in scenario.summary["phases"]] == [1, 2, 3]


@of("conversations")
def test_each_turn_carries_all_that_was_said(scenario: ScenarioRun) -> None:
    workload = scenario.profile.tenants[0].workload
    assert workload.source == "conversation"
    assert workload.input_tokens.distribution == "uniform"
    said = defaultdict(list)
    for record in scenario.records:
        if record.tenant == "chat":
            said[record.session].append(record)
        else:
            assert record.session is None

    follow_ups = 0
    for turns in said.values():
        turns.sort(key=lambda record: record.turn or 0)
        assert [record.turn for record in turns] == list(range(len(turns)))
        for before, after in pairwise(turns):
            assert after.input_tokens is not None
            assert before.input_tokens is not None
            assert before.output_tokens is not None
            new_tokens = after.input_tokens - before.input_tokens - before.output_tokens
            assert workload.input_tokens.low <= new_tokens <= workload.input_tokens.high + _SEAM_TOKENS
            follow_ups += 1
    assert follow_ups >= 5


_SEAM_TOKENS = 10  # what a tokenizer may count more where two texts meet


@of("trace_replay")
def test_each_tenant_sends_its_own_rows_of_a_trace(scenario: ScenarioRun) -> None:
    sent: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in scenario.records:
        sent[record.tenant].append(record)
    traces = load_traces(scenario.profile)

    for tenant in scenario.profile.tenants:
        if tenant.workload.source != "trace":
            continue
        rows = traces[tenant.workload.trace].of_tenant(tenant.id)
        longest = tenant.workload.max_output_tokens
        assert longest is not None
        for record in sent[tenant.id]:
            row_tokens = int(rows.output_tokens[record.index % len(rows.output_tokens)])
            assert record.output_tokens == min(row_tokens, longest)


def test_the_parts_of_a_trace_are_all_of_it() -> None:
    profile: Profile = load_profile(PROFILES / "trace_replay.yaml")
    traces = load_traces(profile)

    ways = {trace.name: trace.assign.by for trace in profile.traces if trace.assign is not None}
    assert set(ways.values()) == {"share", "session", "model", "hash"}
    for trace in profile.traces:
        assert trace.assign is not None
        parts = [len(traces[trace.name].of_tenant(tenant).times_s) for tenant in trace.assign.shares]
        assert all(parts), f"a tenant of {trace.name} has no row"
