"""Telemetry: what the GPUs and the servers said of themselves, as series of samples on the run clock."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from analysis.latency import Floats
from analysis.requests import Int64s
from fairshare_locust.errors import RunDirectoryError

if TYPE_CHECKING:
    from analysis.window import Window  # windows are made of a run's phases, and a run has telemetry

__all__ = ["COVERED_AT_LEAST", "Metrics", "Series", "Telemetry", "gauge", "increments", "is_counter", "read_telemetry"]

COVERED_AT_LEAST = 0.9
"""The share of a window that samples have to cover for what they tell to be the window's."""

_NAME = pa.dictionary(pa.int32(), pa.string())
_COUNTER = re.compile(r".*(_total|_sum|_count|_bucket_le_.+)")
_ROUNDING_S = 1e-9
_A_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True, eq=False)
class Series:
    """n samples of one metric, shape (n,) each: ascending times on the run clock in ns, and finite values."""

    times_ns: Int64s
    values: Floats

    def __len__(self) -> int:
        return len(self.times_ns)

    def within(self, window: Window) -> Series:
        """The samples inside a window."""
        inside = window.contains(self.times_ns)
        return Series(self.times_ns[inside], self.values[inside])

    @property
    def mean(self) -> float | None:
        """Mean of the samples."""
        return float(self.values.mean()) if len(self) else None

    @property
    def peak(self) -> tuple[float, float] | None:
        """The highest value, and the time in s at which it was first seen."""
        if not len(self):
            return None
        place = int(self.values.argmax())
        return float(self.values[place]), float(self.times_ns[place] / 1e9)

    def stretches(self, window: Window) -> list[tuple[int, int]]:
        """Places (first, last) of the samples that tell what a counter grew by in each span of a window.

        Each is the last one at or before an end of the span, or the first of all. None, where those samples are
        further from the ends of the spans than is allowed: an interval at each, or what `COVERED_AT_LEAST` leaves.
        """
        found, off_ns = [], 0
        for span in window.spans:
            start, end = (max(0, int(np.searchsorted(self.times_ns, at, side="right")) - 1) for at in span)
            if start < end:
                found.append((start, end))
                off_ns += sum(abs(int(self.times_ns[at]) - edge) for at, edge in zip((start, end), span, strict=True))
            else:
                off_ns += span[1] - span[0]
        intervals_s = 2 * len(window.spans) * (self.interval_s or 0.0)
        allowed_s = max(intervals_s, (1 - COVERED_AT_LEAST) * window.length_s)
        return found if off_ns / 1e9 <= allowed_s + _ROUNDING_S else []

    def growth(self, window: Window) -> float | None:
        """What a counter grew by in a window, from sample to sample; None where its samples don't tell."""
        stretches, steps = self.stretches(window), increments(self.values)
        return float(sum(steps[start:end].sum() for start, end in stretches)) if stretches else None

    @property
    def interval_s(self) -> float | None:
        """Median time from sample to sample."""
        return float(np.median(np.diff(self.times_ns)) / 1e9) if len(self) > 1 else None

    def longest_gap_s(self, window: Window) -> float | None:
        """Longest stretch of a window without a sample, before the first and after the last too."""
        gaps_ns = [
            np.diff(self.times_ns[(self.times_ns >= start) & (self.times_ns < end)], prepend=start, append=end).max()
            for start, end in window.spans
        ]
        return float(max(gaps_ns) / 1e9) if gaps_ns else None


def is_counter(metric: str) -> bool:
    """Whether a metric only grows, but for resets: a total, or a part of a histogram."""
    return _COUNTER.fullmatch(metric) is not None


def increments(values: Floats) -> Floats:
    """What counters grew by from each sample to the next: shape (n, …) to (n - 1, …).

    One that fell was reset, by a restart say, and has grown from 0 since. The columns of a table belong to one
    process: where one of them fell, all were reset.
    """
    steps: Floats = np.diff(values, axis=0)
    reset = np.any(steps < 0, axis=tuple(range(1, values.ndim)), keepdims=True)
    return np.where(reset, values[1:], steps)


def gauge(series: Series | None, window: Window) -> dict[str, Any] | None:
    """Count, mean and peak of the samples in a window, as they stand in `summary.json`; None without a sample."""
    inside = series.within(window) if series is not None else None
    if inside is None or inside.peak is None:
        return None
    value, t_s = inside.peak
    return {"count": len(inside), "mean": inside.mean, "peak": value, "peak_t_s": t_s}


Metrics = dict[str, Series]
"""Series by the name of their metric."""


@dataclass(frozen=True, eq=False)
class Telemetry:
    """All samples of a run.

    Attributes:
        gpu: by source (`nvml`, `dcgm`, `agent`) and device.
        server: by endpoint.
        info: what the collector says of itself in `run.json`.
        lines_left_out: by file, lines that are no sample, such as the last one of a run that crashed, or tell what a
            counter can't have stood at.
    """

    gpu: Mapping[tuple[str, str], Metrics] = field(default_factory=dict)
    server: Mapping[str, Metrics] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    lines_left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def sources(self) -> list[dict[str, Any]]:
        """What the collector says of each source that it asked."""
        return list(self.info.get("sources") or [])

    def device(self, device: str) -> dict[str, Any]:
        """What is known of a device beside its samples; empty if nothing is."""
        for source in self.sources:
            for one in source.get("devices") or []:
                for entry in (one, *(one.get("slices") or [])):
                    if device in (entry.get("device"), entry.get("uuid")):
                        return dict(entry)
        return {}

    def unsupported(self, source: str, subject: str) -> dict[str, str]:
        """What a device or an endpoint has no samples of by a source, and why."""
        found: dict[str, str] = {}
        for one in self.sources:
            if one.get("source") == source:
                found |= (one.get("unsupported") or {}).get(subject) or {}
        return found


