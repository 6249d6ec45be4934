"""How long, and how much memory, does the analysis of a large run take?

    python -m bench.analysis [--requests 10000 100000 1000000]

Writes synthetic runs of so many requests with 128 tokens each, of four tenants, and runs `python -m analysis report`
on them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.profile import parse_profile, resolved_yaml
from fairshare_locust.record import RequestRecord
from fairshare_locust.record.run_directory import RunDirectory

__all__ = ["main", "write_run"]

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 128
TENANTS = ("chat", "summariser", "batch", "agent")
RATE_PER_S = 500.0

PROFILE = """
name: large
seed: 1
run: {{warmup_s: 10, duration_s: {duration_s}, drain_s: 20}}
model: {{name: synthetic}}
deployment: {{engine: external}}
tenants:
{tenants}
cost: {{gpu_hour_usd: 2, gpus: 1}}
"""

TENANT = """
  - id: {id}
    arrival: {{process: poisson, rate_per_s: {rate_per_s}}}
    workload: {{source: synthetic, input_tokens: 256, output_tokens: 128}}
    slo: {{ttft_ms: 400, tpot_ms: 40}}
"""


@dataclass(frozen=True)
class Cost:
    """What an analysis took."""

    requests: int
    file_mib: float
    wall_s: float
    cpu_s: float
    peak_mib: float


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the runs are written (default: a temporary folder)")
    options = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD, title="python -m analysis report, 128 tokens a request", title_justify="left")
    for column in ("requests", "requests.jsonl MiB", "wall s", "CPU s", "peak MiB"):
        table.add_column(column, justify="right")
    for requests in options.requests:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            cost = measure(write_run(Path(folder), requests), requests)
        table.add_row(
            f"{cost.requests:,}",
            f"{cost.file_mib:,.0f}",
            f"{cost.wall_s:.1f}",
            f"{cost.cpu_s:.1f}",
            f"{cost.peak_mib:,.0f}",
        )
    Console(highlight=False).print(table)


def measure(path: Path, requests: int) -> Cost:
    """Run the analysis of a run directory as a user does."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "analysis", "report", str(path)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"the analysis of {path} failed with exit code {process.returncode}")
    return Cost(
        requests=requests,
        file_mib=(path / "requests.jsonl").stat().st_size / 2**20,
        wall_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
    )


def write_run(folder: Path, requests: int) -> Path:
    """A run directory with so many requests, spread over four tenants; the same for the same number."""
    path = folder / f"run-{requests}"
    path.mkdir(parents=True)
    directory = RunDirectory(path)
    load_s = requests / RATE_PER_S
    tenants = "".join(TENANT.format(id=tenant, rate_per_s=RATE_PER_S / len(TENANTS)) for tenant in TENANTS)
    text = PROFILE.format(duration_s=max(1.0, load_s - 10), tenants=tenants)
    directory.profile.write_text(resolved_yaml(parse_profile(text, source="bench", folder=folder)))
    directory.write_run(_run_json(requests, load_s))
    random = np.random.default_rng(requests)
    with open(directory.requests, "wb") as file:
        for start in range(0, requests, 10_000):
            file.writelines(_records(random, start, min(10_000, requests - start)))
    return path


def _records(random: np.random.Generator, start: int, count: int) -> list[bytes]:
    scheduled = (start + np.arange(count)) / RATE_PER_S
    sent = scheduled + random.exponential(0.0005, count)
    first = sent + random.lognormal(np.log(0.2), 0.5, count)
    gaps = random.normal(20_000, 2_000, (count, TOKENS - 1)).clip(100).astype(np.int64)
    last = first + gaps.sum(axis=1) / 1e6
    lines = []
    for i in range(count):
        index = start + i
        tenant = TENANTS[index % len(TENANTS)]
        ok = index % 500 != 0
        record = RequestRecord(
            request_id=f"{tenant}-{index // len(TENANTS):06d}",
            tenant=tenant,
            phase="warmup" if scheduled[i] < 10 else "measure",
            worker=0,
            index=index // len(TENANTS),
            scheduled_s=round(float(scheduled[i]), 6),
            sent_s=round(float(sent[i]), 6),
            headers_s=round(float(sent[i]) + 0.001, 6),
            first_token_s=round(float(first[i]), 6),
            last_token_s=round(float(last[i]), 6),
            ended_s=round(float(last[i]) + 0.0001, 6),
            outcome="ok" if ok else "truncated",
            status=200,
            error=None if ok else "the stream ended without its proper end",
            finish_reason="length" if ok else None,
            input_tokens=256,
            output_tokens=TOKENS,
            tokens_from="usage",
            requested_output_tokens=TOKENS,
            chunk_gap_us=gaps[i].tolist(),
            endpoint="http://127.0.0.1:8000",
            api="openai_chat",
            model="synthetic",
            prompt_sha="0123456789abcdef",
        )
        lines.append(record.to_json())
    return lines


def _run_json(requests: int, load_s: float) -> dict[str, object]:
    health = {
        "event_loop_lag_ms": {"count": 1000, "p50": 0.1, "p99": 1.0, "max": 4.0},
        "cpu_share": {"count": 100, "p50": 0.3, "p95": 0.4, "max": 0.5},
        "slow_seconds": [],
    }
    end_s = max(11.0, load_s)
    everybody = list(TENANTS)
    return {
        "schema": 1,
        "state": "complete",
        "name": "large",
        "plan": "mixed",
        "seed": 1,
        "versions": {},
        "hosts": [],
        "gpu": None,
        "servers": [],
        "t0": {"unix_s": 1.7e9, "monotonic_s": 1000.0},
        "ended_s": load_s + 5,
        "workers": [{"index": 0, "hostname": "bench", "pid": 1, "clock_offset_s": 0.0, "health": health}],
        "phases": [
            {"name": "warmup", "start_s": 0.0, "end_s": 10.0, "measured": False, "tenants": everybody},
            {"name": "measure", "start_s": 10.0, "end_s": end_s, "measured": True, "tenants": everybody},
            {"name": "drain", "start_s": end_s, "end_s": load_s + 5, "measured": False, "tenants": []},
        ],
        "asked": {tenant: {"scheduled": len(range(i, requests, len(TENANTS)))} for i, tenant in enumerate(TENANTS)},
        "notes": [],
    }


if __name__ == "__main__":
    main()
