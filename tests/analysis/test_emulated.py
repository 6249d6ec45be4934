"""Emulated slices are never shown without saying that they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.report import latex, markdown
from analysis.report.html import page
from analysis.report.terminal import print_summary
from analysis.summary import Summary, emulated_how, summarise
from tests.analysis.build import record, run


def summary_of(folder: Path, sharing: str) -> Summary:
    server: dict[str, Any] = {"endpoint": "http://127.0.0.1:1", "engine": "vllm", "sharing": sharing, "model": "m"}
    server |= {"simulated": False, "command": []}
    records = [record(tenant, index, scheduled_s=float(index)) for tenant in "ab" for index in range(8)]
    return summarise(run(folder, records, info={"servers": [server]}))


def shown(summary: Summary, folder: Path) -> dict[str, str]:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    print_summary(summary, folder / "report.html", console)
    assert isinstance(console.file, io.StringIO)
    return {
        "terminal": console.file.getvalue(),
        "page": page(summary, []),
        "markdown": markdown.document(summary, [], folder),
        "latex": latex.document(summary, [], folder),
    }


@pytest.mark.parametrize("sharing", ["mig_emulated", "mig"])
def test_every_report_says_it(sharing: str, tmp_path: Path) -> None:
    summary = summary_of(tmp_path, sharing)
    said = {name: "emulated, not isolated" in text for name, text in shown(summary, tmp_path).items()}
    assert said == dict.fromkeys(said, sharing == "mig_emulated")


def test_it_names_the_mode(tmp_path: Path) -> None:
    assert emulated_how(summary_of(tmp_path, "mig_emulated").content["run"]) == "mig_emulated: emulated, not isolated"
