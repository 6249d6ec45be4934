"""A container in place of an executable: `docker run`, with the GPU and the folders that an engine needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.engines.engine import Site
from fairshare_locust.serving.engines.flags import Program, find_program

__all__ = ["container_pid", "image_program", "remove_container", "run_container"]

_DOCKER_WITHIN_S = 20.0
_HINT = "install docker and the NVIDIA container toolkit"
_PASSED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY", "API_KEY")  # by name: their values stay out of sight


def image_program(image: str, known: str = "--port") -> Program:
    """The image's program, by the help that it prints; `known` as in `find_program`."""
    helps = [["run", "--rm", image, "--help=all"], ["run", "--rm", image, "--help"]]
    return find_program("docker", _HINT, [], helps, ["run", "--rm", image, "--version"], known)


def run_container(
    site: Site,
    image: str,
    environment: Mapping[str, str],
    port: int,
    caches: Mapping[Path, str],
    arguments: Sequence[str],
) -> tuple[str, ...]:
    """The command that runs the image, which listens on `port` inside. `caches`: folder here → folder there."""
    docker = shutil.which("docker")
    if docker is None:
        raise ServingError(f"docker is not found on PATH, and deployment.server.image needs it; {_HINT}")
    device = site.placement.device or str(site.options.gpu)
    command = [docker, "run", "--rm", "--init", "--name", site.container, "--gpus", f'"device={device}"']
    command += ["--ipc=host", "--publish", f"{_bracketed(site.address)}:{site.ports[0]}:{port}"]
    # Clients of MPS must be the daemon's user, and see its folder.
    placed = {name: value for name, value in site.placement.environment.items() if value}
    pipes = placed.get("CUDA_MPS_PIPE_DIRECTORY")
    if pipes is not None:
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{pipes}:{pipes}"]
        command += ["--env", "HOME=/tmp"]  # one that this user may write to
    for here, there in caches.items():
        if pipes is not None and there.startswith("/root/"):  # where this user may not look
            there = "/huggingface"
            command += ["--env", f"HF_HOME={there}"]
        command += ["--volume", f"{here}:{there}"]
    # The device is the container's own: it has no other.
    said = {**environment, **site.options.environment, **placed}
    for name, value in said.items():
        if name not in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
            command += ["--env", f"{name}={value}"]
    for name in _PASSED:
        if os.environ.get(name):
            command += ["--env", name]
    return (*command, image, *arguments)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def container_pid(name: str) -> int | None:
    """The pid, on this host, of a container's first process; None if docker does not tell."""
    said = _docker("inspect", "--format", "{{.State.Pid}}", name).strip()
    return int(said) if said.isdigit() and said != "0" else None


def remove_container(name: str) -> tuple[str, ...]:
    """The command that makes sure that it is gone."""
    return (shutil.which("docker") or "docker", "rm", "--force", name)


def _docker(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_DOCKER_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.decode(errors="replace")
