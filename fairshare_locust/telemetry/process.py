"""Telemetry: the collector's process, as the run that starts it sees it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.clock import RunClock
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.record import RunDirectory
from fairshare_locust.telemetry.task import Identity, PolledEndpoint, Task

if TYPE_CHECKING:
    from fairshare_locust.serving.server import Server

__all__ = ["Telemetry", "task_of"]

_READY_WITHIN_S = 15.0
_DONE_WITHIN_S = 5.0
_GONE_WITHIN_S = 1.0

State = Literal["off", "running", "complete", "lost", "abandoned"]


class Telemetry:
    """Samples beside the load, in a process of its own. Nothing here raises once it is started.

    Under gevent its thread is a greenlet and its pipes are the event loop's: nothing here blocks the load.

    Attributes:
        notes: what the user should know, a sentence each, once each; it grows while the run goes on.
        on_note: called with each further note; None: nobody is told at once.
        latest: the newest values of what a live view shows: `{"gpu": {device: {metric: value, "t_s": …}}, "server":
            {endpoint: {…}}}`; empty before there are any.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.on_note: Callable[[str], None] | None = None
        self.latest: dict[str, Any] = {}
        self._state: State = "off"
        self._sources: list[dict[str, Any]] = []
        self._files: dict[str, Any] = {}
        self._cpu_share: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._ready = threading.Event()
        self._done = threading.Event()

    @classmethod
    def start(
        cls,
        profile: Profile,
        servers: Mapping[str, Sequence[Server]],
        directory: RunDirectory,
        dcgm_url: str | None = None,
    ) -> Telemetry:
        """Start it and wait until every source was tried once. Without a source there is no process.

        Args:
            servers: by tenant id.
            dcgm_url: an exporter that came with the servers, for a profile that names none.
        """
        telemetry = cls()
        task = task_of(profile, servers, directory, dcgm_url)
        if task.nvml or task.endpoints or task.dcgm_url or task.agent_url:
            try:
                telemetry._start(task, directory)
            except BaseException:  # Ctrl-C too
                telemetry.abandon()
                raise
        return telemetry

    def begin(self, clock: RunClock) -> None:
        """The load begins: samples count from the clock's t = 0 on."""
        self._send({"t0_monotonic_s": clock.monotonic_s})

    def end(self) -> None:
        """The last samples, before the servers are stopped; waits a few seconds at most. Safe to call twice."""
        self._send({"end": True})
        if self._state == "running" and not self._done.wait(_DONE_WITHIN_S):
            self._state = "lost"
            self._note(f"telemetry did not end within {_DONE_WITHIN_S:g} s and was stopped")
        self._reap()

    def abandon(self) -> None:
        """Stop at once; what was sampled is in the files. Safe to call twice, and after `end`."""
        if self._state == "running":
            self._state = "abandoned"
        self._reap()

    def describe(self) -> dict[str, Any]:
        """As `run.json` has it.

        `state` is `off` (nothing to sample), `running`, `complete`, `lost` (it died) or `abandoned`. Each of
        `sources` has its kind as `source`, its endpoint or URL as `subject` and its `problems`; before the end, also
        whether it `works`; after it `samples`, `interval_s`, `achieved_interval_s`, `jitter_s`, `duration_s`, `gaps`,
        `late_ticks`, `failures`, what is `unsupported` (device or endpoint → metric → why), and what it is (`devices`,
        `cache_config_info`). `files` counts rows; `cpu_share` is what
        the collector took of a core.
        """
        return {
            "state": self._state,
            "sources": self._sources,
            "files": self._files,
            "cpu_share": self._cpu_share,
        }

    def _start(self, task: Task, directory: RunDirectory) -> None:
        try:
            self._log = directory.logs / "telemetry.log"
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    child_command("fairshare_locust.telemetry"),
                    env=child_environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # a Ctrl-C at the terminal is for us
                )
        except OSError as error:
            self._state = "lost"
            self._note(f"telemetry can't be started ({error.strerror}); there will be none")
            return
        self._state = "running"
        threading.Thread(target=self._listen, args=(self._process,), name="telemetry", daemon=True).start()
        self._write(task.to_line())
        if not self._ready.wait(_READY_WITHIN_S):
            self._note(
                f"telemetry was not ready within {_READY_WITHIN_S:g} s; the load goes on, its start may be missing"
            )

    def _send(self, command: dict[str, Any]) -> None:
        self._write(orjson.dumps(command, option=orjson.OPT_APPEND_NEWLINE))

    def _write(self, line: bytes) -> None:
        if self._state != "running" or self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it is gone; whoever listens to it tells

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for message in _messages(process):
            if "note" in message:
                self._note(message["note"])
            elif "ready" in message:
                self._sources = message["ready"]
                self._ready.set()
            elif "latest" in message:
                self.latest = message["latest"]
            elif "done" in message:
                self._sources = message["done"]["sources"]
                self._files = message["done"]["files"]
                self._cpu_share = message["done"]["cpu_share"]
                self._state = "complete"
                self._done.set()
        if self._state == "running":
            code = process.wait()
            self._state = "lost"
            self._note(f"telemetry ended before the run did (exit code {code}); its files end there")
        self._ready.set()
        self._done.set()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            if self.on_note is not None:
                self.on_note(text)

    def _reap(self) -> None:
        """Its input ends, so it does; leave nothing behind."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_GONE_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(OSError):
            if self._log is not None and not self._log.stat().st_size:
                self._log.unlink()  # it had nothing to say


def task_of(
    profile: Profile,
    servers: Mapping[str, Sequence[Server]],
    directory: RunDirectory,
    dcgm_url: str | None = None,
) -> Task:
    """What a profile wants sampled. An endpoint of several tenants is polled once, as the first that it lets in."""
    wanted = profile.telemetry
    dcgm_url = wanted.dcgm_url or dcgm_url
    endpoints: dict[tuple[str, str, int, str], PolledEndpoint] = {}
    pids: dict[int, str] = {}
    for tenant in profile.tenants:
        for server in servers[tenant.id]:
            if server.pid is not None:
                pids.setdefault(server.pid, server.endpoint)
            place = Endpoint.parse(server.endpoint)
            key = (place.scheme, place.host, place.port, place.prefix)
            endpoints[key] = _polled(tenant, server, place, endpoints.get(key))
    nvml, notes = False, []
    if wanted.nvml == "auto":
        # Beside a modelled GPU, what this host's does is nothing of the run's.
        places = {Endpoint.parse(one.endpoint).host for some in servers.values() for one in some if not one.simulated}
        nvml = any(map(_is_here, places))
        if places and not nvml and not dcgm_url and not wanted.agent_url:
            notes.append("servers run elsewhere; this host's GPUs are not sampled: give dcgm_url or agent_url")
    return Task(
        directory=str(directory.path.resolve()),
        nvml=nvml,
        nvml_interval_s=wanted.nvml_interval_s,
        servers=pids,
        endpoints=tuple(endpoints.values()) if wanted.server_metrics == "auto" else (),
        server_metrics_interval_s=wanted.server_metrics_interval_s,
        dcgm_url=dcgm_url,
        agent_url=wanted.agent_url,
        agent_token_env=wanted.agent_token_env,
        scrape_interval_s=wanted.scrape_interval_s,
        notes=tuple(notes),
    )


def _polled(tenant: Tenant, server: Server, place: Endpoint, before: PolledEndpoint | None) -> PolledEndpoint:
    identity = Identity(headers=tenant.headers, token_env=tenant.api_key_env)
    if before is not None:
        tenants = tuple(dict.fromkeys((*before.tenants, tenant.id)))
        known = before.identities
        return replace(before, tenants=tenants, identities=known if identity in known else (*known, identity))
    return PolledEndpoint(
        endpoint=server.endpoint,
        metrics_url=f"{place.scheme}://{place.host_header}{place.prefix}/metrics",
        tenants=(tenant.id,),
        identities=(identity,),
    )


def _is_here(host: str) -> bool:
    """Whether a host is this one: only to addresses of its own a socket can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False  # nobody reaches it
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _messages(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What the collector says, until it says nothing more."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield orjson.loads(line)
    except (OSError, ValueError):
        pass  # a pipe that was closed, or half a line of a process that was killed
    finally:
        with contextlib.suppress(OSError):
            process.stdout.close()
