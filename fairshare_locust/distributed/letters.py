"""Letters: messages that arrive once and in order, over a connection that may lose some of them.

Each carries its number. Whatever else goes the other way says how many have come; those that have not are sent again
after a while. A connection that breaks in between costs time, not messages.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LetterBox"]

_AGAIN_AFTER_S = 1.0

Letter = dict[str, Any]


class LetterBox:
    """One end of a correspondence.

    Attributes:
        received: how many letters have come, for the other end to know.
    """

    def __init__(self) -> None:
        self.received = 0
        self._numbered = 0
        self._unanswered: list[tuple[str, Letter]] = []
        self._sent_s = 0.0

    def write(self, name: str, content: Letter, now_s: float) -> Letter:
        """A letter that is sent now: `content`, with its number."""
        letter = {**content, "letter": self._numbered}
        self._numbered += 1
        self._unanswered.append((name, letter))
        self._sent_s = now_s
        return letter

    def accept(self, letter: Letter) -> bool:
        """Whether it is the next one that was waited for; else it came before, or one before it has not come yet."""
        if letter["letter"] != self.received:
            return False
        self.received += 1
        return True

    def heard(self, received: int) -> None:
        """The other end has got so many."""
        missing = self._numbered - received
        if 0 <= missing < len(self._unanswered):
            del self._unanswered[: len(self._unanswered) - missing]

    @property
    def settled(self) -> bool:
        """Whether the other end has got every letter."""
        return not self._unanswered

    def again(self, now_s: float) -> list[tuple[str, Letter]]:
        """The letters to be sent again now, in order, with their names."""
        if not self._unanswered or now_s - self._sent_s < _AGAIN_AFTER_S:
            return []
        self._sent_s = now_s
        return list(self._unanswered)
