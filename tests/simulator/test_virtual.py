"""A profile in virtual time: worked out by hand, and against what the arrival queues and the prompts give."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.load import load_run
from analysis.summary import summarise
from fairshare_locust.__main__ import main
from fairshare_locust.arrival import Window, arrival_queue
from fairshare_locust.errors import ServingError
from fairshare_locust.plan import phases_of
from fairshare_locust.profile import Profile
from fairshare_locust.record import RequestRecord, RunDirectory
from fairshare_locust.simulator.virtual import VirtualRun
from fairshare_locust.workload import prepare_prompts
from tests.analysis.build import quick_pictures
from tests.profile.profiles import parse

# A step lasts 10 ms, 2 ms more for each sequence that decodes, and 1 ms for each token.
PLAIN = "step_base_ms: 10, step_per_sequence_us: 2000, compute_per_token_us: 1000"

ONE = "{process: constant, rate_per_s: 0.01}"  # at 0 s, and at 100 s
WORDS = "{source: synthetic, input_tokens: 32, output_tokens: 3}"


def text(
    *tenants: str, options: str = PLAIN, run: str = "warmup_s: 0, duration_s: 1, drain_s: 5", more: str = ""
) -> str:
    head = f"name: v\nseed: 5\nrun: {{{run}}}\nmodel: {{name: tiny}}\n"
    return f"{head}deployment: {{simulator: {{{options}}}}}\n{more}tenants:\n" + "".join(
        f"  - {{id: {name}, {rest}}}\n" for name, rest in (tenant.split(" ", 1) for tenant in tenants)
    )


def simulated(
    folder: Path, profile: Profile | str, plan: str = "mixed"
) -> tuple[list[RequestRecord], dict[str, Any], RunDirectory]:
    """The records as they ended, `run.json`, and where both stand."""
    directory = VirtualRun(parse(profile) if isinstance(profile, str) else profile, plan).run(folder)
    lines = directory.requests.read_bytes().splitlines()
    return [RequestRecord.from_json(line) for line in lines], directory.read_run(), directory


def test_one_request(tmp_path: Path) -> None:
    """32 tokens in 10 + 32 ms, then a token in each 10 + 2 + 1 ms."""
    [record], run, _ = simulated(tmp_path, text(f"a arrival: {ONE}, workload: {WORDS}"))
    assert (record.request_id, record.phase, record.outcome) == ("a-000000", "measure", "ok")
    assert (record.scheduled_s, record.sent_s, record.headers_s) == (0, 0, 0)
    assert (record.first_token_s, record.last_token_s, record.ended_s) == (0.042, 0.068, 0.068)
    assert record.chunk_gap_us == [13_000, 13_000]
    assert (record.input_tokens, record.output_tokens, record.finish_reason) == (32, 3, "length")
    assert record.engine == {"queued_s": 0, "prefill_s": 0.042, "decode_s": 0.026}
    assert run["asked"] == {"a": {"scheduled": 1, "due": 1}}
    # Nothing is under way when the measurement ends, at 1 s: nor is there anything to drain.
    assert [(part["name"], part["start_s"], part["end_s"]) for part in run["phases"]] == [
        ("measure", 0, 1),
        ("drain", 1, 1),
    ]
    assert run["ended_s"] == 1


def test_two_that_batch(tmp_path: Path) -> None:
    """Both are due at 0. The second comes when the first's step has begun, and waits for the next.

    Prefill of the first until 42 ms; its second token with the second's prefill in 10 + 2 + 33 ms until 87 ms; both
    decode in 10 + 4 + 2 ms until 103 ms; the second's last token in 13 ms until 116 ms.
    """
    run = "warmup_s: 0, duration_s: 0.05, drain_s: 5"
    records, content, _ = simulated(
        tmp_path, text(f"a arrival: {{process: closed, concurrency: 2}}, workload: {WORDS}", run=run)
    )
    first, second = records
    assert (first.first_token_s, first.chunk_gap_us, first.ended_s) == (0.042, [45_000, 16_000], 0.103)
    assert (second.first_token_s, second.chunk_gap_us, second.ended_s) == (0.087, [16_000, 13_000], 0.116)
    assert second.engine == {"queued_s": 0.042, "prefill_s": 0.045, "decode_s": 0.029}
    assert content["ended_s"] == 0.116


def test_two_that_take_turns(tmp_path: Path) -> None:
    """The host's 10 or 12 ms leave the GPU to the other: it computes 32 tokens of a from 10 ms, of b from 42 ms.

    Then one token each: a from 74 and from 87 ms, b from 86 and from 99 ms.
    """
    options = f"{PLAIN}, quantum_ms: 1000, switch_us: 0, memory_mib: 80000"
    profile = parse(
        text(f"a arrival: {ONE}, workload: {WORDS}", f"b arrival: {ONE}, workload: {WORDS}", options=options)
    )
    profile = replace(profile, deployment=replace(profile.deployment, sharing="timeslice"))
    a, b = simulated(tmp_path, profile)[0]
    assert (a.first_token_s, a.chunk_gap_us, a.endpoint) == (0.042, [33_000, 13_000], "virtual:0")
    assert (b.first_token_s, b.chunk_gap_us, b.endpoint) == (0.074, [13_000, 13_000], "virtual:1")


def test_the_requests_are_those_of_a_run(tmp_path: Path) -> None:
    """Names, times, prompts and lengths are what the tenant's own queue and prompts give."""
    profile = parse(
        text(
            "a arrival: {process: poisson, rate_per_s: 30}, workload: {source: synthetic, input_tokens: "
            "{distribution: uniform, low: 8, high: 40}, output_tokens: {distribution: uniform, low: 1, high: 9}}",
            "b api: tgi, arrival: {process: gamma, rate_per_s: 9, burstiness: 2}, workload: {source: prefix, "
            "groups: 3, prefix_tokens: 40, input_tokens: 8, output_tokens: 4}",
            run="warmup_s: 2, duration_s: 5, drain_s: 100",
            options="chat_template_tokens: 3",
        )
    )
    records, run, _ = simulated(tmp_path, profile)
    prompts = prepare_prompts(profile, phases_of(profile), overhead_tokens={"a": 3})
    for tenant in profile.tenants:
        due = list(arrival_queue(tenant.arrival, profile.seed, tenant.id, Window(0, 2, 7)).untaken())
        own = sorted((record for record in records if record.tenant == tenant.id), key=lambda record: record.index)
        assert len(due) > 30
        assert [record.request_id for record in own] == [f"{tenant.id}-{arrival.index:06d}" for arrival in due]
        assert [record.scheduled_s for record in own] == [round(arrival.due_s, 6) for arrival in due]
        assert [record.phase for record in own] == ["warmup" if arrival.due_s < 2 else "measure" for arrival in due]
        for record in own:
            wanted = prompts[tenant.id].request(record.index)
            assert record.prompt_sha == wanted.sha
            assert record.input_tokens == wanted.input_tokens
            assert record.output_tokens == record.requested_output_tokens == wanted.output_tokens
            assert record.chunk_tokens == ([1] * wanted.output_tokens if tenant.api == "tgi" else None)
            assert record.sent_s == record.scheduled_s
        assert run["asked"][tenant.id] == {"scheduled": len(due), "due": len(due)}


