"""Loading tokenizers and counting with them."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest

from fairshare_locust.errors import FairshareError, WorkloadError
from fairshare_locust.workload import load_tokenizer

_BUILTIN = Path(str(resources.files("fairshare_locust.workload"))) / "builtin_tokenizer.json"


def test_a_file_and_a_folder_are_the_same_tokenizer(tmp_path: Path) -> None:
    shutil.copy(_BUILTIN, tmp_path / "tokenizer.json")
    text = "People chat: short prompts, answers that must start soon and flow. Größe 😀"
    counts = {load_tokenizer(name).count(text) for name in ("builtin", str(tmp_path), str(tmp_path / "tokenizer.json"))}
    assert len(counts) == 1
    assert counts.pop() > 10


def test_counts_are_those_of_each_text() -> None:
    tokenizer = load_tokenizer("builtin")
    texts = ["", "the", "the the", "a\n\nb", "größe 😀", "the " * 500]
    assert tokenizer.counts(texts) == [tokenizer.count(text) for text in texts]
    assert tokenizer.count("") == 0
    assert tokenizer.counts([]) == []


def test_counts_are_the_same_however_many_texts_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer("builtin")
    texts = ["the", "", "one two three", "a\n\nb" * 9, "", "the", "größe 😀"]
    together = tokenizer.counts(texts)
    for characters in (0, 1, 5, 30):
        monkeypatch.setattr("fairshare_locust.workload.tokenizer._BATCH_CHARACTERS", characters)
        assert tokenizer.counts(texts) == together


def test_the_vocabulary_is_in_the_order_of_its_ids() -> None:
    tokenizer = load_tokenizer("builtin")
    vocabulary = tokenizer.vocabulary()
    ids = tokenizer._inner.get_vocab()
    assert [ids[token] for token in vocabulary] == sorted(ids.values())


@pytest.mark.parametrize("kind", ["no file", "no tokenizer", "empty folder"])
def test_what_can_not_be_loaded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokenizer.json"
    if kind == "no tokenizer":
        path.write_text('{"model": "huh"}')
    name = str(tmp_path if kind == "empty folder" else path)
    with pytest.raises(WorkloadError) as caught:
        load_tokenizer(name)
    assert isinstance(caught.value, FairshareError)
    assert str(caught.value).startswith(f"model.tokenizer: {name!r} can't be loaded (")
    assert "give builtin, a folder, a tokenizer.json, or a hub id" in str(caught.value)
