"""Text Generation Inference: its launcher, or its image. It is in maintenance mode; v3.3.7 was the last seen."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.serving.engines.container import image_program, run_container
from fairshare_locust.serving.engines.engine import Arguments, Launch, Site
from fairshare_locust.serving.engines.flags import Program, find_program
from fairshare_locust.serving.engines.tell import told

__all__ = ["HINT", "Tgi"]

HINT = (
    "TGI has no package to install: say deployment.server.image: ghcr.io/huggingface/text-generation-inference:3.3.7 "
    "(needs docker), or build text-generation-launcher"
)
_LEAST_STREAMS = 128  # its own default; beyond it, it answers 429


class Tgi:
    """TGI. It may use what is free less `1 − fraction` of all memory, so that fractions rise from one to the next."""

    name = "tgi"
    executable = "text-generation-launcher"
    ports = 3

    def launch(self, site: Site) -> Launch:
        """See `Engine`."""
        options, image = site.options, site.options.image
        program = self._program(site)
        arguments = Arguments(options.extra_args)
        arguments.add("--model-id", site.model)
        arguments.add("--hostname", "0.0.0.0" if image else site.address)
        arguments.add("--port", 80 if image else site.ports[0])
        if image is None:
            arguments.add(program.first("--prometheus-port"), site.ports[1])
            arguments.add("--master-port", site.ports[2])
            arguments.add("--shard-uds-path", site.scratch / "shard")
        fraction = min(1.0, site.memory_before + site.placement.memory_fraction)
        arguments.add("--cuda-memory-fraction", round(fraction, 4))
        arguments.add("--max-batch-prefill-tokens", options.max_num_batched_tokens)
        arguments.add(program.need("max_num_seqs", "--max-batch-size"), options.max_num_seqs)
        arguments.add("--max-concurrent-requests", max(_LEAST_STREAMS, site.streams))
        if options.max_model_len is not None:
            arguments.add(program.need("max_model_len", "--max-total-tokens"), options.max_model_len)
            arguments.add(program.first("--max-input-tokens", "--max-input-length"), options.max_model_len - 1)
        if options.dtype != "auto":
            arguments.add("--dtype", options.dtype)
        if options.enforce_eager:
            arguments.add(program.need("enforce_eager", "--cuda-graphs"), 0)
        arguments.add(program.first("--usage-stats"), "off")
        environment = {} if options.prefix_caching else {"PREFIX_CACHING": "0", "USE_PREFIX_CACHING": "0"}
        if image is None:
            return Launch(command=(*program.command, *arguments.all), environment=environment)
        caches = {Path.home() / ".cache" / "huggingface" / "hub": "/data"}
        command = run_container(site, image, environment, 80, caches, arguments.all)
        return Launch(command=command, container=site.container)

    def _program(self, site: Site) -> Program:
        if site.options.image is not None:
            return image_program(site.options.image)
        return find_program(site.options.executable or self.executable, HINT, (), (("--help",),), ("--version",))

    def version(self, url: str) -> str | None:
        """See `Engine`."""
        return told(url, "/info", "version")
