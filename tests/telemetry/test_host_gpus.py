"""The processes on a GPU go by the servers that they belong to."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fairshare_locust.telemetry import host_gpus
from fairshare_locust.telemetry.host_gpus import HostGpus
from fairshare_locust.telemetry.source import Sample, UnavailableError


class Nvml:
    """A driver with one GPU and three processes on it."""

    problems = ("slow",)
    devices = ("GPU-a",)
    lost: dict[str, str] = {}  # noqa: RUF012
    unsupported: dict[str, Any] = {}  # noqa: RUF012

    @staticmethod
    def open() -> Nvml:
        return Nvml()

    def begin(self) -> None:
        self.begun = True

    def sample(self, last: bool) -> list[Sample]:
        if last:
            return [("GPU-a", "pcie_tx_bytes_per_s", 1.0)]
        ours, parents = os.getpid(), os.getppid()
        return [
            ("GPU-a", "power_w", 70.0),
            (f"GPU-a/pid{ours}", "process_memory_bytes", 100.0),
            (f"GPU-a/pid{parents}", "process_memory_bytes", 20.0),
            ("GPU-a/pid1", "process_memory_bytes", 3.0),
        ]

    def close(self) -> None:
        pass


def test_processes_of_a_server_are_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_gpus, "NvmlSource", Nvml)
    gpus = HostGpus({os.getppid(): "http://a:8000"})
    assert gpus.sample(False) == [
        ("GPU-a", "power_w", 70.0),
        ("GPU-a/http://a:8000", "process_memory_bytes", 120.0),
        ("GPU-a/pid1", "process_memory_bytes", 3.0),
    ]
    assert gpus.problems == ["slow"]


def test_without_servers_of_ours_processes_go_by_their_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_gpus, "NvmlSource", Nvml)
    assert f"GPU-a/pid{os.getpid()}" in {device for device, _, _ in HostGpus({}).sample(False)}


def test_the_driver_is_told_of_the_beginning_and_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setattr(Nvml, "open", lambda: nvml)
    monkeypatch.setattr(host_gpus, "NvmlSource", Nvml)
    gpus = HostGpus({})
    gpus.begin()
    assert nvml.begun
    assert gpus.sample(True, last=True) == [("GPU-a", "pcie_tx_bytes_per_s", 1.0)]


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nvml, "open", lambda: "there is no libnvidia-ml.so.1")
    monkeypatch.setattr(host_gpus, "NvmlSource", Nvml)
    with pytest.raises(UnavailableError, match=r"no GPU of this host is sampled: there is no libnvidia-ml\.so\.1"):
        HostGpus({})
