"""A comparison as one self-contained page: recommendation, table, figures. Nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.compare import cells
from analysis.compare.columns import FIGURES, title_of, unit_of
from analysis.compare.model import EMULATED, Column, Comparison, Row, Value
from analysis.figures import Picture
from analysis.figures.comparison import draw_comparison
from analysis.metrics import METRICS
from analysis.report.definitions import definition
from analysis.report.environment import environment
from analysis.report.numbers import UNDEFINED
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record.run_directory import replace_file

__all__ = ["comparison_page", "write_comparison"]

_OF_TENANT = ("slo_attainment", "ttft_p99_ms", "tpot_p99_ms", "output_tokens_per_s")
_MEAN_RUNNING = "requests running in the engine where it was sampled, else requests in flight; mean over the window"


@dataclass(frozen=True)
class _Mode:
    """What heads a column of the tables, the first of its columns, and the place of each by its load."""

    name: str
    first: Column
    places: Mapping[float | None, int]


@dataclass(frozen=True)
class _Cell:
    """A value as it stands in a table; `mark` is "best", "noise", "bad" or ""."""

    text: str
    interval: str
    mark: str


def write_comparison(comparison: Comparison, folder: Path, runs: Sequence[Path] = ()) -> Path:
    """Draw `figures/` and write `comparison.html` into `folder`, and say where the page is.

    Args:
        runs: the run directories; those with a report are linked, so that the page can be moved with them.

    Raises:
        RunDirectoryError: `folder` can't be written.
    """
    page = folder / "comparison.html"
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        pictures = list(draw_comparison(comparison, folder / "figures"))
        replace_file(page, comparison_page(comparison, pictures, _reports(runs, folder)).encode())
    except OSError as error:
        raise RunDirectoryError(
            f"{error.filename or folder} can't be written: {error.strerror}; make room or mend its permissions"
        ) from error
    return page


def _reports(runs: Sequence[Path], folder: Path) -> dict[str, str]:
    """By name of the run directory, its report as seen from `folder`."""
    reports = {run.resolve().name: run.resolve() / "analysis" / "report.html" for run in runs}
    return {
        name: Path(os.path.relpath(report, folder.resolve())).as_posix()
        for name, report in reports.items()
        if report.is_file()
    }


def comparison_page(comparison: Comparison, pictures: Iterable[Picture], reports: Mapping[str, str]) -> str:
    """`comparison.html`. Whatever comes from a run is escaped.

    Args:
        pictures: of `draw_comparison`.
        reports: by name of a run directory, the address of its report.
    """
    columns = comparison.columns
    loads = comparison.loads
    modes = _modes(comparison)
    return (
        environment()
        .get_template("comparison.html")
        .render(
            columns=columns,
            modes=modes,
            several_loads=len(loads) > 1,
            emulated=EMULATED,
            simulated=_simulated(columns),
            recommendation=list(_recommendation(comparison)),
            differences=comparison.differences,
            warnings=comparison.warnings,
            groups=list(_groups(comparison, modes)),
            tenants=list(_tenants(comparison, modes)),
            wanted=comparison.slo_wanted,
            definitions=_definitions(comparison),
            runs=[(column, run, reports.get(run)) for column in columns for run in column.runs],
            pictures=[
                {
                    "title": picture.title,
                    "caption": picture.caption,
                    "data": base64.b64encode(picture.path.read_bytes()).decode("ascii"),
                }
                for picture in pictures
            ],
        )
    )


def _recommendation(comparison: Comparison) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is the first of its load, which says what to choose; the others, what else there is."""
    heads = [f"{cells.heading(comparison, load)}:" for load in comparison.loads if load is not None]
    met: set[str] = set()
    for line in comparison.recommendation:
        head = next((head for head in heads if line.startswith(head)), "")
        yield line, head not in met and (bool(head) or not heads)
        met.add(head)


