"""Events as servers send them, made in one line."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["DONE", "FINISH", "ROLE", "USAGE", "event", "tgi_token", "token"]


def event(content: Any) -> bytes:
    """An event with this JSON."""
    return f"data: {json.dumps(content)}\n\n".encode()


def token(text: str, **more: Any) -> bytes:
    """A chat chunk with this text."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"choices": [choice], **more})


def tgi_token(text: str, **more: Any) -> bytes:
    """A token as TGI streams it: no space after the colon."""
    inner = {"id": 7, "text": text, "logprob": -0.5, "special": more.pop("special", False)}
    content = {"index": 1, "token": inner, "generated_text": None, "details": None, **more}
    return f"data:{json.dumps(content)}\n\n".encode()


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}})
DONE = b"data: [DONE]\n\n"
