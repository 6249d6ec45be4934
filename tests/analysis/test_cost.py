"""What the output cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.cost import cost_of, idle_share, joules_per_output_token, shares_of_service
from analysis.load import Tenant, load_run, read_profile
from analysis.summary import summarise
from analysis.window import Window
from tests.analysis.build import columns, part, record, sampled, write_run, write_samples


def test_cost_by_hand() -> None:
    # Two GPUs at 1.80 dollars for 1000 s: 1 dollar. b got three quarters of the service, and 1000 tokens.
    found = cost_of(1.80, 2, 1000.0, tokens=[4000, 1000], service=[10_000, 30_000])
    assert found.total == pytest.approx(200.0)
    assert list(found.tenants) == [pytest.approx(0.25 / 4000 * 1e6), pytest.approx(0.75 / 1000 * 1e6)]
    assert found.window_usd == pytest.approx(1.0)
    assert list(found.tenants_usd) == [pytest.approx(0.25), pytest.approx(0.75)]


def test_without_tokens_it_is_undefined() -> None:
    found = cost_of(1.0, 1, 100.0, tokens=[0, 0], service=[5, 0])
    assert found.total is None
    assert found.tenants == (None, None)
    assert list(found.tenants_usd) == [pytest.approx(100 / 3600), 0.0]
    nobody = cost_of(1.0, 1, 100.0, tokens=[0], service=[0])
    assert (nobody.tenants, nobody.tenants_usd) == ((None,), (None,))
    assert nobody.window_usd == pytest.approx(100 / 3600)


def test_an_empty_window_has_no_cost() -> None:
    found = cost_of(1.0, 1, 0.0, tokens=[0, 0], service=[0, 0])
    assert (found.total, found.window_usd, found.tenants_usd) == (None, None, (None, None))


def test_who_owns_a_slice_pays_for_it() -> None:
    # 7 dollars for the window: 3 and 2 sevenths of it, and nobody for the rest.
    found = cost_of(7.0, 1, 3600.0, tokens=[1000, 0], service=[1, 99], slices=[3 / 7, 2 / 7])
    assert list(found.tenants_usd) == [pytest.approx(3.0), pytest.approx(2.0)]
    assert list(found.tenants) == [pytest.approx(3000.0), None]
    assert found.window_usd == pytest.approx(7.0)
    assert found.total == pytest.approx(7000.0)


@given(st.lists(st.integers(0, 100).map(float), max_size=5), st.floats(0.01, 100))
def test_shares_add_up_to_the_price(service: list[float], usd: float) -> None:
    tokens = [2 * each for each in service]
    found = cost_of(usd, 1, 3600.0, tokens, service)
    if not any(service):
        assert all(price is None for price in found.tenants_usd)
        return
    known = [price for price in found.tenants_usd if price is not None]
    assert math.fsum(known) == pytest.approx(usd)
    assert known == [pytest.approx(usd * each / sum(service)) for each in service]
    assert shares_of_service(service)[0] == service[0] / sum(service)


# --- idle


def busy(*spans: tuple[int, int], outcome: str = "ok") -> list[Any]:
    return [
        record("ab"[k % 2], k, scheduled_s=start, first_token_s=start, ended_s=end, outcome=outcome)
        for k, (start, end) in enumerate(spans)
    ]


def test_idle_share_worked_by_hand() -> None:
    # Busy from 1 to 4 and from 6 to 7 s of a window from 2 to 12: 3 of 10 seconds.
    requests = columns(busy((1, 3), (2, 4), (6, 7)))
    assert idle_share(requests, Window.of_seconds((2, 12))) == 0.7


def test_shed_requests_keep_no_gpu_busy() -> None:
    shed = [record("a", scheduled_s=1.0, outcome="shed", ended_s=1.0)]
    assert idle_share(columns(shed), Window.of_seconds((0, 10))) == 1
    assert idle_share(columns([]), Window.of_seconds((0, 10))) == 1
    assert idle_share(columns([]), Window()) is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=3),
)
def test_idle_share_against_a_slow_reference(spans: list[tuple[int, int]], window: list[tuple[int, int]]) -> None:
    seconds = {second for start, end in window for second in range(start, end)}
    idle = [second for second in seconds if not any(start <= second < end for start, end in spans)]
    found = idle_share(columns(busy(*spans)), Window.of_seconds(*window))
    assert found == (pytest.approx(len(idle) / len(seconds)) if seconds else None)


# --- in a summary


def content_of(folder: Path, records: list[Any], **values: Any) -> dict[str, Any]:
    tenants = (Tenant(id="a"), Tenant(id="b"))
    path = write_run(folder, records, tenants, cost={"gpu_hour_usd": 3.6, "gpus": 1}, **values)
    return summarise(load_run(path)).content


def served() -> list[Any]:
    """a: 1 token for 8 of input at 2 s: service 10; b: 5 tokens for 20 of input at 4 s: service 30."""
    return [
        record("a", scheduled_s=1.0, first_token_s=2.0, ended_s=2.0, input_tokens=8),
        record("b", scheduled_s=3.0, first_token_s=4.0, ended_s=4.0, input_tokens=20, output_tokens=5),
    ]


def test_cost_in_a_summary_worked_by_hand(tmp_path: Path) -> None:
    # Ten seconds at 3.60 dollars an hour are 1 cent; two of them were busy.
    assert content_of(tmp_path, served())["cost"] == {
        "gpu_hour_usd": 3.6,
        "gpus": 1,
        "cost_per_million_output_tokens": pytest.approx(0.01 / 6 * 1e6),
        "tenants": {"a": pytest.approx(0.0025 * 1e6), "b": pytest.approx(0.0075 / 5 * 1e6)},
        "shared_by": "service",
        "window_usd": pytest.approx(0.01),
        "idle_usd": pytest.approx(0.008),
        "idle_share": 0.8,
        "tenants_usd": {"a": pytest.approx(0.0025), "b": pytest.approx(0.0075)},
    }


def test_cost_of_tenants_that_never_ran_together(tmp_path: Path) -> None:
    parts = [part("solo-a/measure", 0, 3, ["a"]), part("solo-b/measure", 3, 10, ["b"])]
    cost = content_of(tmp_path, served(), info={"phases": parts})["cost"]
    assert cost["window_usd"] == pytest.approx(0.01)
    assert cost["tenants_usd"] == {"a": pytest.approx(0.003), "b": pytest.approx(0.007)}


def test_cost_where_nothing_was_measured(tmp_path: Path) -> None:
    cost = content_of(tmp_path, [], info={"phases": [], "ended_s": 0.0})["cost"]
    assert (cost["window_usd"], cost["idle_usd"], cost["idle_share"]) == (None, None, None)
    assert cost["tenants_usd"] == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("deployment", "slices"),
    [
        ({"sharing": "mig", "simulator": {"mig": {"a": "3g.40gb", "b": "1g.10gb"}}}, {"a": 3 / 7, "b": 1 / 7}),
        ({"sharing": "mig", "simulator": {"mig": {"a": "3g.40gb"}}}, {"a": 3 / 7}),
        ({"sharing": "mig"}, {}),
        ({"sharing": "mig_emulated", "simulator": {"sm_percent": {"a": 60}}}, {"a": 0.6, "b": 0.4}),
        ({"sharing": "mig_emulated"}, {"a": 0.5, "b": 0.5}),
        ({"sharing": "mps", "simulator": {"sm_percent": {"a": 60}}}, {}),
        ({"sharing": "logical", "simulator": {"mig": {"a": "3g.40gb", "b": "1g.10gb"}}}, {}),
    ],
)
def test_slices_are_read_from_the_profile(tmp_path: Path, deployment: dict[str, Any], slices: dict[str, float]) -> None:
    path = write_run(tmp_path, served(), cost={"gpu_hour_usd": 3.6})
    file = path / "profile.resolved.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) | {"deployment": deployment}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert read_profile(file).slices == pytest.approx(slices)
    cost = summarise(load_run(path)).content["cost"]
    assert cost["shared_by"] == ("slice" if len(slices) == 2 else "service")
    if len(slices) == 2:
        assert cost["tenants_usd"] == {name: pytest.approx(0.01 * share) for name, share in slices.items()}


def test_energy_of_each_tenant_by_hand(tmp_path: Path) -> None:
    # 100 W for 10 s are 1,000 J: a quarter for a, of which 1 token came, the rest for b, of which 5.
    samples = sampled("gpu0", "power_w", *((float(t), 100.0) for t in range(11)))
    gpu = content_of(write_samples(tmp_path, gpu=samples), served(), info={"servers": []})["gpu"]
    assert gpu["energy_j"] == pytest.approx(1000.0)
    assert gpu["tenants_energy_j"] == {"a": pytest.approx(250.0), "b": pytest.approx(750.0)}
    assert gpu["tenants_joules_per_output_token"] == {"a": pytest.approx(250.0), "b": pytest.approx(150.0)}


def test_energy_of_tenants_that_never_ran_together_is_not_known_apart(tmp_path: Path) -> None:
    samples = sampled("gpu0", "power_w", *((float(t), 100.0) for t in range(11)))
    parts = [part("solo-a/measure", 0, 3, ["a"]), part("solo-b/measure", 3, 10, ["b"])]
    gpu = content_of(write_samples(tmp_path, gpu=samples), served(), info={"servers": [], "phases": parts})["gpu"]
    assert gpu["energy_j"] is not None
    assert gpu["tenants_energy_j"] == gpu["tenants_joules_per_output_token"] == {"a": None, "b": None}


def test_energy_per_token_by_hand() -> None:
    assert joules_per_output_token(900.0, 300) == 3.0
    assert joules_per_output_token(900.0, 0) is None
    assert joules_per_output_token(None, 300) is None
