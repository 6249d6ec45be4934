"""What the output cost."""

from __future__ import annotations

import pytest

from analysis.cost import cost_of, joules_per_output_token


def test_cost_by_hand() -> None:
    # Two GPUs at 1.80 dollars for 1000 s: 1 dollar. b got three quarters of the service, and 1000 tokens.
    found = cost_of(1.80, 2, 1000.0, tokens=[4000, 1000], service=[10_000, 30_000])
    assert found.total == pytest.approx(200.0)
    assert list(found.tenants) == [pytest.approx(0.25 / 4000 * 1e6), pytest.approx(0.75 / 1000 * 1e6)]


def test_without_tokens_it_is_undefined() -> None:
    found = cost_of(1.0, 1, 100.0, tokens=[0, 0], service=[5, 0])
    assert found.total is None
    assert found.tenants == (None, None)
    assert cost_of(1.0, 1, 100.0, tokens=[0], service=[0]).tenants == (None,)


def test_energy_per_token_by_hand() -> None:
    assert joules_per_output_token(900.0, 300) == 3.0
    assert joules_per_output_token(900.0, 0) is None
    assert joules_per_output_token(None, 300) is None
