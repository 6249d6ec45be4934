"""What is recommended, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.compare.model import Column, Value
from analysis.compare.recommend import recommend
from tests.analysis.compared import column, near

WANTED = {"chat": 0.95}


def mode(
    name: str,
    *,
    cost: float | None,
    output: float = 100.0,
    chat: float | None = 0.99,
    ttft: float = 100.0,
    arm: float = 0.01,
    load: float | None = None,
    **changes: Any,
) -> Column:
    """A column with a tenant `chat` of so much attainment, and one without SLO."""
    values: dict[str, Value] = {
        "cost_per_million_output_tokens": near(cost, arm),
        "output_tokens_per_s": near(output, arm),
        "ttft_p99_ms": near(ttft, arm),
    }
    given: dict[str, Any] = {
        "values": values,
        "tenants": {"chat": {"slo_attainment": Value(chat)}, "batch": {}},
        "slo_kept": {"chat": None if chat is None else chat >= 0.95, "batch": None},
    }
    return replace(column(name, load), **(given | changes))


def test_the_cheapest_that_keeps_every_slo() -> None:
    lines = recommend(
        [
            mode("logical", cost=1.0, chat=0.90),
            mode("timeslice", cost=3.0, output=50),
            mode("mps", cost=2.0, output=100, ttft=200),
            mode("mig_emulated", cost=2.5, output=80, ttft=140),
        ],
        WANTED,
    )
    assert lines == (
        "Choose mps: of the 3 modes that keep every tenant's SLO, the cheapest, 2.00 USD per million output tokens.",
        "logical: TTFT p99 -50%, cost -50%, but chat misses its SLO (90.0% < 95.0%).",
        "timeslice: -50% tokens/s, TTFT p99 -50%, cost +50%.",
        "mig_emulated (emulated, not isolated): -20% tokens/s, TTFT p99 -30%, cost +25%.",
    )


def test_the_only_one_that_keeps_every_slo() -> None:
    chosen, other = recommend([mode("logical", cost=1.0, chat=0.5), mode("mig", cost=9.0)], WANTED)
    assert chosen == "Choose mig: the only mode that keeps every tenant's SLO, 9.00 USD per million output tokens."
    assert "chat misses its SLO (50.0% < 95.0%)" in other


def test_costs_within_noise_are_told() -> None:
    chosen, other = recommend([mode("logical", cost=1.0, arm=0.1), mode("mps", cost=1.1, arm=0.1)], WANTED)
    assert chosen.endswith("the cheapest, 1.00 USD per million output tokens. mps is within noise of it.")
    assert other == "mps: no difference beyond noise."


def test_noise_that_is_not_known_is_told() -> None:
    plain = Value(2.0)
    other = mode("mps", cost=1.0, values={"cost_per_million_output_tokens": plain})
    chosen, instead = recommend([mode("logical", cost=1.0), other], WANTED)
    assert chosen.endswith("Whether the difference from mps is noise is not known.")
    assert instead == "mps: cost +100% (unsure)."


def test_none_keeps_every_slo() -> None:
    lines = recommend([mode("logical", cost=1.0, chat=0.5), mode("mps", cost=9.0, chat=0.9)], WANTED)
    assert lines[0] == ("No mode keeps every tenant's SLO. mps comes nearest: chat misses its SLO (90.0% < 95.0%).")
    assert lines[1] == "logical: cost -89%, but chat misses its SLO (50.0% < 95.0%)."


def test_without_an_slo_cost_decides_then_output() -> None:
    priced = recommend([mode("logical", cost=2.0), mode("mps", cost=1.0)], {})
    assert priced[0].startswith("No tenant has an SLO, so none can break. Choose mps: the cheapest, 1.00 USD")
    free = recommend([mode("logical", cost=None, output=50), mode("mps", cost=None, output=100)], {})
    assert free[0] == (
        "No tenant has an SLO, so none can break. Choose mps: the one with the most output, 100 tokens/s. "
        "There is no price per hour (cost.gpu_hour_usd), so cost is not known."
    )


def test_a_suspect_run_is_not_recommended_without_saying_so() -> None:
    doubted = mode("logical", cost=1.0, suspect=("20261128T120000Z-logical",))
    chosen, _ = recommend([doubted, mode("mps", cost=2.0)], WANTED)
    assert chosen.endswith(
        "But its run is suspect: run it again before you rely on it; of the modes without doubt take mps."
    )
    _, other = recommend([mode("mps", cost=0.5), doubted], WANTED)
    assert other == "logical: cost +100% (its run is suspect)."


def test_no_request_of_a_tenant_with_an_slo() -> None:
    assert recommend([mode("logical", cost=1.0, chat=None)], WANTED) == (
        "Nothing can be recommended: no request of a tenant with an SLO was due in any run.",
    )
    chosen, other = recommend([mode("logical", cost=1.0, chat=None), mode("mps", cost=2.0)], WANTED)
    assert chosen.startswith("Choose mps: the only mode")
    assert other == "logical: cost -50%, but chat had no request due."


def test_one_mode() -> None:
    assert recommend([mode("mps", cost=2.0)], WANTED) == (
        "mps keeps every tenant's SLO at 2.00 USD per million output tokens.",
    )
    assert recommend([mode("mps", cost=2.0)], {}) == (
        "No tenant has an SLO, so none can break. mps is the only mode at 2.00 USD per million output tokens.",
    )


def test_each_load_by_itself_and_how_far_each_mode_reaches() -> None:
    lines = recommend(
        [
            mode("logical", cost=1.0, load=1.0),
            mode("mps", cost=2.0, load=1.0, chat=0.5),
            mode("logical", cost=1.0, load=2.0, chat=0.8),
            mode("mps", cost=2.0, load=2.0),
        ],
        WANTED,
    )
    assert lines[:2] == (
        "logical keeps every SLO up to scale 1.",
        "mps does not keep every SLO at its lowest load.",
    )
    assert lines[2].startswith("scale 1: Choose logical: the only mode")
    assert lines[4].startswith("scale 2: Choose mps: the only mode")
    assert recommend([mode("mps", cost=1, load=1.0), mode("mps", cost=1, load=2.0)], WANTED)[0] == (
        "mps keeps every SLO up to scale 2, the highest."
    )
