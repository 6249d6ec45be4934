"""Cells: an experiment → its runs, each with a profile of its own, in the order in which they are made."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from fairshare_locust.errors import FairshareError, ProfileError
from fairshare_locust.matrix.experiment import Experiment, Loads
from fairshare_locust.plan import apply_plan, phases_of
from fairshare_locust.profile import Profile, load_profile, parse_profile, resolved_yaml, scaled
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.profile.model import Engine, Sharing
from fairshare_locust.simulator.partition import parts_of

__all__ = ["Cell", "Variant", "expand", "only", "planned_s", "variants", "with_load"]


@dataclass(frozen=True)
class Variant:
    """One engine and one sharing mode of an experiment, with what they change in the base profile.

    Attributes:
        engine: as the experiment names it; the profile's is another one where `--engine` stands in for it.
        name: what tells it from the others: the sharing mode, after the engine if there are several.
        mode: what its runs are called in a comparison, which puts the engine before it where engines differ.
        refused: why it can't be run at all; "" if nothing is known to be in its way.
    """

    engine: Engine
    sharing: Sharing
    name: str
    mode: str
    profile: Profile
    refused: str = ""


@dataclass(frozen=True)
class Cell:
    """One run of a matrix.

    Attributes:
        id: names its folder, and its run.
        variant: name of its engine and mode, see `Variant`.
        mode, load_name, load, repeat: its place in a comparison; `load_name` and `load` are None where the experiment
            has no loads.
        profile: of the run, before its plan.
        plan: `mixed`; `solo` for a baseline of each tenant alone.
        solo: id of the cell that has its tenants alone; None without one.
        refused: why it can't be run; "" if nothing is known to be in its way.
        number: its place in its repeat before that is shuffled: mode by mode, load by load.
    """

    id: str
    variant: str
    mode: str
    engine: Engine
    sharing: Sharing
    load_name: str | None
    load: float | None
    repeat: int
    profile: Profile
    plan: str = "mixed"
    solo: str | None = None
    refused: str = ""
    number: int = 0

    @property
    def title(self) -> str:
        """As it is told: `mps, concurrency 8, repeat 2`."""
        load = () if self.load is None else (f"{self.load_name} {self.load:g}",)
        last = "each tenant alone" if self.plan == "solo" else f"repeat {self.repeat}"
        return ", ".join((self.variant, *load, last))

    @cached_property
    def text(self) -> str:
        """Its profile as YAML with every default: two cells with the same text and plan are the same run."""
        return f"# plan: {self.plan}\n{resolved_yaml(self.profile)}"


def variants(experiment: Experiment, *, engine: Engine | None = None, quick: bool = False) -> tuple[Variant, ...]:
    """Each engine and sharing mode of an experiment, with its profile.

    Args:
        engine: stands in for all the engines of the experiment.
        quick: with what `quick` changes.

    Raises ProfileError for an override that makes no profile.
    """
    base = _base(experiment)
    own: Mapping[str, Any] = _mapping(base.get("deployment"))
    engines: Sequence[Engine] = experiment.engines or (own.get("engine", "simulator"),)
    modes: Sequence[Sharing] = experiment.sharing or (own.get("sharing", "logical"),)
    made: list[Variant] = []
    problems: dict[str, None] = {}
    for engine_name in engines:
        for sharing in modes:
            layers = [experiment.modes.get(engine_name, {}), experiment.modes.get(sharing, {})]
            if quick:
                layers += [experiment.quick.base, {"run": experiment.quick.run}]
            layers.append({"deployment": {"engine": engine or engine_name, "sharing": sharing}})
            content = base
            for layer in layers:
                content = _merged(content, layer)
            named = f"{engine_name} {sharing}" if len(engines) > 1 else sharing
            try:
                profile = _parsed(content, experiment, named)
            except ProfileError as error:
                problems |= dict.fromkeys(error.problems)
                continue
            mode = sharing if engine is None else named  # with one engine for all, it is nowhere else
            made.append(Variant(engine_name, sharing, named, mode, profile, _refused(profile)))
    if problems:
        raise ProfileError(list(problems))
    return tuple(made)


def _base(experiment: Experiment) -> dict[str, Any]:
    if experiment.profile is None:
        return experiment.base
    load_profile(experiment.profile)  # tells its problems by their lines
    content: Any = yaml.safe_load(experiment.profile.read_text(encoding="utf-8"))
    merged: dict[str, Any] = _merged(content, experiment.base)
    return merged


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _merged(base: Any, over: Any) -> Any:
    """Mappings key by key; anything else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    both = {key: _merged(base[key], value) for key, value in over.items() if key in base}
    if "duration_s" in over and "requests" not in over:  # one bound replaces the other
        base = {key: value for key, value in base.items() if key != "requests"}
    if "requests" in over and "duration_s" not in over:
        base = {key: value for key, value in base.items() if key != "duration_s"}
    return {**base, **over, **both}


def _parsed(content: Mapping[str, Any], experiment: Experiment, mode: str) -> Profile:
    folder = experiment.folder if experiment.profile is None else experiment.profile.parent
    source = f"{experiment.source} ({mode})"
    try:
        return parse_profile(yaml.safe_dump(content, sort_keys=False), source=source, folder=folder)
    except ProfileError as error:
        # The lines are those of the merged profile, which nobody has written.
        line = re.compile(rf"^{re.escape(source)}:\d+")
        raise ProfileError([line.sub(lambda _: source, problem) for problem in error.problems]) from None


def _refused(profile: Profile) -> str:
    if profile.deployment.engine != "simulator":
        return ""
    try:
        parts_of(profile)
    except FairshareError as error:
        return str(error)
    return ""


