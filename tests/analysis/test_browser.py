"""The report in a real browser: tables sort, definitions show, it fits a phone and paper, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.load import Slo, Tenant, load_run
from analysis.metrics import METRICS
from analysis.report.environment import script
from analysis.report.html import page as rendered
from analysis.summary import summarise
from tests.analysis.build import record, sampled, write_run, write_samples
from tests.analysis.test_golden_report import small_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = "/usr/bin/chromium"

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no browser at {CHROMIUM}")

HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "a-tenant-with-a-name-that-is-longer-than-a-phone-is-wide-and-has-no-space"
E = "http://127.0.0.1:40001"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four tenants, one of which has no name to trust, one of which failed."""
    folder = tmp_path_factory.mktemp("browser")
    tenants = ["chat", "batch", HOSTILE, LONG]
    records = [
        record(
            tenant,
            index,
            scheduled_s=index * 9 / count,
            first_token_s=index * 9 / count + ttft_s,
            gaps_us=[20_000] * 9,
            endpoint=E,
        )
        for tenant, count, ttft_s in (("chat", 200, 0.1), ("batch", 9, 1.2), (LONG, 80, 0.3))
        for index in range(count)
    ]
    records += [record(HOSTILE, index, outcome="http_error", status=500, error=HOSTILE) for index in range(3)]
    write_samples(
        folder,
        server=sampled(E, "kv_cache_usage", (1, 0.5), (9, 0.7)),
        gpu=sampled("SIM-1", "power_w", (0, 50), (10, 50)),
    )
    slos = {"chat": Slo(ttft_ms=500)}
    write_run(
        folder,
        records,
        [Tenant(id=name, slo=slos.get(name)) for name in tenants],
        cost={"gpu_hour_usd": 1, "gpus": 1},
        info={"notes": [HOSTILE]},
    )
    path = folder / "report.html"
    path.write_text(rendered(summarise(load_run(folder)), []), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class _Opened:
    """A report in a page of its own, with all that it said and asked for."""

    def __init__(self, browser: Any, report: Path, width: int = 1280, **context: Any) -> None:
        self.page = browser.new_context(viewport={"width": width, "height": 844}, **context).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())
        self.own = report.as_uri()

    @property
    def tenants(self) -> Any:
        """The first table."""
        return self.page.locator("table.sortable").first

    def column(self, place: int) -> list[str]:
        """The cells of a column of the first table."""
        cells: list[str] = self.tenants.locator(f"tbody tr td:nth-child({place})").all_text_contents()
        return cells

    def quiet(self) -> bool:
        """Nothing was said, and nothing asked for but the page and what stands in it."""
        return self.said == [] and [url for url in self.asked if not url.startswith("data:")] == [self.own]


def test_a_table_sorts_by_its_headings(browser: Any, report: Path) -> None:
    opened = _Opened(browser, report)
    names = opened.column(1)
    assert names == ["chat", "batch", HOSTILE, LONG, "total"]
    heading = opened.tenants.locator("thead th").nth(5)  # TTFT p50: 100, 1,200, none, 300 ms
    assert heading.get_attribute("aria-sort") == "none"

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert opened.column(6)[:4] == ["100", "~300", "~1,200", "-"] or opened.column(6)[:4] == [
        "100",
        "300",
        "~1,200",
        "-",
    ]
    assert opened.column(1) == ["chat", LONG, "batch", HOSTILE, "total"]

    heading.locator("button").press("Enter")  # the keyboard does the same; what is undefined stays last
    assert heading.get_attribute("aria-sort") == "descending"
    assert opened.column(1) == ["batch", LONG, "chat", HOSTILE, "total"]

    heading.locator("button").press(" ")
    assert heading.get_attribute("aria-sort") == "none"
    assert opened.column(1) == names

    opened.tenants.locator("thead th button").first.click()
    assert opened.column(1)[:2] == sorted(names[:4], key=str.lower)[:2] or opened.column(1)[-1] == "total"
    assert heading.get_attribute("aria-sort") == "none"
    assert opened.quiet()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (["~1,200", "90.5%", "-", "inf", "3"], ["3", "90.5%", "~1,200", "inf", "-"]),
        (["b", "a10", "a9", "-"], ["a9", "a10", "b", "-"]),
        (["-5", "0.001", "1e-05", "-inf"], ["-inf", "-5", "1e-05", "0.001"]),
    ],
)
def test_cells_sort_by_what_they_mean(browser: Any, report: Path, shown: list[str], expected: list[str]) -> None:
    opened = _Opened(browser, report)
    opened.page.evaluate(
        """(shown) => {
            const table = document.createElement("table");
            table.id = "made";
            table.innerHTML = "<thead><tr><th>x</th></tr></thead><tbody></tbody>";
            for (const text of shown) table.tBodies[0].insertRow().insertCell().textContent = text;
            document.body.append(table);
            makeSortable(table);
        }""",
        shown,
    )
    opened.page.locator("#made th button").click()
    assert opened.page.locator("#made td").all_text_contents() == expected


