"""Tokenizer: counts the tokens of prompts and, where a server gives no usage, of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import tokenizers

from fairshare_locust.errors import WorkloadError

__all__ = ["Tokenizer", "load_tokenizer"]

_BATCH_CHARACTERS = 4_000_000


class Tokenizer:
    """A `tokenizers` tokenizer, without the special tokens a chat template would add."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        # A model's file may ask to cut or fill texts to a length; a count wants them as they are.
        inner.no_truncation()
        inner.no_padding()

    def ids(self, text: str) -> list[int]:
        """The tokens of one text."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, text: str) -> int:
        """Tokens of one text."""
        return len(self.ids(text))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; on all cores."""
        return [count for batch in _batches(texts) for count in self._counts(batch)]

    def _counts(self, texts: list[str]) -> list[int]:
        return [len(encoding) for encoding in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def vocabulary(self) -> list[str]:
        """Every token as the vocabulary spells it, by id."""
        return sorted(self._inner.get_vocab(), key=self._inner.get_vocab().__getitem__)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in lists of some `_BATCH_CHARACTERS`: what a token takes in memory is far more than its letters."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@cache
def _builtin() -> Tokenizer:
    text = resources.files("fairshare_locust.workload").joinpath("builtin_tokenizer.json").read_text("utf-8")
    return Tokenizer(tokenizers.Tokenizer.from_str(text))


def load_tokenizer(name: str) -> Tokenizer:
    """`builtin`, a folder with a tokenizer.json, such a file, or a model's id on the hub.

    Raises WorkloadError when there is none by that name.
    """
    try:
        if name == "builtin":
            return _builtin()
        path = Path(name).expanduser()
        if path.is_dir():
            path = path / "tokenizer.json"
        if path.suffix == ".json" or path.exists():
            return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
        return Tokenizer(tokenizers.Tokenizer.from_pretrained(name))
    except Exception as error:  # the library raises plain Exception for a bad file as for a missing one
        raise WorkloadError(
            f"model.tokenizer: {name!r} can't be loaded ({' '.join(str(error).split())[:200]}); "
            "give builtin, a folder, a tokenizer.json, or a hub id that this machine can reach"
        ) from error
