"""What do further load processes bring? Tokens/s at the accuracy limits, by one process and by several.

    python -m bench.scaling [--processes 1 2] [--streams 200 400 800 1200] [--seconds 10] [--ui]

The same streams, at 50 tokens/s each, from so many processes (`--processes` of Locust: a master and its workers),
against a server that knows when it wrote every token. The server has core 0 to itself if there are cores enough for
it and the processes; the load has the others. On fewer cores they share: then CPU per token says more than the tokens
that fit. Within the limits: TTFT error p50 0.5 ms and p99 5 ms, gap error p99 5 ms, nothing lost. With `--ui` the run
has Locust's web UI, which is asked for its live figures every second, as an open page does.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bench.client import CLIENTS, ROOT, TOKENS, TOKENS_PER_S, TTFT_MS, WARMUP_S, Result, compare, truth_server
from bench.measured import Load
from bench.truth_server import load_stamps

__all__ = ["main", "measure"]

_TTFT_P50_MS, _TTFT_P99_MS, _GAP_P99_MS = 0.5, 5.0, 5.0


@dataclass(frozen=True)
class Scaled:
    """One run: what it measured, and how busy its load processes were, as shares of a core (p95)."""

    processes: int
    result: Result
    cpu_shares: list[float]

    @property
    def within_limits(self) -> bool:
        """Whether its figures are as accurate as they have to be."""
        result = self.result
        return (
            result.lost == 0
            and result.ttft_error_ms[0] <= _TTFT_P50_MS
            and result.ttft_error_ms[1] <= _TTFT_P99_MS
            and result.gap_error_ms is not None
            and result.gap_error_ms[1] <= _GAP_P99_MS
        )


def main() -> None:
    """Run them all and show them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--streams", type=int, nargs="+", default=[200, 400, 800, 1200])
    parser.add_argument("--seconds", type=float, default=10, help="measured seconds of a run")
    parser.add_argument("--ui", action="store_true", help="with the web UI open")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    console = Console(highlight=False, width=max(Console().width, 150))
    runs = []
    for streams in options.streams:
        for processes in options.processes:
            console.print(f"{streams} streams, {processes} processes …", style="dim")
            runs.append(measure(processes, streams, options.seconds, ui=options.ui))
    console.print(_table(runs))
    for processes in options.processes:
        held = [run.result.tokens_per_s for run in runs if run.processes == processes and run.within_limits]
        best = f"{max(held):,.0f} tokens/s" if held else "none of these loads"
        console.print(f"{processes} processes: {best} within the limits")
    options.out.mkdir(parents=True, exist_ok=True)
    content = [{**asdict(run), "within_limits": run.within_limits} for run in runs]
    (options.out / "scaling.json").write_bytes(
        orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )


def measure(processes: int, streams: int, seconds: float, *, ui: bool = False) -> Scaled:
    """One run. Raises RuntimeError when it fails."""
    cores = sorted(os.sched_getaffinity(0))
    own = cores[1 : 1 + processes] if len(cores) > processes else cores
    client = CLIENTS["fairshare"]
    with tempfile.TemporaryDirectory() as folder:
        stamps = Path(folder) / "stamps.npz"
        with truth_server(stamps) as endpoint:
            load = Load(endpoint, streams, WARMUP_S, seconds, TOKENS, TTFT_MS, TOKENS_PER_S)
            command, environment = client.command(Path(folder), load)
            command += ["--processes", str(processes)] if processes > 1 else []
            base = f"http://127.0.0.1:{_free_port()}"
            if ui:
                command[command.index("--headless")] = "--autostart"
                command += ["--web-host", "127.0.0.1", "--web-port", base.rpartition(":")[2]]
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: os.sched_setaffinity(0, own),
            )
            assert process.stdout is not None
            if ui:
                Thread(target=_watch, args=(base, process), daemon=True).start()
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)  # with its workers, for whom it has waited
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise RuntimeError(f"{processes} processes: exit code {process.returncode}:\n{output.decode()[-3000:]}")
        result = compare("fairshare", "", streams, client.read(Path(folder)), load_stamps(stamps), usage)
        workers = orjson.loads((Path(folder) / "runs" / "latest" / "run.json").read_bytes())["workers"]
    return Scaled(processes, result, [worker["health"]["cpu_share"]["p95"] or 0.0 for worker in workers])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _watch(base: str, process: subprocess.Popen[bytes]) -> None:
    """A page that stays open until the run has ended."""
    while process.poll() is None:
        time.sleep(1)
        try:
            with urllib.request.urlopen(f"{base}/fairshare/live.json", timeout=5) as answer:
                live = orjson.loads(answer.read())
        except (urllib.error.URLError, OSError):
            continue  # it is not there yet
        if live.get("state") == "complete" and live["runs"]:
            process.send_signal(signal.SIGTERM)
            return


def _table(runs: list[Scaled]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for header in (
        "streams",
        "processes",
        "tokens/s",
        "TTFT error\np50 / p99 ms",
        "gap error\np99 ms",
        "lost",
        "CPU of all\nµs/token",
        "CPU of each\np95, cores",
        "within\nlimits",
    ):
        table.add_column(header, justify="right")
    for run in runs:
        result = run.result
        gap = result.gap_error_ms
        table.add_row(
            f"{result.streams:,}",
            str(run.processes),
            f"{result.tokens_per_s:,.0f}",
            f"{result.ttft_error_ms[0]:.2f} / {result.ttft_error_ms[1]:.2f}",
            "-" if gap is None else f"{gap[1]:.2f}",
            str(result.lost),
            f"{result.cpu_us_per_token:.1f}",
            " ".join(f"{share:.2f}" for share in run.cpu_shares),
            "yes" if run.within_limits else "no",
        )
    return table


if __name__ == "__main__":
    main()
