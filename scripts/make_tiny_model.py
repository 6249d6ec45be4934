"""Makes a Llama with random weights that any engine can load: for tests of engines, and of how they share a GPU.

    python scripts/make_tiny_model.py FOLDER [--hidden 256] [--layers 2] [--dtype float32] [--seed 0]

Needs torch and transformers, of the engine that is to load it; nothing is fetched. Its tokenizer is the built-in one
and four special tokens, so that prompts have the length that the load asks for. What it writes is nonsense of plain
letters, and it never ends by itself: it has no token that ends an answer, and those that are no text are never the
likeliest.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

TOKENIZER = Path(__file__).resolve().parent.parent / "fairshare_locust" / "workload" / "builtin_tokenizer.json"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEAD = 64  # a size that every engine's attention takes
SPREAD = 0.2  # of the weights: with less, greedy decoding repeats one token for ever


def tokenizer(folder: Path, longest: int) -> list[int]:
    """Write the tokenizer; returns the ids that are no text by themselves: special ones, and bytes of other letters."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer.from_file(str(TOKENIZER))
    bare.add_special_tokens(list(SPECIAL))
    whole = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=SPECIAL[0],
        pad_token=SPECIAL[3],
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
    # Version 5 writes a class that version 4 does not know; this one both do.
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return [
        number
        for token, number in bare.get_vocab(with_added_tokens=True).items()
        if token in SPECIAL or not bare.decode([number], skip_special_tokens=False).isascii()
    ]


def make(folder: Path, *, hidden: int, layers: int, dtype: str, longest: int, seed: int) -> int:
    """Write the model into a folder, which is made; returns the number of its parameters."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    silent = tokenizer(folder, longest)
    torch.manual_seed(seed)
    heads = hidden // HEAD
    config = LlamaConfig(
        vocab_size=len(json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]) + len(SPECIAL) - 1,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=longest,
        tie_word_embeddings=False,
        initializer_range=SPREAD * (256 / hidden) ** 0.5,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.set_default_dtype(getattr(torch, dtype))
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[silent] = 0.0  # 0, where the likeliest of thousands is far above it
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> int:
    """Make it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes a Llama with random weights.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--hidden", type=int, default=256, help=f"a multiple of {2 * HEAD} (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(default: %(default)s)")
    parser.add_argument("--longest", type=int, default=4096, help="prompt and answer together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    options = parser.parse_args()
    if options.hidden <= 0 or options.hidden % (2 * HEAD):
        parser.error(f"--hidden: found {options.hidden}; must be a multiple of {2 * HEAD}")
    parameters = make(
        options.folder,
        hidden=options.hidden,
        layers=options.layers,
        dtype=options.dtype,
        longest=options.longest,
        seed=options.seed,
    )
    print(f"wrote {options.folder}: {parameters:,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
