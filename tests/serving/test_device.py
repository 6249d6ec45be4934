"""Which GPU it is, and when it is free again, by a faked driver."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fairshare_locust.serving import device
from fairshare_locust.serving.device import device_key, wait_until_released
from tests.serving.fakes import gpu


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu.FakeGpu:
    (tmp_path / "bin").mkdir()
    gpu.install(tmp_path / "bin")
    made = gpu.FakeGpu(tmp_path / "gpu")
    made.make(uuid="GPU-1234", users=[{"pid": 77}, {"pid": 78, "type": "M+C"}])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_GPU", str(made.folder))
    return made


@pytest.mark.usefixtures("fake")
def test_an_index_and_a_uuid_are_the_same_gpu() -> None:
    assert device_key(0) == device_key("GPU-1234") == "GPU-1234"
    assert device_key(3) == "3"


def test_without_a_driver_it_is_what_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_key(0) == "0"
    assert wait_until_released(0, {77})


def test_it_is_free_when_the_driver_shows_none_of_them(fake: gpu.FakeGpu) -> None:
    timer = threading.Timer(0.3, lambda: fake.set(users=[{"pid": 5}]))
    timer.start()
    assert wait_until_released(0, {77, 78})
    timer.join()


@pytest.mark.usefixtures("fake")
def test_memory_that_stays_is_told_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_RELEASED_WITHIN_S", 0.0)
    assert not wait_until_released(0, {78, 99})
    assert "GPU 0: the driver still shows pid 78, which have ended" in capsys.readouterr().err
