"""Random streams."""

from __future__ import annotations

from fairshare_locust.seeding import random_stream


def first(seed: int, tenant_id: str, purpose: str) -> int:
    return int(random_stream(seed, tenant_id, purpose).integers(2**63))


def test_seed_tenant_and_purpose_decide() -> None:
    """0 is a seed like any other."""
    names = [(seed, tenant, purpose) for seed in (0, 1, 2**63 - 1) for tenant in ("a", "b") for purpose in ("x", "y")]
    assert len({first(*name) for name in names}) == len(names)
    assert [first(*name) for name in names] == [first(*name) for name in names]


def test_a_stream_is_the_same_for_ever() -> None:
    """SHA-256 of "7/chat/arrival", its first 16 bytes as the seed of a PCG64: runs of today can be repeated later."""
    assert first(7, "chat", "arrival") == 1_777_594_431_251_317_965


def test_drawing_from_one_shifts_no_other() -> None:
    one, other = random_stream(7, "chat", "x"), random_stream(7, "chat", "y")
    one.random(1000)
    assert other.random() == random_stream(7, "chat", "y").random()
