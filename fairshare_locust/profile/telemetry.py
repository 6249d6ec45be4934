"""Telemetry a profile can ask for: what the GPU and the engines were doing, sampled beside the load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fairshare_locust.profile.schema import allow

__all__ = ["Telemetry"]

_URL = r"https?://[^\s/?#@]+[^\s?#@]*"


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Who is sampled, and how often. `auto`: where it answers, else a line that says why not.

    Attributes:
        nvml: the GPUs of this host, through the driver.
        nvml_interval_s: between two samples of a GPU.
        server_metrics: each endpoint's `/metrics`.
        server_metrics_interval_s: between two polls of an endpoint.
        dcgm_url: a DCGM exporter on the host that owns the GPU, with its path.
        agent_url: our own agent on that host (`python -m fairshare_locust telemetry`), with its path.
        agent_token_env: the name of an environment variable with the agent's bearer token.
        scrape_interval_s: between two polls of the exporter, or of the agent.
    """

    nvml: Literal["auto", "never"] = "auto"
    nvml_interval_s: float = allow(0.5, at_least=0.1, at_most=60)
    server_metrics: Literal["auto", "never"] = "auto"
    server_metrics_interval_s: float = allow(0.1, at_least=0.05, at_most=60)
    dcgm_url: str | None = allow(None, pattern=_URL, pattern_means="an http:// or https:// URL")
    agent_url: str | None = allow(None, pattern=_URL, pattern_means="an http:// or https:// URL")
    agent_token_env: str | None = allow(
        None, pattern=r"[A-Za-z_][A-Za-z0-9_]*", pattern_means="the name of an environment variable"
    )
    scrape_interval_s: float = allow(1.0, at_least=0.1, at_most=60)

    def check(self) -> Iterator[tuple[str, str]]:
        """A token is for an agent."""
        if self.agent_token_env is not None and self.agent_url is None:
            yield "agent_token_env", f"found {self.agent_token_env!r} without agent_url; name the agent it is for"
