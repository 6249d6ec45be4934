"""The pictures of a comparison: a line or bar per mode, with what is doubtful marked, and inside its edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.compare.model import Comparison, Value
from analysis.figures.comparison import (
    attainment,
    bars,
    batch,
    draw_comparison,
    isolation,
    tenants,
    throughput,
    wait,
)
from analysis.figures.comparison.series import headline, load_title, make_series
from analysis.figures.style import NO_DATA_IN, applied, mode_line
from tests.analysis.build import quick_pictures
from tests.analysis.compared import MODES, column, comparison

OF_ONE_LOAD = (bars, tenants, batch, isolation)
OF_LOADS = (throughput, wait, attainment, tenants, batch, isolation)
LOADS = (1, 2, 4, 8, 16, 32, 64)
LONG = tuple(f"tenant-with-a-very-long-name-{place}" for place in range(8))


@cache
def made(case: str) -> Comparison:
    return {
        "five modes": comparison(*(column(mode) for mode in MODES)),
        "one mode": comparison(column("logical")),
        "long names": comparison(*(column(f"{mode}, an engine with a long name", tenants=LONG) for mode in MODES)),
        "seven loads": comparison(*(column(mode, load) for load in LOADS for mode in MODES[:3])),
        "two loads": comparison(*(column(mode, load, tenants=LONG) for load in (1, 1.5) for mode in MODES)),
        "nothing": comparison(*(column(mode, values={}, tenants=()) for mode in MODES[:3])),
        "nothing at two loads": comparison(*(column("mps", load, values={}, tenants=()) for load in (1, 2))),
    }[case]


@cache
def draw(module: ModuleType, case: str) -> Figure:
    return painted(module, made(case))


def painted(module: ModuleType, compared: Comparison) -> Figure:
    with applied():
        figure: Figure = module.draw(compared)
    return figure


@pytest.fixture(scope="module", autouse=True)
def _made_once() -> Iterator[None]:
    """Nothing is kept for the tests of other modules."""
    yield
    for kept in (made, draw):
        kept.cache_clear()


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=Text) if isinstance(text, Text))


def lines(axes: Axes) -> dict[str, list[list[float]]]:
    """By colour, what is joined: the loads, and the values at them."""
    return {
        str(line.get_color()): [np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()]
        for line in axes.lines
        if len(np.asarray(line.get_xdata())) > 1 and line.get_marker() == "None"
    }


def names(compared: Comparison, folder: Path) -> list[str]:
    with quick_pictures():
        return [picture.path.name for picture in draw_comparison(compared, folder)]


def test_bars_of_one_load_and_lines_of_several(tmp_path: Path) -> None:
    assert names(made("one mode"), tmp_path) == [f"{module.NAME}.png" for module in OF_ONE_LOAD]
    assert names(comparison(column("mps", 1), column("mps", 2)), tmp_path) == [
        f"{module.NAME}.png" for module in OF_LOADS
    ]


def test_each_is_a_png_with_words_and_an_svg_beside(tmp_path: Path) -> None:
    picture = next(draw_comparison(made("one mode"), tmp_path))
    assert picture.path.read_bytes().startswith(b"\x89PNG")
    assert picture.path.with_suffix(".svg").is_file()
    with quick_pictures():
        assert all(one.title and one.caption for one in draw_comparison(made("one mode"), tmp_path))


CASES = [
    *((module, "long names") for module in OF_ONE_LOAD),
    *((module, "two loads") for module in OF_LOADS),
    *((module, "seven loads") for module in (throughput, isolation)),
    (isolation, "five modes"),
    (bars, "one mode"),
]


@pytest.mark.parametrize(("module", "case"), CASES)
def test_nothing_hangs_over_the_edge_and_no_legend_covers_a_panel(module: ModuleType, case: str) -> None:
    figure = draw(module, case)
    with applied():
        figure.draw_without_rendering()
    box = figure.bbox
    artists = [*figure.legends]
    for axes in figure.axes:
        if axes.axison:
            low, high = sorted(axes.get_ylim())
            in_view = [text for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]
            artists += [axes.title, axes.xaxis.label, axes.yaxis.label, *in_view]  # type: ignore[list-item]
    for artist in artists:
        if isinstance(artist, Text) and not artist.get_text():
            continue
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1, artist
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1, artist
    for legend in figure.legends:
        for axes in figure.axes:
            assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]


@pytest.mark.parametrize(("module", "case"), CASES)
def test_it_says_that_it_is_simulated_and_how_many_runs_stand_behind_it(module: ModuleType, case: str) -> None:
    said = texts(draw(module, case))
    assert "simulated, virtual time" in said
    assert "(n = " in said
    assert "emulated, not isolated" in said or case in ("one mode", "seven loads", "long names")


@pytest.mark.parametrize("module", OF_ONE_LOAD)
def test_without_values_the_reason_stands_in_the_panel(module: ModuleType) -> None:
    figure = draw(module, "nothing")
    assert "undefined" in texts(figure) or "no " in texts(figure)
    assert figure.legends == []
    assert not any(axes.patches or axes.collections for axes in figure.axes)


@pytest.mark.parametrize("module", [throughput, wait, attainment])
def test_without_values_at_any_load_it_says_so(module: ModuleType) -> None:
    assert "undefined in every run" in texts(draw(module, "nothing at two loads"))


def test_without_a_solo_run_isolation_says_what_is_missing() -> None:
    figure = draw(isolation, "nothing")
    assert "no solo run to compare with" in texts(figure)
    assert figure.get_figheight() == NO_DATA_IN


def test_a_line_per_mode_at_its_loads() -> None:
    figure = draw(throughput, "seven loads")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [f"{load}" for load in LOADS]
    found = lines(figure.axes[0])
    assert set(found) == {mode_line(mode)["color"] for mode in MODES[:3]}
    loads, values = found[mode_line("logical")["color"]]
    assert loads == list(LOADS)
    # 400 * load / (1 + load / 10) of the builder: 363.6 at load 1, 666.7 at load 2
    assert values[:2] == pytest.approx([400 / 1.1, 800 / 1.2])
    assert "[tokens/s]" in figure.axes[0].get_ylabel()


def test_a_value_that_is_missing_leaves_a_gap_in_its_line() -> None:
    holed = comparison(column("mps", 1), column("mps", 2, values={}), column("mps", 4))
    ((loads, values),) = lines(painted(throughput, holed).axes[0]).values()
    assert loads == [1, 2, 4]
    assert [math.isnan(value) for value in values] == [False, True, False]


def marks(axes: Axes) -> list[tuple[str, object, object]]:
    """(marker, face, edge) of each single mark, legend's lines left out."""
    return [
        (str(line.get_marker()), line.get_markerfacecolor(), line.get_markeredgecolor())
        for line in axes.lines
        if len(np.asarray(line.get_xdata())) == 1
    ]