def test_a_closed_loop_keeps_its_concurrency(tmp_path: Path) -> None:
    run = "warmup_s: 1, duration_s: 4, drain_s: 5"
    records, content, _ = simulated(
        tmp_path, text(f"a arrival: {{process: closed, concurrency: 3}}, workload: {WORDS}", run=run)
    )
    assert sorted(record.index for record in records) == list(range(len(records)))
    assert content["asked"]["a"] == {"scheduled": len(records), "due": None}
    times = sorted({record.ended_s for record in records if record.ended_s is not None})
    under_way = [
        sum(r.sent_s <= at_s < r.ended_s for r in records if r.sent_s is not None and r.ended_s) for at_s in times
    ]
    assert {count for at_s, count in zip(times, under_way, strict=True) if at_s < 5} == {3}
    assert len(records) > 50


def test_a_number_of_requests(tmp_path: Path) -> None:
    """It ends when the closed loop, the slower of the two, has had its 6; the window when the other has, at 1 s."""
    records, run, _ = simulated(
        tmp_path,
        text(
            "a arrival: {process: constant, rate_per_s: 6}, workload: {source: synthetic, input_tokens: 1, "
            "output_tokens: 1}",
            "b arrival: {process: closed, concurrency: 1, think_s: 1}, workload: {source: synthetic, input_tokens: 1, "
            "output_tokens: 1}",
            run="warmup_s: 0, requests: 6, drain_s: 5",
        ),
    )
    assert Counter(record.tenant for record in records) == {"a": 6, "b": 6}
    assert {record.phase for record in records if record.scheduled_s < 1} == {"measure"}
    assert {record.phase for record in records if record.scheduled_s >= 1} == {"drain"}
    assert (run["phases"][0]["name"], run["phases"][0]["end_s"]) == ("measure", 1)
    assert "'a' had its 6 requests first, 1.0 s" in run["notes"][0]


