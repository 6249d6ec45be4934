"""Transcript: what a dialect has understood of one stream so far."""

from __future__ import annotations

import numpy as np

__all__ = ["Transcript"]


class Transcript:
    """Filled by a dialect event by event. Stamps are `time.monotonic()` seconds of the segment that brought them.

    Attributes:
        stamps: of each content chunk: when it arrived.
        pieces: of each content chunk: its text, in UTF-8.
        chunk_tokens: tokens of each content chunk; None once the server left one out.
        input_tokens, output_tokens: the server's own counts, None if it gave none.
        ended: the stream's proper end was seen.
        error: message of an error event, None without one.
        engine: what the engine says of its own work on the request, in seconds; None where it says nothing.
        special: stamps of special tokens (TGI).
        thoughts: of a content chunk, by its number: how many leading bytes of its text are reasoning, no answer.
    """

    __slots__ = (
        "_counted",
        "_finished_choices",
        "_open_choices",
        "chunk_tokens",
        "ended",
        "engine",
        "error",
        "finish_reason",
        "input_tokens",
        "output_tokens",
        "pieces",
        "special",
        "stamps",
        "thoughts",
    )

    def __init__(self) -> None:
        self.stamps: list[float] = []
        self.pieces: list[bytes] = []
        self.chunk_tokens: list[int] | None = []
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.finish_reason: str | None = None
        self.ended = False
        self.engine: dict[str, float] | None = None
        self.error: str | None = None
        self.special: list[float] = []
        self.thoughts: dict[int, int] = {}
        self._counted = 0
        self._open_choices: set[int] = set()
        self._finished_choices: set[int] = set()

    @property
    def chunks(self) -> int:
        """Content chunks so far."""
        return len(self.stamps)

    @property
    def first_token_at(self) -> float | None:
        """First event with generated content; None before it."""
        return self.stamps[0] if self.stamps else None

    @property
    def last_token_at(self) -> float | None:
        """Last event with generated content so far; None before the first."""
        return self.stamps[-1] if self.stamps else None

    @property
    def gap_us(self) -> list[int]:
        """Whole microseconds between consecutive content chunks, one fewer than chunks."""
        gaps: list[int] = np.rint(np.diff(self.stamps) * 1e6).astype(np.int64).tolist()
        return gaps

    @property
    def texts(self) -> list[str]:
        """The generated text, chunk by chunk."""
        return [piece.decode(errors="replace") for piece in self.pieces]

    @property
    def answer(self) -> str:
        """The generated text as a chat carries it on: without what the model thought before it."""
        pieces = (piece[self.thoughts.get(i, 0) :] for i, piece in enumerate(self.pieces))
        return b"".join(pieces).decode(errors="replace")

    @property
    def finished(self) -> bool:
        """Whether each choice that began has said why it finished."""
        return self.finish_reason is not None and not self._open_choices

    def content(self, stamp: float, text: str, tokens: int | None, thought: str = "") -> None:
        """A chunk with generated content arrived, of `tokens` tokens if that is known; it begins with `thought`."""
        if thought:
            self.thoughts[len(self.pieces)] = len(thought.encode(errors="replace"))
        self.stamps.append(stamp)
        self.pieces.append(text.encode(errors="replace"))
        if tokens is None:
            self.chunk_tokens = None
        elif self.chunk_tokens is not None:
            self.chunk_tokens.append(tokens)

    def count(self, output_tokens: int | None) -> int | None:
        """The server's running count of output tokens; how many are new since the last one, None if none are."""
        if output_tokens is None or output_tokens <= self._counted:
            return None
        new = output_tokens - self._counted
        self._counted = output_tokens
        return new

    def choice(self, index: int, finish_reason: object) -> None:
        """A choice said something; `finish_reason`, a text, once it is finished, which it stays whatever comes."""
        if isinstance(finish_reason, str):
            self._open_choices.discard(index)
            self._finished_choices.add(index)
            self.finish_reason = finish_reason
        elif index not in self._finished_choices:
            self._open_choices.add(index)

    def fail(self, message: str) -> None:
        """An error event; the first one counts."""
        if self.error is None:
            self.error = message
