"""RemoteGpus: the GPUs of another host, from a DCGM exporter or from our own agent there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from prometheus_client.samples import Sample as PrometheusSample

from fairshare_locust.telemetry.exposition import read_samples
from fairshare_locust.telemetry.names import DCGM
from fairshare_locust.telemetry.nvml import PROCESS
from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.source import Sample, UnavailableError

__all__ = ["RemoteGpus"]

_AGENT = "fairshare_gpu_"
_AGENT_CLOCK = "fairshare_gpu_sample_unix_s"
_AGENT_INFO = "fairshare_gpu_info"
_AGENT_UNSUPPORTED = "fairshare_gpu_unsupported"
_STALE_INTERVALS = 3
_NOT_TOLD = "not sent by the exporter; see its list of counters"
_MEMORY_PARTS = ("memory_free_bytes", "memory_reserved_bytes")

# DCGM's values for "there is none" and their reasons (not found, not supported, no permission): dcgm_structs.h.
_BLANK = frozenset(blank + reason for blank in (0x7FFFFFF0, 2**47) for reason in range(4))
_INT64_BLANK = float(0x7FFFFFFFFFFFFFF0)  # as a float the same as its reasons

_Devices = dict[str, dict[str, float]]


class RemoteGpus:
    """What an exporter or an agent says of each GPU and each MIG slice, under NVML's names.

    A device is its UUID, or `gpu` and its index; a slice has `/gi` and its instance after it. `stale_s` are the
    seconds since any value of the device changed, as far as we saw: an exporter samples at its own pace. Processes,
    which only the agent tells, are in the samples as `<gpu>/pid<pid>`, and no devices.
    """

    def __init__(
        self,
        kind: Literal["dcgm", "agent"],
        url: str,
        interval_s: float,
        scraper: Scraper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problems: list[str] = []
        self._kind = kind
        self._url = url
        self._interval_s = interval_s
        self._scraper = scraper
        self._clock = clock
        self._last: dict[str, tuple[float, Mapping[str, float], float | None]] = {}
        self._longest_stale_s: dict[str, float] = {}
        self._models: dict[str, str | None] = {}
        self._infos: dict[str, dict[str, str]] = {}
        self._unsupported: dict[str, dict[str, str]] = {}
        self._told: set[str] = set()
        self._stale_told = False

    def begin(self) -> None:
        """It is sampled elsewhere, at a pace of its own: there is nothing to begin."""

    def sample(self, whole: bool, last: bool = False) -> list[Sample]:  # noqa: ARG002 (each scrape has everything)
        """Every value of every device, and `stale_s`. Raises UnavailableError."""
        text = self._scraper.get()
        wanted = DCGM.__contains__ if self._kind == "dcgm" else _is_agents
        samples, malformed = read_samples(text, wanted)
        if malformed:
            self._problem(f"{self._url} has lines that can't be read, such as {malformed[0][:80]!r}")
        devices = self._dcgm_devices(samples) if self._kind == "dcgm" else self._agent_devices(samples)
        clocks = [sample.value for sample in samples if sample.name == _AGENT_CLOCK]
        if not devices and clocks:
            raise UnavailableError(
                f"{self._url} tells nothing of any GPU: they are lost; see what the agent says there"
            )
        if not devices:
            whose = "a DCGM exporter" if self._kind == "dcgm" else "the agent"
            raise UnavailableError(f"{self._url} has no GPU; it should be the /metrics of {whose}")
        for gpu in self._infos:
            if "/" not in gpu and gpu not in devices:
                self._problem(f"{self._url} tells nothing of {gpu}: it is lost; see what the agent says there")
        rows: list[Sample] = []
        for device, values in devices.items():
            self._told.update(values)
            rows += ((device, metric, value) for metric, value in values.items())
            if not PROCESS.fullmatch(device):
                rows.append((device, "stale_s", self._stale_s(device, values, clocks[0] if clocks else None)))
        return rows

    def describe(self) -> dict[str, Any]:
        """The devices, with their model and how long their values stood still at most, and what they do not tell."""
        every = [field.name for field in DCGM.values()] if self._kind == "dcgm" else []
        missing = {name: _NOT_TOLD for name in every if name not in self._told and name not in _MEMORY_PARTS}
        not_told = dict.fromkeys(self._models, missing) if missing else {}
        return {
            "url": self._url,
            "devices": [
                {
                    "device": device,
                    "name": name,
                    **self._infos.get(device, {}),
                    "simulated": device.startswith("SIM-"),
                    "longest_stale_s": round(self._longest_stale_s.get(device, 0.0), 3),
                }
                for device, name in self._models.items()
            ],
            "unsupported": self._unsupported if self._kind == "agent" else not_told,
        }

    def close(self) -> None:
        """Close its connection."""
        self._scraper.close()

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def _dcgm_devices(self, samples: Iterable[PrometheusSample]) -> _Devices:
        devices: _Devices = {}
        for sample in samples:
            field = DCGM[sample.name]
            if _is_blank(sample.value):
                continue
            labels = sample.labels
            device = labels.get("UUID") or f"gpu{labels.get('gpu', '')}"
            if instance := labels.get("GPU_I_ID"):
                device += f"/gi{instance}"
            self._models.setdefault(device, labels.get("modelName"))
            # On Kubernetes a device has a line for each container that sees it, all with the same value.
            devices.setdefault(device, {}).setdefault(field.name, sample.value * field.factor)
        for values in devices.values():
            _complete_memory(values)
        return devices

    def _agent_devices(self, samples: Iterable[PrometheusSample]) -> _Devices:
        devices: _Devices = {}
        for sample in samples:
            labels = sample.labels
            device = labels.get("device")
            if device and sample.name == _AGENT_INFO:
                self._infos[device] = {name: labels.get(name, "") for name in ("name", "driver", "mig")}
                self._models.setdefault(device, labels.get("name"))
            elif device and sample.name == _AGENT_UNSUPPORTED:
                self._unsupported.setdefault(device, {})[labels.get("metric", "")] = labels.get("why", "")
            elif device and math.isfinite(sample.value):
                if not PROCESS.fullmatch(device):
                    self._models.setdefault(device, labels.get("name"))
                devices.setdefault(device, {})[sample.name.removeprefix(_AGENT)] = sample.value
        return devices

    def _stale_s(self, device: str, values: Mapping[str, float], clock: float | None) -> float:
        now_s = self._clock()
        since_s, before, before_clock = self._last.get(device, (now_s, None, None))
        if values != before or clock != before_clock:
            since_s = now_s
        self._last[device] = since_s, values, clock
        stale_s = now_s - since_s
        self._longest_stale_s[device] = max(stale_s, self._longest_stale_s.get(device, 0.0))
        if stale_s > _STALE_INTERVALS * self._interval_s and not self._stale_told:
            self._stale_told = True
            fix = (
                "start the exporter with a shorter --collect-interval" if self._kind == "dcgm" else "look at the agent"
            )
            self._problem(
                f"{self._url}: no value of {device} changed for more than {_STALE_INTERVALS} scrapes "
                f"({self._interval_s:g} s each): it is sampled more rarely there; {fix}"
            )
        return stale_s


def _is_agents(name: str) -> bool:
    return name.startswith(_AGENT)


def _is_blank(value: float) -> bool:
    return not math.isfinite(value) or value >= _INT64_BLANK or value in _BLANK


def _complete_memory(values: dict[str, float]) -> None:
    """Total memory from its parts, where the exporter tells only those."""
    free = values.pop("memory_free_bytes", None)
    reserved = values.pop("memory_reserved_bytes", 0.0)
    used = values.get("memory_used_bytes")
    if free is not None and used is not None:
        values.setdefault("memory_total_bytes", used + free + reserved)