def test_the_drain_cancels(tmp_path: Path) -> None:
    """One slot, an answer of 100 tokens that takes 1.3 s; 3 are due by 0.5 s, and 0.5 s later all is over."""
    records, run, _ = simulated(
        tmp_path,
        text(
            "a arrival: {process: constant, rate_per_s: 5, max_in_flight: 1}, workload: {source: synthetic, "
            "input_tokens: 32, output_tokens: 100}",
            run="warmup_s: 0, duration_s: 0.5, drain_s: 0.5",
        ),
    )
    cut, *unsent = sorted(records, key=lambda record: record.index)
    assert {record.outcome for record in records} == {"cancelled"}
    assert (cut.error, cut.ended_s, cut.status) == ("not finished 0.5 s after the measurement", 1.0, 200)
    # The first token at 42 ms, one more in every 13: at 991 ms the last of 74.
    assert (cut.first_token_s, cut.last_token_s, cut.output_tokens) == (0.042, 0.991, 74)
    assert cut.finish_reason is None
    assert [(record.index, record.sent_s) for record in unsent] == [(1, None), (2, None)]
    assert {record.error for record in unsent} == {"not finished 0.5 s after the measurement; no slot was free"}
    assert run["asked"]["a"] == {"scheduled": 3, "due": 3}


def test_what_finds_no_slot_is_shed(tmp_path: Path) -> None:
    records, run, _ = simulated(
        tmp_path,
        text(
            "a arrival: {process: constant, rate_per_s: 20, max_in_flight: 1, overflow: shed}, "
            f"workload: {WORDS}",  # each takes 68 ms, so that every second one finds it busy
        ),
    )
    outcomes = Counter(record.outcome for record in records)
    assert outcomes == {"ok": 10, "shed": 10}
    assert {record.sent_s for record in records if record.outcome == "shed"} == {None}
    assert run["asked"]["a"] == {"scheduled": 20, "due": 20}


@pytest.mark.parametrize(
    ("limit", "why", "ended_s", "tokens"),
    [
        ("first_token_s: 0.02", "first_token_s: no token within 0.02 s", 0.02, None),
        ("total_s: 0.06", "total_s: not finished within 0.06 s", 0.06, 2),
        ("between_tokens_s: 0.005", "between_tokens_s: no token for 0.005 s", 0.047, 1),
        ("between_tokens_s: 0.014", None, 0.068, 3),
    ],
)
def test_timeouts(tmp_path: Path, limit: str, why: str | None, ended_s: float, tokens: int | None) -> None:
    """As one request: tokens at 42, 55 and 68 ms. A timeout between tokens is looked at from the first token on."""
    limits = f"timeouts: {{{'first_token_s: 0.042, ' if 'between' in limit else ''}{limit}}}"
    [record], _, _ = simulated(tmp_path, text(f"a {limits}, arrival: {ONE}, workload: {WORDS}"))
    assert record.outcome == ("timeout" if why else "ok")
    assert (record.error, record.ended_s, record.output_tokens) == (why, ended_s, tokens)


def test_a_closed_loop_rests_after_a_refusal(tmp_path: Path) -> None:
    """1,000 tokens at most; each of the 4 that are sent in 2 s is refused in the server's words."""
    workload = "{source: synthetic, input_tokens: 900, output_tokens: 101}"
    records, _, _ = simulated(
        tmp_path,
        text(
            f"a arrival: {{process: closed, concurrency: 1}}, workload: {workload}",
            options=f"{PLAIN}, max_model_len: 1000",
            run="warmup_s: 0, duration_s: 2, drain_s: 1",
        ),
    )
    assert [(record.sent_s, record.ended_s) for record in records] == [(at, at) for at in (0, 0.5, 1, 1.5)]
    assert {(record.outcome, record.status) for record in records} == {("http_error", 400)}
    assert str(records[0].error).startswith("HTTP 400: This model's maximum context length is 1000 tokens. However, ")


