"""Other load clients, run as their manuals say, where they are installed: vllm bench serve, AIPerf, GuideLLM.

Tried with vLLM 0.32, AIPerf 0.13 and GuideLLM 0.8.1. Each is found on PATH, and may live in an environment of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import orjson

from bench.measured import Client, Load, Measured

__all__ = ["PEERS"]


def _version(executable: str) -> Callable[[], str | None]:
    def version() -> str | None:
        if shutil.which(executable) is None:
            return None
        said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+[\w.+]*", said.stdout)
        return found[0] if found else "?"

    return version


def _tokenizer(folder: Path) -> str:
    """The built-in tokenizer as a model folder, which is how these clients want one."""
    target = folder / "tokenizer"
    target.mkdir()
    source = resources.files("fairshare_locust.workload").joinpath("builtin_tokenizer.json")
    (target / "tokenizer.json").write_text(source.read_text("utf-8"))
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (target / "config.json").write_text('{"model_type": "llama"}')
    return str(target)


# --- vllm bench serve


def _vllm_command(folder: Path, load: Load) -> tuple[list[str], dict[str, str]]:
    mean = sum(load.tokens) // 2
    return [
        *("vllm", "bench", "serve", "--backend", "openai-chat", "--base-url", load.endpoint),
        *("--endpoint", "/v1/chat/completions", "--model", "truth", "--tokenizer", _tokenizer(folder)),
        *("--dataset-name", "random", "--random-input-len", "64", "--random-output-len", str(mean)),
        *("--random-range-ratio", str(1 - load.tokens[0] / mean), "--num-prompts", str(load.requests)),
        *("--max-concurrency", str(load.streams), "--request-id-prefix", "vllm-", "--save-result", "--save-detailed"),
        *("--result-dir", str(folder), "--result-filename", "vllm.json", "--disable-tqdm"),
    ], {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def _vllm_read(folder: Path) -> Measured:
    result = orjson.loads((folder / "vllm.json").read_bytes())
    good = [i for i, error in enumerate(result["errors"]) if not error]
    sent_s = np.array([result["start_times"][i] for i in good])
    return Measured(
        request_ids=[f"vllm-{i}" for i in good],
        sent_s=sent_s,
        stamps_s=[
            start_s + result["ttfts"][i] + np.concatenate(([0.0], np.cumsum(result["itls"][i])))
            for start_s, i in zip(sent_s, good, strict=True)
        ],
        lost=len(result["errors"]) - len(good),
    )


# --- AIPerf


def _aiperf_command(folder: Path, load: Load) -> tuple[list[str], dict[str, str]]:
    mean = sum(load.tokens) // 2
    return [
        *("aiperf", "profile", "--model", "truth", "--url", load.endpoint, "--endpoint-type", "chat", "--streaming"),
        *("--concurrency", str(load.streams), "--benchmark-duration", str(load.warmup_s + load.seconds)),
        *("--tokenizer", _tokenizer(folder), "--isl", "64", "--osl", str(mean)),
        *("--osl-stddev", str((load.tokens[1] - load.tokens[0]) / 12**0.5), "--artifact-dir", str(folder / "aiperf")),
        *("--ui", "none", "--export-level", "records"),
    ], {}


def _aiperf_read(folder: Path) -> Measured:
    lines = (folder / "aiperf" / "profile_export.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    good = [record for record in records if "inter_chunk_latency" in record["metrics"]]
    sent_s = np.array([record["metadata"]["request_start_ns"] / 1e9 for record in good])
    return Measured(
        request_ids=[record["metadata"]["x_request_id"] for record in good],
        sent_s=sent_s,
        stamps_s=[
            start_s
            + record["metrics"]["time_to_first_token"]["value"] / 1e3
            + np.concatenate(([0.0], np.cumsum(record["metrics"]["inter_chunk_latency"]["value"]) / 1e3))
            for start_s, record in zip(sent_s, good, strict=True)
        ],
        lost=len(records) - len(good),
    )


# --- GuideLLM


def _guidellm_command(folder: Path, load: Load) -> tuple[list[str], dict[str, str]]:
    mean = sum(load.tokens) // 2
    spread = f"output_tokens={mean},output_tokens_min={load.tokens[0]},output_tokens_max={load.tokens[1]}"
    return [
        *("guidellm", "run", "--backend", f"kind=openai_http,target={load.endpoint},model=truth"),
        *("--profile", f"kind=concurrent,streams={load.streams}"),
        *("--constraint", f"kind=max_duration,seconds={load.warmup_s + load.seconds}"),
        *("--tokenizer", f"kind=huggingface_auto,model={_tokenizer(folder)}"),
        *("--data", f"kind=synthetic_text,prompt_tokens=64,{spread}"),
        *("--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console"),
    ], {"HF_HUB_OFFLINE": "1"}


def _guidellm_read(folder: Path) -> Measured:
    [benchmark] = orjson.loads((folder / "guidellm.json").read_bytes())["benchmarks"]
    good = benchmark["requests"]["successful"]
    sent_s = np.array([request["request_start_time"] for request in good])
    return Measured(
        request_ids=[""] * len(good),
        sent_s=sent_s,
        stamps_s=[
            np.array([start_s + request["time_to_first_token_ms"] / 1e3])
            for start_s, request in zip(sent_s, good, strict=True)
        ],
        lost=len(benchmark["requests"]["errored"]),
    )


PEERS = {
    "vllm bench": Client(_version("vllm"), _vllm_command, _vllm_read),
    "aiperf": Client(_version("aiperf"), _aiperf_command, _aiperf_read),
    "guidellm": Client(_version("guidellm"), _guidellm_command, _guidellm_read),
}
