"""What importing loads, and what the package root offers."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

import fairshare_locust

_LIGHT = [
    "analysis",
    "fairshare_locust",
    "fairshare_locust.arrival",
    "fairshare_locust.client.dialects",
    "fairshare_locust.client.endpoint",
    "fairshare_locust.client.sse",
    "fairshare_locust.client.template",
    "fairshare_locust.offered",
    "fairshare_locust.plan",
    "fairshare_locust.profile",
    "fairshare_locust.record",
    "fairshare_locust.seeding",
    "fairshare_locust.workload",
    "fairshare_locust.__main__",
]


@cache
def _loaded_by(*modules: str) -> set[str]:
    """Modules in a fresh process after these imports."""
    code = f"import {', '.join(modules)}, json, sys; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


@pytest.mark.parametrize("forbidden", ["gevent", "locust", "matplotlib", "pynvml"])
def test_what_needs_no_event_loop_loads_none(forbidden: str) -> None:
    assert forbidden not in _loaded_by(*_LIGHT)


def test_the_client_does_not_load_locust() -> None:
    loaded = _loaded_by("fairshare_locust.client.client")
    assert "gevent" in loaded
    assert "locust" not in loaded


def test_importing_starts_no_thread_and_patches_nothing() -> None:
    code = (
        f"import {', '.join(_LIGHT)}, fairshare_locust.client.client, socket, threading\n"
        "from gevent import monkey\n"
        "print(threading.active_count(), monkey.is_module_patched('socket'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert out.split() == ["1", "False"]


def test_the_root_offers_what_it_lists() -> None:
    code = "import fairshare_locust as f; print([n for n in vars(f) if not n.startswith('_') or n == '__version__'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    offered = set(out.strip("[]\n").replace("'", "").split(", ")) - {"annotations", "Any"}
    assert offered == set(fairshare_locust.__all__)
    assert sorted(fairshare_locust.__all__) == list(fairshare_locust.__all__)
    assert callable(fairshare_locust.register)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert fairshare_locust.__version__ == version("fairshare-locust")
