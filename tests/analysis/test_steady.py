"""Warm-up and drift."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.steady import Series, drift, edges_of, mann_kendall, mser5, suggest, whole_load
from analysis.summary import summarise
from tests.analysis.build import part, phases, record, run

GENERATOR = np.random.default_rng(11)


def test_mser5_worked_by_hand() -> None:
    # Means of 5: 10, 10, then ten of 0. No cut: 166.7 / 12² = 1.16; one: 90.9 / 11² = 0.75; two: 0.
    assert mser5(np.array([10.0] * 10 + [0.0] * 50)) == 10
    assert mser5(np.zeros(50)) == 0
    assert mser5(np.zeros(49)) is None  # nine batches
    assert mser5(np.array([0.0] * 60 + [10.0] * 40)) is None  # it had not settled in the first half


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=50, max_size=120))
def test_mser5_against_the_slow_reference(values: list[int]) -> None:
    batches = [sum(values[at : at + 5]) / 5 for at in range(0, len(values) - 4, 5)]
    errors = []
    for cut in range(len(batches) - 5):
        left = batches[cut:]
        mean = sum(left) / len(left)
        errors.append(sum((value - mean) ** 2 for value in left) / len(left) ** 2)
    found = mser5(np.array(values, np.float64))
    if found is not None:
        assert errors[found // 5] == pytest.approx(min(errors), abs=1e-9)
    else:
        assert min(errors[len(batches) // 2 + 1 :]) <= min(errors[: len(batches) // 2 + 1]) + 1e-9


def series(values: npt.NDArray[np.floating[Any]], step_s: float = 0.5) -> Series:
    return Series("x", np.arange(len(values), dtype=np.float64) * step_s, np.array(values, np.float64))


def test_a_warm_up_is_suggested_where_there_is_one() -> None:
    steady = GENERATOR.normal(100, 10, 200)
    warming = np.where(np.arange(200) < 30, steady * np.arange(200) / 30, steady)
    assert suggest(series(warming)) == pytest.approx(15.0, abs=5.0)


def test_steady_series_ask_for_none() -> None:
    found = [suggest(series(GENERATOR.normal(100, 10, 200))) for _ in range(100)]
    assert sum(one not in (0.0, None) for one in found) <= 5
    assert suggest(series(np.full(100, 3.0))) == 0.0
    assert suggest(series(np.empty(0))) is None


@pytest.mark.parametrize(
    ("values", "p_value"),
    [
        ([1, 2, 3, 4], 2 / 24),
        ([4, 3, 2, 1], 2 / 24),
        ([1, 2, 3, 5, 4], 2 * 5 / 120),  # Kendall's table: S = 8 of 5, 0.042 on one side
        ([1, 1, 1, 1], 1.0),
        ([], 1.0),
    ],
)
def test_mann_kendall_worked_by_hand(values: list[float], p_value: float) -> None:
    assert mann_kendall(values) == pytest.approx(p_value)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)))
def test_mann_kendall_against_all_orders(values: list[int]) -> None:
    def rising(order: tuple[int, ...]) -> int:
        return sum(
            1 if order[later] > order[earlier] else -1 for later in range(len(order)) for earlier in range(later)
        )

    seen = abs(rising(tuple(values)))
    expected = sum(abs(rising(order)) >= seen for order in permutations(range(5))) / math.factorial(5)
    assert mann_kendall(values) == pytest.approx(expected)


def test_a_drift_is_told_with_both_figures() -> None:
    found = drift(np.arange(100.0, 200.0), median=False)
    assert (found.start, found.end, found.drifts) == (109.5, 189.5, True)  # means of the first and last 20
    assert found.p_value == pytest.approx(2 / math.factorial(10))


def test_what_does_not_matter_is_no_drift() -> None:
    found = drift(np.arange(1000.0, 1040.0), median=True)
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert not found.drifts  # 3 % more
    assert not drift(np.arange(19.0), median=True).drifts  # too few
    assert drift(np.empty(0), median=False).as_json() == {"p_value": None, "from": None, "to": None, "drifts": False}


def test_steady_series_hardly_ever_drift() -> None:
    assert sum(drift(GENERATOR.exponential(1, 500), median=True).drifts for _ in range(200)) <= 10


def test_only_one_stretch_of_load_has_a_warm_up() -> None:
    both = phases(["a", "b"], ("warmup", 0, 10, False), ("measure", 10, 70, True), ("drain", 70, 80, False))
    measured = both[1:2]
    assert whole_load(both, measured) == both[1]
    assert whole_load(both, ()) is None
    assert whole_load(phases(["a"], ("one", 0, 5, True), ("two", 5, 9, True)), measured * 2) is None
    joined = (*phases(["a"], ("warmup", 0, 10, False)), *measured)
    assert whole_load(joined, measured) is None  # b was not there from the start


def test_cells_reach_back_to_the_start_of_the_load() -> None:
    assert edges_of([(25, 35), (35, 45)]).tolist() == [5, 15, 25, 35, 45]
    assert edges_of([(0, 10), (10, 20)]).tolist() == [0, 10, 20]
    assert edges_of([]).tolist() == [0]


def slow_at_first(until_s: float) -> list[Any]:
    """200 requests of 100 ms, with up to 10 ms more, to a first token; a second more before `until_s`."""
    return [
        record(
            index=index,
            scheduled_s=index / 10,
            first_token_s=index / 10 + 0.1 + (index * 7 % 10) / 1000 + (index / 10 < until_s),
            gaps_us=[10_000] * 20,
        )
        for index in range(200)
    ]


def measured_from(folder: Path, start_s: float, until_s: float) -> dict[str, Any]:
    phases_info = [part("warmup", 0, start_s, ["a", "b"], measured=False)] * (start_s > 0)
    phases_info += [part("measure", start_s, 20, ["a", "b"]), part("drain", 20, 24, [], measured=False)]
    found = run(folder, slow_at_first(until_s), info={"phases": phases_info, "ended_s": 24.0})
    return summarise(found).content


def test_a_short_warm_up_is_a_warning(tmp_path: Path) -> None:
    content = measured_from(tmp_path, 1.0, 4.0)
    assert (content["steady"]["chosen_warmup_s"], content["steady"]["statistic"]) == (1.0, "MSER-5")
    assert content["steady"]["suggested_warmup_s"] == pytest.approx(4.0, abs=1.0)
    (warning,) = (line for line in content["steady"]["warnings"] if "too short" in line)
    assert warning.startswith("the warm-up of 1 s is too short: ")
    assert content["steady"]["too_short"]
    assert warning in content["warnings"]


def test_a_long_enough_one_is_not(tmp_path: Path) -> None:
    steady = measured_from(tmp_path, 5.0, 4.0)["steady"]
    assert steady["suggested_warmup_s"] <= 5.0
    assert steady["warnings"] == []
    assert {name: one["drifts"] for name, one in steady["drift"].items()} == dict.fromkeys(
        ("output_tokens_per_s", "a ttft_scheduled_ms", "b ttft_scheduled_ms"), False
    )


def test_nothing_is_known_of_a_run_without_requests(tmp_path: Path) -> None:
    steady = summarise(run(tmp_path, [])).content["steady"]
    assert (steady["chosen_warmup_s"], steady["warnings"]) == (0.0, [])
    assert not steady["too_short"]
    assert {one["p_value"] for name, one in steady["drift"].items() if "ttft" in name} == {None}
