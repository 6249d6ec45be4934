"""What does telemetry cost? CPU of the load process, CPU of the collector, and TTFT, with and without.

    python -m bench.telemetry [--seconds 20] [--repeats 3] [--streams 32]

Runs the same load on a simulator, in turn without telemetry and with its metrics polled every 100 ms. Then lets a
collector poll a page of vLLM's size, to see what that takes. Prints the medians over the repeats, and how far runs
that are alike differ. Exits 1 when polling costs the load process 2 % of a core or more, or moves the median TTFT by
2 % or by 1 ms, or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.profile import parse_profile
from fairshare_locust.serving.simulator import SimulatorProcess
from fairshare_locust.telemetry.task import Task
from tests.telemetry.collecting import polled
from tests.telemetry.page import Page, fixture

__all__ = ["Measured", "judge", "main"]

ROOT = Path(__file__).resolve().parents[1]
INTERVAL_S = 0.1
LIMIT_SHARE = 0.02
LIMIT_TTFT_RATIO = 0.02
LIMIT_TTFT_MS = 1.0

PROFILE = """
name: telemetry
seed: 1
run: {{warmup_s: 2, duration_s: {seconds}, drain_s: 10}}
model: {{name: simulated, tokenizer: builtin}}
deployment: {{engine: {engine}}}
telemetry: {{nvml: never, server_metrics: {server_metrics}, server_metrics_interval_s: {interval_s}}}
tenants:
  - id: load
    {endpoint}
    arrival: {{process: closed, concurrency: {streams}}}
    workload:
      source: synthetic
      input_tokens: 128
      output_tokens: {{distribution: uniform, low: 32, high: 96}}
"""


@dataclass(frozen=True)
class Measured:
    """One run: shares of a core, over its measured part, and TTFT of its requests."""

    load_share: float
    collector_share: float
    requests: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    poll_mean_ms: float | None


def main() -> int:
    """Run the bench; 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--streams", type=int, default=32)
    options = parser.parse_args()
    console = Console(highlight=False, width=max(Console().width, 120))
    runs: dict[bool, list[Measured]] = {False: [], True: []}
    for number in range(options.repeats):
        for polling in (False, True):
            console.print(f"run {number + 1} of {options.repeats}, polling {polling} …", style="dim")
            runs[polling].append(measure(polling, options.seconds, options.streams))
    console.print(_table(runs))
    verdicts = judge(runs)
    for words, good in verdicts:
        console.print(f"polling every {INTERVAL_S:g} s {words} ({'ok' if good else 'bad'})")
    text = fixture("vllm")
    share, mean_ms = poll_only(text, options.seconds)
    console.print(
        f"a page of vLLM's size ({len(text)} bytes): the collector takes {share:.3f} of a core, {mean_ms:.1f} ms a poll"
    )
    return 0 if all(good for _, good in verdicts) else 1


def judge(runs: Mapping[bool, Sequence[Measured]]) -> list[tuple[str, bool]]:
    """What polling costs, by the medians of the runs without (False) and with it (True), and whether that is little."""
    load = {polling: median(run.load_share for run in of) for polling, of in runs.items()}
    ttft_ms = {polling: median(run.ttft_p50_ms for run in of) for polling, of in runs.items()}
    cost, moved_ms = load[True] - load[False], ttft_ms[True] - ttft_ms[False]
    limit_ms = min(LIMIT_TTFT_MS, LIMIT_TTFT_RATIO * ttft_ms[False])
    return [
        (f"costs the load process {cost:+.4f} of a core", cost < LIMIT_SHARE),
        (f"moves TTFT p50 by {moved_ms:+.3f} ms, of {ttft_ms[False]:.2f} ms", abs(moved_ms) < limit_ms),
    ]


def measure(polling: bool, seconds: float, streams: int) -> Measured:
    """One run of the load, on a simulator of its own."""

    def profile(engine: str, endpoint: str) -> str:
        return PROFILE.format(
            engine=engine,
            endpoint=endpoint,
            seconds=seconds,
            streams=streams,
            interval_s=INTERVAL_S,
            server_metrics="auto" if polling else "never",
        )

    simulated = parse_profile(profile("simulator", "weight: 1"), source="bench", folder=ROOT)
    with tempfile.TemporaryDirectory() as folder:
        simulator = SimulatorProcess(simulated, Path(folder) / "simulator.log")
        try:
            endpoint = simulator.server(simulated.tenants[0]).endpoint
            path = Path(folder) / "profile.yaml"
            path.write_text(profile("external", f"endpoint: {endpoint}"))
            share = _run(path, Path(folder))
        finally:
            simulator.stop()
        return _measured(Path(folder) / "latest", share)


