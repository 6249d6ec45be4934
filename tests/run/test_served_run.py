"""Whole runs on servers of an engine that we start: faked programs, everything else as it is."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.run.conftest import UNSAMPLED, LocustProcess, run_once
from tests.serving.engine_fixtures import Machine, machine, profile_text

__all__ = ["machine"]

_SHARED = "{engine: vllm, sharing: timeslice, server: {stop_within_s: 20}}"


def text(duration_s: float) -> str:
    run = f"{{warmup_s: 0, duration_s: {duration_s}, drain_s: 5, fairness_window_s: 1}}"
    return profile_text(_SHARED, "chat", "batch", run=run) + UNSAMPLED


def wait_clean(machine: Machine) -> None:
    """Until nothing is left; what is left for good fails the test when time is up."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and (machine.processes() or any(machine.temporary.iterdir())):
        time.sleep(0.02)
    machine.check_clean()


def test_a_run_starts_its_servers_and_stops_them(machine: Machine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", "very-secret")
    finished = run_once(tmp_path, text(1), "--fairshare-no-report")
    assert finished.code == 0, finished.output
    records = finished.records
    assert {record.tenant for record in records} == {"chat", "batch"}
    assert {record.outcome for record in records} == {"ok"}
    servers = {server["part"]: server for server in finished.run["servers"]}
    started = machine.told("vllm")
    assert [servers[part]["pid"] for part in (0, 1)] == [one["pid"] for one in started]
    assert {(server["engine"], server["sharing"], server["version"]) for server in servers.values()} == {
        ("vllm", "timeslice", "0.33.0")
    }
    assert servers[0]["command"][1:3] == ["serve", "llama"]
    assert {record.endpoint for record in records if record.tenant == "batch"} == {servers[1]["endpoint"]}
    assert orjson.loads((finished.path / "sharing.json").read_bytes())["mode"] == "timeslice"
    assert any("kv_cache_gib" in note for note in finished.run["notes"])
    assert (finished.path / "logs" / "vllm-chat.log").exists()
    assert [one["environment"]["HF_TOKEN"] for one in started] == ["very-secret"] * 2
    for file in filter(Path.is_file, finished.path.rglob("*")):
        assert b"very-secret" not in file.read_bytes(), file
    wait_clean(machine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_a_run_ends_nothing_of_its_servers_stays(
    number: signal.Signals, machine: Machine, start_locust: Callable[..., LocustProcess]
) -> None:
    run = start_locust(text(300), "--fairshare-no-report")
    run.wait_for("measure")
    run.wait_for_records(3)
    assert len(machine.told("vllm")) == 2
    run.signal(number)
    run.finish()
    wait_clean(machine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_while_a_server_starts_leaves_nothing(
    number: signal.Signals,
    machine: Machine,
    start_locust: Callable[..., LocustProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "never_ready")
    run = start_locust(text(300), "--fairshare-no-report")
    deadline_s = time.monotonic() + 60
    while not machine.told("vllm"):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    run.signal(number)
    finished = run.finish()
    assert finished.code != 0
    if number == signal.SIGINT:
        assert "interrupted before any load was sent" in finished.output
        assert finished.run["state"] == "interrupted"
    wait_clean(machine)


def test_a_server_that_dies_while_starting_ends_the_run_with_its_last_words(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "oom")
    finished = run_once(tmp_path, text(1), "--fairshare-no-report")
    assert finished.code == 2
    assert "fairshare: the vllm server of tenant 'chat' ended while starting with exit code 1" in finished.output
    assert "fairshare: torch.OutOfMemoryError" in finished.output
    wait_clean(machine)
