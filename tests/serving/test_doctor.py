"""doctor: what a machine can do, in words; faked programs."""

from __future__ import annotations

import socket
from pathlib import Path

import orjson
import pytest

from fairshare_locust.__main__ import main
from tests.serving.engine_fixtures import Machine
from tests.serving.fakes.gpu import FakeGpu
from tests.serving.gpu_fixtures import gpu, machine

__all__ = ["gpu", "machine"]

MODES = ("logical", "mps", "timeslice", "mig", "mig_emulated")


@pytest.fixture(autouse=True)
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver's library of the host that tests says is left out."""

    def none() -> str:
        return "there is no libnvidia-ml.so.1, so no NVIDIA driver, on this host"

    monkeypatch.setattr("fairshare_locust.telemetry.nvml.NvmlSource.open", none)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["doctor"]) == 0
    return capsys.readouterr().out


def modes(out: str) -> dict[str, str]:
    """Mode → all that is said of it."""
    paragraphs: dict[str, str] = {}
    for line in out.partition("\n\n")[2].splitlines():
        if not line.startswith(" "):
            name = line.split()[0]
            paragraphs[name] = ""
        paragraphs[name] += line + "\n"
    return paragraphs


def test_without_a_gpu_it_says_what_every_mode_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = told(capsys)
    assert "vllm: not found; pip install vllm\n" in out
    assert "docker: not found\n" in out
    assert "simulator: built in" in out
    found = modes(out)
    assert tuple(found) == MODES
    for said in found.values():
        assert "): not ready\n" in said
        assert "missing: no GPU: there is no libnvidia-ml.so.1, so no NVIDIA driver, on this host; install" in said
        assert "missing: no engine on PATH, and no docker to run an image with; vllm: pip install vllm; or " in said
    assert "missing: nvidia-cuda-mps-control is not found on PATH" in found["mps"]
    assert "missing: MIG slices: A30, A100, H100" in found["mig"]
    assert "emulated, not isolated" in found["mig_emulated"]


def test_a_gpu_with_everything(gpu: FakeGpu, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys)
    assert "GPU 0: NVIDIA H100 80GB HBM3, 81,559 MiB, driver 610.43.02, compute mode Default, MIG off\n" in out
    assert "vllm: 0.33.0 (" in out
    assert "tgi: 3.3.7 (" in out
    assert "transformers: 5.23.0 (" in out
    assert "GPU telemetry: none: there is no libnvidia-ml.so.1" in out
    found = modes(out)
    for mode in ("logical", "mps", "timeslice", "mig_emulated"):
        assert "): ready\n" in found[mode]
        assert "missing" not in found[mode]
    assert "MIG is off; when nobody uses the GPU: sudo nvidia-smi -i 0 -mig 1" in found["mig"]


def test_slices(gpu: FakeGpu, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.set(mig="Enabled")
    assert "has no MIG slices; sudo nvidia-smi mig -i 0 -cgi PROFILE" in modes(told(capsys))["mig"]
    gpu.add_slices("3g.40gb", "1g.10gb+me")
    out = told(capsys)
    assert f"  slice 1: 1g.10gb+me ({gpu.slice_uuids()[1]})\n" in out
    assert "): ready\n" in modes(out)["mig"]
    assert "MIG is on, so CUDA sees slices only; sudo nvidia-smi -i 0 -mig 0" in modes(out)["mps"]


def test_what_stands_in_the_way(
    gpu: FakeGpu, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.set(mig=None, name="NVIDIA L4", compute_mode="Exclusive_Process")
    (tmp_path / "usual").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "usual" / "control"))
    out = told(capsys)
    found = modes(out)
    assert f"  a stale MPS daemon has left its files at {tmp_path / 'usual'}, where CUDA looks by default\n" in out
    assert "GPU 0 (NVIDIA L4) has no MIG; take another GPU" in found["mig"]
    assert "compute mode Exclusive_Process, for one process; sudo nvidia-smi -i 0 -c DEFAULT" in found["timeslice"]
    assert "): ready\n" in found["mps"]
    assert "a daemon of its own is used" in found["mps"]
    assert "servers are kept from it" in found["timeslice"]


def test_json(gpu: FakeGpu, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.add_slices("7g.80gb")
    assert main(["doctor", "--json"]) == 0
    content = orjson.loads(capsys.readouterr().out)
    assert content["gpus"][0]["slices"][0]["profile"] == "7g.80gb"
    assert {mode: entry["ready"] for mode, entry in content["modes"].items()} == {
        "logical": False,
        "mps": False,
        "timeslice": False,
        "mig": True,
        "mig_emulated": False,
    }
    assert [engine["version"] for engine in content["engines"]] == ["0.33.0", "3.3.7", "5.23.0"]
