"""NvmlSource: what the GPUs of this host say of themselves, asked of NVIDIA's driver through the package nvidia-ml-py.

A device is a GPU by its UUID, a MIG slice `<uuid>/gi<GPU instance>`, or a process `<uuid>/pid<pid>`. What a device does
not support has no rows, never zeros: it is asked for once, and then stands in `unsupported`.
"""

from __future__ import annotations

import importlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

from fairshare_locust.telemetry.gpm import GPM_METRICS, MIN_WINDOW_S, Gpm

__all__ = ["FUNCTIONS", "METRICS", "PROCESS", "SLOW_S", "THROTTLE_REASONS", "Gpu", "NvmlSource", "Row", "Slice"]

Row = tuple[str, str, float]
"""(device, metric, value)"""

PROCESS = re.compile(r"(?P<gpu>.+)/pid(?P<pid>\d+)")
"""The device that is a process."""

THROTTLE_REASONS = {
    "throttle_sw_power_cap": (0x4, "held back to keep to the power limit"),
    "throttle_hw_slowdown": (0x8, "slowed down by the hardware (heat, power brake or power draw)"),
    "throttle_sw_thermal": (0x20, "held back by the driver to keep to the temperature limit"),
    "throttle_hw_thermal": (0x40, "slowed down by the hardware: too hot"),
    "throttle_hw_power_brake": (0x80, "slowed down by the system's power brake"),
    "throttle_sync_boost": (0x10, "held at the clocks of the slowest GPU of its sync-boost group"),
    "throttle_applications_clocks": (0x2, "held at clocks that somebody set"),
    "throttle_display_clocks": (0x100, "held at clocks that a display needs"),
}
"""Metric → (bit of NVML's clock event reasons, what it means): 1 while it holds the clocks down, else 0."""

METRICS: Mapping[str, str] = {
    "gpu_utilization_ratio": "share of the driver's sampling period in which any kernel ran; not how full the GPU was",
    "memory_copy_utilization_ratio": "share of the driver's sampling period in which memory was read or written",
    "memory_used_bytes": "memory in use, without what the driver reserves",
    "memory_total_bytes": "memory there is",
    "power_w": "power draw, on most GPUs averaged over a second",
    "energy_j_total": "energy since the driver was loaded",
    "temperature_c": "temperature of the chip",
    "sm_clock_mhz": "clock of the SMs",
    "memory_clock_mhz": "clock of the memory",
    **{metric: words for metric, (_, words) in THROTTLE_REASONS.items()},
    "sm_active_ratio": "share of time in which an SM had work, over all SMs",
    "sm_occupancy_ratio": "warps that were active of those that fit",
    "tensor_active_ratio": "share of time in which tensor cores worked",
    "dram_active_ratio": "memory bandwidth in use of what there is",
    "process_memory_bytes": "memory of one process",
    "process_sm_ratio": "share of the driver's sampling periods in which a kernel of one process ran",
    "pcie_tx_bytes_per_s": "sent by the GPU over PCIe, in 20 ms",
    "pcie_rx_bytes_per_s": "received by the GPU over PCIe, in 20 ms",
}
"""Every metric and what it means. Units are in the names."""

SLOW_S: Mapping[str, float] = {
    "process_memory_bytes": 5.0,  # a list of processes takes milliseconds under the driver's lock
    "process_sm_ratio": 5.0,
    "pcie_tx_bytes_per_s": 10.0,  # the driver blocks 20 ms per direction
    "pcie_rx_bytes_per_s": 10.0,
}
"""Seconds between two readings of what is not read with every sample."""

FUNCTIONS = (
    "nvmlInit",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetSupportedClocksEventReasons",
    "nvmlDeviceGetSupportedClocksThrottleReasons",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetPcieThroughput",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetAttributes",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
    "nvmlGpmSampleFree",
)
"""What we call in the module pynvml."""


class _Code(IntEnum):
    """Return codes of NVML, as its C header numbers them."""

    SUCCESS = 0
    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    ARGUMENT_VERSION_MISMATCH = 25
    GPU_NOT_FOUND = 28


