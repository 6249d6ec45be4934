"""The stages of the requests around the longest wait for a first token."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.shading import shade
from analysis.figures.style import new_figure, no_data, shown, tenant_area, tenant_line
from analysis.summary import Summary
from analysis.waterfall import Waterfall

NAME = "waterfall"
TITLE = "Requests around the longest wait"
CAPTION = (
    "A row per request, in the order in which they were due: queued, until the first token, and while tokens came; a "
    "cross: it failed. The few seconds around the longest time to first token in the window, marked at the left."
)

_ROW_IN = 0.115
_PALE, _MEDIUM = 0.18, 0.5


def draw(summary: Summary) -> Figure:
    """Bars from when a request was due to its last token, in its tenant's colour, darker with each stage."""
    slice_of = summary.curves.waterfall
    figure, (axes,) = new_figure(summary, height=2.4 + _ROW_IN * len(slice_of.bars if slice_of else ()))
    axes.set_title(TITLE)
    if slice_of is None:
        no_data(axes, "no request in the window got a token")
        return figure
    shade(axes, summary.curves.phases)
    _bars(axes, slice_of)
    axes.set_xlim(slice_of.start_s, slice_of.end_s)
    axes.set_ylim(len(slice_of.bars) - 0.4, -0.6)
    worst = slice_of.bars[slice_of.worst]
    axes.set_yticks([slice_of.worst], [f"{1e3 * ((worst.first_token_s or worst.due_s) - worst.due_s):,.4g} ms ▸"])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("time since the load started [s]")
    axes.set_ylabel(_counted(slice_of))
    _legend(figure, summary, slice_of)
    return figure


def _counted(slice_of: Waterfall) -> str:
    some, left_out = len(slice_of.bars), slice_of.left_out
    return f"{some} requests" if not left_out else f"{some} of {some + left_out:,} requests"


def _bars(axes: Axes, slice_of: Waterfall) -> None:
    """Three bars a row at most, all of one stage in one call."""
    stages: dict[float, list[tuple[int, float, float, tuple[float, ...], str | None]]] = {
        _PALE: [],
        _MEDIUM: [],
        1.0: [],
    }
    crosses: list[tuple[float, int]] = []
    for row, bar in enumerate(slice_of.bars):
        colour, hatch = tenant_line(bar.tenant)["color"], tenant_area(bar.tenant)["hatch"]
        end_s = slice_of.end_s if bar.last_s is None else bar.last_s
        first_s = end_s if bar.first_token_s is None else bar.first_token_s
        ends = ((_PALE, bar.due_s, bar.queued_until_s), (_MEDIUM, bar.queued_until_s, first_s), (1.0, first_s, end_s))
        for strength, start_s, stop_s in ends:
            if stop_s > start_s:
                stages[strength].append((row, start_s, stop_s - start_s, to_rgba(colour, strength), hatch))
        if bar.failed:
            crosses.append((min(max(end_s, slice_of.start_s), slice_of.end_s), row))
    for parts in stages.values():
        if parts:
            rows, starts, lengths, colours, hatches = zip(*parts, strict=True)
            edges = [
                (*colour[:3], 1.0) if hatch is None else "white" for colour, hatch in zip(colours, hatches, strict=True)
            ]
            drawn: dict[str, Any] = {"color": colours, "edgecolor": edges, "linewidth": 0.5, "hatch": hatches}
            axes.barh(rows, lengths, left=starts, height=0.72, **drawn)
    if crosses:
        axes.plot(*zip(*crosses, strict=True), "x", color="black", ms=4.5, mew=1.4, clip_on=False, zorder=4)


def _legend(figure: Figure, summary: Summary, slice_of: Waterfall) -> None:
    """The tenants of the slice, and what the three strengths of their colours mean."""
    tenants, present = list(summary.content["tenants"]), sorted({bar.tenant for bar in slice_of.bars})
    handles = [
        Patch(
            **tenant_area(code),
            label=f"{shown(tenants[code])} (n = {sum(bar.tenant == code for bar in slice_of.bars)})",
        )
        for code in present
    ]
    told = [bar.tells_queue for bar in slice_of.bars]
    grey = to_rgba("#444444")[:3]
    stages = (
        (_PALE, "queued" if all(told) else "queued, where the engine tells; else not sent yet"),
        (_MEDIUM, "prefill" if all(told) else "until the first token"),
        (1.0, "decode"),
    )
    handles += [
        Patch(facecolor=(*grey, strength), edgecolor=grey, linewidth=0.5, label=label) for strength, label in stages
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.065 * (longest + 7)))))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
