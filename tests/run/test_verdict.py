"""A run says whether it can be believed: an idle client is valid, one that stood still or was overrun is not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.run.conftest import FinishedRun, LocustProcess, profile_text

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


OVERRUN = """
import time

from locust import events

from fairshare_locust import register

register(globals())


@events.token.add_listener
def work(**_):
    until = time.perf_counter() + 0.0005
    while time.perf_counter() < until:
        pass
"""


def test_a_load_process_that_is_overrun_is_suspect(start_locust: StartLocust, tmp_path: Path) -> None:
    # Every token costs half a millisecond, and 40 streams bring up to 8,000 a second: four times too many.
    locustfile = tmp_path / "overrun.py"
    locustfile.write_text(OVERRUN)
    text = """
name: overrun
run: {warmup_s: 0.5, duration_s: 4, drain_s: 20}
model: {name: simulated}
deployment: {engine: simulator, simulator: {step_base_ms: 4, step_per_sequence_us: 25, compute_per_token_us: 1}}
tenants:
  - id: flood
    arrival: {process: closed, concurrency: 40}
    workload: {source: synthetic, input_tokens: 16, output_tokens: 100}
"""
    run = start_locust(text, "--fairshare-no-report", locustfile=str(locustfile)).finish()
    assert run.summary["verdict"]["status"] == "suspect"
    assert any("event-loop lag p99" in reason for reason in reasons(run)), reasons(run)
    assert any("CPU p95" in reason for reason in reasons(run)), reasons(run)
    assert all("lower the rate" in reason or "free the machine" in reason for reason in reasons(run))
