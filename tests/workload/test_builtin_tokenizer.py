"""The tokenizer that ships with the package: loses no text, knows enough words, and can be made again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path("scripts/train_tokenizer.py")
WORDS = Path("scripts/words.txt")
PROMPTS = Path("profiles/prompts.jsonl")
BUILTIN = Path("fairshare_locust/workload/builtin_tokenizer.json")

TOKENIZER: Tokenizer = Tokenizer.from_file(str(ROOT / BUILTIN))


@given(st.text())
def test_text_comes_back_unchanged(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_text_outside_its_training_text_comes_back_too() -> None:
    text = "\t  ᚠᚢᚦ 🦦\r\n\x00 naïve ﷽"

    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


def test_vocabulary_has_6000_tokens_of_which_one_is_special() -> None:
    assert TOKENIZER.get_vocab_size() == 6000
    special = [token.content for token in TOKENIZER.get_added_tokens_decoder().values() if token.special]
    assert special == ["<|endoftext|>"]


def test_the_end_of_text_is_one_token() -> None:
    assert TOKENIZER.encode("<|endoftext|>").tokens == ["<|endoftext|>"]


def test_no_space_is_put_before_the_text() -> None:
    assert TOKENIZER.encode("water").ids != TOKENIZER.encode(" water").ids


def test_at_least_2000_words_with_their_space_are_one_token() -> None:
    words = (ROOT / WORDS).read_text(encoding="utf-8").split()
    single = [word for word in words if len(TOKENIZER.encode(" " + word).ids) == 1]

    assert len(single) >= 2000


def test_the_word_list_is_sorted_lower_case_and_without_repeats() -> None:
    words = (ROOT / WORDS).read_text(encoding="utf-8").split("\n")

    assert words.pop() == ""
    assert words == sorted(set(words))
    assert len(words) >= 3000
    assert all(word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 10 for word in words)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script and its text alone, without the tokenizer."""
    for file in (SCRIPT, WORDS, PROMPTS):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / BUILTIN).parent.mkdir(parents=True)
    return tmp_path


def train(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_training_gives_the_shipped_bytes(checkout: Path) -> None:
    assert train(checkout).returncode == 0

    assert (checkout / BUILTIN).read_bytes() == (ROOT / BUILTIN).read_bytes()


def test_check_agrees_with_the_shipped_file(checkout: Path) -> None:
    shutil.copy(ROOT / BUILTIN, checkout / BUILTIN)

    assert train(checkout, "--check").returncode == 0


def test_check_notices_that_the_text_has_changed(checkout: Path) -> None:
    shutil.copy(ROOT / BUILTIN, checkout / BUILTIN)
    (checkout / WORDS).write_text("quixotic\nzephyr\n", encoding="utf-8")

    result = train(checkout, "--check")

    assert result.returncode == 1
    assert "builtin_tokenizer.json is not what its text gives" in result.stderr
    assert (checkout / BUILTIN).read_bytes() == (ROOT / BUILTIN).read_bytes()


def test_check_notices_that_the_file_is_missing(checkout: Path) -> None:
    assert train(checkout, "--check").returncode == 1
    assert not (checkout / BUILTIN).exists()
