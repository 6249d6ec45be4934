"""HostGpus: the GPUs of this host, through the driver; processes go by the server that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairshare_locust.telemetry.nvml import PROCESS, NvmlSource
from fairshare_locust.telemetry.processes import owner
from fairshare_locust.telemetry.source import Sample, UnavailableError

__all__ = ["HostGpus"]


class HostGpus:
    """NVML's samples. `servers` are the endpoints of the servers that we started, by process id.

    A process is the device `<gpu>/pid<pid>`; those of a server that we started are one device `<gpu>/<endpoint>`,
    with the sum of their values.
    """

    def __init__(self, servers: Mapping[int, str]) -> None:
        """Open the driver, in the process that samples it. Raises UnavailableError."""
        nvml = NvmlSource.open()
        if isinstance(nvml, str):
            raise UnavailableError(f"no GPU of this host is sampled: {nvml}")
        self._nvml = nvml
        self._servers = servers

    @property
    def problems(self) -> list[str]:
        """What went wrong, told once each."""
        return list(self._nvml.problems)

    def begin(self) -> None:
        """What is read only now and then is due again, and nothing is an average over the time before."""
        self._nvml.begin()

    def sample(self, whole: bool, last: bool = False) -> list[Sample]:  # noqa: ARG002 (it knows by itself what is due)
        """What is due now; all there is for the last time."""
        values: dict[tuple[str, str], float] = {}
        for device, metric, value in self._nvml.sample(last):
            key = (self._named(device), metric)
            values[key] = values.get(key, 0.0) + value
        return [(device, metric, value) for (device, metric), value in values.items()]

    def describe(self) -> dict[str, Any]:
        """The devices, what they do not support, and which of them were lost."""
        return {
            "devices": self._nvml.devices,
            "unsupported": self._nvml.unsupported,
            "lost": self._nvml.lost,
        }

    def close(self) -> None:
        """Let go of the driver."""
        self._nvml.close()

    def _named(self, device: str) -> str:
        process = PROCESS.fullmatch(device)
        server = owner(int(process["pid"]), self._servers) if process and self._servers else None
        return f"{process['gpu']}/{server}" if process and server else device
