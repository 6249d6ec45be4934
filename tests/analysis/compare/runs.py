"""Run directories to compare: a mode, a seed, a load, and answers as fast as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from analysis.load import Slo, Tenant
from tests.analysis.build import record, write_run

__all__ = ["CHAT", "compared_run"]

CHAT = (Tenant(id="chat", slo=Slo(ttft_ms=500)), Tenant(id="batch"))


def compared_run(
    folder: Path,
    mode: str = "logical",
    *,
    seed: int = 7,
    load: float | None = None,
    ttft_s: float = 0.25,
    tokens: int = 5,
    tenants: Sequence[Tenant] = CHAT,
    arrival: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    engine: str = "simulator",
    **info: Any,
) -> Path:
    """Ten requests per tenant, one per second from 0 s: each waits `ttft_s`, then a token each 100 ms."""
    records = [
        record(
            tenant.id,
            index,
            scheduled_s=float(index),
            first_token_s=index + ttft_s,
            gaps_us=[100_000] * (tokens - 1),
        )
        for tenant in tenants
        for index in range(10)
    ]
    if load is not None:
        info["cell"] = {"experiment": "e", "mode": mode, "load_name": "scale", "load": load, "repeat": seed}
    servers = [{"endpoint": "http://127.0.0.1:1", "engine": engine, "sharing": mode, "simulated": True}]
    write_run(folder, records, tenants, info={"seed": seed, "servers": servers, "ended_s": 20.0, **info})
    path = folder / "profile.resolved.yaml"
    resolved = yaml.safe_load(path.read_text())
    resolved |= {"seed": seed, "deployment": {"engine": engine, "sharing": mode}}
    resolved["cost"] = {"gpu_hour_usd": 3.6, "gpus": 1}
    for tenant in resolved["tenants"]:
        tenant["arrival"] = dict(arrival or {"process": "constant", "rate_per_s": 1.0})
    resolved |= changes or {}
    path.write_text(yaml.safe_dump(resolved))
    return folder
