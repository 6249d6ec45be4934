"""One run on a GPU: the lock says who holds it, and is held until the last of it is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.lock import GpuLock


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRSHARE_LOCKS", str(tmp_path))
    return tmp_path


def test_a_second_run_is_told_who_has_the_gpu(folder: Path) -> None:
    lock = GpuLock("GPU-1")
    assert lock.path == folder / "fairshare-gpu-GPU-1.lock"
    with pytest.raises(ServingError) as caught:
        GpuLock("GPU-1")
    told = str(caught.value)
    assert told.startswith(f"GPU GPU-1 is in use by another run: pid {os.getpid()} (")
    assert " since 2" in told
    assert told.endswith("; wait for its end, stop it, or take another GPU (deployment.server.gpu)")
    GpuLock("GPU-2").release()
    lock.release()
    lock.release()
    assert list(folder.iterdir()) == []
    GpuLock("GPU-1").release()


def test_a_lock_whose_holder_died_is_free(folder: Path) -> None:
    code = "from fairshare_locust.serving.lock import GpuLock\nGpuLock('GPU-1')\nimport os\nos._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(folder.iterdir())) == 1
    GpuLock("GPU-1").release()
    assert list(folder.iterdir()) == []


def test_a_folder_that_does_not_let_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRSHARE_LOCKS", str(tmp_path / "none"))
    with pytest.raises(ServingError, match=r"can't be opened: No such file or directory; .*FAIRSHARE_LOCKS"):
        GpuLock("0")


def test_a_lock_that_a_server_still_holds_is_not_taken_away(folder: Path) -> None:
    lock = GpuLock("GPU-1")
    with subprocess.Popen(["sleep", "60"], pass_fds=(lock.descriptor,)) as server:
        lock.release()
        with pytest.raises(ServingError, match="GPU GPU-1 is in use by another run"):
            GpuLock("GPU-1")
        server.kill()
    GpuLock("GPU-1").release()
    assert list(folder.iterdir()) == []
