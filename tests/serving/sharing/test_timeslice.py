"""Time-slicing, and one server for all: kept from MPS daemons that would turn them into something else."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.sharing import SharingMode, open_mode
from fairshare_locust.serving.sharing.mps_control import servers
from tests.serving.engine_fixtures import Machine, profile
from tests.serving.fakes.gpu import FakeGpu
from tests.serving.sharing.idle import IdleServers

SLICED = "{engine: vllm, sharing: timeslice}"


@contextlib.contextmanager
def opened(deployment: str, folder: Path) -> Iterator[SharingMode]:
    mode = open_mode(profile(deployment, "chat", "batch"), folder)
    try:
        yield mode
    finally:
        mode.close()


@pytest.fixture
def stray(gpu: FakeGpu, tmp_path: Path) -> Iterator[Path]:
    """A daemon that somebody else has left running where CUDA looks: its pipe directory."""
    pipes = tmp_path / "usual"
    pipes.mkdir()
    own = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(pipes)}
    environment = {**os.environ, **own, "CUDA_VISIBLE_DEVICES": gpu.read()["uuid"]}
    with subprocess.Popen(["nvidia-cuda-mps-control", "-f"], env=environment) as daemon:
        try:
            while True:
                with contextlib.suppress(ServingError):
                    servers(pipes)
                    break
            yield pipes
        finally:
            asking = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(pipes)}
            subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", env=asking, check=False)
            daemon.wait()


def test_servers_look_for_mps_where_none_is(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    with opened(SLICED, machine.logs) as mode:
        chat, batch = mode.placements
        assert (chat.part, chat.tenants, batch.part, batch.tenants) == (0, ("chat",), 1, ("batch",))
        assert chat.environment["CUDA_VISIBLE_DEVICES"] == "0"
        assert chat.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert chat.environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "", "nobody's cap is inherited"
        assert chat.memory_fraction == batch.memory_fraction == pytest.approx(0.45)
        private = Path(chat.environment["CUDA_MPS_PIPE_DIRECTORY"])
        assert list(private.iterdir()) == []
        started = idle.start_all(mode.placements)
        gpu.set(users=[{"pid": one.child} for one in started])
        mode.verify([one.pid for one in started])
        verified = mode.evidence()["verified"]
    assert verified["ok"] is True
    assert verified["detail"] == "the driver shows all 2 servers as plain processes"
    assert mode.notes == ()
    assert not private.exists()


def test_a_server_that_found_a_stray_daemon_ran_under_mps(
    gpu: FakeGpu, machine: Machine, idle: IdleServers, stray: Path
) -> None:
    with opened(SLICED, machine.logs) as mode:
        assert mode.notes == (
            f"an MPS daemon runs at {stray}, where CUDA looks by default; the servers are kept from it",
        )
        chat = idle.start(mode.placements[0].environment)
        batch = idle.start({"CUDA_MPS_PIPE_DIRECTORY": str(stray)})
        with pytest.raises(ServingError, match=rf"the server of tenant 'batch' ran under MPS: the daemon at {stray}"):
            mode.verify([chat.pid, batch.pid])
        assert mode.evidence()["verified"]["ok"] is False


def test_the_driver_knows_a_client_of_mps(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    with opened(SLICED, machine.logs) as mode:
        started = idle.start_all(mode.placements)
        gpu.set(users=[{"pid": started[0].child}, {"pid": started[1].child, "type": "M+C"}])
        with pytest.raises(
            ServingError, match=r"tenant 'batch' ran under MPS: the driver shows pid \d+ with type M\+C"
        ):
            mode.verify([one.pid for one in started])


def test_a_server_that_has_ended_is_told(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    with opened(SLICED, machine.logs) as mode:
        started = idle.start_all(mode.placements)
        idle.end()
        with pytest.raises(ServingError, match="has ended before it could be verified"):
            mode.verify([one.pid for one in started])


def test_a_gpu_for_one_process_alone(gpu: FakeGpu, machine: Machine) -> None:
    gpu.set(compute_mode="Exclusive_Process")
    with pytest.raises(ServingError, match=r"compute mode Exclusive_Process, which keeps a second server out; sudo "):
        open_mode(profile(SLICED, "chat", "batch"), machine.logs)
    with opened("{engine: vllm}", machine.logs) as mode:
        [everybody] = mode.placements
    assert everybody.tenants == ("chat", "batch")
    assert everybody.memory_fraction == 0.9


def test_without_a_driver_it_is_said_so(machine: Machine, idle: IdleServers) -> None:
    with opened("{engine: transformers}", machine.logs) as mode:
        mode.verify([one.pid for one in idle.start_all(mode.placements)])
        evidence = mode.evidence()
    assert evidence["verified"]["ok"] is None
    assert evidence["verified"]["detail"] == "this host has no NVIDIA driver to ask"
    assert evidence["read_back"]["gpu"] is None


def test_containers_see_no_daemon_of_the_host(gpu: FakeGpu, machine: Machine) -> None:
    with opened("{engine: vllm, sharing: timeslice, server: {image: vllm/vllm-openai}}", machine.logs) as mode:
        assert "CUDA_MPS_PIPE_DIRECTORY" not in mode.placements[0].environment
    assert list(machine.logs.iterdir()) == []


def test_a_modelled_gpu_says_so(tmp_path: Path) -> None:
    with opened("{sharing: mps, simulator: {weights_mib: 0, sm_percent: {chat: 30}}}", tmp_path) as mode:
        mode.verify([])
        evidence = mode.evidence()
    assert mode.placements == ()
    assert evidence["verified"] == {
        "how": "modelled",
        "ok": True,
        "detail": "the simulator shares its modelled GPU in this way; no GPU was used",
    }
    assert evidence["asked"]["sm_percent"] == {"chat": 30}
    assert [part["sm_share"] for part in evidence["read_back"]["parts"]] == [0.3, 1.0]


def test_servers_elsewhere_are_not_verified(tmp_path: Path) -> None:
    with opened("{engine: external, sharing: mig}", tmp_path) as mode:
        evidence = mode.evidence()
    assert evidence["mode"] == "mig"
    assert evidence["verified"]["how"] == "not verified: started elsewhere"
    assert evidence["verified"]["ok"] is None
