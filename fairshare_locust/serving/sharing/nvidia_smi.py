"""nvidia_smi: the GPU, its slices and its processes, as `nvidia-smi` prints them. Profile names are free text."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from fairshare_locust.errors import ServingError

__all__ = [
    "ComputeInstance",
    "GpuInfo",
    "GpuInstance",
    "MigDevice",
    "UsedBy",
    "compute_instances",
    "find_gpu",
    "free_profiles",
    "gpu_instances",
    "gpus",
    "mig_devices",
    "run_smi",
    "used_by",
]

_WITHIN_S = 60.0  # it may have to start the driver first
_QUERY = "index,uuid,name,driver_version,compute_mode,memory.total,mig.mode.current,mig.mode.pending"
_GPU = re.compile(r"GPU (\d+):.*\(UUID: (GPU-[^)\s]+)\)")
_MIG = re.compile(r"\s+MIG (.+?)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)")
_GPU_INSTANCE = re.compile(r"\|\s+(\d+)\s+MIG (.+?)\s+(\d+)\s+(\d+)\s+(\d+):(\d+)\s+\|")
_COMPUTE_INSTANCE = re.compile(r"\|\s+(\d+)\s+(\d+)\s+MIG (.+?)\s+(\d+)\s+(\d+)\s+(\d+):(\d+)\s+\|")
_PROFILE = re.compile(r"\|\s+(\d+)\s+MIG (.+?)\s+(\d+)\s+(\d+)/(\d+)\s")
_IDS = re.compile(r"\|\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\|")
_PROCESS = re.compile(r"\|\s+(\d+)\s+(\d+|N/A)\s+(\d+|N/A)\s+(\d+)\s+([A-Z]+(?:\+[A-Z]+)*)\s+(\S.*?)\s+\|")


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """A GPU. `mig` is what its mode is now, `mig_pending` after a reset: `Enabled`, `Disabled`, None if it has none."""

    index: int
    uuid: str
    name: str
    driver: str
    compute_mode: str
    memory_mib: int | None
    mig: str | None
    mig_pending: str | None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A slice as CUDA sees it; `index` is its number on the GPU of that UUID."""

    gpu_uuid: str
    profile: str
    index: int
    uuid: str


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """A GPU instance; `start` is where it was placed."""

    id: int
    profile: str
    profile_id: int
    start: int


@dataclass(frozen=True, slots=True)
class ComputeInstance:
    """A compute instance in a GPU instance."""

    gpu_instance: int
    id: int
    profile: str
    profile_id: int
    start: int


@dataclass(frozen=True, slots=True)
class UsedBy:
    """A process that uses the GPU, with the MIG index of its slice. `type` is C, or M+C for a client of MPS."""

    pid: int
    type: str
    mig_index: int | None


def run_smi(*arguments: str) -> str:
    """What `nvidia-smi ARGUMENTS` prints. Raises ServingError with its own words."""
    command = " ".join(["nvidia-smi", *arguments])
    try:
        result = subprocess.run(
            ["nvidia-smi", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_WITHIN_S, check=False
        )
    except FileNotFoundError:
        raise ServingError("nvidia-smi is not found on PATH, so there is no NVIDIA driver; install it") from None
    except OSError as error:
        raise ServingError(f"{command} can't be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise ServingError(f"{command} did not end within {_WITHIN_S:g} s; see the kernel's log (dmesg)") from None
    text = result.stdout.decode(errors="replace")
    if result.returncode:
        said = " ".join((text + result.stderr.decode(errors="replace")).split())
        raise ServingError(f"{command} failed with exit code {result.returncode}: {said or 'it says nothing'}")
    return text


def gpus() -> tuple[GpuInfo, ...]:
    """The GPUs of this host. Raises ServingError without a driver."""
    found = []
    for line in run_smi(f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits").splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == 8 and values[0].isdigit():
            index, uuid, name, driver, compute_mode, memory, current, pending = values
            memory_mib = int(memory) if memory.isdigit() else None
            modes = [mode if mode in ("Enabled", "Disabled") else None for mode in (current, pending)]
            found.append(GpuInfo(int(index), uuid, name, driver, compute_mode, memory_mib, *modes))
    return tuple(found)


def find_gpu(gpu: int | str) -> GpuInfo:
    """The GPU of this index or UUID. Raises ServingError, with those there are."""
    every = gpus()
    for one in every:
        if str(gpu) in (str(one.index), one.uuid):
            return one
    there = "; ".join(f"{one.index}: {one.name} ({one.uuid})" for one in every) or "none"
    raise ServingError(f"deployment.server.gpu: found {gpu!r}; this host has: {there}")


def mig_devices(gpu: GpuInfo) -> tuple[MigDevice, ...]:
    """The slices of a GPU that CUDA sees, in their order."""
    found, uuid = [], ""
    for line in run_smi("-L").splitlines():
        if match := _GPU.match(line):
            uuid = match[2]
        elif (match := _MIG.match(line)) and uuid == gpu.uuid:
            found.append(MigDevice(uuid, match[1], int(match[2]), match[3]))
    return tuple(found)


def gpu_instances(gpu: GpuInfo) -> tuple[GpuInstance, ...]:
    """The GPU instances of a GPU."""
    return tuple(
        GpuInstance(int(match[4]), match[2], int(match[3]), int(match[5]))
        for match in _listed("-lgi", gpu, _GPU_INSTANCE)
    )


def compute_instances(gpu: GpuInfo) -> tuple[ComputeInstance, ...]:
    """The compute instances of a GPU."""
    return tuple(
        ComputeInstance(int(match[2]), int(match[5]), match[3], int(match[4]), int(match[6]))
        for match in _listed("-lci", gpu, _COMPUTE_INSTANCE)
    )


def free_profiles(gpu: GpuInfo) -> dict[str, tuple[int, int]]:
    """MIG profiles of a GPU: how many more of each can be made, and how many there can be at most."""
    return {match[2]: (int(match[4]), int(match[5])) for match in _listed("-lgip", gpu, _PROFILE)}


def _listed(what: str, gpu: GpuInfo, line: re.Pattern[str]) -> Iterator[re.Match[str]]:
    try:
        text = run_smi("mig", "-i", str(gpu.index), what)
    except ServingError as error:
        if "Not Found" in str(error) or "No MIG-supported" in str(error):  # an empty list is an error to it
            return
        raise
    for row in text.splitlines():
        if (match := line.match(row)) and int(match[1]) == gpu.index:
            yield match


def used_by(gpu: GpuInfo) -> tuple[UsedBy, ...]:
    """The processes that compute on a GPU, as far as the driver shows them: not in a container of ours, for one."""
    text = run_smi()
    rows = text.splitlines()
    slices = {
        (match[2], match[3]): int(match[4]) for row in rows if (match := _IDS.match(row)) and int(match[1]) == gpu.index
    }
    return tuple(
        UsedBy(int(match[4]), match[5], slices.get((match[2], match[3])))
        for row in rows
        if (match := _PROCESS.match(row)) and int(match[1]) == gpu.index and "C" in match[5]
    )
