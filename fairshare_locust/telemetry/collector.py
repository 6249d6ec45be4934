"""Collector: samples every source of a task and writes `gpu.csv` and `server.csv`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairshare_locust.telemetry.names import LIVE
from fairshare_locust.telemetry.remote_gpus import RemoteGpus
from fairshare_locust.telemetry.sample_file import SampleFile
from fairshare_locust.telemetry.sampler import Sampler
from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.server_metrics import ServerMetrics
from fairshare_locust.telemetry.source import Sample, Source
from fairshare_locust.telemetry.task import Identity, PolledEndpoint, Task

__all__ = ["Collector"]

_TRY_WITHIN_S = 8.0
_END_WITHIN_S = 3.0


class Collector:
    """A sampler for each source. `tell` gets what the user should know, a sentence each, from any thread."""

    def __init__(self, task: Task, tell: Callable[[str], None]) -> None:
        self._tell = tell
        folder = Path(task.directory)
        self._gpu = SampleFile(folder / "gpu.csv", "device")
        self._server = SampleFile(folder / "server.csv", "endpoint")
        self._lock = threading.Lock()
        self._t0_s: float | None = None
        self._begun: tuple[float, float] | None = None
        self._latest: dict[str, Any] = {}
        self._disk_trouble: set[Path] = set()
        self._notes = task.notes
        self._tenants = {endpoint.endpoint: endpoint.tenants for endpoint in task.endpoints}
        self._samplers = self._make_samplers(task)

    def start(self) -> list[dict[str, Any]]:
        """Tell the task's notes, and try each source once; says of each whether it works, and if not why."""
        for note in self._notes:
            self._tell(note)
        for sampler in self._samplers:
            sampler.start()
        until_s = time.monotonic() + _TRY_WITHIN_S
        for sampler in self._samplers:
            sampler.tried.wait(max(0.0, until_s - time.monotonic()))
        return [
            {"source": sampler.kind, "subject": sampler.subject, "works": sampler.works, "problems": list(sampler.told)}
            for sampler in self._samplers
        ]

    def begin(self, t0_monotonic_s: float) -> None:
        """t = 0 is then, on CLOCK_MONOTONIC; what is sampled before is dropped."""
        self._begun = time.monotonic(), time.process_time()
        self._t0_s = t0_monotonic_s
        for sampler in self._samplers:
            sampler.begin(t0_monotonic_s)

    def latest(self) -> dict[str, Any]:
        """The newest values of what a live view shows, by device and by endpoint; empty before there are any."""
        with self._lock:
            return {kind: {of: dict(values) for of, values in by.items()} for kind, by in self._latest.items()}

    def flush(self) -> None:
        """Write what was sampled. A full disk is told once, and tried again each time."""
        for file in (self._gpu, self._server):
            self._write(file, file.flush)

    def end(self) -> dict[str, Any]:
        """Take the last samples and write everything; what became of it, as `run.json` has it."""
        for sampler in self._samplers:
            sampler.end()
        until_s = time.monotonic() + _END_WITHIN_S
        for sampler in self._samplers:
            sampler.join(until_s - time.monotonic())
        sources = []
        for sampler in self._samplers:
            summary = sampler.summary()
            if sampler.subject in self._tenants:
                summary["tenants"] = self._tenants[sampler.subject]
            sources.append(summary)
        with self._lock:
            self._t0_s = None  # whoever has not ended by now comes too late
        for file in (self._gpu, self._server):
            self._write(file, file.close)
        files = {file.path.name: {"rows": file.rows, "rows_lost": file.rows_lost} for file in (self._gpu, self._server)}
        return {"sources": sources, "files": files, "cpu_share": self._cpu_share()}

    def _cpu_share(self) -> float | None:
        """This process's own time since the load began, as a share of a core."""
        if self._begun is None:
            return None
        wall_s, cpu_s = time.monotonic() - self._begun[0], time.process_time() - self._begun[1]
        return round(cpu_s / wall_s, 4) if wall_s > 0 else None

    def _make_samplers(self, task: Task) -> list[Sampler]:
        def sampler(kind: str, subject: str | None, interval_s: float, open_source: Callable[[], Source]) -> Sampler:
            return Sampler(kind, subject, open_source, interval_s, self._deliver, self._tell)

        samplers = []
        if task.nvml:
            samplers.append(sampler("nvml", None, task.nvml_interval_s, lambda: _open_nvml(task)))
        for url, kind, token_env in ((task.dcgm_url, "dcgm", None), (task.agent_url, "agent", task.agent_token_env)):
            if url is not None:
                interval_s = task.scrape_interval_s
                samplers.append(sampler(kind, url, interval_s, _remote_gpus(kind, url, interval_s, token_env)))
        for endpoint in task.endpoints:
            samplers.append(
                sampler("server_metrics", endpoint.endpoint, task.server_metrics_interval_s, _server_metrics(endpoint))
            )
        return samplers

    def _deliver(self, sampler: Sampler, stamp_s: float, samples: list[Sample]) -> None:
        of_server = sampler.kind == "server_metrics"
        file = self._server if of_server else self._gpu
        with self._lock:
            if self._t0_s is None or stamp_s < self._t0_s:
                return
            t_s = stamp_s - self._t0_s
            for subject, metric, value in samples:
                file.append(t_s, sampler.kind, subject, metric, value)
                if metric in LIVE:
                    newest = self._latest.setdefault("server" if of_server else "gpu", {})
                    newest.setdefault(subject, {}).update({metric: value, "t_s": round(t_s, 3)})

    def _write(self, file: SampleFile, write: Callable[[], None]) -> None:
        try:
            with self._lock:
                write()
        except OSError as error:
            if file.path not in self._disk_trouble:
                self._disk_trouble.add(file.path)
                self._tell(f"{file.path} can't be written ({error.strerror}); sampling goes on")


def _open_nvml(task: Task) -> Source:
    # Only here: whoever samples no GPU of this host needs no driver.
    from fairshare_locust.telemetry.host_gpus import HostGpus

    return HostGpus(task.servers)


def _remote_gpus(kind: str, url: str, interval_s: float, token_env: str | None) -> Callable[[], Source]:
    return lambda: RemoteGpus(
        "dcgm" if kind == "dcgm" else "agent", url, interval_s, Scraper(url, [Identity(token_env=token_env)])
    )


def _server_metrics(endpoint: PolledEndpoint) -> Callable[[], Source]:
    return lambda: ServerMetrics(endpoint.endpoint, Scraper(endpoint.metrics_url, endpoint.identities))