def _modes(comparison: Comparison) -> list[_Mode]:
    """The modes; of one load the columns, by their own labels."""
    from analysis.figures.comparison.series import make_series  # loads matplotlib, as drawing did

    places = {id(column): place for place, column in enumerate(comparison.columns)}
    one_load = len(comparison.loads) <= 1
    return [
        _Mode(
            series.columns[0].label if one_load else series.name,
            series.columns[0],
            {column.load: places[id(column)] for column in series.columns},
        )
        for series in make_series(comparison)
    ]


def _title(comparison: Comparison, load: float | None) -> str:
    """What heads a group of rows; "" where there is but one load."""
    if len(comparison.loads) <= 1:
        return ""
    names = {column.load_name for column in comparison.columns if column.load == load and column.load_name}
    name = (names.pop() if len(names) == 1 else "load").removesuffix("_per_s")
    suspect = [column.mode for column in comparison.columns if column.load == load and column.suspect]
    doubt = f"; suspect: {', '.join(suspect)}" if suspect else ""
    return ("no load given" if load is None else f"{name} {load:g}") + doubt


def _groups(comparison: Comparison, modes: list[_Mode]) -> Iterator[tuple[str, list[object]]]:
    """Per load, the rows of the table: (row, definition, cells)."""
    for load in comparison.loads:
        rows: list[object] = []
        for row in comparison.rows:
            shown = []
            for place in (mode.places.get(load) for mode in modes):
                value = None if place is None else comparison.columns[place].get(row.key)
                mark = "best" if place in row.best else "noise" if place in row.within_noise else ""
                shown.append(_cell(row, value, mark))
            rows.append((row, _define(row.key), shown))
        yield _title(comparison, load), rows


def _tenants(comparison: Comparison, modes: list[_Mode]) -> Iterator[tuple[str, list[object]]]:
    """Per load and tenant, the rows of what it got, likewise."""
    for load in comparison.loads:
        places = [mode.places.get(load) for mode in modes]
        columns = [None if place is None else comparison.columns[place] for place in places]
        for tenant in comparison.tenants:
            rows: list[object] = []
            for key in _OF_TENANT:
                values = [column.tenants.get(tenant, {}).get(key) if column else None for column in columns]
                if all(value is None or value.value is None for value in values):
                    continue
                row = Row(key, title_of(key), unit_of(key), None)
                shown = []
                for column, value in zip(columns, values, strict=True):
                    broken = column is not None and column.slo_kept.get(tenant) is False
                    shown.append(_cell(row, value, "bad" if broken and key == "slo_attainment" else ""))
                rows.append((row, _define(key), shown))
            yield ", ".join(filter(None, [tenant, _title(comparison, load)])), rows


def _cell(row: Row, value: Value | None, mark: str) -> _Cell:
    """A value with `~` before it where too few samples stand behind it, and its interval."""
    if value is None or value.value is None:
        return _Cell(UNDEFINED, "", "")
    return _Cell(cells.plain(row, value), cells.interval(row, value), mark)


def _define(key: str) -> str:
    """What a figure means, from the registry; "" for one that is not in it."""
    if key == "mean_running":
        return _MEAN_RUNNING
    name, percentile = FIGURES.get(key, (key, None))
    notes = (f"{percentile} by nearest rank" if percentile else "", "the worst tenant's" if "worst" in key else "")
    return definition(METRICS[name], "; ".join(filter(None, notes))) if name in METRICS else ""


def _definitions(comparison: Comparison) -> list[tuple[str, str]]:
    """Those of the table once more, for print: of percentiles that mean the same, once."""
    labels: dict[str, list[str]] = {}
    for row in comparison.rows:
        meaning = re.sub(r"; p\d+ by nearest rank", "", _define(row.key))
        labels.setdefault(meaning, []).append(row.label)
    return [(", ".join(some), meaning) for meaning, some in labels.items() if meaning]


def _simulated(columns: Sequence[Column]) -> str:
    """What stands behind the numbers instead of a GPU; "" where one does everywhere."""
    how = sorted({column.simulated for column in columns if column.simulated})
    part = "in part " if any(column.simulated is None for column in columns) and how else ""
    return part + " and ".join(how)
