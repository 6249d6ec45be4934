"""mig_slices: which slice is whose, and how slices are made, taken down and put back as they were."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.schema import near
from fairshare_locust.serving.sharing.nvidia_smi import (
    GpuInfo,
    MigDevice,
    compute_instances,
    free_profiles,
    gpu_instances,
    run_smi,
    used_by,
)

__all__ = [
    "MIG_GPUS",
    "Layout",
    "check_changeable",
    "check_mig",
    "clear",
    "create",
    "match_slices",
    "read_layout",
    "restore",
]

MIG_GPUS = "A30, A100, H100, H200, B200, RTX PRO 6000 Blackwell"
"""GPUs that can be sliced."""

_AT = "deployment.server.mig"
_CREATED = re.compile(r"created GPU instance ID\s+(\d+)")
_SIZE = re.compile(r"(\d+)g\.(\d+)gb")
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Layout:
    """The instances of a GPU: for each GPU instance its profile's number, where it starts, and the numbers of the
    profiles of its compute instances, in their order."""

    instances: tuple[tuple[int, int, tuple[int, ...]], ...]

    def as_json(self) -> list[list[Any]]:
        """For a command line."""
        return [[profile, start, list(inside)] for profile, start, inside in self.instances]

    @classmethod
    def from_json(cls, instances: Sequence[Sequence[Any]]) -> Layout:
        """What `as_json` made."""
        return cls(tuple((profile, start, tuple(inside)) for profile, start, inside in instances))


def check_mig(gpu: GpuInfo) -> None:
    """Raises ServingError if the GPU has no MIG, or it is off: turning it on may reset the GPU, so we never do."""
    if gpu.mig is None:
        raise ServingError(
            f"GPU {gpu.index} ({gpu.name}) has no MIG; take sharing: mps, timeslice or mig_emulated, or a GPU that has "
            f"it ({MIG_GPUS})"
        )
    if gpu.mig != "Enabled":
        if gpu.mig_pending == "Enabled":
            fix = f"it waits for a reset: sudo nvidia-smi -i {gpu.index} --gpu-reset, or reboot"
        else:
            fix = f"nobody may use the GPU when you turn it on: sudo nvidia-smi -i {gpu.index} -mig 1"
        raise ServingError(f"MIG is off at GPU {gpu.index} ({gpu.name}); {fix}")


def match_slices(
    gpu: GpuInfo, devices: Sequence[MigDevice], wanted: Mapping[str, str], tenants: Sequence[str]
) -> tuple[MigDevice, ...]:
    """A slice for each tenant, in their order; each slice is one tenant's at most.

    A tenant for whom no profile is `wanted` gets one of those that are left, if they are all alike. Raises ServingError
    that lists what there is.
    """
    left = list(devices)
    there = ", ".join(f"{device.profile} (device {device.index})" for device in devices) or "none"
    make = "; make the slices (sudo nvidia-smi mig -cgi PROFILE,… -C, larger ones first), or say manage_mig: true"
    found: dict[str, MigDevice] = {}
    for tenant in tenants:
        if tenant in wanted:
            fitting = [device for device in left if device.profile == wanted[tenant]]
            if not fitting:
                guess = near(wanted[tenant], [device.profile for device in left])
                raise ServingError(
                    f"{_AT}.{tenant}: found {wanted[tenant]!r}; no slice of this profile is free on GPU "
                    f"{gpu.index}{guess}; slices: {there}{make}"
                )
            found[tenant] = fitting[0]
            left.remove(fitting[0])
    others = [tenant for tenant in tenants if tenant not in wanted]
    if len(others) > len(left):
        raise ServingError(
            f"{_AT}: {len(tenants)} tenants need a slice each; GPU {gpu.index} has slices: {there}{make}"
        )
    if others and len({device.profile for device in left}) > 1:
        raise ServingError(
            f"{_AT}: it is not said which slice is for {', '.join(map(repr, others))}; say {_AT}: "
            f"{{{others[0]}: PROFILE}}; slices: {there}"
        )
    found |= zip(others, left, strict=False)
    return tuple(found[tenant] for tenant in tenants)


def read_layout(gpu: GpuInfo) -> Layout:
    """The instances there are, by where they start."""
    inside = sorted(compute_instances(gpu), key=lambda one: (one.gpu_instance, one.start, one.id))
    return Layout(
        tuple(
            (one.profile_id, one.start, tuple(each.profile_id for each in inside if each.gpu_instance == one.id))
            for one in sorted(gpu_instances(gpu), key=lambda one: one.start)
        )
    )


def check_changeable(gpu: GpuInfo, profiles: Sequence[str]) -> None:
    """Raises ServingError if the GPU has no such profiles, or a process uses it, so that its slices must stay."""
    known = free_profiles(gpu)
    for profile in profiles:
        if profile not in known:
            raise ServingError(
                f"{_AT}: found {profile!r}; GPU {gpu.index} ({gpu.name}) has the profiles "
                f"{', '.join(known) or 'none'}{near(profile, list(known))}"
            )
    if used := used_by(gpu):
        pids = ", ".join(str(process.pid) for process in used)
        raise ServingError(
            f"GPU {gpu.index}: its slices are in use by pid {pids}, so they can't be changed; end those first"
        )


def create(gpu: GpuInfo, profiles: Sequence[str]) -> None:
    """Make slices of these profiles on a GPU that has none, larger ones first: a small one may lie in their way.

    Raises ServingError: more than fit, no permission.
    """
    ordered = sorted(profiles, key=_size, reverse=True)
    _manage(gpu, f"slices {', '.join(ordered)} can't be made", "-cgi", ",".join(ordered), "-C")


def clear(gpu: GpuInfo) -> None:
    """Destroy all instances, compute instances first. Raises ServingError: in use, no permission."""
    for instance in compute_instances(gpu):
        place = ("-gi", str(instance.gpu_instance), "-ci", str(instance.id))
        _manage(gpu, "a compute instance can't be destroyed", "-dci", *place)
    for gpu_instance in gpu_instances(gpu):
        _manage(gpu, "a slice can't be destroyed", "-dgi", "-gi", str(gpu_instance.id))


def restore(gpu: GpuInfo, layout: Layout, within_s: float) -> None:
    """Put the instances back as they were, as soon as nobody uses those there are.

    Raises ServingError when that can't be done; it says what was there.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            if read_layout(gpu) != layout:
                clear(gpu)
                for profile, start, inside in layout.instances:
                    said = _manage(gpu, "a slice can't be made again", "-cgi", f"{profile}:{start}")
                    made = _CREATED.search(said)
                    if made and inside:
                        numbers = ",".join(map(str, inside))
                        _manage(gpu, "compute instances can't be made again", "-gi", made[1], "-cci", numbers)
            break
        except ServingError as error:
            if "in use" not in str(error).lower() or time.monotonic() > deadline_s:
                raise ServingError(f"{error}; before the run there was: {_in_words(layout)}") from None
        time.sleep(_POLL_S)
    if (now := read_layout(gpu)) != layout:
        raise ServingError(
            f"GPU {gpu.index}: its slices are not as they were; before the run: {_in_words(layout)}; now: "
            f"{_in_words(now)}"
        )


def _manage(gpu: GpuInfo, what: str, *arguments: str) -> str:
    try:
        return run_smi("mig", "-i", str(gpu.index), *arguments)
    except ServingError as error:
        said = str(error)
        if "Insufficient Permissions" in said:
            fix = "managing MIG needs root, or the capability of the driver; run as root, or make the slices before"
        elif "Insufficient Resources" in said:
            fix = "they don't fit on this GPU together; ask for fewer or smaller ones"
        elif "In use" in said:
            fix = "end what uses it"
        else:
            fix = "see its own words"
        raise ServingError(f"GPU {gpu.index}: {what}: {said}; {fix}") from error


def _size(profile: str) -> tuple[int, int]:
    match = _SIZE.search(profile)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _in_words(layout: Layout) -> str:
    return (
        ", ".join(
            f"profile {profile} at {start} with compute instances of profile {', '.join(map(str, inside)) or 'none'}"
            for profile, start, inside in layout.instances
        )
        or "no slice"
    )