def expand(experiment: Experiment, *, engine: Engine | None = None, quick: bool = False) -> tuple[Cell, ...]:
    """The cells of an experiment, in their order: each repeat is all modes and loads, shuffled by the seed.

    A run of each tenant alone stands before the first cell that is compared with it.

    Raises ProfileError for overrides that make no profile, and loads that no tenant has.
    """
    repeats = experiment.quick.repeats if quick and experiment.quick.repeats else experiment.repeats
    loads = experiment.quick.load if quick and experiment.quick.load else experiment.load
    made = variants(experiment, engine=engine, quick=quick)
    seed = made[0].profile.seed if experiment.seed is None else experiment.seed
    generator = random.Random(seed)
    order: dict[str, Cell] = {}
    for repeat in range(1, repeats + 1):
        block = [cell for variant in made for cell in _cells(variant, loads, repeat, seed, solo=experiment.solo)]
        numbered = [(solo, replace(cell, number=number)) for number, (solo, cell) in enumerate(block)]
        generator.shuffle(numbered)
        for solo, cell in numbered:
            if solo is not None:
                order.setdefault(solo.id, replace(solo, number=cell.number))
            order[cell.id] = cell
    return tuple(order.values())


def _cells(
    variant: Variant, loads: Loads | None, repeat: int, seed: int, *, solo: bool
) -> Iterator[tuple[Cell | None, Cell]]:
    """The cells of a variant in one repeat, each with its baseline."""
    for value in (None,) if loads is None else loads.values:
        name = None if loads is None else loads.name
        profile = variant.profile if name is None or value is None else with_load(variant.profile, name, value)
        place = variant.name.replace(" ", "-") + ("" if value is None else f"-{name}-{value:.12g}")
        cell = Cell(
            f"{place}-r{repeat}",
            variant.name,
            variant.mode,
            variant.engine,
            variant.sharing,
            name,
            value,
            repeat,
            replace(profile, name=f"{place}-r{repeat}", seed=seed + repeat - 1),
            refused=variant.refused,
        )
        if not solo or len(profile.tenants) < 2:
            yield None, cell
            continue
        alone = f"solo-{place}"
        yield (
            replace(
                cell,
                id=alone,
                repeat=1,
                profile=replace(profile, name=alone, seed=seed, phases=()),
                plan="solo",
            ),
            replace(cell, solo=alone),
        )


def with_load(profile: Profile, name: str, value: float) -> Profile:
    """The profile at one load, see `Loads`. Raises ProfileError if no tenant has a load of this kind."""
    if name == "scale":
        return scaled(profile, value)
    kinds: dict[str, tuple[Any, str]] = {
        "concurrency": (ClosedArrival, "concurrency"),
        "batch": (BatchArrival, "size"),
    }
    tenants = []
    for tenant in profile.tenants:
        arrival: Any = tenant.arrival
        if name in kinds and isinstance(arrival, kinds[name][0]):
            arrival = replace(arrival, **{kinds[name][1]: int(value)})
        elif name == "rate_per_s" and getattr(arrival, "rate_per_s", None) is not None:
            arrival = replace(arrival, rate_per_s=float(value))
        tenants.append(replace(tenant, arrival=arrival))
    if all(new.arrival is old.arrival for new, old in zip(tenants, profile.tenants, strict=True)):
        words = {"concurrency": "a closed loop", "batch": "batches", "rate_per_s": "a rate"}[name]
        raise ProfileError([f"load.{name}: no tenant has {words} ({_arrivals(profile)}); choose another kind of load"])
    return replace(profile, tenants=tuple(tenants))


def _arrivals(profile: Profile) -> str:
    return ", ".join(f"{tenant.id}: {tenant.arrival.process}" for tenant in profile.tenants)


_KEYS = {"mode": "sharing", "sharing": "sharing", "engine": "engine", "load": "load", "repeat": "repeat"}


def only(cells: Sequence[Cell], wanted: Sequence[str]) -> tuple[Cell, ...]:
    """The cells for which every `key=value` holds, and the baselines that they need.

    `mode=mps,logical`: any of them. Raises FairshareError for a key that there is not, and when nothing is left.
    """
    kept = list(cells)
    for condition in wanted:
        key, equals, values = condition.partition("=")
        if not equals or key not in _KEYS:
            raise FairshareError(f"--only: found {condition!r}; must be KEY=VALUE, with KEY one of {', '.join(_KEYS)}")
        chosen = {value.strip() for value in values.split(",")}
        known = dict.fromkeys(_told(cell, key) for cell in cells)
        if unknown := [value for value in chosen if value not in known]:
            raise FairshareError(f"--only: found {key}={unknown[0]}; this experiment has {', '.join(known)}")
        kept = [cell for cell in kept if cell.plan == "solo" or _told(cell, key) in chosen]
    needed = {cell.solo for cell in kept if cell.plan != "solo"}
    kept = [cell for cell in kept if cell.plan != "solo" or cell.id in needed]
    if not kept:
        raise FairshareError(f"--only {' '.join(wanted)}: no cell is left; say less")
    return tuple(kept)


def _told(cell: Cell, key: str) -> str:
    value = getattr(cell, _KEYS[key])
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def planned_s(cell: Cell) -> float:
    """How long its load takes, as far as the profile says: warm-up and measurement of every phase, in seconds.

    A number of requests takes as long as it takes, and is left out.
    """
    phases = phases_of(apply_plan(cell.plan, cell.profile))
    return sum(phase.warmup_s + (phase.duration_s or 0.0) for phase in phases)
