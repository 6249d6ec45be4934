"""Weights & Biases and MLflow, in their offline modes: in processes of their own, as both start others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import report_run
from analysis.__main__ import main
from tests.analysis.build import quick_pictures, record, write_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(
        tmp_path_factory.mktemp("publish") / "run", [record(gaps_us=[20_000] * 9), record("b", outcome="timeout")]
    )
    with quick_pictures():
        report_run(folder)
    return folder


def published(run: Path, service: str, here: Path) -> str:
    """What the command prints, run in a folder of its own."""
    here.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "publish", str(run), "--to", service, "--project", "shared", "--offline"],
        cwd=here,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(here)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_numbers_tables_and_the_report(reported: Path, tmp_path: Path) -> None:
    said = published(reported, "wandb", tmp_path / "here")
    assert "published" in said
    (kept,) = (tmp_path / "here" / "wandb").glob("offline-run-*")
    (log,) = kept.glob("run-*.wandb")
    written = log.read_bytes()
    assert b"tenants/a/output_tokens_per_s" in written
    assert b"report.html" in written
    assert {path.name.split("_")[0] for path in (kept / "files" / "media" / "table" / "tables").iterdir()} >= {
        "tenants",
        "fairness",
    }


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_keeps_numbers_tables_and_the_report(reported: Path, tmp_path: Path) -> None:
    said = published(reported, "mlflow", tmp_path / "here")
    assert "experiment shared" in said
    (metric,) = (tmp_path / "here" / "mlruns").glob("*/*/metrics/tenants/a/output_tokens_per_s")
    assert metric.read_text().split()[1] == "1.0"
    kept = metric.parents[3]
    assert (kept / "artifacts" / "analysis" / "report.html").is_file()
    assert (kept / "artifacts" / "tables" / "tenants.json").is_file()
    assert (kept / "params" / "verdict").read_text() == "valid"


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_without_the_library_it_says_what_to_install(
    reported: Path, service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, service, None)
    assert main(["publish", str(reported), "--to", service]) == 2
    assert f"pip install 'fairshare-locust[{service}]'" in capsys.readouterr().err


def test_no_key_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["publish", "run", "--to", "wandb", "--api-key", "x"])
    assert "unrecognized arguments" in capsys.readouterr().err
