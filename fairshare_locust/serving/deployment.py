"""Deployment: every tenant's servers, started or found, and how to stop them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from fairshare_locust.client.dialects import asked_options
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.serving.device import device_key, wait_until_released
from fairshare_locust.serving.launched import LaunchedServer
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.probe import Found, probe, prompt_overhead_tokens
from fairshare_locust.serving.process import ServerProcess
from fairshare_locust.serving.server import Server
from fairshare_locust.serving.sharing import open_mode
from fairshare_locust.serving.sharing_file import write_evidence, write_sharing
from fairshare_locust.serving.simulator import SimulatorProcess
from fairshare_locust.workload.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Deployed", "check_external", "deploy"]

_POLL_S = 0.2


@dataclass
class Deployed:
    """Servers by tenant id; a tenant's requests go to them in turn.

    `notes` is what a reader of the run should know of them. What is on `started` is undone, last first, by `stop`.
    """

    servers: Mapping[str, tuple[Server, ...]]
    processes: Sequence[SimulatorProcess | ServerProcess] = ()
    notes: Sequence[str] = ()
    started: ExitStack = field(default_factory=ExitStack)

    def describe(self) -> list[dict[str, object]]:
        """Each server once, as `run.json` has it; one for each way in which tenants meet it."""
        every = dict.fromkeys(replace(server, headers=()) for servers in self.servers.values() for server in servers)
        return [server.describe() for server in every]

    def prompt_overhead_tokens(self) -> dict[str, int]:
        """What is added to a prompt of one message, by tenant id; without tenants for whom that can't be known."""
        overheads = {
            tenant_id: {server.prompt_overhead_tokens for server in servers}
            for tenant_id, servers in self.servers.items()
        }
        return {
            tenant_id: tokens
            for tenant_id, every in overheads.items()
            if len(every) == 1 and (tokens := next(iter(every))) is not None
        }

    @property
    def dcgm_url(self) -> str | None:
        """Where the simulator exports its modelled GPU; None for servers that run on a GPU, or elsewhere."""
        first = next(iter(self.processes), None)
        return first.dcgm_url if isinstance(first, SimulatorProcess) else None

    def wait(self) -> NoReturn:
        """Wait until one of the processes that we started ends by itself. Raises ServingError, which tells of it."""
        while True:
            for process in self.processes:
                if process.ended:
                    raise process.death("by itself")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop what we started, and give the GPU back as it was; safe to call twice."""
        self.processes = ()
        self.started.close()


def deploy(profile: Profile, logs: Path | None, address: str = "127.0.0.1", directory: Path | None = None) -> Deployed:
    """Start the profile's own servers on `address`, each with its log in the folder `logs`.

    `sharing.json` is written into the run directory `directory`, if there is one. Raises ServingError, and leaves
    nothing behind then.
    """
    deployed = Deployed({})
    try:
        if profile.deployment.engine == "simulator":
            _deploy_simulator(deployed, profile, logs, address, directory)
        else:
            _deploy_engine(deployed, profile, logs, address, directory)
    except BaseException:
        deployed.stop()
        raise
    return deployed


def _deploy_simulator(
    deployed: Deployed, profile: Profile, logs: Path | None, address: str, directory: Path | None
) -> None:
    process = SimulatorProcess(profile, None if logs is None else logs / "simulator.log", address)
    deployed.started.callback(process.stop)
    deployed.processes = [process]
    deployed.servers = {tenant.id: (process.server(tenant),) for tenant in profile.tenants}
    if directory is not None:
        write_sharing(profile, directory)


def _deploy_engine(
    deployed: Deployed, profile: Profile, logs: Path | None, address: str, directory: Path | None
) -> None:
    """Servers start one after another: each measures what memory is free."""
    started, options = deployed.started, profile.deployment.server
    lock = GpuLock(device_key(options.gpu))
    started.callback(lock.release)
    temporary: list[Path] = []
    if logs is None:
        logs = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="fairshare-logs-")))
        temporary.append(logs)
    started.callback(_watch(lock, temporary).stop)
    mode = open_mode(profile, logs, lock)
    started.callback(mode.close)
    tokenizer = load_tokenizer(profile.model.tokenizer)
    launched: list[LaunchedServer] = []
    started.callback(_stop_all, launched, options.gpu)
    memory_before = 0.0
    for placement in mode.placements:
        server = LaunchedServer(
            profile,
            placement,
            logs=logs,
            address=address,
            memory_before=memory_before,
            lock=lock,
            tokenizer=tokenizer,
        )
        launched.append(server)
        if profile.deployment.sharing != "mig":  # where each has memory of its own
            memory_before += placement.memory_fraction
    try:
        mode.verify([server.pid for server in launched])
    finally:
        if directory is not None:
            write_evidence(mode, directory)
    deployed.processes = [server.process for server in launched]
    deployed.servers = {tenant_id: (met,) for server in launched for tenant_id, met in server.servers.items()}
    notes = [*mode.notes, *(note for server in launched for note in server.notes)]
    deployed.notes = tuple(dict.fromkeys(notes))


def _watch(lock: GpuLock, temporary: Sequence[Path]) -> ServerProcess:
    """Nothing but a keeper: if we are killed it removes the lock and these folders, even before any server runs."""
    return ServerProcess(
        ["sleep", "infinity"],
        os.environ,
        Path(os.devnull),
        name="the keeper of the lock",
        stop_within_s=1.0,
        remove_last=temporary,
        lock=(lock.descriptor, lock.path),
    )


def _stop_all(launched: Sequence[LaunchedServer], gpu: int | str) -> None:
    """Stop the servers, all at once, and wait until the GPU's memory is free of them."""
    pids: set[int] = set()
    for server in launched:
        pids |= server.pids()
    for server in launched:
        server.process.begin_stop()
    for server in launched:
        server.process.stop()
    wait_until_released(gpu, pids)


def check_external(profile: Profile, tokenizer: Tokenizer) -> Deployed:
    """Probe the servers that run already; `tokenizer` is the profile's.

    Raises ServingError for the first that does not do.
    """
    known: dict[tuple[object, ...], Found] = {}
    overheads: dict[tuple[object, ...], int | None] = {}

    def server(tenant: Tenant, url: str) -> Server:
        # Tenants who ask for the same things by the same door are told the same.
        door = (url, tenant.api, tenant.api_key_env, tenant.model)
        sampling = tenant.sampling
        options = frozenset(asked_options(sampling, tenant.priority, tenant.cache_salt))
        asked = (*door, options, sampling.ignore_eos, sampling.continuous_usage)
        if asked not in known:
            known[asked] = probe(profile, tenant, url)
        found = known[asked]
        if door not in overheads:
            overheads[door] = prompt_overhead_tokens(tenant, url, found, tokenizer)
        return Server(
            url,
            "external",
            profile.deployment.sharing,
            found.family,
            found.model,
            max_model_len=found.max_model_len,
            prompt_overhead_tokens=overheads[door],
        )

    missing = [tenant.id for tenant in profile.tenants if not tenant.endpoint]
    if missing:
        raise ServingError(
            f"engine external, but no endpoint for tenant {missing[0]!r}; name the running server with --host URL, "
            f"or set tenants[].endpoint in the profile"
        )
    return Deployed({t.id: tuple(server(t, url) for url in t.endpoint or ()) for t in profile.tenants})
