"""The summary as LaTeX."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.figures import Picture
from analysis.load import Slo, Tenant, load_run
from analysis.report.latex import document, escape
from analysis.summary import Summary, summarise
from tests.analysis.build import record, write_run

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = r"50% & \input{x} #1 $a_b$ {c} ~d ^e [f] <g> |h| ` '' -- × ² Σ → − 中 ,,"
PIXEL = bytes.fromhex(  # a PNG of one point
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)


@cache
def summary_of(name: str = "example", tenants: tuple[str, str] = ("a", "b")) -> Summary:
    """Thirty requests of each tenant, and one of the second that failed; 1.8 dollars per hour."""
    some = [
        record(tenant, index, scheduled_s=index * 0.3, gaps_us=[20_000] * 9, input_tokens=10)
        for tenant in tenants
        for index in range(30)
    ]
    some.append(record(tenants[1], 30, outcome="timeout"))
    profiles = [Tenant(id=tenants[0], slo=Slo(ttft_ms=600)), Tenant(id=tenants[1], weight=2)]
    cost = {"gpu_hour_usd": 1.8, "gpus": 1}
    with tempfile.TemporaryDirectory() as folder:
        return summarise(load_run(write_run(Path(folder) / "run", some, profiles, info={"name": name}, cost=cost)))


def drawn(
    folder: Path, title: str = "Time to first token", caption: str = "Dotted: the tenant's SLO."
) -> list[Picture]:
    path = folder / "figures" / "ttft_cdf.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(PIXEL)
    return [Picture(path, title, caption)]


def written(folder: Path, *, ieee: bool = False, **names: object) -> str:
    summary = summary_of(**names)
    return document(summary, drawn(folder), folder / "analysis", ieee=ieee)


def row_of(text: str, start: str) -> str:
    return next(line.strip() for line in text.splitlines() if line.strip().startswith(start))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b", r"a\_b"),
        ("95 %", r"95 \%"),
        (r"\end{document}", r"\textbackslash{}end\{document\}"),
        ("~1", r"\textasciitilde{}1"),
        ("a--b", "a-{}-b"),  # else an en dash
        ("tokens × s²", r"tokens $\times$ s$^{2}$"),
        ("[x]", "{[}x{]}"),
        ("Zürich", "Zürich"),
        ("u\u0308", "ü"),
        ("中", r"\texttt{U+4E2D}"),
        ("a\n\nb\x00", r"a b\texttt{U+0000}"),
    ],
)
def test_what_is_special_is_printed_as_it_is(text: str, expected: str) -> None:
    assert escape(text) == expected


@settings(deadline=None)
@given(st.text())
def test_no_text_can_command(text: str) -> None:
    """Without the commands that escaping puts there, nothing is left that means something to LaTeX."""
    rest = re.sub(
        r"\\(?:text[a-z]+|dots)\{(?:U\+[0-9A-F]+)?\}|\\[_%&#${}]|\$(?:\\[a-z]+|-|\^\{\d\})\$", "", escape(text)
    )
    rest = rest.replace("{[}", "").replace("{]}", "").replace("{}", "")
    assert not set(rest) & set('\\_%&#${}~^[]"`\n')


def test_a_table_worked_by_hand(tmp_path: Path) -> None:
    # 30 requests of 10 tokens in 10 s; b's timeout came to nothing. Both have a TTFT of 500 ms, TPOT of 20 ms.
    text = written(tmp_path)
    got = row_of(text, "a & 30/30")
    assert got.startswith("a & 30/30 & 0 & 30.0")
    assert r"100.0\%" in got
    assert r"\textendash{}" in row_of(text, "b & 30/31")  # without an SLO
    assert row_of(text, "a & 500").startswith(r"a & 500 & $\sim$500 & $\sim$500 & 20.0 & $\sim$20.0")
    assert row_of(text, "total & 60/61")
    assert r"\includegraphics" in text
    assert r"\graphicspath{{../figures/}}" in text
    assert "{ttft_cdf.png}" in text


def test_a_run_without_requests_has_no_numbers(tmp_path: Path) -> None:
    text = document(summarise(load_run(write_run(tmp_path, []))), [], tmp_path / "analysis")
    assert row_of(text, "a & 0/0")
    undefined = " & ".join([r"\textendash{}"] * 7)
    assert row_of(text, rf"a & {undefined}")


def test_tables_span_both_columns_of_ieee(tmp_path: Path) -> None:
    text = written(tmp_path, ieee=True)
    assert r"\documentclass[conference]{IEEEtran}" in text
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == text.count(r"\begin{tabular}")
    assert r"\begin{abstract}" in text


def test_names_of_the_run_are_escaped(tmp_path: Path) -> None:
    text = written(tmp_path, name=HOSTILE, tenants=(r"a&b\\", "50%_{x}"))
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\}" in text
    assert r"a\&b\textbackslash{}\textbackslash{} & 30/30" in text
    assert r"50\%\_\{x\} & 30/31" in text


def test_a_long_name_may_be_broken(tmp_path: Path) -> None:
    name = "a-tenant-with-a-name-that-is-longer-than-any-column"
    text = written(tmp_path, tenants=(name, "b"))
    assert name.replace("-", r"-\allowbreak{}") + " & 30/30" in text
    assert r"p{3.4cm}" in text


def compiler() -> list[str] | None:
    """What makes a PDF here."""
    if shutil.which("pdflatex"):
        return ["pdflatex", "-interaction=nonstopmode", "-halt-on-error"]
    return ["tectonic"] if shutil.which("tectonic") else None


@pytest.mark.skipif(compiler() is None, reason="neither pdflatex nor tectonic is installed")
@pytest.mark.parametrize("ieee", [False, True])
def test_it_compiles(tmp_path: Path, ieee: bool) -> None:
    text = written(tmp_path, ieee=ieee, name=HOSTILE, tenants=(r"a&b\\ " + "long_-" * 12, "[50%_{x}]"))
    made = tmp_path / "analysis"
    made.mkdir(exist_ok=True)
    (made / "report.tex").write_text(text, encoding="utf-8")
    done = subprocess.run([*(compiler() or ()), "report.tex"], cwd=made, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace")
    if done.returncode and re.search(r"File `\S+' not found|not loadable|mktextfm", said):
        pytest.skip("this LaTeX lacks a class or a font that the report takes")
    assert done.returncode == 0, said[-2000:]
    assert (made / "report.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["report.tex", "report-ieee.tex"])
def test_golden(tmp_path: Path, name: str) -> None:
    """The whole file as it was; after a change that is meant: REGOLD=1 pytest tests/analysis/test_latex.py."""
    text = written(tmp_path, ieee="ieee" in name)
    path = GOLDEN / name
    if os.environ.get("REGOLD"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
