"""Texts of single-token words: exact wherever they stand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.seeding import random_stream
from fairshare_locust.workload import load_tokenizer
from fairshare_locust.workload.words import Words, check_lengths, shortened

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)


def test_first_words_are_one_token_at_the_start_and_after_a_space() -> None:
    assert set(_TOKENIZER.counts(_WORDS.first)) == {1}
    assert set(_TOKENIZER.counts([f"{_WORDS.first[0]} {word}" for word in _WORDS.first])) == {2}
    assert set(_TOKENIZER.counts([f"{_WORDS.first[0]} {word}" for word in _WORDS.inner])) == {2}
    assert len(_WORDS.first) > 200
    assert len(_WORDS.inner) == 2048


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=5), seed=st.integers(0, 2**63 - 1))
def test_texts_are_exact_alone_and_one_after_another(lengths: list[int], seed: int) -> None:
    texts = [_WORDS.text(random_stream(seed, "chat", str(i)), length) for i, length in enumerate(lengths)]
    assert _TOKENIZER.counts(texts) == lengths
    assert _TOKENIZER.count(" ".join(texts)) == sum(lengths)


def test_shortened() -> None:
    assert [shortened(100, overhead) for overhead in (0, 7, 99, 100, 500)] == [100, 93, 1, 1, 1]


def test_check_lengths_names_the_first_that_is_wrong() -> None:
    one = _WORDS.first[0]
    check_lengths(_TOKENIZER, "chat", [one, f"{one} the"], [1, 2])
    with pytest.raises(WorkloadError) as caught:
        check_lengths(_TOKENIZER, "chat", [one, f"{one} the", one], [1, 3, 9])
    assert str(caught.value) == (
        "model.tokenizer: a prompt made of 3 tokens came out at 2 (tenant 'chat', index 1): this tokenizer joins "
        "words; use a jsonl or text workload, or another tokenizer"
    )
