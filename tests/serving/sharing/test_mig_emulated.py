"""Caps that stand in for MIG: by MPS where it is there, and said to be emulated wherever they appear."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairshare_locust.serving.sharing import label_of, open_mode
from tests.serving.engine_fixtures import Machine, profile
from tests.serving.fakes.gpu import FakeGpu
from tests.serving.sharing.idle import IdleServers

CAPPED = (
    "{engine: vllm, sharing: mig_emulated, server: "
    "{sm_percent: {chat: 40, batch: 60}, memory_percent: {chat: 40, batch: 60}}}"
)
LABEL = "emulated, not isolated"


def test_mps_caps_the_sms_and_the_memory(gpu: FakeGpu, machine: Machine, idle: IdleServers) -> None:
    mode = open_mode(profile(CAPPED, "chat", "batch"), machine.logs)
    try:
        chat, batch = mode.placements
        assert chat.environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "40"
        assert batch.environment["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=48935M"  # 60 % of 81,559 MiB
        mode.verify([one.pid for one in idle.start_all(mode.placements)])
        evidence = mode.evidence()
    finally:
        idle.end()
        mode.close()
    assert (evidence["mode"], evidence["emulated"], evidence["label"]) == ("mig_emulated", True, LABEL)
    assert evidence["by"] == "mps"
    assert evidence["asked"]["sm_percent"] == {"chat": 40, "batch": 60}
    assert evidence["verified"]["ok"] is True
    assert LABEL in mode.notes[0]


def test_without_mps_memory_alone_is_capped(gpu: FakeGpu, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "bin" / "nvidia-cuda-mps-control").unlink()
    mode = open_mode(profile(CAPPED, "chat", "batch"), machine.logs)
    mode.close()
    assert [one.memory_fraction for one in mode.placements] == pytest.approx([0.36, 0.54])
    assert mode.evidence()["by"] == "timeslice"
    assert mode.notes[1].startswith("mig_emulated: sm_percent is not kept to: nvidia-cuda-mps-control is not found")


def test_without_caps_on_the_sms_no_daemon_is_started(gpu: FakeGpu, machine: Machine) -> None:
    mode = open_mode(profile("{engine: vllm, sharing: mig_emulated}", "chat", "batch"), machine.logs)
    mode.close()
    assert mode.evidence()["by"] == "timeslice"
    assert machine.processes() == []


def test_only_what_is_emulated_has_a_label() -> None:
    assert label_of("mig_emulated") == LABEL
    assert label_of("mig") is None
