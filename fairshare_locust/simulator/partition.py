"""Partition: what of the card each engine has, by the way of sharing it.

One engine for all tenants (`logical`) has the whole card. Otherwise each tenant has an engine of its own, which loads
the weights once more, and what is left of its part of the memory is its KV cache:

    KV cache = memory of the part · utilisation − weights − reserve, in whole blocks

Utilisation and reserve come from the GPU's card; without one all of the memory is used, and nothing kept in reserve.
Time-slicing gives each all SMs and all of the bandwidth in its turn. Under MPS, and where its caps stand in for MIG
(`mig_emulated`), each has at most its share of the SMs, and all share the bandwidth. A MIG slice has sevenths of the
SMs and eighths of memory and bandwidth to itself, so reading and computing take longer by as much.

An engine of a tenant's own may have a model of its own (`models`); one engine for all has one model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass

from fairshare_locust.cards import BLOCK_TOKENS, GpuCard, MigProfile, gpu_card, gpu_names
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Sharing, SimulatorOptions
from fairshare_locust.profile.schema import near
from fairshare_locust.simulator.costs import StepCosts

__all__ = ["Part", "partition", "parts_of"]

_AT = "deployment.simulator"
_SEVENTHS, _EIGHTHS = 7, 8
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """An engine's part of the card.

    Attributes:
        tenants: whom it serves.
        costs: of a step that has this part to itself; without its cap on the SMs, which the card sees to.
        kv_capacity_tokens: what its KV cache holds.
        memory_mib: what it has of the card's memory, weights and all.
        weights_mib: what its weights take of that.
        sm_share: the most it may have of the SMs, above 0 and at most 1.
        mig: name of its MIG profile; None: not a slice.
    """

    index: int
    tenants: tuple[str, ...]
    costs: StepCosts
    kv_capacity_tokens: int
    memory_mib: float
    weights_mib: int
    sm_share: float
    mig: str | None = None


def parts_of(profile: Profile) -> tuple[Part, ...]:
    """The parts of a profile's deployment.

    Raises:
        ServingError: as `partition`.
    """
    deployment = profile.deployment
    return partition(deployment.simulator, deployment.sharing, [tenant.id for tenant in profile.tenants])


def partition(options: SimulatorOptions, sharing: Sharing, tenants: Many[str]) -> tuple[Part, ...]:
    """The parts of the card by index; each tenant is in one of them.

    Raises:
        ServingError: shares of nobody, or of more than there is; a KV cache too small for the longest sequence; MIG
            profiles that the card does not have, or not all at once.
    """
    # Those of another mode are not used, but a slip of the pen is one there, too.
    for key, given in options.by_tenant.items():
        _check_tenants(given, tenants, key)
    if sharing == "logical":
        _check_one_model(options)
        costs = StepCosts.of(options)
        whole = options.kv_capacity_tokens
        return (Part(0, tuple(tenants), costs, whole, options.memory_mib, options.weights_mib, 1.0),)
    card = None if options.gpu is None else gpu_card(options.gpu)
    if sharing == "mig":
        return _slices(options, card, tenants)
    memory_percent = _percent(options.memory_percent, tenants, "memory_percent")
    if (total := math.fsum(memory_percent.values())) > 100 + 1e-9:
        raise ServingError(
            f"{_AT}.memory_percent: {_sum(memory_percent.values())} = {total:g}; must be at most 100 together"
        )
    if sharing == "timeslice":
        sm_percent = dict.fromkeys(tenants, 100.0)
    elif sharing == "mps":  # whose default is that each may have all
        _check_percent(options.sm_percent, tenants, "sm_percent")
        sm_percent = {tenant: options.sm_percent.get(tenant, 100.0) for tenant in tenants}
    else:
        sm_percent = _percent(options.sm_percent, tenants, "sm_percent")
    parts = []
    for index, tenant in enumerate(tenants):
        memory_mib = options.memory_mib * memory_percent[tenant] / 100
        origin = f"{options.memory_mib:,} MiB × {memory_percent[tenant]:.4g} %"
        own = options.of_tenant(tenant)
        capacity = _kv_capacity_tokens(own, card, tenant, memory_mib, origin)
        share = sm_percent[tenant] / 100
        parts.append(Part(index, (tenant,), StepCosts.of(own), capacity, memory_mib, own.weights_mib, share))
    return tuple(parts)


def _check_one_model(options: SimulatorOptions) -> None:
    for tenant, name in options.models.items():
        if name != options.model:
            raise ServingError(
                f"{_AT}.models.{tenant}: found {name!r}, but under sharing: logical one engine serves all tenants with "
                f"one model ({options.model}); leave models out, or choose another way of sharing"
            )


def _percent(given: Mapping[str, float], tenants: Many[str], key: str) -> dict[str, float]:
    """By tenant: what is given, and an even part of what is left of 100 to each of the others."""
    _check_percent(given, tenants, key)
    others = [tenant for tenant in tenants if tenant not in given]
    left = 100 - math.fsum(given.values())
    if others and left <= 0:
        raise ServingError(
            f"{_AT}.{key}: {_sum(given.values())} leaves nothing of 100 for {_names(others)}; give them a number, or "
            "the others less"
        )
    return {tenant: given[tenant] if tenant in given else left / len(others) for tenant in tenants}


def _check_percent(given: Mapping[str, float], tenants: Many[str], key: str) -> None:
    _check_tenants(given, tenants, key)
    for tenant, percent in given.items():
        if not 0 < percent <= 100:
            raise ServingError(f"{_AT}.{key}.{tenant}: found {percent:g}; must be above 0 and at most 100")


def _check_tenants(given: Mapping[str, object], tenants: Many[str], key: str) -> None:
    for tenant in given:
        if tenant not in tenants:
            raise ServingError(f"{_AT}.{key}: found {tenant!r}; no tenant has this id{near(tenant, tenants)}")


def _kv_capacity_tokens(
    options: SimulatorOptions, card: GpuCard | None, tenant: str, memory_mib: float, origin: str
) -> int:
    """What the cache holds in a part of so much memory; `origin` says how much that is, and of what."""
    utilisation, reserve_mib = (1.0, 0) if card is None else (card.gpu_memory_utilization, card.reserve_mib)
    left_mib = memory_mib * utilisation - options.weights_mib - reserve_mib
    bytes_per_token, longest = options.kv_bytes_per_token, options.max_model_len
    if bytes_per_token and left_mib >= 0:
        capacity = math.floor(left_mib * _MIB / (BLOCK_TOKENS * bytes_per_token)) * BLOCK_TOKENS
    else:  # a cache that takes no memory is as large as it is said to be
        capacity = options.kv_capacity_tokens if left_mib >= 0 else 0
    if capacity >= longest:
        return capacity
    blocks = math.ceil(longest / BLOCK_TOKENS)
    needed_mib = blocks * BLOCK_TOKENS * bytes_per_token / _MIB
    int4 = "dtype int4, " if options.model is not None and options.dtype != "int4" else ""
    raise ServingError(
        f"{_AT}: the engine of tenant {tenant!r} has no room for max_model_len ({longest:,} tokens): {origin}"
        + ("" if card is None else f" × {utilisation:g}")
        + f" − {options.weights_mib:,} MiB of weights"
        + ("" if card is None else f" − {reserve_mib:,} MiB in reserve")
        + f" = {left_mib:,.0f} MiB for the KV cache, and {needed_mib:,.0f} MiB are needed ({blocks:,} blocks of "
        f"{BLOCK_TOKENS} × {bytes_per_token:,} bytes); take a card with more memory, {int4}a smaller model, fewer "
        "tenants or a lower max_model_len"
    )


def _slices(options: SimulatorOptions, card: GpuCard | None, tenants: Many[str]) -> tuple[Part, ...]:
    if card is None or not card.mig:
        able = ", ".join(name for name in gpu_names() if gpu_card(name).mig)
        found = "missing, and sharing: mig needs a card" if card is None else f"found {card.name!r}, which has no MIG"
        raise ServingError(f"{_AT}.gpu: {found}; must be one of {able}, or choose another way of sharing")
    parts = []
    for index, (tenant, mig) in enumerate(_mig_profiles(options.mig, card, tenants).items()):
        sm_share = mig.compute_sevenths / _SEVENTHS
        own = options.of_tenant(tenant)
        scaled = StepCosts.of(own).scaled(sm_share, mig.memory_eighths / _EIGHTHS)
        origin = f"{mig.memory_mib:,} MiB of a {mig.profile}"
        capacity = _kv_capacity_tokens(own, card, tenant, mig.memory_mib, origin)
        parts.append(Part(index, (tenant,), scaled, capacity, mig.memory_mib, own.weights_mib, sm_share, mig.profile))
    return tuple(parts)


def _mig_profiles(given: Mapping[str, str], card: GpuCard, tenants: Many[str]) -> dict[str, MigProfile]:
    """By tenant, in their order: the one that is given, or the largest that as many others can have, too."""
    _check_tenants(given, tenants, "mig")
    known = {mig.profile: mig for mig in card.mig}
    for tenant, name in given.items():
        if name not in known:
            raise ServingError(
                f"{_AT}.mig.{tenant}: found {name!r}; must be a MIG profile of {card.name}: {', '.join(known)}"
                f"{near(name, known)}"
            )
    chosen = {tenant: known[name] for tenant, name in given.items()}
    if problem := _misfit(list(chosen.values())):
        raise ServingError(f"{_AT}.mig: {problem}; choose smaller profiles")
    others = [tenant for tenant in tenants if tenant not in given]
    largest_first = sorted(card.mig, key=lambda mig: (mig.compute_sevenths, mig.memory_eighths), reverse=True)
    for mig in largest_first if others else ():
        if not (problem := _misfit([*chosen.values(), *[mig] * len(others)])):
            chosen.update(dict.fromkeys(others, mig))
            break
    else:
        if others:
            raise ServingError(
                f"{_AT}.mig: no profile of {card.name} is left for {_names(others)}: even with the smallest, "
                f"{problem}; take fewer tenants" + (", or choose smaller profiles for the others" if given else "")
            )
    return {tenant: chosen[tenant] for tenant in tenants}


def _misfit(slices: list[MigProfile]) -> str | None:
    """Why these do not fit a card together; None: they do."""
    for mig, count in Counter(slices).items():
        if count > mig.at_most:
            return f"{count} × {mig.profile} are more than the card can have ({mig.at_most})"
    for what, whole, sizes in (
        ("sevenths of the SMs", _SEVENTHS, [mig.compute_sevenths for mig in slices]),
        ("eighths of the memory", _EIGHTHS, [mig.memory_eighths for mig in slices]),
    ):
        if sum(sizes) > whole:
            names = " + ".join(mig.profile for mig in slices)
            return f"{names} take {_sum(sizes)} = {sum(sizes)} {what}, and there are {whole}"
    return None


def _sum(numbers: Iterable[float]) -> str:
    return " + ".join(f"{number:g}" for number in numbers)


def _names(tenants: Many[str]) -> str:
    return ", ".join(map(repr, tenants))
