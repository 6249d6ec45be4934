"""Tenants alone, in phases of the run itself or in runs of their own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from analysis.__main__ import main
from analysis.load import Tenant, load_run
from analysis.summary import summarise
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.profile import load_profile
from fairshare_locust.record import RequestRecord
from fairshare_locust.simulator.virtual import VirtualRun
from tests.analysis.build import part, quick_pictures, record, write_run

ROOT = Path(__file__).parents[2]


def answers(tenant: str, start_s: float, seconds: float, phase: str, count: int = 20) -> list[RequestRecord]:
    """A request each half second from `start_s`, answered by two tokens, the last of them after so many seconds."""
    half = round(seconds * 5e5)
    return [
        record(
            tenant,
            k,
            request_id=f"{phase}/{tenant}-{k}",
            phase=f"{phase}/measure" if phase else "measure",
            scheduled_s=start_s + k / 2,
            first_token_s=start_s + k / 2 + half / 1e6,
            gaps_us=[half],
        )
        for k in range(count)
    ]


INTERFERENCE = {
    "phases": [
        part("solo-a/measure", 0, 10, ["a"]),
        part("solo-b/measure", 20, 30, ["b"]),
        part("all/measure", 40, 50, ["a", "b"]),
    ],
    "ended_s": 60.0,
}
SOLO = {"phases": INTERFERENCE["phases"][:2], "ended_s": 30.0}  # type: ignore[index]


def alone() -> list[RequestRecord]:
    return [*answers("a", 0, 0.4, "solo-a"), *answers("b", 20, 0.2, "solo-b")]


def together(start_s: float, phase: str) -> list[RequestRecord]:
    return [*answers("a", start_s, 0.6, phase), *answers("b", start_s, 0.8, phase)]


def content_of(path: Path, *solo: Path) -> dict[str, Any]:
    return summarise(load_run(path, solo=solo or None)).content


def values(content: Mapping[str, Any]) -> dict[str, float]:
    return {
        tenant: entry["slowdown"]["e2e_scheduled_ms"]["p95"]["value"]
        for tenant, entry in content["interference"]["tenants"].items()
    }


def test_phases_of_one_run_worked_by_hand(tmp_path: Path) -> None:
    content = content_of(write_run(tmp_path, [*alone(), *together(40, "all")], info=INTERFERENCE))
    interference = content["interference"]
    assert interference["solo"] == {"a": "solo-a", "b": "solo-b"}
    assert interference["shared"] == "all"
    assert values(content) == {"a": 1.5, "b": 4.0}
    assert all(
        one["paired"]
        for entry in interference["tenants"].values()
        for by_percentile in entry["slowdown"].values()
        for one in by_percentile.values()
    )
    assert interference["isolation_leakage"]["value"] == 0.75
    assert interference["isolation_leakage"]["victim"] == "b"
    # Alone the last tokens of a and b come at 9.9 and 9.7 s, together at 10.1 and 10.3 s: one of 40 is too late.
    assert interference["sharing_efficiency"]["value"] == pytest.approx(39 / 40 + 39 / 40)
    # 2/3 and 1/4: (11/12)² / (2 · (4/9 + 1/16)) = (121/144) / (146/144).
    assert content["fairness"]["jain_progress"] == pytest.approx(121 / 146)
    assert content["fairness"]["ci95"]["jain_progress"] == [pytest.approx(121 / 146)] * 2
    matrix = interference["matrix"]["slowdown"]
    assert [[cell and cell["value"] for cell in row] for row in matrix] == [[None, 1.5], [4.0, None]]
    assert not any("alone" in warning for warning in content["warnings"])


def test_a_run_of_its_own_worked_by_hand(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", alone(), info=SOLO)
    shared = write_run(tmp_path / "shared", together(0, ""))
    content = content_of(shared, solo)
    assert content["interference"]["solo"] == {"a": "alone", "b": "alone"}
    assert content["interference"]["shared"] == "shared"
    assert values(content) == {"a": 1.5, "b": 4.0}
    assert content_of(shared)["interference"] is None
    assert content_of(shared)["fairness"]["jain_progress"] is None


def test_a_run_for_each_tenant(tmp_path: Path) -> None:
    names = ("a", "b")
    paths = [
        write_run(
            tmp_path / f"only-{name}",
            answers(name, 0, 0.2, ""),
            (Tenant(id=name),),
            info={"phases": [part("measure", 0, 10, [name])]},
        )
        for name in names
    ]
    shared = write_run(tmp_path / "shared", together(0, ""))
    content = content_of(shared, *paths)
    assert content["interference"]["solo"] == {"a": "only-a", "b": "only-b"}
    assert values(content) == {"a": 3.0, "b": 4.0}

    only_one = content_of(shared, paths[0])
    assert list(only_one["interference"]["tenants"]) == ["a"]
    assert only_one["interference"]["sharing_efficiency"]["value"] is None
    assert any(warning.startswith("b never ran alone: ") for warning in only_one["warnings"])


def test_a_run_of_its_own_goes_before_a_phase(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", answers("a", 0, 0.2, "solo-a"), info={"phases": [SOLO["phases"][0]]})
    content = content_of(write_run(tmp_path / "all", [*alone(), *together(40, "all")], info=INTERFERENCE), solo)
    assert content["interference"]["solo"] == {"a": "alone", "b": "solo-b"}
    assert values(content) == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize("absolute", [False, True])
def test_run_json_may_name_it(tmp_path: Path, absolute: bool) -> None:
    solo = write_run(tmp_path / "alone", alone(), info=SOLO)
    told = str(solo) if absolute else "../alone"
    content = content_of(write_run(tmp_path / "shared", together(0, ""), info={"solo": told}))
    assert values(content) == {"a": 1.5, "b": 4.0}


def test_one_that_run_json_names_and_that_is_gone_is_a_warning(tmp_path: Path) -> None:
    content = content_of(write_run(tmp_path / "shared", together(0, ""), info={"solo": "../gone"}))
    assert content["interference"] is None
    (warning,) = [one for one in content["warnings"] if "solo" in one]
    assert "gone" in warning


def test_another_seed_is_compared_but_not_in_pairs(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", alone(), info={**SOLO, "seed": 8})
    content = content_of(write_run(tmp_path / "shared", together(0, "")), solo)
    assert content["interference"]["tenants"]["a"]["slowdown"]["tpot_ms"]["p50"]["paired"] is False
    assert values(content) == {"a": 1.5, "b": 4.0}
    assert any("has seed 8, this run 7" in warning for warning in content["warnings"])


def changed(path: Path, key: str, value: Any) -> Path:
    """The run with another value of a key of its tenant a."""
    file = path / "profile.resolved.yaml"
    profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    profile["tenants"][0][key] = value
    file.write_text(yaml.safe_dump(profile), encoding="utf-8")
    return path


def test_other_work_is_refused_by_its_key(tmp_path: Path) -> None:
    lengths = {"source": "synthetic", "output_tokens": {"distribution": "constant", "value": 10}}
    others = lengths | {"output_tokens": {"distribution": "constant", "value": 20}}
    solo = changed(write_run(tmp_path / "alone", alone(), info=SOLO), "workload", lengths)
    shared = changed(write_run(tmp_path / "shared", together(0, "")), "workload", others)
    with pytest.raises(RunDirectoryError, match=r"tenants\.a\.workload\.output_tokens\.value is 10 there and 20 here"):
        load_run(shared, solo=[solo])


def test_another_load_is_told(tmp_path: Path) -> None:
    solo = changed(write_run(tmp_path / "alone", alone(), info=SOLO), "arrival", {"process": "poisson"})
    content = content_of(write_run(tmp_path / "shared", together(0, "")), solo)
    assert any("tenants.a.arrival is not the same in solo run alone" in warning for warning in content["warnings"])


def test_a_real_gpu_is_not_compared_with_a_model_of_one(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", alone(), info={**SOLO, "servers": []})
    with pytest.raises(RunDirectoryError, match="simulated is False there and True here"):
        load_run(write_run(tmp_path / "shared", together(0, "")), solo=[solo])


def test_what_is_no_solo_run(tmp_path: Path) -> None:
    shared = write_run(tmp_path / "shared", together(0, ""))
    with pytest.raises(RunDirectoryError, match="no tenant is alone in a measured phase"):
        load_run(shared, solo=[shared])
    other = write_run(tmp_path / "other", [], (Tenant(id="z"),), info={"phases": [part("measure", 0, 10, ["z"])]})
    with pytest.raises(RunDirectoryError, match="a solo run of z; none of them is a tenant of shared"):
        load_run(shared, solo=[other])
    with pytest.raises(RunDirectoryError, match="there is no such folder"):
        load_run(shared, solo=[tmp_path / "gone"])


def test_a_solo_run_that_was_cut_short_is_told(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", alone(), info={**SOLO, "state": "interrupted"})
    content = content_of(write_run(tmp_path / "shared", together(0, "")), solo)
    assert any("solo run alone is interrupted" in warning for warning in content["warnings"])


@pytest.mark.parametrize("failed", [False, True])
def test_a_run_in_which_nothing_was_answered(tmp_path: Path, failed: bool) -> None:
    solo = write_run(tmp_path / "alone", alone(), info=SOLO)
    records = [record(name, 0, outcome="timeout") for name in "ab"] if failed else []
    content = content_of(write_run(tmp_path / "shared", records), solo)
    assert values(content) == {"a": None, "b": None}
    assert content["interference"]["isolation_leakage"]["value"] is None
    assert content["interference"]["sharing_efficiency"]["value"] == 0  # that is known: nobody got anything
    assert content["fairness"]["jain_progress"] is None


def test_nothing_measured_is_nothing_to_compare(tmp_path: Path) -> None:
    solo = write_run(tmp_path / "alone", alone(), info=SOLO)
    content = content_of(write_run(tmp_path / "shared", [], info={"phases": [], "ended_s": 0.0}), solo)
    assert content["interference"] is None
    assert content["fairness"] is None


def test_the_command_takes_solo_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solo = write_run(tmp_path / "alone", alone(), info=SOLO)
    shared = write_run(tmp_path / "shared", together(0, ""))
    with quick_pictures():
        assert main(["report", str(shared), "--solo", str(solo)]) == 0
    written = orjson.loads((shared / "analysis" / "summary.json").read_bytes())
    assert values(written) == {"a": 1.5, "b": 4.0}
    shutil.rmtree(solo)
    assert main(["report", str(shared), "--solo", str(solo)]) == 2
    assert "there is no such folder" in capsys.readouterr().err


# --- in virtual time


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan interference of three tenants on one modelled GPU, whose prefix cache is off."""
    profile = load_profile(ROOT / "profiles" / "sharing.yaml")
    simulator = replace(profile.deployment.simulator, prefix_caching=False)
    profile = replace(
        profile,
        run=replace(profile.run, warmup_s=5, duration_s=30),
        deployment=replace(profile.deployment, simulator=simulator),
    )
    path = VirtualRun(profile, "interference").run(tmp_path_factory.mktemp("runs")).path
    return content_of(path)


