"""The same run by one process or by several: the same requests, the same records, and nothing lost whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pytest

from fairshare_locust.arrival import count_before, open_schedule
from fairshare_locust.profile import load_profile
from fairshare_locust.profile.arrivals import OpenArrival
from fairshare_locust.record import RequestRecord
from tests.run.cluster import Cluster, StartCluster
from tests.run.conftest import QUICK, REPOSITORY, FinishedRun, LocustProcess, profile_text
from tests.run.test_phases import Storyteller
from tests.run.test_whole_run import assert_counts_agree, assert_schedule_kept

StartLocust = Callable[..., LocustProcess]
SKEWS_S = (0.25, -0.25, 0.0)
QUIET = "--fairshare-no-report"
NOTHING = "what nobody says"


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    started: list[Cluster] = []

    def start(profile: str, workers: int, *arguments: str, **more: Any) -> Cluster:
        cluster = Cluster(tmp_path, profile, workers, *arguments, **more)
        started.append(cluster)
        return cluster

    yield start
    for cluster in started:
        cluster.close()


def asked(run: FinishedRun) -> set[tuple[Any, ...]]:
    """Who asked what, and when it was due where that is not the server's doing."""
    return {
        (r.request_id, r.prompt_sha, r.requested_output_tokens, None if r.tenant == "batch" else r.scheduled_s)
        for r in run.records
    }


def test_one_process_two_and_three_hosts_ask_the_same(
    tmp_path: Path, start_locust: StartLocust, start_cluster: StartCluster
) -> None:
    profile = profile_text(bound="requests: 24", sampled=False).replace("warmup_s: 0.5", "warmup_s: 0")
    profile = profile.replace(QUICK, "{engine: external}").replace("api: openai_completions", "api: openai_chat")
    profile = profile.replace("name: simulated", "name: story")
    (tmp_path / "three").mkdir()
    with Storyteller(NOTHING) as one, Storyteller(NOTHING) as two, Storyteller(NOTHING) as three:
        cluster = start_cluster(profile, 3, QUIET, "--host", three.url, skews_s=SKEWS_S)
        alone = start_locust(profile, QUIET, "--host", one.url, out="alone")
        forked = start_locust(profile, QUIET, "--host", two.url, "--processes", "2", out="two")
        runs = [alone.finish(), forked.finish(), cluster.master.finish()]
    # The bodies as the servers got them.
    heard = [Counter(orjson.dumps(messages) for messages in server.asked) for server in (one, two, three)]
    assert heard[0] == heard[1] == heard[2]
    assert sum(heard[0].values()) >= 3 * 24
    for run in runs:
        assert run.code == 0, run.output
        assert {record.outcome for record in run.records} == {"ok"}
        assert Counter(record.tenant for record in run.records) == {"chat": 24, "steady": 24, "batch": 24}
    assert asked(runs[0]) == asked(runs[1]) == asked(runs[2])
    for run, workers in zip(runs, (1, 2, 3), strict=True):
        assert [worker["index"] for worker in run.run["workers"]] == list(range(workers))
        for record in run.records:
            if record.tenant != "batch":
                assert record.worker == record.index % workers
        # Their users were spread over all of them: of 16 and 8 streams each has its part.
        assert len({record.worker for record in run.records}) == workers
        assert not (run.path / "workers").exists()
    # The three clocks are a quarter of a second apart, and a millionth of it every second; the run has one.
    last = runs[2]
    for worker in last.run["workers"]:
        [skew_s] = [skew_s for skew_s, pid in zip(SKEWS_S, cluster.pids, strict=True) if pid == worker["pid"]]
        clock = worker["clock"]
        assert abs(clock["offset_s"] + skew_s) <= clock["uncertainty_s"] + 20e-6 * 60
        assert abs(clock["wall_offset_s"] - skew_s) < 0.1
    for run in runs:
        lag_s = [(r.sent_s or 0) - r.scheduled_s for r in run.records if r.tenant == "steady"]
        assert abs(median(lag_s)) < 0.1
    assert_counts_agree(last)
    # The workers' statistics, added up by Locust.
    took_ms = [1000 * ((r.last_token_s or 0) - (r.sent_s or 0)) for r in last.records]
    assert last.locust_mean_ms() == pytest.approx(sum(took_ms) / len(took_ms), abs=1e-2)
    assert last.summary["run"]["load_processes"] == 3


