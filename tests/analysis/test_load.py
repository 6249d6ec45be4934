"""Reading a run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.load import Slo, Tenant, load_run, phase_of
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.build import part, record, sampled, write_run, write_samples


def test_the_profile_and_the_phases_are_read(tmp_path: Path) -> None:
    tenants = [Tenant(id="chat", weight=2.0, slo=Slo(ttft_ms=500.0)), Tenant(id="batch")]
    run = load_run(write_run(tmp_path, [record("chat")], tenants, cost={"gpu_hour_usd": 0.8, "gpus": 2}))
    assert run.profile.tenants == tuple(tenants)
    assert (run.profile.gpu_hour_usd, run.profile.gpus) == (0.8, 2)
    assert [(phase.name, phase.start_s, phase.end_s, phase.measured) for phase in run.phases] == [
        ("measure", 0.0, 10.0, True),
        ("drain", 10.0, 12.0, False),
    ]
    assert run.locust is None


def test_attainment_and_load_have_defaults(tmp_path: Path) -> None:
    tenants = [Tenant(id="a", slo=Slo(ttft_ms=1.0, attainment=0.5))]
    parts = [part("one/measure", 0, 1, "a", 2.5), part("two/measure", 1, 2, "a")]
    run = load_run(write_run(tmp_path, [], tenants, info={"phases": parts}))
    assert run.profile.tenants == tuple(tenants)
    assert [phase.load for phase in run.phases] == [2.5, 1.0]
    (tmp_path / "profile.resolved.yaml").write_text("tenants: [{id: a, slo: {ttft_ms: 1}}]")
    assert load_run(tmp_path).profile.tenants == (Tenant(id="a", slo=Slo(ttft_ms=1.0, attainment=0.95)),)


def test_an_attainment_alone_is_no_slo(tmp_path: Path) -> None:
    write_run(tmp_path, [])
    (tmp_path / "profile.resolved.yaml").write_text("tenants: [{id: a, slo: {attainment: 0.9}}]")
    assert load_run(tmp_path).profile.tenants[0].slo is None


@pytest.mark.parametrize(
    ("part_name", "phase"), [("solo-a/measure", "solo-a"), ("measure-1", ""), ("a+b/drain", "a+b")]
)
def test_the_phase_of_a_part(part_name: str, phase: str) -> None:
    assert phase_of(part_name) == phase


def test_a_link_to_a_run_is_a_run(tmp_path: Path) -> None:
    write_run(tmp_path / "first", [])
    (tmp_path / "latest").symlink_to("first")
    assert load_run(tmp_path / "latest").path.name == "first"


def test_a_phase_without_end_lasts_for_ever(tmp_path: Path) -> None:
    phase = {"name": "measure", "start_s": 0.0, "end_s": None, "measured": True, "tenants": ["a"]}
    assert load_run(write_run(tmp_path, [], info={"phases": [phase]})).phases[0].end_s == float("inf")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", None, "is no run directory: it has no run.json"),
        ("run.json", "{", "run.json can't be read"),
        ("run.json", '{"schema": 9}', "run.json is no run of schema 1"),
        ("run.json", '{"schema": 1, "phases": [{}]}', "run.json: phases can't be understood: KeyError: 'name'"),
        ("profile.resolved.yaml", None, "profile.resolved.yaml can't be read"),
        ("profile.resolved.yaml", "tenants: {", "profile.resolved.yaml can't be read"),
        ("profile.resolved.yaml", "name: x", "profile.resolved.yaml is no resolved profile: KeyError: 'tenants'"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    write_run(tmp_path, [])
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(RunDirectoryError) as caught:
        load_run(tmp_path)
    assert message in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"nowhere' is no run directory: there is no such folder"):
        load_run(tmp_path / "nowhere")


def test_telemetry_is_read_beside_the_records(tmp_path: Path) -> None:
    write_run(tmp_path, [], info={"telemetry": {"state": "complete"}})
    run = load_run(write_samples(tmp_path, gpu=sampled("GPU-1", "power_w", (1, 50))))
    assert run.telemetry.info == {"state": "complete"}
    assert list(run.telemetry.gpu) == [("nvml", "GPU-1")]
    assert run.telemetry.server == {}
