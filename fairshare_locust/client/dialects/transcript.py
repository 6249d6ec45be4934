"""Transcript: what a dialect has understood of one stream so far."""

from __future__ import annotations

__all__ = ["Transcript"]


class Transcript:
    """Filled by a dialect event by event. Stamps are `time.monotonic()` seconds of the segment that brought them.

    Attributes:
        first_token_at, last_token_at: first and last event with generated content, None before.
        gap_us: whole microseconds between consecutive content chunks.
        chunk_tokens: tokens of each content chunk; None once the server left one out.
        texts: the generated text, in pieces.
        input_tokens, output_tokens: the server's own counts, None if it gave none.
        ended: the stream's proper end was seen.
        error: message of an error event, None without one.
    """

    __slots__ = (
        "_counted",
        "_open_choices",
        "chunk_tokens",
        "ended",
        "error",
        "finish_reason",
        "first_token_at",
        "gap_us",
        "input_tokens",
        "last_token_at",
        "output_tokens",
        "special",
        "texts",
    )

    def __init__(self) -> None:
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.gap_us: list[int] = []
        self.chunk_tokens: list[int] | None = []
        self.texts: list[str] = []
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.finish_reason: str | None = None
        self.ended = False
        self.error: str | None = None
        self.special: list[float] = []  # stamps of special tokens, until a plain one comes
        self._counted = 0
        self._open_choices: set[int] = set()

    @property
    def chunks(self) -> int:
        """Content chunks so far."""
        return len(self.gap_us) + 1 if self.first_token_at is not None else 0

    @property
    def finished(self) -> bool:
        """Whether each choice that began has said why it finished."""
        return self.finish_reason is not None and not self._open_choices

    def content(self, stamp: float, text: str, tokens: int | None) -> None:
        """A chunk with generated content arrived, of `tokens` tokens if that is known."""
        if self.last_token_at is None:
            self.first_token_at = stamp
        else:
            self.gap_us.append(round((stamp - self.last_token_at) * 1e6))
        self.last_token_at = stamp
        self.texts.append(text)
        if tokens is None:
            self.chunk_tokens = None
        elif self.chunk_tokens is not None:
            self.chunk_tokens.append(tokens)

    def count(self, output_tokens: int) -> int:
        """The server's running count of output tokens; returns how many are new since the last one."""
        new = output_tokens - self._counted
        self._counted = output_tokens
        return new

    def choice(self, index: int, finish_reason: str | None) -> None:
        """A choice said something; `finish_reason` once it is finished."""
        if finish_reason is None:
            self._open_choices.add(index)
        else:
            self._open_choices.discard(index)
            self.finish_reason = finish_reason

    def fail(self, message: str) -> None:
        """An error event; the first one counts."""
        if self.error is None:
            self.error = message
