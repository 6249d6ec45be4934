"""How long one answer waited and computed, in the parts that vLLM reports."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """When things happened to a finished sequence, in seconds on one clock.

    Attributes:
        queued_s: it came into the queue, its prompt tokenized.
        scheduled_s: the first step that it took part in began; not a later one, after a preemption.
        first_token_s, last_token_s: the steps that gave them were over; the same for an answer of one token.
    """

    queued_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float

    @property
    def queue_s(self) -> float:
        """Waiting to be scheduled."""
        return self.scheduled_s - self.queued_s

    @property
    def prefill_s(self) -> float:
        """From there to the first token."""
        return self.first_token_s - self.scheduled_s

    @property
    def decode_s(self) -> float:
        """From the first token to the last."""
        return self.last_token_s - self.first_token_s

    @property
    def inference_s(self) -> float:
        """From being scheduled to the last token; waiting again after a preemption is in it."""
        return self.last_token_s - self.scheduled_s
