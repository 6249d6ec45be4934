"""doctor: what this machine can do: its GPUs, MIG, MPS, engines, and for each way of sharing what is missing."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import orjson

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Sharing
from fairshare_locust.serving.engines import HINTS
from fairshare_locust.serving.engines.flags import Program
from fairshare_locust.serving.sharing import LABELS
from fairshare_locust.serving.sharing.mig_slices import MIG_GPUS
from fairshare_locust.serving.sharing.mps_control import CONTROL, control_program, foreign_daemons
from fairshare_locust.serving.sharing.nvidia_smi import GpuInfo, MigDevice, gpus, mig_devices
from fairshare_locust.telemetry.nvml import NvmlSource

__all__ = ["HELP", "Diagnosis", "add_arguments", "diagnose", "print_diagnosis", "run"]

HELP = "what this machine can do: GPUs, engines, and which ways of sharing are ready"

_DRIVER = "install NVIDIA's driver, or take a machine with a GPU"


@dataclass(frozen=True, slots=True)
class EngineFound:
    """An engine on PATH. `path` is None if it is not there; then `hint` says how to install it."""

    name: str
    path: str | None
    version: str | None
    hint: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """A way of sharing: ready if nothing is `missing`. `notes` is what is not missing, but should be known."""

    mode: Sharing
    label: str
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether a run could share in this way on this machine."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What this machine has.

    Attributes:
        gpus: as the driver tells them, with their slices.
        no_gpu: why there are none, in words.
        telemetry: what NVML says against sampling them; None: nothing.
        mps: the path of MPS's control program.
        daemons: MPS daemons of others, in words.
        engines: those that we can start.
        docker: its path.
        modes: every way of sharing.
    """

    gpus: tuple[tuple[GpuInfo, tuple[MigDevice, ...]], ...]
    no_gpu: str | None
    telemetry: str | None
    mps: str | None
    daemons: tuple[str, ...]
    engines: tuple[EngineFound, ...]
    docker: str | None
    modes: tuple[Readiness, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "gpus": [{**asdict(gpu), "slices": [asdict(one) for one in slices]} for gpu, slices in self.gpus],
            "no_gpu": self.no_gpu,
            "telemetry": self.telemetry,
            "mps": {"control": self.mps, "daemons": list(self.daemons)},
            "engines": [asdict(engine) for engine in self.engines],
            "docker": self.docker,
            "modes": {
                mode.mode: {"ready": mode.ready, "missing": list(mode.missing), "notes": list(mode.notes)}
                for mode in self.modes
            },
        }


def diagnose() -> Diagnosis:
    """Look at this machine; nothing on it is changed."""
    telemetry = _telemetry()
    found, no_gpu = _gpus(telemetry)
    engines = tuple(_engine(name, *how) for name, how in _PROGRAMS.items())
    docker = shutil.which("docker")
    daemons = tuple(daemon.in_words for daemon in foreign_daemons())
    lacking = _lacking(no_gpu, engines, docker)
    modes = tuple(_readiness(mode, found, lacking, daemons) for mode in get_args(Sharing))
    return Diagnosis(found, no_gpu, telemetry, shutil.which(CONTROL), daemons, engines, docker, modes)


def _telemetry() -> str | None:
    source = NvmlSource.open()
    if isinstance(source, str):
        return source
    source.close()
    return None


def _gpus(telemetry: str | None) -> tuple[tuple[tuple[GpuInfo, tuple[MigDevice, ...]], ...], str | None]:
    """The GPUs with their slices, or in words why there are none."""
    try:
        found = tuple((gpu, mig_devices(gpu) if gpu.mig == "Enabled" else ()) for gpu in gpus())
    except ServingError as error:
        return (), f"no GPU: {telemetry or error}"
    return found, None if found else "no GPU: the driver answers, but has none for us"


_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vllm": ("vllm", ("--version",)),
    "tgi": ("text-generation-launcher", ("--version",)),
    "transformers": ("transformers", ("version",)),
}


def _engine(name: str, program: str, version: Sequence[str]) -> EngineFound:
    path = shutil.which(program)
    if path is None:
        return EngineFound(name, None, None, HINTS[name])
    found = Program((path,), frozenset(), "", (path, *version)).version()
    return EngineFound(name, path, found, HINTS[name])


def _lacking(no_gpu: str | None, engines: Sequence[EngineFound], docker: str | None) -> tuple[str, ...]:
    """What every way of sharing lacks on this machine."""
    lacking = []
    if no_gpu is not None:
        lacking.append(f"{no_gpu}; {_DRIVER}")
    if docker is None and all(engine.path is None for engine in engines):
        hints = "; or ".join(f"{engine.name}: {engine.hint}" for engine in engines)
        lacking.append(f"no engine on PATH, and no docker to run an image with; {hints}")
    return tuple(lacking)


