"""A driver library that answers as a script says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.telemetry.stub import Stub, build, why_not_built


@pytest.fixture(scope="session")
def stub_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the stub of NVIDIA's driver library."""
    why = why_not_built()
    if why is not None:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    return folder


@pytest.fixture
def stub(stub_library: Path, tmp_path: Path) -> Stub:
    """The stub with a script of its own: at first one GPU that supports everything."""
    return Stub(stub_library, tmp_path)