def read_telemetry(folder: Path, info: Mapping[str, Any] | None) -> Telemetry:
    """Read `gpu.csv` and `server.csv` of a run directory; a missing or empty file has no samples.

    Args:
        info: `telemetry` of `run.json`.

    Raises RunDirectoryError for a file that can't be read or has other columns.
    """
    left_out = {}
    series = {}
    for name, subject in (("gpu.csv", "device"), ("server.csv", "endpoint")):
        table, left_out[name] = _read(folder / name, subject)
        found = dict(_split(table, subject)) if table is not None else {}
        series[name] = {key: _without_misreadings(metrics) for key, metrics in found.items()}
        left_out[name] += sum(
            len(one) - len(series[name][key][metric])
            for key, metrics in found.items()
            for metric, one in metrics.items()
        )
    server: dict[str, Metrics] = {}
    for (_, endpoint), metrics in series["server.csv"].items():
        server.setdefault(endpoint, {}).update(metrics)
    return Telemetry(series["gpu.csv"], server, dict(info or {}), left_out)


def _read(path: Path, subject: str) -> tuple[pa.Table | None, int]:
    """The rows of a file, and how many of its lines are none."""
    columns = ["t_s", "source", subject, "metric", "value"]
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, 0
    except OSError as error:
        raise RunDirectoryError(f"{path} can't be read: {error.strerror}") from error
    whole = data[: data.rfind(b"\n") + 1]  # the rest is a line that was still being written
    cut = int(len(whole) < len(data))
    if not whole:
        return None, cut
    header = whole.partition(b"\n")[0].decode(errors="replace").strip()
    if header != ",".join(columns):
        raise RunDirectoryError(f"{path} must begin with the line {','.join(columns)}, found {header!r}")
    try:
        table, skipped = _parse(whole, columns, pa.float64())
    except pa.ArrowInvalid:
        try:
            table, skipped = _parse(whole, columns, pa.string())
        except pa.ArrowInvalid as error:
            raise RunDirectoryError(f"{path} can't be read: {error}; mend or delete it, then build again") from error
        numbers = pc.and_(*(pc.match_substring_regex(table.column(name), _A_NUMBER) for name in ("t_s", "value")))
        rows = table.num_rows
        table = table.filter(numbers)
        skipped += rows - table.num_rows
        for name in ("t_s", "value"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table.column(name).cast(pa.float64()))
    known = pc.and_(*(pc.fill_null(pc.is_finite(table.column(name)), False) for name in ("t_s", "value")))
    samples = table.filter(known)
    return samples, cut + skipped + table.num_rows - samples.num_rows


def _parse(data: bytes, columns: list[str], number: pa.DataType) -> tuple[pa.Table, int]:
    """Rows with the right number of fields, and how many others there are.

    Raises ArrowInvalid when a field has not the type of its column.
    """
    skipped: list[int] = []

    def skip(_: object) -> str:
        skipped.append(1)
        return "skip"

    table = pv.read_csv(
        pa.BufferReader(data),
        parse_options=pv.ParseOptions(invalid_row_handler=skip),
        convert_options=pv.ConvertOptions(
            column_types={name: number if name in ("t_s", "value") else _NAME for name in columns}
        ),
    )
    return table, len(skipped)


def _without_misreadings(metrics: Metrics) -> Metrics:
    """What a device or an endpoint told, without the samples in which a counter stood lower than before.

    A restart resets counters, all of them at once, and some fall to less than half. One that falls by less, while
    none did that, was misread: else all that it ever counted would count twice.
    """
    counters = {name: series for name, series in metrics.items() if is_counter(name)}
    falls = {name for name, series in counters.items() if (np.diff(series.values) < 0).any()}
    if not falls:
        return metrics
    resets = [
        (int(series.times_ns[at]), int(series.times_ns[at + 1]))
        for series in counters.values()
        for at in np.flatnonzero(series.values[1:] < series.values[:-1] / 2)
    ]
    starts, ends = sorted(start for start, _ in resets), sorted(end for _, end in resets)

    def read(series: Series) -> Series:
        times_ns, values = series.times_ns.tolist(), series.values.tolist()
        kept = [0]
        for at in range(1, len(series)):
            last = kept[-1]
            # A reset lies somewhere between two samples; others may have been sampled less often.
            reset = bisect_left(starts, times_ns[at]) > bisect_right(ends, times_ns[last])
            if values[at] >= values[last] or values[at] < values[last] / 2 or reset:
                kept.append(at)
        return Series(series.times_ns[kept], series.values[kept])

    return {name: read(series) if name in falls else series for name, series in metrics.items()}


def _split(table: pa.Table, subject: str) -> Iterator[tuple[tuple[str, str], Metrics]]:
    """The series of each source and subject."""
    table = table.combine_chunks().unify_dictionaries()
    names, codes = [], []
    for column in ("source", subject, "metric"):
        encoded = table.column(column).combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # a table without rows has no chunk
            return
        names.append(encoded.dictionary.to_pylist())
        codes.append(encoded.indices.to_numpy().astype(np.int64))
    times_ns = np.rint(table.column("t_s").to_numpy() * 1e9).astype(np.int64)
    values = table.column("value").to_numpy()
    key = (codes[0] * len(names[1]) + codes[1]) * len(names[2]) + codes[2]
    order = np.lexsort((times_ns, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    found: dict[tuple[str, str], Metrics] = {}
    for rows in np.split(order, starts[1:]) if len(order) else []:
        source, of, metric = (name[code[rows[0]]] for name, code in zip(names, codes, strict=True))
        found.setdefault((source, of), {})[metric] = Series(times_ns[rows], values[rows])
    yield from found.items()
