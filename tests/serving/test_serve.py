"""`fairshare serve`: servers start and stay, until they are told to stop or one of them dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.serving.engine_fixtures import Machine, machine, profile_text

__all__ = ["machine"]


def serve(folder: Path, deployment: str, *tenants: str) -> subprocess.Popen[str]:
    (folder / "p.yaml").write_text(profile_text(deployment, *tenants))
    return subprocess.Popen(
        [sys.executable, "-m", "fairshare_locust", "serve", str(folder / "p.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_until_serving(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        if line.startswith("serving; "):
            return said
        said.append(line)
    pytest.fail("".join(said))


def wait_until_clean(machine: Machine) -> None:
    deadline_s = time.monotonic() + 30
    while (machine.processes() or any(machine.temporary.iterdir())) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    machine.check_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals, machine: Machine, tmp_path: Path) -> None:
    process = serve(tmp_path, "{engine: vllm, sharing: timeslice}", "chat", "batch")
    said = said_until_serving(process)
    urls = [re.fullmatch(r"(chat|batch): (http://\S+)\n", line) for line in said]
    assert [url and url[1] for url in urls] == ["chat", "batch"]
    for url in urls:
        assert url is not None
        with urllib.request.urlopen(f"{url[2]}/health", timeout=30) as answer:
            assert answer.status == 200
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 0
    machine.check_clean()


def test_it_tells_which_server_has_died(machine: Machine, tmp_path: Path) -> None:
    process = serve(tmp_path, "{engine: vllm, sharing: timeslice}", "chat", "batch")
    said_until_serving(process)
    os.kill(machine.told("vllm")[1]["pid"], signal.SIGUSR1)
    rest, _ = process.communicate()
    assert process.returncode == 2
    assert "fairshare: the vllm server of tenant 'batch' ended by itself with exit code 1" in rest
    assert "fairshare: INFO 11-21 12:00:09 [core.py:9] EngineCore ended with -9" in rest


@pytest.mark.usefixtures("machine")
def test_a_start_that_fails_is_an_error_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "gated")
    out, _ = (process := serve(tmp_path, "{engine: vllm}")).communicate()
    assert process.returncode == 2
    assert "likely cause: the model is gated" in out
    assert "fairshare: the servers' logs are not kept; with --logs FOLDER they are\n" in out


def test_killed_it_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    process = serve(tmp_path, "{engine: vllm, sharing: timeslice}", "chat", "batch")
    said_until_serving(process)
    process.kill()
    process.communicate()
    wait_until_clean(machine)


def test_a_second_ctrl_c_waits_for_nothing_and_keeps_the_lock(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "ignore_sigterm")
    process = serve(tmp_path, "{engine: vllm, server: {stop_within_s: 3}}")
    said_until_serving(process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    assert (rest, process.returncode) == ("fairshare: not waited for; the servers end by themselves\n", 0)
    assert list(machine.temporary.glob("*.lock"))
    wait_until_clean(machine)


def test_the_simulator_serves_as_it_did(machine: Machine, tmp_path: Path) -> None:
    process = serve(tmp_path, "{engine: simulator, sharing: logical}")
    said_until_serving(process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0
    machine.check_clean()
