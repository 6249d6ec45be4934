"""LocustCsv: what Locust's own `PREFIX_stats.csv` and its sisters hold, without its zeros for "no data".

Response times are Locust's, in ms. Mean, least and largest are exact; the median and every percentile come from its
buckets, which have whole milliseconds below 100 ms and two significant digits above: 1,940 ms is told as 1,900.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairshare_locust.errors import RunDirectoryError

__all__ = [
    "TOKEN_ROWS",
    "ExceptionRow",
    "FailureRow",
    "History",
    "LocustCounts",
    "LocustCsv",
    "StatsRow",
    "csv_prefix",
    "find_prefixes",
    "read_histories",
    "read_locust_csv",
    "users_over_time",
]

TOKEN_ROWS = ("TTFT", "TPOT")
"""Types of rows that are further figures of requests counted elsewhere, not requests of their own."""

_NEEDED = ("Type", "Name", "Request Count", "Failure Count")


@dataclass(frozen=True)
class LocustCounts:
    """Locust's own count of a tenant's requests, and of those that failed."""

    requests: int
    failures: int


@dataclass(frozen=True, kw_only=True)
class StatsRow:
    """What Locust says of all requests of a type and a name, failed ones included. None = no data, or no such column.

    Attributes:
        percentiles_ms: rounded, by the column's name: `99%`.
        median_ms: rounded too.
        mean_bytes: of the answers.
    """

    type: str
    name: str
    requests: int
    failures: int
    mean_ms: float | None = None
    median_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    mean_bytes: float | None = None
    requests_per_s: float | None = None
    failures_per_s: float | None = None
    percentiles_ms: Mapping[str, float | None]

    @property
    def counts(self) -> LocustCounts:
        """The counts alone."""
        return LocustCounts(self.requests, self.failures)


@dataclass(frozen=True)
class FailureRow:
    """Requests that failed in the same way."""

    method: str
    name: str
    error: str
    occurrences: int


@dataclass(frozen=True)
class ExceptionRow:
    """An exception in the load's own code, which Locust caught `count` times."""

    count: int
    message: str
    traceback: str
    nodes: str


@dataclass(frozen=True, eq=False)
class History:
    """Rows of `PREFIX_stats_history.csv` of one type and name, in the order of time; all lists are equally long.

    Attributes:
        unix_s: whole seconds: a row was written up to a second later.
        users: at that moment.
        requests_per_s, failures_per_s: Locust's mean over about ten seconds that end two seconds earlier.
        percentiles_ms: rounded, by the column's name; None where Locust had no request to tell of.
    """

    unix_s: list[int]
    users: list[int]
    requests_per_s: list[float | None]
    failures_per_s: list[float | None]
    percentiles_ms: Mapping[str, list[float | None]]


@dataclass(frozen=True, eq=False, kw_only=True)
class LocustCsv:
    """The content of the files of one prefix; None = there is no such file.

    Attributes:
        rows: without Locust's `Aggregated`.
        total: `Aggregated`; None without a row of that name.
        history: of all requests together.
        torn: names of the files whose last row a crash has torn; it is left out.
    """

    prefix: Path
    rows: tuple[StatsRow, ...] | None
    total: StatsRow | None
    history: History | None
    failures: tuple[FailureRow, ...] | None
    exceptions: tuple[ExceptionRow, ...] | None
    torn: tuple[str, ...] = ()

    def counts(self, name: str) -> LocustCounts | None:
        """Requests of a name, of whatever type; None where Locust's stats are missing."""
        if self.rows is None:
            return None
        own = [row for row in self.rows if row.name == name and row.type not in TOKEN_ROWS]
        return LocustCounts(sum(row.requests for row in own), sum(row.failures for row in own))


def find_prefixes(folder: Path) -> list[Path]:
    """Every PREFIX of a `PREFIX_stats.csv` in a folder, by name; a file of other columns is none of Locust's."""
    found = []
    for path in sorted(folder.glob("*_stats.csv")):
        try:
            with open(path, newline="", encoding="utf-8") as file:
                if set(_NEEDED) <= set(next(csv.reader(file), [])):
                    found.append(path.with_name(path.name.removesuffix("_stats.csv")))
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
    return found


def read_locust_csv(prefix: Path) -> LocustCsv | None:
    """The files of a prefix, such as `runs/latest/locust`; None if there is not one of them.

    Raises RunDirectoryError for a file that is not Locust's.
    """
    torn: list[str] = []
    rows = _read(_file(prefix, "stats"), torn)
    failures = _read(_file(prefix, "failures"), torn)
    exceptions = _read(_file(prefix, "exceptions"), torn)
    history = read_histories(prefix, every=False, torn=torn)
    if rows is None and failures is None and exceptions is None and history is None:
        return None
    with _named(_file(prefix, "stats")):
        stats = None if rows is None else [_stats_row(row) for row in rows]
    with _named(_file(prefix, "failures")):
        failed = None if failures is None else tuple(map(_failure_row, failures))
    with _named(_file(prefix, "exceptions")):
        raised = None if exceptions is None else tuple(map(_exception_row, exceptions))
    return LocustCsv(
        prefix=prefix,
        rows=None if stats is None else tuple(row for row in stats if not _is_total(row.type, row.name)),
        total=next((row for row in stats or () if _is_total(row.type, row.name)), None),
        history=None if history is None else history.get(("", "Aggregated")),
        failures=failed,
        exceptions=raised,
        torn=tuple(torn),
    )


