"""A session in a real browser: a run from the form, watched, stopped, its report opened; another; a wrong profile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import profile_text
from tests.run.test_web_ui import Ui

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = "/usr/bin/chromium"
SOON_MS = 60_000
_POSITIVE = re.compile(r"[1-9]")
_SEVERAL_POINTS = re.compile(r"L.*L")
_TWO_REPORTS = re.compile(r"report\.html.*report\.html", re.DOTALL)

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no browser at {CHROMIUM}")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[tuple[Ui, Any, list[str]]]:
    """The web UI over two load processes, a page of it, and what the page complained of or asked others for."""
    ui = Ui(tmp_path, "--processes", "2")
    (tmp_path / "profiles" / "demo.yaml").write_text(profile_text(bound="duration_s: 60"))
    complaints: list[str] = []
    inside = (ui.base, "data:", "blob:")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.on("console", lambda message: complaints.extend([message.text] if message.type == "error" else []))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on(
            "request",
            lambda request: complaints.extend([] if request.url.startswith(inside) else [request.url]),
        )
        yield ui, context, complaints
        browser.close()
    ui.stop()


def test_a_session(session: tuple[Ui, Any, list[str]], tmp_path: Path) -> None:
    ui, context, complaints = session
    expect = playwright.expect
    page = context.new_page()
    page.goto(ui.base)
    page.get_by_text("Custom parameters").click()
    profile = page.locator('select:has(option[value="profiles/wrong.yaml"])')
    profile.select_option("profiles/wrong.yaml")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert").first).to_contain_text("tenants: missing", timeout=SOON_MS)
    expect(page.get_by_text("no host attribute")).to_have_count(0)

    profile.select_option("profiles/demo.yaml")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Tenants").click()
    tokens = page.locator("tbody tr").nth(3).locator("td").nth(5)  # of all tenants, in the last 10 s
    expect(tokens).to_have_text(_POSITIVE, timeout=SOON_MS)
    before = tokens.text_content()
    expect(tokens).not_to_have_text(before, timeout=SOON_MS)
    live = context.new_page()
    live.goto(f"{ui.base}/fairshare")
    line = live.locator("#charts figure").first.locator("path").first
    expect(line).to_have_attribute("d", _SEVERAL_POINTS, timeout=SOON_MS)
    drawn = line.get_attribute("d")
    expect(line).not_to_have_attribute("d", drawn, timeout=SOON_MS)
    live.screenshot(path=tmp_path / "live.png", full_page=True)

    page.get_by_role("button", name="Stop").click()
    expect(live.locator("#verdict")).to_contain_text("the run was interrupted", timeout=SOON_MS)
    with context.expect_page() as opened:
        live.locator("#report-link").click()
    expect(opened.value.locator("body")).to_contain_text("What each tenant got", timeout=SOON_MS)
    expect(opened.value.locator("body")).to_contain_text("load processes", timeout=SOON_MS)

    page.get_by_role("button", name="New").click()
    page.get_by_text("Custom parameters").click()
    page.locator('select:has(option[value="profiles/other.yaml"])').select_option("profiles/other.yaml")
    page.get_by_role("button", name="Start").click()
    expect(live.locator("#runs")).to_contain_text(_TWO_REPORTS, timeout=SOON_MS)
    expect(live.locator("tbody[data-span=whole]")).to_contain_text("talk")
    live.screenshot(path=tmp_path / "second.png", full_page=True)
    assert complaints == []
