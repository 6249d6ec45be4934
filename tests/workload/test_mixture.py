"""Mixtures: each part's share, each part in its own order, and conversations that stay with their part."""

from __future__ import annotations

import pytest

from fairshare_locust.workload import FollowUp, PromptRequest, PromptSource
from fairshare_locust.workload.mixture import MixtureSource, Part


class Named(PromptSource):
    """Says its name and the index it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def request(self, index: int) -> PromptRequest:
        return PromptRequest(None, f"{self.name} {index}", 2, 1)

    def follow_up(self, index: int, request: PromptRequest, answer: str, answer_tokens: int) -> FollowUp | None:
        return FollowUp(PromptRequest(None, f"{request.prompt}, then {self.name} {index}: {answer}", 4, 1), 0.5)


class Single(PromptSource):
    """Has requests only."""

    def request(self, index: int) -> PromptRequest:
        return PromptRequest(None, str(index), 1, 1)


def mixture(seed: int = 7, tenant_id: str = "chat") -> MixtureSource:
    return MixtureSource([Part(3, Named("a")), Part(1, Named("b"))], seed, tenant_id)


def test_shares_are_those_of_the_weights() -> None:
    """3/4 of 10,000; three standard errors are 0.013."""
    prompts = mixture()
    names = [prompts.request(i).prompt[0] for i in range(10_000)]
    assert names.count("a") / 10_000 == pytest.approx(0.75, abs=0.013)


def test_each_part_goes_through_its_own_requests_in_order() -> None:
    prompts = mixture()
    made = [prompts.request(i).prompt for i in range(500)]
    for name in "ab":
        own = [prompt for prompt in made if prompt[0] == name]
        assert own == [f"{name} {i}" for i in range(len(own))]
        assert len(own) > 90


def test_an_index_gets_the_same_in_any_order() -> None:
    made = [request.prompt for request in map(mixture().request, range(2000))]
    prompts = mixture()
    assert [prompts.request(i).prompt for i in (1999, 0, 1024, 7)] == [made[i] for i in (1999, 0, 1024, 7)]
    assert [mixture(seed=8).request(i).prompt for i in range(50)] != made[:50]
    assert [mixture(tenant_id="batch").request(i).prompt for i in range(50)] != made[:50]


def test_a_conversation_stays_with_its_part_and_its_index_there() -> None:
    prompts = mixture()
    for index in range(50):
        request = prompts.request(index)
        following = prompts.follow_up(index, request, "yes", 1)
        assert following is not None
        assert following.request.prompt == f"{request.prompt}, then {request.prompt}: yes"
        assert following.think_s == 0.5


def test_a_source_without_conversations_has_no_further_turn() -> None:
    prompts = MixtureSource([Part(1, Single())], 7, "chat")
    assert prompts.follow_up(0, prompts.request(0), "yes", 1) is None
