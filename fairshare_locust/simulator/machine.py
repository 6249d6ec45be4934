"""Machine: the engines of a deployment on the GPU that they share. Pure: state and time give the next event.

Whoever drives it decides what a second is: an event loop, or nothing at all (virtual time). An engine whose step has
ended begins its next at that very time, if it has work; an idle one begins when a sequence is submitted. A sequence
that is submitted as a step ends comes too late for the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import NamedTuple

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Sharing, SimulatorOptions
from fairshare_locust.simulator.engine import Emission, Engine, Sequence, Step
from fairshare_locust.simulator.gpu import Concurrent, Gpu, Independent, TimeSlice
from fairshare_locust.simulator.partition import Part, parts_of

__all__ = ["Machine", "StepEnd", "gpu_of", "machine_of", "machine_with"]


class StepEnd(NamedTuple):
    """A step of `part`'s engine, from `start_s` to `time_s`, and the tokens that came out of it."""

    time_s: float
    start_s: float
    part: int
    step: Step
    emissions: list[Emission]


class Machine:
    """Engines by index of their part, on one GPU. Times are seconds on one clock and only go forward.

    Attributes:
        engines: to be read; `submit` and `cancel` here, not there.
        now_s: time of the last event; -inf before the first.
    """

    def __init__(self, engines: Many[Engine], gpu: Gpu) -> None:
        self.engines = tuple(engines)
        self.now_s = -math.inf
        self._gpu = gpu
        self._steps: list[Step | None] = [None] * len(self.engines)  # under way
        self._starts_s = [math.nan] * len(self.engines)
        self._ended: int | None = None  # the part whose next step is to begin at now_s
        self._next: tuple[float, int] | None = None

    def submit(self, part: int, sequences: Many[Sequence], now_s: float) -> None:
        """Queue the sequences of a request at a part's engine: all of them, or none.

        Raises:
            ServingError: one that could never run.
            RuntimeError: `now_s` is before the last event, or after the next.
        """
        if not self.now_s <= now_s <= self.next_s():
            raise RuntimeError(f"submit at {now_s} s; allowed is {self.now_s} s to {self.next_s()} s")
        engine = self.engines[part]
        for i, sequence in enumerate(sequences):
            try:
                engine.submit(sequence)
            except ServingError:
                for before in sequences[:i]:
                    engine.cancel(before)
                raise
        self.now_s = now_s
        if self._steps[part] is None:
            self._begin(part)

    def cancel(self, part: int, sequence: Sequence) -> None:
        """Drop a sequence wherever it stands; a step that has begun keeps its work, without this one's token."""
        self._begin_after_end()
        self.engines[part].cancel(sequence)

    def next_s(self) -> float:
        """When the next step ends if nothing is submitted before; inf: no step runs."""
        if self._ended is not None:
            self._begin_after_end()
        return math.inf if self._next is None else self._next[0]

    def end_next(self) -> StepEnd:
        """Go to the end of the step that ends next.

        Raises:
            RuntimeError: no step runs.
        """
        if self._ended is not None:
            self._begin_after_end()
        if self._next is None:
            raise RuntimeError("end_next while no step runs")
        time_s, part = self._next
        self.now_s = time_s
        step = self._steps[part]
        assert step is not None
        self._steps[part] = None
        self._gpu.end(part, time_s)
        # The next step begins when something is asked again: so the tokens of this one can be handed out first.
        self._ended = part
        return StepEnd(time_s, self._starts_s[part], part, step, self.engines[part].end_step())

    def advance(self, to_s: float) -> Iterator[StepEnd]:
        """Go through the ends of steps up to `to_s` and at it, in order; in between, sequences may be submitted."""
        while self.next_s() <= to_s:
            yield self.end_next()

    def _begin_after_end(self) -> None:
        if self._ended is not None:
            self._begin(self._ended)

    def _begin(self, part: int) -> None:
        self._ended = None
        self._steps[part] = step = self.engines[part].begin_step()
        if step is not None:
            self._starts_s[part] = self.now_s
            self._gpu.begin(part, step.work, self.now_s)
        self._next = self._gpu.next_end()


def gpu_of(options: SimulatorOptions, sharing: Sharing, parts: Many[Part]) -> Gpu:
    """The GPU as these parts share it."""
    if sharing == "timeslice":
        return TimeSlice(options.quantum_ms * 1e-3, options.switch_us * 1e-6)
    if sharing in ("mps", "mig_emulated"):
        return Concurrent([part.sm_share for part in parts], options.contention_loss)
    return Independent()


def machine_of(profile: Profile) -> tuple[Machine, tuple[Part, ...]]:
    """The machine of a profile's deployment, and its parts, by index.

    Raises:
        ServingError: parts that do not fit the card.
    """
    deployment, parts = profile.deployment, parts_of(profile)
    return machine_with(deployment.simulator, deployment.sharing, parts, profile.seed), parts


def machine_with(options: SimulatorOptions, sharing: Sharing, parts: Many[Part], seed: int) -> Machine:
    """The machine with an engine for each of these parts; `seed` is that of their jitter."""
    engines = [
        Engine(
            options if sharing == "logical" else options.of_tenant(part.tenants[0]),
            part.costs,
            part.kv_capacity_tokens,
            seed + part.index,
        )
        for part in parts
    ]
    return Machine(engines, gpu_of(options, sharing, parts))