def test_a_tail_of_few_requests_is_hollow_and_a_suspect_run_has_a_ring() -> None:
    doubtful = comparison(column("mps", 1), column("mps", 2, suspect=("run",)))
    drawn = marks(painted(wait, doubtful).axes[0])
    colour = mode_line("mps")["color"]
    assert [face for _, face, _ in drawn] == ["white", "white", "none"]  # the builder's p99 of mps is indicative
    assert [edge for _, _, edge in drawn] == [colour, colour, "#b00000"]
    assert "1 run suspect" in headline(doubtful)


def test_bars_are_hollow_hatched_and_framed_where_they_are_doubtful() -> None:
    doubtful = comparison(column("mps"), column("mig_emulated"), column("mig", suspect=("run",)))
    ttft = painted(bars, doubtful).axes[1]
    hollow, emulated, suspect = ttft.patches
    assert hollow.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    assert [patch.get_hatch() for patch in ttft.patches] == [None, "///", None]
    assert suspect.get_linewidth() > emulated.get_linewidth()
    assert ttft.patches[0].get_width() == pytest.approx(120 * 3)  # type: ignore[attr-defined]


def test_a_bar_that_is_undefined_says_so() -> None:
    figure = painted(bars, comparison(column("mps"), column("mig", values={}), column("logical")))
    assert [text.get_text() for text in figure.axes[0].texts] == ["undefined"]
    infinite = column("mig", values={"ttft_p99_ms": Value(math.inf)})
    assert [text.get_text() for text in painted(bars, comparison(column("mps"), infinite)).axes[1].texts] == ["inf"]


