"""How much a mode yields against how well it keeps its tenants apart."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.compare.pareto import front, isolation
from analysis.figures import style
from analysis.figures.comparison import panel
from analysis.figures.comparison.scatter import draw_points
from analysis.figures.comparison.series import headline, make_series
from analysis.figures.style import headed_figure, legend

NAME = "compare_isolation"
TITLE = "Throughput against isolation"
CAPTION = (
    "Isolation = 1 - isolation leakage: 1 = the worst victim is as fast as alone. Grey line: the Pareto front, the "
    "columns that no other beats in both; intervals play no part in it. Numbers beside the marks: the load. "
    f"{panel.DOUBTS}"
)


def draw(comparison: Comparison) -> Figure:
    """One panel, a mark per column, and the front behind them."""
    figure, (axes,) = headed_figure(headline(comparison))
    axes.set_title(TITLE)
    key = "output_tokens_per_s"
    every = make_series(comparison)
    missing = "no solo run to compare with: leakage is undefined"
    if draw_points(axes, comparison, every, isolation, panel.of_all(key), joined=False, missing=missing):
        best = front(comparison.columns)
        axes.plot(
            [value for value, _ in best],
            [value for _, value in best],
            color="#bbbbbb",
            linewidth=3,
            zorder=1,
            label=f"Pareto front (n = {len(best)})",
        )
        axes.set_xlabel("isolation, 1 - isolation leakage")
        axes.set_ylabel(f"{panel.heading(comparison, key, 'output')}{panel.unit_of(comparison, key)}")
        legend(figure, axes)
    else:
        figure.set_figheight(style.NO_DATA_IN)
    return figure
