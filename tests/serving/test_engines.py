"""Command lines and environments of the engines, as the fakes' help of two versions allows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.engines import ENGINES, Launch, Site
from fairshare_locust.serving.engines.engine import server_environment
from fairshare_locust.serving.placement import Placement
from tests.serving.engine_fixtures import Machine, machine, profile

__all__ = ["machine"]


def site(deployment: str, *tenants: str, **more: Any) -> Site:
    """Of the first part, with the second half of the GPU's memory."""
    made = profile(deployment, *tenants)
    placement = Placement(0, tuple(tenant.id for tenant in made.tenants), {"CUDA_VISIBLE_DEVICES": "GPU-1"}, 0.45)
    values: dict[str, Any] = {
        "profile": made,
        "placement": placement,
        "model": "llama",
        "address": "127.0.0.1",
        "ports": [9001, 9002, 9003],
        "scratch": Path("/s"),
        "memory_before": 0.45,
        "streams": 300,
        "container": "box",
    }
    return Site(**{**values, **more})


def launch(deployment: str, *tenants: str, **more: Any) -> Launch:
    at = site(deployment, *tenants, **more)
    return ENGINES[at.profile.deployment.engine].launch(at)


def options(command: tuple[str, ...]) -> dict[str, str]:
    """Flag → its value, empty for those without."""
    pairs = zip(command, (*command[1:], "--"), strict=True)
    return {flag: "" if value.startswith("--") else value for flag, value in pairs if flag.startswith("--")}


@pytest.mark.usefixtures("machine")
def test_vllm_is_told_all_that_its_defaults_would_make_of_the_gpu() -> None:
    made = launch("{engine: vllm, sharing: timeslice, server: {kv_cache_gib: {chat: 1.5}, prefix_caching: false}}")
    assert Path(made.command[0]).name == "vllm"
    assert made.command[1:3] == ("serve", "llama")
    assert options(made.command) == {
        "--host": "127.0.0.1",
        "--port": "9001",
        "--served-model-name": "llama",
        "--max-num-batched-tokens": "2048",
        "--max-num-seqs": "256",
        "--gpu-memory-utilization": "0.45",
        "--kv-cache-memory-bytes": str(3 * 2**29),
        "--no-enable-prefix-caching": "",
        "--scheduling-policy": "fcfs",
        "--load-format": "auto",
        "--dtype": "auto",
        "--enable-per-request-metrics": "",
        "--enable-prompt-tokens-details": "",
    }
    assert made.environment == {"VLLM_NO_USAGE_STATS": "1"}
    assert made.notes == ()


@pytest.mark.usefixtures("machine")
def test_a_cache_that_vllm_sizes_itself_is_told_of() -> None:
    assert "kv_cache_gib" in launch("{engine: vllm, sharing: timeslice}").notes[0]
    assert launch("{engine: vllm}").notes == ()
    by_bytes = "{engine: vllm, sharing: mps, server: {extra_args: [--kv-cache-memory-bytes=9]}}"
    assert launch(by_bytes).notes == ()


@pytest.mark.usefixtures("machine")
def test_what_extra_args_say_is_not_said_twice() -> None:
    more = "--no-enable-prompt-tokens-details, --block-size, '32'"
    made = launch(f"{{engine: vllm, server: {{extra_args: [{more}], max_model_len: 99, enforce_eager: true}}}}")
    told = options(made.command)
    assert made.command[-3:] == ("--no-enable-prompt-tokens-details", "--block-size", "32")
    assert "--enable-prompt-tokens-details" not in told
    assert (told["--max-model-len"], told["--enforce-eager"]) == ("99", "")


@pytest.mark.usefixtures("machine")
def test_an_old_vllm_is_told_only_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "old")
    assert "--enable-per-request-metrics" not in launch("{engine: vllm}").command
    with pytest.raises(ServingError) as caught:
        launch("{engine: vllm, sharing: mps, server: {kv_cache_gib: {chat: 1}}}")
    assert str(caught.value).startswith("deployment.server.kv_cache_gib: /")
    assert str(caught.value).endswith(
        "/vllm 0.8.5 has no --kv-cache-memory-bytes or --kv-cache-memory; leave kv_cache_gib out, or install another "
        "version"
    )


@pytest.mark.usefixtures("machine")
def test_tgi_may_use_what_those_before_it_have_and_its_own_and_shares_no_port() -> None:
    server = "{prefix_caching: false, max_model_len: 100, enforce_eager: true, dtype: float16}"
    made = launch(f"{{engine: tgi, sharing: timeslice, server: {server}}}")
    assert options(made.command) == {
        "--model-id": "llama",
        "--hostname": "127.0.0.1",
        "--port": "9001",
        "--prometheus-port": "9002",
        "--master-port": "9003",
        "--shard-uds-path": "/s/shard",
        "--cuda-memory-fraction": "0.9",
        "--max-batch-prefill-tokens": "2048",
        "--max-batch-size": "256",
        "--max-concurrent-requests": "300",
        "--max-total-tokens": "100",
        "--max-input-tokens": "99",
        "--cuda-graphs": "0",
        "--dtype": "float16",
        "--usage-stats": "off",
    }
    assert made.environment["PREFIX_CACHING"] == "0"


