"""`check`: the profile with its defaults, and the load it offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairshare_locust.__main__ import main
from fairshare_locust.profile import load_profile, resolved_yaml
from tests.profile.profiles import MINIMAL, parse

_TWO = (
    MINIMAL.replace("process: poisson, rate_per_s: 2", "process: constant, rate_per_s: 20")
    + """\
  - id: batch
    arrival: {process: closed, concurrency: 12}
    workload: {source: synthetic, input_tokens: 7, output_tokens: 5}
"""
)


def check(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "120")
    (folder / "p.yaml").write_text(text)
    code = main(["check", str(folder / "p.yaml"), *more])
    out, error = capsys.readouterr()
    return code, out, error


def rows(out: str) -> list[list[str]]:
    """What stands in the rows of the table, however it is drawn."""
    table = out[out.index("offered load") :].replace("│", " ")
    cells = [line.split() for line in table.splitlines()]
    return [row for row in cells if row and row[0] in ("chat", "batch", "total") and len(row) > 5]


def test_the_load_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """20 requests/s for 70 s; what the closed loop offers is not known before."""
    code, out, error = check(_TWO, tmp_path, capsys, monkeypatch)
    assert code == 0
    assert error == ""
    assert rows(out) == [
        ["chat", "constant", "64", "20.0", "2,000.0", "200.0", "1,400"],
        ["batch", "closed", "12", "–", "–", "–", "–"],
        ["total", "76", "20.0+", "2,000.0+", "200.0+", "1,400+"],
    ]
    [timetable] = [line.split() for line in out.splitlines() if line.startswith("  all tenants")]
    assert timetable == ["all", "tenants", "0", "10", "60", "s", "≤", "20", "all"]
    assert "Closed loops and batches (–) send as fast as they are answered" in out
    assert "warning" not in out


def test_the_resolved_profile_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = check(_TWO, tmp_path, capsys, monkeypatch)
    assert out.startswith(resolved_yaml(parse(_TWO)))


def test_open_loops_only(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = _TWO.replace("process: closed, concurrency: 12", "process: constant, rate_per_s: 0.5, max_in_flight: 3")
    _, out, _ = check(text.replace("duration_s: 60", "requests: 50, warmup_s: 0"), tmp_path, capsys, monkeypatch)
    assert rows(out) == [
        ["chat", "constant", "64", "20.0", "2,000.0", "200.0", "50"],
        ["batch", "constant", "3", "0.5", "3.5", "2.5", "50"],
        ["total", "67", "20.5", "2,003.5", "202.5", "100"],
    ]
    assert "50 requests each" in out
    assert "Closed loops" not in out


def test_solo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, _ = check(_TWO, tmp_path, capsys, monkeypatch, "--plan", "solo")
    assert [line.split() for line in out.splitlines() if line.startswith(("  solo-", "  end "))] == [
        ["solo-chat", "0", "10", "60", "s", "≤", "20", "chat"],
        ["solo-batch", "90", "10", "60", "s", "≤", "20", "batch"],
        ["end", "180"],
    ]


def test_a_sweep_and_tenants_that_come_and_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _TWO.replace("concurrency: 12", "concurrency: 12, active_s: [[20, 40]]")
    _, out, _ = check(text, tmp_path, capsys, monkeypatch, "--plan", "steps")
    steps = [line.split() for line in out.splitlines() if line.startswith("  load-")]
    assert steps[1] == ["load-0.5", "90", "10", "60", "s", "≤", "20", "×", "0.5", "all"]
    assert "batch is there from 20 to 40 s of a phase" in out


def test_prompts_that_the_simulator_will_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _TWO.replace("input_tokens: 7, output_tokens: 5", "input_tokens: 60, output_tokens: 61")
    text += "deployment: {simulator: {max_model_len: 120}}\n"
    code, out, _ = check(text, tmp_path, capsys, monkeypatch)
    assert code == 0
    assert (
        "warning: tenant 'batch': 1000 of its first 1000 requests ask for more than max_model_len 120 tokens, "
        "prompt and answer together: the simulator will refuse them"
    ) in out
    _, out, _ = check(text.replace("61", "60"), tmp_path, capsys, monkeypatch)
    assert "warning" not in out


def test_every_problem_is_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MINIMAL.replace("name: small", "name: small\nsede: 1").replace("rate_per_s: 2", "rate_per_s: 0")
    code, out, error = check(text, tmp_path, capsys, monkeypatch)
    assert code == 2
    assert out == ""
    assert [line.removeprefix(f"fairshare: {tmp_path}/p.yaml:").split(":")[0] for line in error.splitlines()] == [
        "2",
        "7",
    ]
    assert "did you mean 'seed'?" in error


def test_a_profile_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith(f"fairshare: {tmp_path}/none.yaml: can't be read: No such file")


def test_prompts_that_can_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n7\n")
    text = MINIMAL.replace(
        "{source: synthetic, input_tokens: 100, output_tokens: 10}", "{source: jsonl, path: bad.jsonl}"
    )
    code, _, error = check(text, tmp_path, capsys, monkeypatch)
    assert code == 2
    assert [line.startswith("fairshare: ") for line in error.splitlines()] == [True, True]
    assert "bad.jsonl:1: must have either prompt or messages" in error


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["chekc"], ["check"], ["check", "p.yaml", "--plan", "huh"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "invalid choice: 'huh'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "mixed"])
def test_the_profiles_that_come_along(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[1] / "profiles" / f"{name}.yaml"
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.startswith(resolved_yaml(load_profile(path)))


def test_parts_of_the_card_that_are_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _TWO + "deployment: {sharing: timeslice, simulator: {gpu: L4, model: llama-3-8b}}\n"
    code, out, error = check(text, tmp_path, capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert error.startswith(
        "fairshare: deployment.simulator: the engine of tenant 'chat' has no room for max_model_len"
    )
    assert check(text.replace("llama-3-8b", "llama-3-8b, dtype: int4"), tmp_path, capsys, monkeypatch)[0] == 0
