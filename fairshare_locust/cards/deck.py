"""The deck: the cards that come along, by name. Their files are read when the first card is asked for."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from fairshare_locust.cards.card import DtypeCard, GpuCard, MigProfile, ModelCard, derived
from fairshare_locust.errors import CardError

__all__ = ["constants", "dtype_card", "gpu_card", "gpu_names", "model_card", "model_names", "read_card"]

Card = TypeVar("Card", GpuCard, ModelCard, DtypeCard)


def gpu_card(name: str) -> GpuCard:
    """The GPU of this name. Raises CardError if there is none."""
    return _named(name, _gpus(), "GPU", "gpu")


def model_card(name: str) -> ModelCard:
    """The model of this name. Raises CardError if there is none."""
    return _named(name, _models(), "model", "model")


def dtype_card(name: str) -> DtypeCard:
    """The way to store weights of this name. Raises CardError if there is none."""
    return _named(name, _dtypes(), "dtype", "dtype")


def gpu_names() -> tuple[str, ...]:
    """All GPUs, smallest first."""
    return tuple(_gpus())


def model_names() -> tuple[str, ...]:
    """All models."""
    return tuple(_models())


def constants(gpu: str, model: str, dtype: str = "bf16") -> dict[str, float | int]:
    """The simulator's constants that follow from these cards, as `derived` says.

    Raises CardError for a name that has no card, and for a model that doesn't fit on the GPU.
    """
    return derived(gpu_card(gpu), model_card(model), dtype_card(dtype))


def read_card(kind: type[Card], name: str, constants: Mapping[str, Any]) -> Card:
    """A card of its entry in a file, where each constant is {value, source} or {value, estimate}.

    Raises CardError for a constant that is missing, unknown, of the wrong kind, or without one of the two.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    wanted = [field.name for field in dataclasses.fields(kind) if field.name != "name"]
    if set(wanted) != set(constants):
        odd = ", ".join(sorted(set(wanted) ^ set(constants)))
        raise CardError(f"card {name}: missing or unknown: {odd}; a card has {', '.join(wanted)}")
    for key in wanted:
        entry, at = constants[key], f"card {name}: {key}"
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise CardError(f"{at}: found {entry!r}; must be {{value, source}} or {{value, estimate}}")
        origins = [word for word in ("source", "estimate") if isinstance(entry.get(word), str) and entry[word].strip()]
        if len(origins) != 1 or len(entry) != 2:
            raise CardError(f"{at}: found {', '.join(entry)}; a value needs a source, or an estimate's reason")
        values[key] = _mig(entry["value"]) if key == "mig" else _number(entry["value"], hints[key], at)
    return kind(name=name, **values)


def _number(value: Any, kind: type[float] | type[int], at: str) -> float | int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value <= 0 or kind(value) != value:
        raise CardError(f"{at}: found {value!r}; must be {'a whole' if kind is int else 'a'} number above 0")
    return kind(value)


def _mig(profiles: Iterable[Mapping[str, Any]]) -> tuple[MigProfile, ...]:
    return tuple(MigProfile(**profile) for profile in profiles)


def _named(name: str, cards: Mapping[str, Card], what: str, key: str) -> Card:
    if name in cards:
        return cards[name]
    by_lower = {known.lower(): known for known in cards}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[close[0]]!r}?" if close else ""
    raise CardError(f"found {name!r}, a {what} without a card; must be one of {', '.join(cards)}{hint}", key)


@cache
def _gpus() -> dict[str, GpuCard]:
    return {name: read_card(GpuCard, name, entry) for name, entry in _file("gpus.yaml").items()}


@cache
def _models() -> dict[str, ModelCard]:
    return {name: read_card(ModelCard, name, entry) for name, entry in _file("models.yaml")["models"].items()}


@cache
def _dtypes() -> dict[str, DtypeCard]:
    return {name: read_card(DtypeCard, name, entry) for name, entry in _file("models.yaml")["dtypes"].items()}


def _file(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return read
