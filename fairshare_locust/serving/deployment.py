"""Deployment: every tenant's servers, started or found, and how to stop them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairshare_locust.client.dialects import asked_options
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.serving.probe import Found, probe, prompt_overhead_tokens
from fairshare_locust.serving.server import Server
from fairshare_locust.serving.simulator import SimulatorProcess
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["Deployed", "check_external", "deploy"]


@dataclass
class Deployed:
    """Servers by tenant id; a tenant's requests go to them in turn."""

    servers: Mapping[str, tuple[Server, ...]]
    processes: list[SimulatorProcess] = field(default_factory=list)

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
        return self.processes[0].dcgm_url if self.processes else None

    def stop(self) -> None:
        """Stop what we started; safe to call twice."""
        while self.processes:
            self.processes.pop().stop()


def deploy(profile: Profile, logs: Path | None, address: str = "127.0.0.1") -> Deployed:
    """Start the profile's own server on `address`, with its log in the folder `logs`. Raises ServingError."""
    process = SimulatorProcess(profile, None if logs is None else logs / "simulator.log", address)
    return Deployed({tenant.id: (process.server(tenant),) for tenant in profile.tenants}, [process])


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