def test_attainment_shows_what_the_slos_ask_for() -> None:
    for axes in draw(attainment, "seven loads").axes:
        dotted = [line for line in axes.lines if np.asarray(line.get_ydata()).tolist() == [0.95, 0.95]]
        assert len(dotted) == 1
        assert axes.get_ylim() == (0, 1.03)


def test_the_pareto_front_is_drawn_and_counted() -> None:
    assert "Pareto front (n = 5)" in texts(draw(isolation, "five modes"))


def test_loads_stand_beside_the_marks_of_several_loads_only() -> None:
    (axes,) = draw(isolation, "seven loads").axes
    assert sorted({text.get_text() for text in axes.texts}, key=int) == [str(load) for load in LOADS]
    assert not draw(isolation, "five modes").axes[0].texts


def test_tenants_stand_in_rows_or_have_a_panel_each() -> None:
    (axes,) = draw(tenants, "long names").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(LONG)
    titles = [axes.get_title("left") for axes in draw(tenants, "two loads").axes if axes.axison]
    assert titles == list(LONG)


def test_concurrency_is_the_axis_where_every_loop_is_closed() -> None:
    closed = comparison(*(column("mps", load, fixed_concurrency=8.0 * load) for load in (1, 2)))
    assert load_title(closed) == "concurrency [requests in flight]"
    ((places, _),) = lines(painted(throughput, closed).axes[0]).values()
    assert places == [8.0, 16.0]
    assert load_title(made("seven loads")).startswith("load [times")
    assert load_title(comparison(column("mps", 1, load_name="rate_per_s"))) == "request rate [1/s]"


def test_columns_of_one_mode_and_load_stand_apart() -> None:
    twice = comparison(column("mps", label="A"), column("mps", label="B"), column("vllm"))
    first, second, other = make_series(twice)
    assert [series.name for series in (first, second, other)] == ["A", "B", "vllm"]
    assert len({str(series.line) for series in (first, second, other)}) == 3
    assert first.line == mode_line("mps")


def test_runs_are_counted_and_emulation_is_said() -> None:
    one, two = make_series(comparison(column("mps", runs=("a", "b", "c")), column("mig_emulated")))
    assert one.label == "mps (n = 3 runs)"
    assert two.label == "mig_emulated, emulated, not isolated (n = 1 run)"


def test_the_headline_says_what_is_compared() -> None:
    assert headline(made("seven loads")) == "3 modes · 7 loads · 21 runs · simulated, virtual time"
    real = comparison(column("mps", simulated=None), column("mig", simulated=None))
    assert headline(real) == "2 modes · 2 runs"
    mixed = comparison(column("mps", simulated=None), column("mig"))
    assert headline(mixed) == "2 modes · 2 runs · in part simulated, virtual time"


def test_values_far_apart_are_marks_on_a_logarithmic_axis() -> None:
    slow = column("mig", values={"ttft_p99_ms": Value(50_000.0, (40_000.0, None))})
    figure = painted(bars, comparison(column("logical"), column("mps", values={}), slow))
    ttft = figure.axes[1]
    assert ttft.get_xscale() == "log"
    assert not ttft.patches
    assert [text.get_text() for text in ttft.texts] == ["undefined"]
    assert [marker for marker, *_ in marks(ttft) if marker != "|"] == ["o", "D"]  # beside the caps of intervals
    assert figure.axes[0].get_xscale() == "linear"
