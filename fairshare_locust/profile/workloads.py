"""Workloads a profile can name: what a tenant's requests ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairshare_locust.profile.distribution import ConstantDuration, ConstantLength, Duration, Length
from fairshare_locust.profile.schema import allow

__all__ = [
    "ConversationWorkload",
    "JsonlWorkload",
    "MixturePart",
    "MixtureWorkload",
    "PlainWorkload",
    "PrefixWorkload",
    "SharegptWorkload",
    "SyntheticWorkload",
    "TextWorkload",
    "TraceWorkload",
    "Workload",
]


@dataclass(frozen=True, kw_only=True)
class SyntheticWorkload:
    """Random words with exactly `input_tokens` tokens by the profile's tokenizer; no two prompts start alike."""

    source: Literal["synthetic"] = "synthetic"
    input_tokens: Length = allow(shorthand="constant")
    output_tokens: Length = allow(shorthand="constant")


@dataclass(frozen=True, kw_only=True)
class JsonlWorkload:
    """A file of `{"prompt": ...}` or `{"messages": [...]}` lines, in an order that the seed shuffles.

    A line's own `output_tokens` goes before this `output_tokens`; a line with a `tenant` serves that tenant only.
    Unless `share_prefix` is set, each prompt starts with a word of the tenant's own, so that no tenant
    profits from another's cached prefix.
    """

    source: Literal["jsonl"] = "jsonl"
    path: Path
    output_tokens: Length = allow(ConstantLength(value=128), shorthand="constant")
    share_prefix: bool = False


@dataclass(frozen=True, kw_only=True)
class TextWorkload:
    """A file with a prompt on each line; as `jsonl` otherwise."""

    source: Literal["text"] = "text"
    path: Path
    output_tokens: Length = allow(ConstantLength(value=128), shorthand="constant")
    share_prefix: bool = False


@dataclass(frozen=True, kw_only=True)
class PrefixWorkload:
    """Random words behind one of `groups` fixed prefixes, to study prefix caching.

    A request's group is drawn by Zipf's law: group k (from 1) in proportion to 1 / k^`zipf`; 0 makes all alike.
    `input_tokens` counts what follows the prefix. With `share_prefix` all tenants that say so have the same
    prefixes; without it, each has its own.
    """

    source: Literal["prefix"] = "prefix"
    groups: int = allow(8, at_least=1, at_most=10_000)
    zipf: float = allow(1.0, at_least=0, at_most=10)
    prefix_tokens: Length = allow(shorthand="constant")
    input_tokens: Length = allow(shorthand="constant")
    output_tokens: Length = allow(shorthand="constant")
    share_prefix: bool = False


@dataclass(frozen=True, kw_only=True)
class ConversationWorkload:
    """Synthetic conversations: each arrival begins one, and its next turn follows the answer after `think_s`.

    A turn carries everything said so far, the server's real answers included. The slot stays with its
    conversation to the end. `input_tokens` is what the user says in each turn, `system_tokens` what comes first.
    """

    source: Literal["conversation"] = "conversation"
    turns: Length = allow(shorthand="constant")
    system_tokens: int = allow(0, at_least=0, at_most=1_000_000)
    input_tokens: Length = allow(shorthand="constant")
    output_tokens: Length = allow(shorthand="constant")
    think_s: Duration = allow(ConstantDuration(value=1.0), shorthand="constant")


@dataclass(frozen=True, kw_only=True)
class SharegptWorkload:
    """A ShareGPT JSON file: a list of `{"id", "conversations": [{"from", "value"}]}`, shuffled by the seed.

    Of each conversation with an answer its first prompt is asked or, with `conversation`, one after another
    everything its human says. Answers are as long as the recorded ones, or as `output_tokens` says.
    """

    source: Literal["sharegpt"] = "sharegpt"
    path: Path
    output_tokens: Length | None = allow(None, shorthand="constant")
    conversation: bool = False
    think_s: Duration = allow(ConstantDuration(value=1.0), shorthand="constant")
    share_prefix: bool = False


@dataclass(frozen=True, kw_only=True)
class TraceWorkload:
    """Synthetic prompts with the lengths of a trace (one of the profile's `traces`), row after row.

    With `arrival: {process: trace}` of the same trace, each request has its own row's time and lengths. Rows with
    equal leading `hash_ids` share the text of those blocks. Longer rows are cut to `max_input_tokens` and
    `max_output_tokens`.
    """

    source: Literal["trace"] = "trace"
    trace: str
    max_input_tokens: int | None = allow(None, at_least=1)
    max_output_tokens: int | None = allow(None, at_least=1)


PlainWorkload = (
    SyntheticWorkload
    | JsonlWorkload
    | TextWorkload
    | SharegptWorkload
    | TraceWorkload
    | ConversationWorkload
    | PrefixWorkload
)


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """One of the workloads of a mixture, chosen in proportion to `weight`."""

    weight: float = allow(1.0, above=0)
    workload: PlainWorkload


@dataclass(frozen=True, kw_only=True)
class MixtureWorkload:
    """For each request one of several workloads, drawn by weight; each goes through its own requests in order."""

    source: Literal["mixture"] = "mixture"
    parts: tuple[MixturePart, ...]

    def check(self) -> Iterator[tuple[str, str]]:
        """Something to choose from."""
        if not self.parts:
            yield "parts", "found an empty list; at least one part is needed"


Workload = PlainWorkload | MixtureWorkload
