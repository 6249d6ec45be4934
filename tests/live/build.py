"""Records, tenants and a view with known inputs, in a line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairshare_locust.live.tally import LiveTally, LoadGauges
from fairshare_locust.live.view import LiveView, RunStatus
from fairshare_locust.profile import Profile
from fairshare_locust.record import RequestRecord
from tests.profile.profiles import parse

__all__ = ["PROFILE", "Inputs", "record"]

PROFILE: Profile = parse(
    """\
name: two
run: {duration_s: 60}
model: {name: tiny}
tenants:
  - id: chat
    slo: {ttft_ms: 500}
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: synthetic, input_tokens: 100, output_tokens: 10}
  - id: batch
    weight: 2
    arrival: {process: closed, concurrency: 4}
    workload: {source: synthetic, input_tokens: 100, output_tokens: 10}
"""
)
CHAT, BATCH = PROFILE.tenants


def record(tenant: str = "chat", ended_s: float = 1.5, **changes: Any) -> RequestRecord:
    """An ok request, due 1 s before its end and sent 0.9 s before: TTFT 200 ms (100 from sending), TPOT 80 ms."""
    values: dict[str, Any] = {
        "request_id": "r",
        "tenant": tenant,
        "phase": "measure",
        "worker": 0,
        "index": 0,
        "scheduled_s": ended_s - 1,
        "sent_s": ended_s - 0.9,
        "first_token_s": ended_s - 0.8,
        "last_token_s": ended_s,
        "ended_s": ended_s,
        "outcome": "ok",
        "output_tokens": 11,
        "chunk_gap_us": [80_000] * 10,
    }
    return RequestRecord(**{**values, **changes})


@dataclass
class Inputs:
    """What a view is fed with; tests change it between ticks."""

    status: RunStatus = field(
        default_factory=lambda: RunStatus("running", phase="measure", phase_start_s=0.0, run="2026-two")
    )
    loads: Mapping[str, LoadGauges] = field(default_factory=dict)
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] | None = None
    tally: LiveTally = field(default_factory=LiveTally)

    def view(
        self, profile: Profile = PROFILE, *, settling_s: float = 0.0, pause: Callable[[], None] = lambda: None
    ) -> LiveView:
        """A view that reads these inputs as they are then."""
        return LiveView(
            profile,
            self.tally,
            lambda: self.status,
            lambda: self.loads,
            lambda: self.telemetry,
            lambda: self.health,
            settling_s=settling_s,
            pause=pause,
        )
