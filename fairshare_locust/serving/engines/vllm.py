"""vLLM: `vllm serve`, or its image."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.serving.engines.container import image_program, run_container
from fairshare_locust.serving.engines.engine import Arguments, Launch, Site
from fairshare_locust.serving.engines.flags import Program, find_program
from fairshare_locust.serving.engines.tell import told

__all__ = ["HINT", "Vllm"]

_GIB = 1 << 30
HINT = "pip install vllm"
_KNOWN = "--max-num-seqs"  # a help by groups, as new versions print it, does not have it


class Vllm:
    """vLLM. What its defaults make of the GPU differs by GPU, so that its batch is always told."""

    name = "vllm"
    executable = "vllm"
    ports = 1

    def launch(self, site: Site) -> Launch:
        """See `Engine`."""
        options = site.options
        program = self._program(site)
        kv_gib = [options.kv_cache_gib[tenant] for tenant in site.placement.tenants if tenant in options.kv_cache_gib]
        arguments = Arguments(options.extra_args)
        image = options.image
        arguments.add("--host", "0.0.0.0" if image else site.address)
        arguments.add("--port", 8000 if image else site.ports[0])
        arguments.add("--served-model-name", site.model)
        arguments.add("--max-num-batched-tokens", options.max_num_batched_tokens)
        arguments.add("--max-num-seqs", options.max_num_seqs)
        arguments.add("--gpu-memory-utilization", round(site.placement.memory_fraction, 4))
        if kv_gib:
            flag = program.need("kv_cache_gib", "--kv-cache-memory-bytes", "--kv-cache-memory")
            arguments.add(flag, round(sum(kv_gib) * _GIB))
        if options.max_model_len is not None:
            arguments.add("--max-model-len", options.max_model_len)
        arguments.add("--enable-prefix-caching" if options.prefix_caching else "--no-enable-prefix-caching")
        if options.scheduling_policy != "fcfs" or "--scheduling-policy" in program.flags:
            arguments.add(program.need("scheduling_policy", "--scheduling-policy"), options.scheduling_policy)
        arguments.add("--load-format", options.load_format)
        arguments.add("--dtype", options.dtype)
        if options.enforce_eager:
            arguments.add("--enforce-eager")
        arguments.add(program.first("--enable-per-request-metrics"))
        arguments.add(program.first("--enable-prompt-tokens-details"))
        notes = []
        if not kv_gib and site.profile.deployment.sharing != "logical" and not arguments.has("--kv-cache-memory"):
            notes.append(
                "vllm sizes its KV cache by what it finds free at its start; deployment.server.kv_cache_gib makes it "
                "the same in every run"
            )
        environment = {"VLLM_NO_USAGE_STATS": "1"}
        if image is None:
            command = (*program.command, site.model, *arguments.all)
            return Launch(command=command, environment=environment, notes=tuple(notes))
        caches = {Path.home() / ".cache" / "huggingface": "/root/.cache/huggingface"}
        inner = ("--model", site.model, *arguments.all)
        command = run_container(site, image, environment, 8000, caches, inner)
        return Launch(command=command, container=site.container, notes=tuple(notes))

    def _program(self, site: Site) -> Program:
        if site.options.image is not None:
            return image_program(site.options.image, _KNOWN)
        executable = site.options.executable or self.executable
        helps = (("serve", "--help=all"), ("serve", "--help"))  # an old one lists all flags by the second
        return find_program(executable, HINT, ("serve",), helps, ("--version",), _KNOWN)

    def version(self, url: str) -> str | None:
        """See `Engine`."""
        return told(url, "/version", "version")
