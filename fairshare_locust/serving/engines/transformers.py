"""`transformers serve`: one request after another, the naive baseline; batching continuously only if told to."""

from __future__ import annotations

from fairshare_locust.serving.engines.engine import Arguments, Launch, Site
from fairshare_locust.serving.engines.flags import find_program

__all__ = ["HINT", "Transformers"]

HINT = "pip install 'transformers[serving]' torch accelerate"
_HELPS = (("serve", "--help"),)


class Transformers:
    """Hugging Face's transformers. Without batching it keeps to no limit of memory."""

    name = "transformers"
    executable = "transformers"
    ports = 1

    def launch(self, site: Site) -> Launch:
        """See `Engine`."""
        options = site.options
        program = find_program(options.executable or self.executable, HINT, ("serve",), _HELPS, ("version",))
        arguments = Arguments(options.extra_args)
        arguments.add("--host", site.address)
        arguments.add("--port", site.ports[0])
        if options.dtype != "auto":
            arguments.add(program.need("dtype", "--dtype", "--torch-dtype", "--torch_dtype"), options.dtype)
        notes = []
        if options.continuous_batching:
            arguments.add(program.need("continuous_batching", "--continuous-batching", "--continuous_batching"))
            arguments.add(program.first("--cb-max-batch-tokens"), options.max_num_batched_tokens)
            arguments.add(program.first("--cb-max-memory-percent"), round(site.placement.memory_fraction, 4))
            lacking = ("--cb-max-batch-tokens", "--cb-max-memory-percent")
            if not all(arguments.has(flag) or program.first(flag) for flag in lacking):
                notes.append("this version of transformers takes no limits of its batch and its memory")
        else:
            notes.append("transformers serve answers one request after another, and keeps to no limit of memory")
        model = (site.model,) if "--force-model" not in program.flags else ("--force-model", site.model)
        return Launch(command=(*program.command, *model, *arguments.all), notes=tuple(notes), version=program.version())

    def version(self, url: str) -> str | None:  # noqa: ARG002
        """See `Engine`: a server does not tell."""
        return None
