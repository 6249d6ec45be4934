"""A server's process: waited for, told of when it dies, and gone with all that it has started, whoever dies first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.causes import likely_cause
from fairshare_locust.serving.lock import GpuLock
from fairshare_locust.serving.process import ServerProcess

_LONG_S = 60.0


def start(folder: Path, script: str, stop_within_s: float = 10.0, **more: Any) -> ServerProcess:
    """A shell script as a server."""
    command = ["/bin/sh", "-c", script]
    log = folder / "server.log"
    return ServerProcess(command, os.environ, log, name="the server", stop_within_s=stop_within_s, **more)


def wait_for(condition: Callable[[], object], within_s: float = _LONG_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def said(folder: Path, word: str) -> Callable[[], bool]:
    return lambda: word in (folder / "server.log").read_text()


def test_it_leads_a_session_and_ends_kindly(tmp_path: Path) -> None:
    process = start(tmp_path, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(said(tmp_path, "up"))
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert process.pid in process.pids()
    assert not process.ended
    process.stop()
    process.stop()
    assert (process.ended, process.exit_code, process.pids()) == (True, 0, set())
    assert said(tmp_path, "bye")()


def test_those_that_leave_its_group_or_do_not_listen_end_too(tmp_path: Path) -> None:
    script = "(trap '' TERM; setsid sleep 1000 & sleep 1000) & echo up; exec sleep 1000"
    process = start(tmp_path, script, stop_within_s=0.2)
    wait_for(lambda: said(tmp_path, "up")() and len(process.pids()) >= 3)
    pids = process.pids()
    process.stop()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_an_orphan_of_a_server_that_has_ended_is_found(tmp_path: Path) -> None:
    process = start(tmp_path, "setsid sleep 1000 & echo $!; exit 0")
    wait_for(lambda: process.ended)
    orphan = int((tmp_path / "server.log").read_text())
    assert not psutil.pid_exists(orphan)
    assert process.exit_code == 0
    process.stop()


def test_a_death_while_starting_is_told_with_its_cause_and_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("CUDA out of memory, in an earlier try\n")
    lines = "; ".join(f"echo line {i}" for i in range(30))
    process = start(tmp_path, f"{lines}; printf '\\033[31mOSError: Address already in use\\033[0m\\n'; exit 3")
    with pytest.raises(ServingError) as caught:
        process.wait_ready("http://127.0.0.1:1", time.monotonic() + _LONG_S)
    first, second, *rest = str(caught.value).splitlines()
    assert first == (
        "the server ended while starting with exit code 3; likely cause: its port was taken by another process "
        "meanwhile; start again"
    )
    assert second == f"its log ({log}) ends:"
    assert rest == [*(f"line {i}" for i in range(11, 30)), "OSError: Address already in use"]
    process.stop()


def test_one_that_is_never_ready_is_told_of(tmp_path: Path) -> None:
    process = start(tmp_path, "echo loading; exec sleep 1000")
    wait_for(said(tmp_path, "loading"))
    with pytest.raises(ServingError) as caught:
        process.wait_ready("http://127.0.0.1:1", time.monotonic())
    process.stop()
    assert str(caught.value) == (
        "the server: it did not answer http://127.0.0.1:1/health within 0 s; if it only needs longer, raise "
        f"deployment.server.ready_within_s\nits log ({tmp_path}/server.log) ends:\nloading"
    )
    assert process.exit_code == -signal.SIGTERM


def test_a_program_that_can_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with pytest.raises(ServingError, match="the server: /none can't be run: No such file or directory"):
        ServerProcess(
            ["/none"], {}, tmp_path / "log", name="the server", stop_within_s=1, remove=[tmp_path / "scratch"]
        )
    assert not (tmp_path / "scratch").exists()


def test_when_we_are_killed_it_ends_cleans_up_and_only_then_lets_the_gpu_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRSHARE_LOCKS", str(tmp_path))
    (tmp_path / "scratch").mkdir()
    script = f"trap '' TERM; echo up; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    code = (
        "import os\nfrom pathlib import Path\n"
        "from fairshare_locust.serving.lock import GpuLock\nfrom tests.serving.test_process import start\n"
        f"folder = Path({str(tmp_path)!r})\nlock = GpuLock('GPU-1')\n"
        f"start(folder, {script!r}, 1000.0, lock=(lock.descriptor, lock.path), remove=[folder / 'scratch'], "
        f"finally_=[['touch', str(folder / 'after')]])\n"
        "print(flush=True)\nos.read(0, 1)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdin is not None
    run.stdout.readline()
    wait_for(said(tmp_path, "up"))
    run.kill()
    run.wait()
    run.stdin.close()
    run.stdout.close()
    with pytest.raises(ServingError, match=f"in use by another run: pid {run.pid} "):
        GpuLock("GPU-1")
    assert (tmp_path / "scratch").exists()
    (tmp_path / "go").touch()
    wait_for(lambda: not (tmp_path / "fairshare-gpu-GPU-1.lock").exists())
    assert (tmp_path / "after").exists()
    assert not (tmp_path / "scratch").exists()
    GpuLock("GPU-1").release()


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "the GPU's memory does not suffice"),
        (
            "ValueError: Free memory on device cuda:0 (9.1/22.0 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 19.8 GiB).",
            "another process holds memory of the GPU",
        ),
        ("OSError: [Errno 98] Address already in use", "its port was taken"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "the model is gated"),
        ("OSError: nosuch/model is not a local folder and is not a valid model identifier", "there is no such model"),
        ("vllm: error: unrecognized arguments: --disable-log-requests", "does not know one of its arguments"),
        ("error: unexpected argument '--foo' found", "does not know one of its arguments"),
        (
            'ArgumentValidation("`max_batch_prefill_tokens` must be >= `max_input_tokens`. Given: 2048 and 4095")',
            "raise deployment.server.max_num_batched_tokens to max_model_len",
        ),
        ("RuntimeError: No CUDA GPUs are available", "the engine sees no GPU"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "EXCLUSIVE_PROCESS"),
    ],
)
def test_causes(line: str, cause: str) -> None:
    assert cause in (likely_cause(f"INFO starting\n{line}\nTraceback (most recent call last):") or "")


def test_no_cause_is_made_up() -> None:
    assert likely_cause("INFO starting\nINFO done") is None
