"""Does telemetry work on this machine's GPU, what does each call of the driver cost, and what does it do to a load?

    python -m bench.gpu_check [--seconds 10] [--interval 0.5] [--no-load] [--stub [--call-ms 50]]

Puts load on the GPU with PyTorch, in a process of its own, samples, and prints every metric of every device with its
values, or with the reason why it is not supported; then the time that each function of NVML took. Then the lag of an
event loop beside sampling: none, in the loop, in gevent's thread pool, and in a process of its own. `--stub` takes a
stand-in for the driver with slow calls. Without a GPU it says so, and why, and that is no failure.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.telemetry.nvml import FUNCTIONS, METRICS, NvmlSource
from fairshare_locust.telemetry.processes import owner
from tests.telemetry.stub import ONE_GPU, Stub, build, why_not_built

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "none": "no sampling",
    "loop": "in the event loop",
    "threadpool": "in gevent's thread pool",
    "process": "in a process of its own",
}
LOAD = """
import sys, torch
a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
torch.cuda.synchronize()
print("ready", torch.__version__, torch.cuda.get_device_name(), flush=True)
while True:
    for _ in range(20):
        a @ b
    host.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
"""


def main() -> int:
    """Run the check; 0, also where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="how long to sample, and each lag")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two samples")
    parser.add_argument("--no-load", action="store_true", help="leave the GPU as it is")
    parser.add_argument("--stub", action="store_true", help="the lags only, with a stand-in for the driver")
    parser.add_argument("--call-ms", type=float, default=50, help="how long each call of the stand-in takes")
    parser.add_argument("--lag", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--sample", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lag:
        print(json.dumps(_lag(options.lag, options.seconds, options.interval)))
        return 0
    if options.sample:
        _sample_until_told(options.interval)
        return 0
    if options.stub:
        return _check_with_stub(options)
    console = _console()
    calls = _time_calls()
    source = NvmlSource.open()
    if isinstance(source, str):
        print(f"no GPU: {source}")
        return 0
    try:
        _check(source, options, calls, console)
    finally:
        source.close()
    _print_lags(options, dict(os.environ), console)
    return 0


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 150, highlight=False, soft_wrap=True)


def _check(source: NvmlSource, options: argparse.Namespace, calls: Mapping[str, list[float]], console: Console) -> None:
    for gpu in source.devices:
        console.print(f"{gpu.name} ({gpu.uuid}), driver {gpu.driver}, MIG {'on' if gpu.mig else 'off'}")
        for part in gpu.slices:
            console.print(f"  {part}")
    with _load(options) as (load, said):
        console.print(f"load: {said}")
        values, took_ms = _sample(source, options.seconds, options.interval)
        pids = {device.rpartition("/pid")[2] for device, _ in values if "/pid" in device}
        owned = [pid for pid in pids if load is not None and owner(int(pid), {load: "load"})]
    console.print(_values_table(source, values))
    if load is not None:
        console.print(f"processes on the GPU: {', '.join(sorted(pids)) or 'none'}; of our load: {owned or 'none'}")
    for uuid in [gpu.uuid for gpu in source.devices]:
        console.print(_energy(values, uuid))
    for problem in [*source.problems, *(f"gaps: {device}: {dict(gaps)}" for device, gaps in source.gaps.items())]:
        console.print(f"problem: {problem}")
    console.print(_calls_table(calls))
    p50, p99, largest = np.quantile(took_ms, [0.5, 0.99, 1])
    console.print(f"one sample: p50 {p50:.2f}, p99 {p99:.2f}, max {largest:.2f} ms ({len(took_ms)} samples)")


Values = dict[tuple[str, str], list[tuple[float, float]]]
"""(device, metric) → (seconds since the start, value)."""


def _sample(source: NvmlSource, seconds: float, interval_s: float) -> tuple[Values, list[float]]:
    values: Values = {}
    took_ms: list[float] = []
    started_s = time.monotonic()
    while (at_s := time.monotonic() - started_s) < seconds:
        for device, metric, value in source.sample():
            values.setdefault((device, metric), []).append((at_s, value))
        now_s = time.monotonic() - started_s
        took_ms.append((now_s - at_s) * 1000)
        time.sleep(interval_s - now_s % interval_s)
    return values, took_ms


@contextmanager
def _load(options: argparse.Namespace) -> Iterator[tuple[int | None, str]]:
    """Load on the first GPU; its pid, None if there is none, and what to say of it."""
    if options.no_load:
        yield None, "none, as asked"
        return
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if line:
            yield process.pid, f"matrix products and copies to the device by PyTorch, pid {process.pid}: {line}"
        else:
            _, errors = process.communicate()
            yield None, f"none, PyTorch does not work here: {errors.strip().splitlines()[-1]}"
    finally:
        process.kill()
        process.communicate()


def _values_table(source: NvmlSource, values: Values) -> Table:
    table = Table("device", "metric", "supported", box=box.SIMPLE_HEAD)
    for header in ("rows", "first", "last", "min", "max"):
        table.add_column(header, justify="right", no_wrap=True)
    devices = [name for gpu in source.devices for name in (gpu.uuid, *(part.device for part in gpu.slices))]
    devices += sorted({device for device, _ in values} - set(devices))
    for device in devices:
        for metric in METRICS:
            of_metric = [value for _, value in values.get((device, metric), ())]
            why = source.unsupported.get(device, {}).get(metric)
            if of_metric:
                numbers = (of_metric[0], of_metric[-1], min(of_metric), max(of_metric))
                table.add_row(device, metric, "yes", str(len(of_metric)), *(f"{number:,.6g}" for number in numbers))
            elif why is not None:
                table.add_row(device, metric, f"no: {why}", "0")
            elif "/" not in device and not metric.startswith("process_"):
                table.add_row(device, metric, "yes, but no row came", "0")
    return table