def test_a_conversation(tmp_path: Path) -> None:
    """Each turn has all before it, and is due when the think time after the answer is over."""
    workload = "{source: conversation, turns: 3, system_tokens: 16, input_tokens: 20, output_tokens: 5, think_s: 0.25}"
    records, run, _ = simulated(
        tmp_path,
        text(
            f"a arrival: {ONE}, workload: {workload}",
            options=f"{PLAIN}, prefix_caching: true",
            run="warmup_s: 0, duration_s: 3, drain_s: 1",
        ),
    )
    assert [record.request_id for record in records] == ["a-000000.0", "a-000000.1", "a-000000.2"]
    assert {record.session for record in records} == {"a-000000"}
    assert [record.input_tokens for record in records] == [36, 61, 86]
    assert [record.prompt_sha is None for record in records] == [False, True, True]
    for before, after in pairwise(records):
        assert after.scheduled_s == after.sent_s == pytest.approx((before.ended_s or 0) + 0.25)
    # In the cache: 2 full blocks of the first turn's 36 tokens, then 3 of the second's 61.
    prefill_ms = [round(((r.first_token_s or 0) - (r.sent_s or 0)) * 1000, 3) for r in records]
    assert prefill_ms == [10 + 36, 10 + 61 - 32, 10 + 86 - 48]
    assert run["asked"]["a"] == {"scheduled": 3, "due": 1}


def test_prompts_that_begin_alike_are_found_in_the_cache(tmp_path: Path) -> None:
    """64 tokens of 80 are those of the prompt before; not for whom another salt keeps apart."""
    workload = (
        "workload: {source: prefix, groups: 1, share_prefix: true, prefix_tokens: 64, input_tokens: 16, "
        "output_tokens: 1}"
    )
    arrival = "arrival: {process: constant, rate_per_s: 1.5}"
    records, _, _ = simulated(
        tmp_path,
        text(f"a {arrival}, {workload}", f"b cache_salt: own, {arrival}, {workload}", run="warmup_s: 0, duration_s: 1"),
    )
    compute_s = [(record.tenant, (record.engine or {})["prefill_s"]) for record in records]
    assert compute_s == [("a", 0.09), ("b", 0.09), ("a", 0.026), ("b", 0.026)]


def test_answers_that_end_by_themselves(tmp_path: Path) -> None:
    """TGI can only cap them, and others can be left to end: the same prompts end after as many tokens."""
    workload = "workload: {source: synthetic, input_tokens: 16, output_tokens: 4000}"
    records, run, _ = simulated(
        tmp_path,
        text(
            f"a arrival: {ONE}, sampling: {{ignore_eos: false}}, {workload}",
            f"b api: tgi, arrival: {ONE}, {workload}",
            run="warmup_s: 0, duration_s: 1, drain_s: 100",
        ),
    )
    assert {record.finish_reason for record in records} == {"stop"}
    assert all(1 < (record.output_tokens or 0) < 4000 for record in records)
    assert [server["fixed_length"] for server in run["servers"]] == [True, False]


def test_tokens_of_those_that_were_preempted(tmp_path: Path) -> None:
    """Room for 20 blocks; 8 at once want up to 13 each. A preempted one gets its tokens later, and none is lost."""
    profile = parse(
        text(
            "a arrival: {process: batch, size: 8}, workload: {source: synthetic, input_tokens: 32, output_tokens: 160}",
            options=f"{PLAIN}, kv_capacity_tokens: 320, max_model_len: 320",
            run="warmup_s: 0, duration_s: 1, drain_s: 100",
        )
    )
    records, _, _ = simulated(tmp_path, profile)
    assert {record.outcome for record in records} == {"ok"}
    assert {record.output_tokens for record in records} == {160}
    assert max(max(record.chunk_gap_us or []) for record in records) > 500_000  # somebody waited
    for record in records:
        assert (record.first_token_s or 0) + sum(record.chunk_gap_us or []) / 1e6 == pytest.approx(record.last_token_s)


