"""Causes: why a server died, read from the end of its log, and what to do about it."""

from __future__ import annotations

import re

__all__ = ["PROFILING_RACE", "likely_cause"]

PROFILING_RACE = re.compile(
    r"Error in memory profiling|No available memory for the cache blocks|"
    r"Free memory on device .* is less than desired GPU memory utilization"
)
"""What vLLM says when another process took or freed GPU memory while it measured it: worth a second try."""

# The first that matches, of the line that comes last in the log.
_CAUSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in (
        (
            r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|Not enough memory to handle",
            "the GPU's memory does not suffice; lower deployment.server.gpu_memory_utilization, max_num_seqs or "
            "max_model_len, take a smaller model or fewer tenants with servers of their own, or see with nvidia-smi "
            "who else uses the GPU",
        ),
        (
            r"Free memory on device .* is less than desired",
            "another process holds memory of the GPU; see with nvidia-smi which, or lower "
            "deployment.server.gpu_memory_utilization",
        ),
        (
            r"No available memory for the cache blocks|max seq len .* is larger than the maximum number of tokens|"
            r"KV cache is needed, which is larger than the available KV cache memory",
            "no room is left for the KV cache; raise deployment.server.gpu_memory_utilization (or the tenant's share), "
            "or lower max_model_len",
        ),
        (
            r"max_batch_prefill_tokens` must be >=",
            "tgi can't split a prompt here, so that the longest must fit into one prefill; raise "
            "deployment.server.max_num_batched_tokens to max_model_len, or lower max_model_len",
        ),
        (
            r"Error in memory profiling",
            "another process freed memory of the GPU while this server measured it; end that process, or say "
            "deployment.server.kv_cache_gib",
        ),
        (
            r"Address already in use|EADDRINUSE|errno 98",
            "its port was taken by another process meanwhile; start again",
        ),
        (
            r"gated repo|GatedRepoError|401 Client Error|403 Client Error|Cannot access gated|awaiting a review",
            "the model is gated; ask for access on its page at huggingface.co, and export HF_TOKEN before the run",
        ),
        (
            r"RepositoryNotFoundError|is not a valid model identifier|is not a local folder|404 Client Error|"
            r"Can't load the configuration|does not appear to have a file named|RevisionNotFound",
            "there is no such model; mend model.name, or export HF_TOKEN if it is private",
        ),
        (
            r"LocalEntryNotFoundError|Couldn't connect to|Name or service not known|Temporary failure in name "
            r"resolution|offline mode|Max retries exceeded",
            "the model is not on this host, and the hub can't be reached; fetch it before, or name its folder in "
            "model.name",
        ),
        (
            r"unrecognized arguments|unexpected argument|No such option|unknown option|invalid choice",
            "the engine does not know one of its arguments; mend deployment.server.extra_args",
        ),
        (
            r"MPS server is not ready|CUDA_ERROR_MPS|error 80[5-9]|error 810",
            "the MPS daemon does not answer; see its log, and that no other daemon holds the GPU",
        ),
        (
            r"CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy",
            "the GPU is taken by one process alone (compute mode EXCLUSIVE_PROCESS), and MPS is not reached; "
            "nvidia-smi -c DEFAULT allows others",
        ),
        (
            r"No CUDA GPUs are available|no CUDA-capable device is detected|Failed to infer device type|"
            r"Found no NVIDIA driver|CUDA driver version is insufficient|could not select device driver",
            "the engine sees no GPU; check nvidia-smi and deployment.server.gpu (a container needs the NVIDIA "
            "container toolkit)",
        ),
        (
            r"not supported .* compute capability|no kernel image is available|Bfloat16 is only supported",
            "the GPU can't compute so; choose another deployment.server.dtype, or another model",
        ),
        (
            r"Cannot connect to the Docker daemon|docker: permission denied",
            "docker can't be used; start its daemon, or join its group",
        ),
        (
            r"Unable to find image .* locally|manifest unknown|pull access denied",
            "docker can't get the image; mend deployment.server.image, or pull it before the run",
        ),
        (r"No space left on device", "the disk is full; make room for the model and the caches"),
        (r"ModuleNotFoundError: No module named '(\S+)'", "a package of the engine is missing; install it beside it"),
        (r"ImportError|undefined symbol", "the engine's installation is broken; install it anew"),
    )
)


def likely_cause(log: str) -> str | None:
    """What the log's last tell-tale line means, and the fix; None if no line tells."""
    for line in reversed(log.splitlines()):
        for pattern, cause in _CAUSES:
            if pattern.search(line):
                return cause
    return None
