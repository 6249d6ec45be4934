"""Fairness indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fairness import Indices, Shares, indices, jain, max_min_ratio, service_asked, shares
from analysis.load import Slo, Tenant
from analysis.tokens import tabulate
from analysis.window import Window
from fairshare_locust.record import RequestRecord
from tests.analysis import reference
from tests.analysis.build import columns, profile, record
from tests.analysis.random_records import records


@pytest.mark.parametrize("users", [1, 10, 20, 100])
def test_jains_own_example(users: int) -> None:
    """Jain, Chiu, Hawe 1984: 20 dollars shared equally by k of 100 persons are fair to k per cent."""
    assert jain([20 / users] * users + [0.0] * (100 - users)) == pytest.approx(users / 100)


def test_jain_by_hand() -> None:
    assert jain([1, 2, 3]) == pytest.approx(36 / 42)
    assert jain([5]) == 1.0
    assert jain([0, 0]) is None
    assert jain([]) is None


@settings(deadline=None)
@given(st.lists(st.just(0.0) | st.floats(1e-100, 1e200), min_size=1, max_size=8), st.floats(0.01, 100))
def test_jain_lies_between_one_share_and_one_and_knows_no_scale(values: list[float], scale: float) -> None:
    index = jain(values)
    if max(values) == 0:
        assert index is None
    else:
        assert index is not None
        assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
        assert jain([value * scale for value in values]) == pytest.approx(index, rel=1e-6)


def test_ratio_by_hand() -> None:
    assert max_min_ratio(np.array([2.0, 6.0, 3.0])) == 3.0
    assert max_min_ratio(np.array([0.0, 6.0])) is None
    assert max_min_ratio(np.array([])) is None


def shared(tokens: list[float], scheduled: list[int], **values: list[float]) -> Shares:
    """One stretch."""

    def column(numbers: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(numbers, np.float64).reshape(-1, 1)

    return Shares(
        tokens=column(tokens),
        service=column(values.get("service", tokens)),
        service_asked=column(values.get("asked", tokens)),
        scheduled=np.array(scheduled, np.int64).reshape(-1, 1),
        met=np.array(values.get("met", [0] * len(tokens)), np.int64).reshape(-1, 1),
    )


def test_indices_by_hand() -> None:
    three = profile(
        Tenant(id="a", weight=1, slo=Slo(ttft_ms=1)), Tenant(id="b", weight=2, slo=Slo(ttft_ms=1)), Tenant(id="c")
    )
    counted = shared([10, 60, 20], [4, 10, 1], service=[20, 80, 40], asked=[40, 40, 50], met=[1, 5, 1])
    found = indices(counted, three)
    assert found.jain_throughput == pytest.approx(60**2 / (3 * (100 + 900 + 400)))  # 10, 30, 20
    assert found.jain_service == pytest.approx(100**2 / (3 * (400 + 1600 + 1600)))  # 20, 40, 40
    assert found.jain_demand == pytest.approx(2.3**2 / (3 * (0.25 + 1 + 0.64)))  # 0.5, 1 (no more than asked), 0.8
    assert found.max_min_ratio == 3.0
    assert found.attainment_gap == pytest.approx(0.25)  # 1/4 and 5/10; c has no SLO


def test_an_idle_tenant_takes_no_part() -> None:
    assert indices(shared([10, 0], [3, 0]), profile()).jain_throughput == 1.0
    assert indices(shared([10, 0], [3, 1]), profile()).jain_throughput == 0.5


def test_nothing_to_compare_is_undefined() -> None:
    assert indices(shared([0, 0], [0, 0]), profile()) == Indices(
        jain_throughput=None, jain_service=None, jain_demand=None, max_min_ratio=None, attainment_gap=None
    )


def test_what_a_request_asks_for() -> None:
    asked = service_asked(
        columns(
            [
                record(input_tokens=10, output_tokens=5, requested_output_tokens=99),  # ok: what it got
                record(input_tokens=10, first_token_s=None, requested_output_tokens=99),  # ok without a token: nothing
                record(input_tokens=10, outcome="timeout", requested_output_tokens=8),
                record(outcome="shed"),
            ]
        ),
        profile(),
    )
    assert asked.tolist() == [20, 0, 26, 0]


@settings(deadline=None)
@given(records())
def test_shares_against_the_slow_reference(some: list[RequestRecord]) -> None:
    requests = columns(some)
    spans = Window.of_seconds((1, 4), (5, 9)).sub_windows(2)
    met = np.array([index % 2 == 0 for index in range(len(some))], np.bool_)
    table = tabulate(requests, 2, met, [Window((span,)) for span in spans])
    found = shares(requests, profile(), table, met, spans)
    for code, tenant in enumerate("ab"):
        for index, (start, end) in enumerate(spans):

            def inside(stamp: float, start: int = start, end: int = end) -> bool:
                return start <= reference.seconds(stamp) * 10**9 < end

            mine = [one for one in some if one.tenant == tenant]
            tokens = sum(float(count) for one in mine for time, count in reference.chunks(one) if inside(float(time)))
            inputs = sum(
                one.input_tokens or 0 for one in mine if one.first_token_s is not None and inside(one.first_token_s)
            )
            due = [one for one in mine if inside(one.scheduled_s)]
            assert found.tokens[code, index] == pytest.approx(tokens)
            assert found.service[code, index] == pytest.approx(inputs + 2 * tokens)
            assert found.scheduled[code, index] == len(due)
            assert found.met[code, index] == sum(one.index % 2 == 0 for one in due)
    together = found.together()
    assert together.tokens[:, 0] == pytest.approx(found.tokens.sum(axis=1))
    assert math.isclose(together.scheduled.sum(), found.scheduled.sum())
