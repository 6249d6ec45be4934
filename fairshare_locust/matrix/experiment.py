"""Experiment: a YAML file that says which runs a matrix is made of. Read, and checked, as a profile is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile.load import yaml_text
from fairshare_locust.profile.model import Engine, Sharing
from fairshare_locust.profile.reader import Reader
from fairshare_locust.profile.schema import allow, near

__all__ = ["Experiment", "Loads", "Quick", "load_experiment", "parse_experiment"]

_MOST = 1e6


@dataclass(frozen=True, kw_only=True)
class Loads:
    """The loads of a matrix: what of the load changes, and its values. Exactly one is given.

    Attributes:
        concurrency: streams of every closed loop.
        batch: requests that every batch sends at once.
        rate_per_s: mean rate of every tenant whose arrival has one.
        scale: multiplies every rate, concurrency and number of streams in flight.
    """

    concurrency: tuple[int, ...] | None = allow(None, at_least=1, at_most=10_000)
    batch: tuple[int, ...] | None = allow(None, at_least=1, at_most=10_000)
    rate_per_s: tuple[float, ...] | None = allow(None, above=0, at_most=_MOST)
    scale: tuple[float, ...] | None = allow(None, above=0, at_most=_MOST)

    @property
    def given(self) -> dict[str, tuple[float, ...]]:
        """Values by name; one entry in loads that have been checked."""
        names = [one.name for one in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def name(self) -> str:
        """What of the load changes."""
        return next(iter(self.given))

    @property
    def values(self) -> tuple[float, ...]:
        """How much of it, in the order of the file."""
        return self.given[self.name]

    def check(self) -> Iterator[tuple[str, str]]:
        """One kind of load, each value once."""
        if len(self.given) != 1:
            found = ", ".join(self.given) or "none"
            yield "", f"found {found}; must be exactly one of {', '.join(one.name for one in dataclasses.fields(self))}"
        for name, values in self.given.items():
            yield from _each_once(name, values)


@dataclass(frozen=True, kw_only=True)
class Quick:
    """What `--quick` changes: shorter runs, fewer of them. What is left out stays.

    Attributes:
        run: keys of the profile's `run`.
        base: keys of a profile, merged over all others.
    """

    run: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = allow(1, at_least=1, at_most=100)
    load: Loads | None = None


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """A matrix: a base profile, times sharing modes, times engines, times loads, times repeats.

    Attributes:
        name: of the folder with its runs.
        seed: of the first repeat, and of the order of the cells; none given: the profile's.
        profile: the base profile; `base` is merged over it, or is all of it.
        base: keys of a profile. Mappings are merged key by key; anything else replaces what was there.
        sharing: modes; none given: the profile's own.
        engines: engines to compare; none given: the profile's own.
        modes: keys of a profile for one mode or one engine of those above, merged over all but `quick`.
        load: none given: the profile's own.
        repeats: runs of each cell, with the seeds s, s + 1, and so on: the same in every mode.
        cooldown_s: between two runs, for the GPU to cool down; not in virtual time.
        solo: run each tenant alone as well, once per mode and load, to compare with.
    """

    name: str = allow(
        pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", pattern_means="letters, digits, ., - or _ (63 at most)"
    )
    seed: int | None = allow(None, at_least=0, at_most=2**63 - 101)
    profile: Path | None = None
    base: dict[str, Any] = field(default_factory=dict)
    sharing: tuple[Sharing, ...] = allow((), or_one=True)
    engines: tuple[Engine, ...] = allow((), or_one=True)
    modes: dict[str, dict[str, Any]] = field(default_factory=dict)
    load: Loads | None = None
    repeats: int = allow(3, at_least=1, at_most=100)
    cooldown_s: float = allow(10.0, at_least=0, at_most=86_400)
    solo: bool = False
    quick: Quick = field(default_factory=Quick)

    def check(self) -> Iterator[tuple[str, str]]:
        """A base, each mode and engine once, and overrides of those alone."""
        if self.profile is None and not self.base:
            yield "profile", "missing; give the path of a profile, or the keys of one as base"
        yield from _each_once("sharing", self.sharing)
        yield from _each_once("engines", self.engines)
        known = [*self.sharing, *self.engines]
        for name in self.modes:
            if name not in known:
                listed = ", ".join(known) or "none, as sharing and engines are empty"
                yield (
                    f"modes.{name}",
                    f"found {name!r}; modes and engines of this experiment: {listed}{near(name, known)}",
                )


@dataclass(frozen=True, kw_only=True)
class Experiment(_Keys):
    """What a file says, and which one it was.

    Attributes:
        source: names the file in errors.
        folder: where relative paths in `base` start if there is no profile.
    """

    source: str
    folder: Path


def _each_once(key: str, values: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    if not values and key not in ("sharing", "engines"):
        yield key, "found an empty list; give at least one value"
    for i, value in enumerate(values):
        if value in values[:i]:
            yield f"{key}[{i}]", f"found {value!r} again; {key}[{values.index(value)}] is the same"


def load_experiment(path: Path | str) -> Experiment:
    """The experiment of a YAML file. Raises ProfileError with every problem in it."""
    path = Path(path)
    text = yaml_text(path, "an experiment", "name an experiment, see experiments/")
    return parse_experiment(text, source=str(path), folder=path.parent)


def parse_experiment(text: str, *, source: str, folder: Path) -> Experiment:
    """The experiment of YAML text; `source` names it in errors, relative paths start at `folder`.

    Raises ProfileError with every problem in it.
    """
    reader = Reader(source, folder)
    keys = reader.read(text, _Keys)
    if reader.problems:
        raise ProfileError(reader.problems)
    return Experiment(**vars(keys), source=source, folder=folder)
