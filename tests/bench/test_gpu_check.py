"""The check of a GPU, on a stand-in for its driver, and without one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fairshare_locust.telemetry.nvml import METRICS
from tests.telemetry.stub import ONE_GPU, Stub, build, why_not_built

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    why = why_not_built()
    if why is not None:
        pytest.skip(why)
    build(tmp_path)
    return Stub(tmp_path, tmp_path)


def check(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "bench.gpu_check", "--seconds", "0.5", "--interval", "0.1", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_without_a_gpu_it_says_why(stub: Stub) -> None:
    stub.script("nvmlInitWithFlags 9")
    assert check(stub.environment) == "no GPU: NVIDIA's library is there, but the kernel's driver is not loaded\n"


def test_it_tells_every_metric_every_call_and_every_lag(stub: Stub) -> None:
    stub.script(ONE_GPU, "nvmlDeviceGetPcieThroughput 3", "nvmlDeviceGetTemperatureV.ms 2")
    out = check(stub.environment, "--no-load")
    gpu = "GPU-stub-0"
    lines = [line.split() for line in out.splitlines()]
    rows = {metric: cells for device, metric, *cells in (line for line in lines if len(line) > 2) if gpu in device}
    assert rows.keys() == set(METRICS)
    assert rows["power_w"] == ["yes", rows["power_w"][1], "312.5", "312.5", "312.5", "312.5"]
    assert rows["pcie_tx_bytes_per_s"][:3] == ["no:", "not", "supported"]
    [(calls, p50_us, p99_us, max_us)] = [cells for name, *cells in filter(None, lines) if name.endswith("TemperatureV")]
    assert int(calls) == int(rows["temperature_c"][1])
    assert 2000 <= int(p50_us.replace(",", "")) <= int(p99_us.replace(",", "")) <= int(max_us.replace(",", ""))
    for way in ("no sampling", "in the event loop", "in gevent's thread pool", "in a process of its own"):
        assert f"  {way} " in out
