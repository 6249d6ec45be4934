"""Deployment: every tenant's servers, started or found, and how to stop them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.serving.probe import probe
from fairshare_locust.serving.server import Server
from fairshare_locust.serving.simulator import SimulatorProcess

__all__ = ["Deployed", "check_external", "deploy"]


@dataclass
class Deployed:
    """Servers by tenant id; a tenant's requests go to them in turn."""

    servers: Mapping[str, tuple[Server, ...]]
    processes: list[SimulatorProcess] = field(default_factory=list)

    def describe(self) -> list[dict[str, object]]:
        """Each server once, as `run.json` has it."""
        every = {server.endpoint: server for servers in self.servers.values() for server in servers}
        return [server.describe() for server in every.values()]

    def stop(self) -> None:
        """Stop what we started; safe to call twice."""
        while self.processes:
            self.processes.pop().stop()


def deploy(profile: Profile, logs: Path | None) -> Deployed:
    """Start the profile's own server, with its log in the folder `logs`. Raises ServingError."""
    process = SimulatorProcess(profile, None if logs is None else logs / "simulator.log")
    assert process.server is not None
    return Deployed({tenant.id: (process.server,) for tenant in profile.tenants}, [process])


def check_external(profile: Profile) -> Deployed:
    """Probe the servers that run already. Raises ServingError for the first that does not do."""
    known: dict[tuple[str, str, str | None], Server] = {}

    def server(tenant: Tenant, url: str) -> Server:
        key = (url, tenant.api, tenant.api_key_env)
        if key not in known:
            found = probe(profile, tenant, url)
            known[key] = Server(
                url,
                "external",
                profile.deployment.sharing,
                found.family,
                found.model,
                max_model_len=found.max_model_len,
            )
        return known[key]

    missing = [tenant.id for tenant in profile.tenants if not tenant.endpoint]
    if missing:
        raise ServingError(
            f"engine external, but no endpoint for tenant {missing[0]!r}; name the running server with --host URL, "
            f"or set tenants[].endpoint in the profile"
        )
    return Deployed({t.id: tuple(server(t, url) for url in t.endpoint or ()) for t in profile.tenants})
