"""Starting and stopping the embedded simulator, a process of its own."""

from __future__ import annotations

import contextlib
import select
import subprocess
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.client.dialects import EVERY_OPTION, TGI, ServerFamily
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.serving.server import Server
from fairshare_locust.simulator.partition import parts_of
from fairshare_locust.simulator.request import TENANT_HEADER

__all__ = ["SimulatorProcess"]

_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 5.0


class SimulatorProcess:
    """A running simulator. It ends with us: it watches its standard input, which we hold open.

    Attributes:
        dcgm_url: where its modelled GPU is exported, under the names of NVIDIA's DCGM exporter.
    """

    def __init__(self, profile: Profile, log: Path | None, address: str = "127.0.0.1") -> None:
        """Start it and wait until it listens on `address`; without a log it writes to our standard error.

        Raises ServingError: parts of the GPU that do not fit it, or with the end of its log.
        """
        self._log = log
        self._profile = profile
        self._part_of = {tenant: part.index for part in parts_of(profile) for tenant in part.tenants}
        sharing = profile.deployment.sharing
        adapters = dict.fromkeys(tenant.model for tenant in profile.tenants if tenant.model is not None)
        adapters.pop(profile.model.name, None)
        options = orjson.dumps(asdict(profile.deployment.simulator)).decode()
        self.command = child_command(
            *("fairshare_locust.simulator", "--host", address, "--port", "0", "--dcgm-port", "0", "--exit-with-parent"),
            *("--model", profile.model.name, "--tokenizer", profile.model.tokenizer, "--options", options),
            *(f"--adapter={name}" for name in adapters),
            *("--sharing", sharing, "--seed", str(profile.seed)),
            *(f"--tenant={tenant.id}" for tenant in profile.tenants if sharing != "logical"),
        )
        with contextlib.ExitStack() as files:
            self._process = subprocess.Popen(
                self.command,
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if log is None else files.enter_context(open(log, "wb")),
                start_new_session=True,  # a Ctrl-C at the terminal is for us; we stop it when the load has stopped
            )
        self._endpoints: list[str] = []  # by part
        try:
            ready = self._wait_ready()
        except BaseException:
            self.stop()
            raise
        self._endpoints = ready["endpoints"] if "endpoints" in ready else [ready["endpoint"]]
        self.dcgm_url: str = ready["dcgm"]
        self._overhead_tokens = ready["prompt_overhead_tokens"]

    def server(self, tenant: Tenant) -> Server:
        """The server as a tenant meets it: that of its part, by its API and under its model's name."""
        options, sharing = self._profile.deployment.simulator, self._profile.deployment.sharing
        part = self._part_of[tenant.id]
        by_priority = options.scheduling_policy == "priority"
        family = ServerFamily("simulator", ignore_eos=True, takes=EVERY_OPTION, by_priority=by_priority)
        return Server(
            endpoint=self._endpoints[part],
            engine="simulator",
            sharing=sharing,
            family=replace(TGI, name="simulator") if tenant.api == "tgi" else family,
            model=tenant.model or self._profile.model.name,
            command=tuple(self.command),
            pid=self._process.pid,
            max_model_len=options.max_model_len,
            prompt_overhead_tokens=self._overhead_tokens[tenant.api],
            part=None if sharing == "logical" else part,
            headers=() if _says_who_it_is(tenant) else ((TENANT_HEADER, tenant.id),),
        )

    def _wait_ready(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _READY_WITHIN_S)
        line = self._process.stdout.readline() if readable else b""
        try:
            ready: dict[str, Any] = orjson.loads(line)
            return ready
        except orjson.JSONDecodeError:
            end = [] if self._log is None else self._log.read_text(errors="replace").strip().splitlines()[-20:]
            silent = "it ended" if readable else f"it said nothing within {_READY_WITHIN_S:g} s"
            why = "\n".join(["its log ends:", *end]) if end else silent
            raise ServingError(f"the simulator did not start; {why}") from None

    def _keep_metrics(self) -> None:
        if self._log is None:
            return
        for part, endpoint in enumerate(self._endpoints):
            suffix = ".metrics.txt" if len(self._endpoints) == 1 else f".{part}.metrics.txt"
            try:
                with urllib.request.urlopen(f"{endpoint}/metrics", timeout=_STOP_WITHIN_S) as answer:
                    self._log.with_suffix(suffix).write_bytes(answer.read())
            except OSError:
                return  # it is on its way out, or the disk is full: the run's own files matter more

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def death(self, when: str) -> ServingError:
        """The error that tells of its end."""
        return ServingError(f"the simulator ended {when} with exit code {self._process.returncode}")

    def stop(self) -> None:
        """End it, kindly at first, and keep its last metrics beside its log; safe to call twice."""
        if self._process.poll() is None:
            self._keep_metrics()
            self._process.terminate()
            try:
                self._process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _says_who_it_is(tenant: Tenant) -> bool:
    """Whether the profile gives it the header that tells tenants apart."""
    return any(name.lower() == TENANT_HEADER.lower() for name in tenant.headers)
