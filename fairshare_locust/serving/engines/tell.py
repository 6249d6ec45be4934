"""What a server says of itself in JSON."""

from __future__ import annotations

import urllib.request

import orjson

__all__ = ["told"]

_WITHIN_S = 5.0


def told(url: str, path: str, key: str) -> str | None:
    """The text under `key` at `url`/`path`; None if there is none."""
    try:
        with urllib.request.urlopen(url + path, timeout=_WITHIN_S) as answer:
            said = orjson.loads(answer.read(1 << 20)).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return said if isinstance(said, str) else None
