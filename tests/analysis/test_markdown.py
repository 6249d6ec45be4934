"""The summary as Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import load_run
from analysis.report.markdown import document, escape, table
from analysis.summary import summarise
from tests.analysis.build import record, worker, write_run
from tests.analysis.test_latex import drawn, summary_of


def written(folder: Path, **names: object) -> str:
    return document(summary_of(**names), drawn(folder), folder / "analysis")


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("<script>", "&lt;script&gt;"),
        ("a_b*c*", r"a\_b\*c\*"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("# no\nheading", r"\# no heading"),
        ("3.50", "3.50"),
        ("&lt;", "&amp;lt;"),
        ("a\\|b", r"a\\\|b"),
    ],
)
def test_what_is_special_is_shown_as_it_is(text: str, expected: str) -> None:
    assert escape(text) == expected


@settings(deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=2))
def test_no_cell_can_make_another(some: list[str]) -> None:
    text = table(["x", "y"], [map(escape, some)])
    assert len(text.split("\n")) == 4
    assert text.split("\n")[2].replace(r"\\", "").replace(r"\|", "").count("|") == 3


def test_a_table_worked_by_hand(tmp_path: Path) -> None:
    text = written(tmp_path)
    got = cells(text, "| a | 30/30")
    assert got[:3] == ["a", "30/30", "0"]
    assert got[3].startswith("30.0")  # 300 tokens in 10 s
    assert got[-1].startswith("100.0%")
    assert cells(text, "| b | 30/31")[-1] == "-"
    assert cells(text, "| a | 500")[1:6] == ["500", r"\~500", r"\~500", "20.0", r"\~20.0"]
    assert "![Time to first token](<../figures/ttft_cdf.png>)" in text
    assert text.startswith("# example\n")


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [record()], info={"workers": [worker(0, cpu_p95=0.99)], "notes": ["1. a <b> note"]})
    text = document(summarise(load_run(folder)), [], folder / "analysis")
    assert text.index("**suspect**") < text.index("CPU p95 99%") < text.index("## What each tenant got")
    assert "- note: 1. a &lt;b&gt; note" in text


def test_hostile_names_stay_in_their_cell(tmp_path: Path) -> None:
    text = written(tmp_path, name="x](y) | <img src=x>\n# z", tenants=("a|b", "[c](d)"))
    assert text.startswith("# x\\](y) \\| &lt;img src=x&gt; \\# z\n")
    assert r"| a\|b | 30/30" in text
    assert r"| \[c\](d) | 30/31" in text
    assert "<img" not in text
