"""Options of real engines: what the servers that we start are told, each with a flag of the engine behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fairshare_locust.profile.schema import allow

__all__ = ["ServerOptions"]

_SECRET = re.compile(r"secret|passw|credential|apikey|(^|_)(token|keys?|auth)$", re.IGNORECASE)
_SECRET_FLAG = re.compile(r"--(\S*[-_])?(token|secret|password|passwd|api[-_]?keys?|auth\S*|credentials?)(=|$)", re.I)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN_FLAGS = {
    "--host",
    "--hostname",
    "--port",
    "--model",
    "--model-id",
    "--served-model-name",
    "--uds",
    "--master-port",
    "--prometheus-port",
    "--shard-uds-path",
}
# What an option says: said otherwise in extra_args, a run would be told to have what it has not.
_OPTION_OF = {
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--max-num-seqs": "max_num_seqs",
    "--max-model-len": "max_model_len",
    "--gpu-memory-utilization": "gpu_memory_utilization",
    "--cuda-memory-fraction": "gpu_memory_utilization",
    "--enable-prefix-caching": "prefix_caching",
    "--no-enable-prefix-caching": "prefix_caching",
    "--scheduling-policy": "scheduling_policy",
    "--load-format": "load_format",
    "--dtype": "dtype",
    "--enforce-eager": "enforce_eager",
    "--no-enforce-eager": "enforce_eager",
    "--continuous-batching": "continuous_batching",
}
_OWN_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "VLLM_PORT", "PROMETHEUS_MULTIPROC_DIR"}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the servers that we start are told. Used by the engines vllm, tgi and transformers.

    Those that an engine can't follow are refused, if they are not as they are here. Options by tenant are for servers
    of their own, that is for every way of sharing but `logical`; a way of sharing passes over what is another's.

    Attributes:
        gpu: index or UUID of the GPU.
        executable: path or name; without it `vllm`, `text-generation-launcher` or `transformers`.
        image: run this container image (with docker) instead; for tgi and vllm.
        max_num_batched_tokens: tokens, decoded and prefilled, in one step. For tgi, of prompts in one prefill.
        max_num_seqs: sequences in the batch at once.
        max_model_len: longest prompt and answer together; without it what the model can.
        gpu_memory_utilization: part of the whole GPU's memory that its servers use; servers of their own share it,
            evenly or as `memory_percent` says. On a MIG slice it is of the slice.
        kv_cache_gib: by tenant, memory of its KV cache; without it the engine takes what is left. For vllm.
        prefix_caching: prompts that begin alike share KV blocks.
        scheduling_policy: `fcfs`, or `priority` (vllm).
        load_format: `dummy`: random weights, so that none need be there (vllm).
        dtype: of weights and computing, such as bfloat16; `auto`: the model's.
        continuous_batching: of transformers, which without it answers one request after another.
        enforce_eager: no CUDA graphs: starts sooner, decodes slower.
        extra_args: anything that has no option here, as it stands on the engine's command line. No secrets.
        environment: variables for the servers, beside our own. No secrets: export those before the run.
        ready_within_s: how long a server may take from its start to its first token.
        stop_within_s: how long it may take to end by itself; after it, it is killed.
        sm_percent: by tenant, the most it may use of the SMs: MPS's active thread percentage (mps, mig_emulated).
        memory_percent: by tenant, its share of the GPU's memory: MPS's pinned memory limit, a cap in mig_emulated;
            others have an even part of the rest.
        mig: by tenant, the MIG profile of its slice, such as 3g.40gb.
        manage_mig: create the slices for the run, and restore what was there after it. Without it those that exist
            are used.
    """

    gpu: int | str = allow(
        0, at_least=0, pattern=r"GPU-[0-9A-Fa-f-]+", pattern_means="the UUID of a GPU (GPU-…), as nvidia-smi -L tells"
    )
    executable: str | None = allow(None, pattern=r"\S(.*\S)?", pattern_means="the name or path of a program")
    image: str | None = allow(None, pattern=r"[^\s-]\S*", pattern_means="a container image, such as vllm/vllm-openai")
    max_num_batched_tokens: int = allow(2048, at_least=1)
    max_num_seqs: int = allow(256, at_least=1)
    max_model_len: int | None = allow(None, at_least=1)
    gpu_memory_utilization: float = allow(0.9, above=0, at_most=1)
    kv_cache_gib: dict[str, float] = field(default_factory=dict)
    prefix_caching: bool = True
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    load_format: Literal["auto", "dummy"] = "auto"
    dtype: str = allow("auto", pattern=r"[a-z][a-z0-9_]*", pattern_means="auto or a type, such as bfloat16")
    continuous_batching: bool = False
    enforce_eager: bool = False
    extra_args: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready_within_s: float = allow(900.0, above=0)
    stop_within_s: float = allow(30.0, above=0)
    sm_percent: dict[str, float] = field(default_factory=dict)
    memory_percent: dict[str, float] = field(default_factory=dict)
    mig: dict[str, str] = field(default_factory=dict)
    manage_mig: bool = False

    @property
    def by_tenant(self) -> dict[str, Mapping[str, object]]:
        """The options that name tenants."""
        return {
            "kv_cache_gib": self.kv_cache_gib,
            "sm_percent": self.sm_percent,
            "memory_percent": self.memory_percent,
            "mig": self.mig,
        }

    def check(self) -> Iterator[tuple[str, str]]:
        """Shares that are none, flags and variables that are ours to set, secrets."""
        for key, given in (("sm_percent", self.sm_percent), ("memory_percent", self.memory_percent)):
            for tenant, percent in given.items():
                if not 0 < percent <= 100:
                    yield f"{key}.{tenant}", f"found {percent:g}; must be above 0 and at most 100"
        if (total := math.fsum(self.memory_percent.values())) > 100 + 1e-9:
            yield "memory_percent", f"found {total:g} in all; must be at most 100 together"
        for tenant, gib in self.kv_cache_gib.items():
            if not gib > 0:
                yield f"kv_cache_gib.{tenant}", f"found {gib:g}; must be above 0"
        if self.max_num_batched_tokens < self.max_num_seqs:
            yield (
                "max_num_batched_tokens",
                f"found {self.max_num_batched_tokens}; must be at least max_num_seqs ({self.max_num_seqs})",
            )
        for i, argument in enumerate(self.extra_args):
            flag = argument.split("=", 1)[0].replace("_", "-")
            if _SECRET_FLAG.match(argument):
                yield (
                    f"extra_args[{i}]",
                    f"{flag}: a secret must not stand in a file or a command; export it as the variable that the "
                    "engine reads before the run",
                )
            elif flag in _OWN_FLAGS or flag == "-p":
                yield f"extra_args[{i}]", f"found {flag}; it is set by the run itself"
            elif flag in _OPTION_OF:
                yield f"extra_args[{i}]", f"found {flag}; say it as deployment.server.{_OPTION_OF[flag]}"
        if self.image is not None and self.executable is not None:
            yield "executable", f"found {self.executable} beside image {self.image}; give one of them"
        for name in self.environment:
            if not _NAME.fullmatch(name):
                yield f"environment.{name}", f"found {name!r}; not the name of an environment variable"
            elif _SECRET.search(name):
                yield (
                    f"environment.{name}",
                    "a secret must not stand in a file; export it before the run: the servers get it from there",
                )
            elif name in _OWN_ENVIRONMENT or name.startswith("CUDA_MPS_"):
                yield f"environment.{name}", "this variable is set by the run itself; leave it out"

    def refused(self, engine: str) -> Iterator[tuple[str, str]]:
        """What this engine can't follow, as `check` tells it."""
        cant = _CANT.get(engine, {})
        for key, (plain, why) in cant.items():
            value = getattr(self, key)
            if value != plain:
                found = str(value).lower() if isinstance(value, bool) else value
                yield key, f"found {found}; {why}"


_CANT: dict[str, dict[str, tuple[Any, str]]] = {
    "vllm": {
        "continuous_batching": (False, "vllm always batches continuously; leave it out"),
    },
    "tgi": {
        "kv_cache_gib": ({}, "tgi counts its KV cache in tokens; say --max-batch-total-tokens in extra_args"),
        "scheduling_policy": ("fcfs", "tgi serves who came first; leave it out, or take engine vllm"),
        "load_format": ("auto", "tgi loads real weights only; leave it out, or take engine vllm"),
        "continuous_batching": (False, "tgi always batches continuously; leave it out"),
    },
    "transformers": {
        "image": (None, "transformers serve has no image of its own; install it (pip install 'transformers[serving]')"),
        "kv_cache_gib": (
            {},
            "transformers counts its KV cache in blocks; with continuous_batching say --cb-num-blocks in extra_args",
        ),
        "scheduling_policy": ("fcfs", "transformers serves who came first; leave it out, or take engine vllm"),
        "load_format": ("auto", "transformers loads real weights only; leave it out, or take engine vllm"),
        "max_model_len": (None, "transformers serve has no such limit; leave it out"),
        "enforce_eager": (False, "transformers serve is told by --compile in extra_args; leave it out"),
    },
}