def test_ctrl_c_on_the_master(start_locust: StartLocust) -> None:
    """At a terminal the workers get it too."""
    process = start_locust(profile_text(bound="duration_s: 30", sampled=False), "--processes", "2", QUIET, group=True)
    process.wait_for("measure")
    process.wait_for_records(20)
    os.killpg(process.process.pid, signal.SIGINT)
    run = process.finish()
    assert run.run["state"] == "interrupted", run.output
    assert_counts_agree(run)
    assert_schedule_kept(run, run.run["phases"][-1]["end_s"], late_s=0.1)
    assert [worker["state"] for worker in run.run["workers"]] == ["complete", "complete"]
    assert not (run.path / "workers").exists()
    assert "the run was interrupted" in run.summary["verdict"]["reasons"][0]


def due(run: FinishedRun, until_s: float) -> Counter[str]:
    """What the open-loop tenants' schedules have due before."""
    profile = load_profile(run.path / "profile.resolved.yaml")
    return Counter(
        {
            tenant.id: count_before(open_schedule(tenant.arrival, profile.seed, tenant.id), until_s)
            for tenant in profile.tenants
            if isinstance(tenant.arrival, OpenArrival)
        }
    )


def test_lost_workers_are_told_and_the_rest_goes_on(start_cluster: StartCluster) -> None:
    """One is killed, one stands still for too long; one that comes in mid-run waits for the next."""
    cluster = start_cluster(profile_text(bound="duration_s: 16", sampled=False), 3, QUIET)
    cluster.master.wait_for("measure")
    cluster.master.wait_for_records(40)
    killed, stopped, _ = cluster.workers
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    late = cluster.add_worker()
    for _ in range(2):
        cluster.master.wait_for("was lost at")
    stopped.send_signal(signal.SIGCONT)
    run = cluster.master.finish()
    assert run.run["state"] == "complete", run.output
    workers = {worker["pid"]: worker for worker in run.run["workers"]}
    assert [workers[worker.pid]["state"] for worker in cluster.workers[:3]] == ["lost", "lost", "complete"]
    assert late.pid not in workers
    lost = [workers[worker.pid]["lost"] for worker in (killed, stopped)]
    recorded = Counter(record.tenant for record in run.records)
    for tenant, scheduled in due(run, 16.5).items():
        losses = [each["tenants"][tenant] for each in lost]
        assert recorded[tenant] + sum(loss["requests"] for loss in losses) == scheduled
        for each, loss in zip(lost, losses, strict=True):
            assert 0 < loss["requests"] <= scheduled / 3 + 1
            assert loss["seconds"] == pytest.approx(16.5 - each["since_s"], abs=1e-3)
    assert [each["tenants"]["batch"]["requests"] for each in lost] == [None, None]
    survivor = workers[cluster.workers[2].pid]["index"]
    assert {r.worker for r in run.records if r.scheduled_s > max(each["since_s"] for each in lost) + 1} == {survivor}
    assert run.summary["verdict"]["status"] == "suspect"
    assert sum("was lost at" in reason for reason in run.summary["verdict"]["reasons"]) == 2
    # The one that came back was sent away, and kept what it had measured.
    assert stopped.wait(timeout=60) == 0
    assert " goes on without this worker" in cluster.outputs[1].read_text()
    own = [
        RequestRecord.from_json(line) for path in cluster.kept_by_workers() for line in path.read_bytes().splitlines()
    ]
    assert {record.worker for record in own} >= {workers[stopped.pid]["index"]}


