"""How accurate, and how dear, is a client? Each against a server that knows when it wrote every token.

    python -m bench.client [--quick] [--out bench/results]

Server and client run on a core of their own, for a grid of streams at 50 tokens/s each. The error of a time is what
the client says minus what the server did, on the same clock. `burst` is the first request of every stream, all sent
in the same instant; the other errors are of what was sent after the warm-up, with answers of 96 to 160 tokens, so
that streams do not run in step. Prints one table, writes `client.json` and `client.png`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from bench.measured import Client, Load, Measured
from bench.peers import PEERS
from bench.truth_server import Stamps, load_stamps

__all__ = ["Result", "main"]

ROOT = Path(__file__).resolve().parents[1]
TOKENS_PER_S = 50
TTFT_MS = 200
TOKENS = (96, 160)
WARMUP_S = 6.0

PROFILE = """
name: bench
seed: 1
run: {{warmup_s: {warmup_s}, duration_s: {duration_s}, drain_s: 15}}
model: {{name: truth, tokenizer: builtin}}
deployment: {{engine: external}}
tenants:
  - id: load
    arrival: {{process: closed, concurrency: {streams}}}
    workload:
      source: synthetic
      input_tokens: 64
      output_tokens: {{distribution: uniform, low: {low}, high: {high}}}
"""


@dataclass(frozen=True)
class Result:
    """A row of the table. Errors are (p50, p99, max) of absolute values; CPU is the client's user and system time."""

    client: str
    version: str
    streams: int
    tokens_per_s: float
    requests: int
    lost: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    true_ttft_p50_ms: float
    ttft_error_ms: tuple[float, float, float]
    burst_ttft_error_ms: tuple[float, float, float]
    gap_error_ms: tuple[float, float, float] | None
    e2e_error_ms: tuple[float, float, float] | None
    cpu_us_per_token: float
    cpu_us_per_request: float
    peak_mib: float
    loop_lag_p99_ms: float | None


