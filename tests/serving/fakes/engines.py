"""`vllm`, `text-generation-launcher`, `transformers` and `docker`, faked; the simulator answers for them.

They take the flags of the real ones, and no others, each in an old and a new version (FAKE_VERSION). As vLLM does, the
launched process starts another that serves. What they were told stands in the folder FAKE_RECORDS, a file for each.
FAKE_ENGINE says how they misbehave, several separated by commas:

oom, port, gated      they die while starting, with the words of the real ones
race                  the first start dies as vLLM does when a neighbour frees memory
never_ready           nobody ever listens
no_token              they die when asked for a token
die_after_ready       they die when told to by SIGUSR1
ignore_sigterm        they end by SIGKILL alone
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["install", "main"]

_ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """#!{python} -S
import os, sys
sys.path[:0] = [{root!r}, *{path!r}]
from tests.serving.fakes.engines import main
main({name!r}, sys.argv[1:])
"""
_VERSIONS = {
    "vllm": {"new": "0.33.0", "old": "0.8.5"},
    "text-generation-launcher": {"new": "3.3.7", "old": "1.4.0"},
    "transformers": {"new": "5.23.0", "old": "4.56.0"},
    "docker": {"new": "28.1.1", "old": "28.1.1"},
}


def install(folder: Path, *names: str) -> None:
    """Put the programs into the folder, which is to stand on PATH."""
    for name in names or tuple(_VERSIONS):
        script = folder / name
        script.write_text(_SCRIPT.format(python=sys.executable, root=str(_ROOT), path=sys.path[1:], name=name))
        script.chmod(0o755)


def main(name: str, argv: Sequence[str]) -> NoReturn:
    """Be the program of this name."""
    programs = {
        "vllm": _vllm,
        "text-generation-launcher": _tgi,
        "transformers": _transformers,
        "docker": _docker,
    }
    programs[name](list(argv))
    sys.exit(0)


def _old() -> bool:
    return os.environ.get("FAKE_VERSION") == "old"


def _version(name: str) -> str:
    return _VERSIONS[name]["old" if _old() else "new"]


def _faults() -> set[str]:
    return set(filter(None, os.environ.get("FAKE_ENGINE", "").split(",")))


# --- vllm


def _vllm_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False, add_help=False)
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--max-num-seqs", type=int)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction)
    parser.add_argument("--scheduling-policy", choices=["fcfs", "priority"], default="fcfs")
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"], default="auto")
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--block-size", type=int)
    if _old():
        parser.add_argument("--disable-log-requests", action="store_true")
    else:
        parser.add_argument("--kv-cache-memory-bytes", "--kv-cache-memory", type=int)
        parser.add_argument("--enable-per-request-metrics", action="store_true")
        parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    return parser


def _vllm(argv: list[str]) -> None:
    if argv == ["--version"]:
        print(_version("vllm"))
        return
    if argv[:1] != ["serve"]:
        sys.exit(2)
    parser = _vllm_parser("vllm serve")
    if argv[1:] == ["--help"] or (argv[1:] == ["--help=all"] and not _old()):
        parser.print_help()
        return
    told = parser.parse_args(argv[1:])
    _serve_vllm(told, told.model_tag)


def _serve_vllm(told: argparse.Namespace, model: str | None) -> None:
    if not model:
        sys.exit("error: the model is missing")
    if not 0 < told.gpu_memory_utilization <= 1:
        sys.exit(f"ValueError: GPU memory utilization must be less than 1.0. Got {told.gpu_memory_utilization}.")
    if told.gpu_memory_utilization < 0.01:
        sys.exit("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.")
    options: dict[str, Any] = {
        "max_num_seqs": told.max_num_seqs,
        "max_num_batched_tokens": told.max_num_batched_tokens,
        "scheduling_policy": told.scheduling_policy,
        "prefix_caching": bool(told.enable_prefix_caching),
    }
    if told.max_model_len:
        options["max_model_len"] = told.max_model_len
    names = told.served_model_name or [model]
    _serve("vllm", "vllm", told.host or "0.0.0.0", told.port, names[0], options)


# --- TGI


def _tgi_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="text-generation-launcher", allow_abbrev=False)
    parser.add_argument("--version", "-V", action="store_true")
    parser.add_argument("--model-id", default="bigscience/bloom-560m")
    parser.add_argument("--hostname", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--shard-uds-path", type=Path, default=Path("text-generation-server"))
    parser.add_argument("--master-port", type=int, default=29500)
    parser.add_argument("--cuda-memory-fraction", type=float, default=1.0)
    parser.add_argument("--max-batch-prefill-tokens", type=int)
    parser.add_argument("--max-batch-total-tokens", type=int)
    parser.add_argument("--max-batch-size", type=int)
    parser.add_argument("--max-total-tokens", type=int)
    parser.add_argument("--max-concurrent-requests", type=int, default=128)
    parser.add_argument("--cuda-graphs")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"])
    if _old():
        parser.add_argument("--max-input-length", type=int)
    else:
        parser.add_argument("--prometheus-port", type=int, default=9000)
        parser.add_argument("--max-input-tokens", type=int)
        parser.add_argument("--usage-stats", choices=["on", "off", "no-stack"], default="on")
    return parser


def _tgi(argv: list[str]) -> None:
    told = _tgi_parser().parse_args(argv)
    if told.version:
        print(f"text-generation-launcher {_version('text-generation-launcher')}")
        return
    told.shard_uds_path.with_name(told.shard_uds_path.name + "-0").touch()
    options = {"max_model_len": told.max_total_tokens} if told.max_total_tokens else {}
    # The launcher's shards lead process groups of their own.
    _serve("tgi", "tgi", told.hostname, told.port, told.model_id, options, own_group=True)


# --- transformers


def _transformers(argv: list[str]) -> None:
    if argv == ["version"]:
        print(_version("transformers"))
        return
    if argv[:1] != ["serve"]:
        sys.exit(2)
    parser = argparse.ArgumentParser(prog="transformers serve", allow_abbrev=False)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto")
    if _old():
        parser.add_argument("--force-model", "--force_model")
        parser.add_argument("--torch-dtype", "--torch_dtype")
        parser.add_argument("--continuous_batching", action="store_true")
    else:
        parser.add_argument("force_model", nargs="?", metavar="FORCE_MODEL")
        parser.add_argument("--dtype", default="auto")
        parser.add_argument("--continuous-batching", action="store_true")
        parser.add_argument("--cb-max-batch-tokens", type=int)
        parser.add_argument("--cb-max-memory-percent", type=float)
        parser.add_argument("--cb-num-blocks", type=int)
    told = parser.parse_args(argv[1:])
    _serve("transformers", "transformers", told.host, told.port, told.force_model, {"max_num_seqs": 1})


# --- docker


def _docker(argv: list[str]) -> None:
    containers = Path(os.environ["FAKE_RECORDS"]) / "containers"
    containers.mkdir(exist_ok=True)
    command, rest = argv[0], argv[1:]
    if command == "inspect":
        assert rest[:2] == ["--format", "{{.State.Pid}}"]
        file = containers / rest[2]
        print(file.read_text() if file.exists() else "")
        return
    if command == "rm":
        assert rest[0] == "--force"
        (containers / rest[1]).unlink(missing_ok=True)
        return
    assert command == "run", argv
    parser = argparse.ArgumentParser(prog="docker run", allow_abbrev=False)
    parser.add_argument("--rm", action="store_true")
    parser.add_argument("--init", action="store_true")
    parser.add_argument("--name")
    parser.add_argument("--gpus")
    parser.add_argument("--ipc")
    parser.add_argument("--user")
    parser.add_argument("--publish")
    parser.add_argument("--volume", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    told = parser.parse_args(rest)
    tgi = "text-generation" in told.image
    inner = _tgi_parser() if tgi else _vllm_parser("vllm serve")
    if told.arguments and told.arguments[0].startswith("--help"):
        inner.print_help()
        return
    if told.arguments == ["--version"]:
        print(_version("text-generation-launcher" if tgi else "vllm"))
        return
    assert told.rm
    assert told.gpus.startswith('"device='), told.gpus
    address, outside, inside = told.publish.rsplit(":", 2)
    server = inner.parse_args(told.arguments)
    assert server.port == int(inside), (server.port, inside)
    server.port = int(outside)
    _record("docker", argv)
    (containers / told.name).write_text(str(os.getpid()))
    if tgi:
        _serve("tgi", "tgi", address, server.port, server.model_id, {})
    else:
        server.host = address
        _serve_vllm(server, server.model)


# --- what is common to them


def _record(name: str, argv: Sequence[str]) -> None:
    folder = os.environ.get("FAKE_RECORDS")
    if folder:
        content = {"name": name, "argv": list(argv), "environment": dict(os.environ), "pid": os.getpid()}
        Path(folder, f"{time.time_ns()}-{name}.json").write_text(json.dumps(content))


def _serve(
    name: str, owner: str, host: str, port: int, model: str, options: dict[str, Any], own_group: bool = False
) -> None:
    """Start the process that serves, and end as it ends."""
    _record(name, sys.argv[1:])
    faults = _faults()
    assert "VLLM_PORT" not in os.environ
    print(f"INFO 11-21 12:00:00 [api_server.py:1] {name} version {_version('vllm')}, model {model}", flush=True)
    _misbehave_at_start(faults, port)
    options = {name: value for name, value in options.items() if value is not None}
    options = {"step_base_ms": 1, "step_per_sequence_us": 10, "compute_per_token_us": 2, **options}
    options.setdefault("max_num_batched_tokens", 2048)
    options["max_num_batched_tokens"] = max(options["max_num_batched_tokens"], options.get("max_num_seqs", 64))
    engine = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.serving.fakes.core", owner, _version(_NAMES.get(name, name))),
            *("--host", host, "--port", str(port), "--model", model, "--options", json.dumps(options)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path[1:]])},
        process_group=0 if own_group else None,
        stdin=subprocess.PIPE,
    )
    client = _join_mps(engine.pid)

    def end(*_: object) -> None:
        if "ignore_sigterm" not in faults:
            engine.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGUSR1, lambda *_: engine.kill())
    code = engine.wait()
    if client is not None:
        with contextlib.suppress(OSError):
            client.unlink()
    print(f"INFO 11-21 12:00:09 [core.py:9] EngineCore ended with {code}", flush=True)
    sys.exit(0 if code == 0 else 1)


_NAMES = {"tgi": "text-generation-launcher"}


def _join_mps(pid: int) -> Path | None:
    """Become a client of the MPS daemon, if there is one where we are told to look."""
    pipes = os.environ.get("CUDA_MPS_PIPE_DIRECTORY")
    if not pipes or not Path(pipes, "control").exists() or "no_mps" in _faults():
        return None
    folder = Path(pipes, "clients")
    folder.mkdir(exist_ok=True)
    client = folder / str(pid)
    client.touch()
    return client


def _misbehave_at_start(faults: set[str], port: int) -> None:
    if "oom" in faults:
        print("(EngineCore pid=99) ERROR 11-21 12:00:01 [core.py:1] EngineCore failed to start.", flush=True)
        sys.exit(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of "
            "22.03 GiB of which 101.06 MiB is free."
        )
    if "port" in faults:
        sys.exit(
            f"OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', {port}): address already in "
            "use"
        )
    if "gated" in faults:
        sys.exit(
            "OSError: You are trying to access a gated repo.\n401 Client Error.\nMake sure to have access to it at "
            "https://huggingface.co/meta-llama/Llama-3.1-8B."
        )
    if "race" in faults:
        with contextlib.suppress(FileExistsError):
            Path(os.environ["FAKE_RECORDS"], "raced").touch(exist_ok=False)
            sys.exit(
                "AssertionError: Error in memory profiling. Initial free memory 21.1 GiB, current free memory 22.0 GiB."
            )
    if "never_ready" in faults:
        print("INFO loading the weights", flush=True)
        signal.pause()