def test_a_worker_that_leaves_delivers_first(start_cluster: StartCluster) -> None:
    """One does in mid-run; then an orchestrator takes everything down at once."""
    cluster = start_cluster(profile_text(bound="duration_s: 60", sampled=False), 2, QUIET)
    cluster.master.wait_for("measure")
    cluster.master.wait_for_records(30)
    first, second = cluster.workers
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 0
    cluster.master.wait_for("goes on without its share")
    cluster.master.signal(signal.SIGTERM)
    second.send_signal(signal.SIGTERM)
    run = cluster.master.finish()
    second.wait(timeout=60)
    assert run.run["state"] == "interrupted", run.output
    workers = {worker["pid"]: worker for worker in run.run["workers"]}
    left = workers[first.pid]
    assert left["state"] == "left"
    assert left["lost"]["why"] == "it was told to quit"
    assert workers[second.pid]["state"] in ("complete", "left")
    for output in cluster.outputs:
        assert "Uncaught exception" not in output.read_text()
        assert "the master has been silent" not in output.read_text()
    recorded = Counter(record.tenant for record in run.records)
    assert {tenant: entry["scheduled"] for tenant, entry in run.run["asked"].items()} == recorded
    losses = [worker["lost"]["tenants"] for worker in workers.values() if worker["lost"] is not None]
    for tenant in ("chat", "steady"):
        missing = sum(loss[tenant]["requests"] for loss in losses if tenant in loss)
        assert run.run["asked"][tenant]["due"] == recorded[tenant] + missing
    kept = [
        RequestRecord.from_json(line).request_id
        for path in cluster.kept_by_workers()
        for line in path.read_bytes().splitlines()
    ]
    assert set(kept) <= {record.request_id for record in run.records}


