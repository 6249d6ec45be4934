"""Text Generation Inference's own `/generate_stream`: an event per token, the last one with the whole text."""

from __future__ import annotations

from typing import Any

import orjson

from fairshare_locust.client.dialects.dialect import Ask, ServerFamily, event_object, token_count
from fairshare_locust.client.dialects.transcript import Transcript

__all__ = ["TGI", "Tgi"]

TGI = ServerFamily("tgi", takes=frozenset(("top_k", "seed", "frequency_penalty")))
"""What a server takes by this API."""


class Tgi:
    """`/generate_stream`. There is no `[DONE]`; the event with `generated_text` is the end.

    The length can only be capped, not forced.
    """

    name = "tgi"
    path = "/generate_stream"

    def body(self, ask: Ask) -> bytes:
        """The JSON body. Temperature 0 is greedy search, which TGI wants said as `do_sample: false`.

        A `top_p` or `top_k` would make it sample all the same, so a greedy request has none.
        """
        parameters: dict[str, Any] = {
            "max_new_tokens": ask.output_tokens,
            "details": True,
            "do_sample": False,
        }
        options = ask.options
        if ask.sampling.temperature > 0:
            parameters |= {"do_sample": True, "temperature": ask.sampling.temperature}
            if ask.sampling.top_p is not None and ask.sampling.top_p < 1:
                parameters["top_p"] = ask.sampling.top_p
        else:
            options.pop("top_k", None)
        parameters |= options
        if ask.adapter is not None:
            parameters["adapter_id"] = ask.adapter
        return orjson.dumps({"inputs": ask.prompt, "parameters": parameters})

    def read(self, data: bytes, stamp: float, transcript: Transcript) -> None:
        """Take in one event. Special tokens (an end marker) are no content, unless there is nothing else."""
        event = event_object(data, transcript)
        if event is None:
            return
        token = event.get("token")
        if token:
            if token.get("special"):
                transcript.special.append(stamp)
            else:
                transcript.content(stamp, token.get("text") or "", 1)
        if event.get("generated_text") is not None:
            transcript.ended = True
        details = event.get("details")
        if details:
            transcript.choice(0, details.get("finish_reason"))
            transcript.output_tokens = token_count(details.get("generated_tokens"))
            transcript.input_tokens = token_count(details.get("input_length"))

    def text_bounds(self, data: bytes) -> tuple[int, int] | None:
        """See Dialect: no two events are alike but for the text, as each has its token's id."""
        del data
        return None

    def close(self, transcript: Transcript) -> None:
        """An answer of nothing but special tokens has those as its content."""
        if transcript.first_token_at is None:
            for stamp in transcript.special:
                transcript.content(stamp, "", 1)
