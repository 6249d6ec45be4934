"""What the simulated model says, and how prompts are counted: both with one real tokenizer.

Every generated token is one ` word` that is exactly one token, also in a sequence of such words, so
tokenizing an answer gives its `usage.completion_tokens`. Which words come, and after how many the answer
ends by itself, follow from the prompt alone: the same prompt gets the same answer in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from fairshare_locust.errors import ServingError

__all__ = [
    "BUILTIN_TOKENIZER",
    "Script",
    "Vocabulary",
    "Word",
    "natural_length_tokens",
    "prompt_seed",
]

BUILTIN_TOKENIZER = Path(__file__).parent.parent / "workload" / "builtin_tokenizer.json"

_FEWEST_WORDS, _MOST_WORDS = 64, 4096
_MEDIAN_LENGTH_TOKENS, _LENGTH_SIGMA = 160, 0.7


class Word(NamedTuple):
    """One token of the answer: its id, its text, and its text as a JSON string."""

    id: int
    text: str
    json: bytes


class Vocabulary:
    """The words of one tokenizer, in a fixed shuffled order, and its count of tokens."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        """Find the words of `tokenizer`; `name` stands in errors.

        Raises:
            ServingError: too few single tokens of the form ` word`, or they merge in a sequence.
        """
        self._tokenizer = tokenizer
        tokens = list(islice(_single_token_words(tokenizer), _MOST_WORDS))
        if len(tokens) < _FEWEST_WORDS:
            raise ServingError(
                f"tokenizer {name}: {len(tokens)} single tokens of the form ' word', at least "
                f"{_FEWEST_WORDS} are needed to write answers; take a byte-level BPE tokenizer.json, or "
                "'builtin'"
            )
        random.Random(0).shuffle(tokens)
        text = "".join(text for _, text in tokens)
        if tokenizer.encode(text, add_special_tokens=False).ids != [token_id for token_id, _ in tokens]:
            raise ServingError(
                f"tokenizer {name}: a sequence of ' word' tokens does not keep one token per word; "
                "take a byte-level BPE tokenizer.json, or 'builtin'"
            )
        self.words = tuple(Word(token_id, text, json.dumps(text).encode()) for token_id, text in tokens)
        self.special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        """What the tokenizer puts around a whole prompt."""

    @classmethod
    def load(cls, tokenizer: str) -> Vocabulary:
        """Read `builtin`, or the path of a tokenizer.json or of a folder that holds one.

        Raises:
            ServingError: no such file, or one that can't be used.
        """
        path = BUILTIN_TOKENIZER if tokenizer == "builtin" else Path(tokenizer)
        if path.is_dir():
            path /= "tokenizer.json"
        if not path.is_file():
            raise ServingError(f"tokenizer {tokenizer}: no file {path}; give 'builtin' or a tokenizer.json")
        try:
            loaded = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ServingError(f"tokenizer {tokenizer}: {path} can't be read: {error}") from error
        return cls(loaded, tokenizer)

    def words_from(self, start: int, count: int) -> list[Word]:
        """The first `count` words of the answer that begins at `start`; the order is a circle."""
        return [self.words[(start + i) % len(self.words)] for i in range(count)]

    def token_ids(self, texts: Sequence[str], *, special_tokens: bool) -> list[list[int]]:
        """Tokens of each text; `special_tokens` adds what the tokenizer puts around a whole prompt."""
        # encode_batch_fast frees the interpreter lock while it works, encode does not
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=special_tokens)
        return [encoding.ids for encoding in encodings]


class Script:
    """What one answer says: words of the vocabulary, up to a stop string if there is one in them.

    Attributes:
        stop: the stop string that ends the answer; None: none does.
        stop_after_tokens: tokens after which it has been said, in the last of them; None without one.
    """

    __slots__ = ("_cut", "_start", "_vocabulary", "stop", "stop_after_tokens")

    def __init__(self, vocabulary: Vocabulary, start: int) -> None:
        """The answer that begins at the place `start` in the vocabulary."""
        self._vocabulary = vocabulary
        self._start = start
        self._cut: dict[int, Word] = {}  # words of which not all is said
        self.stop: str | None = None
        self.stop_after_tokens: int | None = None

    def end_at(self, stops: Sequence[str], most_tokens: int, min_tokens: int = 0, *, include: bool = False) -> None:
        """End with the first of `stops` that comes up, if one does within `most_tokens`.

        It does not count within the first `min_tokens`. Neither it nor what follows it in its last token is said;
        with `include`, it is. Of two in the same token, the one that stands first in `stops` counts.
        """
        words = self._vocabulary.words_from(self._start, most_tokens)
        text = "".join(word.text for word in words)
        ends = list(accumulate(len(word.text) for word in words))  # of each word in the text
        safe = ends[min_tokens - 1] if 0 < min_tokens <= most_tokens else 0
        found: list[tuple[int, int, int]] = []  # token, rank of the stop string, place in the text
        for rank, stop in enumerate(stops):
            place = text.find(stop, max(0, safe - len(stop) + 1))
            if place >= 0:
                found.append((bisect_left(ends, place + len(stop)) + 1, rank, place))
        if not found or min_tokens >= most_tokens:
            return
        self.stop_after_tokens, rank, place = min(found)
        self.stop = stops[rank]
        said = place + len(self.stop) if include else place
        for number in range(self.stop_after_tokens, 0, -1):
            if ends[number - 1] <= said:
                break
            word = words[number - 1]
            shorter = word.text[: max(0, said - (ends[number - 1] - len(word.text)))]
            self._cut[number] = Word(word.id, shorter, json.dumps(shorter).encode())

    def word(self, number: int) -> Word:
        """The `number`-th, from 1."""
        if number in self._cut:
            return self._cut[number]
        words = self._vocabulary.words
        return words[(self._start + number - 1) % len(words)]

    def words(self, count: int) -> list[Word]:
        """The first `count`."""
        words = self._vocabulary.words_from(self._start, count)
        for number, word in self._cut.items():
            if number <= count:
                words[number - 1] = word
        return words


def prompt_seed(prompt: str | Sequence[int], choice: int = 0) -> int:
    """A 64-bit number that is the same for the same prompt (text or token ids) and choice, in any process."""
    text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
    digest = hashlib.blake2b(f"{choice} {text}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def natural_length_tokens(seed: int) -> int:
    """Tokens after which the answer to a prompt ends by itself: lognormal, median 160, sigma 0.7."""
    length = random.Random(seed).lognormvariate(math.log(_MEDIAN_LENGTH_TOKENS), _LENGTH_SIGMA)
    return max(1, round(length))


def _single_token_words(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """Yield (id, text) of the tokens that are a blank and letters, and that their text is tokenized to."""
    for token_id in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token_id])
        if re.fullmatch(" [A-Za-z]+", text) and tokenizer.encode(text, add_special_tokens=False).ids == [token_id]:
            yield token_id, text
