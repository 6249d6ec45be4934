"""Whole runs, as a process: everything that was scheduled is recorded once, and every count agrees."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairshare_locust.arrival import count_before, open_schedule
from fairshare_locust.profile import load_profile
from fairshare_locust.profile.arrivals import OpenArrival
from fairshare_locust.record import RequestRecord
from tests.run.conftest import KEY, FinishedRun, LocustProcess, collectors_of, profile_text
from tests.simulator.served import serving

StartLocust = Callable[..., LocustProcess]

CONTRACT = (
    "profile.resolved.yaml",
    "run.json",
    "requests.jsonl",
    "locust_stats.csv",
    "locust_stats_history.csv",
    "locust_failures.csv",
    "locust_exceptions.csv",
    "logs/simulator.log",
    "analysis/summary.json",
    "analysis/summary.csv",
    "analysis/report.html",
)


def assert_counts_agree(run: FinishedRun) -> None:
    """One record per scheduled request; run.json, the summary and Locust's CSV count the same."""
    records = run.records
    keys = Counter((record.tenant, record.phase.rpartition("/")[0], record.index) for record in records)
    assert max(keys.values()) == 1
    by_tenant = Counter(record.tenant for record in records)
    failed = Counter(record.tenant for record in records if record.outcome != "ok")
    assert {tenant: entry["scheduled"] for tenant, entry in run.run["asked"].items()} == by_tenant
    api = {record.tenant: record.api for record in records}
    locust = run.locust_counts()
    for tenant, count in by_tenant.items():
        assert locust[(str(api[tenant]), tenant)] == (count, failed[tenant])
    assert locust[("", "Aggregated")] == (len(records), sum(failed.values()))
    source = run.summary["sources"]
    assert source["requests_lines"] == len(records)
    assert source["duplicate_records"] == source["incomplete_lines"] == 0
    assert source["locust_agrees"] is True
    for tenant, entry in run.summary["tenants"].items():
        measured = [part for part in run.run["phases"] if part["measured"] and tenant in part["tenants"]]
        if not measured:
            continue
        [part] = measured
        inside = [r for r in records if r.tenant == tenant and part["start_s"] <= r.scheduled_s < part["end_s"]]
        assert entry["scheduled"] == len(inside), (tenant, part)
        assert entry["scheduled"] == entry["completed"] + sum(entry["failed"].values())


def assert_schedule_kept(run: FinishedRun, until_s: float, late_s: float = 0.0) -> None:
    """Open-loop tenants: exactly the schedule's entries before `until_s` are recorded, at their times.

    Of those due up to `late_s` after it any may be: load processes that are stopped each at a moment of their own.
    """
    profile = load_profile(run.path / "profile.resolved.yaml")
    for tenant in profile.tenants:
        if not isinstance(tenant.arrival, OpenArrival):
            continue
        schedule = open_schedule(tenant.arrival, profile.seed, tenant.id)
        due = {record.index: record.scheduled_s for record in run.records if record.tenant == tenant.id}
        assert due.keys() >= set(range(count_before(schedule, until_s)))
        assert due.keys() <= set(range(count_before(schedule, until_s + late_s)))
        assert all(scheduled_s == round(schedule.due_s(index), 6) for index, scheduled_s in due.items())


def test_a_run_to_its_end_loses_nothing(full_run: FinishedRun) -> None:
    run = full_run
    assert run.code == 0, run.output
    assert [name for name in CONTRACT if not (run.path / name).is_file()] == []
    drawn = {"latency_cdf", "latency_tails", "throughput", "fairness", "timeline", "waterfall", "telemetry"}
    files = {path.name for path in (run.path / "figures").iterdir()}
    assert files == {f"{name}.{form}" for name in drawn for form in ("png", "svg")}
    assert run.run["state"] == "complete"
    assert {record.outcome for record in run.records} == {"ok"}
    assert_counts_agree(run)
    assert_schedule_kept(run, 2.5)
    # What the server itself counted: requests, answers, tokens.
    assert run.simulator_counter("fairshare_simulator_requests_received_total") == len(run.records)
    assert run.simulator_counter("vllm:request_success_total") == len(run.records)
    assert run.simulator_counter("vllm:generation_tokens_total") == sum(r.output_tokens or 0 for r in run.records)
    assert run.simulator_counter("vllm:prompt_tokens_total") == sum(r.input_tokens or 0 for r in run.records)
    assert run.summary["verdict"]["status"] in ("valid", "suspect")
    assert "chat" in run.output
    assert "report.html" in run.output


