"""A machine with a faked GPU, and servers on it that do nothing but be there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.engine_fixtures import Machine
from tests.serving.gpu_fixtures import gpu, machine
from tests.serving.sharing.idle import IdleServers

__all__ = ["gpu", "machine"]


@pytest.fixture
def idle(machine: Machine) -> Iterator[IdleServers]:
    """Servers that are ended after the test at the latest."""
    servers = IdleServers()
    yield servers
    servers.end()
