"""Builders: a record in one line, and a run directory around some."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from analysis.load import Phase, Profile, Run, Tenant, load_run
from analysis.requests import Requests, read_requests
from fairshare_locust.record import RequestRecord

__all__ = [
    "Sample",
    "columns",
    "conducted",
    "histogram",
    "lost",
    "part",
    "phases",
    "profile",
    "quick_pictures",
    "record",
    "run",
    "sampled",
    "worker",
    "write_run",
    "write_samples",
]

Sample = tuple[float, str, str, float]
"""(t_s, device or endpoint, metric, value)"""

WINDOW = (0.0, 10.0)


def record(tenant: str = "a", index: int = 0, **values: Any) -> RequestRecord:
    """A record. By default: due and sent at 1 s, one token at 1.5 s, ended then.

    `gaps_us` fills `chunk_gap_us` and, unless given, `last_token_s`, `output_tokens` and `ended_s`.
    """
    outcome = values.setdefault("outcome", "ok")
    values.setdefault("scheduled_s", 1.0)
    values.setdefault("sent_s", None if outcome == "shed" else values["scheduled_s"])
    gaps = values.pop("gaps_us", None)
    if outcome == "ok" or gaps is not None:
        values.setdefault("first_token_s", values["scheduled_s"] + 0.5)
    first_token_s = values.setdefault("first_token_s", None)
    if first_token_s is not None:
        values.setdefault("chunk_gap_us", gaps or [])
        values.setdefault("last_token_s", first_token_s + sum(values["chunk_gap_us"]) / 1e6)
        values.setdefault("output_tokens", len(values["chunk_gap_us"]) + 1)
        values.setdefault("tokens_from", "usage")
    latest = max(values[key] for key in ("scheduled_s", "sent_s", "last_token_s") if values.get(key) is not None)
    values.setdefault("ended_s", latest)
    values.setdefault("request_id", f"{tenant}-{index:06d}")
    values.setdefault("phase", "measure")
    values.setdefault("worker", 0)
    return RequestRecord(tenant=tenant, index=index, **values)


def columns(records: Iterable[RequestRecord], tenants: Sequence[str] = ("a", "b")) -> Requests:
    """Records as columns, by way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        path.write_bytes(b"".join(one.to_json() for one in records))
        return read_requests(path, tenants)


def profile(*tenants: Tenant, **values: Any) -> Profile:
    """A profile; without tenants it has `a` and `b`, of weight 1, without SLO."""
    return Profile(tenants=tenants or (Tenant(id="a"), Tenant(id="b")), **values)


def phases(tenants: Sequence[str], *spans: tuple[str, float, float, bool]) -> tuple[Phase, ...]:
    """Phases that list all tenants."""
    return tuple(
        Phase(name=name, start_s=start, end_s=end, measured=measured, tenants=tuple(tenants))
        for name, start, end, measured in spans
    )


def part(
    name: str, start_s: float, end_s: float, tenants: Iterable[str], load: float | None = None, *, measured: bool = True
) -> dict[str, Any]:
    """An entry of `phases` in `run.json`; without a load it has no such key."""
    spelled = {} if load is None else {"load": load}
    return {
        "name": name,
        "start_s": float(start_s),
        "end_s": float(end_s),
        "measured": measured,
        "tenants": list(tenants),
        **spelled,
    }


