"""Comparison: runs side by side, as `comparison.json`, its table and its figures show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["EMULATED", "Column", "Comparison", "Row", "Value"]

EMULATED = "emulated, not isolated"

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Value:
    """One figure of one column; None where it is undefined.

    Attributes:
        value: of a single run its own; of repeats the mean of the runs that have one.
        ci95: of a single run its own interval; of repeats the t interval of that mean; (None, None) where unknown.
        certified: False for a percentile that too few samples stand behind in one of the runs.
    """

    value: float | None
    ci95: Interval = (None, None)
    certified: bool = True

    @property
    def half_width(self) -> float | None:
        """The longer arm of the interval; None where it is not known."""
        if self.value is None or self.ci95[0] is None or self.ci95[1] is None:
            return None
        return max(self.value - self.ci95[0], self.ci95[1] - self.value, 0.0)


@dataclass(frozen=True)
class Column:
    """The runs of one mode at one load: one run, or repeats of it with other seeds.

    Attributes:
        mode: the sharing mode, with its engine where those differ.
        load_name: what `load` is of: scale, concurrency, rate_per_s; None for runs of no matrix.
        load: the load; None for runs of no matrix.
        label: what heads the column; no two of a comparison are the same.
        runs: names of the run directories.
        suspect: the names of those whose verdict is suspect.
        simulated: in words, what stands behind the numbers instead of a GPU; None where one does.
        values: of all tenants together, by key (`ttft_p99_ms`).
        tenants: the keys that a tenant has, by its id.
        slo_kept: by tenant, whether its attainment reached what its SLO wants; None without an SLO or a request.
        fixed_concurrency: requests in flight that closed loops kept up; None where any tenant is not a closed loop.
        emulated: whether the mode only looks like a partition and isolates nothing.
    """

    mode: str
    load_name: str | None
    load: float | None
    label: str
    runs: tuple[str, ...]
    suspect: tuple[str, ...]
    simulated: str | None
    values: Mapping[str, Value]
    tenants: Mapping[str, Mapping[str, Value]]
    slo_kept: Mapping[str, bool | None]
    fixed_concurrency: float | None = None
    emulated: bool = False

    def get(self, key: str) -> Value:
        """A figure of all tenants together, undefined where the column has none."""
        return self.values.get(key, UNDEFINED)


UNDEFINED = Value(None)


@dataclass(frozen=True)
class Row:
    """One figure across the columns, and which of them stand out.

    Attributes:
        key: its key in `Column.values`.
        label, unit: as heads a table; unit "" for a ratio.
        direction: which way is better; None where neither is, and nothing is marked.
        best: per load, the column with the best value.
        within_noise: the others whose difference from the best of their load is within noise.
    """

    key: str
    label: str
    unit: str
    direction: Literal["higher", "lower"] | None
    best: frozenset[int] = frozenset()
    within_noise: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """Columns, grouped by load in ascending order, and what follows from them.

    Attributes:
        rows: in the order to be shown; those that no column has a value of are left out.
        differences: what the runs differ in beside their mode, where they were compared all the same.
        recommendation: in words, a line each.
        slo_wanted: by tenant, the share of its requests that have to meet its SLO; only tenants with one.
        warnings: what a reader has to know beside: suspect runs, repeats that are few, what could not be found.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    differences: tuple[str, ...] = ()
    recommendation: tuple[str, ...] = ()
    slo_wanted: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def loads(self) -> tuple[float | None, ...]:
        """The loads compared, in the columns' order, each once."""
        return tuple(dict.fromkeys(column.load for column in self.columns))

    def at_load(self, load: float | None) -> tuple[int, ...]:
        """Places of the columns at one load."""
        return tuple(place for place, column in enumerate(self.columns) if column.load == load)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Ids of all tenants, in the columns' order."""
        return tuple(dict.fromkeys(tenant for column in self.columns for tenant in column.tenants))
