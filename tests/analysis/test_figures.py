"""The pictures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures import draw_figures, fairness, tails, throughput, ttft
from analysis.figures.style import applied, tenant_line
from analysis.load import Slo, Tenant
from analysis.summary import Summary, summarise
from tests.analysis.build import record, run

MODULES = (ttft, tails, throughput, fairness)


def summary_of(folder: Path, tenants: int, requests: int = 20, *, simulated: bool = True) -> Summary:
    names = [f"tenant-with-a-long-name-{code}" for code in range(tenants)]
    records = [
        record(name, index, scheduled_s=index / 2, first_token_s=index / 2 + 0.1 * (code + 1), gaps_us=[20_000] * 9)
        for code, name in enumerate(names)
        for index in range(requests)
    ]
    info = {"name": "$name$", "servers": [{"simulated": simulated}]}
    return summarise(run(folder, records, *(Tenant(id=name, slo=Slo(ttft_ms=300)) for name in names), info=info))


def draw(module: ModuleType, summary: Summary) -> Figure:
    with applied():
        figure: Figure = module.draw(summary)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=Text) if isinstance(text, Text))


def test_each_figure_is_a_png(tmp_path: Path) -> None:
    pictures = list(draw_figures(summary_of(tmp_path, 2), tmp_path))
    assert [picture.path.name for picture in pictures] == [
        "ttft_cdf.png",
        "latency_tails.png",
        "throughput.png",
        "fairness.png",
    ]
    for picture in pictures:
        assert picture.path.read_bytes().startswith(b"\x89PNG")
        assert picture.title
        assert picture.caption


@pytest.mark.parametrize("module", MODULES)
def test_a_simulated_server_is_stated(module: ModuleType, tmp_path: Path) -> None:
    assert "simulated server, no GPU" in texts(draw(module, summary_of(tmp_path / "simulated", 1)))
    assert "simulated" not in texts(draw(module, summary_of(tmp_path / "real", 1, simulated=False)))


@pytest.mark.parametrize("module", [ttft, tails, throughput])
def test_each_tenant_has_its_line_with_its_count(module: ModuleType, tmp_path: Path) -> None:
    figure = draw(module, summary_of(tmp_path, 8, requests=10))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == 8
    unit = " tokens)" if module is throughput else ")"
    count = 100 if module is throughput else 10
    assert all(f"(n = {count:,}{unit}" in label for label in labels)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("tenants", [1, 3, 8])
def test_nothing_hangs_over_the_edge(module: ModuleType, tenants: int, tmp_path: Path) -> None:
    figure = draw(module, summary_of(tmp_path, tenants))
    box = figure.bbox
    for artist in (*figure.legends, *(axes.title for axes in figure.axes), *(axes.xaxis.label for axes in figure.axes)):
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("tenants", [1, 8])
def test_the_legend_covers_no_panel(module: ModuleType, tenants: int, tmp_path: Path) -> None:
    figure = draw(module, summary_of(tmp_path, tenants))
    (legend,) = figure.legends
    for axes in figure.axes:
        assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]


@pytest.mark.parametrize("module", MODULES)
def test_without_data_the_reason_stands_in_the_panel(module: ModuleType, tmp_path: Path) -> None:
    figure = draw(module, summary_of(tmp_path, 2, requests=0))
    assert "no " in texts(figure)
    assert figure.legends == []


def test_axes_carry_units(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, 1)
    for module, units in ((ttft, ["[ms]"]), (tails, ["[ms]", "[ms/token]", "[ms]"]), (throughput, ["[tokens/s]"])):
        axes = draw(module, summary).axes
        for panel, unit in zip(axes, units, strict=True):
            assert unit in panel.get_xlabel() + panel.get_ylabel()


def test_no_two_tenants_look_alike() -> None:
    looks = [str(tenant_line(index)) for index in range(24)]
    assert len(set(looks)) == 24
    assert tenant_line(3) == tenant_line(3)