def test_every_answer_has_the_length_that_was_asked_for(short_run: FinishedRun) -> None:
    run = short_run
    assert run.code == 0, run.output
    for record in run.records:
        assert record.output_tokens == record.requested_output_tokens
        assert record.tokens_from == "usage"
        assert record.finish_reason == "length"
        assert record.chunk_gap_us is not None
        assert record.first_token_s is not None
        assert record.last_token_s is not None
        span_us = (record.last_token_s - record.first_token_s) * 1e6
        assert sum(record.chunk_gap_us) == pytest.approx(span_us, abs=len(record.chunk_gap_us) + 2)
        stamps = [record.scheduled_s, record.sent_s, record.headers_s, record.first_token_s, record.last_token_s]
        assert stamps == sorted(stamps, key=float)  # type: ignore[arg-type]
    assert not (run.path / "analysis").exists()


def test_same_seed_same_requests(start_locust: StartLocust, short_run: FinishedRun) -> None:
    def asked(run: FinishedRun) -> dict[str, tuple[Any, ...]]:
        return {
            r.request_id: (r.prompt_sha, r.requested_output_tokens, r.scheduled_s)
            for r in run.records
            if r.tenant != "batch"
        }

    text = profile_text(bound="duration_s: 1", sampled=False)
    rerun = start_locust(text, "--fairshare-no-report").finish()
    reseeded = start_locust(text, "--fairshare-no-report", "--fairshare-seed", "12").finish()
    assert rerun.path.parent == reseeded.path.parent
    assert rerun.path != reseeded.path
    first, again, other = asked(short_run), asked(rerun), asked(reseeded)
    assert first == again
    assert first.keys() & other.keys()
    assert all(first[key][0] != other[key][0] for key in first.keys() & other.keys())


@pytest.mark.parametrize(
    ("number", "part", "warmup_s", "duration_s"),
    [
        (signal.SIGINT, "warmup", 60, 60),
        (signal.SIGINT, "measure", 0.5, 60),
        (signal.SIGTERM, "measure", 0.5, 60),
        (signal.SIGTERM, "drain", 0.5, 2),
    ],
)
def test_an_interrupted_run_is_complete_but_for_its_end(
    start_locust: StartLocust, number: signal.Signals, part: str, warmup_s: float, duration_s: float
) -> None:
    # Answers take long enough for some to be in flight whenever the signal comes.
    slow = "{engine: simulator, simulator: {step_base_ms: 100}}"
    text = profile_text(bound=f"duration_s: {duration_s}", drain_s=60, deployment=slow)
    reports = (number, part) == (signal.SIGINT, "measure")  # of the others, what it would say is looked at
    arguments = () if reports else ("--fairshare-no-report",)
    process = start_locust(text.replace("warmup_s: 0.5", f"warmup_s: {warmup_s}"), *arguments)
    process.wait_for(f" {part}")
    process.wait_for_records(5)
    process.signal(number)
    run = process.finish()
    assert "Traceback" not in run.output
    assert run.run["state"] == "interrupted"
    assert run.run["phases"][-1]["name"] == part
    assert any(record.outcome == "cancelled" for record in run.records)
    assert_counts_agree(run)
    assert run.simulator_counter("fairshare_simulator_requests_received_total") == sum(
        record.sent_s is not None for record in run.records
    )
    assert_schedule_kept(run, min(run.run["phases"][-1]["end_s"], warmup_s + duration_s))
    assert run.summary["verdict"]["status"] == "suspect"
    assert any("interrupted" in reason for reason in run.summary["verdict"]["reasons"])
    assert all((run.path / name).is_file() is reports for name in CONTRACT if name.startswith("analysis/"))


