"""Can a run be believed?"""

from __future__ import annotations

import numpy as np
import pytest

from analysis.health import (
    Check,
    clock_checks,
    end_checks,
    judge,
    merged_since,
    process_checks,
    record_checks,
    schedule_checks,
    state_check,
    tenant_checks,
    told_missing,
)
from analysis.latency import describe
from analysis.rates import Tally
from fairshare_locust.record import OUTCOMES
from tests.analysis.build import columns, conducted, lost, record, worker


def outcomes(**counts: int) -> tuple[int, ...]:
    return tuple(counts.get(name, 0) for name in OUTCOMES)


def of(counted: Tally, lag_ms: float = 1.0, ttft_ms: float = 100.0) -> dict[str, Check]:
    checks = tenant_checks("chat", counted, describe(np.full(100, lag_ms)), describe(np.full(100, ttft_ms)))
    return {check.name: check for check in checks}


GOOD = Tally(outcomes=outcomes(ok=100), punctual=100)


def test_a_good_run_is_valid() -> None:
    verdict = judge([state_check("complete", 70.0), *of(GOOD).values()])
    assert (verdict.status, verdict.reasons) == ("valid", ())
    assert len(verdict.checks) == 5


@pytest.mark.parametrize(
    ("lag_ms", "ttft_ms", "ok"),
    [(10.0, 100.0, True), (10.1, 100.0, False), (50.0, 1000.0, True), (50.1, 1000.0, False)],
)
def test_send_lag_may_be_10_ms_or_5_per_cent_of_the_ttft(lag_ms: float, ttft_ms: float, ok: bool) -> None:
    assert of(GOOD, lag_ms, ttft_ms)["send lag p99"].ok is ok


@pytest.mark.parametrize(("punctual", "ok"), [(100, True), (98, True), (97, False)])
def test_two_per_cent_may_go_out_late(punctual: int, ok: bool) -> None:
    assert of(Tally(outcomes=outcomes(ok=100), punctual=punctual))["offered against asked"].ok is ok


def test_a_reason_says_what_happened_and_what_to_do() -> None:
    (reason,) = judge(of(GOOD, lag_ms=35.24).values()).reasons
    assert reason == (
        "chat: send lag p99 35.2 ms over 100 requests (limit 10.0 ms); requests went out late: raise max_in_flight "
        "if all its slots were busy, else lower the rate, use more load processes (--processes 2, or more workers), or "
        "free the machine of other work."
    )


def test_open_requests_at_the_end_are_suspect() -> None:
    check = of(Tally(outcomes=outcomes(ok=97, cancelled=3), punctual=100))["unfinished requests"]
    assert not check.ok
    assert check.finding == "chat: 3 of 100 requests were still open when the run ended"


def test_a_window_without_requests_is_suspect() -> None:
    nothing = describe(np.empty(0))
    (check,) = tenant_checks("chat", Tally(), nothing, nothing)
    assert (check.name, check.ok) == ("requests in the window", False)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("interrupted", "the run was interrupted at 42.0 s"),
        ("running", "the run has not ended, or crashed: its last record is from 42.0 s"),
    ],
)
def test_a_run_that_did_not_end_is_suspect(state: str, words: str) -> None:
    (reason,) = judge([state_check(state, 42.0)]).reasons
    assert words in reason


def test_lost_records_are_suspect() -> None:
    requests = columns([record("a"), record("b"), record("b", 1)])
    asked = {"a": {"scheduled": 3}, "b": {"scheduled": 2}}
    (reason,) = judge(record_checks(requests, "ab", asked, "complete")).reasons
    assert reason.startswith("a: 3 requests fell due, 1 are on record; 2 are lost: ")
    assert judge(record_checks(requests, "ab", asked, "running")).status == "valid"  # some are still on their way
    assert judge(record_checks(requests, "ab", {}, "complete")).status == "valid"


def test_what_the_schedule_had_due_is_looked_for() -> None:
    talk = [record(index=0, turn=0), record(index=0, turn=1, request_id="a-000000-1"), record(index=1, turn=0)]
    requests = columns([*talk, record("b", index=4)])
    assert judge(schedule_checks(requests, "ab", {"a": {"due": 2}, "b": {"due": 1}}, {})).status == "valid"
    (reason,) = judge(schedule_checks(requests, "ab", {"a": {"due": 5}, "b": {"due": None}}, {"a": 2})).reasons
    assert reason.startswith(
        "a: its schedule had 5 requests due, 2 are on record, 2 are missing with load processes; 1 were never asked"
    )
    assert list(schedule_checks(requests, "ab", {"a": {"due": 9}, "b": {}}, {"a": None})) == []
    assert told_missing([lost(1, a=4, b=2), lost(2, a=1), worker(0)]) == {"a": 5, "b": 2}


def test_more_records_than_requests_are_suspect() -> None:
    (reason,) = judge(record_checks(columns([record()]), "a", {"a": {"scheduled": 0}}, "complete")).reasons
    assert "more than there should be" in reason


def test_repeated_records_are_suspect() -> None:
    (reason,) = judge(record_checks(columns([record(), record()]), "ab", {}, "complete")).reasons
    assert reason.startswith("1 records repeat a request_id")


def test_load_processes_have_limits() -> None:
    requests = columns([])
    assert judge(process_checks([worker(0, lag_p99_ms=10.0, cpu_p95=0.9)], requests)).status == "valid"
    lag, cpu = judge(process_checks([worker(0), worker(1, lag_p99_ms=10.1, cpu_p95=0.91)], requests)).reasons
    assert lag.startswith("load process 1: event-loop lag p99 10.1 ms (limit 10 ms); ")
    assert cpu.startswith("load process 1: CPU p95 91% of its core (limit 90%); ")


