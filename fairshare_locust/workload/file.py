"""Prompts from a file: JSONL with prompts or chats, or plain text with a prompt a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.workloads import JsonlWorkload, TextWorkload
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload.length import draw_lengths
from fairshare_locust.workload.reading import read_whole, refuse
from fairshare_locust.workload.rounds import Rounds, with_mark
from fairshare_locust.workload.source import PromptRequest, PromptSource
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["FilePrompt", "FileSource", "read_jsonl", "read_prompts", "read_text"]

_DRAWN = 4096


@dataclass(frozen=True, slots=True)
class FilePrompt:
    """One line of a file. `output_tokens` and `tenant` are None where the line leaves them open."""

    messages: tuple[dict[str, str], ...] | None
    prompt: str
    output_tokens: int | None = None
    tenant: str | None = None


def read_jsonl(path: Path) -> list[FilePrompt]:
    """Every line of a JSONL file. Raises WorkloadError that names each line that is no prompt."""
    prompts: list[FilePrompt] = []
    problems: list[str] = []
    for number, line in enumerate(read_whole(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt(orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            problems.append(f"{number}: not JSON: {error}")
        except ValueError as error:
            problems.append(f"{number}: {error}")
    refuse(path, problems)
    return prompts


def _prompt(line: Any) -> FilePrompt:
    if not isinstance(line, dict):
        raise ValueError(f"found {type(line).__name__}; must be an object with prompt or messages")
    unknown = line.keys() - {"prompt", "messages", "output_tokens", "tenant"}
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}; allowed: prompt or messages, and output_tokens, tenant")
    if ("prompt" in line) == ("messages" in line):
        raise ValueError("must have either prompt or messages")
    output_tokens = line.get("output_tokens")
    if output_tokens is not None and (type(output_tokens) is not int or output_tokens < 1):
        raise ValueError(f"output_tokens: found {output_tokens!r}; must be a whole number, at least 1")
    tenant = line.get("tenant")
    if tenant is not None and not isinstance(tenant, str):
        raise ValueError(f"tenant: found {tenant!r}; must be a tenant's id")
    if "prompt" in line:
        prompt = line["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompt: found {prompt!r}; must be text that is not empty")
        return FilePrompt(None, prompt, output_tokens, tenant)
    messages = line["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"messages: found {messages!r}; must be a list of {{role, content}} that is not empty")
    for i, message in enumerate(messages):
        well_formed = isinstance(message, dict) and message.keys() == {"role", "content"}
        if not well_formed or not all(isinstance(text, str) for text in message.values()):
            raise ValueError(f"messages[{i}]: found {message!r}; must be an object with the texts role and content")
    return FilePrompt(tuple(messages), "\n\n".join(message["content"] for message in messages), output_tokens, tenant)


def read_text(path: Path) -> list[FilePrompt]:
    """A prompt from each line that is not blank. Raises WorkloadError for a line that is not UTF-8."""
    prompts: list[FilePrompt] = []
    problems: list[str] = []
    for number, line in enumerate(read_whole(path).split(b"\n"), start=1):
        try:
            text = line.decode().strip("\r")
        except UnicodeDecodeError as error:
            problems.append(f"{number}: not UTF-8 (byte {error.start} of the line)")
            continue
        if text.strip():
            prompts.append(FilePrompt(None, text))
    refuse(path, problems)
    return prompts


def read_prompts(workload: JsonlWorkload | TextWorkload) -> list[FilePrompt]:
    """Every prompt of a workload's file, whosever it is. Raises WorkloadError."""
    return read_jsonl(workload.path) if isinstance(workload, JsonlWorkload) else read_text(workload.path)


class FileSource(PromptSource):
    """The prompts of a file, each once in an order that the seed shuffles, then all again in another order.

    `lines_of` is the tenant whose lines these are, if that is not `tenant_id`.
    """

    def __init__(
        self,
        workload: JsonlWorkload | TextWorkload,
        seed: int,
        tenant_id: str,
        tokenizer: Tokenizer,
        lines_of: str | None = None,
        everyone: Sequence[FilePrompt] | None = None,
    ) -> None:
        owner = lines_of or tenant_id
        everyone = read_prompts(workload) if everyone is None else everyone
        self._prompts = [prompt for prompt in everyone if prompt.tenant in (None, owner)]
        if not self._prompts:
            raise WorkloadError(
                f"{workload.path}: no prompt for tenant {owner!r} among {len(everyone)}; "
                "add lines without tenant, or with this one"
            )
        self._rounds = Rounds(len(self._prompts), seed, tenant_id, tokenizer, marked=not workload.share_prefix)
        self._input_tokens = tokenizer.counts([self._rounds.first_mark + prompt.prompt for prompt in self._prompts])
        stream = random_stream(seed, tenant_id, "output_tokens")
        self._output_tokens = draw_lengths(workload.output_tokens, stream, _DRAWN).tolist()

    def request(self, index: int) -> PromptRequest:
        """See PromptSource."""
        item = self._rounds.at(index)
        prompt = self._prompts[item.place]
        messages = prompt.messages
        if messages is not None:
            messages = with_mark(messages, item.mark)
        return PromptRequest(
            messages,
            item.mark + prompt.prompt,
            self._input_tokens[item.place] + item.more_tokens,
            prompt.output_tokens or self._output_tokens[index % _DRAWN],
        )
