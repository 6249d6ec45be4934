"""The words of an answer are single tokens, and the same prompt gets the same answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from fairshare_locust.errors import ServingError
from fairshare_locust.simulator.text import (
    BUILTIN_TOKENIZER,
    Vocabulary,
    natural_length_tokens,
    prompt_seed,
)

VOCABULARY = Vocabulary.load("builtin")
TOKENIZER = Tokenizer.from_file(str(BUILTIN_TOKENIZER))


@given(start=st.integers(0, 2**64), tokens=st.integers(1, 300))
def test_tokenizing_an_answer_gives_its_words_back(start: int, tokens: int) -> None:
    words = VOCABULARY.words_from(start, tokens)
    text = "".join(word.text for word in words)
    assert TOKENIZER.encode(text, add_special_tokens=False).ids == [word.id for word in words]


def test_an_answer_goes_on_where_its_beginning_ended_and_runs_in_a_circle() -> None:
    count = len(VOCABULARY.words)
    assert VOCABULARY.words_from(5, 10)[3:] == VOCABULARY.words_from(8, 7)
    assert VOCABULARY.words_from(count - 1, 2) == [VOCABULARY.words[-1], VOCABULARY.words[0]]


def test_counting_agrees_with_the_tokenizer() -> None:
    texts = ["hello", "", "two words, and «signs» 12345"]
    expected = [len(TOKENIZER.encode(text).ids) for text in texts]
    assert VOCABULARY.count_tokens(texts, special_tokens=True) == expected
    assert expected[1] == 0


def test_seed_depends_on_prompt_and_choice_only() -> None:
    # First 8 bytes of BLAKE2b of "0 hello", the same in every process.
    assert prompt_seed("hello") == prompt_seed("hello", 0) == 0x9B1C732937480D8F
    assert len({prompt_seed(p, c) for p in ("hello", "hallo", [1, 2], [12]) for c in (0, 1)}) == 8


def test_lengths_are_lognormal_around_160_tokens() -> None:
    lengths = sorted(natural_length_tokens(seed) for seed in range(2001))
    assert lengths[0] >= 1
    assert 145 <= lengths[1000] <= 175
    # sigma 0.7: a standard deviation above the median is 160 · e^0.7 = 322.
    assert 290 <= lengths[round(0.8413 * 2000)] <= 355


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"no file .*nowhere\.json; give 'builtin' or a tokenizer\.json"):
        Vocabulary.load(str(tmp_path / "nowhere.json"))


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ServingError, match=r"tokenizer\.json can't be read"):
        Vocabulary.load(str(tmp_path))


def test_a_tokenizer_without_words_is_refused() -> None:
    with pytest.raises(ServingError, match=r"tokenizer tiny: 0 single tokens .* at least 64 are needed"):
        Vocabulary(Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a")), "tiny")


def test_a_tokenizer_whose_words_merge_is_refused() -> None:
    # No pre-tokenizer: " a b" is one unknown word, though " a" and " b" are tokens.
    words = {f" {a}{b}": i for i, (a, b) in enumerate((a, b) for a in "abcdefghij" for b in "abcdefghij")}
    with pytest.raises(ServingError, match="does not keep one token per word"):
        Vocabulary(Tokenizer(WordLevel(words, unk_token=" aa")), "merging")