def _energy(values: Values, uuid: str) -> str:
    """The counter's difference beside the integral of the power (trapezoids), over the same time."""
    counter, power = values.get((uuid, "energy_j_total"), []), values.get((uuid, "power_w"), [])
    if len(counter) < 2 or len(power) < 2:
        return "energy: too few rows to compare the counter with the power"
    at_s, watts = np.array(power).T
    integral_j = float(np.sum(np.diff(at_s) * (watts[1:] + watts[:-1]) / 2))
    return f"energy: by the counter {counter[-1][1] - counter[0][1]:.1f} J, by integrated power {integral_j:.1f} J"


def _time_calls() -> dict[str, list[float]]:
    """Make every function of pynvml that we call keep its durations, in µs, by name."""
    took_us: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return took_us

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started_ns = time.perf_counter_ns()
            try:
                return function(*arguments)
            finally:
                took_us[name].append((time.perf_counter_ns() - started_ns) / 1000)

        return call

    for name in FUNCTIONS:
        if hasattr(pynvml, name):
            setattr(pynvml, name, timed(name, getattr(pynvml, name)))
    return took_us


def _calls_table(calls: Mapping[str, list[float]]) -> Table:
    table = Table("function", box=box.SIMPLE_HEAD, title="time per call, µs", title_justify="left")
    for header in ("calls", "p50", "p99", "max"):
        table.add_column(header, justify="right")
    for name, took_us in calls.items():
        if took_us:
            table.add_row(name, str(len(took_us)), *(f"{us:,.0f}" for us in np.quantile(took_us, [0.5, 0.99, 1])))
    return table


def _check_with_stub(options: argparse.Namespace) -> int:
    why = why_not_built()
    if why is not None:
        print(f"no stub: {why}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        stub = Stub(Path(folder), Path(folder))
        stub.script(ONE_GPU, f"every.ms {options.call_ms}")
        print(f"a stand-in for the driver, {options.call_ms:g} ms per call, a sample each {options.interval:g} s")
        _print_lags(options, stub.environment, _console())
    return 0


def _print_lags(options: argparse.Namespace, environment: Mapping[str, str], console: Console) -> None:
    table = Table(
        "sampling", box=box.SIMPLE_HEAD, title="lag of an event loop that wakes each ms", title_justify="left"
    )
    for header in ("samples", "lag p50 ms", "p99 ms", "max ms", "CPU of the loop's process, cores"):
        table.add_column(header, justify="right")
    for way, words in WAYS.items():
        command = [sys.executable, "-m", "bench.gpu_check", "--lag", way]
        command += ["--seconds", str(options.seconds), "--interval", str(options.interval)]
        out = subprocess.run(command, cwd=ROOT, env=dict(environment), stdout=subprocess.PIPE, check=True).stdout
        told = json.loads(out)
        lags = (f"{told[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
        table.add_row(words, str(told["samples"]), *lags, f"{told['cpu_cores']:.3f}")
    console.print(table)


def _lag(way: str, seconds: float, interval_s: float) -> dict[str, float]:
    """The lateness of a greenlet that wakes each millisecond, while the GPU is sampled in one of the ways."""
    import gevent

    lag_ms: list[float] = []
    samples = 0
    stop_s = time.monotonic() + seconds
    child = None
    sampler = None
    if way == "process":
        command = [sys.executable, "-m", "bench.gpu_check", "--sample", "--interval", str(interval_s)]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()  # it has opened the driver
        stop_s = time.monotonic() + seconds
    elif way != "none":
        source = NvmlSource.open()
        assert isinstance(source, NvmlSource), source
        stop_s = time.monotonic() + seconds

        def sample() -> None:
            nonlocal samples
            while time.monotonic() < stop_s:
                if way == "loop":
                    source.sample()
                else:
                    gevent.get_hub().threadpool.apply(source.sample)
                samples += 1
                gevent.sleep(interval_s - time.monotonic() % interval_s)

        sampler = gevent.spawn(sample)
    cpu_s = time.process_time()
    started_s = time.monotonic()
    while (due_s := time.monotonic() + 0.001) < stop_s:
        gevent.sleep(0.001)
        late_ms = (time.monotonic() - due_s) * 1000
        # In a stall it would have woken each millisecond, and found what was left of the stall.
        lag_ms.extend(late_ms - ms for ms in range(max(1, math.ceil(late_ms))))
    cpu_cores = (time.process_time() - cpu_s) / (time.monotonic() - started_s)
    if sampler is not None:
        sampler.join()
    if child is not None:
        samples = int(child.communicate()[0])
    p50, p99, largest = np.quantile(lag_ms, [0.5, 0.99, 1])
    return {"samples": samples, "p50_ms": p50, "p99_ms": p99, "max_ms": largest, "cpu_cores": cpu_cores}


def _sample_until_told(interval_s: float) -> None:
    """A process that samples until its standard input ends, and then says how often."""
    source = NvmlSource.open()
    assert isinstance(source, NvmlSource), source
    print("ready", flush=True)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    samples = 0
    while not ended.wait(interval_s - time.monotonic() % interval_s):
        source.sample()
        samples += 1
    print(samples)
    source.close()


if __name__ == "__main__":
    sys.exit(main())
