"""Synthetic conversations: random words of exact length, turn after turn."""

from __future__ import annotations

from fairshare_locust.arrival.duration import draw_durations
from fairshare_locust.profile.workloads import ConversationWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_length
from fairshare_locust.workload.source import FollowUp, PromptRequest, PromptSource, next_turn
from fairshare_locust.workload.tokenizer import Tokenizer
from fairshare_locust.workload.words import Words, check_lengths, shortened

__all__ = ["ConversationSource"]

_CHECKED = 16


class ConversationSource(PromptSource):
    """Each index is a conversation. All its lengths, texts and think times are pure functions of index and turn.

    A tenant's conversations have the same system text. With `overhead_tokens`, what a chat template adds to a
    chat of one message, the first turn's text is shorter by it.
    """

    def __init__(
        self,
        workload: ConversationWorkload,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer | None,
        words: Words,
        overhead_tokens: int = 0,
    ) -> None:
        self._workload = workload
        self._seed = seed
        self._tenant_id = tenant_id
        self._words = words
        self._overhead_tokens = overhead_tokens
        self._system = ""
        if workload.system_tokens:
            self._system = words.text(random_stream(seed, tenant_id, "system"), workload.system_tokens)
        sample = [self.request(index) for index in range(_CHECKED)]
        check_lengths(
            tokenizer,
            tenant_id,
            [request.prompt for request in sample],
            [request.input_tokens - overhead_tokens for request in sample],
        )

    def _drawn_tokens(self, what: str, index: int, turn: int) -> int:
        length = self._workload.input_tokens if what == "input_tokens" else self._workload.output_tokens
        return draw_length(length, self._seed, self._tenant_id, f"{what}/{index}/{turn}")

    def _text(self, index: int, turn: int, tokens: int) -> str:
        return self._words.text(random_stream(self._seed, self._tenant_id, f"prompt/{index}/{turn}"), tokens)

    def turns(self, index: int) -> int:
        """Turns of the conversation with this index."""
        return draw_length(self._workload.turns, self._seed, self._tenant_id, f"turns/{index}")

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        tokens = shortened(self._drawn_tokens("input_tokens", index, 0), self._overhead_tokens)
        text = self._text(index, 0, tokens)
        user = {"role": "user", "content": text}
        return PromptRequest(
            messages=({"role": "system", "content": self._system}, user) if self._system else (user,),
            prompt=f"{self._system} {text}" if self._system else text,
            input_tokens=self._workload.system_tokens + tokens + self._overhead_tokens,
            output_tokens=self._drawn_tokens("output_tokens", index, 0),
            turn=0,
        )

    def follow_up(self, index: int, request: PromptRequest, answer: str, answer_tokens: int) -> FollowUp | None:
        """See PromptSource."""
        turn = (request.turn or 0) + 1
        if turn >= self.turns(index):
            return None
        tokens = self._drawn_tokens("input_tokens", index, turn)
        following = next_turn(
            request,
            answer,
            answer_tokens,
            text=self._text(index, turn, tokens),
            text_tokens=tokens,
            output_tokens=self._drawn_tokens("output_tokens", index, turn),
            separator=" ",
        )
        stream = random_stream(self._seed, self._tenant_id, f"think_s/{index}/{turn}")
        return FollowUp(following, float(draw_durations(self._workload.think_s, stream, 1)[0]))