def test_phases_of_a_plan(tmp_path: Path) -> None:
    """Each alone, then both: the same schedule in each phase, which begins when the drain before it ends."""
    arrival = "arrival: {process: poisson, rate_per_s: 10}"
    records, run, _ = simulated(
        tmp_path, text(f"a {arrival}, workload: {WORDS}", f"b {arrival}, workload: {WORDS}"), "interference"
    )
    names = [part["name"] for part in run["phases"]]
    assert names == [f"{phase}/{part}" for phase in ("solo-a", "solo-b", "all") for part in ("measure", "drain")]
    for before, after in pairwise(run["phases"]):
        assert before["end_s"] == after["start_s"]
    starts_s = {part["name"]: part["start_s"] for part in run["phases"]}
    alone = [r.scheduled_s - starts_s["solo-a/measure"] for r in records if r.phase == "solo-a/measure"]
    mixed = [r for r in records if r.phase == "all/measure" and r.tenant == "a"]
    assert sorted(alone) == pytest.approx(sorted(r.scheduled_s - starts_s["all/measure"] for r in mixed), abs=3e-6)
    assert {r.request_id.partition("/")[0] for r in mixed} == {"all"}
    assert run["plan"] == "interference"


def test_the_loads_end_where_an_slo_breaks(tmp_path: Path) -> None:
    tenant = f"a slo: {{ttft_ms: 60}}, arrival: {{process: constant, rate_per_s: 20}}, workload: {WORDS}"
    _, run, _ = simulated(tmp_path, text(tenant), "steps")
    loads = {part["load"] for part in run["phases"]}
    assert 0.25 in loads
    assert 4.0 not in loads
    assert "the phases after it are left out" in run["notes"][-1]


def test_a_run_like_any_other_but_marked(tmp_path: Path) -> None:
    profile = text(
        f"a slo: {{ttft_ms: 500}}, arrival: {{process: poisson, rate_per_s: 20}}, workload: {WORDS}",
        f"b arrival: {{process: closed, concurrency: 2}}, workload: {WORDS}",
        run="warmup_s: 1, duration_s: 10, drain_s: 5",
    )
    _, run, directory = simulated(tmp_path, profile)
    content = summarise(load_run(directory.path)).content
    assert content["verdict"]["status"] == "valid", content["verdict"]["reasons"]
    assert (content["run"]["simulated"], content["run"]["time"]) == (True, "virtual")
    assert content["sources"]["locust_agrees"] is None
    assert (run["time"], run["state"], run["workers"][0]["state"]) == ("virtual", "complete", "complete")
    assert {server["simulated"] for server in run["servers"]} == {True}


def test_a_server_that_runs_already_cannot_be_simulated() -> None:
    profile = parse(text(f"a arrival: {ONE}, workload: {WORDS}"))
    external = replace(profile, deployment=replace(profile.deployment, engine="external"))
    with pytest.raises(ServingError, match="engine: simulator"):
        VirtualRun(external, "mixed")


_ARRIVALS = st.sampled_from(
    [
        "{process: poisson, rate_per_s: 15, max_in_flight: 3}",
        "{process: gamma, rate_per_s: 20, burstiness: 3, max_in_flight: 2, overflow: shed}",
        "{process: closed, concurrency: 3, think_s: 0.1}",
        "{process: batch, size: 4, think_s: 0.2}",
        "{process: constant, rate_per_s: 12, active_s: [[0.5, 1.5], [2, 9]]}",
    ]
)
_WORKLOADS = st.sampled_from(
    [
        "{source: synthetic, input_tokens: {distribution: uniform, low: 1, high: 300}, output_tokens: 20}",
        "{source: synthetic, input_tokens: 5, output_tokens: {distribution: uniform, low: 1, high: 100}}",
        "{source: prefix, groups: 2, prefix_tokens: 50, input_tokens: 20, output_tokens: 9}",
        "{source: conversation, turns: 3, input_tokens: 30, output_tokens: 12, think_s: 0.2}",
    ]
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(_ARRIVALS, _WORKLOADS, st.sampled_from(["", "api: tgi, ", "timeouts: {total_s: 0.9}, "])),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["fcfs", "priority", "vtc", "drr"]),
    st.sampled_from(["warmup_s: 0.5, duration_s: 3, drain_s: 0.5", "warmup_s: 0, duration_s: 2, drain_s: 60"]),
)
def test_every_request_has_one_record(
    tmp_path: Path, tenants: list[tuple[str, str, str]], policy: str, run: str
) -> None:
    """Whatever comes: one record each, in the order of its stamps, with as many gaps as they must be."""
    lines = [f"t{i} {more}arrival: {arrival}, workload: {work}" for i, (arrival, work, more) in enumerate(tenants)]
    options = (
        "step_base_ms: 4, compute_per_token_us: 100, kv_capacity_tokens: 1024, max_model_len: 1024, max_num_seqs: 8, "
        f"max_num_batched_tokens: 64, scheduling_policy: {policy}"
    )
    records, content, _ = simulated(tmp_path, text(*lines, options=options, run=run))
    counts = Counter(record.tenant for record in records)
    assert {name: asked["scheduled"] for name, asked in content["asked"].items()} == {
        name: counts[name] for name in content["asked"]
    }
    assert len({record.request_id for record in records}) == len(records)
    for record in records:
        stamps = [record.scheduled_s, record.sent_s, record.first_token_s, record.last_token_s, record.ended_s]
        known = [stamp for stamp in stamps if stamp is not None]
        assert known == sorted(known)
        if record.first_token_s is not None:
            assert record.chunk_gap_us is not None
            assert record.last_token_s is not None
            assert len(record.chunk_gap_us) + 1 == record.output_tokens
            assert round((record.last_token_s - record.first_token_s) * 1e6) == sum(record.chunk_gap_us)
        if record.outcome == "ok" and record.api != "tgi":
            assert record.output_tokens == record.requested_output_tokens


