"""Trains the built-in tokenizer: byte-level BPE, 6,000 tokens, the same bytes at every run.

    python scripts/train_tokenizer.py           writes fairshare_locust/workload/builtin_tokenizer.json
    python scripts/train_tokenizer.py --check   compares with that file; exits with 1 when they differ

The text is `scripts/words.txt` and the prompts of `profiles/prompts.jsonl`. The words give the synthetic source
thousands of tokens of the form " word" to draw from; the prompts give the tokenizer ordinary lengths on prose,
code and tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent
WORDS = ROOT / "scripts" / "words.txt"
PROMPTS = ROOT / "profiles" / "prompts.jsonl"
TOKENIZER = ROOT / "fairshare_locust" / "workload" / "builtin_tokenizer.json"

VOCABULARY_SIZE = 6000
END_OF_TEXT = "<|endoftext|>"
# Each listed word counts this often, so that the list outweighs the rarer strings of the prompts.
WORD_REPEATS = 3


def training_texts() -> Iterator[str]:
    """Yields the word list, then every prompt and every message of every conversation."""
    words = WORDS.read_text(encoding="utf-8").split()
    yield from [" " + " ".join(words)] * WORD_REPEATS
    with PROMPTS.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "prompt" in entry:
                yield entry["prompt"]
            else:
                yield from (message["content"] for message in entry["messages"])


def train() -> Tokenizer:
    """Returns the trained tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer


def main() -> int:
    """Trains, then writes or compares; returns the exit status."""
    parser = argparse.ArgumentParser(description="Trains the built-in tokenizer.")
    parser.add_argument("--check", action="store_true", help="compare with the shipped file instead of writing it")
    arguments = parser.parse_args()

    text = train().to_str() + "\n"
    name = TOKENIZER.relative_to(ROOT)
    if not arguments.check:
        TOKENIZER.write_text(text, encoding="utf-8")
        print(f"wrote {name}")
        return 0
    if not TOKENIZER.exists() or TOKENIZER.read_text(encoding="utf-8") != text:
        print(f"{name} is not what its text gives: run python scripts/train_tokenizer.py", file=sys.stderr)
        return 1
    print(f"{name} is what its text gives")
    return 0


if __name__ == "__main__":
    sys.exit(main())