def test_definitions_show_on_hover_focus_and_tap(browser: Any, report: Path) -> None:
    opened = _Opened(browser, report)
    tip = opened.page.locator("#tip")
    assert tip.is_hidden()
    heading = opened.tenants.locator("thead th").nth(5)
    heading.hover()
    assert METRICS["ttft_scheduled_ms"].formula in tip.inner_text()
    assert heading.get_attribute("aria-describedby") == "tip"
    opened.page.keyboard.press("Escape")
    assert tip.is_hidden()

    opened.tenants.locator("tbody td").nth(5).hover()
    assert "200 samples, 95 % interval" in tip.inner_text()
    opened.page.mouse.move(5, 5)
    assert tip.is_hidden()

    opened.tenants.locator("thead th button").nth(4).focus()
    opened.page.keyboard.press("ArrowRight")
    assert METRICS["ttft_scheduled_ms"].formula in tip.inner_text()
    opened.page.keyboard.press("ArrowDown")
    assert "200 samples" in tip.inner_text()
    assert opened.page.locator("[title]").count() == 0  # or the browser would show its own as well
    assert opened.quiet()

    phone = _Opened(browser, report, 390, has_touch=True, is_mobile=True)
    phone.tenants.locator("tbody td").nth(5).tap()
    assert "200 samples" in phone.page.locator("#tip").inner_text()
    box = phone.page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_screen(browser: Any, report: Path, width: int) -> None:
    opened = _Opened(browser, report, width)
    assert opened.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert opened.page.locator("h2").all_text_contents()[0] == "What each tenant got"
    assert opened.quiet()


def test_a_server_can_admit_the_script_and_no_other(browser: Any, report: Path) -> None:
    """As the live view does, by the script's hash."""
    own = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{own}'; img-src data:"
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    headers = {"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
    page.route("**/*", lambda route: route.fulfill(body=report.read_text(encoding="utf-8"), headers=headers))
    page.goto("http://report.invalid/")
    page.locator("thead th").nth(5).hover()
    assert METRICS["ttft_scheduled_ms"].formula in page.locator("#tip").inner_text()
    assert said == []


def test_without_a_script_everything_is_there(browser: Any, report: Path) -> None:
    opened = _Opened(browser, report, java_script_enabled=False)
    assert METRICS["ttft_scheduled_ms"].formula in opened.tenants.locator("thead th").nth(5).get_attribute("title")
    assert opened.page.locator("#definitions ~ .wide").inner_text().count(METRICS["ttft_scheduled_ms"].formula) >= 1
    assert opened.quiet()


def test_it_prints_with_all_columns(browser: Any, report: Path) -> None:
    opened = _Opened(browser, report, 794)  # A4 at 96 dots per inch
    opened.page.emulate_media(media="print")
    paper_px = 794 - 2 * 12 / 25.4 * 96
    opened.page.set_viewport_size({"width": int(paper_px), "height": 1000})
    widest = opened.page.evaluate(
        "Math.max(...[...document.querySelectorAll('table')].map((table) => table.getBoundingClientRect().right))"
    )
    assert widest <= paper_px
    assert opened.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_slowdowns_fit_on_a_desktop(browser: Any, tmp_path: Path) -> None:
    """All of their columns, down to the leakage at the right, without a scroll bar."""
    path = tmp_path / "report.html"
    path.write_text(rendered(summarise(load_run(small_run(tmp_path / "run"))), []), encoding="utf-8")
    opened = _Opened(browser, path, 1280)
    hidden = opened.page.evaluate(
        "(box => box.scrollWidth - box.clientWidth)(document.querySelector('.dense').parentElement)"
    )
    assert hidden <= 0
