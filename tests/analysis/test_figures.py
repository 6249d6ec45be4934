"""The pictures. A summary or figure that several tests look at is made once; none of them changes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures import draw_figures, fairness, load, tails, telemetry, throughput, timeline, ttft
from analysis.figures.style import applied, tenant_line
from analysis.load import Slo, Tenant
from analysis.summary import Summary, summarise
from tests.analysis.build import part, quick_pictures, record, run, sampled, write_samples

MODULES = (ttft, tails, throughput, fairness, timeline)


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
        figure.draw_without_rendering()
    return figure


@pytest.fixture(scope="module", autouse=True)
def _made_once() -> Iterator[None]:
    """Nothing is kept for the tests of other modules."""
    yield
    for made in (summary_of, steps, observed, draw):
        made.cache_clear()


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=Text) if isinstance(text, Text))


def test_each_figure_is_a_png(tmp_path: Path) -> None:
    pictures = list(draw_figures(summary_of(2), tmp_path))
    assert [picture.path.name for picture in pictures] == [
        "ttft_cdf.png",
        "latency_tails.png",
        "throughput.png",
        "fairness.png",
        "timeline.png",
    ]
    for picture in pictures:
        assert picture.path.read_bytes().startswith(b"\x89PNG")
        assert picture.title
        assert picture.caption


@pytest.mark.parametrize("module", MODULES)
def test_a_simulated_server_is_stated(module: ModuleType) -> None:
    assert "simulated server, no GPU" in texts(draw(module, summary_of(1)))
    assert "simulated" not in texts(draw(module, summary_of(1, simulated=False)))
    assert "simulated, virtual time" in texts(draw(module, summary_of(1, time="virtual")))


@pytest.mark.parametrize("module", [ttft, tails, throughput, timeline])
def test_each_tenant_has_its_line_with_its_count(module: ModuleType) -> None:
    figure = draw(module, summary_of(8, requests=10))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == 8
    unit = " tokens)" if module is throughput else ")"
    count = 100 if module is throughput else 10
    assert all(f"(n = {count:,}{unit}" in label for label in labels)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("tenants", [1, 3, 8])
def test_nothing_hangs_over_the_edge(module: ModuleType, tenants: int) -> None:
    figure = draw(module, summary_of(tenants))
    box = figure.bbox
    for artist in (*figure.legends, *(axes.title for axes in figure.axes), *(axes.xaxis.label for axes in figure.axes)):
        extent = artist.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("tenants", [1, 8])
def test_the_legend_covers_no_panel(module: ModuleType, tenants: int) -> None:
    figure = draw(module, summary_of(tenants))
    (legend,) = figure.legends
    for axes in figure.axes:
        assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0  # type: ignore[union-attr]


@pytest.mark.parametrize("module", MODULES)
def test_without_data_the_reason_stands_in_the_panel(module: ModuleType) -> None:
    figure = draw(module, summary_of(2, requests=0))
    assert "no " in texts(figure)
    assert figure.legends == []


def test_axes_carry_units() -> None:
    summary = summary_of(1)
    for module, units in (
        (ttft, ["[ms]"]),
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
    lines = {line.get_label(): line for line in attainment.lines}
    assert np.asarray(lines["tenant-0"].get_ydata()).tolist() == [1.0, 1.0, 0.0]
    lines = {line.get_label(): line for line in wait.lines}
    assert np.asarray(lines["tenant-1"].get_ydata()).tolist() == pytest.approx([50.0, 100.0, 400.0])


@pytest.mark.parametrize("tenants", [1, 8])
def test_the_figure_of_the_loads_keeps_inside_its_edges(tenants: int) -> None:
    figure = draw(load, steps(tenants=tenants))
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
    figure = draw(timeline, summary)
    first, second = (text.get_window_extent() for text in figure.axes[0].texts)
    assert first.x1 < second.x0
    assert "…" in texts(figure)


def test_tokens_are_asked_for_that_never_came(tmp_path: Path) -> None:
    refused = summarise(run(tmp_path, [record("a", outcome="connection_error", first_token_s=None)]))
    assert "no request got a token" in texts(draw(timeline, refused))


def test_fairness_has_a_hole_where_it_is_not_measured(tmp_path: Path) -> None:
    parts = [part("one/measure", 0, 10, "ab"), part("two/measure", 20, 30, "ab")]
    records = [record(name, place, scheduled_s=place * 5.0 + 1) for name in "ab" for place in (0, 1, 4, 5)]
    (axes,) = draw(fairness, summarise(run(tmp_path, records, info={"phases": parts, "ended_s": 30.0}))).axes
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
    figure = draw(telemetry, observed(gpus, points))
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
