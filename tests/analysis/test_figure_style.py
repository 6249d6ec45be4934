"""How figures look and are written: modes and tenants apart, intervals, PNG and SVG."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.figures.style import FIXED_MODES, applied, headed_figure, interval_bars, mode_line, save, tenant_line


def drawn(name: str = "a $name$ & <more>") -> Figure:
    with applied():
        figure, (axes,) = headed_figure(name)
        axes.plot([1, 2, 3], [1, 4, 2], label=name)
        axes.legend()
    return figure


def test_a_figure_is_written_as_png_and_svg(tmp_path: Path) -> None:
    figure = drawn()
    canvas, dpi = figure.canvas, figure.dpi
    with applied():
        save(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
    assert figure.canvas is canvas
    assert figure.dpi == dpi
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "one.svg"]


def test_the_same_figure_gives_the_same_svg_without_a_date_or_fonts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with applied():
            save(drawn(), tmp_path / f"{name}.png")
    one = (tmp_path / "one.svg").read_text()
    assert one == (tmp_path / "two.svg").read_text()
    assert "<dc:date>" not in one
    assert "<text" not in one  # letters are outlines


def test_the_svg_stands_in_the_layout_of_the_png(tmp_path: Path) -> None:
    figure = drawn()
    with applied():
        save(figure, tmp_path / "one.png")
        places = [axes.get_position().bounds for axes in figure.axes]
        figure.draw_without_rendering()
    assert places == [axes.get_position().bounds for axes in figure.axes]
    assert 'width="576pt" height="288pt"' in (tmp_path / "one.svg").read_text()  # 8 x 4 inches


def test_no_two_modes_look_alike_nor_as_a_tenant() -> None:
    modes = [mode_line(mode) for mode in sorted(FIXED_MODES)] + [mode_line("other", place) for place in range(12)]
    assert len({str(line) for line in modes}) == len(modes)
    assert mode_line("mps") == mode_line("mps", 3)  # wherever it stands
    tenants = {to_rgb(tenant_line(index)["color"]) for index in range(8)}
    assert not tenants & {to_rgb(line["color"]) for line in modes}
    assert all(line["marker"] for line in modes)


def test_what_is_emulated_has_the_colour_of_what_it_emulates() -> None:
    real, emulated = mode_line("mig"), mode_line("mig_emulated")
    assert real["color"] == emulated["color"]
    assert real["marker"] != emulated["marker"]
    assert real["linestyle"] == "solid" != emulated["linestyle"]


def ends(figure: Figure, across: bool) -> list[list[float]]:
    """Low and high end of each bar."""
    (bars,) = figure.axes[0].collections
    return [np.asarray(path)[:, 0 if across else 1].tolist() for path in bars.get_segments()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("across", [False, True])
def test_intervals_end_where_they_should(across: bool) -> None:
    figure, (axes,) = headed_figure("")
    intervals = [(1.0, 4.0), (None, 9.0), (2.5, 2.9), (0.0, math.inf)]
    interval_bars(axes, [0, 1, 2, 3], [2.0, 3.0, 3.0, 1.0], intervals, color="black", across=across)
    # The second ends at its value and goes on dotted below, to half of it; the third, which does not hold its value,
    # ends there, too; the last is left out.
    assert ends(figure, across) == [[1.0, 4.0], [3.0, 9.0], [2.5, 3.0]]
    (dotted,) = (line for line in axes.lines if line.get_marker() == "None")
    assert np.asarray(dotted.get_xdata() if across else dotted.get_ydata()).tolist() == [3.0, 1.5]


def test_without_a_known_interval_nothing_is_drawn() -> None:
    figure, (axes,) = headed_figure("")
    interval_bars(axes, [0, 1], [2.0, math.nan], [(None, None), (1.0, 2.0)], color="black")
    assert not figure.axes[0].collections


def test_panels_fill_rows_and_what_is_left_over_is_off() -> None:
    figure, axes = headed_figure("head", 5, columns=3)
    assert len(axes) == 5
    assert [one.axison for one in figure.axes] == [True] * 5 + [False]
    assert figure.get_suptitle() == "head"
