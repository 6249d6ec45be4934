"""Runs Locust as a user does: a process of its own, on a profile written for the test."""

from __future__ import annotations

import csv
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import orjson
import pytest

from analysis.load import load_run
from analysis.summary import summarise
from fairshare_locust.record import RequestRecord

REPOSITORY = Path(__file__).resolve().parents[2]

PROFILE = """
name: test
seed: 11
run: {{warmup_s: 0.5, {bound}, drain_s: {drain_s}, fairness_window_s: 1}}
model: {{name: simulated, tokenizer: builtin}}
deployment: {deployment}
tenants:
  - id: chat
    arrival: {{process: poisson, rate_per_s: 12, max_in_flight: 16}}
    workload: {{source: synthetic, input_tokens: 40, output_tokens: {{distribution: uniform, low: 4, high: 16}}}}
    slo: {{ttft_ms: 1000}}
  - id: steady
    api: openai_completions
    arrival: {{process: constant, rate_per_s: 6, max_in_flight: 8}}
    workload: {{source: synthetic, input_tokens: 100, output_tokens: 8}}
  - id: batch
    arrival: {{process: closed, concurrency: 3, think_s: 0.05}}
    workload: {{source: synthetic, input_tokens: 20, output_tokens: 12}}
"""

QUICK = "{engine: simulator, simulator: {step_base_ms: 2, step_per_sequence_us: 20, compute_per_token_us: 5}}"


UNSAMPLED = "telemetry: {nvml: never, server_metrics: never}\n"


def profile_text(
    *, bound: str = "duration_s: 2", drain_s: float = 5, deployment: str = QUICK, sampled: bool = True
) -> str:
    """A profile of three tenants that is over within seconds; perhaps without the process that samples telemetry."""
    return PROFILE.format(bound=bound, drain_s=drain_s, deployment=deployment) + ("" if sampled else UNSAMPLED)


@dataclass
class FinishedRun:
    """What a run left behind."""

    code: int
    output: str
    path: Path

    @property
    def records(self) -> list[RequestRecord]:
        return [RequestRecord.from_json(line) for line in (self.path / "requests.jsonl").read_bytes().splitlines()]

    @property
    def run(self) -> dict[str, Any]:
        content: dict[str, Any] = orjson.loads((self.path / "run.json").read_bytes())
        return content

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`summary.json`, or what it would hold if there is no report: drawing one takes longer than many a run."""
        file = self.path / "analysis" / "summary.json"
        written = file.read_bytes() if file.exists() else summarise(load_run(self.path)).to_json()
        content: dict[str, Any] = orjson.loads(written)
        return content

    def locust_counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(type, name) → (requests, failures) of Locust's final CSV."""
        with open(self.path / "locust_stats.csv", newline="") as file:
            return {
                (row["Type"], row["Name"]): (int(row["Request Count"]), int(row["Failure Count"]))
                for row in csv.DictReader(file)
            }

    def locust_mean_ms(self) -> float:
        """Average response time over all rows of Locust's final CSV."""
        with open(self.path / "locust_stats.csv", newline="") as file:
            [row] = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
        return float(row["Average Response Time"])

    def simulator_counter(self, name: str) -> float:
        """Sum over labels of a counter as the simulator last told it."""
        text = (self.path / "logs" / "simulator.metrics.txt").read_text()
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        assert values, f"the simulator has no counter {name}"
        return sum(map(float, values))


class LocustProcess:
    """A Locust run under way."""

    def __init__(
        self,
        folder: Path,
        profile: str,
        locustfile: str,
        arguments: tuple[str, ...],
        file_bytes: int | None,
        *,
        out: str = "runs",
        group: bool = False,
    ) -> None:
        self._out = folder / out
        path = folder / f"{out}.yaml"
        path.write_text(profile)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "FAIRSHARE_"))}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", str(REPOSITORY / "locustfiles" / locustfile), "--headless"),
                *("--fairshare-profile", str(path), "--fairshare-out", str(self._out), *arguments),
            ],
            cwd=REPOSITORY,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=group,
            # A limit on the size of files fails as a full disk does: some bytes are written, then none.
            preexec_fn=None if file_bytes is None else lambda: _limit_files(file_bytes),
        )
        self._said: list[str] = []

    @property
    def path(self) -> Path:
        return (self._out / "latest").resolve()

    def wait_for(self, words: str) -> None:
        """Read on until a line has these words."""
        stream: IO[str] | None = self.process.stdout
        assert stream is not None
        for line in stream:
            self._said.append(line)
            if words in line:
                return
        pytest.fail(f"Locust ended without saying {words!r}:\n{''.join(self._said)}")

    def wait_for_records(self, count: int) -> None:
        """Until the file holds so many records; the run ends by itself if it never does."""
        while (self.path / "requests.jsonl").read_bytes().count(b"\n") < count:
            assert self.process.poll() is None
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> FinishedRun:
        """Wait for its end."""
        output, _ = self.process.communicate(timeout=90)
        return FinishedRun(self.process.returncode, "".join(self._said) + output, self.path)

    def close(self) -> None:
        """End it if it did not end by itself."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


_POLL_S = 0.01


def collectors_of(pid: int) -> list[int]:
    """Processes of ours that sample for the load process `pid`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline", "rb") as command:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                    if parent == pid and b"fairshare_locust.telemetry" in command.read():
                        found.append(int(entry))
            except OSError:
                pass  # it has just ended
    return found


def _limit_files(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))


@pytest.fixture
def start_locust(tmp_path: Path) -> Iterator[Callable[..., LocustProcess]]:
    started: list[LocustProcess] = []

    def start(
        profile: str, *arguments: str, locustfile: str = "mixed.py", file_bytes: int | None = None, **more: Any
    ) -> LocustProcess:
        process = LocustProcess(tmp_path, profile, locustfile, arguments, file_bytes, **more)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


def run_once(folder: Path, profile: str, *arguments: str, locustfile: str = "mixed.py") -> FinishedRun:
    """A run from its start to its end."""
    process = LocustProcess(folder, profile, locustfile, arguments, None)
    try:
        return process.finish()
    finally:
        process.close()


# Runs that several tests look at, and none changes.

KEY = "key-4711-very-secret"


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run of `profile_text()` with everything that a run has; chat has `KEY`."""
    text = profile_text().replace("  - id: chat", "  - id: chat\n    api_key_env: TEST_TENANT_KEY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_TENANT_KEY", KEY)
        return run_once(tmp_path_factory.mktemp("full"), text)


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run that measures for a second, without report and telemetry."""
    text = profile_text(bound="duration_s: 1", sampled=False)
    return run_once(tmp_path_factory.mktemp("short"), text, "--fairshare-no-report")


@pytest.fixture(scope="session")
def solo_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The same with each tenant by itself."""
    text = profile_text(bound="duration_s: 1", sampled=False)
    return run_once(tmp_path_factory.mktemp("solo"), text, "--fairshare-no-report", locustfile="solo.py")
