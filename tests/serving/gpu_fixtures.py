"""A faked GPU on the machine of the faked engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.engine_fixtures import Machine, machine
from tests.serving.fakes import gpu as fakes
from tests.serving.fakes.gpu import FakeGpu

__all__ = ["gpu", "machine"]


@pytest.fixture
def gpu(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """An H100 without MIG, and the programs of its driver on PATH."""
    fakes.install(tmp_path / "bin")
    made = FakeGpu(tmp_path / "gpu")
    made.make()
    monkeypatch.setenv("FAKE_GPU", str(made.folder))
    monkeypatch.setattr("fairshare_locust.serving.sharing.mps_control._USUAL", tmp_path / "usual")
    return made