def test_a_server_that_dies_half_way_loses_no_record(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(), "--fairshare-no-report")
    process.wait_for("measure:")
    process.wait_for_records(20)
    [server] = FinishedRun(0, "", process.path).run["servers"]
    os.kill(server["pid"], signal.SIGKILL)
    run = process.finish()
    assert run.code == 1
    assert "Traceback" not in run.output
    assert run.run["state"] == "complete"
    assert_counts_agree(run)
    assert_schedule_kept(run, 2.5)
    outcomes = Counter(record.outcome for record in run.records)
    assert outcomes["ok"] > 0
    assert outcomes["connection_error"] > 0


def test_killed_load_process_leaves_readable_files_no_server_and_no_collector(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(bound="duration_s: 60"))
    process.wait_for("measure:")
    process.wait_for_records(20)
    run = FinishedRun(0, "", process.path)
    [server] = run.run["servers"]
    [collector] = collectors_of(process.process.pid)
    descriptors = [os.pidfd_open(pid) for pid in (server["pid"], collector)]
    process.signal(signal.SIGKILL)
    process.finish()
    # They read end of file from the pipes that the killed process held, and end.
    for descriptor in descriptors:
        _wait_readable(descriptor)
        os.close(descriptor)
    assert run.run["state"] == "running"
    assert len(run.records) >= 20
    assert (process.path / "server.csv").stat().st_size > 0


def _wait_readable(descriptor: int) -> None:
    readable, _, _ = select.select([descriptor], [], [], 30)
    assert readable, "a simulator or a collector outlived the load process"


