"""The KV cache in blocks: what is held, shared, kept and given up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.simulator.blocks import BLOCK_TOKENS, BlockPool, BlockTable, blocks_of

Chain = tuple[tuple[int, int], ...]


def chain(family: int, blocks: int) -> Chain:
    """Identities of a prompt's full blocks: alike within a family."""
    return tuple((family, place) for place in range(blocks))


def computed(pool: BlockPool, identities: Chain, blocks: int) -> BlockTable:
    """A prompt that shares what is found, computes the rest and shares that."""
    table = pool.open(identities[: pool.found(identities, blocks * BLOCK_TOKENS)])
    assert pool.grow(table, blocks)
    pool.name(table, identities, len(identities))
    return table


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_blocks_are_of_16_tokens(tokens: int, blocks: int) -> None:
    assert blocks_of(tokens) == blocks


def test_a_sequence_takes_all_that_it_needs_or_nothing() -> None:
    pool = BlockPool(5)
    first, second = pool.open(), pool.open()
    assert pool.grow(first, 3)
    assert not pool.grow(second, 3)
    assert (pool.used, pool.free, second.count) == (3, 2, 0)
    assert pool.grow(second, 2)
    assert pool.grow(second, 1)  # it has more already
    assert (pool.used, first.count, second.count) == (5, 3, 2)
    pool.release(first)
    assert (pool.used, pool.free, pool.kept) == (2, 3, 0)


def test_a_prompt_that_begins_alike_shares_blocks_while_they_are_held_and_afterwards() -> None:
    pool = BlockPool(10)
    first = computed(pool, chain(1, 3), 4)
    second = computed(pool, chain(1, 2), 3)
    assert pool.used == 4 + 1  # two of the three are the first's
    pool.release(first)
    assert (pool.used, pool.kept) == (3, 1)  # its fourth is gone, its third is kept
    pool.release(second)
    assert (pool.used, pool.free, pool.kept) == (0, 10, 3)
    assert pool.found(chain(1, 5), 80) == 3
    assert pool.found(chain(2, 5), 80) == 0


@pytest.mark.parametrize(("tokens", "found"), [(1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (48, 2), (49, 3)])
def test_the_last_token_is_always_computed(tokens: int, found: int) -> None:
    pool = BlockPool(10)
    pool.release(computed(pool, chain(1, 4), 4))
    assert pool.found(chain(1, 3), tokens) == found


def test_what_was_unused_longest_makes_room_first_and_of_a_prompt_its_end() -> None:
    pool = BlockPool(6)
    pool.release(computed(pool, chain(1, 2), 3))
    pool.release(computed(pool, chain(2, 2), 3))
    pool.release(computed(pool, chain(1, 2), 3))  # found again: younger than the other
    table = pool.open()
    assert pool.grow(table, 3)  # two have no name; the third is the end of the second prompt
    assert (pool.found(chain(1, 2), 40), pool.found(chain(2, 2), 40)) == (2, 1)
    assert pool.grow(table, 5)
    assert (pool.found(chain(1, 2), 40), pool.found(chain(2, 2), 40), pool.kept) == (1, 0, 1)
    assert pool.grow(table, 6)
    assert (pool.kept, pool.free) == (0, 0)


def test_blocks_that_are_found_but_unused_take_the_room_of_free_ones() -> None:
    pool = BlockPool(4)
    pool.release(computed(pool, chain(1, 2), 2))
    table = pool.open()
    assert pool.grow(table, 2)
    # Four blocks, two of them found: those are the two that are free.
    assert not pool.has_room(4, chain(1, 2))
    assert pool.has_room(2, chain(1, 2))
    sharing = pool.open(chain(1, 2))
    # Held now, they take no further room.
    assert pool.free == 0
    assert pool.has_room(2, chain(1, 2))
    assert not pool.has_room(3, chain(1, 2))
    pool.release(sharing)
    assert pool.free == 2


def test_a_block_that_two_have_computed_is_shared_once() -> None:
    pool = BlockPool(10)
    tables = [pool.open(), pool.open()]
    for table in tables:
        pool.grow(table, 2)
        pool.name(table, chain(1, 2), 2)
    assert (pool.used, [len(table.named) for table in tables]) == (4, [2, 0])
    pool.release(tables[0])
    pool.release(tables[1])
    assert (pool.used, pool.kept) == (0, 2)


def test_queries_and_hits_are_counted_in_tokens() -> None:
    pool = BlockPool(10)
    pool.account(100, 0)
    pool.account(40, 2)
    assert (pool.queried_tokens, pool.hit_tokens) == (140, 32)


def test_without_prefix_caching_nothing_is_found_kept_or_counted() -> None:
    pool = BlockPool(10, prefix_caching=False)
    pool.release(computed(pool, chain(1, 3), 3))
    pool.account(40, 0)
    assert (pool.found(chain(1, 3), 100), pool.kept, pool.free, pool.queried_tokens) == (0, 0, 10, 0)


ACTION = st.tuples(st.sampled_from(["open", "grow", "release"]), st.integers(0, 20), st.integers(0, 6))


@given(capacity=st.integers(1, 12), actions=st.lists(ACTION, max_size=60))
def test_blocks_are_conserved(capacity: int, actions: list[tuple[str, int, int]]) -> None:
    pool = BlockPool(capacity)
    held: list[tuple[BlockTable, Chain]] = []
    for name, index, blocks in actions:
        if name == "open":
            identities = chain(index % 3, blocks)
            found = identities[: pool.found(identities, blocks * BLOCK_TOKENS + 1)]
            if pool.has_room(blocks, found):
                table = pool.open(found)
                assert pool.grow(table, blocks)
                pool.name(table, identities, blocks)
                held.append((table, identities))
        elif held and name == "grow":
            table, _ = held[index % len(held)]
            count, room = table.count, pool.free
            assert pool.grow(table, count + blocks) == (blocks <= room)
        elif held:
            table, _ = held.pop(index % len(held))
            pool.release(table)
        # A block with a name counts once, whoever holds it; one without is somebody's own.
        names = Counter(identity for table, _ in held for identity in table.named)
        own = sum(table.count - len(table.named) for table, _ in held)
        assert pool.used == own + len(names)
        assert 0 <= pool.used <= pool.used + pool.kept <= capacity
        assert pool.free == capacity - pool.used
    for table, _ in held:
        pool.release(table)
    assert pool.used == 0
