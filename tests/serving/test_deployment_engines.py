"""Servers of real engines, from deploy to the last of them gone; faked programs, real processes and sockets."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import orjson
import psutil
import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving import Deployed, deploy
from fairshare_locust.serving.process import ServerProcess
from tests.serving.engine_fixtures import Machine, machine, profile
from tests.serving.test_engines import options

__all__ = ["machine"]


def failure(machine: Machine, deployment: str) -> str:
    with pytest.raises(ServingError) as caught:
        deploy(profile(deployment), machine.logs)
    machine.check_clean()
    return str(caught.value)


def test_tenants_share_one_server_logically(machine: Machine, tmp_path: Path) -> None:
    server = "{scheduling_policy: priority, max_model_len: 512}"
    made = profile(f"{{engine: vllm, server: {server}}}", "chat: priority: 1", "batch: api: openai_completions")
    deployed = deploy(made, machine.logs, directory=tmp_path)
    try:
        [started] = machine.told("vllm")
        chat, batch = deployed.servers["chat"][0], deployed.servers["batch"][0]
        assert chat.endpoint == batch.endpoint
        assert (chat.engine, chat.version, chat.family.name) == ("vllm", "0.33.0", "vllm")
        assert chat.family.by_priority is True
        assert (chat.part, chat.pid, chat.max_model_len) == (None, started["pid"], 512)
        assert "priority" in chat.family.takes
        assert not chat.simulated
        assert deployed.prompt_overhead_tokens() == {"chat": 0, "batch": 0}
        assert deployed.dcgm_url is None
        assert (machine.logs / "vllm.log").exists()
        assert orjson.loads((tmp_path / "sharing.json").read_bytes())["mode"] == "logical"
        with pytest.raises(ServingError, match=f"GPU 0 is in use by another run: pid {os.getpid()} "):
            deploy(made, machine.logs)
    finally:
        deployed.stop()
    deployed.stop()


@pytest.mark.parametrize("engine", ["tgi", "transformers"])
def test_tenants_have_servers_of_their_own(engine: str, machine: Machine) -> None:
    made = profile(f"{{engine: {engine}, sharing: timeslice}}", "chat", "batch: model: other")
    deployed = deploy(made, machine.logs)
    try:
        chat, batch = deployed.servers["chat"][0], deployed.servers["batch"][0]
        assert (chat.part, batch.part) == (0, 1)
        assert chat.endpoint != batch.endpoint
        assert (chat.model, batch.model) == ("llama", "other")
        assert {path.name for path in machine.logs.glob("*.log")} == {f"{engine}-chat.log", f"{engine}-batch.log"}
        assert chat.version is not None
        assert not chat.family.ignore_eos or engine != "tgi"
        if engine == "tgi":
            told = [options(tuple(one["argv"])) for one in machine.told("tgi")]
            assert [one["--cuda-memory-fraction"] for one in told] == ["0.45", "0.9"]
            for flag in ("--port", "--prometheus-port", "--master-port", "--shard-uds-path"):
                assert told[0][flag] != told[1][flag]
    finally:
        deployed.stop()


def test_a_start_that_lost_a_race_for_memory_is_tried_once_more(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "race")
    deploy(profile("{engine: vllm}"), machine.logs).stop()
    assert len(machine.told("vllm")) == 2
    log = (machine.logs / "vllm.log").read_text()
    assert "Error in memory profiling" in log
    assert "serving llama" in log


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("oom", "the GPU's memory does not suffice; lower deployment.server.gpu_memory_utilization"),
        ("port", "its port was taken by another process meanwhile; start again"),
        ("gated", "the model is gated; ask for access on its page at huggingface.co, and export HF_TOKEN"),
    ],
)
def test_a_server_that_dies_while_starting(
    fault: str, cause: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ENGINE", fault)
    first, where, *last = failure(machine, "{engine: vllm}").splitlines()
    assert first.startswith(
        f"the vllm server of tenant 'chat' ended while starting with exit code 1; likely cause: {cause}"
    )
    assert where == f"its log ({machine.logs}/vllm.log) ends:"
    assert last[0].startswith("INFO 11-21 12:00:00")


def test_a_flag_that_the_engine_does_not_know(machine: Machine) -> None:
    told = failure(machine, "{engine: vllm, server: {extra_args: [--disable-log-requests]}}")
    assert "exit code 2; likely cause: the engine does not know one of its arguments" in told
    assert told.endswith("error: unrecognized arguments: --disable-log-requests")


def test_a_server_that_is_never_ready(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "never_ready")
    told = failure(machine, "{engine: vllm, server: {ready_within_s: 0.5}}")
    assert "raise deployment.server.ready_within_s" in told
    assert told.startswith("the vllm server of tenant 'chat': it did not answer http://127.0.0.1:")


def test_a_server_that_dies_of_its_first_token(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "no_token")
    told = failure(machine, "{engine: vllm}")
    assert "ended as it was asked for its first token with exit code 1" in told
    assert "an illegal memory access was encountered" in told


def test_a_server_that_dies_later_is_told_of(machine: Machine) -> None:
    deployed = deploy(profile("{engine: vllm}"), machine.logs)
    try:
        [process] = deployed.processes
        assert isinstance(process, ServerProcess)
        os.kill(process.pid, signal.SIGUSR1)
        with pytest.raises(ServingError, match="the vllm server of tenant 'chat' ended by itself with exit code 1"):
            deployed.wait()
    finally:
        deployed.stop()


def test_one_that_does_not_listen_is_killed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ENGINE", "ignore_sigterm")
    deployed = deploy(profile("{engine: vllm, server: {stop_within_s: 0.2}}"), machine.logs)
    [process] = deployed.processes
    assert isinstance(process, ServerProcess)
    pids = process.pids()
    assert len(pids) == 2
    deployed.stop()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_container_is_removed_and_known_by_its_pid_here(machine: Machine) -> None:
    image = "ghcr.io/huggingface/text-generation-inference:3.3.7"
    deployed: Deployed = deploy(profile(f"{{engine: tgi, server: {{image: '{image}'}}}}"), machine.logs)
    try:
        [server] = deployed.describe()
        assert server["version"] == "3.3.7"
        assert len(list((machine.records / "containers").iterdir())) == 1
    finally:
        deployed.stop()
    assert list((machine.records / "containers").iterdir()) == []


def test_a_second_tenants_failure_stops_the_first(machine: Machine) -> None:
    made = profile("{engine: vllm, sharing: timeslice, server: {memory_percent: {chat: 99.99}}}", "chat", "batch")
    with pytest.raises(ServingError, match="tenant 'batch' ended while starting"):
        deploy(made, machine.logs)
    machine.check_clean()