_NO_DRIVER = {
    _Code.LIBRARY_NOT_FOUND: "there is no libnvidia-ml.so.1, so no NVIDIA driver, on this host",
    _Code.DRIVER_NOT_LOADED: "NVIDIA's library is there, but the kernel's driver is not loaded",
    _Code.LIB_RM_VERSION_MISMATCH: "NVIDIA's library and the loaded driver differ in version: the driver was updated; "
    "reboot, or reload it",
    _Code.NO_PERMISSION: "no permission to ask the NVIDIA driver",
}
_UNSUPPORTED = {
    _Code.NOT_SUPPORTED: "not supported on this device",
    _Code.NO_PERMISSION: "no permission to read it",
    _Code.FUNCTION_NOT_FOUND: "this driver has no call for it",
    _Code.ARGUMENT_VERSION_MISMATCH: "this driver has another version of the call for it",
}
_LOST = {
    _Code.GPU_IS_LOST: "the GPU is lost: it fell off the bus, or became inaccessible",
    _Code.RESET_REQUIRED: "the GPU needs a reset",
    _Code.UNINITIALIZED: "the driver was unloaded or reloaded",
    _Code.DRIVER_NOT_LOADED: "the driver was unloaded",
    _Code.LIB_RM_VERSION_MISMATCH: "the driver was replaced by another version",
    _Code.GPU_NOT_FOUND: "the GPU is gone",
}
_NOT_OF_A_SLICE = "the driver has it for the whole GPU only"
_TRIES = 3  # for a list that grew between asking for its size and for itself
_BYTES_PER_KB = 1024  # NVML's unit is "KB"; nvtop and nvitop read it so


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A GPU instance of MIG; `device` names it in the rows. `uuids` has one entry per compute instance in it.

    None: the driver doesn't say.
    """

    device: str
    name: str
    uuids: tuple[str, ...]
    memory_total_bytes: int | None
    multiprocessors: int | None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as its driver describes it; `uuid` names it in the rows. None: the driver doesn't say."""

    uuid: str
    name: str
    driver: str
    memory_total_bytes: int | None
    mig: bool
    slices: tuple[Slice, ...]


@dataclass
class _Reading:
    """One question to the driver: what it tells of which device, and how often it is asked.

    `window_s` is the shortest time that may lie between two readings, `restart` begins what a reading lasts over.
    """

    gpu: str
    device: str
    metrics: tuple[str, ...]
    rows: Callable[[], Iterable[Row]]
    every_s: float = 0.0
    window_s: float = 0.0
    restart: Callable[[], None] | None = None
    read_s: float = -math.inf


