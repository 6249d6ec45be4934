"""Mixtures: for each request one of several sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.choices import Choices
from fairshare_locust.workload.source import FollowUp, PromptRequest, PromptSource

__all__ = ["MixtureSource", "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """A source that is chosen in proportion to `weight`."""

    weight: float
    source: PromptSource


class MixtureSource(PromptSource):
    """Draws a part for each index; a part's own index counts the requests that it has got before."""

    def __init__(self, parts: Sequence[Part], seed: int, tenant_id: str) -> None:
        self._sources = [part.source for part in parts]
        self._choices = Choices([part.weight for part in parts], random_stream(seed, tenant_id, "mixture"))

    def part(self, index: int) -> tuple[PromptSource, int]:
        """The source that this index is drawn from, and the source's own index for it."""
        part, place = self._choices.at(index)
        return self._sources[part], place

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        source, place = self.part(index)
        return source.request(place)

    def follow_up(self, index: int, request: PromptRequest, answer: str, answer_tokens: int) -> FollowUp | None:
        """See PromptSource: a conversation stays with its part."""
        source, place = self.part(index)
        return source.follow_up(place, request, answer, answer_tokens)
