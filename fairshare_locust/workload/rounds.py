"""Rounds: in which order the items of a file are asked, and the mark that each of them begins with."""

from __future__ import annotations

from typing import NamedTuple

from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["Item", "Rounds", "with_mark"]

_MARKS_COUNTED = 10_000  # a mark of a later round has hardly more tokens; nothing is tokenized while the load runs


class Item(NamedTuple):
    """What a request takes from its file: the item at `place`, behind `mark`.

    `more_tokens` is what the mark of its round has more than that of the first.
    """

    place: int
    mark: str
    more_tokens: int


class Rounds:
    """Each item of a file once in an order that the seed shuffles, then all again in another order.

    Of a file with more than `most` items only the first so many of that order are used.
    """

    def __init__(
        self, items: int, seed: int, tenant_id: str, tokenizer: Tokenizer, *, marked: bool, most: int | None = None
    ) -> None:
        self._items = items
        self._size = items if most is None else min(items, most)
        self._seed = seed
        self._tenant_id = tenant_id
        self._marked = marked
        marks = tokenizer.counts([self._mark(round_) for round_ in range(_MARKS_COUNTED)]) if marked else [0]
        self._more_tokens = [count - marks[0] for count in marks]
        self.places = self._shuffled(0)[: self._size]
        self._orders: dict[int, list[int]] = {}

    @property
    def first_mark(self) -> str:
        """What stands before each item in the first round."""
        return self._mark(0)

    def _mark(self, round_: int) -> str:
        """First words of the tenant's own, others in each round: no other tenant's cached prefix fits."""
        if not self._marked:
            return ""
        return f"({self._tenant_id})\n" if round_ == 0 else f"({self._tenant_id} {round_ + 1})\n"

    def _shuffled(self, round_: int) -> list[int]:
        stream = random_stream(self._seed, self._tenant_id, f"order/{round_}")
        places: list[int] = stream.permutation(self._items).tolist()
        return places

    def _order(self, round_: int) -> list[int]:
        known = self._orders.get(round_)
        if known is None:
            used = set(self.places)
            known = [place for place in self._shuffled(round_) if place in used]
            self._orders = {round_: known, **dict(list(self._orders.items())[:1])}  # this round and the one before
        return known

    def at(self, index: int) -> Item:
        """What the request with this index takes."""
        round_, turn = divmod(index, self._size)
        place = self.places[turn] if round_ == 0 else self._order(round_)[turn]
        return Item(place, self._mark(round_), self._more_tokens[min(round_, len(self._more_tokens) - 1)])


def with_mark(messages: tuple[dict[str, str], ...], mark: str) -> tuple[dict[str, str], ...]:
    """The chat with `mark` before its first text."""
    return ({**messages[0], "content": mark + messages[0]["content"]}, *messages[1:]) if mark else messages
