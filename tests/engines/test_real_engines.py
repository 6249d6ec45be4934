"""Two tenants on engines that are really installed, on the CPU: `make test-engines`.

They start, answer, are shared as asked, and nothing of them is left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines.conftest import Run

Served = Callable[[str, str, dict[str, Any]], Run]

VLLM = {
    "max_num_batched_tokens": 512,
    "max_num_seqs": 16,
    "max_model_len": 1024,
    "load_format": "dummy",
    "dtype": "float32",
    "enforce_eager": True,
    "gpu_memory_utilization": 0.5,
}
CPU_VLLM = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def check_run(run: Run, engine: str, sharing: str) -> None:
    servers = 1 if sharing == "logical" else 2
    assert run.info["state"] == "complete"
    assert {server["engine"] for server in run.info["servers"]} == {engine}
    assert len({server["endpoint"] for server in run.info["servers"]}) == servers
    assert all(server["version"] for server in run.info["servers"])
    assert run.sharing["mode"] == sharing
    for tenant, prompt, answer in (("chat", None, 12), ("batch", 60, 8)):
        records = run.of(tenant)
        assert len(records) >= 8, [record.error for record in run.records]
        # The model never ends by itself, and the engine is told how long an answer is to be.
        assert {record.output_tokens for record in records} == {answer}
        assert {record.tokens_from for record in records} == {"usage"}
        assert prompt is None or {record.input_tokens for record in records} == {prompt}
        assert all(record.first_token_s is not None for record in records)
    assert (run.path / "analysis" / "report.html").exists()
    logs = sorted(path.name for path in (run.path / "logs").iterdir() if path.suffix == ".log")
    assert len([name for name in logs if name.startswith(engine)]) == servers, logs
    for server in run.info["servers"]:
        assert not psutil.pid_exists(server["pid"])


@pytest.mark.parametrize("sharing", ["logical", "timeslice"])
def test_transformers(transformers: Path, served: Served, sharing: str) -> None:
    server = {"executable": str(transformers), "extra_args": ["--device", "cpu"]}
    check_run(served("transformers", sharing, server), "transformers", sharing)


def test_transformers_that_batch(transformers: Path, served: Served) -> None:
    # On a CPU the KV cache is a share of all memory unless it is told.
    blocks = ["--device", "cpu", "--cb-block-size", "32", "--cb-num-blocks", "256"]
    server = {"executable": str(transformers), "continuous_batching": True, "max_num_batched_tokens": 512}
    check_run(served("transformers", "logical", {**server, "extra_args": blocks}), "transformers", "logical")


@pytest.mark.parametrize("sharing", ["logical", "timeslice"])
def test_vllm(vllm: Path, served: Served, tmp_path: Path, sharing: str) -> None:
    kv = {} if sharing == "logical" else {"chat": 0.125, "batch": 0.125}
    environment = {**CPU_VLLM, "VLLM_CACHE_ROOT": str(tmp_path / "vllm")}
    if sharing == "logical":
        environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    server = {**VLLM, "executable": str(vllm), "kv_cache_gib": kv, "environment": environment}
    run = served("vllm", sharing, server)
    check_run(run, "vllm", sharing)
    # The engine tells how long each request waited and computed.
    assert any("--enable-per-request-metrics" in server["command"] for server in run.info["servers"])
