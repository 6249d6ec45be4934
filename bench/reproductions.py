"""Two published experiments on the modelled GPU, in virtual time, beside what was published.

    python -m bench.reproductions

Each case says what of the profile it changes, and whether the published figures are expected from the mechanism. The
page docs/reproductions.md explains them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.load import Run, load_run
from analysis.requests import OK
from analysis.summary import summarise
from fairshare_locust.profile import Profile, load_profile
from fairshare_locust.profile.arrivals import ClosedArrival
from fairshare_locust.profile.distribution import ConstantLength, UniformLength
from fairshare_locust.profile.model import SimulatorOptions, Tenant
from fairshare_locust.profile.workloads import PrefixWorkload, SyntheticWorkload
from fairshare_locust.simulator.virtual import VirtualRun

__all__ = ["CASES", "WITHIN", "Case", "Figure", "main", "simulate"]

ROOT = Path(__file__).resolve().parents[1]
WITHIN = 0.15  # of the published value


@dataclass(frozen=True)
class Figure:
    """One published value and the simulated one; `unit` is tokens/s, s, or nothing for an index."""

    name: str
    unit: str
    published: float
    simulated: float

    @property
    def deviation(self) -> float:
        """Of the simulated from the published value, as a share of it."""
        return self.simulated / self.published - 1

    @property
    def within(self) -> bool:
        """Whether it is near enough."""
        return abs(self.deviation) <= WITHIN


@dataclass(frozen=True)
class Case:
    """One row of an experiment.

    Attributes:
        published: its figures, in the order in which `_L4` or `_MATRIX` names them.
        change: of the profile. expected: whether the mechanism should give the published figures.
    """

    experiment: str
    name: str
    published: tuple[float, ...]
    change: Callable[[Profile], Profile]
    expected: bool


_L4 = (("throughput", "tokens/s"), ("P95", "s"), ("P99", "s"), ("Jain", ""))
_MATRIX = tuple(
    (f"{kind} at {streams}", unit)
    for kind, unit in (("throughput", "tokens/s"), ("P99", "s"))
    for streams in (8, 16, 24)
)


def _as_it_is(profile: Profile) -> Profile:
    return profile


def _with_tenants(profile: Profile, change: Callable[[Tenant], Tenant]) -> Profile:
    return replace(profile, tenants=tuple(change(tenant) for tenant in profile.tenants))


def _with_simulator(profile: Profile, sharing: Any = "logical", **changes: Any) -> Profile:
    options = replace(profile.deployment.simulator, **changes)
    return replace(profile, deployment=replace(profile.deployment, sharing=sharing, simulator=options))


def _quotas(profile: Profile) -> Profile:
    """Seven streams for each of the four tenants, on the one engine that they share."""
    arrival = ClosedArrival(concurrency=7)
    return _with_tenants(profile, lambda tenant: replace(tenant, arrival=arrival))


def _two_in_int4(sharing: str) -> Callable[[Profile], Profile]:
    """Two tenants of 24 and 16 streams, weights in 4 bits: two copies of 8B in bf16 do not fit on the card."""

    def change(profile: Profile) -> Profile:
        first, second = profile.tenants[:2]
        two = (
            replace(first, arrival=ClosedArrival(concurrency=24)),
            replace(second, arrival=ClosedArrival(concurrency=16)),
        )
        options = SimulatorOptions.on_card("L4", "llama-3-8b", "int4", max_num_seqs=256, max_model_len=2048)
        deployment = replace(profile.deployment, sharing=sharing, simulator=options)  # type: ignore[arg-type]
        return replace(profile, tenants=two, deployment=deployment)

    return change


def _warm_prefix(profile: Profile) -> Profile:
    """As many prompt tokens; the first 320 are the same in all, so that the prefix cache has them."""
    workload = PrefixWorkload(
        groups=1,
        share_prefix=True,
        prefix_tokens=ConstantLength(value=320),
        input_tokens=UniformLength(low=340, high=380),
        output_tokens=UniformLength(low=80, high=144),
    )
    return _with_tenants(profile, lambda tenant: replace(tenant, workload=workload))


def _two_servers(profile: Profile) -> Profile:
    """A server for each tenant, under caps, with the requests of the baseline."""
    return _with_simulator(profile, "mig_emulated")


def _two_servers_of_shorter_requests(profile: Profile) -> Profile:
    """The same with half of the batch each, and requests of 565 tokens where the baseline's have 792."""
    workload = SyntheticWorkload(
        input_tokens=UniformLength(low=500, high=520), output_tokens=UniformLength(low=50, high=60)
    )
    shorter = _with_tenants(profile, lambda tenant: replace(tenant, workload=workload))
    return _with_simulator(shorter, "mig_emulated", max_num_seqs=4)


