"""Whole runs with telemetry: it is on the run's clock, agrees with the client, and never stands in a run's way."""

from __future__ import annotations

import csv
import os
import signal
from collections import defaultdict
from collections.abc import Callable

from tests.run.conftest import FinishedRun, LocustProcess, collectors_of, profile_text
from tests.run.test_phases import TALK, Storyteller

StartLocust = Callable[..., LocustProcess]


def series(run: FinishedRun, name: str) -> dict[str, list[tuple[float, float]]]:
    """Metric → its (time, value), over all devices or endpoints."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with open(run.path / name, newline="") as file:
        for row in csv.DictReader(file):
            found[row["metric"]].append((float(row["t_s"]), float(row["value"])))
    return found


def test_the_simulators_metrics_and_its_gpu(full_run: FinishedRun) -> None:
    run = full_run
    assert run.code == 0, run.output
    server, gpu = series(run, "server.csv"), series(run, "gpu.csv")
    for times in (*server.values(), *gpu.values()):
        assert min(t_s for t_s, _ in times) >= 0
        assert max(t_s for t_s, _ in times) <= run.run["ended_s"]
    # Counted by the server from its start; nothing but the load was asked of it.
    assert server["generation_tokens_total"][-1][1] == sum(record.output_tokens or 0 for record in run.records)
    assert server["ttft_seconds_count"][-1][1] == len(run.records)
    assert 0 < max(value for _, value in server["requests_running"]) <= 27  # all the slots there are
    assert 0 < max(value for _, value in gpu["gpu_utilization_ratio"]) <= 1
    energy = [value for _, value in gpu["energy_j_total"]]
    assert energy == sorted(energy)

    summary = run.summary
    [endpoint] = summary["server"]["endpoints"].values()
    # The server's counters are read ten times a second: what comes as the window opens or closes may be on either side.
    counts = [endpoint["ttft"][side]["count"] for side in ("server", "client")]
    assert min(counts) > 50
    assert abs(counts[0] - counts[1]) <= 3
    # The tail is left to a quiet machine: what a busy one adds between server and client is no fault of theirs.
    assert endpoint["ttft"]["agrees_by_percentile"]["p50"] is True
    [device] = summary["gpu"]["devices"]
    assert device["simulated"] is True
    assert summary["gpu"]["joules_per_output_token"] > 0
    assert "simulated" in (run.path / "analysis" / "report.html").read_text()
    assert (run.path / "figures" / "telemetry.png").is_file()
    assert run.run["telemetry"]["state"] == "complete"
    # What the engine says of each request adds up to no more than what the client saw of it.
    for record in run.records:
        assert record.engine is not None
        assert record.sent_s is not None
        assert record.last_token_s is not None
        assert sum(record.engine.values()) <= record.last_token_s - record.sent_s + 1e-3


def test_a_server_without_metrics_is_told_of_and_the_run_goes_on(start_locust: StartLocust) -> None:
    with Storyteller(refuses="no such word") as server:
        run = start_locust(TALK, "--host", server.url, "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    assert not (run.path / "server.csv").exists()
    assert [note for note in run.run["notes"] if "/metrics" in note]
    assert run.summary["server"] is None
    assert run.summary["gpu"] is None


def test_a_collector_that_is_gone_is_told_of_and_the_run_goes_on(start_locust: StartLocust) -> None:
    process = start_locust(profile_text(), "--fairshare-no-report")
    process.wait_for("measure:")
    [collector] = collectors_of(process.process.pid)
    os.kill(collector, signal.SIGKILL)
    run = process.finish()
    assert run.code == 0, run.output
    assert run.run["telemetry"]["state"] == "lost"
    assert [note for note in run.run["notes"] if "telemetry" in note]
    assert not os.path.exists(f"/proc/{collector}")