def poll_only(text: str, seconds: float) -> tuple[float, float]:
    """Poll a page that is always the same: the collector's share of a core, and the mean ms of a poll."""
    with tempfile.TemporaryDirectory() as folder, Page(text) as page:
        task = Task(directory=folder, endpoints=(polled(page.origin),), server_metrics_interval_s=INTERVAL_S)
        command = child_command("fairshare_locust.telemetry")
        with subprocess.Popen(
            command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as collector:
            assert collector.stdin is not None
            assert collector.stdout is not None
            collector.stdin.write(task.to_line())
            collector.stdin.flush()
            collector.stdout.readline()
            collector.stdin.write(orjson.dumps({"t0_monotonic_s": time.monotonic()}) + b"\n")
            collector.stdin.flush()
            time.sleep(seconds)
            collector.stdin.write(b'{"end": true}\n')
            collector.stdin.close()
            done: dict[str, Any] = orjson.loads(collector.stdout.read().splitlines()[-1])["done"]
    return done["cpu_share"], done["sources"][0]["duration_s"]["mean"] * 1000


def _run(profile: Path, out: Path) -> float:
    """Run Locust; what its process took of a core while it measured."""
    marks: dict[str, tuple[float, float]] = {}
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "mixed.py"), "--headless"]
    arguments = ["--fairshare-profile", str(profile), "--fairshare-out", str(out), "--fairshare-no-report"]
    with subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as locust:
        assert locust.stdout is not None
        said = []
        for line in locust.stdout:
            said.append(line)
            for part in ("measure", "drain"):
                if line.startswith("fairshare: t =") and f"  {part}" in line:
                    marks.setdefault(part, (time.monotonic(), _cpu_s(locust.pid)))
    if len(marks) < 2:
        raise SystemExit("Locust did not run:\n" + "".join(said))
    (from_s, before_s), (to_s, after_s) = marks["measure"], marks["drain"]
    return (after_s - before_s) / (to_s - from_s)


def _cpu_s(pid: int) -> float:
    """User and system time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measured(run: Path, load_share: float) -> Measured:
    records = map(orjson.loads, (run / "requests.jsonl").read_bytes().splitlines())
    ttft_ms = [
        (record["first_token_s"] - record["sent_s"]) * 1000
        for record in records
        if record["phase"] == "measure" and record["first_token_s"] is not None
    ]
    telemetry = orjson.loads((run / "run.json").read_bytes())["telemetry"]
    sources = telemetry["sources"]
    p50, p99 = np.percentile(ttft_ms, [50, 99], method="inverted_cdf")
    return Measured(
        load_share,
        telemetry["cpu_share"] or 0.0,
        len(ttft_ms),
        float(p50),
        float(p99),
        sources[0]["duration_s"]["mean"] * 1000 if sources else None,
    )


def _table(runs: dict[bool, list[Measured]]) -> Table:
    table = Table(box=box.SIMPLE, title="medians over the repeats (lowest to highest)")
    columns = {
        "load process, share of a core": ("load_share", ".3f"),
        "collector, share of a core": ("collector_share", ".3f"),
        "TTFT p50 ms": ("ttft_p50_ms", ".2f"),
        "TTFT p99 ms": ("ttft_p99_ms", ".2f"),
        "a poll, mean ms": ("poll_mean_ms", ".2f"),
        "requests": ("requests", ".0f"),
    }
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for polling, title in ((False, "without"), (True, f"every {INTERVAL_S:g} s")):
        cells = []
        for name, form in columns.values():
            values = [value for run in runs[polling] if (value := getattr(run, name)) is not None]
            cells.append(f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})" if values else "–")
        table.add_row(title, *cells)
    return table


if __name__ == "__main__":
    sys.exit(main())
