"""The words of an answer are single tokens, and the same prompt gets the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from fairshare_locust.errors import ServingError
from fairshare_locust.simulator.text import (
    BUILTIN_TOKENIZER,
    Script,
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


def test_tokens_are_those_of_the_tokenizer() -> None:
    texts = ["hello", "", "two words, and «signs» 12345"]
    expected = [TOKENIZER.encode(text).ids for text in texts]
    assert VOCABULARY.token_ids(texts, special_tokens=True) == expected
    assert expected[1] == []


@given(
    start=st.integers(0, 2**20),
    most=st.integers(1, 40),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 12)), min_size=1, max_size=3),
    least=st.integers(0, 41),
    include=st.booleans(),
)
def test_a_stop_string_ends_an_answer_as_soon_as_it_has_been_said(
    start: int, most: int, cuts: list[tuple[int, int]], least: int, include: bool
) -> None:
    words = VOCABULARY.words_from(start, most)
    text = "".join(word.text for word in words)
    stops = [text[place : place + length] or "?" for place, length in cuts]
    safe = sum(len(word.text) for word in words[:least])
    ended: tuple[int, str, str] | None = None  # the slow way: look again after every token
    for tokens in range(least + 1, most + 1):
        said = "".join(word.text for word in words[:tokens])
        for stop in stops:
            place = said.find(stop, max(0, safe - len(stop) + 1))
            if place >= 0 and ended is None:
                ended = tokens, stop, said[: place + len(stop) if include else place]
    script = Script(VOCABULARY, start)
    script.end_at(stops, most, least, include=include)
    if ended is None:
        assert (script.stop, script.stop_after_tokens) == (None, None)
        assert script.words(most) == words
        return
    tokens, stop, said = ended
    assert (script.stop_after_tokens, script.stop) == (tokens, stop)
    written = script.words(tokens)
    assert "".join(word.text for word in written) == said
    assert [script.word(number) for number in range(1, tokens + 1)] == written
    assert [word.id for word in written] == [word.id for word in words[:tokens]]
    assert [json.loads(word.json) for word in written] == [word.text for word in written]


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