def main() -> None:
    """Run the grid and show it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one repeat, short runs")
    parser.add_argument("--streams", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken over so many runs")
    parser.add_argument("--seconds", type=float, default=14, help="measured seconds of a run")
    parser.add_argument("--clients", nargs="+", choices=sorted(CLIENTS), default=None, help="default: all installed")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 1, 6
    console = Console(highlight=False, width=max(Console().width, 190))
    if (os.cpu_count() or 1) < 2:
        console.print("only one core: server and client disturb each other, the figures say little")
    names = options.clients or [name for name, client in CLIENTS.items() if client.version() is not None]
    rows = []
    for streams in options.streams:
        for name in names:
            repeats = options.repeats if name in ("fairshare", "httpuser") and streams >= 200 else 1
            runs = []
            for number in range(repeats):
                console.print(f"{name}, {streams} streams, run {number + 1} of {repeats} …", style="dim")
                runs.append(measure(name, streams, options.seconds))
            rows.append(_median(runs))
    console.print(_table(rows))
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": _machine(), "rows": [asdict(row) for row in rows]}
    (options.out / "client.json").write_bytes(
        orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )
    _figure(rows, options.out / "client.png")
    console.print(f"{_machine()}; {options.out / 'client.json'}, {options.out / 'client.png'}", soft_wrap=True)


def measure(name: str, streams: int, seconds: float) -> Result:
    """One run of one client. Raises RuntimeError when it fails."""
    client = CLIENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        stamps_file = Path(folder) / "stamps.npz"
        with truth_server(stamps_file) as endpoint:
            load = Load(endpoint, streams, WARMUP_S, seconds, TOKENS, TTFT_MS, TOKENS_PER_S)
            command, environment = client.command(Path(folder), load)
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=pinned(1),
            )
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise RuntimeError(f"{name} failed with code {process.returncode}:\n{output.decode()[-3000:]}")
        measured = client.read(Path(folder))
        return compare(name, client.version() or "", streams, measured, load_stamps(stamps_file), usage)


@contextmanager
def truth_server(stamps: Path, *arguments: str) -> Iterator[str]:
    """A truth server on a core of its own; its endpoint."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.truth_server", "--stamps", str(stamps)),
            *("--ttft-ms", str(TTFT_MS), "--gap-ms", str(1000 / TOKENS_PER_S), *arguments),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        preexec_fn=pinned(0),
    )
    assert process.stdout is not None
    try:
        yield orjson.loads(process.stdout.readline())["endpoint"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


def pinned(core: int) -> Callable[[], None]:
    cores = sorted(os.sched_getaffinity(0))

    def pin() -> None:
        os.sched_setaffinity(0, {cores[core % len(cores)]})

    return pin


def compare(
    name: str, version: str, streams: int, measured: Measured, truth: Stamps, usage: resource.struct_rusage
) -> Result:
    """The client's times against the server's, request by request."""
    place = {request_id: i for i, request_id in enumerate(truth.request_ids)}
    true_ttft_s = np.array([written[0] for written in truth.written_s]) - truth.received_s
    true_p50_s = float(np.median(true_ttft_s))
    begin_s = min(measured.sent_s)
    steady: list[int] = []
    ttft_errors_s: list[float] = []
    burst_errors_s: list[float] = []
    gap_errors_s: list[NDArray[np.float64]] = []
    e2e_errors_s: list[float] = []
    unmatched = 0
    for i, (request_id, sent_s, stamps_s) in enumerate(
        zip(measured.request_ids, measured.sent_s, measured.stamps_s, strict=True)
    ):
        j = place.get(request_id)
        # A client that sends no ids is held against the server's median, which nearly every answer has.
        ttft_error_s = stamps_s[0] - sent_s - (true_p50_s if j is None else true_ttft_s[j])
        if sent_s < begin_s + TTFT_MS / 1000:
            burst_errors_s.append(ttft_error_s)
        whole = j is not None and len(stamps_s) == len(truth.written_s[j])
        unmatched += bool(request_id) and not whole
        if sent_s < begin_s + WARMUP_S:
            continue
        steady.append(i)
        ttft_errors_s.append(ttft_error_s)
        if j is not None and whole:
            gap_errors_s.append(np.diff(stamps_s) - np.diff(truth.written_s[j]))
            e2e_errors_s.append((stamps_s[-1] - sent_s) - (truth.written_s[j][-1] - truth.received_s[j]))
    told = set(measured.request_ids)
    if told != {""}:  # what the server answered and the client has no word of; our own probe is no load
        unmatched += len(set(truth.request_ids) - told - {"", "probe"})
    tokens = sum(int(count.sum()) for count in truth.tokens)
    span_s = max(stamps[-1] for stamps in truth.written_s) - min(truth.received_s)
    cpu_us = (usage.ru_utime + usage.ru_stime) * 1e6
    reported_ms = np.array([measured.stamps_s[i][0] - measured.sent_s[i] for i in steady]) * 1000
    return Result(
        client=name,
        version=version,
        streams=streams,
        tokens_per_s=tokens / span_s,
        requests=len(measured.request_ids),
        lost=measured.lost + unmatched,
        ttft_p50_ms=float(np.quantile(reported_ms, 0.5)),
        ttft_p99_ms=float(np.quantile(reported_ms, 0.99)),
        true_ttft_p50_ms=true_p50_s * 1000,
        ttft_error_ms=_three(np.array(ttft_errors_s)),
        burst_ttft_error_ms=_three(np.array(burst_errors_s)),
        gap_error_ms=_three(np.concatenate(gap_errors_s)) if gap_errors_s else None,
        e2e_error_ms=_three(np.array(e2e_errors_s)) if e2e_errors_s else None,
        cpu_us_per_token=cpu_us / tokens,
        cpu_us_per_request=cpu_us / len(truth.request_ids),
        peak_mib=usage.ru_maxrss / 1024,
        loop_lag_p99_ms=measured.loop_lag_p99_ms,
    )


def _three(errors_s: NDArray[np.float64]) -> tuple[float, float, float]:
    errors_ms = np.abs(errors_s) * 1000
    return (float(np.quantile(errors_ms, 0.5)), float(np.quantile(errors_ms, 0.99)), float(errors_ms.max()))


def _median(runs: list[Result]) -> Result:
    """Field by field; counts of lost requests add up."""

    def middle(values: list[Any]) -> Any:
        if values[0] is None or isinstance(values[0], str):
            return values[0]
        if isinstance(values[0], tuple):
            return tuple(median(column) for column in zip(*values, strict=True))
        return median(values)

    fields = {name: middle([getattr(run, name) for run in runs]) for name in asdict(runs[0])}
    return Result(**{**fields, "lost": sum(run.lost for run in runs)})


# --- our own client, and a plain Locust user


def _own_command(folder: Path, load: Load) -> tuple[list[str], dict[str, str]]:
    profile = folder / "profile.yaml"
    profile.write_text(
        PROFILE.format(
            warmup_s=load.warmup_s,
            duration_s=load.seconds,
            streams=load.streams,
            low=load.tokens[0],
            high=load.tokens[1],
        )
    )
    return [
        *(sys.executable, "-m", "locust", "-f", "locustfiles/mixed.py", "--headless", "--host", load.endpoint),
        *("--fairshare-profile", str(profile), "--fairshare-out", str(folder / "runs"), "--fairshare-no-report"),
    ], {}


def _own_read(folder: Path) -> Measured:
    path = folder / "runs" / "latest"
    run = orjson.loads((path / "run.json").read_bytes())
    t0_s = run["t0"]["monotonic_s"]
    records = [orjson.loads(line) for line in (path / "requests.jsonl").read_bytes().splitlines()]
    good = [record for record in records if record["outcome"] == "ok"]
    return Measured(
        request_ids=[record["request_id"] for record in good],
        sent_s=np.array([record["sent_s"] + t0_s for record in good]),
        stamps_s=[
            record["first_token_s"] + t0_s + np.concatenate(([0.0], np.cumsum(record["chunk_gap_us"]) / 1e6))
            for record in good
        ],
        loop_lag_p99_ms=run["workers"][0]["health"]["event_loop_lag_ms"]["p99"],
        lost=len(records) - len(good),
    )


def _plain_command(folder: Path, load: Load) -> tuple[list[str], dict[str, str]]:
    run_time = f"{load.warmup_s + load.seconds:g}"
    return [
        *(
            sys.executable,
            "-m",
            "locust",
            "-f",
            "bench/httpuser.py",
            "--headless",
            "--only-summary",
            "--host",
            load.endpoint,
        ),
        *("-u", str(load.streams), "-r", str(load.streams), "-t", run_time, "--stop-timeout", "30"),
    ], {"BENCH_RESULT": str(folder / "result.jsonl"), "BENCH_TOKENS": f"{load.tokens[0]},{load.tokens[1]}"}


def _plain_read(folder: Path) -> Measured:
    lines = [orjson.loads(line) for line in (folder / "result.jsonl").read_bytes().splitlines()]
    return Measured(
        request_ids=[line["request_id"] for line in lines],
        sent_s=np.array([line["sent"] for line in lines]),
        stamps_s=[np.array(line["stamps"]) for line in lines],
    )


def _package_version(name: str) -> Callable[[], str | None]:
    def version() -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return version


def _own_version() -> str | None:
    from fairshare_locust import __version__

    return __version__


CLIENTS = {
    "fairshare": Client(_own_version, _own_command, _own_read),
    "httpuser": Client(_package_version("locust"), _plain_command, _plain_read),
    **PEERS,
}


# --- showing


def _machine() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def _table(rows: list[Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="client accuracy (errors in ms: p50 / p99 / max)", title_justify="left")
    for column in ("client", "streams", "tokens/s", "requests", "lost", "TTFT p50/p99 (true p50)", "TTFT error"):
        table.add_column(column, justify="left" if column == "client" else "right")
    for column in (
        "burst TTFT error",
        "gap error",
        "e2e error",
        "CPU µs/token",
        "CPU µs/request",
        "MiB",
        "loop lag p99",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.client} {row.version}",
            str(row.streams),
            f"{row.tokens_per_s:,.0f}",
            f"{row.requests:,}",
            str(row.lost),
            f"{row.ttft_p50_ms:.1f} / {row.ttft_p99_ms:.1f} ({row.true_ttft_p50_ms:.1f})",
            _errors(row.ttft_error_ms),
            _errors(row.burst_ttft_error_ms),
            _errors(row.gap_error_ms),
            _errors(row.e2e_error_ms),
            f"{row.cpu_us_per_token:.1f}",
            f"{row.cpu_us_per_request:,.0f}",
            f"{row.peak_mib:.0f}",
            "–" if row.loop_lag_p99_ms is None else f"{row.loop_lag_p99_ms:.1f}",
        )
    return table


def _errors(three: tuple[float, float, float] | None) -> str:
    return "–" if three is None else " / ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in three)


def _figure(rows: list[Result], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    panels = (
        ("TTFT error p99 (ms)", lambda row: row.ttft_error_ms[1], "log"),
        ("gap error p99 (ms)", lambda row: row.gap_error_ms and row.gap_error_ms[1], "log"),
        ("client CPU per token (µs)", lambda row: row.cpu_us_per_token, "linear"),
    )
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
    for axis, (label, value, scale) in zip(axes, panels, strict=True):
        for colour, name in zip(colours, dict.fromkeys(row.client for row in rows), strict=False):
            mine = [row for row in rows if row.client == name]
            points = [(row.streams, value(row)) for row in mine if value(row) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
        axis.set_xlabel(f"streams, {TOKENS_PER_S} tokens/s each")
        axis.set_ylabel(label)
        axis.set_xscale("log")
        axis.set_yscale(scale)
        axis.set_xticks([row.streams for row in rows], [str(row.streams) for row in rows])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[-1].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    figure.suptitle("What a client adds to the truth, on one core")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
