"""Option: what a tenant may ask of a server beyond a prompt, a length and a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from fairshare_locust.profile.model import Sampling

__all__ = ["EVERY_OPTION", "PLAIN_OPTIONS", "Option", "asked_options"]

Option = Literal["top_k", "seed", "frequency_penalty", "presence_penalty", "priority", "cache_salt"]

EVERY_OPTION: frozenset[Option] = frozenset(get_args(Option))
PLAIN_OPTIONS: frozenset[Option] = frozenset(("seed", "frequency_penalty", "presence_penalty"))
"""Those of OpenAI's own API."""


def asked_options(
    sampling: Sampling, priority: int | None, cache_salt: str | None
) -> Mapping[Option, int | float | str]:
    """The options that are asked for, in the order in which a body has them."""
    values: dict[Option, int | float | str | None] = {
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "priority": priority,
        "cache_salt": cache_salt,
    }
    return {option: value for option, value in values.items() if value is not None}
