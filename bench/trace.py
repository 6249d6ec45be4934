"""How long, and how much memory, does loading a large trace take?

    python -m bench.trace [--rows 1000000]

Writes an invented trace of so many rows in each format, loads it as a run does, dealt to four tenants, and asks a
tenant's prompts. Exits with 1 if a trace takes more than ten seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.profile import parse_profile
from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.workloads import TraceWorkload
from fairshare_locust.trace import load_traces
from fairshare_locust.workload.tokenizer import load_tokenizer
from fairshare_locust.workload.trace import TraceSource
from fairshare_locust.workload.words import Words

__all__ = ["main", "write_trace"]

ROOT = Path(__file__).resolve().parents[1]
MOST_S = 10.0
BATCH = 10_000
TENANTS = ("chat", "summariser", "batch", "agent")
ASSIGN_BY = {"azure": "share", "burstgpt": "session", "mooncake": "hash"}
PROMPTS = 1000

PROFILE = """
name: large
seed: 1
run: {{duration_s: 60}}
model: {{name: synthetic}}
traces:
  - name: large
    path: {path}
    format: {format}
    assign: {{by: {by}, shares: {{{shares}}}}}
tenants:
{tenants}
"""

TENANT = """
  - id: {id}
    arrival: {{process: trace, trace: large}}
    workload: {{source: trace, trace: large}}
"""


@dataclass(frozen=True)
class Cost:
    """What loading took: the whole process's memory, and the asking of prompts for each 1,000 tokens."""

    file_mib: float
    load_s: float
    peak_mib: float
    prompt_us_per_1k_tokens: float


def main() -> int:
    """Measure each format, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--load", nargs=2, metavar=("FORMAT", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(*options.load)
        return 0
    table = Table(box=box.SIMPLE_HEAD, title=f"loading {options.rows:,} rows", title_justify="left")
    for column in ("format", "file MiB", "load s", "peak MiB", "prompt µs / 1k tokens"):
        table.add_column(column, justify="left" if column == "format" else "right")
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        for trace_format in ROWS:
            cost = measure(trace_format, write_trace(Path(folder), trace_format, options.rows))
            slow |= cost.load_s > MOST_S
            table.add_row(
                trace_format,
                f"{cost.file_mib:,.0f}",
                f"{cost.load_s:.2f}",
                f"{cost.peak_mib:,.0f}",
                f"{cost.prompt_us_per_1k_tokens:.1f}",
            )
    Console(highlight=False).print(table)
    if slow:
        print(f"a trace took more than {MOST_S:g} s", file=sys.stderr)
    return int(slow)


def measure(trace_format: str, path: Path) -> Cost:
    """Load a trace in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.trace", "--load", trace_format, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        said = stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"loading {path} failed with exit code {process.returncode}")
    took = orjson.loads(said)
    return Cost(
        file_mib=path.stat().st_size / 2**20,
        load_s=took["load_s"],
        peak_mib=usage.ru_maxrss / 1024,
        prompt_us_per_1k_tokens=took["prompt_us_per_1k_tokens"],
    )


def load(trace_format: str, path: str) -> None:
    """Load a trace, ask prompts, and print what both took as JSON."""
    profile = profile_of(trace_format, Path(path))
    begin = time.perf_counter()
    rows = load_traces(profile)["large"].of_tenant(TENANTS[0])
    load_s = time.perf_counter() - begin
    workload = profile.tenants[0].workload
    assert isinstance(workload, TraceWorkload)
    tokenizer = load_tokenizer("builtin")
    source = TraceSource(workload, rows, profile.seed, TENANTS[0], tokenizer, Words(tokenizer), PROMPTS)
    begin = time.perf_counter()
    tokens = sum(source.request(index).input_tokens for index in range(PROMPTS))
    prompt_us = (time.perf_counter() - begin) * 1e6
    result = {"load_s": load_s, "prompt_us_per_1k_tokens": prompt_us / tokens * 1000}
    print(orjson.dumps(result).decode())


def profile_of(trace_format: str, path: Path) -> Profile:
    """A profile whose tenants share the trace."""
    text = PROFILE.format(
        path=path,
        format=trace_format,
        by=ASSIGN_BY[trace_format],
        shares=", ".join(f"{tenant}: 1" for tenant in TENANTS),
        tenants="".join(TENANT.format(id=tenant) for tenant in TENANTS),
    )
    return parse_profile(text, source="bench", folder=path.parent)


def write_trace(folder: Path, trace_format: str, rows: int) -> Path:
    """A trace of so many rows, 100 a second; the same for the same number."""
    path = folder / f"{trace_format}-{rows}"
    random = np.random.default_rng(rows)
    with path.open("wb") as file:
        file.write(HEADERS[trace_format])
        for start in range(0, rows, BATCH):
            file.writelines(ROWS[trace_format](random, start, min(BATCH, rows - start)))
    return path


def _lengths(random: np.random.Generator, count: int, median: float, sigma: float) -> list[int]:
    drawn = random.lognormal(np.log(median), sigma, count)
    return [int(length) for length in np.clip(drawn, 1, 100_000)]


def _azure(random: np.random.Generator, start: int, count: int) -> Iterator[bytes]:
    begin = np.datetime64("2023-11-16T18:17:03", "ns")
    times = begin + (start + np.arange(count)) * np.timedelta64(10_000_100, "ns")
    for at, tokens, answer in zip(
        np.datetime_as_string(times), _lengths(random, count, 1000, 1), _lengths(random, count, 100, 1), strict=True
    ):
        yield f"{at[:10]} {at[11:27]},{tokens},{answer}\r\n".encode()


def _burstgpt(random: np.random.Generator, start: int, count: int) -> Iterator[bytes]:
    sessions = random.integers(100_000, size=count).tolist()
    fails = (random.random(count) < 0.07).tolist()
    for i, (tokens, answer) in enumerate(
        zip(_lengths(random, count, 600, 1), _lengths(random, count, 200, 1), strict=True)
    ):
        session = f"1722ac82-0a46-4bf0-aa08-{sessions[i]:012d}" if i % 2 else ""
        model = "GPT-4" if i % 5 == 0 else "ChatGPT"
        answer = 0 if fails[i] else answer
        kind = "Conversation log" if session else "API log"
        row = f"{(start + i) // 100}.0,{session},{answer // 25},{model},{tokens},{answer},{tokens + answer},{kind}\n"
        yield row.encode()


def _mooncake(random: np.random.Generator, start: int, count: int) -> Iterator[bytes]:
    for i, (tokens, answer) in enumerate(
        zip(_lengths(random, count, 5000, 0.8), _lengths(random, count, 200, 1), strict=True)
    ):
        blocks = -(-tokens // 512)
        prefix = i % 200
        row = {
            "timestamp": (start + i) * 10,
            "input_length": tokens,
            "output_length": answer,
            "hash_ids": [prefix, *range((start + i) * 200, (start + i) * 200 + blocks - 1)],
        }
        yield orjson.dumps(row) + b"\n"


HEADERS = {
    "azure": b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n",
    "burstgpt": b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
    "mooncake": b"",
}
ROWS: dict[str, Callable[[np.random.Generator, int, int], Iterator[bytes]]] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "mooncake": _mooncake,
}


if __name__ == "__main__":
    sys.exit(main())
