"""Open arrival processes: one of each kind, and hypothesis strategies for any."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from fairshare_locust.arrival import Schedule, open_schedule
from fairshare_locust.arrival.trace import RowTimes
from fairshare_locust.profile.arrivals import (
    ConstantArrival,
    GammaArrival,
    OnOffArrival,
    OpenArrival,
    PoissonArrival,
    RampArrival,
    RateStep,
    StepsArrival,
    TraceArrival,
    WeibullArrival,
)

__all__ = ["EVERY", "TIMES_S", "OpenProcess", "open_processes", "schedule_of"]

OpenProcess = (
    ConstantArrival
    | PoissonArrival
    | GammaArrival
    | WeibullArrival
    | OnOffArrival
    | RampArrival
    | StepsArrival
    | TraceArrival
)

TIMES_S = np.array([0.0, 0.1, 0.1, 0.5, 2.0, 2.25, 4.0, 7.5])
_STEPS = (RateStep(rate_per_s=5, for_s=2), RateStep(rate_per_s=0, for_s=1), RateStep(rate_per_s=9, for_s=3))

EVERY: tuple[OpenProcess, ...] = (
    ConstantArrival(rate_per_s=4),
    PoissonArrival(rate_per_s=4),
    PoissonArrival(rate_per_s=4, active_s=((1, 3), (5, 500), (600, 900))),
    GammaArrival(rate_per_s=4, cv=2),
    WeibullArrival(rate_per_s=4, shape=0.6),
    OnOffArrival(rate_per_s=8, on_s=1, off_s=1.5),
    OnOffArrival(rate_per_s=8, on_s=1, off_s=1.5, off_rate_per_s=0.5, durations="exponential"),
    RampArrival(from_per_s=0, to_per_s=9, over_s=30, after_s=2),
    StepsArrival(steps=_STEPS),
    StepsArrival(steps=_STEPS, loop=True, base="constant"),
    TraceArrival(trace="t", loop=True, rate_per_s=3),
)


def schedule_of(arrival: OpenArrival, seed: int, tenant_id: str = "chat") -> Schedule:
    """The schedule of any process; a trace has the rows of TIMES_S."""
    return open_schedule(arrival, seed, tenant_id, RowTimes.alone(TIMES_S))


_POSITIVE_RATE = st.floats(0.1, 200)
_RATE = st.just(0.0) | _POSITIVE_RATE
_LENGTH = st.floats(0.05, 30)


@st.composite
def _stretches(draw: st.DrawFn) -> tuple[tuple[float, ...], ...]:
    edges = sorted(draw(st.lists(st.floats(0, 100), max_size=8, unique=True)))
    return tuple((edges[i], edges[i + 1]) for i in range(0, len(edges) - 1, 2))


def open_processes(process: str, *, random: bool = False) -> st.SearchStrategy[OpenProcess]:
    """Any arrival of this process; with `random`, one whose first 30 requests the seed decides."""
    base = st.just("poisson") if random else st.sampled_from(["poisson", "constant"])
    common: dict[str, Any] = {"active_s": st.just(()) if random else st.just(()) | _stretches()}
    rated: dict[str, Any] = {**common, "rate_per_s": _POSITIVE_RATE}
    step = st.builds(RateStep, rate_per_s=_RATE, for_s=_LENGTH)
    last = st.builds(RateStep, rate_per_s=_POSITIVE_RATE, for_s=_LENGTH)
    any_of: dict[str, st.SearchStrategy[OpenProcess]] = {
        "constant": st.builds(ConstantArrival, **rated),
        "poisson": st.builds(PoissonArrival, **rated),
        "gamma": st.builds(GammaArrival, **rated, burstiness=st.floats(0.01, 100)),
        "weibull": st.builds(WeibullArrival, **rated, shape=st.floats(0.1, 100)),
        "on_off": st.builds(
            OnOffArrival,
            **rated,
            on_s=_LENGTH,
            off_s=_LENGTH,
            off_rate_per_s=_RATE,
            durations=st.sampled_from(["fixed", "exponential"]),
            base=base,
        ),
        "ramp": st.builds(
            RampArrival, **common, from_per_s=_RATE, to_per_s=_POSITIVE_RATE, over_s=_LENGTH, after_s=_RATE, base=base
        )
        | st.builds(
            RampArrival,
            **common,
            from_per_s=_POSITIVE_RATE,
            to_per_s=_POSITIVE_RATE if random else _RATE,
            over_s=_LENGTH,
            base=base,
        ),
        "steps": st.builds(
            StepsArrival,
            **common,
            steps=st.tuples(last)
            if random
            else st.lists(step, max_size=4).flatmap(lambda s: st.tuples(*map(st.just, s), last)),
            loop=st.booleans(),
            base=base,
        ),
        "trace": st.builds(TraceArrival, **common, trace=st.just("t"), speed=st.floats(0.01, 100), loop=st.booleans())
        | st.builds(TraceArrival, **common, trace=st.just("t"), rate_per_s=_POSITIVE_RATE, loop=st.booleans()),
    }
    return any_of[process]