def write_run(
    folder: Path,
    records: Iterable[RequestRecord],
    tenants: Sequence[Tenant] = (Tenant(id="a"), Tenant(id="b")),
    *,
    info: Mapping[str, Any] | None = None,
    fairness_window_s: float = 5.0,
    cost: Mapping[str, Any] | None = None,
    telemetry: Mapping[str, Any] | None = None,
) -> Path:
    """A run directory with one measured phase from 0 to 10 s; `info` replaces keys of `run.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(records)
    (folder / "requests.jsonl").write_bytes(b"".join(one.to_json() for one in every))
    ids = [tenant.id for tenant in tenants]
    content: dict[str, Any] = {
        "schema": 1,
        "state": "complete",
        "name": "example",
        "plan": "mixed",
        "seed": 7,
        "versions": {"fairshare_locust": "0.1.0", "locust": "2.47.0"},
        "hosts": [{"hostname": "host", "platform": "Linux", "cpu_count": 2}],
        "gpu": None,
        "servers": [
            {
                "endpoint": "http://127.0.0.1:40001",
                "engine": "simulator",
                "sharing": "logical",
                "simulated": True,
                "command": ["simulator", "--port", "40001"],
                "family": "simulator",
                "model": "model",
            }
        ],
        "t0": {"unix_s": 1795224435.0, "monotonic_s": 100.0},
        "ended_s": 12.0,
        "workers": [worker(0)],
        "phases": [
            {"name": "measure", "start_s": WINDOW[0], "end_s": WINDOW[1], "measured": True, "tenants": ids},
            {"name": "drain", "start_s": WINDOW[1], "end_s": 12.0, "measured": False, "tenants": []},
        ],
        "asked": {name: {"scheduled": sum(one.tenant == name for one in every)} for name in ids},
        "notes": [],
    }
    (folder / "run.json").write_bytes(orjson.dumps(content | dict(info or {})))
    resolved = {
        "name": "example",
        "run": {"warmup_s": 0, "duration_s": 10, "drain_s": 2, "fairness_window_s": fairness_window_s},
        "tenants": [
            {
                "id": tenant.id,
                "weight": tenant.weight,
                "slo": dataclasses.asdict(tenant.slo) if tenant.slo else None,
            }
            for tenant in tenants
        ],
        "fairness": {"service_weights": {"input": 1, "output": 2}},
        "cost": dict(cost) if cost else None,
        "telemetry": dict(telemetry or {}),
    }
    (folder / "profile.resolved.yaml").write_text(yaml.safe_dump(resolved), encoding="utf-8")
    return folder


def worker(
    index: int, *, lag_p99_ms: float | None = 1.0, cpu_p95: float | None = 0.2, slow: Any = (), **values: Any
) -> dict[str, Any]:
    """An entry of `workers` in `run.json`; `values` adds to it or replaces what it has."""
    return {
        "index": index,
        "hostname": "host",
        "pid": 100 + index,
        "clock_offset_s": 0.0,
        "health": {
            "event_loop_lag_ms": {"count": 100, "p50": 0.1, "p99": lag_p99_ms, "max": 9.0},
            "cpu_share": {"count": 10, "p50": 0.1, "p95": cpu_p95, "max": 0.3},
            "slow_seconds": list(slow),
        },
        **values,
    }


def conducted(index: int, state: str = "complete", *, uncertainty_s: float = 0.0001, **values: Any) -> dict[str, Any]:
    """An entry of `workers` of a run with a master."""
    clock = {"offset_s": 0.00025, "uncertainty_s": uncertainty_s, "drift_ppm": None, "round_trip_s": 0.0002}
    return worker(
        index, **{"hostname": "vm", "state": state, "clock_offset_s": 0.00025, "clock": clock, "lost": None, **values}
    )


def lost(index: int, **requests: int | None) -> dict[str, Any]:
    """A worker that went at 4.241 s, with the requests that each tenant misses, for 12.259 s."""
    tenants = {tenant: {"requests": missing, "seconds": 12.259} for tenant, missing in requests.items()}
    loss = {"since_s": 4.241, "why": "it went silent for 10 s", "tenants": tenants}
    return conducted(index, "lost", lost=loss)


def run(folder: Path, records: Iterable[RequestRecord], *tenants: Tenant, **values: Any) -> Run:
    """A run read back from a directory."""
    return load_run(write_run(folder, records, tenants or (Tenant(id="a"), Tenant(id="b")), **values))


def sampled(subject: str, metric: str, *points: tuple[float, float]) -> list[Sample]:
    """Samples of one metric from (t_s, value)."""
    return [(t_s, subject, metric, value) for t_s, value in points]


def histogram(
    endpoint: str,
    name: str,
    *scrapes: tuple[float, float, Sequence[float]],
    bounds: Sequence[str] = ("0.1", "1", "inf"),
) -> list[Sample]:
    """Samples of a histogram from (t_s, sum, cumulative counts up to each bound)."""
    samples: list[Sample] = []
    for t_s, total, counts in scrapes:
        buckets = zip(bounds, counts, strict=True)
        samples += [(t_s, endpoint, f"{name}_bucket_le_{bound}", count) for bound, count in buckets]
        samples += [(t_s, endpoint, f"{name}_sum", total), (t_s, endpoint, f"{name}_count", counts[-1])]
    return samples


def write_samples(
    folder: Path, *, gpu: Iterable[Sample] = (), server: Iterable[Sample] = (), gpu_source: str = "nvml"
) -> Path:
    """The telemetry files of a run directory; one without samples is not written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, subject, source, samples in (
        ("gpu.csv", "device", gpu_source, list(gpu)),
        ("server.csv", "endpoint", "server_metrics", list(server)),
    ):
        lines = [f"{t_s},{source},{of},{metric},{value}\n" for t_s, of, metric, value in samples]
        if lines:
            header = f"t_s,source,{subject},metric,value\n"
            (folder / name).write_text(header + "".join(lines), encoding="utf-8")
    return folder


@contextmanager
def quick_pictures() -> Iterator[None]:
    """Figures are put together but not painted, which takes most of the time of a report; their files are empty."""

    def save(_: object, path: Path) -> None:
        path.write_bytes(b"")
        path.with_suffix(".svg").write_bytes(b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.figures.style.save", save)
        yield
