"""The command, in virtual time: a whole search, its files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from fairshare_locust.__main__ import main

PROFILE = """
name: tight
run: {warmup_s: 1, duration_s: 6, drain_s: 5}
model: {name: m}
deployment:
  simulator: {step_base_ms: 10, compute_per_token_us: 100, max_num_seqs: 4, memory_mib: 10000, weights_mib: 1000}
tenants:
  - id: chat
    arrival: {process: constant, rate_per_s: 4, max_in_flight: 200}
    workload: {source: synthetic, input_tokens: 20, output_tokens: 20}
    slo: {ttft_ms: 200}
"""


def test_a_search_in_virtual_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Four at once, each some 20 steps of 10.4 ms and one of 12: a server full at 4 / 0.21 s = 19 requests/s, 4.75 times
    # the profile's 4.
    profile = tmp_path / "tight.yaml"
    profile.write_text(PROFILE)
    arguments = ["search", str(profile), "--out", str(tmp_path), "--low", "1", "--precision", "0.2"]
    assert main([*arguments, "--repeats-at-border", "1"]) == 0
    out, err = capsys.readouterr()
    assert "All figures: simulated, virtual time." in out
    assert "× 1, repeat 1: held" in err
    content = orjson.loads((tmp_path / "tight-search" / "search.json").read_bytes())
    [mode] = content["modes"]
    assert 3.5 < mode["held"] < 5.5
    assert mode["held"] < mode["broke"] <= 1.2 * mode["held"] * 1.001
    assert mode["whose"].startswith("chat's: ")
    assert (tmp_path / "tight-search" / "figures" / "search.png").exists()

    assert main([*arguments, "--repeats-at-border", "1"]) == 0  # nothing is run again
    assert orjson.loads((tmp_path / "tight-search" / "search.json").read_bytes()) == content


def test_a_mode_that_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "tight.yaml"
    profile.write_text(PROFILE)
    assert main(["search", str(profile), "--out", str(tmp_path), "--sharing", "mig"]) == 1
    assert "mig: not known: deployment.simulator.gpu: missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--low", "9"], "--high: found 8; must be above the lowest load (9)"),
        (["--precision", "0"], "--precision: found 0; must be at least 0.001"),
        (["--repeats-at-border", "2"], "--repeats-at-border: found 2; must be odd"),
    ],
)
def test_limits_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str) -> None:
    profile = tmp_path / "tight.yaml"
    profile.write_text(PROFILE)
    assert main(["search", str(profile), "--out", str(tmp_path), *more]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: can't be read" in capsys.readouterr().err
