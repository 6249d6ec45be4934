"""ServerMetrics: an engine's own counts, from its `/metrics`, under one set of names for all engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.samples import Sample as PrometheusSample

from fairshare_locust.telemetry.exposition import read_samples
from fairshare_locust.telemetry.names import CACHE_CONFIG, HISTOGRAMS, PREFIX_CACHE, SERVER, ServerMetric
from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.source import Sample, UnavailableError

__all__ = ["ServerMetrics"]

_NOT_TOLD = "not in its /metrics"
_PARTS = ("_bucket", "_sum", "_count")
_FAST = frozenset(name for metric in SERVER for names in metric.known_as for name in names)
_WHOLE = _FAST | {name + part for names in HISTOGRAMS.values() for name in names for part in _PARTS}

_RUNNING = next(metric.known_as for metric in SERVER if metric.name == "requests_running")

_Series = dict[str, list[PrometheusSample]]


class ServerMetrics:
    """The metrics of one endpoint, whole engines' and never a tenant's.

    Values under different labels are added up; so are those of several engines behind one endpoint, but KV-cache
    use is then that of the fullest, and a problem says so. A counter that goes down (the server was started anew)
    is given as it is. A histogram's counts are `<name>_bucket_le_<bound>` (cumulative; the last bound is `inf`),
    `<name>_sum` and `<name>_count`.
    """

    def __init__(self, endpoint: str, scraper: Scraper) -> None:
        self.problems: list[str] = []
        self._endpoint = endpoint
        self._scraper = scraper
        self._cache_config: dict[str, str] | None = None
        self._prefix_cache_unit_tokens: float | None = None
        self._looked = False
        self._engines = 0
        self._seen: set[str] = set()

    def begin(self) -> None:
        """Its counts are of the moment: there is nothing to begin."""

    def sample(self, whole: bool, last: bool = False) -> list[Sample]:  # noqa: ARG002 (the whole is all there is)
        """Every gauge and counter, and if `whole` every histogram. Raises UnavailableError."""
        text = self._scraper.get()
        samples, malformed = read_samples(text, (_WHOLE if whole else _FAST).__contains__)
        if malformed:
            self._problem(f"{self._endpoint}: its metrics have lines that can't be read, such as {malformed[0][:80]!r}")
        series: _Series = {}
        for sample in samples:
            if math.isfinite(sample.value):
                series.setdefault(sample.name, []).append(sample)
        if not series:
            raise UnavailableError(f"{self._endpoint} has a /metrics, but none of the metrics that are known here")
        if not self._looked:
            self._look(text)
        values = self._gauges_and_counters(series)
        if whole:
            self._count_engines(series)
            for name, known_as in HISTOGRAMS.items():
                values += _histogram(name, known_as, series)
        self._seen.update(name for name, _ in values)
        return [(self._endpoint, name, value) for name, value in values]

    def describe(self) -> dict[str, Any]:
        """Configuration of the cache, engines behind the endpoint, and what it does not tell."""
        told = {name.partition("_bucket_le_")[0].removesuffix("_count").removesuffix("_sum") for name in self._seen}
        every = (*(metric.name for metric in SERVER), *HISTOGRAMS)
        return {
            "cache_config_info": self._cache_config,
            "engines": self._engines,
            "unsupported": {self._endpoint: {name: _NOT_TOLD for name in every if name not in told}} if told else {},
        }

    def close(self) -> None:
        """Close its connection."""
        self._scraper.close()

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def _look(self, text: str) -> None:
        """What stays the same for as long as the server runs."""
        self._looked = True
        infos, _ = read_samples(text, CACHE_CONFIG.__eq__)
        self._cache_config = dict(infos[0].labels) if infos else None
        self._prefix_cache_unit_tokens = 1.0
        if "queries, in terms of number of queried blocks" in text:
            block_size = (self._cache_config or {}).get("block_size", "")
            self._prefix_cache_unit_tokens = float(block_size) if block_size.isdecimal() else None

    def _count_engines(self, series: _Series) -> None:
        """An engine has one gauge of its running requests."""
        engines = max((len(series.get(name, ())) for names in _RUNNING for name in names), default=0)
        self._engines = max(self._engines, engines)
        if engines > 1:
            self._problem(
                f"{self._endpoint}: {engines} engines or models behind it; its counts are their sum, its KV-cache use "
                "that of the fullest"
            )

    def _gauges_and_counters(self, series: _Series) -> list[tuple[str, float]]:
        values = []
        for metric in SERVER:
            value = _value(metric, series)
            if value is not None and metric.name in PREFIX_CACHE:
                unit = self._prefix_cache_unit_tokens
                value = None if unit is None else value * unit
            if value is not None:
                values.append((metric.name, value))
        return values


def _value(metric: ServerMetric, series: _Series) -> float | None:
    combine: Callable[[Iterable[float]], float] = max if metric.labels == "max" else math.fsum
    for names in metric.known_as:
        if all(name in series for name in names):
            return math.fsum(combine(sample.value for sample in series[name]) for name in names)
    return None


def _histogram(name: str, known_as: tuple[str, ...], series: _Series) -> list[tuple[str, float]]:
    """A histogram's rows; none unless it is complete."""
    for known in known_as:
        if not all(known + part in series for part in _PARTS):
            continue
        buckets: dict[float, float] = {}
        for sample in series[known + "_bucket"]:
            try:
                bound = float(sample.labels["le"])
            except (KeyError, ValueError):
                return []
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        rows = [(f"{name}_bucket_le_{bound:.15g}", count) for bound, count in sorted(buckets.items())]
        return [
            *rows,
            *((name + part, math.fsum(sample.value for sample in series[known + part])) for part in ("_sum", "_count")),
        ]
    return []
