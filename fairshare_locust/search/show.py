"""What a search has found: a table, `search.json`, `search.csv` and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.record.run_directory import replace_file
from fairshare_locust.search.bisection import Limits
from fairshare_locust.search.probe import Outcome
from fairshare_locust.search.search import ModeSearch

__all__ = ["print_table", "write_files"]

_SCHEMA = 1


def print_table(found: Sequence[ModeSearch], limits: Limits, console: Console) -> None:
    """A row per mode, and a sentence for what the row can't say."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("mode", no_wrap=True)
    for header in ("highest load\nthat held", "output\ntokens/s", "requests/s", "first load\nthat broke"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("runs", justify="right")
    for mode in found:
        at = [] if mode.held is None else mode.at(mode.held)
        table.add_row(
            mode.variant.mode,
            _scale(mode.held),
            _number(_mean([outcome.output_tokens_per_s for outcome in at])),
            _number(_mean([outcome.requests_per_s for outcome in at])),
            _scale(mode.broke),
            str(len(mode.outcomes)),
        )
    console.print(table)
    for mode in found:
        console.print(_sentence(mode, limits), soft_wrap=True, markup=False)


def _sentence(mode: ModeSearch, limits: Limits) -> str:
    name = mode.variant.mode
    if mode.failure:
        return f"{name}: not known: {mode.failure}"
    if mode.held is None:
        return f"{name}: at × {limits.low:g}, the lowest load, this breaks: {_why(mode)}; search lower with --low"
    if mode.broke is None:
        return f"{name}: every SLO holds up to × {limits.high:g}, the highest load; search higher with --high"
    return f"{name}: every tenant keeps its SLO up to × {mode.held:g}; at × {mode.broke:g} this breaks: {_why(mode)}"


def _scale(value: float | None) -> str:
    return "–" if value is None else f"× {value:g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _why(mode: ModeSearch) -> str:
    """Whose SLO broke in the first of the runs that broke at the border, or why none could be relied on."""
    at = [] if mode.broke is None else [outcome for outcome in mode.at(mode.broke) if not outcome.held]
    return next((_reason(outcome) for outcome in at), "–")


def _reason(outcome: Outcome) -> str:
    return outcome.broke or outcome.doubt or "no request of a tenant with an SLO"


def write_files(found: Sequence[ModeSearch], limits: Limits, folder: Path, name: str, how: str) -> list[Path]:
    """Write `search.json`, `search.csv` and `figures/search.png`; returns where they are. Raises OSError."""
    from analysis.figures.search import Curve, draw_search  # matplotlib loads here

    content = {
        "schema": _SCHEMA,
        "experiment": name,
        "limits": vars(limits),
        "modes": [_described(mode) for mode in found],
    }
    json_path, csv_path, figure = folder / "search.json", folder / "search.csv", folder / "figures" / "search.png"
    replace_file(json_path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    replace_file(csv_path, _csv(found).encode())
    figure.parent.mkdir(exist_ok=True)
    curves = [
        Curve(
            mode.variant.mode,
            tuple(
                (one.scale, worst) for one, outcome in mode.outcomes.items() if (worst := _worst(outcome)) is not None
            ),
            mode.held,
        )
        for mode in found
    ]
    tenants = [tenant for mode in found for tenant in mode.variant.profile.tenants]
    wanted = max((tenant.slo.attainment for tenant in tenants if tenant.slo is not None), default=None)
    draw_search(curves, wanted, f"{name}, load searched by bisection{how}", figure)
    return [json_path, csv_path, figure]


def _worst(outcome: Outcome) -> float | None:
    return min((share for share in outcome.attainment.values() if share is not None), default=None)


def _described(mode: ModeSearch) -> dict[str, Any]:
    at = [] if mode.held is None else mode.at(mode.held)
    return {
        "mode": mode.variant.mode,
        "engine": mode.variant.profile.deployment.engine,
        "sharing": mode.variant.sharing,
        "held": mode.held,
        "broke": mode.broke,
        "whose": None if mode.broke is None else _why(mode),
        "output_tokens_per_s": _mean([outcome.output_tokens_per_s for outcome in at]),
        "requests_per_s": _mean([outcome.requests_per_s for outcome in at]),
        "failure": mode.failure or None,
        "runs": [{**vars(one), **vars(outcome)} for one, outcome in mode.outcomes.items()],
    }


def _csv(found: Sequence[ModeSearch]) -> str:
    """A row per run; the attainment of each tenant in a column of its own."""
    tenants = list(
        dict.fromkeys(tenant for mode in found for outcome in mode.outcomes.values() for tenant in outcome.attainment)
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("output_tokens_per_s", "requests_per_s")
    writer.writerow(
        ["mode", "scale", "repeat", "held", *figures, *(f"attainment:{tenant}" for tenant in tenants), "why", "run"]
    )
    for mode in found:
        for one, outcome in mode.outcomes.items():
            shares = [outcome.attainment.get(tenant) for tenant in tenants]
            numbers = [outcome.output_tokens_per_s, outcome.requests_per_s, *shares]
            held = "true" if outcome.held else "false"
            why = "" if outcome.held else _reason(outcome)
            row = [mode.variant.mode, one.scale, one.repeat, held, *numbers, why, outcome.run]
            writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()