def read_histories(
    prefix: Path, *, every: bool = True, torn: list[str] | None = None
) -> dict[tuple[str, str], History] | None:
    """The history by type and name; `("", "Aggregated")` has all requests. None without the file.

    Only with Locust's `--csv-full-history` are there others, and only then are its percentiles of the last ten
    seconds; else they are of all requests so far.

    Args:
        every: else `Aggregated` alone.
        torn: takes the file's name if its last row is torn.
    """
    path = _file(prefix, "stats_history")
    rows = _read(path, [] if torn is None else torn, only=None if every else "Aggregated")
    if rows is None:
        return None
    histories: dict[tuple[str, str], History] = {}
    with _named(path):
        for row in rows:
            key = (row["Type"], row["Name"])
            if key not in histories:
                percentiles: dict[str, list[float | None]] = {name: [] for name in row if name.endswith("%")}
                histories[key] = History([], [], [], [], percentiles)
            one = histories[key]
            one.unix_s.append(int(row["Timestamp"]))
            one.users.append(int(row["User Count"]))
            one.requests_per_s.append(_number(row.get("Requests/s")))
            one.failures_per_s.append(_number(row.get("Failures/s")))
            told = _percentiles(row)
            # It writes 0 for all of them while it has nothing to tell: when a run begins, or nothing is answered.
            silent = not any(told.values())
            for name, values in one.percentiles_ms.items():
                values.append(None if silent else told.get(name))
    return histories


def users_over_time(history: History, start_unix_s: float) -> dict[str, list[float]]:
    """Users by seconds since the start, to a second; what lies on a level line between others is left out."""
    t_s: list[float] = []
    users: list[float] = []
    last = len(history.unix_s) - 1
    for index, (unix_s, count) in enumerate(zip(history.unix_s, history.users, strict=True)):
        neighbours = history.users[max(0, index - 1) : index + 2]
        if index in (0, last) or set(neighbours) != {count}:
            t_s.append(round(unix_s - start_unix_s, 3))
            users.append(count)
    return {"t_s": t_s, "users": users}


def csv_prefix(folder: Path) -> Path | None:
    """The prefix of Locust's files in a folder that is no run directory; None where there are none.

    Raises RunDirectoryError where the files of several runs stand in it.
    """
    if (folder / "run.json").exists() or not folder.is_dir():
        return None
    prefixes = find_prefixes(folder)
    if len(prefixes) > 1:
        names = ", ".join(prefix.name for prefix in prefixes)
        raise RunDirectoryError(
            f"{str(folder)!r} holds Locust's CSV files of {len(prefixes)} runs, {names}: "
            "move those of each run into a folder of its own"
        )
    return prefixes[0] if prefixes else None


def _file(prefix: Path, kind: str) -> Path:
    return prefix.with_name(f"{prefix.name}_{kind}.csv")


def _is_total(kind: str, name: str) -> bool:
    return name == "Aggregated" and not kind


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file's content is told with its path."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunDirectoryError(
            f"{path} can't be read: {type(error).__name__}: {error}; "
            "it is none of Locust's CSV files: mend it or move it away"
        ) from error


def _read(path: Path, torn: list[str], *, only: str | None = None) -> list[dict[str, str]] | None:
    """Rows by the names of their columns; None without the file. `only` keeps those of one `Name`, without a type."""
    if not path.exists():
        return None
    with _named(path):
        rows = list(_rows(path, torn, only))
    return rows


def _rows(path: Path, torn: list[str], only: str | None) -> Iterator[dict[str, str]]:
    """Every row but a last one that was cut: one without a line end, or with too few fields."""
    with open(path, "rb") as raw:
        size = raw.seek(0, 2)
        raw.seek(max(0, size - 1))
        whole = raw.read(1) in (b"\n", b"")
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        kind, name = (header.index("Type"), header.index("Name")) if only is not None else (0, 0)

        def wanted(fields: list[str]) -> bool:
            return only is None or (len(fields) > name and not fields[kind] and fields[name] == only)

        previous: list[str] = []
        for fields in filter(None, reader):
            if previous and wanted(previous):
                yield dict(zip(header, previous, strict=True))
            previous = fields
        if previous and (not whole or len(previous) < len(header)):
            torn.append(path.name)
        elif previous and wanted(previous):
            yield dict(zip(header, previous, strict=True))


def _stats_row(row: Mapping[str, str]) -> StatsRow:
    requests = int(row["Request Count"])
    largest = _number(row.get("Max Response Time"))
    # Without a request, or with none that was timed, all times are 0: they are none.
    timed = bool(requests) and largest != 0

    def time_ms(column: str) -> float | None:
        return _number(row.get(column)) if timed else None

    percentiles = _percentiles(row)
    return StatsRow(
        type=row["Type"],
        name=row["Name"],
        requests=requests,
        failures=int(row["Failure Count"]),
        mean_ms=time_ms("Average Response Time"),
        median_ms=time_ms("Median Response Time"),
        min_ms=time_ms("Min Response Time"),
        max_ms=time_ms("Max Response Time"),
        mean_bytes=_number(row.get("Average Content Size")) if requests else None,
        requests_per_s=_number(row.get("Requests/s")),
        failures_per_s=_number(row.get("Failures/s")),
        percentiles_ms=percentiles if timed else dict.fromkeys(percentiles),
    )


def _failure_row(row: Mapping[str, str]) -> FailureRow:
    return FailureRow(row["Method"], row["Name"], row["Error"], int(row["Occurrences"]))


def _exception_row(row: Mapping[str, str]) -> ExceptionRow:
    return ExceptionRow(int(row["Count"]), row["Message"], row["Traceback"], row["Nodes"])


def _percentiles(row: Mapping[str, str]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in row.items() if name.endswith("%")}


def _number(text: str | None) -> float | None:
    """A value of a field; `N/A`, an empty one and a missing column have none."""
    return None if text in (None, "", "N/A") else float(text)
