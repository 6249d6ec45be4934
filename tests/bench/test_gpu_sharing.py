"""The bench of sharing a GPU: what it says without one, and that what it would run can be run."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench import gpu_sharing
from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.experiment import parse_experiment
from tests.telemetry.stub import Stub, build, why_not_built

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_gpu_it_says_why(tmp_path: Path) -> None:
    if (why := why_not_built()) is not None:
        pytest.skip(why)
    build(tmp_path)
    stub = Stub(tmp_path, tmp_path)
    stub.script("nvmlInitWithFlags 9")
    command = [sys.executable, "-m", "bench.gpu_sharing", "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, env=stub.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "no GPU sharing to measure: NVIDIA's library is there, but the kernel's driver is not loaded\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("tenants", [2, 3])
def test_its_experiment_can_be_run(tmp_path: Path, tenants: int) -> None:
    options = argparse.Namespace(tenants=tenants, modes=gpu_sharing.MODES, seconds=30.0, repeats=2, batching=False)
    content = gpu_sharing.experiment(options, tmp_path, Path("/opt/transformers"))
    made = parse_experiment(yaml.safe_dump(content), source="gpu_sharing.yaml", folder=tmp_path)
    cells = expand(made)
    assert len(cells) == 3 * (1 + 2)  # modes, each with the tenants alone and two repeats
    assert {cell.profile.deployment.engine for cell in cells} == {"transformers"}
