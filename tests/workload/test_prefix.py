"""Prompts behind prefixes: exact lengths, groups by Zipf's law, and who shares which prefix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.distribution import ConstantLength, UniformLength
from fairshare_locust.profile.workloads import PrefixWorkload
from fairshare_locust.workload import Tokenizer, load_tokenizer
from fairshare_locust.workload.prefix import PrefixSource
from fairshare_locust.workload.words import Words

_TOKENIZER = load_tokenizer("builtin")
_WORDS = Words(_TOKENIZER)


def source(
    tenant_id: str = "chat", seed: int = 7, *, expected: int = 50, overhead_tokens: int = 0, **options: Any
) -> PrefixSource:
    defaults = {
        "prefix_tokens": ConstantLength(value=20),
        "input_tokens": ConstantLength(value=10),
        "output_tokens": ConstantLength(value=5),
    }
    workload = PrefixWorkload(**{**defaults, **options})
    return PrefixSource(workload, seed, tenant_id, _TOKENIZER, _WORDS, expected, overhead_tokens)


def prefixes(prompts: PrefixSource, words: int = 20) -> dict[int, set[str]]:
    """The first words of 400 prompts, by group."""
    found: dict[int, set[str]] = {}
    for index in range(400):
        found.setdefault(prompts.group(index), set()).add(" ".join(prompts.request(index).prompt.split(" ")[:words]))
    return found


@settings(deadline=None, max_examples=40)
@given(
    prefix=st.tuples(st.integers(1, 400), st.integers(0, 100)),
    rest=st.integers(1, 200),
    groups=st.integers(1, 50),
    seed=st.integers(0, 2**63 - 1),
    index=st.integers(0, 5000),
)
def test_every_prompt_has_exactly_its_tokens(
    prefix: tuple[int, int], rest: int, groups: int, seed: int, index: int
) -> None:
    low, more = prefix
    prompts = source(
        seed=seed,
        expected=3,
        groups=groups,
        prefix_tokens=UniformLength(low=low, high=low + more),
        input_tokens=ConstantLength(value=rest),
    )
    for i in (0, 1, 2, index):
        request = prompts.request(i)
        assert low + rest <= request.input_tokens <= low + more + rest
        assert _TOKENIZER.count(request.prompt) == request.input_tokens
        assert request.messages is None
        assert request.turn is None


def test_a_group_has_one_prefix_and_no_two_the_same() -> None:
    found = prefixes(source(groups=5))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert [len(starts) for starts in found.values()] == [1] * 5
    assert len(set.union(*found.values())) == 5
    prompts = source(groups=5)
    assert len({prompts.request(i).prompt for i in range(400)}) == 400


def test_a_groups_prefix_is_of_one_length() -> None:
    prompts = source(groups=6, prefix_tokens=UniformLength(low=5, high=500))
    lengths: dict[int, set[int]] = {}
    for index in range(200):
        lengths.setdefault(prompts.group(index), set()).add(prompts.request(index).input_tokens)
    assert [len(found) for found in lengths.values()] == [1] * 6
    assert len({length for found in lengths.values() for length in found}) > 3


@pytest.mark.parametrize("zipf", [0.0, 1.0, 1.7])
def test_groups_follow_zipfs_law(zipf: float) -> None:
    """Group k of 8 in proportion to 1 / k^zipf, over 20,000 requests."""
    prompts = source(groups=8, zipf=zipf)
    counts = np.bincount([prompts.group(i) for i in range(20_000)], minlength=8)
    weights = np.array([1 / k**zipf for k in range(1, 9)])
    assert stats.chisquare(counts, 20_000 * weights / weights.sum()).pvalue > 0.01


def test_zipf_by_hand() -> None:
    """Three groups at zipf 1: 1, 1/2, 1/3 of 11/6, that is 6/11, 3/11, 2/11. Three standard errors: 0.011."""
    prompts = source(groups=3, zipf=1.0)
    counts = np.bincount([prompts.group(i) for i in range(20_000)])
    assert counts / 20_000 == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.011)


def test_prefixes_are_the_tenants_own_unless_shared() -> None:
    chat, batch = (prefixes(source(tenant_id, groups=4)) for tenant_id in ("chat", "batch"))
    assert all(one.isdisjoint(other) for one in chat.values() for other in batch.values())
    chat, batch = (prefixes(source(tenant_id, groups=4, share_prefix=True)) for tenant_id in ("chat", "batch"))
    assert chat == batch
    asked = [
        {prompts.request(i).prompt for i in range(100)}
        for prompts in (source(tenant_id, share_prefix=True) for tenant_id in ("chat", "batch"))
    ]
    assert not asked[0] & asked[1]  # what follows them is not shared
    assert prefixes(source(groups=4, share_prefix=True, seed=8)) != chat


def test_seed_tenant_and_index_decide() -> None:
    prompts, other = source(), source()
    made = [prompts.request(i) for i in range(80)]
    assert [other.request(i) for i in (77, 3, 60, 3)] == [made[77], made[3], made[60], made[3]]
    assert [source(expected=70).request(i) for i in range(50)] == made[:50]
    assert source(seed=8).request(0) != made[0]


def test_the_template_is_taken_off_what_follows_the_prefix() -> None:
    plain, templated = source(groups=3).request(0), source(groups=3, overhead_tokens=4).request(0)
    assert plain.input_tokens == templated.input_tokens == 30
    assert _TOKENIZER.count(templated.prompt) == 26
    assert templated.prompt.split(" ")[:20] == plain.prompt.split(" ")[:20]
    least = source(overhead_tokens=40).request(0)
    assert (_TOKENIZER.count(least.prompt), least.input_tokens) == (21, 61)


def test_a_tokenizer_that_joins_at_the_prefix() -> None:
    class Joining(Tokenizer):
        """Longer texts lose a token."""

        def counts(self, texts: Any) -> list[int]:
            return [count - (count > 25) for count in super().counts(texts)]

    workload = PrefixWorkload(
        prefix_tokens=ConstantLength(value=20),
        input_tokens=ConstantLength(value=10),
        output_tokens=ConstantLength(value=1),
    )
    with pytest.raises(WorkloadError, match=r"a prompt made of 30 tokens came out at 29 \(tenant 'chat', index 0\)"):
        PrefixSource(workload, 7, "chat", Joining(_TOKENIZER._inner), _WORDS, 3)
