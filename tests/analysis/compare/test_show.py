"""The table, comparison.json, .csv and .md of a comparison that is always the same.

`REGOLD=1 pytest tests/analysis/compare/test_show.py` writes golden/comparison.md anew.
"""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from analysis.compare import markdown
from analysis.compare.comparison import Compared
from analysis.compare.files import to_csv, to_json, write_files
from analysis.compare.model import Comparison, Row, Value
from analysis.compare.noise import marked
from analysis.compare.table import print_comparison
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.compared import ROWS, column, comparison

GOLDEN = Path(__file__).parent / "golden" / "comparison.md"


def example(*loads: float | None) -> Comparison:
    """Three modes at each load: one plain, one with a suspect run, one that is emulated and lacks a figure."""
    columns = []
    for load in loads or (None,):
        plain, doubted, emulated = (column(mode, load) for mode in ("logical", "mps", "mig_emulated"))
        doubted = replace(doubted, suspect=doubted.runs)
        emulated = replace(emulated, values={**emulated.values, "isolation_leakage": Value(None)})
        columns += [plain, doubted, replace(emulated, runs=("a_1", "a_2", "a_3"))]
    rows = tuple(marked(row.key, row.label, row.unit, row.direction, columns) for row in ROWS)
    shown = comparison(
        *columns,
        differences=("run.warmup_s: 2 in A, 4 in B",),
        warnings=("mps: suspect, 20261128T120002Z-mps: too few",),
        recommendation=("Choose logical: the cheapest.", "mps: -6% tokens/s, cost +4% (its run is suspect)."),
    )
    return replace(shown, rows=rows)


def printed(shown: Comparison, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    print_comparison(shown, console)
    return console.export_text()


def test_golden_markdown() -> None:
    text = markdown.document(example(1.0, 2.0))
    if os.environ.get("REGOLD"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_names_are_no_markup_in_markdown() -> None:
    text = markdown.document(comparison(column("logical", label="a|b<script>_x_")))
    assert "a\\|b\\<script>\\_x\\_" in text


def test_the_table_says_first_what_differs() -> None:
    lines = [line.rstrip() for line in printed(example(), 100).splitlines()]
    assert lines[:2] == [
        "differs: run.warmup_s: 2 in A, 4 in B",
        "warning: mps: suspect, 20261128T120002Z-mps: too few",
    ]
    [titles] = [line.split() for line in lines if line.split()[:2] == ["logical", "mps"]]
    assert titles == ["logical", "mps", "mig_emulated"]
    below = lines[lines.index(next(line for line in lines if "mig_emulated" in line)) + 1 :]
    assert below[0].split() == ["suspect", "emulated,"]
    assert below[1].split() == ["not", "isolated"]
    [output] = [line for line in lines if line.startswith("output, tokens/s")]
    assert output.split()[2:] == ["364*", "320", "276"]
    [leakage] = [line for line in lines if line.startswith("isolation leakage")]
    assert leakage.split()[-1] == "-"
    [ttft] = [line for line in lines if line.startswith("TTFT p99")]
    assert ttft.split()[3:] == ["120*", "~360", "600"]
    assert lines[-2:] == ["Choose logical: the cheapest.", "mps: -6% tokens/s, cost +4% (its run is suspect)."]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_nothing_is_cut_where_the_terminal_is_narrow(width: int) -> None:
    text = printed(example(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert all(figure in text for figure in ("364*", "320", "276"))


def test_a_table_per_load() -> None:
    lines = [line.rstrip() for line in printed(example(1.0, 2.0), 100).splitlines()]
    assert [line for line in lines if line.startswith("scale")] == ["scale 1", "scale 2"]


def test_json() -> None:
    shown = example()
    values = {**shown.columns[0].values, "ttft_p99_ms": Value(math.inf)}
    shown = replace(shown, columns=(replace(shown.columns[0], values=values), *shown.columns[1:]))
    content = orjson.loads(to_json(Compared(shown, {})))
    assert content["schema"] == 1
    assert content["columns"][0]["values"]["ttft_p99_ms"]["value"] == "inf"
    assert content["columns"][2]["values"]["isolation_leakage"] == {
        "value": None,
        "ci95": [None, None],
        "certified": True,
    }
    assert content["rows"][0]["best"] == [0]
    assert content["limits"] == []


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(example(2.0)))))
    [row] = [one for one in rows if (one["mode"], one["tenant"], one["metric"]) == ("mps", "total", "ttft_p99_ms")]
    assert (row["load"], row["runs"], row["suspect"], row["certified"]) == ("2.0", "1", "1", "False")
    assert (row["value"], row["ci95_low"], row["ci95_high"]) == ("1440.0", "1152.0", "1728.0")
    undefined = [one for one in rows if one["value"] == ""]
    assert {one["metric"] for one in undefined} == {"isolation_leakage"}
    assert {one["tenant"] for one in rows} == {"total", "chat", "batch"}


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="name another folder with --out"):
        write_files(Compared(example(), {}), tmp_path / "file")


def test_a_row_without_a_unit_is_a_ratio() -> None:
    shown = comparison(column("logical", values={"x": Value(0.5)}))
    shown = replace(shown, rows=(Row("x", "X", "", "higher"),))
    assert "0.500" in printed(shown, 80)
