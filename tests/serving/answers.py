"""What the small servers of these tests answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from fairshare_locust.profile.model import Profile
from tests.profile.profiles import MINIMAL, parse

__all__ = ["JSON", "Answer", "Serve", "models", "profile", "prompt", "stream"]

JSON = "application/json"

Answer = Callable[[str, dict[str, Any] | None, Mapping[str, str]], tuple[int, str, bytes]]
"""(path, body of a POST, headers) → status, content type, body."""

Serve = Callable[[Answer], str]
"""Starts a server; gives its URL."""


def models(*names: str, **more: Any) -> bytes:
    """A list of models."""
    return orjson.dumps({"data": [{"id": name, **more} for name in names]})


def prompt(body: dict[str, Any]) -> str:
    """The prompt of a chat of one message, of a completion, or of TGI's."""
    text = body.get("prompt") or body.get("inputs") or body["messages"][0]["content"]
    assert isinstance(text, str)
    return text


def stream(prompt_tokens: int | None = 1) -> tuple[int, str, bytes]:
    """An answer of one token; without usage if the prompt is not counted."""
    event: dict[str, Any] = {
        "choices": [{"index": 0, "delta": {"content": "x"}, "text": "x", "finish_reason": "length"}]
    }
    if prompt_tokens is not None:
        event["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": 1}
    return 200, "text/event-stream", b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps(event)


def profile(model: str = "auto", tenant: str = "") -> Profile:
    """A profile of this model, and one tenant with these further lines."""
    text = MINIMAL.replace("  - id: chat", f"  - id: chat{tenant}")
    lines = [f"model: {{name: {model}}}" if line.startswith("model:") else line for line in text.splitlines()]
    return parse("\n".join(lines) + "\n")
