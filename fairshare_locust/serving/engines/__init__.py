"""Engines that we start: each knows its own command line, environment and version."""

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Engine as EngineName
from fairshare_locust.serving.engines import tgi, transformers, vllm
from fairshare_locust.serving.engines.engine import Engine, Launch, Site
from fairshare_locust.serving.engines.tgi import Tgi
from fairshare_locust.serving.engines.transformers import Transformers
from fairshare_locust.serving.engines.vllm import Vllm

__all__ = ["ENGINES", "HINTS", "Engine", "Launch", "Site", "engine_of"]

ENGINES: dict[str, Engine] = {"vllm": Vllm(), "tgi": Tgi(), "transformers": Transformers()}
HINTS: dict[str, str] = {"vllm": vllm.HINT, "tgi": tgi.HINT, "transformers": transformers.HINT}
"""How each is installed."""


def engine_of(name: EngineName) -> Engine:
    """The engine of this name. Raises ServingError for those that we do not start as others are."""
    if name not in ENGINES:
        raise ServingError(f"deployment.engine: found {name!r}; must be one of {', '.join(ENGINES)} to be started")
    return ENGINES[name]
