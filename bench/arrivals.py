"""Does an open loop keep its schedule? 200 requests/s for 30 s, with and without a server that stalls for 5 s.

    python -m bench.arrivals [--rate 200] [--seconds 30]

Server and client run on a core of their own. Prints the achieved rate, the send lag and whether requests went out in
the order of their indices; with the stall, the from-schedule TTFT beside what follows from the schedule by
arithmetic. Exits 1 when the rate is off by more than 0.5 %, or the send lag's p99 (without stall) above 5 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson

from bench.client import ROOT, pinned, truth_server

__all__ = ["main"]

PROFILE = """
name: arrivals
seed: 1
run: {{warmup_s: 0, duration_s: {seconds}, drain_s: 20}}
model: {{name: truth, tokenizer: builtin}}
deployment: {{engine: external}}
tenants:
  - id: load
    arrival: {{process: {process}, rate_per_s: {rate}, max_in_flight: {streams}}}
    workload: {{source: synthetic, input_tokens: 64, output_tokens: 16}}
"""
STALL_S = (10.0, 15.0)
TTFT_MS = 200


def main() -> int:
    """Run the bench; 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    good = True
    for process in ("constant", "poisson"):
        records = measure(process, options.rate, options.seconds, 1000, None)
        good &= _tell(f"{process}, no stall", records, options.rate, options.seconds, limit_ms=5)
    records = measure("constant", options.rate, options.seconds, 2000, STALL_S)
    good &= _tell("constant, 5 s of stall, 2,000 streams", records, options.rate, options.seconds, limit_ms=5)
    records = measure("constant", options.rate, options.seconds, 400, STALL_S)
    good &= _tell("constant, 5 s of stall, 400 streams", records, options.rate, options.seconds, limit_ms=None)
    return 0 if good else 1


def measure(
    process: str, rate: float, seconds: float, streams: int, stall_s: tuple[float, float] | None
) -> list[dict[str, float]]:
    """The records of one run, by index."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = folder / "profile.yaml"
        profile.write_text(PROFILE.format(process=process, rate=rate, seconds=seconds, streams=streams))
        stall = () if stall_s is None else ("--stall-s", *map(str, stall_s))
        with truth_server(folder / "stamps.npz", "--gap-ms", "1", *stall) as endpoint:
            command = [sys.executable, "-m", "locust", "-f", "locustfiles/mixed.py", "--headless", "--host", endpoint]
            command += ["--fairshare-profile", str(profile), "--fairshare-out", str(folder), "--fairshare-no-report"]
            done = subprocess.run(command, cwd=ROOT, preexec_fn=pinned(1), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        lines = (folder / "latest" / "requests.jsonl").read_bytes().splitlines()
    return sorted((orjson.loads(line) for line in lines), key=lambda record: int(record["index"]))


def _tell(name: str, records: list[dict[str, float]], rate: float, seconds: float, limit_ms: float | None) -> bool:
    scheduled_s = np.array([record["scheduled_s"] for record in records])
    sent_s = np.array([record["sent_s"] for record in records])
    first_s = np.array([record["first_token_s"] for record in records])
    asked = len(records) / seconds
    achieved = np.count_nonzero(sent_s < seconds) / seconds
    lag_ms = np.quantile((sent_s - scheduled_s) * 1000, [0.5, 0.99, 1])
    due_ms = np.quantile((first_s - scheduled_s) * 1000, [0.5, 0.9, 0.95, 0.99], method="inverted_cdf")
    own_ms = np.quantile((first_s - sent_s) * 1000, [0.5, 0.9, 0.95, 0.99], method="inverted_cdf")
    ordered = bool(np.all(np.diff(sent_s) >= 0))
    print(f"{name}: {len(records)} requests, asked {asked:.2f}/s (mean rate {rate:g}), sent {achieved:.2f}/s")
    print(f"  send lag p50 {lag_ms[0]:.2f}, p99 {lag_ms[1]:.2f}, max {lag_ms[2]:.2f} ms; in index order: {ordered}")
    print(f"  TTFT p50/p90/p95/p99: from schedule {_row(due_ms)} ms, from sending {_row(own_ms)} ms")
    if "stall" in name and "no stall" not in name:
        # What is due at d in the stall, or so short before that its token would come in it, waits for its end.
        true_s = np.where(
            (scheduled_s + TTFT_MS / 1000 >= STALL_S[0]) & (scheduled_s + TTFT_MS / 1000 < STALL_S[1]),
            STALL_S[1] - scheduled_s,
            TTFT_MS / 1000,
        )
        expected = np.quantile(true_s * 1000, [0.5, 0.9, 0.95, 0.99], method="inverted_cdf")
        print(f"  TTFT by arithmetic, were every stream free: {_row(expected)} ms")
    in_time = limit_ms is None or bool(abs(achieved / asked - 1) <= 0.005 and lag_ms[1] <= limit_ms)
    kept = ordered and in_time
    print(f"  {'within' if kept else 'OUTSIDE'} the limits")
    return kept


def _row(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return " / ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
