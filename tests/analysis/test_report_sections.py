"""Interference, cost, warm-up and intervals, as rows, on a terminal and on the page."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.load import load_run
from analysis.metrics import Metric
from analysis.report import costs, interference, numbers, warmup
from analysis.report.definitions import definition
from analysis.report.html import page
from analysis.report.terminal import print_summary
from analysis.summary import Summary, summarise
from tests.analysis.build import record, write_run


def slowdown(value: float | None, **values: Any) -> dict[str, Any]:
    known = {"solo": 100.0, "shared": None if value is None else 100 * value, "count": 40, "paired": True}
    return {"value": value, "ci95": [None, None] if value is None else [value - 0.1, value + 0.1], **known, **values}


def compared() -> dict[str, Any]:
    """a waits twice as long beside b; b is not disturbed, and its TPOT is not known."""
    ranks = ("p50", "p95", "p99")

    def entry(value: float, tpot: float | None) -> dict[str, Any]:
        return {
            "slowdown": {
                "ttft_scheduled_ms": {rank: slowdown(value) for rank in ranks},
                "tpot_ms": {rank: slowdown(tpot, count=40 if tpot else 0) for rank in ranks},
                "e2e_scheduled_ms": {rank: slowdown(value, paired=False) for rank in ranks},
            },
            "throughput_ratio": {"value": 0.75, "ci95": [0.7, 0.8]},
            "isolation_leakage": {"value": 1 - 1 / value, "ci95": [None, None]},
        }

    return {
        "solo": {"a": "solo-a", "b": "20260101T000000Z-b"},
        "shared": "all",
        "tenants": {"a": entry(2.0, 1.5), "b": entry(1.0, None)},
        "matrix": {
            "metric": "e2e_scheduled_ms",
            "percentile": "p95",
            "tenants": ["a", "b"],
            "slowdown": [[None, slowdown(2.0)], [slowdown(1.0), None]],
        },
        "isolation_leakage": {
            "value": 0.5,
            "ci95": [0.4, 0.6],
            "victim": "a",
            "metric": "e2e_scheduled_ms",
            "percentile": "p95",
        },
        "sharing_efficiency": {"value": 1.5, "ci95": [None, None]},
    }


def test_what_was_compared_with_what() -> None:
    assert interference.compared(compared()) == "Together: all. Alone: a in solo-a, b in 20260101T000000Z-b."
    pairs_only = {**compared(), "shared": None}
    assert interference.compared(pairs_only).startswith("Together: never all of them. ")


STEADY: dict[str, Any] = {
    "chosen_warmup_s": 5.0,
    "suggested_warmup_s": 7.5,
    "too_short": True,
    "statistic": "MSER-5",
    "drift": {
        "output_tokens_per_s": {"p_value": 0.004, "from": 100.0, "to": 50.0, "drifts": True},
        "a ttft_scheduled_ms": {"p_value": None, "from": None, "to": None, "drifts": False},
    },
    "warnings": ["the warm-up of 5 s is too short: x settles at about 7.5 s"],
}
COST: dict[str, Any] = {
    "gpu_hour_usd": 1.0,
    "gpus": 1,
    "cost_per_million_output_tokens": 2.5,
    "tenants": {"a": 2.0, "b": None},
    "window_usd": 0.003,
    "tenants_usd": {"a": 0.003, "b": 0.0},
    "idle_usd": 0.001,
    "idle_share": 1 / 3,
}
GPU: dict[str, Any] = {"energy_j": 400.0, "joules_per_output_token": 10.0}
GPU |= {"tenants_energy_j": {"a": 300.0, "b": 100.0}, "tenants_joules_per_output_token": {"a": 7.5, "b": 40.0}}


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    """A small run, with figures as another run might have them."""
    records = [record(name, index, scheduled_s=index / 5, gaps_us=[20_000] * 9) for name in "ab" for index in range(40)]
    made = summarise(load_run(write_run(tmp_path, records)))
    content = {
        **made.content,
        "interference": compared(),
        "steady": STEADY,
        "cost": COST,
        "warnings": [*STEADY["warnings"], "<b>Locust</b> counts 3, we count 2"],
    }
    return dataclasses.replace(made, content=content)


def printed(summary: Summary, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(summary, Path("report.html"), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words_of(text: str) -> str:
    """The text of a page, with a space between cells."""
    body = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_slowdowns_are_rows() -> None:
    (_, first), (_, second) = interference.rows(compared())
    assert [cell.text for cell in first] == ["2.00"] * 3 + ["1.50"] * 3 + ["2.00"] * 3 + ["75.0%", "0.500"]
    assert first[0].below == "1.90 to 2.10"
    assert first[0].tip == (
        "200 ms together, 100 ms alone\n40 requests, paired by request index\n95 % interval 1.90 to 2.10"
    )
    assert "not paired: the schedules differ" in first[6].tip
    assert (second[3].text, second[3].value, second[3].tip) == ("-", None, "no requests to compare")


def test_the_matrix_has_a_row_per_victim() -> None:
    rows = {victim: [cell.text for cell in cells] for victim, cells in interference.matrix_rows(compared()["matrix"])}
    assert rows == {"a": ["-", "2.00"], "b": ["1.00", "-"]}


def test_interference_in_lines() -> None:
    assert list(interference.lines(compared())) == [
        "a against alone, p95: TTFT 2.00, TPOT 1.50, e2e 2.00 times as long; throughput 75.0%",
        "b against alone, p95: TTFT 1.00, TPOT -, e2e 1.00 times as long; throughput 75.0%",
        "isolation leakage 0.500 (a, e2e from schedule p95), 95 % interval 0.400 to 0.600; sharing efficiency 1.50 "
        "(1 = taking turns)",
    ]


def test_undefined_leakage_names_no_victim() -> None:
    none = {"value": None, "ci95": [None, None], "victim": None, "metric": "e2e_scheduled_ms", "percentile": "p95"}
    *_, last = interference.lines({**compared(), "isolation_leakage": none})
    assert last.startswith("isolation leakage -; sharing")
    assert dict(interference.totals({**compared(), "isolation_leakage": none}))["isolation_leakage"].tip == ""


def test_cost_and_energy_by_tenant() -> None:
    content = {"tenants": {"a": {}, "b": {}}, "cost": COST, "gpu": GPU}
    assert costs.rows(content) == [
        ("a", (0.003, 2.0, 300.0, 7.5)),
        ("b", (0.0, None, 100.0, 40.0)),
        ("total", (0.003, 2.5, 400.0, 10.0)),
        ("of it idle", (0.001, None, None, None)),
    ]
    assert list(costs.lines(content)) == [
        "cost: 2.50 USD per million output tokens; idle for 33.3% of the price",
        "energy by share of service: a 7.50, b 40.0 J per output token",
    ]


def test_without_price_and_energy_there_is_no_row() -> None:
    content: dict[str, Any] = {"tenants": {"a": {}}, "cost": None, "gpu": None}
    assert costs.rows(content) == []
    assert list(costs.lines(content)) == []
    assert costs.rows({**content, "gpu": {**GPU, "joules_per_output_token": None}}) == []


def test_the_warm_up_in_a_line() -> None:
    assert warmup.line(STEADY) == "warm-up: 5 s chosen, 7.5 s suggested by MSER-5"
    assert warmup.line({**STEADY, "suggested_warmup_s": None}) == "warm-up: 5 s chosen, no other can be suggested"
    assert warmup.line({**STEADY, "warnings": [], "too_short": False}) == (
        "warm-up: 5 s chosen, 7.5 s suggested by MSER-5, but the time between differs by no more than noise"
    )
    assert warmup.line({**STEADY, "warnings": [], "too_short": False, "chosen_warmup_s": 7.5}) == (
        "warm-up: 7.5 s chosen, 7.5 s suggested by MSER-5"
    )
    assert warmup.line(None) is None


def test_drift_is_a_row_each() -> None:
    assert list(warmup.drift_rows(STEADY)) == [
        ("output", "tokens/s", "100", "50.0", "0.004", True),
        ("a TTFT from schedule", "ms", "-", "-", "-", False),
    ]
    assert list(warmup.drift_rows(None)) == []


def test_a_definition_has_a_line_for_all_that_is_known() -> None:
    metric = Metric("x", "x", "ms", "a - b", "lower", "no request", "VTC")
    assert definition(metric) == "a - b\nunit: ms\nlower is better\nundefined: no request\nsource: VTC"
    assert definition(Metric("x", "x", "", "a - b"), "of all") == "a - b; of all"


@pytest.mark.parametrize(
    ("value", "key"), [(None, "-"), (0.1 + 0.2, "0.3"), (1234567.25, "1234567.25"), (float("inf"), "inf")]
)
def test_cells_are_sorted_by_more_digits_than_they_show(value: float | None, key: str) -> None:
    assert numbers.sort_key(value) == key


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00667, "0.00667"), (0.009996, "0.0100"), (0.0000123456, "1.23e-05"), (0.0, "0"), (12.3, "12.3"), (None, "-")],
)
def test_small_values_keep_their_digits(value: float | None, text: str) -> None:
    assert numbers.small(value) == text


def test_intervals_in_words() -> None:
    assert numbers.spread([1.0, 2.0]) == "95 % interval 1.00 to 2.00"
    assert numbers.spread([None, 2.0]) == "95 % interval - to 2.00"
    assert numbers.spread([None, None]) == numbers.spread(None) == ""
    assert numbers.spread([0.5, 1.0], numbers.share) == "95 % interval 50.0% to 100.0%"


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_has_answer_warnings_and_interference(summary: Summary, width: int) -> None:
    text = printed(summary, width)
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    for said in (
        "warning: the warm-up of 5 s is too short: x settles at about 7.5 s",
        "warning: <b>Locust</b> counts 3, we count 2",
        *summary.content["answer"],
        *interference.lines(compared()),
        "cost: 2.50 USD per million output tokens",
        "warm-up: 5 s chosen, 7.5 s suggested by MSER-5",
    ):
        assert " ".join(said.split()) in joined


def test_the_page_has_all_sections(summary: Summary) -> None:
    text = page(summary, [])
    words = words_of(text)
    assert "<b>Locust" not in text
    for said in (
        "2 warnings the warm-up of 5 s is too short",
        "Together: all. Alone: a in solo-a, b in 20260101T000000Z-b.",
        "isolation leakage , of a, e2e from schedule p95 0.500 0.400 to 0.600",
        "Who slows whom",
        "victim with a with b a - 2.00",
        "a 0.00300 2.00",
        "of it idle 0.00100",
        "Idle: 33.3% of the window",
        "Warm-up: 5 s chosen, 7.5 s suggested by MSER-5.",
        "output tokens/s 100 50.0 0.004 yes",
        "Definitions",
    ):
        assert said.replace(" ", "") in words.replace(" ", "")
    assert words.index("valid") < words.index(summary.content["answer"][0]) < words.index("2 warnings")
    assert words.index("2 warnings") < words.index("What each tenant got")
    assert 'title="200 ms together, 100 ms alone' in text


def test_without_them_the_page_says_why(tmp_path: Path) -> None:
    text = words_of(page(summarise(load_run(write_run(tmp_path, [record("a"), record("b")]))), []))
    assert "Not known: no tenant ran alone to compare with." in text
    assert "Cost and energy" not in text