@pytest.mark.usefixtures("machine")
def test_an_old_tgi_has_another_name_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "old")
    told = options(launch("{engine: tgi, server: {max_model_len: 100}}").command)
    assert told["--max-input-length"] == "99"
    assert "--usage-stats" not in told
    assert "--prometheus-port" not in told


@pytest.mark.usefixtures("machine")
def test_transformers_answers_one_after_another_unless_it_is_to_batch() -> None:
    naive = launch("{engine: transformers, server: {dtype: bfloat16}}")
    assert naive.command[1:] == (*("serve", "llama", "--host", "127.0.0.1", "--port", "9001", "--dtype", "bfloat16"),)
    assert naive.version == "5.23.0"
    assert "one request after another" in naive.notes[0]
    batching = launch("{engine: transformers, server: {continuous_batching: true}}")
    told = options(batching.command)
    assert (told["--continuous-batching"], told["--cb-max-batch-tokens"]) == ("", "2048")
    assert told["--cb-max-memory-percent"] == "0.45"
    assert batching.notes == ()


@pytest.mark.usefixtures("machine")
def test_an_old_transformers_is_given_its_model_by_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "old")
    made = launch("{engine: transformers, server: {dtype: bfloat16, continuous_batching: true}}")
    told = options(made.command)
    assert (told["--force-model"], told["--torch-dtype"]) == ("llama", "bfloat16")
    assert "--continuous_batching" in told
    assert made.notes == ("this version of transformers takes no limits of its batch and its memory",)


@pytest.mark.parametrize(
    ("engine", "hint"),
    [
        ("vllm", "vllm is not found on PATH; pip install vllm, or name it with deployment.server.executable"),
        ("tgi", "say deployment.server.image: ghcr.io/huggingface/text-generation-inference:3.3.7 (needs docker)"),
        ("transformers", "pip install 'transformers[serving]' torch accelerate"),
    ],
)
def test_a_missing_program_comes_with_the_way_to_install_it(
    engine: str, hint: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.records))
    with pytest.raises(ServingError) as caught:
        launch(f"{{engine: {engine}}}")
    assert hint in str(caught.value)


def test_a_program_whose_help_fails(machine: Machine) -> None:
    broken = machine.records / "vllm"
    broken.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(ServingError) as caught:
        launch(f"{{engine: vllm, server: {{executable: '{broken}'}}}}")
    first, last = str(caught.value).splitlines()
    assert first == (
        f"{broken} serve --help failed; likely cause: a package of the engine is missing; install it beside it"
    )
    assert last == "ModuleNotFoundError: No module named 'torch'"


@pytest.mark.usefixtures("machine")
def test_an_image_is_run_with_its_device_and_tokens_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "very-secret")
    placement = Placement(0, ("chat",), {"CUDA_VISIBLE_DEVICES": "MIG-1", "A": "b", "GONE": ""}, 0.9, "0:1")
    made = launch(
        "{engine: vllm, sharing: mig, server: {image: 'vllm/vllm-openai:v0.33.0', environment: {X: y}}}",
        placement=placement,
    )
    command = made.command
    at = command.index("vllm/vllm-openai:v0.33.0")
    outer, inner = command[1:at], command[at + 1 :]
    assert outer[:7] == ("run", "--rm", "--init", "--name", "box", "--gpus", '"device=0:1"')
    assert outer[8:10] == ("--publish", "127.0.0.1:9001:8000")
    given = [outer[i + 1] for i, flag in enumerate(outer) if flag == "--env"]
    assert given == ["VLLM_NO_USAGE_STATS=1", "X=y", "A=b", "HF_TOKEN"]
    assert (inner[:2], options(inner)["--port"]) == (("--model", "llama"), "8000")
    assert made.container == "box"
    assert "very-secret" not in " ".join(command)


@pytest.mark.usefixtures("machine")
def test_an_image_under_mps_runs_as_our_user_who_has_a_home_and_the_models() -> None:
    placement = Placement(0, ("chat",), {"CUDA_MPS_PIPE_DIRECTORY": "/pipes"}, 0.9, "GPU-1")
    command = launch("{engine: vllm, sharing: mps, server: {image: vllm/vllm-openai}}", placement=placement).command
    said = " ".join(command)
    assert f"--user {os.getuid()}:{os.getgid()} --volume /pipes:/pipes --env HOME=/tmp " in said
    assert "--env HF_HOME=/huggingface --volume " in said
    assert ".cache/huggingface:/huggingface " in said
    assert "--env CUDA_MPS_PIPE_DIRECTORY=/pipes" in said


@pytest.mark.usefixtures("machine")
def test_the_placement_says_what_a_server_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_PORT", "PROMETHEUS_MULTIPROC_DIR", "CUDA_MPS_PIPE_DIRECTORY"):
        monkeypatch.setenv(name, "here")
    monkeypatch.setenv("HF_TOKEN", "very-secret")
    placement = Placement(0, ("chat",), {"CUDA_MPS_PIPE_DIRECTORY": "", "CUDA_VISIBLE_DEVICES": "GPU-1"})
    at = site("{engine: vllm, server: {environment: {OMP_NUM_THREADS: '2'}}}", placement=placement)
    environment = server_environment(at, ENGINES["vllm"].launch(at))
    assert not {"VLLM_PORT", "PROMETHEUS_MULTIPROC_DIR", "CUDA_MPS_PIPE_DIRECTORY"} & set(environment)
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("GPU-1", "2")
    assert environment["HF_TOKEN"] == "very-secret"
