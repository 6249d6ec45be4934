"""The pictures. A summary or figure that several tests look at is made once; none of them changes it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis.figures import (
    cdf,
    draw_figures,
    fairness,
    interference,
    load,
    slowdown,
    tails,
    telemetry,
    throughput,
    timeline,
    waterfall,
)
from analysis.figures.counts import counted
from analysis.figures.scale import log_ms
from analysis.figures.style import applied, shown, tenant_area, tenant_line
from analysis.load import Slo, Tenant
from analysis.summary import Summary, summarise
from tests.analysis.build import part, quick_pictures, record, run, sampled, write_samples

MODULES = (cdf, tails, throughput, fairness, timeline, waterfall)


@cache
def summary_of(tenants: int, requests: int = 20, *, simulated: bool = True, time: str = "real") -> Summary:
    names = [f"tenant-with-a-long-name-{code}" for code in range(tenants)]
    records = [
        record(name, index, scheduled_s=index / 2, first_token_s=index / 2 + 0.1 * (code + 1), gaps_us=[20_000] * 9)
        for code, name in enumerate(names)
        for index in range(requests)
    ]
    info = {"name": "$name$", "servers": [{"simulated": simulated}], "time": time}
    with tempfile.TemporaryDirectory() as folder:
        return summarise(
            run(Path(folder), records, *(Tenant(id=name, slo=Slo(ttft_ms=300)) for name in names), info=info)
        )


@cache
def draw(module: ModuleType, summary: Summary) -> Figure:
    with applied():
        figure: Figure = module.draw(summary)
    return figure


@cache
def laid_out(module: ModuleType, summary: Summary) -> Figure:
    """With everything in its place, which takes most of the time."""
    figure = draw(module, summary)
    with applied():
        figure.draw_without_rendering()
    return figure


@pytest.fixture(scope="module", autouse=True)
def _made_once() -> Iterator[None]:
    """Nothing is kept for the tests of other modules."""
    yield
    for made in (summary_of, compared_of, steps, observed, draw, laid_out):
        made.cache_clear()


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=Text) if isinstance(text, Text))


def test_each_figure_is_a_png(tmp_path: Path) -> None:
    pictures = list(draw_figures(summary_of(2), tmp_path))
    assert [picture.path.name for picture in pictures] == [
        "latency_cdf.png",
        "latency_tails.png",
        "throughput.png",
        "fairness.png",
        "timeline.png",
        "waterfall.png",
    ]
    for picture in pictures:
        assert picture.path.read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in picture.path.with_suffix(".svg").read_bytes()
        assert picture.title
        assert picture.caption


@pytest.mark.parametrize("module", MODULES)
def test_a_simulated_server_is_stated(module: ModuleType) -> None:
    assert "simulated server, no GPU" in texts(draw(module, summary_of(1)))
    assert "simulated" not in texts(draw(module, summary_of(1, simulated=False)))
    assert "simulated, virtual time" in texts(draw(module, summary_of(1, time="virtual")))


@pytest.mark.parametrize("module", [cdf, tails, throughput, timeline])
def test_each_tenant_has_its_line_with_its_count(module: ModuleType) -> None:
    figure = draw(module, summary_of(8, requests=10))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == 8
    unit = " tokens)" if module is throughput else ")"
    count = 100 if module is throughput else 10
    assert all(f"(n = {count:,}{unit}" in label for label in labels)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("tenants", [1, 8])
def test_nothing_hangs_over_the_edge(module: ModuleType, tenants: int) -> None:
    figure = laid_out(module, summary_of(tenants))
    box = figure.bbox
    for artist in (*figure.legends, *(axes.title for axes in figure.axes), *(axes.xaxis.label for axes in figure.axes)):
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


@pytest.mark.parametrize("module", [module for module in MODULES if module is not fairness])
@pytest.mark.parametrize("tenants", [1, 8])
def test_the_legend_covers_no_panel(module: ModuleType, tenants: int) -> None:
    figure = laid_out(module, summary_of(tenants))
    (legend,) = figure.legends
    for axes in figure.axes:
        assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]


def test_the_legends_of_fairness_lie_above_their_panels() -> None:
    figure = laid_out(fairness, summary_of(2))
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend
        box = legend.get_window_extent()
        assert axes.get_window_extent().y1 <= box.y0
        assert box.x1 <= figure.bbox.x1
    title = next(text for text in figure.findobj(match=Text) if text.get_text() == fairness.TITLE)
    assert title.get_window_extent().x1 <= figure.axes[0].get_legend().get_window_extent().x0  # type: ignore[union-attr]


@pytest.mark.parametrize("module", MODULES)
def test_without_data_the_reason_stands_in_the_panel(module: ModuleType) -> None:
    figure = draw(module, summary_of(2, requests=0))
    assert "no " in texts(figure)
    assert figure.legends == []


def test_axes_carry_units() -> None:
    summary = summary_of(1)
    for module, units in (
        (cdf, ["[ms]", "[ms/token]", "[ms]"]),
        (fairness, ["index", "[weighted tokens]", "[s]"]),
        (waterfall, ["[s]"]),
        (tails, ["[ms]", "[ms/token]", "[ms]"]),
        (throughput, ["[tokens/s]"]),
        (timeline, ["[requests/s]", "[tokens/s]", "[ms]"]),
    ):
        axes = draw(module, summary).axes
        for panel, unit in zip(axes, units, strict=True):
            assert unit in panel.get_xlabel() + panel.get_ylabel()


def test_no_two_tenants_look_alike() -> None:
    looks = [str(tenant_line(index)) for index in range(24)]
    assert len(set(looks)) == 24
    assert tenant_line(3) == tenant_line(3)


def test_areas_look_like_the_lines_of_their_tenant() -> None:
    assert tenant_area(1)["facecolor"] == tenant_line(1)["color"]
    assert len({str(tenant_area(index)) for index in range(24)}) == 24


def test_a_long_name_is_cut_in_its_middle() -> None:
    assert shown("tenant-0", 8) == "tenant-0"
    assert shown("tenant-number-0", 8) == "tena…r-0"
    assert len(shown("x" * 60)) == 24


def test_counts_in_words() -> None:
    assert counted([1200, 1200]) == "n = 1,200"
    assert counted([1200, 7]) == "n = 7 to 1,200"


@pytest.mark.parametrize(
    ("view", "ticks"),
    [
        ((20, 600), ["20", "50", "100", "200", "500"]),
        ((8, 41), ["10", "20", "30", "40"]),
        ((1.4, 16_000), ["10", "100", "1,000", "10,000"]),
        ((30.5, 41), ["32", "34", "36", "38", "40"]),
        ((1000, 1001), ["1,000", "1,000.2", "1,000.4", "1,000.6", "1,000.8", "1,001"]),
    ],
)
def test_a_logarithmic_axis_has_round_numbers_that_do_not_touch(view: tuple[float, float], ticks: list[str]) -> None:
    axes = Figure().subplots()
    axes.set_xscale("log")
    log_ms(axes.xaxis, 6)
    axes.set_xlim(*view)
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    assert [text.get_text() for text in axes.get_xticklabels()] == ticks


def test_distributions_have_the_slo_of_each_latency() -> None:
    panels = draw(cdf, summary_of(1)).axes
    assert [len(axes.lines) for axes in panels] == [2, 1, 1]  # the SLO limits TTFT alone
    assert np.asarray(panels[0].lines[1].get_xdata()).tolist() == [300, 300]
    curve = panels[0].lines[0]
    assert np.asarray(curve.get_xdata())[-1] == pytest.approx(100)
    assert np.asarray(curve.get_ydata())[[0, -1]].tolist() == [0, 1]


def test_intervals_of_percentiles_and_those_without_an_end() -> None:
    summary = summary_of(1)
    ((name, entry),) = summary.content["tenants"].items()
    ends = {"p50": [90.0, 120.0], "p90": [80.0, None], "p95": [None, None], "p99": [99.0, 101.0], "p99_9": [99.0, None]}
    entry = {**entry, "ttft_scheduled_ms": {**entry["ttft_scheduled_ms"], "ci95": ends}}
    waits, *_ = draw(tails, with_content(summary, tenants={name: entry})).axes
    bars = next(iter(waits.collections))
    spans = [np.asarray(segment)[:, 1].tolist() for segment in bars.get_segments()]  # type: ignore[attr-defined]
    assert spans == [pytest.approx(span) for span in ([90, 120], [80, 100], [99, 101], [99, 100])]  # none of p95
    dotted = [
        line for line in waits.lines if len(set(np.asarray(line.get_xdata()))) == 1 and line.get_linestyle() != "None"
    ]
    assert [np.asarray(line.get_ydata()).tolist() for line in dotted][:2] == [
        pytest.approx(ends) for ends in ([100, 120], [100, 101])
    ]


def test_tokens_are_stacked() -> None:
    """Tenant 0 has its 10 tokens of a request from 0.1 s, tenant 1 from 0.2 s: the second stands on the first."""
    (axes,) = draw(throughput, summary_of(2)).axes
    areas = [patch for patch in axes.patches if patch.get_label() and "tenant" in str(patch.get_label())]
    first, second = (patch.get_data() for patch in areas)  # type: ignore[attr-defined]
    assert np.all(first.baseline == 0)
    assert second.baseline.tolist() == first.values.tolist()
    widths = np.diff(first.edges)
    assert (first.values * widths).sum() == pytest.approx(200)
    assert (second.values * widths).sum() == pytest.approx(400)


def with_content(summary: Summary, **values: Any) -> Summary:
    return dataclasses.replace(summary, content={**summary.content, **values})


def test_locusts_users_stand_under_the_tokens_where_they_are_known() -> None:
    users = {"t_s": [0.0, 1.0, 2.0], "users": [0, 3, 3]}
    _, below = draw(throughput, with_content(summary_of(2), locust={"users": users})).axes
    *_, line = below.lines
    assert np.asarray(line.get_ydata()).tolist() == [0, 3, 3]
    assert below.get_ylabel() == "Locust's\nusers"
    nowhere: tuple[Any, ...] = (None, {"users": None}, {"users": {"t_s": [], "users": []}})
    for locust in nowhere:
        assert len(draw(throughput, with_content(summary_of(2), locust=locust)).axes) == 1


def test_the_whole_window_stands_beside_the_series_with_its_interval() -> None:
    summary = summary_of(2)
    entry = {**summary.content["fairness"], "jain_throughput": 0.8, "ci95": {"jain_throughput": [0.7, 0.9]}}
    indices, gaps, starved = draw(fairness, with_content(summary, fairness=entry)).axes
    beside = [np.asarray(line.get_ydata()).tolist() for line in indices.lines]
    assert beside[:2] == [[0.7, 0.9], [0.8]]
    assert [len(axes.lines) for axes in (gaps, starved)] == [2, 1]
    for axes, names in (
        (gaps, ("service_gap_max_tokens", "service_gap_window_max_tokens")),
        (starved, ("starvation_s_max",)),
    ):
        assert axes.get_ylim()[1] > max(entry[name] for name in names)
        assert [np.asarray(line.get_ydata()).tolist() for line in axes.lines] == [[entry[name]] for name in names]


def test_one_tenant_has_nobody_to_drift_from() -> None:
    assert "no two tenants had requests waiting at once" in texts(draw(fairness, summary_of(1)))


def slower(value: float | None, count: int = 40) -> dict[str, Any]:
    ends = [None, None] if value is None else [value * 0.9, value * 1.25]
    return {"value": value, "ci95": ends, "solo": 100.0, "shared": None, "count": count, "paired": True}


@cache
def compared_of(tenants: int) -> Summary:
    """Slowdowns of 1.5 at p50 and 2 at p95, no p99 of the first tenant; each measured beside the next two only."""
    summary = summary_of(tenants)
    names = list(summary.content["tenants"])
    slowdowns = {
        name: {
            metric: {"p50": slower(1.5), "p95": slower(2.0, 60), "p99": slower(0.8 if place else None)}
            for metric in ("ttft_scheduled_ms", "tpot_ms", "e2e_scheduled_ms")
        }
        for place, name in enumerate(names)
    }
    rows = [
        [slower(2.0) if other == one + 1 else slower(None) if other == one + 2 else None for other in range(tenants)]
        for one in range(tenants)
    ]
    matrix = {"metric": "e2e_scheduled_ms", "percentile": "p95", "tenants": names, "slowdown": rows}
    entry = {"tenants": {name: {"slowdown": each} for name, each in slowdowns.items()}, "matrix": matrix}
    return with_content(summary, interference=entry)


def test_bars_of_slowdown_start_at_as_fast_as_alone() -> None:
    for axes in draw(slowdown, compared_of(2)).axes:
        first, second = (bars for bars in axes.containers if isinstance(bars, BarContainer))
        assert [bar.get_y() for bar in (*first, *second)] == [1.0] * 6
        assert [bar.get_height() for bar in first] == pytest.approx([0.5, 1.0, 0.0])
        assert [bar.get_height() for bar in second] == pytest.approx([0.5, 1.0, -0.2])
        (cross,) = (line for line in axes.lines if line.get_marker() == "x" and len(np.asarray(line.get_xdata())))
        assert np.asarray(cross.get_ydata()).tolist() == [1.0]
        low, high = axes.get_ylim()
        assert low <= 0.72
        assert high >= 2.5
    (legend,) = draw(slowdown, compared_of(2)).legends
    assert "(n = 40 to 60)" in legend.get_texts()[0].get_text()


def test_cells_of_the_matrix_say_what_they_rest_on() -> None:
    (axes,) = draw(interference, compared_of(3)).axes
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(cells) == 9
    assert [bool(cell.get_hatch()) for cell in cells] == [True, False, True, True, True, False, True, True, True]
    said = {tuple(np.round(text.get_position()).astype(int)): [] for text in axes.texts}  # type: ignore[var-annotated]
    for text in axes.texts:
        said[tuple(np.round(text.get_position()).astype(int))].append(text.get_text())
    assert said == {
        (0, 0): ["alone"],
        (1, 0): ["2.00×", "1.80 to 2.50", "n = 40"],
        (2, 0): ["undefined", "n = 40"],
        (1, 1): ["alone"],
        (2, 1): ["2.00×", "1.80 to 2.50", "n = 40"],
        (2, 2): ["alone"],
    }


@pytest.mark.parametrize("module", [slowdown, interference])
def test_without_solo_there_is_nothing_to_compare_with(module: ModuleType, tmp_path: Path) -> None:
    assert "no tenant ran" in texts(draw(module, with_content(summary_of(2), interference=None)))
    with quick_pictures():
        names = [picture.path.stem for picture in draw_figures(compared_of(2), tmp_path)]
        none = [picture.path.stem for picture in draw_figures(summary_of(2), tmp_path)]
    assert module.NAME in names
    assert module.NAME not in none


@pytest.mark.parametrize("module", [slowdown, interference])
@pytest.mark.parametrize("tenants", [1, 8])
def test_interference_keeps_inside_its_edges(module: ModuleType, tenants: int) -> None:
    figure = laid_out(module, compared_of(tenants))
    box = figure.bbox
    ticks = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    for artist in (*figure.legends, *(axes.title for axes in figure.axes), *ticks):
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


def test_a_row_of_the_waterfall_has_its_stages(tmp_path: Path) -> None:
    engine = {"queued_s": 0.5, "prefill_s": 0.25, "decode_s": 1.0}
    told = record("a", 0, scheduled_s=1.0, sent_s=1.25, first_token_s=2.0, gaps_us=[1_000_000], engine=engine)
    failed = record("b", 0, scheduled_s=1.5, outcome="timeout", first_token_s=None, ended_s=2.5)
    figure = draw(waterfall, summarise(run(tmp_path, [told, failed])))
    (axes,) = figure.axes
    bars = [
        (round(bar.get_y() + bar.get_height() / 2), bar.get_x(), round(bar.get_width(), 9), bar.get_facecolor()[3])
        for container in axes.containers
        for bar in container
    ]
    assert sorted(bars) == [
        (0, 1.0, 0.75, 0.18),
        (0, 1.75, 0.25, 0.5),
        (0, 2.0, 1.0, 1.0),
        (1, 1.5, 1.0, 0.5),
    ]
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    assert (np.asarray(cross.get_xdata()).tolist(), np.asarray(cross.get_ydata()).tolist()) == ([2.5], [1])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1,000 ms ▸"]
    assert "queued, where the engine tells" in texts(figure)


def test_a_run_without_a_token_has_no_waterfall(tmp_path: Path) -> None:
    refused = summarise(run(tmp_path, [record("a", outcome="connection_error", first_token_s=None)]))
    with quick_pictures():
        assert "waterfall" not in [picture.path.stem for picture in draw_figures(refused, tmp_path)]


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[float] = []
    with quick_pictures():
        pictures = list(draw_figures(observed(1, 12), tmp_path, told.append))
    assert len(told) == len(pictures)
    assert told == sorted(told)
    assert told[-1] == 1


SLO = Slo(ttft_ms=300)


@cache
def steps(*, slo: Slo | None = SLO, tenants: int = 2) -> Summary:
    """10 s at each of three loads; TTFT grows with the load."""
    names = [f"tenant-{code}" for code in range(tenants)]
    records, parts = [], []
    for place, at_load in enumerate((0.5, 1.0, 4.0)):
        parts.append(part(f"load-{at_load:g}/warmup", place * 12, place * 12 + 2, names, at_load, measured=False))
        parts.append(part(f"load-{at_load:g}/measure", place * 12 + 2, place * 12 + 12, names, at_load))
        records += [
            record(
                name,
                index,
                phase=parts[-1]["name"],
                scheduled_s=place * 12.0 + 2 + index / 2,
                first_token_s=place * 12.0 + 2 + index / 2 + 0.1 * at_load,
                gaps_us=[20_000] * 9,
            )
            for name in names
            for index in range(20)
        ]
    info = {"phases": parts, "ended_s": 36.0}
    with tempfile.TemporaryDirectory() as folder:
        return summarise(run(Path(folder), records, *(Tenant(id=name, slo=slo) for name in names), info=info))


def test_several_loads_have_a_figure_of_their_own(tmp_path: Path) -> None:
    with quick_pictures():
        pictures = list(draw_figures(steps(), tmp_path))
    assert pictures[-1].path.name == "load.png"
    attainment, wait = draw(load, steps()).axes
    for axes in (attainment, wait):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0.5", "1", "4"]
    lines = {str(line.get_label()).partition(" (")[0]: line for line in attainment.lines}
    assert np.asarray(lines["tenant-0"].get_ydata()).tolist() == [1.0, 1.0, 0.0]
    lines = {str(line.get_label()).partition(" (")[0]: line for line in wait.lines}
    assert np.asarray(lines["tenant-1"].get_ydata()).tolist() == pytest.approx([50.0, 100.0, 400.0])


def test_each_load_has_intervals_and_counts() -> None:
    content = steps().content
    (chosen,) = (one for one in content["window"]["loads"] if one["phases"] == content["window"]["phases"])
    low, high = content["tenants"]["tenant-0"]["ci95"]["slo_attainment"]
    assert 0 < low < high == 1  # all of 20 met it, which is not sure of the next
    assert chosen["tenants"]["tenant-0"]["ci95"] == {"slo_attainment": [low, high]}
    attainment, wait = draw(load, steps()).axes
    assert len([bars for bars in attainment.containers if isinstance(bars, ErrorbarContainer)]) == 2
    for axes in (attainment, wait):
        assert "tenant-0 (n = 20)" in [line.get_label() for line in axes.lines]


@pytest.mark.parametrize("tenants", [1, 8])
def test_the_figure_of_the_loads_keeps_inside_its_edges(tenants: int) -> None:
    figure = laid_out(load, steps(tenants=tenants))
    (legend,) = figure.legends
    assert len(legend.get_texts()) == tenants
    assert figure.bbox.y0 <= legend.get_window_extent().y0
    for axes in figure.axes:
        assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]


def test_loads_without_an_slo_say_so() -> None:
    assert "no tenant has an SLO" in texts(draw(load, steps(slo=None)))


def test_phases_are_named_and_shaded() -> None:
    figure = draw(timeline, steps())
    named = [text.get_text() for text in figure.axes[0].texts]
    assert named == ["load-0.5", "load-1", "load-4"]
    assert all(len(axes.patches) >= 3 for axes in figure.axes)  # a warm-up each, beside the lines' own
    assert [text.get_text() for text in draw(timeline, summary_of(1)).axes[0].texts] == ["measure", "drain"]


def test_a_long_name_of_a_phase_is_cut_to_its_room(tmp_path: Path) -> None:
    parts = [part(f"{'x' * 60}{place}/measure", place * 5, place * 5 + 5, "a") for place in range(2)]
    summary = summarise(run(tmp_path, [record()], Tenant(id="a"), info={"phases": parts, "ended_s": 10.0}))
    figure = laid_out(timeline, summary)
    first, second = (text.get_window_extent() for text in figure.axes[0].texts)
    assert first.x1 < second.x0
    assert "…" in texts(figure)


def test_tokens_are_asked_for_that_never_came(tmp_path: Path) -> None:
    refused = summarise(run(tmp_path, [record("a", outcome="connection_error", first_token_s=None)]))
    assert "no request got a token" in texts(draw(timeline, refused))


def test_fairness_has_a_hole_where_it_is_not_measured(tmp_path: Path) -> None:
    parts = [part("one/measure", 0, 10, "ab"), part("two/measure", 20, 30, "ab")]
    records = [record(name, place, scheduled_s=place * 5.0 + 1) for name in "ab" for place in (0, 1, 4, 5)]
    axes, *_ = draw(fairness, summarise(run(tmp_path, records, info={"phases": parts, "ended_s": 30.0}))).axes
    values, edges, _ = axes.patches[0].get_data()  # type: ignore[attr-defined]
    assert edges.tolist() == [0, 5, 10, 20, 25, 30]
    assert np.isnan(values).tolist() == [False, False, True, False, False]


E, F = "http://127.0.0.1:40001", "http://127.0.0.1:40002"
GPU = "SIM-0123456789"


@cache
def observed(gpus: int, points: int, *, servers: bool = True, simulated: bool = True) -> Summary:
    """Two tenants with a server each, on so many devices."""
    times = [index * 12 / points for index in range(points)]
    server = [
        sample
        for url, load in ((E, 0.5), (F, 0.9))
        for sample in (
            *sampled(url, "kv_cache_usage", *((t_s, load) for t_s in times)),
            *sampled(url, "requests_running", *((t_s, 8) for t_s in times)),
            *sampled(url, "requests_waiting", *((t_s, 2) for t_s in times)),
            *sampled(url, "preemptions_total", (0, 0), (3, 2), (6, 5)),
        )
    ]
    devices = [f"{GPU}-{place}" for place in range(gpus)]
    gpu = [
        sample
        for device in devices
        for metric, value in (("gpu_utilization_ratio", 0.9), ("memory_used_bytes", 8 * 2.0**30), ("power_w", 60.0))
        for sample in sampled(device, metric, *((t_s, value) for t_s in times))
    ]
    missing = {"temperature_c": "not sent", "sm_clock_mhz": "not sent"}
    known = [{"device": device, "name": "Modelled GPU", "simulated": simulated} for device in devices]
    source = {"source": "dcgm", "devices": known, "unsupported": dict.fromkeys(devices, missing)}
    info = {"telemetry": {"sources": [source]}, "servers": [{"simulated": simulated}]}
    records = [record("a", 0, endpoint=E, gaps_us=[9000] * 9), record("b", 0, endpoint=F, gaps_us=[9000] * 9)]
    with tempfile.TemporaryDirectory() as name:
        folder = write_samples(Path(name), gpu=gpu, server=server if servers else (), gpu_source="dcgm")
        return summarise(run(folder, records, info=info))


def labels(figure: Figure) -> list[str]:
    return [axes.get_ylabel().replace("\n", " ") for axes in figure.axes]


def test_telemetry_has_a_panel_for_what_was_sampled_only() -> None:
    assert labels(draw(telemetry, observed(1, 12))) == [
        "output [tokens/s]",
        "KV-cache use [% of its blocks]",
        "requests in the server",
        "simulated GPU activity [% of time]",
        "simulated GPU memory [GiB]",
        "simulated GPU power [W]",
    ]
    assert labels(draw(telemetry, observed(0, 12))) == [
        "output [tokens/s]",
        "KV-cache use [% of its blocks]",
        "requests in the server",
    ]
    assert labels(draw(telemetry, observed(1, 12, servers=False, simulated=False))) == [
        "output [tokens/s]",
        "GPU activity [% of time]",
        "GPU memory [GiB]",
        "GPU power [W]",
    ]


def test_a_run_without_telemetry_has_no_picture_of_it(tmp_path: Path) -> None:
    def drawn(summary: Summary) -> list[str]:
        with quick_pictures():
            return [picture.path.name for picture in draw_figures(summary, tmp_path)]

    assert drawn(observed(1, 12))[-1] == "telemetry.png"
    assert "telemetry.png" not in drawn(summary_of(1))


def test_a_server_of_one_tenant_has_its_colour() -> None:
    usage = draw(telemetry, observed(1, 12)).axes[1]
    assert {line.get_label(): line.get_color() for line in usage.lines if len(line.get_xdata()) > 2} == {  # type: ignore[arg-type]
        "a": tenant_line(0)["color"],
        "b": tenant_line(1)["color"],
    }


def test_preemptions_are_marked_where_they_happened() -> None:
    requests = draw(telemetry, observed(1, 12)).axes[2]
    (marks,) = (line for line in requests.lines if str(line.get_label()).startswith("preemptions"))
    assert marks.get_label() == "preemptions (n = 10)"
    assert sorted(set(np.asarray(marks.get_xdata()).tolist())) == [3.0, 6.0]


def test_memory_is_drawn_in_its_unit() -> None:
    memory = draw(telemetry, observed(1, 12)).axes[4]
    (used,) = (line for line in memory.lines if line.get_label() == "used")
    assert set(np.asarray(used.get_ydata()).tolist()) == {8.0}


def test_what_a_device_does_not_support_stands_below_in_words() -> None:
    said = texts(draw(telemetry, observed(1, 12)))
    assert "unsupported on this device, Modelled GPU (simulated): temperature, SM clock" in said


@pytest.mark.parametrize("gpus", [0, 1, 4])
@pytest.mark.parametrize("points", [1, 12, 3000])
def test_telemetry_keeps_inside_its_edges(gpus: int, points: int) -> None:
    figure = laid_out(telemetry, observed(gpus, points))
    box = figure.bbox
    artists = [axes.get_legend() for axes in figure.axes]
    assert all(artists)
    for artist in (*artists, *(axes.yaxis.label for axes in figure.axes), figure.axes[-1].xaxis.label):
        assert artist is not None
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1
    for text in figure.texts:
        assert text.get_window_extent().x1 <= box.x1
        assert text.get_window_extent().y0 >= box.y0
