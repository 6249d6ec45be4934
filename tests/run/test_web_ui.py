"""Runs that are started from Locust's web UI: each from the form, with a run directory of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.run.conftest import REPOSITORY, profile_text

_POLL_S = 0.05


class Ui:
    """A Locust with its web UI, and a folder of two profiles."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        (folder / "profiles").mkdir()
        (folder / "profiles" / "demo.yaml").write_text(profile_text(bound="duration_s: 1"))
        (folder / "profiles" / "other.yaml").write_text(
            profile_text(bound="duration_s: 1").replace("id: chat", "id: talk")
        )
        (folder / "profiles" / "wrong.yaml").write_text("name: wrong\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            master_port = str(free.getsockname()[1])
        self.base = f"http://127.0.0.1:{port}"
        locustfile = str(REPOSITORY / "locustfiles" / "mixed.py")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "FAIRSHARE_"))}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "locust", "-f", locustfile, "--web-host", "127.0.0.1", "--web-port", str(port)),
                *("--master-bind-port", master_port, "--master-port", master_port, *arguments),
            ],
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Starting web interface" in line:
                break
        while not self._answers():
            assert self.process.poll() is None
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        try:
            self.get("/fairshare/live.json")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def stop(self) -> None:
        """End it as an orchestrator does; nothing may have gone wrong."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=60)
        assert "Traceback" not in output, output[output.index("Traceback") :]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.base + path, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def live(self) -> dict[str, Any]:
        content: dict[str, Any] = orjson.loads(self.get("/fairshare/live.json"))
        return content

    def start(self, **fields: str) -> dict[str, Any]:
        form = {"user_count": "27", "spawn_rate": "27", "host": "", "fairshare_scale": "1", "fairshare_seed": ""}
        data = urllib.parse.urlencode({**form, **fields}).encode()
        with urllib.request.urlopen(self.base + "/swarm", data, timeout=30) as answer:
            content: dict[str, Any] = orjson.loads(answer.read())
            return content

    def end_of_run(self, number: int) -> dict[str, Any]:
        """Wait until the session's so many-th run has a verdict; the live figures then."""
        while True:
            live = self.live()
            if len(live["runs"]) == number and live["runs"][-1]["verdict"] is not None:
                return live
            assert self.process.poll() is None
            time.sleep(_POLL_S)


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    started = Ui(tmp_path)
    yield started
    started.stop()


def test_two_runs_of_a_session(ui: Ui, tmp_path: Path) -> None:
    refused = ui.start(fairshare_profile="profiles/wrong.yaml")
    assert refused["success"] is False
    assert "tenants: missing" in refused["message"]
    for hostile in ("/etc/passwd", "profiles/../profiles/demo.yaml", "nowhere.yaml"):
        assert ui.start(fairshare_profile=hostile)["success"] is False
    assert ui.start(fairshare_out="/tmp/elsewhere")["success"] is False
    assert ui.live() == {"runs": []}

    # Pressed twice at once: one starts the run, and the other is told.
    with ThreadPoolExecutor(2) as pool:
        pressed = list(pool.map(lambda _: ui.start(fairshare_profile="profiles/demo.yaml"), range(2)))
    assert sorted(answer["success"] for answer in pressed) == [False, True]
    first = ui.end_of_run(1)
    assert len(list((tmp_path / "runs").glob("2*"))) == 1
    assert ui.start(fairshare_profile="profiles/other.yaml", fairshare_scale="0.5")["success"] is True
    second = ui.end_of_run(2)
    assert [tenant["id"] for tenant in first["tenants"]] == ["chat", "steady", "batch"]
    assert [tenant["id"] for tenant in second["tenants"]] == ["talk", "steady", "batch"]
    # 16, 8 and 3 streams, and half of them rounded up: the number in the form was that of the first profile.
    assert [tenant["streams"] for tenant in first["tenants"]] == [16, 8, 3]
    assert [tenant["streams"] for tenant in second["tenants"]] == [8, 4, 2]

    names = [run["name"] for run in second["runs"]]
    assert len(set(names)) == 2
    for live, name in zip((first, second), names, strict=True):
        records = (tmp_path / "runs" / name / "requests.jsonl").read_bytes()
        assert ui.get(f"/fairshare/runs/{name}/requests.jsonl") == records
        assert live["total"]["whole"]["completed"] == records.count(b"\n")
        summary = orjson.loads(ui.get(f"/fairshare/runs/{name}/analysis/summary.json"))
        # Live figures come from buckets 2 % wide, over warm-up and measurement.
        talk = live["tenants"][0]
        assert talk["whole"]["completed"] >= summary["tenants"][talk["id"]]["completed"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ui.get(f"/fairshare/runs/{names[0]}/../../profiles/demo.yaml")
    assert b"fairshare_ttft_seconds_bucket" in ui.get("/fairshare/metrics")
