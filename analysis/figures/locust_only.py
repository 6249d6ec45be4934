"""Users, requests per second and response times over a run of which there is only Locust's CSV."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures.style import MEASURES, no_data, shown, tenant_line
from analysis.locust_csv import TOKEN_ROWS, History
from analysis.locust_only import LocustOnly

__all__ = ["CAPTION", "NAME", "TITLE", "draw"]

NAME = "locust"
TITLE = "Users, requests and response times"
CAPTION = "As Locust wrote them each second; percentiles rounded by Locust to two significant digits above 100 ms."

_NAMES_DRAWN = 8
_PERCENTILES = ("50%", "95%", "99%")


def draw(summary: LocustOnly) -> Figure:
    """Three panels with one time axis: users, requests per second (by name, if the history has them), percentiles."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    users, rates, times = figure.subplots(3, 1, sharex=True)
    figure.suptitle(
        f"{shown(summary.content['folder'], 40)} · only Locust's CSV", x=0.01, ha="left", fontsize=9, color="#555555"
    )
    everything, start = summary.histories.get(("", "Aggregated")), summary.start_unix_s
    if everything is None or start is None:
        for axes in (users, rates, times):
            no_data(axes, "no history")
        return figure
    seconds = [unix_s - start for unix_s in everything.unix_s]
    users.set_title("Users")
    users.step(seconds, everything.users, where="post", color=MEASURES[0][0])
    users.set_ylabel("users")
    _draw_rates(rates, summary, everything, start)
    of = "the last 10 s" if summary.full_history else "all requests so far"
    times.set_title(f"Response time of {of}, all requests, rounded by Locust")
    for name, (colour, dashes) in zip(_PERCENTILES, MEASURES, strict=True):
        if name in everything.percentiles_ms:
            values = _gaps(everything.percentiles_ms[name])
            times.plot(seconds, values, label=f"p{name[:-1]}", color=colour, linestyle=dashes)
    times.set_ylabel("response time [ms]")
    times.set_xlabel("time since Locust began to write [s]")
    for axes in (users, rates, times):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.set_xlim(0, max(1, seconds[-1]))
    for axes in (rates, times):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    return figure


def _draw_rates(axes: Axes, summary: LocustOnly, everything: History, start: int) -> None:
    axes.set_title("Requests per second, failed ones included: mean of about 10 s")
    axes.set_ylabel("requests/s")
    named = {
        key: one for key, one in summary.histories.items() if key[0] not in TOKEN_ROWS and key != ("", "Aggregated")
    }
    if 1 < len(named) <= _NAMES_DRAWN:
        for index, ((kind, name), one) in enumerate(sorted(named.items(), key=lambda item: item[0][::-1])):
            label = shown(f"{kind} {name}" if _repeated(name, named) else name)
            seconds = [unix_s - start for unix_s in one.unix_s]
            axes.plot(seconds, _gaps(one.requests_per_s), label=label, **tenant_line(index))
    seconds = [unix_s - start for unix_s in everything.unix_s]
    colour, dashes = MEASURES[0]
    axes.plot(seconds, _gaps(everything.requests_per_s), label="all", color=colour, linestyle=dashes)
    if any(everything.failures_per_s):
        grey, dots = MEASURES[2]
        axes.plot(seconds, _gaps(everything.failures_per_s), label="failed", color=grey, linestyle=dots)


def _repeated(name: str, named: Iterable[tuple[str, str]]) -> bool:
    return sum(other == name for _, other in named) > 1


def _gaps(values: Iterable[float | None]) -> list[Any]:
    """None as NaN, where a line is interrupted."""
    return [float("nan") if value is None else value for value in values]
