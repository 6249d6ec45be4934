"""Prompts of a trace: recorded lengths to the token, blocks that are shared, and nothing else that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.traces import Trace
from fairshare_locust.profile.workloads import TraceWorkload
from fairshare_locust.trace import BLOCK_TOKENS, TenantRows, TraceRows, read_trace
from fairshare_locust.trace.load import cut_trace
from fairshare_locust.trace.rows import Blocks
from fairshare_locust.workload.tokenizer import Tokenizer, load_tokenizer
from fairshare_locust.workload.trace import TraceSource
from fairshare_locust.workload.words import Words
from tests.elsewhere import elsewhere

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)
_RAW = tokenizers.Tokenizer.from_file(
    str(Path(__file__).resolve().parents[2] / "fairshare_locust/workload/builtin_tokenizer.json")
)
_SAMPLES = Path(__file__).resolve().parents[2] / "profiles/traces"


def tenant_rows(
    inputs: list[int], outputs: list[int] | None = None, hash_ids: list[list[int]] | None = None
) -> TenantRows:
    """Rows a second apart."""
    blocks = None
    if hash_ids is not None:
        ends = np.cumsum(np.array([len(ids) for ids in hash_ids], dtype=np.int64))
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])[:-1]
        blocks = Blocks(np.array([hash_id for ids in hash_ids for hash_id in ids], dtype=np.int64), starts, ends)
    return TenantRows(
        np.arange(len(inputs), dtype=np.float64),
        np.array(inputs, dtype=np.int32),
        np.array(outputs or [1] * len(inputs), dtype=np.int32),
        blocks,
    )


def source(
    rows: TenantRows,
    *,
    seed: int = 7,
    tenant: str = "chat",
    trace: str = "moon",
    overhead_tokens: int = 0,
    expected: int = 100,
    **options: Any,
) -> TraceSource:
    workload = TraceWorkload(trace=trace, **options)
    return TraceSource(workload, rows, seed, tenant, _TOKENIZER, _WORDS, expected, overhead_tokens)


def ids(text: str) -> list[int]:
    """The tokens of a text."""
    return [int(token) for token in _RAW.encode(text, add_special_tokens=False).ids]


def shared_tokens(one: str, other: str) -> int:
    """How many tokens two texts have in common from their start."""
    one_ids, other_ids = ids(one), ids(other)
    return next(
        (i for i, (a, b) in enumerate(zip(one_ids, other_ids, strict=False)) if a != b),
        min(len(one_ids), len(other_ids)),
    )


def sample(name: str, trace_format: Any) -> TraceRows:
    path = _SAMPLES / name
    return cut_trace(Trace(name="sample", path=path, format=trace_format), read_trace(path, trace_format), seed=1)


@pytest.mark.parametrize(
    ("name", "trace_format"),
    [("azure_sample.csv", "azure"), ("burstgpt_sample.csv", "burstgpt"), ("mooncake_sample.jsonl", "mooncake")],
)
def test_each_request_has_its_rows_lengths(name: str, trace_format: str) -> None:
    rows = sample(name, trace_format).of_tenant("chat")
    prompts = source(rows)
    for index in range(len(rows)):
        request = prompts.request(index)
        assert request.input_tokens == _TOKENIZER.count(request.prompt) == rows.input_tokens[index]
        assert request.output_tokens == rows.output_tokens[index]
        assert request.messages is None
        assert request.turn is None


def test_after_the_last_row_comes_the_first_with_other_words() -> None:
    prompts = source(tenant_rows([20, 30, 40], [5, 6, 7]))
    first, again = prompts.request(1), prompts.request(4)
    assert (first.input_tokens, first.output_tokens) == (again.input_tokens, again.output_tokens) == (30, 6)
    assert shared_tokens(first.prompt, again.prompt) < 4


def test_a_row_of_no_tokens_is_sent_with_one() -> None:
    request = source(tenant_rows([0])).request(0)
    assert request.input_tokens == _TOKENIZER.count(request.prompt) == 1


def test_longer_rows_are_cut() -> None:
    prompts = source(tenant_rows([2000, 10], [700, 3], [[1, 2, 3, 4], [5]]), max_input_tokens=600, max_output_tokens=9)
    long, short = prompts.request(0), prompts.request(1)
    assert (long.input_tokens, long.output_tokens) == (600, 9)
    assert _TOKENIZER.count(long.prompt) == 600
    assert (short.input_tokens, short.output_tokens) == (10, 3)


def test_texts_are_shorter_by_what_the_template_adds() -> None:
    prompts = source(tenant_rows([1000, 12, 3], hash_ids=[[1, 2], [3], [4]]), overhead_tokens=11)
    requests = [prompts.request(index) for index in range(3)]
    assert [_TOKENIZER.count(request.prompt) for request in requests] == [989, 1, 1]
    assert [request.input_tokens for request in requests] == [1000, 12, 12]


def test_equal_leading_blocks_are_equal_texts_and_nothing_more() -> None:
    hash_ids = [[1, 2, 3], [1, 2, 4], [1, 5, 3], [6, 2, 3], [1, 2]]
    prompts = source(tenant_rows([1500, 1500, 1500, 1500, 900], hash_ids=hash_ids))
    texts = [prompts.request(index).prompt for index in range(5)]
    assert shared_tokens(texts[0], texts[1]) == 2 * BLOCK_TOKENS
    assert shared_tokens(texts[0], texts[2]) == BLOCK_TOKENS
    assert shared_tokens(texts[0], texts[3]) == 0
    assert shared_tokens(texts[0], texts[4]) == 900


def test_a_block_has_its_text_wherever_it_stands() -> None:
    prompts = source(tenant_rows([1536, 1024], hash_ids=[[1, 2, 3], [3, 1]]))
    one, other = (prompts.request(index).prompt.split(" ") for index in range(2))
    assert other[:BLOCK_TOKENS] == one[2 * BLOCK_TOKENS :]
    assert other[BLOCK_TOKENS:] == one[:BLOCK_TOKENS]


def test_what_goes_beyond_the_blocks_is_the_requests_own() -> None:
    prompts = source(tenant_rows([1000, 1000], hash_ids=[[1], [1]]))
    one, other = prompts.request(0).prompt, prompts.request(1).prompt
    assert _TOKENIZER.count(one) == 1000
    assert BLOCK_TOKENS <= shared_tokens(one, other) < BLOCK_TOKENS + 4


def test_other_tenants_share_the_blocks_and_only_those() -> None:
    rows = tenant_rows([1000], hash_ids=[[1]])
    one, other = (source(rows, tenant=tenant).request(0).prompt for tenant in ("chat", "batch"))
    assert BLOCK_TOKENS <= shared_tokens(one, other) < BLOCK_TOKENS + 4


@pytest.mark.parametrize("change", [{"seed": 8}, {"trace": "sun"}])
def test_another_seed_or_trace_has_other_blocks(change: Any) -> None:
    rows = tenant_rows([512], hash_ids=[[1]])
    assert shared_tokens(source(rows).request(0).prompt, source(rows, **change).request(0).prompt) < 4


def test_many_blocks_are_told_apart_by_their_first_tokens() -> None:
    prompts = source(tenant_rows([16] * 5000, hash_ids=[[i] for i in range(5000)]))
    assert len({tuple(prompts.request(index).prompt.split(" ")[:4]) for index in range(5000)}) == 5000


def test_prompts_without_blocks_share_no_prefix() -> None:
    prompts = source(tenant_rows([16] * 1000))
    others = source(tenant_rows([16] * 1000), tenant="batch")
    starts = [tuple(made.request(index).prompt.split(" ")[:4]) for made in (prompts, others) for index in range(5000)]
    assert len(set(starts)) == 10_000


def test_a_prompt_longer_than_the_prepared_words() -> None:
    request = source(tenant_rows([140_000])).request(0)
    assert request.input_tokens == _TOKENIZER.count(request.prompt) == 140_000


def test_a_tokenizer_that_joins_words_is_refused() -> None:
    class Joining(Tokenizer):
        def counts(self, texts: Any) -> list[int]:
            return [count - (count > 100) for count in super().counts(texts)]

    rows = tenant_rows([50, 600, 50])
    with pytest.raises(WorkloadError, match=r"a prompt made of 600 tokens came out at 599 \(tenant 'chat'"):
        TraceSource(TraceWorkload(trace="moon"), rows, 7, "chat", Joining(_RAW), _WORDS, 3)


_PROMPTS = st.lists(
    st.tuples(st.integers(0, 2500), st.lists(st.integers(0, 5) | st.integers(-(2**63), 2**63 - 1), max_size=5)),
    min_size=1,
    max_size=5,
)


@given(_PROMPTS, st.integers(0, 40), st.none() | st.integers(1, 2000), st.integers(0, 2**63 - 1))
def test_lengths_are_exact_whatever_the_rows(
    prompts: list[tuple[int, list[int]]], overhead_tokens: int, most: int | None, seed: int
) -> None:
    rows = tenant_rows([length for length, _ in prompts], hash_ids=[hash_ids for _, hash_ids in prompts])
    made = source(rows, seed=seed, overhead_tokens=overhead_tokens, max_input_tokens=most)
    for index in range(2 * len(prompts)):
        request = made.request(index)
        wanted = min(prompts[index % len(prompts)][0], most or 2500)
        assert _TOKENIZER.count(request.prompt) == max(1, wanted - overhead_tokens)
        assert request.input_tokens == max(1, wanted - overhead_tokens) + overhead_tokens


def shas() -> list[str]:
    made = source(tenant_rows([700, 40, 1500], hash_ids=[[1, 2], [], [1, 3]]))
    return [made.request(index).sha for index in (4, 2, 0, 3, 1, 5)]


def test_another_process_asks_the_same() -> None:
    assert elsewhere(shas) == shas()
