"""Profiles: the text of a small one, and hypothesis strategies for any."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fairshare_locust.profile import Profile, Tenant, parse_profile
from fairshare_locust.profile.arrivals import ClosedArrival, ConstantArrival, PoissonArrival
from fairshare_locust.profile.distribution import ConstantLength, LognormalLength, NormalLength, UniformLength
from fairshare_locust.profile.model import (
    Cost,
    Deployment,
    Fairness,
    Model,
    Run,
    Sampling,
    ServiceWeights,
    SimulatorOptions,
    Slo,
    Timeouts,
)
from fairshare_locust.profile.workloads import JsonlWorkload, SyntheticWorkload, TextWorkload

__all__ = ["MINIMAL", "parse", "profiles", "tenant"]

MINIMAL = """\
name: small
run: {duration_s: 60}
model: {name: tiny}
tenants:
  - id: chat
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: synthetic, input_tokens: 100, output_tokens: 10}
"""


def parse(text: str, folder: Path = Path()) -> Profile:
    """The profile of this text, which errors call `p.yaml`."""
    return parse_profile(text, source="p.yaml", folder=folder)


def tenant(id_: str = "chat", **values: Any) -> Tenant:
    """A tenant in one line: Poisson at 2 requests/s, 100 tokens in, 10 out."""
    values.setdefault("arrival", PoissonArrival(rate_per_s=2.0))
    values.setdefault(
        "workload",
        SyntheticWorkload(input_tokens=ConstantLength(value=100), output_tokens=ConstantLength(value=10)),
    )
    return Tenant(id=id_, **values)


_POSITIVE = st.floats(1e-6, 1e6, allow_nan=False)
_NOT_NEGATIVE = st.floats(0, 1e6, allow_nan=False)
_COUNT = st.integers(1, 100_000)
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
_ASCII = st.text(string.printable[:95], max_size=20)
_HEADERS = st.dictionaries(
    st.sampled_from(["X-Tenant", "X-Priority", "on", "null", "1", "~", "X-~", "1e3", "x.y", "true"]), _ASCII, max_size=3
)
_LENGTHS = st.one_of(
    st.builds(ConstantLength, value=_COUNT),
    st.tuples(_COUNT, _COUNT).map(lambda pair: UniformLength(low=min(pair), high=max(pair))),
    st.builds(NormalLength, mean=_POSITIVE, std=_NOT_NEGATIVE, min=st.just(1), max=st.none() | _COUNT),
    st.builds(
        LognormalLength,
        mean=_POSITIVE,
        sigma=st.floats(0, 5),
        min=st.integers(1, 9),
        max=st.integers(9, 99) | st.none(),
    ),
)
_ARRIVALS = st.one_of(
    st.builds(ClosedArrival, concurrency=_COUNT, think_s=_NOT_NEGATIVE),
    *(
        st.builds(process, rate_per_s=_POSITIVE, max_in_flight=_COUNT, overflow=st.sampled_from(["wait", "shed"]))
        for process in (ConstantArrival, PoissonArrival)
    ),
)


def _workloads(file: Path) -> st.SearchStrategy[SyntheticWorkload | JsonlWorkload | TextWorkload]:
    return st.one_of(
        st.builds(SyntheticWorkload, input_tokens=_LENGTHS, output_tokens=_LENGTHS),
        *(
            st.builds(kind, path=st.just(file), output_tokens=_LENGTHS, share_prefix=st.booleans())
            for kind in (JsonlWorkload, TextWorkload)
        ),
    )


@st.composite
def profiles(draw: st.DrawFn, file: Path) -> Profile:
    """Any valid profile; its files are all `file`."""
    run = draw(
        st.builds(
            Run,
            warmup_s=_NOT_NEGATIVE,
            duration_s=_POSITIVE,
            requests=st.none(),
            drain_s=_NOT_NEGATIVE,
            fairness_window_s=_POSITIVE,
        )
        | st.builds(Run, duration_s=st.none(), requests=st.integers(1, 10**12))
    )
    external = draw(st.booleans())
    endpoints = st.lists(
        st.sampled_from(["http://a:1", "https://b.example/v1", "http://[::1]:80/x"]), min_size=1, max_size=3
    )
    ids = draw(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=4, unique=True))
    slos = st.builds(Slo, ttft_ms=_POSITIVE, tpot_ms=st.none() | _POSITIVE, e2e_ms=st.none() | _POSITIVE)
    tenants = [
        Tenant(
            id=id_,
            weight=draw(_POSITIVE),
            api=draw(st.sampled_from(["openai_chat", "openai_completions", "tgi"])),
            endpoint=tuple(draw(endpoints)) if external and draw(st.booleans()) else None,
            api_key_env=draw(st.none() | st.just("SOME_KEY")),
            headers=draw(_HEADERS),
            arrival=draw(_ARRIVALS),
            workload=draw(_workloads(file)),
            sampling=draw(
                st.builds(
                    Sampling,
                    temperature=st.floats(0, 2),
                    top_p=st.none() | st.floats(0.01, 1),
                    ignore_eos=st.booleans(),
                    continuous_usage=st.booleans(),
                )
            ),
            timeouts=draw(
                st.builds(
                    Timeouts,
                    connect_s=_POSITIVE,
                    first_token_s=_POSITIVE,
                    between_tokens_s=_POSITIVE,
                    total_s=_POSITIVE,
                )
            ),
            slo=draw(st.none() | slos),
        )
        for id_ in ids
    ]
    return Profile(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)),
        seed=draw(st.integers(0, 2**63 - 1)),
        run=run,
        model=Model(name=draw(_TEXT), tokenizer=draw(_TEXT)),
        deployment=Deployment(
            engine="external" if external else "simulator",
            sharing=draw(st.sampled_from(["mps", "mig", "logical"])) if external else "logical",
            simulator=SimulatorOptions(step_base_ms=draw(_POSITIVE)),
        ),
        tenants=tuple(tenants),
        fairness=Fairness(service_weights=ServiceWeights(input=draw(_NOT_NEGATIVE), output=draw(_POSITIVE))),
        cost=draw(st.none() | st.builds(Cost, gpu_hour_usd=_NOT_NEGATIVE, gpus=_COUNT)),
    )
