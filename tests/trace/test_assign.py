"""Assignment: every row to exactly one tenant, in proportion, and the same way whoever asks."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.profile.traces import Assign, AssignByHash, AssignByModel, AssignBySession, AssignByShare
from fairshare_locust.trace.assign import assign_rows
from fairshare_locust.trace.rows import Blocks, Labels, Rows
from tests.elsewhere import elsewhere


def labels(texts: list[str | None]) -> Labels:
    names = list(dict.fromkeys(text for text in texts if text is not None))
    return Labels(np.array([-1 if text is None else names.index(text) for text in texts], dtype=np.int32), tuple(names))


def blocks(prompts: list[list[int]]) -> Blocks:
    lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
    ends = np.cumsum(lengths)
    ids = np.array([hash_id for ids in prompts for hash_id in ids], dtype=np.int64)
    return Blocks(ids, ends - lengths, ends)


def rows(
    count: int,
    sessions: list[str | None] | None = None,
    prompts: list[list[int]] | None = None,
    models: Labels | None = None,
) -> Rows:
    return Rows(
        np.arange(count, dtype=np.float64),
        np.ones(count, dtype=np.int32),
        np.ones(count, dtype=np.int32),
        sessions=None if sessions is None else labels(sessions),
        blocks=None if prompts is None else blocks(prompts),
        models=models,
    )


def point(seed: int, trace: str, name: str) -> float:
    """Where SHA-256 puts a name in [0, 1), reckoned on its own."""
    return int(hashlib.sha256(f"{seed}/{trace}/{name}".encode()).hexdigest()[:16], 16) / 2**64


def test_shares_are_kept_in_proportion() -> None:
    places = assign_rows(AssignByShare(shares={"b": 3, "a": 1}), rows(40_000), 7, "code")
    # Binomial: 30,000 ± 87; five standard deviations.
    assert abs(np.sum(places == 0) - 30_000) < 435
    assert np.sum(places == 0) + np.sum(places == 1) == 40_000


def test_sessions_and_prefixes_are_kept_in_proportion() -> None:
    sessions: list[str | None] = [f"s{i}" for i in range(10_000)]
    by_session = assign_rows(AssignBySession(shares={"a": 1, "b": 4}), rows(10_000, sessions), 7, "chat")
    by_hash = assign_rows(
        AssignByHash(shares={"a": 1, "b": 4}), rows(10_000, prompts=[[i] for i in range(10_000)]), 7, "x"
    )
    # Binomial: 2,000 ± 40; five standard deviations.
    assert abs(np.sum(by_session == 0) - 2_000) < 200
    assert abs(np.sum(by_hash == 0) - 2_000) < 200


def test_a_session_falls_where_its_digest_lies() -> None:
    names = [f"s{i}" for i in range(50)]
    places = assign_rows(AssignBySession(shares={"a": 1, "b": 1}), rows(50, [*names]), 3, "chat")
    assert places.tolist() == [int(point(3, "chat", name) >= 0.5) for name in names]


def test_a_first_block_falls_where_its_digest_lies() -> None:
    places = assign_rows(
        AssignByHash(shares={"a": 1, "b": 1}), rows(50, prompts=[[i, 9] for i in range(50)]), 3, "moon"
    )
    assert places.tolist() == [int(point(3, "moon", str(i)) >= 0.5) for i in range(50)]


def test_rows_with_one_first_block_stay_together_whatever_follows() -> None:
    prompts = [[i % 5, i] for i in range(100)]
    places = assign_rows(AssignByHash(shares={"a": 1, "b": 1, "c": 1}), rows(100, prompts=prompts), 1, "moon")
    assert all(len(set(places[i::5].tolist())) == 1 for i in range(5))


@pytest.mark.parametrize(
    ("assign", "drawn"),
    [
        (AssignBySession(shares={"a": 1, "b": 1}), rows(400, [None] * 400)),
        (AssignByHash(shares={"a": 1, "b": 1}), rows(400, prompts=[[]] * 400)),
    ],
)
def test_rows_without_a_session_or_block_are_each_their_own(assign: Assign, drawn: Rows) -> None:
    places = assign_rows(assign, drawn, 1, "x")
    assert 100 < np.sum(places == 0) < 300


def test_models_go_to_their_tenants_and_others_to_nobody() -> None:
    models = labels(["GPT-4", "ChatGPT", None, "o1", "GPT-4", "Ada"])
    assign = AssignByModel(models={"ChatGPT": "chat", "GPT-4": "big", "o1": "chat"})
    assert list(assign.shares) == ["chat", "big"]
    assert assign_rows(assign, rows(6, models=models), 1, "x").tolist() == [1, 0, -1, 0, 1, -1]


def test_seed_and_name_of_the_trace_matter() -> None:
    assign = AssignByShare(shares={"a": 1, "b": 1})
    places = assign_rows(assign, rows(100), 1, "x").tolist()
    assert assign_rows(assign, rows(100), 1, "x").tolist() == places
    assert assign_rows(assign, rows(100), 2, "x").tolist() != places
    assert assign_rows(assign, rows(100), 1, "y").tolist() != places


def test_the_order_of_tenants_in_the_profile_does_not_matter() -> None:
    one = assign_rows(AssignByShare(shares={"a": 1, "b": 2, "c": 3}), rows(200), 1, "x")
    other = assign_rows(AssignByShare(shares={"c": 3, "a": 1, "b": 2}), rows(200), 1, "x")
    assert [("a", "b", "c")[place] for place in one] == [("c", "a", "b")[place] for place in other]


_SHARES = st.dictionaries(st.sampled_from("abcde"), st.floats(1e-6, 1e6), min_size=1)
_SESSIONS = st.lists(st.none() | st.sampled_from(["s", "t", "u"]), min_size=1, max_size=30)


@given(_SHARES, _SESSIONS, st.integers(0, 2**63 - 1))
def test_every_row_goes_to_one_tenant_and_sessions_stay_together(
    shares: dict[str, float], sessions: list[str | None], seed: int
) -> None:
    places = assign_rows(AssignBySession(shares=shares), rows(len(sessions), sessions), seed, "x")
    assert set(places.tolist()) <= set(range(len(shares)))
    for session in set(sessions) - {None}:
        assert len({place for place, name in zip(places, sessions, strict=True) if name == session}) == 1


def assigned() -> list[list[int]]:
    drawn = rows(60, [f"s{i % 9}" if i % 3 else None for i in range(60)], [[i % 7, i] for i in range(60)])
    shares = {"a": 1.0, "b": 2.0, "c": 1.5}
    kinds = (AssignByShare, AssignBySession, AssignByHash)
    return [assign_rows(kind(shares=shares), drawn, 7, "x").tolist() for kind in kinds]


def test_another_process_assigns_alike() -> None:
    assert elsewhere(assigned) == assigned()