def _readiness(
    mode: Sharing,
    found: Sequence[tuple[GpuInfo, Sequence[MigDevice]]],
    lacking: Sequence[str],
    daemons: Sequence[str],
) -> Readiness:
    missing, notes = list(lacking), []
    if mode in ("mps", "mig_emulated"):
        try:
            control_program()
        except ServingError as error:
            if mode == "mps":
                missing.append(str(error))
            else:
                notes.append(f"caps memory alone; sm_percent needs MPS: {error}")
    if mode == "mig_emulated":
        notes.append(f"{LABELS[mode]}: bandwidth, L2 cache and power are shared")
    if mode == "mig" and not found:
        missing.append(f"MIG slices: {MIG_GPUS} have them, others do not")
    if found:
        hindered = [_hindrance(mode, gpu, slices) for gpu, slices in found]
        if all(hindered):
            missing += [one for one in hindered if one]
        else:
            notes += [one for one in hindered if one]
    if mode == "mps":
        notes += [f"{daemon}; a daemon of its own is used" for daemon in daemons]
    elif mode != "mig":
        notes += [f"{daemon}; servers are kept from it" for daemon in daemons]
    return Readiness(mode, LABELS[mode], tuple(missing), tuple(notes))


def _hindrance(mode: Sharing, gpu: GpuInfo, slices: Sequence[MigDevice]) -> str | None:
    """What keeps a GPU from being shared in this way, and what helps."""
    name = f"GPU {gpu.index} ({gpu.name})"
    if gpu.compute_mode == "Prohibited":
        return f"{name} has compute mode Prohibited; sudo nvidia-smi -i {gpu.index} -c DEFAULT"
    if mode == "mig":
        if gpu.mig is None:
            return f"{name} has no MIG; take another GPU, or sharing: mps or mig_emulated"
        if gpu.mig != "Enabled":
            return f"{name}: MIG is off; when nobody uses the GPU: sudo nvidia-smi -i {gpu.index} -mig 1"
        if not slices:
            return (
                f"{name} has no MIG slices; sudo nvidia-smi mig -i {gpu.index} -cgi PROFILE,… -C, or manage_mig: true "
                "in the profile"
            )
        return None
    if gpu.mig == "Enabled":
        return f"{name}: MIG is on, so CUDA sees slices only; sudo nvidia-smi -i {gpu.index} -mig 0"
    if mode in ("timeslice", "mig_emulated") and gpu.compute_mode.startswith("Exclusive"):
        return f"{name} has compute mode {gpu.compute_mode}, for one process; sudo nvidia-smi -i {gpu.index} -c DEFAULT"
    return None


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print it in words."""
    for gpu, slices in diagnosis.gpus:
        memory = "memory unknown" if gpu.memory_mib is None else f"{gpu.memory_mib:,} MiB"
        mig = {None: "no MIG", "Enabled": "MIG on", "Disabled": "MIG off"}[gpu.mig]
        print(f"GPU {gpu.index}: {gpu.name}, {memory}, driver {gpu.driver}, compute mode {gpu.compute_mode}, {mig}")
        for device in slices:
            print(f"  slice {device.index}: {device.profile} ({device.uuid})")
    if diagnosis.no_gpu is not None:
        print(diagnosis.no_gpu)
    elif diagnosis.telemetry is not None:
        print(f"GPU telemetry: none: {diagnosis.telemetry}")
    print(f"MPS: {diagnosis.mps or f'{CONTROL} is not found on PATH'}")
    for daemon in diagnosis.daemons:
        print(f"  {daemon}")
    for engine in diagnosis.engines:
        there = f"{engine.version or 'version unknown'} ({engine.path})"
        print(f"{engine.name}: {there if engine.path else f'not found; {engine.hint}'}")
    print("simulator: built in; it models every way of sharing, and needs no GPU")
    print(f"docker: {diagnosis.docker or 'not found'}")
    print()
    for mode in diagnosis.modes:
        print(f"{mode.mode} ({mode.label}): {'ready' if mode.ready else 'not ready'}")
        for line in mode.missing:
            print(f"  missing: {line}")
        for line in mode.notes:
            print(f"  note: {line}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(options: argparse.Namespace) -> int:
    """The command: always 0, since nothing can fail that it would not tell."""
    diagnosis = diagnose()
    if options.json:
        sys.stdout.write(orjson.dumps(diagnosis.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        print_diagnosis(diagnosis)
    return 0
