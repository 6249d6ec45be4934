"""The page of a comparison: what it says first, its marks and definitions, and that it needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.compare.model import Comparison, Value
from analysis.figures.comparison import draw_comparison
from analysis.report.comparison import comparison_page, write_comparison
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.build import quick_pictures
from tests.analysis.compared import MODES, column, comparison

CHROMIUM = "/usr/bin/chromium"
HOSTILE = "<img src=x onerror=alert(1)>"
RUN = "20261128T120000Z-logical"


def page(compared: Comparison, reports: dict[str, str] | None = None) -> str:
    return comparison_page(compared, (), reports or {})


def rows(html: str, label: str) -> list[list[str]]:
    """Texts of the cells of each row that begins with the label."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", html, re.S):
        cells = [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in re.findall(r"<td.*?</td>", row, re.S)]
        if cells and cells[0].startswith(label):
            found.append(cells)
    return found


def test_the_recommendation_comes_first() -> None:
    html = page(
        comparison(column("mps"), column("mig"), recommendation=("take mps", "mig costs more"), warnings=("few runs",))
    )
    assert html.index("take mps") < html.index("mig costs more") < html.index("few runs") < html.index("<table>")
    assert "<b>Simulated, virtual time: no GPU stands behind these numbers.</b>" in html


def test_the_choice_of_each_load_stands_out() -> None:
    lines = ("scale 1: Choose mps", "scale 1: mig costs more", "scale 2: Choose mig", "scale 2: mps costs more")
    html = page(comparison(column("mps", 1), column("mps", 2), recommendation=lines))
    assert re.findall(r'<p class="leads">(.*?)</p>', html) == [lines[0], lines[2]]
    html = page(comparison(column("mps"), recommendation=("Choose mps", "mig costs more")))
    assert re.findall(r'<p class="leads">(.*?)</p>', html) == ["Choose mps"]


def test_a_column_per_mode_with_value_interval_and_marks() -> None:
    html = page(comparison(column("logical"), column("timeslice"), column("mps")))
    (output,) = rows(html, "output tokens/s")[:1]
    # 400 / 1.1 tokens/s of the builder, 6 and 12 % less, each within 5 %
    assert output == ["output tokens/s", "364 best 345–382", "342 ≈ 325–359", "320 304–336"]
    (tail,) = rows(html, "TTFT p99 ms")[:1]
    assert tail[3].startswith("~360")  # the builder's p99 of mps is indicative
    (attainment,) = rows(html, "SLO attainment")[:1]
    assert attainment[2] == "99.0% ≈ 96.0%–100.0%"


def test_what_is_undefined_is_a_dash() -> None:
    html = page(comparison(column("mps"), column("mig", values={}, tenants=())))
    assert {cells[2] for cells in rows(html, "output tokens/s")[:1]} == {"-"}


def test_loads_head_groups_of_rows_and_say_which_run_is_suspect() -> None:
    html = page(
        comparison(*(column(mode, load, suspect=("r",) if load == 2 else ()) for load in (1, 2) for mode in MODES[:2]))
    )
    titles = re.findall(r'<th colspan="3">(.*?)</th>', html)
    assert titles[:2] == ["scale 1", "scale 2; suspect: logical, timeslice"]
    assert len(rows(html, "finished requests/s")) == 2


def test_a_mode_without_a_load_has_a_dash_there() -> None:
    html = page(comparison(column("logical", 1), column("mps", 1), column("mps", 2)))
    first, second = rows(html, "finished requests/s")
    assert first[1].startswith("2.00")
    assert second[1] == "-"
    assert second[2].startswith("4.00")