def test_what_a_killed_worker_has_written_on_this_host_is_taken_in(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(bound="duration_s: 3", sampled=False), "--processes", "2", QUIET)
    process.wait_for("measure")
    process.wait_for_records(20)
    pid = orjson.loads((process.path / "run.json").read_bytes())["workers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)  # its file goes on being there, and what is in it was not sent
    own = process.path / "workers" / "0-requests.jsonl"
    written = own.read_bytes()
    os.kill(pid, signal.SIGKILL)
    run = process.finish()
    whole = [RequestRecord.from_json(line).request_id for line in written[: written.rfind(b"\n") + 1].splitlines()]
    assert set(whole) <= {record.request_id for record in run.records}
    assert run.run["workers"][0]["state"] == "lost"
    recorded = Counter(record.tenant for record in run.records)
    for tenant, scheduled in due(run, 3.5).items():
        assert recorded[tenant] + run.run["workers"][0]["lost"]["tenants"][tenant]["requests"] == scheduled
    assert not (run.path / "workers").exists()


def merge(run: Path, files: list[Path]) -> None:
    command = [sys.executable, "-m", "analysis", "merge", str(run), *map(str, files)]
    merged = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert merged.returncode == 0, merged.stderr


def test_a_killed_master_leaves_every_record(start_cluster: StartCluster) -> None:
    cluster = start_cluster(profile_text(bound="duration_s: 60", sampled=False), 2, QUIET)
    cluster.master.wait_for("measure")
    cluster.master.wait_for_records(40)
    cluster.master.signal(signal.SIGKILL)
    for worker in cluster.workers:
        assert worker.wait(timeout=60) == 1
    outputs = [path.read_text() for path in cluster.outputs]
    assert all("the master has been silent for 8 s" in output for output in outputs)
    run = cluster.master.finish()
    assert run.run["state"] == "running"
    files = cluster.kept_by_workers()
    assert {path.name for path in files} == {"0-requests.jsonl", "1-requests.jsonl"}
    kept = [RequestRecord.from_json(line) for path in files for line in path.read_bytes().splitlines()]
    merge(run.path, files)
    records = run.records
    assert {record.request_id for record in records} == {record.request_id for record in kept}
    assert len(records) == len(kept)
    # Up to when the workers stopped, nothing of the schedule is missing.
    for tenant in ("chat", "steady"):
        indices = sorted(record.index for record in records if record.tenant == tenant)
        assert len(indices) > 20
        assert Counter(index % 2 for index in indices).keys() == {0, 1}
        for share in (0, 1):
            own = [index for index in indices if index % 2 == share]
            assert own == list(range(share, own[-1] + 1, 2))


def test_a_network_that_fails_loses_nothing(start_cluster: StartCluster) -> None:
    """Connections are reset at the start and at the end, where what is said is said once; between, all is silent."""
    cluster = start_cluster(profile_text(bound="duration_s: 7", sampled=False), 2, QUIET, cuttable=True)
    assert cluster.network is not None
    cluster.master.wait_for("Sending spawn")
    cluster.network.reset(1.5)
    cluster.master.wait_for("measure")
    cluster.network.cut(5.0)
    cluster.master.wait_for("drain")
    cluster.network.reset(1.5)
    run = cluster.master.finish()
    assert run.code == 0, run.output
    assert run.run["state"] == "complete"
    assert [worker["state"] for worker in run.run["workers"]] == ["complete", "complete"]
    assert_counts_agree(run)
    assert_schedule_kept(run, 7.5)
    assert {record.outcome for record in run.records} == {"ok"}
    assert cluster.kept_by_workers() == []


def test_a_master_without_room_keeps_the_rest(start_cluster: StartCluster) -> None:
    cluster = start_cluster(profile_text(bound="duration_s: 3", sampled=False), 2, QUIET, file_bytes=20_000)
    run = cluster.master.finish()
    assert run.code == 1
    assert f"python -m analysis merge {run.path}" in run.output
    assert all("the master has no room; records stay in" in path.read_text() for path in cluster.outputs)
    merge(run.path, cluster.kept_by_workers())
    counts = Counter(record.tenant for record in run.records)
    for tenant, scheduled in due(run, 3.5).items():
        assert counts[tenant] == scheduled
    assert {record.outcome for record in run.records} == {"ok"}


MANY = """
name: many
seed: 3
run: {warmup_s: 0, duration_s: 3, drain_s: 30}
model: {name: truth}
deployment: {engine: external}
tenants:
  - id: load
    arrival: {process: constant, rate_per_s: 2000, max_in_flight: 400}
    workload: {source: synthetic, input_tokens: 8, output_tokens: 1}
"""


def test_two_thousand_requests_a_second(tmp_path: Path, start_locust: StartLocust) -> None:
    command = [sys.executable, "-m", "bench.truth_server", "--stamps", str(tmp_path / "stamps.npz"), "--ttft-ms", "1"]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert server.stdout is not None
    endpoint = orjson.loads(server.stdout.readline())["endpoint"]
    try:
        run = start_locust(MANY, "--processes", "2", "--host", endpoint, QUIET).finish()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    assert sorted(record.index for record in run.records) == list(range(6000)), run.output
    assert {record.outcome for record in run.records} <= {"ok", "cancelled"}
    assert run.run["asked"] == {"load": {"scheduled": 6000, "due": 6000}}
    assert run.locust_counts()[("", "Aggregated")][0] == 6000


def test_workers_that_can_not_take_part_are_named(start_cluster: StartCluster, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        profile_text(bound="duration_s: 2").replace("rate_per_s: 12", "rate_per_s: 13")
    )
    cluster = start_cluster(profile_text(bound="duration_s: 2"), 2, "--expect-workers", "3")
    cluster.add_worker(None, "--fairshare-profile", str(tmp_path / "other.yaml"))
    run = cluster.master.finish()
    assert run.code == 2, run.output
    assert "workers: found 2 that can take part; must be 3 at least" in run.output
    assert "another profile: tenants[0].arrival.rate_per_s: 13.0 there, 12.0 here" in run.output
    assert not (run.path / "requests.jsonl").exists()
    assert run.run["state"] == "interrupted"


def test_a_start_that_fails_leaves_no_process(start_locust: StartLocust) -> None:
    wrong = profile_text().replace("rate_per_s: 12", "rate_per_s: -12")
    process = start_locust(wrong, "--processes", "2", group=True)
    run = process.finish()
    assert run.code == 2, run.output
    assert "tenants[0].arrival.rate_per_s: found -12" in run.output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.process.pid, 0)
