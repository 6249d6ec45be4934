"""MIG: slices that are there, or that are made for the run and taken down again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.sharing import SharingMode, open_mode
from fairshare_locust.serving.sharing.mig_slices import read_layout
from fairshare_locust.serving.sharing.nvidia_smi import find_gpu, free_profiles, mig_devices
from tests.serving.engine_fixtures import Machine, profile, profile_text
from tests.serving.fakes.gpu import FakeGpu
from tests.serving.sharing.idle import IdleServers


def deployment(server: str = "", engine: str = "tgi") -> str:
    return f"{{engine: {engine}, sharing: mig, server: {{stop_within_s: 1, {server}}}}}"


def refusal(machine: Machine, text: str) -> str:
    with pytest.raises(ServingError) as caught:
        open_mode(profile(text, "chat", "batch"), machine.logs)
    return str(caught.value)


def devices(mode: SharingMode) -> list[str]:
    return [placement.environment["CUDA_VISIBLE_DEVICES"] for placement in mode.placements]


def profiles(gpu: FakeGpu) -> list[tuple[str, int]]:
    return [(one["profile"], one["start"]) for one in gpu.read()["instances"]]


def test_what_nvidia_smi_prints_is_read(gpu: FakeGpu) -> None:
    gpu.add_slices("3g.40gb", "1g.10gb+me")
    there = find_gpu(0)
    assert (there.index, there.memory_mib, there.mig, there.driver) == (0, 81559, "Enabled", "610.43.02")
    assert [(one.profile, one.index) for one in mig_devices(there)] == [("3g.40gb", 0), ("1g.10gb+me", 1)]
    assert free_profiles(there)["1g.10gb+me"] == (2, 7)
    assert read_layout(there).instances == ((9, 0, (2,)), (20, 4, (0,)))


def test_slices_are_matched_by_their_profile(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    gpu.add_slices("3g.40gb", "1g.10gb+me")
    big, small = gpu.slice_uuids()
    mode = open_mode(profile(deployment("mig: {chat: 1g.10gb+me, batch: 3g.40gb}"), "chat", "batch"), machine.logs)
    try:
        assert devices(mode) == [small, big]
        assert [placement.device for placement in mode.placements] == [small, big]
        assert [placement.memory_fraction for placement in mode.placements] == [0.9, 0.9], "of the slice"
        chat, batch = idle.start_all(mode.placements)
        gpu.set(users=[{"pid": chat.child, "slice": 1}, {"pid": batch.child, "slice": 0}])
        mode.verify([chat.pid, batch.pid])
        evidence = mode.evidence()
        assert evidence["verified"]["ok"] is True
        assert evidence["verified"]["detail"].startswith("2 of 2 servers by the driver's list")
        assert [one["profile"] for one in evidence["read_back"]["slices"]] == ["1g.10gb+me", "3g.40gb"]
        assert evidence["read_back"]["made_by_us"] is False
        gpu.set(users=[{"pid": chat.child, "slice": 0}, {"pid": batch.child, "slice": 0}])
        with pytest.raises(ServingError, match=r"tenant 'chat' runs on slice 0, not on its slice 1 \(1g.10gb\+me\)"):
            mode.verify([chat.pid, batch.pid])
    finally:
        mode.close()


def test_slices_that_are_alike_need_no_names(gpu: FakeGpu, machine: Machine) -> None:
    gpu.add_slices("2g.20gb", "2g.20gb")
    mode = open_mode(profile(deployment(), "chat", "batch"), machine.logs)
    mode.close()
    assert devices(mode) == gpu.slice_uuids()


def test_where_the_driver_shows_nothing_it_is_not_verified(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    gpu.add_slices("2g.20gb", "2g.20gb")
    mode = open_mode(profile(deployment(), "chat", "batch"), machine.logs)
    try:
        mode.verify([one.pid for one in idle.start_all(mode.placements)])
    finally:
        mode.close()
    verified = mode.evidence()["verified"]
    assert verified["ok"] is None
    assert verified["detail"].startswith("0 of 2 servers by the driver's list, 2 by their environment alone")


def test_vllm_on_a_later_slice_must_be_seen_there(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    gpu.add_slices("2g.20gb", "2g.20gb")
    mode = open_mode(profile(deployment(engine="vllm"), "chat", "batch"), machine.logs)
    try:
        assert "take the number of a MIG slice for that of a GPU" in mode.notes[0]
        with pytest.raises(ServingError, match=r"vllm may take slice 1 for another; give deployment.server.image"):
            mode.verify([one.pid for one in idle.start_all(mode.placements)])
    finally:
        mode.close()


@pytest.mark.parametrize(
    ("slices", "server", "message"),
    [
        (["3g.40gb"], "", r"2 tenants need a slice each; GPU 0 has slices: 3g.40gb \(device 0\); make the slices"),
        (["3g.40gb", "3g.40gb"], "mig: {chat: 3g.40bg}", "found '3g.40bg'; no slice of this profile.*did you mean"),
        (["3g.40gb"], "mig: {chat: 3g.40gb, batch: 3g.40gb}", "mig.batch: found '3g.40gb'; no slice of this profile"),
        (["3g.40gb", "2g.20gb"], "", "it is not said which slice is for 'chat', 'batch'"),
        ([], "manage_mig: true, mig: {chat: 3g.40gb}", "each needs a profile; missing: 'batch'"),
    ],
)
def test_slices_that_do_not_match(
    slices: Sequence[str], server: str, message: str, gpu: FakeGpu, machine: Machine
) -> None:
    gpu.add_slices(*slices)
    with pytest.raises(ServingError, match=message):
        open_mode(profile(deployment(server), "chat", "batch"), machine.logs)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"mig": None, "name": "NVIDIA L4"}, "GPU 0 (NVIDIA L4) has no MIG; take sharing: mps"),
        ({}, "nobody may use the GPU when you turn it on: sudo nvidia-smi -i 0 -mig 1"),
        ({"mig_pending": "Enabled"}, "it waits for a reset: sudo nvidia-smi -i 0 --gpu-reset"),
    ],
)
def test_a_gpu_without_mig(state: dict[str, Any], message: str, gpu: FakeGpu, machine: Machine) -> None:
    gpu.set(**state)
    assert message in refusal(machine, deployment("manage_mig: true, mig: {chat: 3g.40gb, batch: 3g.40gb}"))
    assert gpu.read()["said"] == []


MANAGED = "manage_mig: true, mig: {chat: 1g.10gb, batch: 3g.40gb}"


def test_slices_are_made_and_what_was_is_restored(gpu: FakeGpu, machine: Machine) -> None:
    gpu.add_slices("1g.10gb", "2g.20gb")
    gpu.set(busy_for=0)
    before = profiles(gpu)
    mode = open_mode(profile(deployment(MANAGED), "chat", "batch"), machine.logs)
    try:
        assert [one["profile"] for one in gpu.read()["instances"]] == ["3g.40gb", "1g.10gb"], "the larger one first"
        assert [one["profile"] for one in mode.evidence()["read_back"]["slices"]] == ["1g.10gb", "3g.40gb"]
        assert mode.evidence()["read_back"]["made_by_us"] is True
        gpu.set(busy_for=1)  # a server that is about to end
    finally:
        mode.close()
        mode.close()
    assert profiles(gpu) == before
    assert all(len(one["inside"]) == 1 for one in gpu.read()["instances"])


def test_slices_that_fit_already_are_left_alone(gpu: FakeGpu, machine: Machine) -> None:
    gpu.add_slices("3g.40gb", "1g.10gb")
    mode = open_mode(profile(deployment(MANAGED), "chat", "batch"), machine.logs)
    mode.close()
    assert not any("-cgi" in said or "-dgi" in said for said in gpu.read()["said"])


@pytest.mark.parametrize(
    ("faults", "more", "server", "message"),
    [
        (["no_permission"], {}, MANAGED, "Insufficient Permissions; managing MIG needs root"),
        ([], {"users": [{"pid": 4242, "slice": 0}]}, MANAGED, "its slices are in use by pid 4242"),
        ([], {}, MANAGED.replace("1g", "4g").replace("10gb", "40gb").replace("3g", "7g").replace("batch: 7g.40gb",
            "batch: 7g.80gb"), "they don't fit on this GPU together"),
        ([], {}, MANAGED.replace("1g.10gb", "1g.5gb"), "found '1g.5gb'; GPU 0 .* has the profiles 1g.10gb, "),
    ],
)  # fmt: skip
def test_slices_that_can_not_be_made(
    faults: list[str], more: dict[str, Any], server: str, message: str, gpu: FakeGpu, machine: Machine
) -> None:
    gpu.add_slices("1g.10gb", "2g.20gb")
    gpu.set(faults=faults, **more)
    before = profiles(gpu)
    with pytest.raises(ServingError, match=message):
        open_mode(profile(deployment(server), "chat", "batch"), machine.logs)
    assert profiles(gpu) == before
    assert machine.processes() == []


def test_slices_that_can_not_be_restored_are_told(
    gpu: FakeGpu, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    gpu.add_slices("1g.10gb")
    mode = open_mode(profile(deployment(MANAGED), "chat", "batch"), machine.logs)
    gpu.set(faults=["no_permission"])
    mode.close()
    told = capfd.readouterr().err
    assert "fairshare: GPU 0: its MIG slices were not restored: " in told
    assert "before the run there was: profile 19 at 0 with compute instances of profile 0" in told


def test_a_killed_run_restores_what_was(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    gpu.add_slices("1g.10gb", "2g.20gb")
    before = profiles(gpu)
    path = tmp_path / "p.yaml"
    path.write_text(profile_text(deployment(MANAGED), "chat", "batch"))
    code = (
        "import sys, signal; from pathlib import Path; from fairshare_locust.profile import load_profile\n"
        "from fairshare_locust.serving.sharing import open_mode\n"
        "mode = open_mode(load_profile(Path(sys.argv[1])), Path(sys.argv[2])); print('open', flush=True)\n"
        "signal.pause()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(path), str(machine.logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"open\n"
        assert profiles(gpu) != before
        below = [psutil.Process(pid) for pid in machine.processes() if pid != running.pid]
        running.send_signal(signal.SIGKILL)
    psutil.wait_procs(below)
    assert profiles(gpu) == before