# As published.
_L4_MPS = (539.7, 5.24, 6.88, 0.897)
_L4_MIG = (417.4, 3.96, 4.69, 1.0)
_MATRIX_MPS = (4622, 5789, 6018, 1.68, 2.77, 4.22)
_MATRIX_MIG = (3406, 4265, 4536, 1.57, 2.31, 3.22)

CASES = (
    Case("fairshare_l4", "logical", (569.8, 4.58, 5.61, 0.957), _as_it_is, expected=True),
    Case("fairshare_l4", "simulated MIG, as quotas on one engine", _L4_MIG, _quotas, expected=True),
    Case("fairshare_l4", "MPS around one engine: nothing changes", _L4_MPS, _as_it_is, expected=False),
    Case("fairshare_l4", "MPS, two engines in int4", _L4_MPS, _two_in_int4("mps"), expected=False),
    Case(
        "fairshare_l4",
        "MIG-like caps, two engines in int4",
        _L4_MIG,
        _two_in_int4("mig_emulated"),
        expected=False,
    ),
    Case("gpushare_matrix", "baseline", (4169, 5008, 5168, 1.72, 3.17, 4.60), _as_it_is, expected=True),
    Case(
        "gpushare_matrix",
        "MPS around one server: a prefix that is warm",
        _MATRIX_MPS,
        _warm_prefix,
        expected=True,
    ),
    Case(
        "gpushare_matrix",
        "MPS around one server: nothing changes",
        _MATRIX_MPS,
        _as_it_is,
        expected=False,
    ),
    Case(
        "gpushare_matrix",
        "MIG emulation, the baseline's requests",
        _MATRIX_MIG,
        _two_servers,
        expected=False,
    ),
    Case(
        "gpushare_matrix",
        "MIG emulation, shorter requests, half of the batch",
        _MATRIX_MIG,
        _two_servers_of_shorter_requests,
        expected=True,
    ),
)


def simulate(case: Case) -> list[Figure]:
    """Run a case in virtual time; its figures."""
    profile = case.change(load_profile(ROOT / "profiles" / f"{case.experiment}.yaml"))
    if case.experiment == "gpushare_matrix":  # the tails of 20 s are those of a hundred requests
        profile = replace(profile, run=replace(profile.run, duration_s=60.0))
    with tempfile.TemporaryDirectory() as folder:
        run = load_run(VirtualRun(profile, "mixed").run(Path(folder)).path)
    names, found = (_L4, _l4(run)) if case.experiment == "fairshare_l4" else (_MATRIX, _matrix(run))
    return [Figure(*name, *pair) for name, pair in zip(names, zip(case.published, found, strict=True), strict=True)]


def _l4(run: Run) -> list[float]:
    content = summarise(run).content
    totals = content["totals"]
    e2e_ms = totals["e2e_ms"]
    jain: float = content["fairness"]["jain_throughput"]
    return [totals["output_tokens_per_s"], e2e_ms["p95"] / 1000, e2e_ms["p99"] / 1000, jain]


def _matrix(run: Run) -> list[float]:
    """Prompts and answers of the requests that ended in each measured part, per second, and their P99."""
    requests = run.requests
    throughputs, tails_s = [], []
    for phase in (phase for phase in run.info["phases"] if phase["measured"]):
        start_ns, end_ns = phase["start_s"] * 1e9, phase["end_s"] * 1e9
        inside = (requests.outcome == OK) & (requests.ended_ns >= start_ns) & (requests.ended_ns < end_ns)
        tokens = (requests.input_tokens + requests.output_tokens)[inside].sum()
        throughputs.append(float(tokens) / ((end_ns - start_ns) / 1e9))
        tails_s.append(float(np.percentile((requests.last_token_ns - requests.sent_ns)[inside] / 1e9, 99)))
    return [*throughputs, *tails_s]


def main(cases: Iterable[Case] = CASES) -> None:
    """Print a table of them."""
    table = Table("experiment", "case", "figure", box=box.SIMPLE_HEAD, title="simulated, virtual time")
    for header in ("published", "simulated", "deviation"):
        table.add_column(header, justify="right", no_wrap=True)
    for case in cases:
        for number, figure in enumerate(simulate(case)):
            digits = 0 if figure.published > 1000 else 1 if figure.published > 100 else 3 if not figure.unit else 2
            table.add_row(
                *(("", "") if number else (case.experiment, case.name)),
                f"{figure.name}{' ' if figure.unit else ''}{figure.unit}",
                f"{figure.published:,.{digits}f}",
                f"{figure.simulated:,.{digits}f}",
                f"{figure.deviation:+.1%}{'' if figure.within else ' *'}",
            )
        table.add_section()
    table.caption = f"* further off than {WITHIN:.0%}"
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
