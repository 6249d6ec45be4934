"""What tests of real engines need: the fakes on PATH, a profile, and a look at what is left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from fairshare_locust.profile import Profile
from tests.profile.profiles import parse
from tests.serving.fakes import engines

__all__ = ["Machine", "machine", "profile", "profile_text"]

_TENANT = (
    "  - {{id: {id}, {more}arrival: {{process: closed, concurrency: 2}}, "
    "workload: {{source: synthetic, input_tokens: 9, output_tokens: 4}}}}\n"
)


def profile_text(deployment: str, *tenants: str, run: str = "{duration_s: 1}") -> str:
    """A profile with tenants named so; `chat: KEYS` has these keys, too."""
    head = f"name: p\nrun: {run}\nmodel: {{name: llama}}\ndeployment: {deployment}\ntenants:\n"
    lines = []
    for tenant in tenants or ("chat",):
        name, _, more = tenant.partition(": ")
        lines.append(_TENANT.format(id=name, more=f"{more}, " if more else ""))
    return head + "".join(lines)


def profile(deployment: str, *tenants: str) -> Profile:
    """The same, read."""
    return parse(profile_text(deployment, *tenants))


@dataclass(frozen=True)
class Machine:
    """A machine with the fakes installed.

    Attributes:
        temporary: the folder for temporary files and locks; empty when nothing is left behind.
        records: where the fakes write what they were told.
        logs: for the servers' logs.
    """

    temporary: Path
    records: Path
    logs: Path

    def told(self, name: str) -> list[dict[str, Any]]:
        """What programs of this name were told, in the order of their starts."""
        return [json.loads(file.read_bytes()) for file in sorted(self.records.glob(f"*-{name}.json"))]

    def processes(self) -> list[int]:
        """Processes that live with this machine's records in their environment, but for ours."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("FAKE_RECORDS") == str(self.records)
                if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(process.pid)
            except psutil.Error:
                pass
        return found

    def check_clean(self) -> None:
        """No process, lock or folder is left."""
        assert self.processes() == []
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with the fakes on its PATH; nothing may be left on it after the test."""
    folders = {name: tmp_path / name for name in ("bin", "t", "records", "logs")}
    for folder in folders.values():
        folder.mkdir()
    engines.install(folders["bin"])
    monkeypatch.setenv("PATH", f"{folders['bin']}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_RECORDS", str(folders["records"]))
    monkeypatch.setenv("TMPDIR", str(folders["t"]))
    monkeypatch.setenv("FAIRSHARE_LOCKS", str(folders["t"]))
    monkeypatch.setattr("tempfile.tempdir", str(folders["t"]))
    for name in ("XDG_RUNTIME_DIR", "FAKE_ENGINE", "FAKE_VERSION", "VLLM_PORT", "CUDA_MPS_PIPE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    made = Machine(folders["t"], folders["records"], folders["logs"])
    yield made
    made.check_clean()
