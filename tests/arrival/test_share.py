"""Shares: what each load process makes of a tenant's load, and that nothing is left over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.arrival.share import Share, shares
from fairshare_locust.profile.arrivals import Arrival, BatchArrival, ClosedArrival, ConstantArrival
from tests.elsewhere import elsewhere

KINDS = ("constant", "closed", "batch")


def with_slots(kind: str, slots: int) -> Arrival:
    match kind:
        case "constant":
            return ConstantArrival(rate_per_s=1, max_in_flight=slots)
        case "closed":
            return ClosedArrival(concurrency=slots)
    return BatchArrival(size=slots)


def first_of(tenant_id: str, processes: int) -> int:
    """The process that is dealt a single slot."""
    [first] = [i for i, share in enumerate(shares(tenant_id, with_slots("constant", 1), processes)) if share.slots]
    return first


def test_evenly_dealt_slots_and_requests_by_index() -> None:
    even = shares("chat", with_slots("constant", 6), 3)
    assert even == (Share(2, (0,), 3), Share(2, (1,), 3), Share(2, (2,), 3))
    assert [even[1].index(nth) for nth in range(4)] == [1, 4, 7, 10]
    assert [even[1].count_below(end) for end in (0, 1, 2, 4, 5, 11)] == [0, 0, 1, 1, 2, 4]


def test_fewer_slots_than_processes() -> None:
    """What an open loop has due goes to those that have a slot."""
    dealt = shares("chat", with_slots("constant", 2), 5)
    assert sorted(share.slots for share in dealt) == [0, 0, 0, 1, 1]
    assert sorted((share.residues, share.modulus) for share in dealt if share.slots) == [((0,), 2), ((1,), 2)]
    first = first_of("chat", 5)
    assert dealt[first].slots == dealt[(first + 1) % 5].slots == 1


def test_a_closed_loop_is_dealt_in_proportion_to_slots() -> None:
    """Three slots over two processes: of each three requests one makes two, so that both end N requests together."""
    dealt = shares("chat", with_slots("closed", 3), 2)
    more, less = sorted(dealt, key=lambda share: -share.slots)
    assert (more.slots, less.slots, more.modulus, less.modulus) == (2, 1, 3, 3)
    assert (more.count_below(30), less.count_below(30)) == (20, 10)
    assert shares("chat", with_slots("closed", 4), 2) == (Share(2, (0, 2), 4), Share(2, (1, 3), 4))


def test_one_process_makes_all_batches() -> None:
    dealt = shares("chat", with_slots("batch", 8), 3)
    assert sorted(share.slots for share in dealt) == [0, 0, 8]
    [share] = [share for share in dealt if share.slots]
    assert [share.index(nth) for nth in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_makes_everything(kind: str) -> None:
    [share] = shares("chat", with_slots(kind, 5), 1)
    assert share.slots == 5
    assert [share.index(nth) for nth in range(12)] == list(range(12))


@given(
    kind=st.sampled_from(KINDS),
    slots=st.integers(1, 40),
    processes=st.integers(1, 9),
    tenant_id=st.text("abcdef", min_size=1, max_size=5),
    end=st.integers(0, 200),
)
def test_together_they_are_the_whole(kind: str, slots: int, processes: int, tenant_id: str, end: int) -> None:
    dealt = shares(tenant_id, with_slots(kind, slots), processes)
    assert len(dealt) == processes
    assert sum(share.slots for share in dealt) == slots
    indices = []
    for share in dealt:
        assert bool(share.slots) == bool(share.residues)
        own = [share.index(nth) for nth in range(share.count_below(end))]
        assert own == sorted(own)
        assert all(index < end for index in own)
        indices += own
    assert sorted(indices) == list(range(end))
    if kind != "batch":
        counts = [share.slots for share in dealt]
        assert max(counts) - min(counts) <= 1


@given(kind=st.sampled_from(KINDS), slots=st.integers(1, 40), more=st.integers(0, 40), processes=st.integers(1, 9))
def test_a_larger_load_takes_slots_from_nobody(kind: str, slots: int, more: int, processes: int) -> None:
    before, after = (shares("chat", with_slots(kind, total), processes) for total in (slots, slots + more))
    assert all(one.slots <= other.slots for one, other in zip(before, after, strict=True))


def every_first() -> list[int]:
    return [first_of(f"tenant-{i}", 5) for i in range(50)]


def test_small_tenants_are_spread_and_everybody_agrees() -> None:
    """Whatever Python hashes with."""
    here = every_first()
    assert set(here) == set(range(5))
    assert elsewhere(every_first) == here
