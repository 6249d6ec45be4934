"""LaunchedServer: one server of a real engine, started, waited for and asked for its first token."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from fairshare_locust.client.dialects import ServerFamily, asked_options
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.serving.device import wait_until_released
from fairshare_locust.serving.engines import Engine, Launch, Site, engine_of
from fairshare_locust.serving.engines.container import container_pid, remove_container
from fairshare_locust.serving.engines.engine import server_environment
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.placement import Placement
from fairshare_locust.serving.probe import Found, probe, prompt_overhead_tokens
from fairshare_locust.serving.process import ServerProcess
from fairshare_locust.serving.server import Server
from fairshare_locust.serving.sharing.mode import family_of
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["LaunchedServer"]

_DIES_WITHIN_S = 3.0  # a server that broke off in an answer


class LaunchedServer:
    """A server of the profile's engine at a placement. Ready when it is made; its process is to be stopped.

    Attributes:
        process: what runs it.
        servers: as each of its tenants meets it, by tenant id.
        notes: what a reader of the run should know of it.
    """

    def __init__(
        self,
        profile: Profile,
        placement: Placement,
        *,
        logs: Path,
        address: str,
        memory_before: float,
        lock: GpuLock,
        tokenizer: Tokenizer,
    ) -> None:
        """Start it, and wait until it has answered each tenant with a token.

        `memory_before` is what servers before it may use of the same memory. Raises ServingError, with the end of its
        log; nothing of it is left then.
        """
        self._profile = profile
        self._placement = placement
        self._logs = logs
        self._address = address
        self._memory_before = memory_before
        self._lock = lock
        self._tokenizer = tokenizer
        self._engine: Engine = engine_of(profile.deployment.engine)
        self._tenants = [tenant for tenant in profile.tenants if tenant.id in placement.tenants]
        self.process, launch = self._start()
        try:
            try:
                self.servers = self._make_ready(launch)
            except ServingError:
                if not self.process.lost_a_race:
                    raise
                # Another process took or freed memory of the GPU while it was measured: once more.
                self._give_up()
                self.process, launch = self._start()
                self.servers = self._make_ready(launch)
        except BaseException:
            self._give_up()
            raise
        self.notes = launch.notes

    def pids(self) -> set[int]:
        """Its processes on this host, those in a container too."""
        below = {self.process.pid, *self.process.pids()}
        if self._in_container and (first := container_pid(self._container)) is not None:
            with contextlib.suppress(ServingError):
                below |= family_of(first)
        return below

    def _give_up(self) -> None:
        """Stop it, and wait until the GPU's memory is free of it."""
        pids = self.pids()
        self.process.stop()
        wait_until_released(self._profile.deployment.server.gpu, pids)

    @property
    def pid(self) -> int:
        """Of the process whose descendants use the GPU; a container's is not below the one that we started."""
        return (container_pid(self._container) if self._in_container else None) or self.process.pid

    def _start(self) -> tuple[ServerProcess, Launch]:
        options = self._profile.deployment.server
        part = self._placement.part
        scratch = Path(tempfile.gettempdir(), f"fairshare-{secrets.token_hex(4)}")
        self._container = f"fairshare-{os.getpid()}-{part}-{scratch.name[-6:]}"
        try:
            site = Site(
                profile=self._profile,
                placement=self._placement,
                model=self._model,
                address=self._address,
                ports=_free_ports(self._address, self._engine.ports),
                scratch=scratch,
                memory_before=self._memory_before,
                streams=sum(tenant.arrival.slots for tenant in self._tenants),
                container=self._container,
            )
            launch = self._engine.launch(site)
            self._url = site.url
            self._in_container = launch.container is not None
            whose = "" if self._profile.deployment.sharing == "logical" else f"-{self._tenants[0].id}"
            self._deadline_s = time.monotonic() + options.ready_within_s
            scratch.mkdir(mode=0o700)  # not before its keeper can remove it: engines take long to tell their flags
            process = ServerProcess(
                launch.command,
                server_environment(site, launch),
                self._logs / f"{self._engine.name}{whose}.log",
                name=f"the {self._engine.name} server of {self._of_whom}",
                stop_within_s=options.stop_within_s,
                finally_=[remove_container(self._container)] if self._in_container else (),
                remove=[scratch],
                lock=(self._lock.descriptor, self._lock.path),
            )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return process, launch

    @property
    def _of_whom(self) -> str:
        names = [repr(tenant.id) for tenant in self._tenants]
        return f"tenant {names[0]}" if len(names) == 1 else f"tenants {', '.join(names)}"

    @property
    def _model(self) -> str:
        """What it loads: a tenant with a server of its own may have a model of its own."""
        own = self._tenants[0].model if self._profile.deployment.sharing != "logical" else None
        return own or self._profile.model.name

    def _make_ready(self, launch: Launch) -> dict[str, Server]:
        self.process.wait_ready(self._url, self._deadline_s)
        known: dict[tuple[object, ...], tuple[Found, int | None]] = {}
        servers = {}
        for tenant in self._tenants:
            options = frozenset(asked_options(tenant.sampling, tenant.priority, tenant.cache_salt))
            asked = (tenant.api, tenant.api_key_env, tenant.model, options, tenant.sampling.ignore_eos)
            key = (*asked, tenant.sampling.continuous_usage)
            if key not in known:
                known[key] = self._probe(tenant)
            found, overhead_tokens = known[key]
            servers[tenant.id] = self._server(found, overhead_tokens, launch)
        return servers

    def _probe(self, tenant: Tenant) -> tuple[Found, int | None]:
        """One real token for the tenant. The first takes long: much is compiled when it is asked for."""
        left_s = max(1.0, self._deadline_s - time.monotonic())
        try:
            found = probe(self._profile, tenant, self._url, answer_within_s=left_s)
            overhead = prompt_overhead_tokens(tenant, self._url, found, self._tokenizer, answer_within_s=left_s)
        except ServingError:
            with contextlib.suppress(ServingError):
                self.process.wait_until(lambda: self.process.ended, time.monotonic() + _DIES_WITHIN_S, "")
            if self.process.ended:
                raise self.process.death("as it was asked for its first token") from None
            raise
        return found, overhead

    def _server(self, found: Found, overhead_tokens: int | None, launch: Launch) -> Server:
        deployment = self._profile.deployment
        logical = deployment.sharing == "logical"
        return Server(
            endpoint=self._url,
            engine=self._engine.name,
            sharing=deployment.sharing,
            family=self._family(found.family),
            model=found.model,
            command=launch.command,
            pid=self.process.pid,
            max_model_len=found.max_model_len or deployment.server.max_model_len,
            prompt_overhead_tokens=overhead_tokens,
            part=None if logical else self._placement.part,
            version=self._engine.version(self._url) or launch.version,
        )

    def _family(self, found: ServerFamily) -> ServerFamily:
        """What the probe found, with what we know of the engine as we started it."""
        if found.name == "unknown":
            found = replace(found, name=self._engine.name)
        if self._engine.name == "tgi":  # which passes over in silence that a length is asked for
            return replace(found, ignore_eos=False)
        if self._engine.name == "vllm":  # which passes over a priority in silence, unless it is told to heed it
            return replace(found, by_priority=self._profile.deployment.server.scheduling_policy == "priority")
        return found


def _free_ports(address: str, count: int) -> list[int]:
    """Ports that nobody listens on now. All are held at once, so that none comes twice."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for _ in range(count):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            taken = sockets.enter_context(socket.socket(family))
            try:
                taken.bind((address, 0))
            except OSError as error:
                raise ServingError(
                    f"can't listen on {address}: {error.strerror}; give an address of this host"
                ) from error
            ports.append(taken.getsockname()[1])
        return ports
