"""What tenants do to each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.interference import (
    Interference,
    Observed,
    interference,
    isolation_leakage,
    jain_progress,
    sharing_efficiency,
)
from analysis.slowdown import Ratio, Side
from tests.analysis.sides import side


def ratio(value: float | None, *replicates: float) -> Ratio:
    """A ratio with these replicates; without any a hundred that are what it is."""
    return Ratio(value, np.array(replicates or [math.nan if value is None else value] * 100))


def test_isolation_leakage_worked_by_hand() -> None:
    # b takes 4 times as long: of what it gets done alone, three quarters are gone.
    found = isolation_leakage({"a": ratio(1.25), "b": ratio(4.0)})
    assert (found.value, found.ci95, found.victim) == (0.75, (0.75, 0.75), "b")


def test_leakage_below_0_is_told() -> None:
    assert isolation_leakage({"a": ratio(0.8)}).value == pytest.approx(-0.25)


def test_leakage_without_a_slowdown_is_undefined() -> None:
    for slowdown_of in ({}, {"a": ratio(None)}, {"a": ratio(0.0)}):
        found = isolation_leakage(slowdown_of)
        assert (found.value, found.ci95, found.victim) == (None, (None, None), None)
    assert isolation_leakage({"a": ratio(None), "b": ratio(2.0)}).victim == "b"


def test_sharing_efficiency_worked_by_hand() -> None:
    # a keeps 3/4 of its throughput, b 1/2: together 1.25 times what they would get in turns.
    found = sharing_efficiency([ratio(0.75), ratio(0.5)])
    assert (found.value, found.ci95) == (1.25, (1.25, 1.25))


def test_taking_turns_is_worth_1() -> None:
    """As in weighted speedup (Snavely and Tullsen, ASPLOS 2000), which this is for throughput."""
    assert sharing_efficiency([ratio(0.5), ratio(0.5)]).value == 1


def test_efficiency_needs_every_tenant() -> None:
    for ratios in ([], [ratio(0.5), ratio(None)]):
        found = sharing_efficiency(ratios)
        assert (found.value, found.ci95) == (None, (None, None))


def test_jain_progress_worked_by_hand() -> None:
    # Progress 1/2 and 1/4: (3/4)² / (2 · (1/4 + 1/16)) = 0.5625 / 0.625.
    found = jain_progress([ratio(2.0), ratio(4.0)])
    assert found.value == pytest.approx(0.9)
    assert list(found.ci95) == [pytest.approx(0.9)] * 2


def test_progress_of_tenants_slowed_alike_is_fair() -> None:
    assert jain_progress([ratio(3.0)] * 4).value == pytest.approx(1)


def test_progress_needs_every_tenant() -> None:
    for ratios in ([], [ratio(2.0), ratio(None)], [ratio(2.0), ratio(0.0)]):
        found = jain_progress(ratios)
        assert (found.value, found.ci95) == (None, (None, None))


@given(st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), min_size=1, max_size=5))
def test_against_a_slow_reference(replicates: list[list[float]]) -> None:
    ratios = [ratio(each[0], *each) for each in replicates]
    efficiency, progress = sharing_efficiency(ratios), jain_progress(ratios)
    for k in range(3):
        total, squares = 0.0, 0.0
        for each in replicates:
            total += 1 / each[k]
            squares += (1 / each[k]) ** 2
        assert progress.replicates[k] == pytest.approx(total * total / len(replicates) / squares)
        assert efficiency.replicates[k] == pytest.approx(math.fsum(each[k] for each in replicates))
    assert efficiency.value == pytest.approx(efficiency.replicates[0])
    assert progress.value == pytest.approx(progress.replicates[0])
    worst = max(range(len(ratios)), key=lambda k: replicates[k][0])
    leaked = isolation_leakage({str(k): one for k, one in enumerate(ratios)})
    assert leaked.value == 1 - 1 / replicates[worst][0]


# --- all of it

MANY = 20


def of_length(e2e_ms: float, tokens: float, **values: Any) -> Side:
    """A request a second for 20 s, all alike, and as many tokens in each of ten cells."""
    return side(*[e2e_ms] * MANY, tokens=[tokens] * 10, length_s=MANY, **values)


def found(**values: Any) -> Interference:
    """a takes 100 ms alone, 150 with b, 300 with all; b 200, 200 and 400; c 50, and 100 with all."""
    observed: dict[str, Any] = {
        "tenants": ("a", "b", "c"),
        "solo": {"a": of_length(100, 4), "b": of_length(200, 2), "c": of_length(50, 2)},
        "shared": {"a": of_length(300, 2), "b": of_length(400, 2), "c": of_length(100, 1)},
        "beside": {("a", "b"): of_length(150, 3), ("b", "a"): of_length(200, 2)},
        "solo_names": {"a": "solo-a", "b": "solo-b", "c": "solo-c"},
        "shared_name": "all",
    }
    compared = interference(Observed(**(observed | values)))
    assert compared is not None
    orjson.dumps(compared.content)
    return compared


def test_everything_worked_by_hand() -> None:
    content = found().content
    assert content["solo"] == {"a": "solo-a", "b": "solo-b", "c": "solo-c"}
    assert content["shared"] == "all"
    tenants = content["tenants"]
    assert {name: entry["slowdown"]["e2e_scheduled_ms"]["p95"]["value"] for name, entry in tenants.items()} == {
        "a": 3.0,
        "b": 2.0,
        "c": 2.0,
    }
    assert {name: entry["throughput_ratio"]["value"] for name, entry in tenants.items()} == {"a": 0.5, "b": 1, "c": 0.5}
    assert tenants["b"]["isolation_leakage"]["value"] == 0.5
    assert content["isolation_leakage"] == {
        "value": pytest.approx(2 / 3),
        "ci95": [pytest.approx(2 / 3)] * 2,
        "victim": "a",
        "metric": "e2e_scheduled_ms",
        "percentile": "p95",
    }
    assert content["sharing_efficiency"] == {"value": 2.0, "ci95": [2.0, 2.0]}
    # (1/3 + 1/2 + 1/2)² / (3 · (1/9 + 1/4 + 1/4)) = (16/9) / (11/6)
    assert found().jain_progress.value == pytest.approx(32 / 33)


def test_the_matrix_has_victims_as_rows_and_aggressors_as_columns() -> None:
    matrix = found().content["matrix"]
    assert (matrix["metric"], matrix["percentile"], matrix["tenants"]) == ("e2e_scheduled_ms", "p95", ["a", "b", "c"])
    values = [[None if cell is None else cell["value"] for cell in row] for row in matrix["slowdown"]]
    assert values == [[None, 1.5, None], [1.0, None, None], [None, None, None]]
    assert matrix["slowdown"][0][1]["paired"] is True


def test_a_tenant_that_never_was_alone_is_left_out_and_so_are_the_sums() -> None:
    compared = found(solo={"a": of_length(100, 4)}, solo_names={"a": "solo-a"})
    assert list(compared.content["tenants"]) == ["a"]
    assert compared.content["isolation_leakage"]["victim"] == "a"
    assert compared.content["sharing_efficiency"]["value"] is None
    assert compared.jain_progress.value is None
    assert compared.content["matrix"]["slowdown"][1] == [None, None, None]


def test_pairs_without_all_together() -> None:
    compared = found(shared={}, shared_name=None)
    assert compared.content["tenants"] == {}
    assert compared.content["shared"] is None
    assert compared.content["isolation_leakage"]["value"] is None
    assert compared.content["matrix"]["slowdown"][0][1]["value"] == 1.5


def test_nothing_to_compare() -> None:
    assert interference(Observed(("a", "b"), {}, {"a": of_length(1, 1)}, {}, {}, "all")) is None
    assert interference(Observed((), {}, {}, {}, {}, None)) is None
    assert interference(Observed(("a",), {"a": of_length(1, 1)}, {}, {}, {"a": "solo-a"}, None)) is None


def test_all_failed_beside_others() -> None:
    compared = found(shared={name: of_length(math.nan, 0) for name in "abc"})
    entry = compared.content["tenants"]["a"]
    assert entry["slowdown"]["e2e_scheduled_ms"]["p95"]["value"] is None
    assert entry["isolation_leakage"] == {"value": None, "ci95": [None, None]}
    assert entry["throughput_ratio"]["value"] == 0
    assert compared.content["sharing_efficiency"]["value"] == 0
    assert compared.jain_progress.value is None