class NvmlSource:
    """The GPUs of this host, to be sampled by one thread of the process that opened it.

    The driver's state does not survive a fork: open it after the last fork, in the process that samples.

    Attributes:
        devices: the GPUs and their slices, as they were when opened.
        problems: what went wrong, in words, each once.
        unsupported: device → metric → why it has no rows, in words.
        lost: GPU → why it is sampled no more, in words.
        gaps: device → metric → readings that failed, and so left a gap.
    """

    def __init__(self, nvml: Any, clock: Callable[[], float]) -> None:
        """`nvml` is the module pynvml, initialised. Use `open`. Raises NVMLError if the GPUs can't be counted."""
        self._nvml = nvml
        self._clock = clock
        self._readings: list[_Reading] = []
        self._gpms: list[Gpm] = []
        self._told: set[tuple[str, int]] = set()
        self._closed = False
        self.devices: list[Gpu] = []
        self.problems: list[str] = []
        self.unsupported: dict[str, dict[str, str]] = {}
        self.lost: dict[str, str] = {}
        self.gaps: dict[str, Counter[str]] = {}
        driver = _text(self._ask("nvmlSystemGetDriverVersion")) or "unknown"
        for index in range(nvml.nvmlDeviceGetCount()):
            self._add(index, driver)
        # Slow readings last: the others then lie close together in time.
        self._readings.sort(key=lambda reading: any(metric in SLOW_S for metric in reading.metrics))

    @classmethod
    def open(cls, clock: Callable[[], float] = time.monotonic) -> NvmlSource | str:
        """The GPUs of this host, or in words why there are none to sample. `clock` is in seconds."""
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            return "the package nvidia-ml-py is not installed; pip install nvidia-ml-py"
        lacking = [name for name in FUNCTIONS if not hasattr(nvml, name)]
        if lacking:
            return (
                f"the module pynvml at {nvml.__file__} has no {lacking[0]}: it is old, or not of the package "
                "nvidia-ml-py; pip uninstall pynvml, then pip install --force-reinstall nvidia-ml-py"
            )
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return _NO_DRIVER.get(error.value) or f"the NVIDIA driver does not start up: {error}"
        try:
            source = cls(nvml, clock)
        except nvml.NVMLError as error:
            nvml.nvmlShutdown()
            return f"the NVIDIA driver does not tell its GPUs: {error}"
        if not source.devices:
            source.close()
            return "; ".join(["the NVIDIA driver answers, but has no GPU for us", *source.problems])
        return source

    def begin(self) -> None:
        """Start afresh: everything is due, and what is told over a time is told over the time from now on."""
        now_s = self._clock()
        for reading in list(self._readings):
            if reading.restart is None:
                reading.read_s = -math.inf
            elif reading.gpu not in self.lost:
                reading.read_s = now_s
                self._attempt(reading, reading.restart)

    def sample(self, last: bool = False) -> list[Row]:
        """Read everything that is due now: fast metrics at each call, and first; the others as `SLOW_S` says.

        `last`: the others too, as there is no later.
        """
        rows: list[Row] = []
        now_s = self._clock()
        for reading in list(self._readings):
            pause_s = reading.window_s if last else reading.every_s
            if reading.gpu not in self.lost and now_s >= reading.read_s + pause_s:
                reading.read_s = now_s
                rows += self._attempt(reading, partial(self._patiently, reading.rows))
        return rows

    def close(self) -> None:
        """Let go of the driver; safe to call twice, and with every GPU lost."""
        if self._closed:
            return
        self._closed = True
        self._readings.clear()
        try:
            for gpm in self._gpms:
                gpm.close()
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass  # the driver has gone before us

    def _attempt(self, reading: _Reading, ask: Callable[[], list[Row] | None]) -> list[Row]:
        """What the driver answers; nothing if it refuses, and if it always will the reading is given up."""
        try:
            return ask() or []
        except self._nvml.NVMLError as error:
            if self._failed(reading.gpu, reading.device, reading.metrics, error):
                self._readings.remove(reading)
            return []

    def _patiently(self, rows: Callable[[], Iterable[Row]]) -> list[Row]:
        for _ in range(_TRIES - 1):
            try:
                return list(rows())
            except self._nvml.NVMLError as error:
                if error.value != _Code.INSUFFICIENT_SIZE:
                    raise
        return list(rows())

    def _failed(self, gpu: str, device: str, metrics: Iterable[str], error: Any) -> bool:
        """Note a reading that raised NVMLError; whether asking again is pointless."""
        if error.value in _LOST:
            self.lost[gpu] = _LOST[error.value]
            self.problems.append(f"{gpu}: {self.lost[gpu]}; it is sampled no more")
            return True
        if error.value in _UNSUPPORTED:
            self._unsupported(device, metrics, _UNSUPPORTED[error.value])
            return True
        self.gaps.setdefault(device, Counter()).update(metrics)
        if (device, error.value) not in self._told:
            self._told.add((device, error.value))
            self.problems.append(f"{device}: {error}, at first of {', '.join(metrics)}; such readings leave gaps")
        return False

    def _unsupported(self, device: str, metrics: Iterable[str], why: str) -> None:
        self.unsupported.setdefault(device, {}).update(dict.fromkeys(metrics, why))

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function of NVML answers; None if it refuses."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None

    def _add(self, index: int, driver: str) -> None:
        """Find a GPU and its slices, and what there is to read of them."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            self.problems.append(f"GPU {index}: {error}; it is not sampled")
            return
        uuid = _text(self._ask("nvmlDeviceGetUUID", handle)) or f"gpu{index}"
        modes = self._ask("nvmlDeviceGetMigMode", handle)  # current and pending
        mig = modes is not None and modes[0] == nvml.NVML_DEVICE_MIG_ENABLE
        for metrics, values in _OF_A_GPU:
            self._read(uuid, uuid, metrics, partial(values, nvml, handle))
        self._add_throttle(uuid, handle)
        self._add_gpm(uuid, uuid, handle, None)
        slices = list(self._add_slices(uuid, handle)) if mig else []
        if not mig:
            self._add_processes(uuid, uuid, handle)
        self._add_process_utilization(uuid, handle)
        self.devices.append(
            Gpu(
                uuid=uuid,
                name=_text(self._ask("nvmlDeviceGetName", handle)) or "unnamed GPU",
                driver=driver,
                memory_total_bytes=self._memory_total_bytes(handle),
                mig=mig,
                slices=tuple(slices),
            )
        )

    def _add_slices(self, uuid: str, gpu: Any) -> Iterator[Slice]:
        """Yield the GPU instances; compute instances of one share its memory, so it is one device."""
        found: dict[int, list[Any]] = {}
        for index in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
            handle = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)  # indices have holes
            instance = None if handle is None else self._ask("nvmlDeviceGetGpuInstanceId", handle)
            if instance is not None:
                found.setdefault(instance, []).append(handle)
        for instance, handles in sorted(found.items()):
            device, handle = f"{uuid}/gi{instance}", handles[0]
            of_the_gpu = [metric for metrics, _ in _OF_A_GPU for metric in metrics if metric not in _MEMORY]
            self._unsupported(device, [*of_the_gpu, *THROTTLE_REASONS, "process_sm_ratio"], _NOT_OF_A_SLICE)
            self._read(uuid, device, _MEMORY, partial(_memory, self._nvml, handle))
            self._add_gpm(uuid, device, gpu, instance)
            self._add_processes(uuid, device, handle)
            attributes = self._ask("nvmlDeviceGetAttributes", handle)
            uuids = (_text(self._ask("nvmlDeviceGetUUID", one)) for one in handles)
            yield Slice(
                device=device,
                name=_text(self._ask("nvmlDeviceGetName", handle)) or "unnamed slice",
                uuids=tuple(filter(None, uuids)),
                memory_total_bytes=self._memory_total_bytes(handle),
                multiprocessors=None if attributes is None else attributes.multiprocessorCount,
            )

    def _read(self, gpu: str, device: str, metrics: tuple[str, ...], values: Callable[[], Iterable[float]]) -> None:
        def rows() -> Iterator[Row]:
            for metric, value in zip(metrics, values(), strict=True):
                yield device, metric, value

        every_s = max(SLOW_S.get(metric, 0.0) for metric in metrics)
        self._readings.append(_Reading(gpu, device, metrics, rows, every_s))

    def _add_throttle(self, uuid: str, handle: Any) -> None:
        """A reason that the GPU never gives is unsupported: its 0 would say that all is well."""
        known = self._ask("nvmlDeviceGetSupportedClocksEventReasons", handle)
        if known is None:
            known = self._ask("nvmlDeviceGetSupportedClocksThrottleReasons", handle)
        bits = {metric: bit for metric, (bit, _) in THROTTLE_REASONS.items() if known is None or known & bit}
        never = [metric for metric in THROTTLE_REASONS if metric not in bits]
        if never:
            self._unsupported(uuid, never, "this device never gives it as a reason")
        if bits:
            self._read(uuid, uuid, tuple(bits), partial(_throttle, self._nvml, handle, tuple(bits.values())))

    def _add_gpm(self, uuid: str, device: str, gpu: Any, instance: int | None) -> None:
        nvml = self._nvml
        try:
            supported = nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice
            gpm = Gpm(nvml, gpu, instance) if supported else None
        except nvml.NVMLError as error:
            self._failed(uuid, device, GPM_METRICS, error)
            return
        if gpm is None:
            self._unsupported(device, GPM_METRICS, "this device has no GPM counters (Hopper and later have)")
            return

        def rows() -> Iterator[Row]:
            for metric, ratio, code in gpm.read():
                if code:
                    if self._failed(uuid, device, (metric,), nvml.NVMLError(code)):
                        gpm.wanted.remove(metric)
                elif math.isfinite(ratio):
                    yield device, metric, ratio
                else:
                    self.gaps.setdefault(device, Counter())[metric] += 1

        self._gpms.append(gpm)
        self._readings.append(
            _Reading(uuid, device, tuple(GPM_METRICS), rows, MIN_WINDOW_S, MIN_WINDOW_S, restart=gpm.restart)
        )

    def _add_processes(self, uuid: str, device: str, handle: Any) -> None:
        """Memory per process, of a GPU or of a slice. Clients of MPS stand in a list of their own."""
        nvml = self._nvml

        def rows() -> Iterator[Row]:
            processes = list(nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
            try:
                processes += nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3(handle)
            except nvml.NVMLError as error:
                if error.value not in _UNSUPPORTED:
                    raise
            used_bytes = {process.pid: process.usedGpuMemory for process in processes}
            if used_bytes and all(value is None for value in used_bytes.values()):
                self._unsupported(device, ["process_memory_bytes"], "the driver lists processes without their memory")
            for pid, value in used_bytes.items():
                if value is not None:
                    yield f"{uuid}/pid{pid}", "process_memory_bytes", value

        metric = "process_memory_bytes"
        self._readings.append(_Reading(uuid, device, (metric,), rows, SLOW_S[metric]))

    def _add_process_utilization(self, uuid: str, handle: Any) -> None:
        since_us = [0]

        def restart() -> None:
            since_us[0] = int(time.time() * 1e6)  # the driver stamps its samples so

        restart()
        metric = "process_sm_ratio"
        rows = partial(self._process_rows, uuid, handle, since_us)
        self._readings.append(_Reading(uuid, uuid, (metric,), rows, SLOW_S[metric], restart=restart))

    def _process_rows(self, uuid: str, handle: Any, since_us: list[int]) -> Iterator[Row]:
        """Mean over the driver's samples since the last time; `since_us` holds the newest stamp seen."""
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(handle, since_us[0])
        except self._nvml.NVMLError as error:
            if error.value in (_Code.NOT_FOUND, _Code.SUCCESS):
                return  # no process ran
            raise
        percent: dict[int, list[int]] = {}
        newest_us = since_us[0]
        for sample in samples:
            # The buffer also holds stale and empty entries, and some drivers put garbage there.
            if sample.pid and since_us[0] < sample.timeStamp and sample.smUtil <= 100:
                percent.setdefault(sample.pid, []).append(sample.smUtil)
                newest_us = max(newest_us, sample.timeStamp)
        since_us[0] = newest_us
        for pid, values in percent.items():
            yield f"{uuid}/pid{pid}", "process_sm_ratio", sum(values) / len(values) / 100

    def _memory_total_bytes(self, handle: Any) -> int | None:
        try:
            return int(_memory(self._nvml, handle)[1])
        except self._nvml.NVMLError:
            return None


