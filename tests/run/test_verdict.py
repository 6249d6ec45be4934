"""A run says whether it can be believed: an idle client is valid, one that stood still or was overrun is not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from tests.run.conftest import REPOSITORY, FinishedRun, LocustProcess, profile_text

StartLocust = Callable[..., LocustProcess]


def reasons(run: FinishedRun) -> list[str]:
    said: list[str] = run.summary["verdict"]["reasons"]
    return said


def test_a_run_with_little_to_do_is_valid(start_locust: StartLocust) -> None:
    # The machine may really stand still for a moment, and the run is right to say so then: it may try again.
    for _ in range(4):
        run = start_locust(profile_text(bound="duration_s: 3"), "--fairshare-strict").finish()
        if run.code == 0:
            break
    assert run.code == 0, run.output
    assert run.summary["verdict"]["status"] == "valid"
    assert reasons(run) == []


def test_a_load_process_that_stood_still_is_suspect(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(bound="duration_s: 4"), "--fairshare-strict")
    process.wait_for("measure:")
    process.wait_for_records(20)
    process.signal(signal.SIGSTOP)
    time.sleep(0.3)  # what is tested: it stands still for so long
    process.signal(signal.SIGCONT)
    run = process.finish()
    assert run.code == 3
    assert run.summary["verdict"]["status"] == "suspect"
    [still] = [reason for reason in reasons(run) if "stood still" in reason]
    stalled_s = [second["t_s"] for second in run.run["workers"][0]["health"]["slow_seconds"] if second["lag_ms"] > 250]
    assert any(f"{second:g} s" in still for second in stalled_s), still
    assert "in flight" in still
    assert run.output.index("suspect") < run.output.index("tenant  ")


def test_a_load_process_that_is_overrun_is_suspect(start_locust: StartLocust, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.truth_server", "--stamps", str(tmp_path / "stamps.npz")]
    with subprocess.Popen(
        [*command, "--ttft-ms", "20", "--gap-ms", "1"], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            endpoint = orjson.loads(server.stdout.readline())["endpoint"]
            text = """
name: overrun
run: {warmup_s: 0.5, duration_s: 4, drain_s: 10}
model: {name: auto}
deployment: {engine: external}
tenants:
  - id: flood
    arrival: {process: closed, concurrency: 400}
    workload: {source: synthetic, input_tokens: 16, output_tokens: 200}
"""
            run = start_locust(text, "--host", endpoint).finish()
        finally:
            server.terminate()
    assert run.summary["verdict"]["status"] == "suspect"
    assert any(word in reason for reason in reasons(run) for word in ("CPU p95", "event-loop lag", "stood still"))
    assert all("lower the rate" in reason or "free the machine" in reason for reason in reasons(run))