def test_each_tenant_and_whether_its_slo_was_kept() -> None:
    kept = {"slo_attainment": Value(0.97), "ttft_p99_ms": Value(80.0)}
    broken = {"slo_attainment": Value(0.91), "ttft_p99_ms": Value(800.0)}
    own = comparison(
        replace(column("mps"), tenants={"chat": kept}, slo_kept={"chat": True}),
        replace(column("mig"), tenants={"chat": broken}, slo_kept={"chat": False}),
        slo_wanted={"chat": 0.95},
    )
    assert "Wanted: chat 95.0% of requests" in page(own)
    assert rows(page(own), "SLO attainment")[-1] == ["SLO attainment", "97.0%", "91.0% missed"]
    assert "No tenant has an SLO" in page(comparison(column("mps"), slo_wanted={}))


def test_emulated_suspect_and_differing_runs_are_told() -> None:
    html = page(
        comparison(
            column("mps", suspect=("20261128T120002Z-mps",)),
            column("mig_emulated"),
            differences=("tenants.chat.arrival.rate_per_s: 2 in A, 4 in B",),
        )
    )
    assert "emulated, not isolated" in html
    assert html.index("compared although they differ") < html.index("<table>")
    assert "tenants.chat.arrival.rate_per_s: 2 in A, 4 in B" in html
    assert rows(html, "mps")[-1][2] == "suspect"
    assert rows(html, "mig_emulated")[-1][2] == "valid"


def test_figures_are_defined() -> None:
    html = page(comparison(column("mps")))
    assert re.search(r'<td title="first_token_s - scheduled_s[^"]*; p99 by nearest rank', html)
    assert re.search(r"<b>Jain, service</b>: Jain&#39;s index over service / weight", html)  # once more, for print


def test_runs_link_to_their_reports() -> None:
    html = page(comparison(column("logical")), {RUN: "../a/analysis/report.html"})
    assert f'<a href="../a/analysis/report.html">{RUN}</a>' in html
    assert "<a " not in page(comparison(column("logical")))


def test_what_comes_from_a_run_is_escaped() -> None:
    html = page(
        comparison(
            column(HOSTILE, 1, tenants=(HOSTILE,), label=HOSTILE, runs=(HOSTILE,), suspect=(HOSTILE,)),
            column("mps", 2),
            recommendation=(HOSTILE,),
            warnings=(HOSTILE,),
            differences=(HOSTILE,),
            slo_wanted={HOSTILE: 0.9},
        ),
        {HOSTILE: f"../{HOSTILE}/report.html"},
    )
    assert HOSTILE not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") > 8


def test_page_and_figures_are_written_and_reports_found(tmp_path: Path) -> None:
    with_report, without = tmp_path / "runs" / RUN, tmp_path / "runs" / "other"
    (with_report / "analysis").mkdir(parents=True)
    without.mkdir()
    (with_report / "analysis" / "report.html").write_text("")
    out = tmp_path / "comparison"
    with quick_pictures():
        written = write_comparison(
            comparison(column("logical"), column("mps", runs=("other",))), out, [with_report, without]
        )
    assert written == out / "comparison.html"
    html = written.read_text()
    assert f'href="../runs/{RUN}/analysis/report.html"' in html
    assert html.count("<a ") == 1
    assert html.count("data:image/png;base64,") == 4
    assert (out / "figures" / "compare_bars.svg").is_file()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RunDirectoryError, match=r"out.* can't be written"):
        write_comparison(comparison(column("logical")), tmp_path / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    columns = [column(f"{mode}-with-a-long-name", load, label=f"{mode} {load}") for load in (1, 2) for mode in MODES]
    compared = comparison(*columns, warnings=("x" * 300,), recommendation=("y " * 200,))
    picture = next(draw_comparison(compared, folder))
    (folder / "comparison.html").write_text(comparison_page(compared, [picture], {}))
    return (folder / "comparison.html").as_uri()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_explains_and_asks_for_nothing(browser: Any, address: str, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.locator("td", has_text="TTFT p99").first.hover()
    assert "first_token_s - scheduled_s" in opened.locator("#tip").inner_text()
    assert opened.evaluate("document.querySelector('figure img').naturalWidth") > 0
    assert not opened.locator(".printed").is_visible()
    assert opened.pdf(format="A4").startswith(b"%PDF")
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    opened.close()
