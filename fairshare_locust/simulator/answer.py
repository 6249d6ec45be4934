"""The answer to one request on its way to the client: event by event, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Protocol

from fairshare_locust.simulator.engine import FinishReason
from fairshare_locust.simulator.text import Script, Word
from fairshare_locust.simulator.timing import Timing

__all__ = ["AnswerFailedError", "AnswerFormat", "Choice", "StreamedAnswer", "WholeAnswer"]


class AnswerFailedError(Exception):
    """The engine gave up on an answer that was to be sent whole; the message says why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer of a request. `stop` is the stop string that ended it, if one did."""

    words: list[Word]
    finish_reason: FinishReason
    timing: Timing
    stop: str | None = None

    @classmethod
    def of(cls, script: Script, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> Choice:
        """The first so many tokens of a script. A stop string in the last one counts for more than the cap."""
        words = script.words(generated_tokens)
        if script.stop_after_tokens == generated_tokens:
            return cls(words, "stop", timing, script.stop)
        return cls(words, finish_reason, timing)


class AnswerFormat(Protocol):
    """How one API writes the answer to one request. An event is complete, with its blank line."""

    def opening(self, choices: int) -> Many[bytes]:
        """Events before the first token of any choice."""

    def token(self, index: int, word: Word, generated_tokens: int) -> bytes:
        """Event of one token of the choice `index`; not the last, but the `generated_tokens`-th."""

    def last_token(self, index: int, choice: Choice, *, ends_answer: bool) -> bytes:
        """Event of the last token of a choice; `ends_answer` if no other choice is open."""

    def closing(self, choices: Many[Choice]) -> Many[bytes]:
        """Events after the last of all choices; these are all of them, in the order of their ends."""

    def error(self, message: str) -> Many[bytes]:
        """Events that end a stream that has failed."""

    def whole(self, choices: Many[Choice]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""


class StreamedAnswer:
    """Writes every event as an HTTP chunk into the client's connection, the moment its token comes.

    The writes go past the response object, so that no task wakes up for a token; `wait` returns after the
    last, and whoever waits ends the HTTP body.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        answer_format: AnswerFormat,
        scripts: Many[Script],
    ) -> None:
        """Make a receiver for each choice; `scripts` are what they say."""
        self._transport = transport
        self._format = answer_format
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened = False
        self._finished: list[Choice] = []
        self.receivers = [_StreamedChoice(self, i, script) for i, script in enumerate(scripts)]

    async def wait(self) -> None:
        """Return when every event has been written."""
        await self._ended

    def token(self, index: int, word: Word, generated_tokens: int) -> None:
        """Write a token that is not the last of its choice."""
        if not self._opened:
            self._open()
        event = self._format.token(index, word, generated_tokens)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def last_token(self, index: int, choice: Choice) -> None:
        """Write the last token of a choice, and the end of the stream if it was the last choice."""
        if not self._opened:
            self._open()
        self._finished.append(choice)
        ends_answer = len(self._finished) == len(self.receivers)
        events = [self._format.last_token(index, choice, ends_answer=ends_answer)]
        if ends_answer:
            events += self._format.closing(self._finished)
        self._write(events)
        if ends_answer:
            self._end()

    def failed(self, message: str) -> None:
        """End the stream with an error, once for all choices."""
        if not self._ended.done():
            self._write(self._format.error(message))
            self._end()

    def _open(self) -> None:
        # Apart from the first token, as real servers send it.
        self._opened = True
        self._write(self._format.opening(len(self.receivers)))

    def _write(self, events: Many[bytes]) -> None:
        if events:
            self._transport.write(b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events))

    def _end(self) -> None:
        if not self._ended.done():  # the client may have gone in the same turn of the event loop
            self._ended.set_result(None)


class _StreamedChoice:
    """Turns the tokens of one sequence into words of a streamed answer."""

    __slots__ = ("_answer", "_index", "_script")

    def __init__(self, answer: StreamedAnswer, index: int, script: Script) -> None:
        self._answer = answer
        self._index = index
        self._script = script

    def token(self, generated_tokens: int) -> None:
        self._answer.token(self._index, self._script.word(generated_tokens), generated_tokens)

    def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
        self._answer.last_token(self._index, Choice.of(self._script, generated_tokens, finish_reason, timing))

    def failed(self, message: str) -> None:
        self._answer.failed(message)


class WholeAnswer:
    """Collects the choices of an answer that is sent in one piece."""

    def __init__(self, scripts: Many[Script]) -> None:
        """Make a receiver for each choice; `scripts` are what they say."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.receivers = [_WholeChoice(self, script) for script in scripts]

    async def wait(self) -> list[Choice]:
        """Return the choices when all have ended.

        Raises:
            AnswerFailedError: the engine gave up on one.
        """
        await self._ended
        return [receiver.choice for receiver in self.receivers if receiver.choice is not None]

    def choice_ended(self) -> None:
        """Notice that one more choice is there."""
        if all(receiver.choice is not None for receiver in self.receivers) and not self._ended.done():
            self._ended.set_result(None)

    def failed(self, message: str) -> None:
        """Give up on the answer, once for all choices."""
        if not self._ended.done():
            self._ended.set_exception(AnswerFailedError(message))


class _WholeChoice:
    """Waits for the last token of one sequence."""

    __slots__ = ("_answer", "_script", "choice")

    def __init__(self, answer: WholeAnswer, script: Script) -> None:
        self._answer = answer
        self._script = script
        self.choice: Choice | None = None

    def token(self, generated_tokens: int) -> None:
        pass  # the words are all written at the end

    def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
        self.choice = Choice.of(self._script, generated_tokens, finish_reason, timing)
        self._answer.choice_ended()

    def failed(self, message: str) -> None:
        self._answer.failed(message)