def _text(value: str | bytes | None) -> str | None:
    """Old releases of pynvml answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _memory(nvml: Any, handle: Any) -> tuple[float, float]:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.used, memory.total


def _utilization(nvml: Any, handle: Any) -> tuple[float, float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu / 100, rates.memory / 100


def _power(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetPowerUsage(handle) / 1000,)


def _energy(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,)


def _temperature(nvml: Any, handle: Any) -> tuple[float]:
    try:
        return (nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU),)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
        return (nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),)


def _sm_clock(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),)


def _memory_clock(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),)


def _throttle(nvml: Any, handle: Any, bits: tuple[int, ...]) -> tuple[float, ...]:
    try:
        reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError_FunctionNotFound:
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return tuple(float(bool(reasons & bit)) for bit in bits)


def _pcie_tx(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_TX_BYTES) * _BYTES_PER_KB,)


def _pcie_rx(nvml: Any, handle: Any) -> tuple[float]:
    return (nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_RX_BYTES) * _BYTES_PER_KB,)


_MEMORY = ("memory_used_bytes", "memory_total_bytes")
_OF_A_GPU: tuple[tuple[tuple[str, ...], Callable[[Any, Any], tuple[float, ...]]], ...] = (
    (("gpu_utilization_ratio", "memory_copy_utilization_ratio"), _utilization),
    (_MEMORY, _memory),
    (("power_w",), _power),
    (("energy_j_total",), _energy),
    (("temperature_c",), _temperature),
    (("sm_clock_mhz",), _sm_clock),
    (("memory_clock_mhz",), _memory_clock),
    (("pcie_tx_bytes_per_s",), _pcie_tx),
    (("pcie_rx_bytes_per_s",), _pcie_rx),
)
