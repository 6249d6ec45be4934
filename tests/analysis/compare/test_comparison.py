"""Five modes of the profile `sharing` in virtual time, from run directories to the exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import orjson
import pytest

from analysis.__main__ import main
from analysis.compare.comparison import compare
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.profile import load_profile
from fairshare_locust.profile.model import Sharing
from fairshare_locust.simulator.virtual import VirtualRun
from tests.analysis.build import quick_pictures
from tests.analysis.compare.runs import compared_run

PROFILE = Path(__file__).parents[3] / "profiles" / "sharing.yaml"
MODES: tuple[Sharing, ...] = ("logical", "timeslice", "mps", "mig", "mig_emulated")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 s per mode, and of each tenant alone in one engine."""
    folder = tmp_path_factory.mktemp("matrix")
    profile = load_profile(PROFILE)
    profile = replace(profile, run=replace(profile.run, warmup_s=1, duration_s=4, drain_s=30))
    for mode in MODES:
        shared = replace(profile, deployment=replace(profile.deployment, sharing=mode))
        VirtualRun(shared, "mixed").run(folder, mode)
    VirtualRun(profile, "solo").run(folder, "solo")
    return folder


def test_every_mode_there_is(matrix: Path) -> None:
    assert set(MODES) == set(get_args(Sharing))
    shown = compare([matrix]).comparison
    assert [column.mode for column in shown.columns] == list(MODES)
    assert [column.emulated for column in shown.columns] == [False] * 4 + [True]
    assert {column.simulated for column in shown.columns} == {"simulated, virtual time"}
    assert shown.slo_wanted == {"chat": 0.95, "assistant": 0.95}
    for column in shown.columns:
        for key in ("output_tokens_per_s", "ttft_p99_ms", "cost_per_million_output_tokens", "isolation_leakage"):
            assert column.get(key).value is not None, (column.label, key)
    rows = {row.key: row for row in shown.rows}
    assert rows["output_tokens_per_s"].best == {0}  # one copy of the weights, and all share a batch
    assert rows["cost_per_million_output_tokens"].best == {0}
    assert shown.recommendation[0].startswith(("Choose logical", "logical keeps", "No mode keeps"))
    assert len(shown.recommendation) == 5
    assert "energy is not known: no GPU's power was sampled" in shown.warnings


def test_the_command(matrix: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    baseline = str(next(matrix.glob("*-logical")))
    runs = [str(path) for path in sorted(matrix.glob("*Z-*")) if path.name.split("-", 1)[1] in MODES[:3:2]]
    with quick_pictures():
        limits = ["--baseline", baseline, "--out", str(matrix / "out"), "--fail-if"]
        assert main(["compare", *runs, *limits, "output_tokens_per_s < -99%"]) == 0
        shown = capsys.readouterr().out
        assert main(["compare", *runs, *limits, "output_tokens_per_s < -1%"]) == 1
        told = capsys.readouterr().out
    assert "emulated" not in shown
    assert "ok: mps: output_tokens_per_s < -99%: " in shown
    assert [line.split() for line in shown.splitlines() if line.split() == ["logical", "mps"]]
    assert "FAIL: mps: output_tokens_per_s < -1%: " in told
    files = {path.name for path in (matrix / "out").iterdir()}
    assert files >= {"comparison.json", "comparison.csv", "comparison.md", "comparison.html"}
    content = orjson.loads((matrix / "out" / "comparison.json").read_bytes())
    assert [column["mode"] for column in content["columns"]] == ["logical", "mps"]


def test_an_error_is_said_before_anything_is_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = compared_run(tmp_path / "run")
    (run / "requests.jsonl").unlink()
    assert main(["compare", str(run), "--fail-if", "tfft_ms.p99 > 3"]) == 2
    assert "did you mean 'ttft_ms'?" in capsys.readouterr().err


def test_refused_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = compared_run(tmp_path / "A")
    other = compared_run(tmp_path / "B", "mps", arrival={"process": "constant", "rate_per_s": 4.0})
    with pytest.raises(RunDirectoryError, match=r"tenants\.chat\.arrival\.rate_per_s: 1 in A, 4 in B"):
        compare([first, other])
    with quick_pictures():
        assert main(["compare", str(first), str(other)]) == 2
        assert not (tmp_path / "comparison").exists()
        assert main(["compare", str(first), str(other), "--force"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("differs: tenants.chat.arrival.rate_per_s: 1 in A, 4 in B\n")
    assert (tmp_path / "comparison" / "comparison.md").exists()


def test_what_a_reader_has_to_know(tmp_path: Path) -> None:
    """A suspect run, a load that a mode lacks, repeats that are one run told twice."""
    paths = [
        compared_run(tmp_path / "a", load=1.0, state="interrupted"),
        compared_run(tmp_path / "b", load=2.0, time="virtual"),
        compared_run(tmp_path / "c", load=2.0, time="virtual"),
        compared_run(tmp_path / "d", "mps", load=2.0),
    ]
    shown = compare(paths).comparison
    assert shown.columns[0].suspect == ("a",)
    warnings = "\n".join(shown.warnings)
    assert "logical, scale 1: suspect, a: " in warnings
    assert "mps has no run at load 1" in warnings
    assert "logical, scale 2: repeats with the same seed in virtual time are one run told twice" in warnings
    assert "simulated and measured figures" not in warnings
    assert "isolation leakage and sharing efficiency are not known" in warnings
    assert shown.loads == (1.0, 2.0)


def test_simulated_beside_measured(tmp_path: Path) -> None:
    measured = [{"endpoint": "http://127.0.0.1:1", "engine": "simulator", "sharing": "mps", "simulated": False}]
    paths = [compared_run(tmp_path / "a"), compared_run(tmp_path / "b", "mps", servers=measured)]
    assert any(
        line == "simulated and measured figures stand side by side, and are not alike "
        "(logical: simulated server, no GPU, mps: a GPU)"
        for line in compare(paths).comparison.warnings
    )


def test_latencies_of_a_mode_that_drops_requests_are_told_as_such(tmp_path: Path) -> None:
    whole, dropping = compared_run(tmp_path / "a"), compared_run(tmp_path / "b", "mps")
    lines = (dropping / "requests.jsonl").read_text().splitlines()
    broken = [line.replace('"outcome":"ok"', '"outcome":"timeout"') for line in lines[:3]]
    (dropping / "requests.jsonl").write_text("\n".join([*broken, *lines[3:]]) + "\n")
    warnings = compare([whole, dropping]).comparison.warnings
    assert [line for line in warnings if "failed" in line] == [
        "mps: b: 3 of 20 requests failed; e2e is of the others, TTFT and TPOT of those that got so far"
    ]
