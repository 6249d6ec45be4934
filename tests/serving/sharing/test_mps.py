"""MPS: a daemon of our own, whose list must have every server; faked driver, real processes and sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving import deploy
from fairshare_locust.serving.sharing import SharingMode, open_mode
from fairshare_locust.serving.sharing.mps_control import foreign_daemons, servers
from tests.serving.engine_fixtures import Machine, profile, profile_text
from tests.serving.fakes.gpu import FakeGpu
from tests.serving.sharing.idle import IdleServers

UUID = "GPU-11111111-2222-3333-4444-555555555555"
MPS = "{engine: vllm, sharing: mps, server: {stop_within_s: 5, sm_percent: {chat: 40}, memory_percent: {chat: 25}}}"


@contextlib.contextmanager
def opened(deployment: str, folder: Path, idle: IdleServers | None = None) -> Iterator[SharingMode]:
    mode = open_mode(profile(deployment, "chat", "batch"), folder)
    try:
        yield mode
    finally:
        if idle is not None:
            idle.end()
        mode.close()
        mode.close()


def pipes_of(mode: SharingMode) -> Path:
    return Path(mode.placements[0].environment["CUDA_MPS_PIPE_DIRECTORY"])


def test_the_daemon_lists_every_server(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    with opened(MPS, machine.logs, idle) as mode:
        pipes = pipes_of(mode)
        chat, batch = mode.placements
        assert chat.environment == {
            "CUDA_VISIBLE_DEVICES": UUID,
            "CUDA_MPS_PIPE_DIRECTORY": str(pipes),
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "40",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20389M",  # a quarter of 81,559 MiB
            "CUDA_MPS_SM_PARTITION": "",
            "CUDA_MPS_CLIENT_PRIORITY": "",
        }
        assert batch.environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == ""
        assert batch.environment["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == ""
        assert chat.memory_fraction == pytest.approx(0.9 * 0.25)
        assert len(str(pipes / "control_privileged")) <= 107
        assert servers(pipes) == ()
        clients = idle.start_all(mode.placements)
        mode.verify([one.pid for one in clients])
        evidence = mode.evidence()
    assert (evidence["mode"], evidence["emulated"]) == ("mps", False)
    assert evidence["asked"]["sm_percent"] == {"chat": 40}
    assert evidence["verified"]["ok"] is True
    assert [client["pids"] for client in evidence["read_back"]["clients"]] == [[one.child] for one in clients]
    assert [client["active_thread_percentage"] for client in evidence["read_back"]["clients"]] == ["40", None]
    assert evidence["read_back"]["clients"][0]["memory_limit"] == "0=20389M"
    assert evidence["read_back"]["servers"][0]["status"] == "ACTIVE"
    assert evidence["read_back"]["default_active_thread_percentage"] == "100.0"
    assert not pipes.exists()
    assert (machine.logs / "mps" / "control.log").exists()
    assert any("kv_cache_gib" in note for note in mode.notes)


def test_a_server_that_the_daemon_does_not_list_ran_without_mps(
    gpu: FakeGpu, machine: Machine, idle: IdleServers
) -> None:
    gpu.set(faults=["mps_forgets"])
    with opened(MPS, machine.logs, idle) as mode:
        clients = idle.start_all(mode.placements)
        with pytest.raises(ServingError, match=r"the server of tenant '\w+' ran without MPS: none of its processes"):
            mode.verify([one.pid for one in clients])
        assert mode.evidence()["verified"]["ok"] is False


def test_a_server_in_fault_is_told(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    gpu.set(faults=["mps_fault"])
    with opened(MPS, machine.logs, idle) as mode:
        clients = idle.start_all(mode.placements)
        with pytest.raises(ServingError, match="is in state FAULT, not ACTIVE"):
            mode.verify([one.pid for one in clients])


def test_a_daemon_that_dies_at_its_start_is_told(gpu: FakeGpu, machine: Machine) -> None:
    gpu.set(faults=["mps_dies"])
    with pytest.raises(ServingError, match=r"(?s)the MPS daemon ended .*already running"):
        open_mode(profile(MPS, "chat", "batch"), machine.logs)


def test_a_daemon_that_answers_nobody_is_told(gpu: FakeGpu, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.set(faults=["mps_deaf"])
    monkeypatch.setattr("fairshare_locust.serving.sharing.mps_daemon._READY_WITHIN_S", 0.5)
    monkeypatch.setattr("fairshare_locust.serving.sharing.mps_quit.__file__", _impatient(machine.logs))
    with pytest.raises(ServingError, match=r"the MPS daemon did not answer within 0\.5 s; see mps/control.log"):
        open_mode(profile(MPS, "chat", "batch"), machine.logs)


def test_a_daemon_that_does_not_quit_is_killed(gpu: FakeGpu, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.set(faults=["mps_stays"])
    monkeypatch.setattr("fairshare_locust.serving.sharing.mps_quit.__file__", _impatient(machine.logs))
    monkeypatch.setattr("fairshare_locust.serving.sharing.mps_daemon._BEYOND_S", 0.2)
    deployment = MPS.replace("stop_within_s: 5", "stop_within_s: 0.2")
    with opened(deployment, machine.logs) as mode:
        pipes = pipes_of(mode)
    assert not pipes.exists()


def _impatient(folder: Path) -> str:
    """mps_quit that does not wait for long."""
    from fairshare_locust.serving.sharing import mps_quit

    text = Path(mps_quit.__file__).read_text().replace("_GONE_WITHIN_S = 10.0", "_GONE_WITHIN_S = 0.2")
    (folder / "quit.py").write_text(text)
    return str(folder / "quit.py")


def test_no_control_program(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "bin" / "nvidia-cuda-mps-control").unlink()
    with pytest.raises(ServingError, match="nvidia-cuda-mps-control is not found on PATH, and MPS needs it"):
        open_mode(profile(MPS, "chat", "batch"), machine.logs)


def test_no_driver(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "bin" / "nvidia-smi").unlink()
    with pytest.raises(ServingError, match="nvidia-smi is not found on PATH"):
        open_mode(profile(MPS, "chat", "batch"), machine.logs)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"mig": "Enabled"}, r"MIG is on at GPU 0 .*turn it off for mps: sudo nvidia-smi -i 0 -mig 0"),
        ({"compute_mode": "Prohibited"}, "GPU 0 has compute mode Prohibited, .*-c DEFAULT"),
        ({"uuid": "GPU-9"}, r"deployment.server.gpu: found 1; this host has: 0: NVIDIA H100 80GB HBM3 \(GPU-9\)"),
    ],
)
def test_a_gpu_in_another_mode(state: dict[str, Any], message: str, gpu: FakeGpu, machine: Machine) -> None:
    gpu.set(**state)
    deployment = MPS.replace("{stop", "{gpu: 1, stop") if "uuid" in state else MPS
    with pytest.raises(ServingError, match=message):
        open_mode(profile(deployment, "chat", "batch"), machine.logs)


def test_a_daemon_of_others_is_told_and_not_used(
    gpu: FakeGpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "usual"
    usual.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(usual / "control"))
    [stale] = foreign_daemons()
    assert (stale.pipe_directory, stale.runs) == (usual, False)
    with opened(MPS, machine.logs) as mode:
        pipes = pipes_of(mode)
        assert pipes != usual
        assert any(f"a stale MPS daemon has left its files at {usual}" in note for note in mode.notes)
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipes))
        [live] = foreign_daemons()
        assert live.runs is True


def test_servers_of_an_engine_are_clients(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    deployed = deploy(profile(MPS, "chat", "batch"), machine.logs, directory=tmp_path)
    try:
        told = orjson.loads((tmp_path / "sharing.json").read_bytes())
        assert told["verified"] == {
            "how": "the daemon's list of clients has a process of every server",
            "ok": True,
            "detail": "2 of 2 servers, MPS server ACTIVE",
        }
        launched = [started["pid"] for started in machine.told("vllm")]
        clients = [pid for client in told["read_back"]["clients"] for pid in client["pids"]]
        assert len(clients) == 2
        assert not set(clients) & set(launched), "it is a child of the launched process that uses the GPU"
    finally:
        deployed.stop()


def test_an_engine_that_misses_the_daemon_is_caught(
    gpu: FakeGpu, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "no_mps")
    with pytest.raises(ServingError, match=r"the server of tenant 'chat' ran without MPS"):
        deploy(profile(MPS, "chat", "batch"), machine.logs, directory=tmp_path)
    assert orjson.loads((tmp_path / "sharing.json").read_bytes())["verified"]["ok"] is False


def test_nothing_outlives_a_killed_run(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(profile_text(MPS, "chat", "batch"))
    serving = subprocess.Popen(
        [sys.executable, "-m", "fairshare_locust", "serve", str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert serving.stdout is not None
    for line in serving.stdout:
        if line.startswith(b"serving"):
            break
    pipes = Path(machine.told("vllm")[0]["environment"]["CUDA_MPS_PIPE_DIRECTORY"])
    assert len(servers(pipes)[0].clients) == 2
    below = [psutil.Process(pid) for pid in machine.processes() if pid != serving.pid]
    serving.send_signal(signal.SIGKILL)
    serving.wait()
    serving.stdout.close()
    psutil.wait_procs(below)
    assert not pipes.exists()
    for folder in machine.temporary.iterdir():  # of logs, which a killed run can't remove
        assert folder.name.startswith("fairshare-logs-")
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        folder.rmdir()