def test_a_full_disk_loses_no_record(
    start_locust: StartLocust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = start_locust(profile_text(), file_bytes=60_000).finish()
    assert run.code == 1
    assert "Traceback" not in run.output
    written = (run.path / "requests.jsonl").read_bytes()
    assert len(written) == 60_000
    [rest] = tmp_path.glob("*-requests-rest.jsonl")
    assert f"cat {rest} >> {run.path}/requests.jsonl" in run.output
    records = [RequestRecord.from_json(line) for line in (written + rest.read_bytes()).splitlines()]
    assert {tenant: entry["scheduled"] for tenant, entry in run.run["asked"].items()} == Counter(
        record.tenant for record in records
    )


def test_a_run_goes_on_when_its_run_json_can_not_be_written(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(sampled=False), "--fairshare-no-report")
    process.wait_for("warmup")
    in_the_way = process.path / ".run.json.part"  # where the next one would be written
    while not in_the_way.is_dir():
        with suppress(FileExistsError):  # one is being written at this moment
            in_the_way.mkdir()
    run = process.finish()
    assert run.code == 1
    assert "can't be written" in run.output
    assert_schedule_kept(run, 2.5)
    assert {record.outcome for record in run.records} == {"ok"}


def test_a_drain_that_is_too_short_cancels_what_is_left(start_locust: StartLocust) -> None:
    slow = "{engine: simulator, simulator: {step_base_ms: 150}}"
    text = profile_text(bound="duration_s: 1", drain_s=0.2, deployment=slow, sampled=False)
    run = start_locust(text, "--fairshare-no-report").finish()
    assert run.code == 1
    assert run.run["state"] == "complete"
    assert_counts_agree(run)
    cancelled = [record for record in run.records if record.outcome == "cancelled"]
    assert cancelled
    assert all("drain" in str(r.error) or "after the measurement" in str(r.error) for r in cancelled)


def test_slots_that_are_all_busy_send_late_or_shed(start_locust: StartLocust) -> None:
    slow = "{engine: simulator, simulator: {step_base_ms: 40}}"
    text = profile_text(drain_s=30, deployment=slow, sampled=False).replace("max_in_flight: 8", "max_in_flight: 1")
    late = start_locust(text, "--fairshare-no-report").finish()
    waits = [r for r in late.records if r.tenant == "steady"]
    assert {record.outcome for record in waits} == {"ok"}
    assert max((r.sent_s or 0) - r.scheduled_s for r in waits) > 0.5
    sent = [record.sent_s for record in sorted(waits, key=lambda record: record.index)]
    assert sent == sorted(sent, key=float)  # type: ignore[arg-type]

    shedding = text.replace("max_in_flight: 1}", "max_in_flight: 1, overflow: shed}")
    shed = start_locust(shedding, "--fairshare-no-report").finish()
    assert_counts_agree(shed)
    assert_schedule_kept(shed, 2.5)
    drops = [record for record in shed.records if record.outcome == "shed"]
    assert drops
    assert {record.tenant for record in drops} == {"steady"}
    assert all(record.sent_s is None and record.ended_s == record.scheduled_s for record in drops)


def test_a_number_of_requests_instead_of_a_duration(start_locust: StartLocust) -> None:
    run = start_locust(profile_text(bound="requests: 9", sampled=False), "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    assert_counts_agree(run)
    # Each tenant has its requests; the window ends with the first that has had them, and the others' later ones
    # are outside of it.
    after_warmup = Counter(record.tenant for record in run.records if record.phase != "warmup")
    assert after_warmup == {"chat": 9, "steady": 9, "batch": 9}
    for record in run.records:
        [part] = [p for p in run.run["phases"] if p["start_s"] <= record.scheduled_s < p["end_s"]]
        assert record.phase == part["name"]
    measured = Counter(record.tenant for record in run.records if record.phase == "measure")
    assert 9 in measured.values()
    assert "had its 9 requests first" in run.output


def test_more_slots_than_requests(start_locust: StartLocust) -> None:
    text = profile_text(bound="requests: 2", sampled=False).replace("warmup_s: 0.5", "warmup_s: 0")
    run = start_locust(text, "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    assert_counts_agree(run)
    assert run.summary["tenants"]["batch"]["scheduled"] == 2  # of three slots
    assert run.summary["window"]["length_s"] > 0


def test_a_closed_loop_does_not_spin_on_a_server_that_is_gone(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(bound="duration_s: 4", sampled=False), "--fairshare-no-report")
    process.wait_for("measure:")
    [server] = FinishedRun(0, "", process.path).run["servers"]
    os.kill(server["pid"], signal.SIGKILL)
    run = process.finish()
    refused = [r for r in run.records if r.tenant == "batch" and r.outcome == "connection_error"]
    assert refused
    assert len(refused) <= 3 * (4 / 0.5 + 2)  # three slots, each at rest for half a second after a failure


def test_solo_gives_each_tenant_a_phase_of_its_own(solo_run: FinishedRun) -> None:
    run = solo_run
    assert run.code == 0, run.output
    assert_counts_agree(run)
    assert run.run["plan"] == "solo"
    spans = {}
    for tenant in ("chat", "steady", "batch"):
        mine = [record for record in run.records if record.tenant == tenant]
        assert {record.phase for record in mine} == {f"solo-{tenant}/warmup", f"solo-{tenant}/measure"}
        spans[tenant] = (min(r.scheduled_s for r in mine), max(r.ended_s or 0 for r in mine))
    assert spans["chat"][1] < spans["steady"][0]
    assert spans["steady"][1] < spans["batch"][0]
    assert run.summary["fairness"] is None


def test_solo_and_mixed_ask_the_same(short_run: FinishedRun, solo_run: FinishedRun) -> None:
    mixed, solo = short_run, solo_run
    begins = {p["name"].split("/")[0]: p["start_s"] for p in reversed(solo.run["phases"])}

    def asked(run: FinishedRun) -> dict[tuple[str, int], tuple[Any, ...]]:
        return {
            (r.tenant, r.index): (r.prompt_sha, r.requested_output_tokens)
            for r in run.records
            if r.tenant in ("chat", "steady")
        }

    assert asked(mixed) == asked(solo)
    shared = {(r.tenant, r.index): r.scheduled_s for r in mixed.records if r.tenant != "batch"}
    for record in solo.records:
        if record.tenant != "batch":
            own = record.scheduled_s - begins[f"solo-{record.tenant}"]
            assert own == pytest.approx(shared[record.tenant, record.index], abs=3e-6)


def test_users_scale_the_slots_and_run_time_the_duration(start_locust: StartLocust) -> None:
    run = start_locust(
        profile_text(sampled=False), "-u", "9", "-t", "1", "--fairshare-scale", "0.5", "--fairshare-no-report"
    ).finish()
    assert run.code == 0, run.output
    resolved = yaml.safe_load((run.path / "profile.resolved.yaml").read_text())
    slots = [t["arrival"].get("max_in_flight") or t["arrival"]["concurrency"] for t in resolved["tenants"]]
    assert slots == [5, 3, 1]  # 8, 4, 2 halved slots of 14 scaled to 9: 5.14, 2.57, 1.29
    assert resolved["tenants"][0]["arrival"]["rate_per_s"] == 6
    [measure] = [part for part in run.run["phases"] if part["measured"]]
    assert measure["end_s"] - measure["start_s"] == pytest.approx(1.0, abs=1e-5)


def test_a_key_stands_in_no_file_and_no_output(full_run: FinishedRun) -> None:
    assert full_run.code == 0, full_run.output
    assert KEY not in full_run.output
    files = [file for file in full_run.path.rglob("*") if file.is_file()]
    assert {full_run.path / name for name in CONTRACT} <= set(files)
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file


# --- what ends before any load is sent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("change", "arguments", "expected"),
    [
        (("rate_per_s: 12", "rate_per_s: -12"), (), "tenants[0].arrival.rate_per_s: found -12"),
        (("seed: 11", "sead: 11"), (), "did you mean 'seed'?"),
        (("tokenizer: builtin", "tokenizer: /nowhere/tokenizer.json"), (), "model.tokenizer"),
        (("", ""), ("-u", "2"), "users (-u): found 2; must be at least 3"),
        (("", ""), ("--fairshare-scale", "zero"), "--fairshare-scale: found 'zero'"),
        (("", ""), ("--host", "http://127.0.0.1:{port}"), "can't be reached: Connection refused"),
        (("id: chat", "id: chat\n    api_key_env: NO_SUCH_KEY"), (), "NO_SUCH_KEY, which is not set"),
    ],
)
def test_what_cannot_run_says_so_at_once(
    start_locust: StartLocust, tmp_path: Path, change: tuple[str, str], arguments: tuple[str, ...], expected: str
) -> None:
    text = profile_text().replace(*change)
    process = start_locust(text, *(argument.format(port=free_port()) for argument in arguments))
    run = process.finish()
    assert run.code == 2
    said = [line for line in run.output.splitlines() if line.startswith("fairshare:")]
    assert len(said) == 1
    assert expected in said[0]
    assert "Traceback" not in run.output
    assert not (tmp_path / "runs").exists()


def test_an_external_server_is_used_by_host(start_locust: StartLocust) -> None:
    with serving({"step_base_ms": 2}, "--model", "simulated") as server:
        text = profile_text(bound="duration_s: 1", sampled=False).replace("name: simulated", "name: auto")
        run = start_locust(text, "--host", server.announcement["endpoint"], "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    [used] = run.run["servers"]
    assert used["engine"] == "external"
    assert used["family"] == "simulator"
    assert used["simulated"] is True
    assert used["model"] == "simulated"
    assert {record.outcome for record in run.records} == {"ok"}