def test_the_plan_interference_end_to_end(simulated: dict[str, Any]) -> None:
    interference = simulated["interference"]
    tenants = ["chat", "assistant", "batch"]
    assert interference["solo"] == {name: f"solo-{name}" for name in tenants}
    assert interference["shared"] == "all"
    slowdown_of = {name: interference["tenants"][name]["slowdown"]["e2e_scheduled_ms"]["p50"] for name in tenants}
    for one in slowdown_of.values():
        low, high = one["ci95"]
        assert 1 < one["value"] < 4
        assert low <= one["value"] <= high
    assert [slowdown_of[name]["paired"] for name in tenants] == [True, True, False]  # batch is a closed loop
    assert 0 < interference["isolation_leakage"]["value"] < 1
    assert 1 < interference["sharing_efficiency"]["value"] < 3
    assert 0.5 < simulated["fairness"]["jain_progress"] <= 1
    assert not any("prefix cache" in warning for warning in simulated["warnings"])


def test_the_matrix_is_complete_and_long_prompts_hurt_most(simulated: dict[str, Any]) -> None:
    matrix = simulated["interference"]["matrix"]
    assert matrix["tenants"] == ["chat", "assistant", "batch"]
    cells = [[cell and cell["value"] for cell in row] for row in matrix["slowdown"]]
    assert [[value is None for value in row] for row in cells] == [
        [victim == aggressor for aggressor in range(3)] for victim in range(3)
    ]
    assert cells[2][1] > cells[2][0]  # batch suffers more from the assistant's long prompts than from chat's short ones


def test_prompts_of_an_earlier_phase_in_the_prefix_cache_are_told(tmp_path: Path) -> None:
    records = [*alone(), *answers("a", 40, 0.2, "all"), *answers("b", 40, 0.2, "all")]
    content = content_of(write_run(tmp_path, records, info=INTERFERENCE))
    assert any(
        warning.startswith("first tokens of a came sooner beside others than alone") for warning in content["warnings"]
    )