def test_neither_locust_nor_gevent_is_loaded() -> None:
    """Locust would patch the standard library of whoever draws the report in this process."""
    code = "import sys, fairshare_locust.simulator.comparison; print({'gevent', 'locust'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout == "set()\n"


# --- the command

_SHARED = text(
    f"a arrival: {{process: poisson, rate_per_s: 10}}, workload: {WORDS}",
    f"b arrival: {{process: closed, concurrency: 2}}, workload: {WORDS}",
    options=f"{PLAIN}, memory_mib: 80000",
    run="warmup_s: 0, duration_s: 5, drain_s: 5",
)


def command(folder: Path, profile: str, *more: str) -> int:
    (folder / "p.yaml").write_text(profile)
    return main(["simulate", str(folder / "p.yaml"), "--out", str(folder / "runs"), "--no-report", *more])


def runs(folder: Path) -> list[RunDirectory]:
    return [RunDirectory(path) for path in sorted((folder / "runs").iterdir()) if not path.is_symlink()]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, _SHARED, "--seed", "9", "--scale", "2", "--plan", "solo") == 0
    [directory] = runs(tmp_path)
    run = directory.read_run()
    assert (run["seed"], run["plan"], run["name"]) == (9, "solo", "v")
    assert "concurrency: 4" in directory.profile.read_text()
    assert not (directory.path / "analysis").exists()
    assert str(directory.path) in capsys.readouterr().out


def test_several_modes_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MIG needs a card that is named, and none is: it is told, and the others go on."""
    monkeypatch.setenv("COLUMNS", "120")
    assert command(tmp_path, _SHARED, "--sharing", "logical", "mig", "timeslice") == 0
    assert [directory.path.name.split("-", 1)[1] for directory in runs(tmp_path)] == ["v-logical", "v-timeslice"]
    assert [run.read_run()["servers"][-1]["sharing"] for run in runs(tmp_path)] == ["logical", "timeslice"]
    out, error = capsys.readouterr()
    assert [line.split() for line in out.splitlines() if line.split() == ["logical", "timeslice"]]
    [output] = [line.split()[-2:] for line in out.splitlines() if line.startswith("output, tokens/s")]
    assert all(float(figure.rstrip("*≈").replace(",", "")) > 0 for figure in output)
    assert "No tenant has an SLO, so none can break. Choose " in out
    assert re.search(r"fairshare: mig can't be run: .*gpu", error)


def test_no_mode_that_could_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = _SHARED.replace("memory_mib: 80000", "memory_mib: 24576")
    assert command(tmp_path, small, "--sharing", "mps", "timeslice") == 2
    assert command(tmp_path, small, "--sharing", "mps") == 2
    assert not (tmp_path / "runs").exists()
    assert "weights" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [("--scale", "0"), ("--seed", "-1"), ("--sharing", "turns"), ("--plan", "none")])
def test_options_that_cannot_be(tmp_path: Path, bad: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command(tmp_path, _SHARED, *bad)
    assert exit_.value.code == 2


def test_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(_SHARED)
    with quick_pictures():
        assert main(["simulate", str(tmp_path / "p.yaml"), "--out", str(tmp_path / "runs")]) == 0
    [directory] = runs(tmp_path)
    assert "simulated, virtual time" in capsys.readouterr().out
    assert "Simulated, virtual time" in (directory.path / "analysis" / "report.html").read_text()
