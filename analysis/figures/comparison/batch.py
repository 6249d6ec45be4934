"""What a token costs against how many requests run at once."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.compare.model import Comparison
from analysis.figures import style
from analysis.figures.comparison import panel
from analysis.figures.comparison.scatter import draw_points
from analysis.figures.comparison.series import headline, make_series
from analysis.figures.style import headed_figure, legend

NAME = "compare_cost"
TITLE = "Cost against batch size"
CAPTION = (
    "Requests running at once, by the engine where it was sampled, else the mean in flight; numbers beside the marks: "
    f"the load. {panel.DOUBTS}"
)


def draw(comparison: Comparison) -> Figure:
    """One panel, a mark per column, joined in ascending load."""
    figure, (axes,) = headed_figure(headline(comparison))
    axes.set_title(TITLE)
    every = make_series(comparison)
    key = "cost_per_million_output_tokens"
    running, cost = panel.of_all("mean_running"), panel.of_all(key)
    missing = "no price of a GPU, or no request, in any run"
    if draw_points(axes, comparison, every, running, cost, joined=True, log=True, missing=missing):
        axes.set_xlabel("requests running at once, mean")
        axes.set_ylabel(f"{panel.heading(comparison, key, 'cost')}{panel.unit_of(comparison, key)}")
        legend(figure, axes)
    else:
        figure.set_figheight(style.NO_DATA_IN)
    return figure
