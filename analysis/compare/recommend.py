"""Recommendation: which mode to choose, in words, and what each other mode would buy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from analysis.compare.model import EMULATED, Column
from analysis.compare.noise import differ
from analysis.report.numbers import number, share

__all__ = ["recommend"]

_COST, _OUTPUT = "cost_per_million_output_tokens", "output_tokens_per_s"
_BOUGHT = (
    (_OUTPUT, "tokens/s"),
    ("ttft_p99_ms", "TTFT p99"),
    ("tpot_p99_ms", "TPOT p99"),
    (_COST, "cost"),
    ("isolation_leakage", "isolation leakage"),
)
_NO_SLO = "No tenant has an SLO, so none can break."


def recommend(columns: Sequence[Column], slo_wanted: Mapping[str, float]) -> tuple[str, ...]:
    """Lines, per load first what to choose and then what each other mode would buy.

    Chosen is the cheapest mode in which every tenant's attainment reaches what its SLO wants; without prices, that with
    the most output tokens/s, which on the same GPU is the same. If none keeps all, the one that comes nearest: whose
    worst tenant lacks least. Costs that differ by no more than noise are told as such.

    Args:
        slo_wanted: the share of requests that have to meet the SLO, by tenant with one.
    """
    loads = tuple(dict.fromkeys(column.load for column in columns))
    lines = list(_reaches(columns, slo_wanted)) if len(loads) > 1 and slo_wanted else []
    for load in loads:
        at_load = [column for column in columns if column.load == load]
        said = list(_at_load(at_load, slo_wanted))
        lines += said if load is None else [f"{at_load[0].load_name or 'load'} {load:g}: {line}" for line in said]
    return tuple(lines)


def _reaches(columns: Sequence[Column], slo_wanted: Mapping[str, float]) -> Iterator[str]:
    """The highest load at which each mode keeps every SLO, and at every load below it."""
    by_mode: dict[str, list[Column]] = {}
    for column in columns:
        by_mode.setdefault(column.mode, []).append(column)
    for mode, own in by_mode.items():
        held = None
        for column in sorted(own, key=lambda column: column.load or 0.0):
            if not _keeps(column, slo_wanted):
                break
            held = column
        if held is None:
            yield f"{mode} does not keep every SLO at its lowest load."
        else:
            top = held.load == max(column.load or 0.0 for column in own)
            yield f"{mode} keeps every SLO up to {held.load_name or 'load'} {held.load or 0:g}{', the highest' * top}."


def _at_load(columns: Sequence[Column], slo_wanted: Mapping[str, float]) -> Iterator[str]:
    keeping = [column for column in columns if _keeps(column, slo_wanted)]
    if keeping:
        chosen = min(keeping, key=_dearness)
        yield _chosen(chosen, keeping, bool(slo_wanted), several=len(columns) > 1)
    else:
        known = [column for column in columns if _margin(column, slo_wanted) is not None]
        if not known:
            yield "Nothing can be recommended: no request of a tenant with an SLO was due in any run."
            return
        chosen = max(known, key=lambda column: (_margin(column, slo_wanted) or 0.0, -_dearness(column)[1]))
        yield (
            f"No mode keeps every tenant's SLO. {_name(chosen)} comes nearest: "
            f"{_broken(chosen, slo_wanted)}.{_doubt(chosen, columns)}"
        )
    for column in columns:
        if column is not chosen:
            yield f"{_name(column)}: {_instead(column, chosen, slo_wanted)}{_suspect(column)}."


def _keeps(column: Column, slo_wanted: Mapping[str, float]) -> bool:
    return all(column.slo_kept.get(tenant) for tenant in slo_wanted)


def _dearness(column: Column) -> tuple[float, float]:
    """Ascending by cost, then descending by output; what is not known comes last."""
    cost, output = column.get(_COST).value, column.get(_OUTPUT).value
    return math.inf if cost is None else cost, math.inf if output is None else -output


def _chosen(chosen: Column, keeping: Sequence[Column], promised: bool, *, several: bool) -> str:
    priced = chosen.get(_COST).value is not None
    by = "cheapest" if priced else "one with the most output"
    key = _COST if priced else _OUTPUT
    others = [column for column in keeping if column is not chosen]
    if not several:
        words = f"{_name(chosen)} keeps every tenant's SLO"
        if not promised:
            words = f"{_NO_SLO} {_name(chosen)} is the only mode"
        figure = f" at {_figure(chosen, key)}" if chosen.get(key).value is not None else ""
        return f"{words}{figure}.{_doubt(chosen, keeping)}"
    if not promised:
        words = f"{_NO_SLO} Choose {_name(chosen)}: the {by}"
    elif others:
        words = f"Choose {_name(chosen)}: of the {len(keeping)} modes that keep every tenant's SLO, the {by}"
    else:
        words = f"Choose {_name(chosen)}: the only mode that keeps every tenant's SLO"
    figure = f", {_figure(chosen, key)}" if chosen.get(key).value is not None else ""
    ties = [_name(column) for column in others if differ(column.get(key), chosen.get(key)) is False]
    unsure = [_name(column) for column in others if differ(column.get(key), chosen.get(key)) is None]
    tied = f" {_and(ties)} {'is' if len(ties) == 1 else 'are'} within noise of it." if ties else ""
    if unsure:
        tied += f" Whether the difference from {_and(unsure)} is noise is not known."
    unpriced = "" if priced else " There is no price per hour (cost.gpu_hour_usd), so cost is not known."
    return f"{words}{figure}.{tied}{unpriced}{_doubt(chosen, keeping)}"


def _figure(column: Column, key: str) -> str:
    value = number(column.get(key).value)
    return f"{value} USD per million output tokens" if key == _COST else f"{value} tokens/s"


def _name(column: Column) -> str:
    """The column by its mode where that is enough, and that a mode isolates nothing."""
    label = column.label if column.load is None else column.mode
    return f"{label} ({EMULATED})" if column.emulated else label


def _doubt(chosen: Column, others: Sequence[Column]) -> str:
    """That the runs behind a choice are suspect, and what to take if one does not want to run them again."""
    if not chosen.suspect:
        return ""
    sound = [column for column in others if not column.suspect]
    instead = f"; of the modes without doubt take {_name(min(sound, key=_dearness))}" if sound else ""
    return f" But {_runs(chosen)}: run it again before you rely on it{instead}."


def _suspect(column: Column) -> str:
    return f" ({_runs(column)})" if column.suspect else ""


def _runs(column: Column) -> str:
    if len(column.runs) == 1:
        return "its run is suspect"
    return f"{len(column.suspect)} of its {len(column.runs)} runs {'is' if len(column.suspect) == 1 else 'are'} suspect"


def _instead(column: Column, chosen: Column, slo_wanted: Mapping[str, float]) -> str:
    """What another mode gives, beside the chosen one, and what it breaks."""
    bought = [words for key, label in _BOUGHT if (words := _change(column, chosen, key, label))]
    gives = ", ".join(bought) or "no difference beyond noise"
    broken = _broken(column, slo_wanted)
    return f"{gives}{f', but {broken}' if broken else ''}"


def _change(column: Column, chosen: Column, key: str, label: str) -> str:
    """A change beyond noise; unsure where that can't be told."""
    one, other = column.get(key), chosen.get(key)
    apart = differ(one, other)
    if apart is False or one.value is None or other.value is None or not math.isfinite(one.value - other.value):
        return ""
    unsure = " (unsure)" if apart is None else ""
    if key == "isolation_leakage":
        return f"{label} {one.value - other.value:+.2f}{unsure}"
    if not other.value or f"{(percent := (one.value / other.value - 1) * 100):.0f}" in ("0", "-0"):
        return ""
    words = f"{percent:+,.0f}% {label}" if key == _OUTPUT else f"{label} {percent:+,.0f}%"
    return f"{words}{unsure}"


def _margin(column: Column, slo_wanted: Mapping[str, float]) -> float | None:
    """What the worst tenant's attainment has above what is wanted; below 0 it lacks. None where none is known."""
    margins = []
    for tenant, wanted in slo_wanted.items():
        attained = _attained(column, tenant)
        if attained is not None:
            margins.append(attained - wanted)
    return min(margins, default=None)


def _attained(column: Column, tenant: str) -> float | None:
    own = column.tenants.get(tenant, {}).get("slo_attainment")
    return own.value if own else None


def _broken(column: Column, slo_wanted: Mapping[str, float]) -> str:
    words = []
    for tenant, wanted in slo_wanted.items():
        attained = _attained(column, tenant)
        if attained is None:
            words.append(f"{tenant} had no request due")
        elif not column.slo_kept.get(tenant):
            words.append(f"{tenant} misses its SLO ({share(attained)} < {share(wanted)})")
    return _and(words)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
