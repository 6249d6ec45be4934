"""The page in a real browser: it follows the figures, says when it can't, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = "/usr/bin/chromium"
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no browser at {CHROMIUM}")

WIDTHS = {"desktop": (1280, 1000), "phone": (375, 800)}
HOSTILE = "<img src=x onerror=alert(1)>"


class _Served:
    """The page served by a process of its own, as a browser's driver and gevent don't share one."""

    def __init__(self, folder: Path, base_path: str = "") -> None:
        command = [sys.executable, "-m", "tests.live.served", str(folder), base_path]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.origin = self.process.stdout.readline().strip()
        self.url = f"{self.origin}{base_path}/fairshare"

    def say(self, words: str) -> None:
        """Change what is served, and wait until it is."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "done"

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[_Served]:
    server = _Served(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class _Page:
    """A page with all that it said and asked for."""

    def __init__(self, browser: Any, url: str, width: str = "desktop") -> None:
        columns, rows = WIDTHS[width]
        self.page = browser.new_page(viewport={"width": columns, "height": rows})
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def shows(self, selector: str, text: str) -> None:
        playwright.expect(self.page.locator(selector)).to_contain_text(text, timeout=20_000)

    def outside(self, origin: str) -> list[str]:
        return [url for url in self.asked if not url.startswith((f"{origin}/", "data:"))]


@pytest.fixture(params=sorted(WIDTHS))
def width(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_table_and_charts_follow_a_run(browser: Any, served: _Served, width: str, tmp_path: Path) -> None:
    page = _Page(browser, served.url, width)
    page.shows("#run", "No run yet")
    assert not page.page.locator("#live").is_visible()

    served.say("run 60")
    page.shows("#run", "20260101T000000Z-demo")
    page.shows("#state", "running · phase measure · 1:00 since the load began")
    page.shows("#simulated", "no GPU stands behind")
    page.shows("#summary", "Jain index 0.812")
    page.shows("#summary", "GPU GPU-0 utilization 0.97 · memory 17.0 GiB · power 212 W")
    page.shows("#notes", "no queue figure")
    cells = page.page.locator("tbody[data-span=window] tr").nth(1).locator("td")
    assert cells.all_text_contents()[:8] == ["3", "0", "2.00", "2.00", "1.50", "140", "125", "250"]
    assert cells.all_text_contents()[-1] == "3 (timeout 2, shed 1)"
    idle = page.page.locator("tbody[data-span=window] tr").nth(2).locator("td")
    assert idle.all_text_contents()[4:8] == ["–", "–", "–", "–"]

    figures = page.page.locator("#charts figure")
    assert figures.count() == 5
    first = figures.nth(0).locator("path")
    assert first.evaluate_all("paths => paths.map((path) => path.dataset.line)") == ["chat", "batch"]
    gaps = figures.nth(1).locator("path").first.get_attribute("d")
    assert gaps.count("M") == 3  # seconds 3 to 19, 23 to 39, 43 to 59: nothing is known between
    assert figures.nth(4).text_content().endswith("no data")
    before = first.first.get_attribute("d")
    page.page.screenshot(path=tmp_path / f"{width}.png", full_page=True)

    served.say("run 75")
    page.shows("#state", "1:15")
    assert first.first.get_attribute("d") != before
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.page.evaluate(overflow) <= 0
    assert page.said == []
    assert page.outside(served.origin) == []


def test_the_final_report_is_shown_and_the_next_run_takes_its_place(browser: Any, served: _Served) -> None:
    page = _Page(browser, served.url)
    served.say("run 60")
    page.shows("#run", "demo")
    assert not page.page.locator("#final").is_visible()
    served.say("report suspect")
    page.shows("#verdict", "Verdict: suspect")
    page.shows("#verdict li", "too few requests")
    report = page.page.frame_locator("#report").locator("body")
    playwright.expect(report).to_contain_text("The report of 20260101T000000Z-demo", timeout=20_000)
    page.shows("#runs", "analysis/report.html")

    served.say("next 5")
    page.shows("#run", "second")
    playwright.expect(page.page.locator("#final")).to_be_hidden(timeout=20_000)
    playwright.expect(page.page.locator("#verdict")).to_be_hidden(timeout=20_000)
    page.shows("#runs", "20260101T000000Z-demo: suspect")
    assert page.said == []


def test_a_server_that_is_gone_is_told(browser: Any, served: _Served) -> None:
    page = _Page(browser, served.url)
    served.say("run 60")
    page.shows("#run", "demo")
    served.stop()
    page.shows("#offline", "The server can't be reached since")
    page.shows("tbody[data-span=window]", "140")


def test_names_are_text_and_never_markup(browser: Any, served: _Served) -> None:
    page = _Page(browser, served.url)
    served.say(f"hostile {HOSTILE}")
    page.shows("#legend", HOSTILE)
    page.shows("tbody[data-span=window]", HOSTILE)
    page.shows("#notes", HOSTILE)
    assert page.page.locator("img").count() == 0
    assert page.said == []
    assert page.outside(served.origin) == []


def test_ten_tenants_over_a_long_run_below_a_base_path(browser: Any, tmp_path: Path) -> None:
    server = _Served(tmp_path, "/load")
    try:
        page = _Page(browser, server.url)
        server.say("many 900")
        page.shows("#state", "15:00")
        looks = "paths => paths.map((path) => [path.getAttribute('stroke'), path.getAttribute('stroke-dasharray')])"
        lines = page.page.locator("#charts figure").first.locator("path").evaluate_all(looks)
        assert len({tuple(line) for line in lines}) == 10
        page.page.screenshot(path=tmp_path / "many.png", full_page=True)
        assert page.said == []
        assert page.outside(server.origin) == []
        with urllib.request.urlopen(f"{server.url}/live.json") as answer:
            assert answer.status == 200
    finally:
        server.stop()


def test_the_tab_in_locusts_own_page(browser: Any, served: _Served, tmp_path: Path) -> None:
    served.say("run 60")
    served.say("locust running")
    page = _Page(browser, f"{served.origin}/?tab=tenants")
    page.shows("tbody tr:nth-child(1)", "chatlast 10 s321.5140125250")  # its cells, one after another
    page.shows("tbody tr:nth-child(2)", "batchlast 10 s42––––––0")
    page.shows("tbody tr:nth-child(3)", "all tenants")
    page.shows("tbody tr:nth-child(6)", "all tenantswhole run")
    served.say("run 62")  # second 62 is 6 past a multiple of 7
    page.shows("tbody tr:nth-child(1)", "1.5160125250")
    page.page.screenshot(path=tmp_path / "tab.png")
    page.page.get_by_role("tab", name="Download Data").click()
    page.shows("body", "20260101T000000Z-demo: run.json")
    assert page.page.get_by_text("Tenants: live charts and reports").get_attribute("href") == "./fairshare"