def test_a_process_without_samples_is_not_checked() -> None:
    assert list(process_checks([worker(0, lag_p99_ms=None, cpu_p95=None), {"index": 1}], columns([]))) == []


def test_slow_seconds_are_named_with_the_requests_in_flight() -> None:
    requests = columns(
        [
            record(index=0, scheduled_s=11.0, ended_s=12.5),  # open at 12 s
            record(index=1, scheduled_s=12.9, first_token_s=13.2, ended_s=14.5),  # at 12, 13 and 14 s
            record(index=2, scheduled_s=12.9, first_token_s=13.2, ended_s=14.5, worker=1),
            record(index=3, scheduled_s=12.5, outcome="shed"),
        ]
    )
    slow = [{"t_s": 12.0, "lag_ms": 35.1}, {"t_s": 13.0, "lag_ms": 50.0}]
    check = next(process_checks([worker(0, lag_p99_ms=35.0, slow=slow)], requests))
    assert check.finding == (
        "load process 0: event-loop lag p99 35.0 ms (limit 10 ms), "
        "high at 12 s (35 ms, 2 in flight), 13 s (50 ms, 1 in flight)"
    )


def test_only_the_worst_slow_seconds_are_named() -> None:
    slow = [{"t_s": float(second), "lag_ms": 20.0 + second} for second in range(7)]
    check = next(process_checks([worker(0, lag_p99_ms=35.0, slow=slow)], columns([])))
    assert "high at 2 s (22 ms" in check.finding
    assert check.finding.endswith("and 2 more seconds")


def test_more_load_processes_are_a_remedy() -> None:
    checks = list(process_checks([worker(0)], columns([])))
    helped = {check.name for check in checks if "--processes 2, or more workers" in check.advice}
    assert helped == {"event-loop lag p99", "CPU p95"}


def test_a_lost_load_process_is_suspect_with_what_is_missing() -> None:
    verdict = judge(end_checks([conducted(0), lost(1, chat=67, batch=None)], {}))
    assert [check.ok for check in verdict.checks] == [True, False]
    assert verdict.checks[0].finding == "load process 0 (vm) came to its end"
    assert verdict.reasons == (
        "load process 1 (vm) was lost at 4.2 s (it went silent for 10 s): of chat 67 requests in 12.3 s, of batch an "
        "unknown number of requests in 12.3 s are missing; run again; see that worker's log and machine.",
    )


def test_one_that_left_is_suspect_too() -> None:
    left = conducted(0, "left", lost={"since_s": 3.0, "why": "it was interrupted", "tenants": {}})
    (check,) = end_checks([left], {})  # of one worker too
    assert not check.ok
    assert check.finding == "load process 0 (vm) left at 3.0 s (it was interrupted): nothing of it is missing"
    (bare,) = end_checks([{"index": 2, "state": "lost"}], {})
    assert bare.finding == "load process 2 was lost: nothing of it is missing"


@pytest.mark.parametrize("workers", [[], [worker(0)], [conducted(0)], [worker(0), worker(1)], [{}, {}]])
def test_an_end_that_says_nothing_is_not_checked(workers: list[dict[str, object]]) -> None:
    assert list(end_checks(workers, {})) == []
    assert list(end_checks([conducted(0, "running"), conducted(1, "running")], {})) == []  # the state check says it


@pytest.mark.parametrize(("uncertainty_s", "ok"), [(0.01, True), (0.0101, False)])
def test_clocks_of_several_may_differ_by_10_ms(uncertainty_s: float, ok: bool) -> None:
    first, second = clock_checks([conducted(0), conducted(1, uncertainty_s=uncertainty_s)])
    assert first.ok
    assert first.value == pytest.approx(0.1)
    assert first.unit == "ms"
    assert second.ok is ok
    assert second.finding.startswith(f"load process 1 (vm): its clock is known to {uncertainty_s * 1e3:.1f} ms (limit")
    assert "due at times that differ by as much" in second.advice
    assert "network between master and worker" in second.advice


def test_a_clock_that_is_not_known_or_compared_is_not_checked() -> None:
    assert list(clock_checks([conducted(0, uncertainty_s=1.0)])) == []
    assert list(clock_checks([worker(0), conducted(1, clock=None), {}])) == []


def test_records_of_a_lost_process_that_were_merged_are_not_too_many() -> None:
    requests = columns([*(record("a", index) for index in range(8)), record("b")])
    asked = {"a": {"scheduled": 5}, "b": {"scheduled": 1}}

    def merged(*workers: dict[str, object]) -> dict[str, int]:
        return merged_since(requests, "ab", asked, workers)

    assert merged(conducted(0), lost(1, a=4)) == {"a": 3}
    assert merged(lost(0, a=1), lost(1, a=1)) == {"a": 2}
    assert merged(lost(0, a=1), lost(1, a=None)) == {"a": 3}
    assert merged(conducted(0), lost(1, b=1)) == merged(conducted(0)) == merged({}) == {}
    assert judge(record_checks(requests, "ab", asked, "complete", {"a": 3})).status == "valid"
    # What is missing of conversations counts first turns; what is merged in may be later ones as well.
    talk = columns([record(index=0, turn=turn, request_id=f"a-0-{turn}") for turn in range(8)])
    assert merged_since(talk, "ab", asked, [lost(1, a=1)]) == {"a": 3}
    (reason,) = judge(record_checks(requests, "ab", asked, "complete", {"a": 2})).reasons
    assert reason.startswith("a: 7 requests fell due, 8 are on record; there are more than there should be")
    (check,) = end_checks([lost(1, a=4, b=2)], {"a": 3})
    assert check.finding.endswith(
        "of a 4 requests in 12.3 s, of b 2 requests in 12.3 s are missing, less what was merged since: 3 of a"
    )
