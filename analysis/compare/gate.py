"""Gate: limits on figures, absolute or relative to a baseline, that a pipeline may fail on.

    [TENANT:]METRIC[.PERCENTILE] OP [+-]NUMBER[%|UNIT]

`ttft_ms.p99 > +10%` holds where the value is above the baseline's by more than 10 per cent;
`chat:slo_attainment < -0.02` where it is more than 0.02 below the baseline's; `tpot_ms.p95 > 60ms` where it is
above 60 ms. A sign says relative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.compare.columns import FIGURES, Group, label_of
from analysis.compare.figure import FAIRNESS, LATENCIES, OF_RUN, OF_TENANT, PERCENTILES, RATES
from analysis.compare.model import Value
from analysis.compare.noise import differ
from analysis.metrics import METRICS
from analysis.report.numbers import number
from fairshare_locust.errors import FairshareError
from fairshare_locust.profile.schema import near

__all__ = ["ALIASES", "Judgement", "Limit", "LimitError", "UndefinedError", "judge", "read_limit"]

Op = Literal[">", ">=", "<", "<="]
Kind = Literal["absolute", "percent", "step"]

ALIASES: Mapping[str, str] = {
    "ttft": "ttft_ms",
    "time_to_first_token": "ttft_ms",
    "time_to_first_token_ms": "ttft_ms",
    "inter_chunk_latency": "icl_ms",
    "icl": "icl_ms",
    "tpot": "tpot_ms",
    "itl": "itl_ms",
    "e2e": "e2e_ms",
    "e2el": "e2e_ms",
    "request_latency": "e2e_ms",
    "throughput": "output_tokens_per_s",
    "attainment": "slo_attainment",
    "jain": "jain_throughput",
    "cost": "cost_per_million_output_tokens",
    "energy": "joules_per_output_token",
}
"""Other names of metrics: short ones, and those of other tools for the same thing."""

_NAMES = (*LATENCIES, *RATES, *FAIRNESS, *OF_TENANT, *OF_RUN)
_WHOLE = (*FAIRNESS, *OF_RUN)
_FORM = re.compile(
    r"\s*(?:(?P<tenant>[^\s:]+)\s*:)?\s*(?P<metric>[A-Za-z0-9_]+?)(?:\.(?P<percentile>[A-Za-z0-9_.]+))?"
    r"\s*(?P<op>>=|<=|>|<)\s*(?P<sign>[+-]?)\s*(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(?P<unit>\S*)\s*"
)
_GRAMMAR = "[TENANT:]METRIC[.PERCENTILE] > | >= | < | <= [+-]NUMBER[% or UNIT], such as 'ttft_ms.p99 > +10%'"


class LimitError(FairshareError):
    """A limit that can't be understood, or that nothing can be measured against."""


class UndefinedError(FairshareError):
    """A limit on a figure that a run does not have."""


@dataclass(frozen=True)
class Limit:
    """One `--fail-if`, understood.

    Attributes:
        text: as it was written.
        kind: absolute; a share of the baseline's value that is added to it; or a step from that value.
        number: in the metric's unit; of a percentage the share, 0.1 for +10%.
    """

    text: str
    tenant: str | None
    metric: str
    percentile: str | None
    op: Op
    kind: Kind
    number: float

    @property
    def relative(self) -> bool:
        """True if it needs a baseline."""
        return self.kind != "absolute"

    def against(self, baseline: float | None) -> float:
        """The value at which it begins to hold."""
        if self.kind == "absolute" or baseline is None:
            return self.number
        step = abs(baseline) * self.number if self.kind == "percent" else self.number
        return baseline + step  # +10% of a leakage of -0.2 is above it, too

    def holds(self, value: float, bound: float) -> bool:
        """Whether the value is on the failing side."""
        return {">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound}[self.op]


def read_limit(text: str, tenants: Collection[str], *, baseline: bool) -> Limit:
    """A limit from its text. Raises LimitError that says what is wrong with it and what would be right.

    Args:
        tenants: the ids that there are.
        baseline: whether there is one to be relative to.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise LimitError(f"--fail-if {text!r} can't be understood; it has the form {_GRAMMAR}")
    metric, percentile = _metric(text, found["metric"], found["percentile"])
    tenant = found["tenant"]
    if tenant is not None and tenant not in tenants:
        raise LimitError(
            f"--fail-if {text!r}: there is no tenant {tenant!r}{near(tenant, tenants)}; there are {', '.join(tenants)}"
        )
    if tenant is not None and metric in _WHOLE:
        raise LimitError(f"--fail-if {text!r}: {metric} is of all tenants together; leave {tenant + ':'!r} out")
    kind, amount = _amount(text, metric, found["sign"], float(found["number"]), found["unit"])
    if kind != "absolute" and not baseline:
        raise LimitError(
            f"--fail-if {text!r} is relative to a baseline, and there is none: name one with --baseline, or leave the "
            "sign out"
        )
    return Limit(text.strip(), tenant, metric, percentile, _OPS[found["op"]], kind, amount)


_OPS: Mapping[str, Op] = {">": ">", ">=": ">=", "<": "<", "<=": "<="}


def _metric(text: str, name: str, percentile: str | None) -> tuple[str, str | None]:
    """The metric's own name and percentile; the keys of a comparison's rows, such as ttft_p99_ms, are known, too."""
    if name in FIGURES and name not in _NAMES and not name.startswith("worst_tenant"):
        if percentile is not None:
            raise LimitError(f"--fail-if {text!r}: {name} has a percentile already; leave {percentile!r} out")
        return FIGURES[name]
    metric = ALIASES.get(name, name)
    if metric not in _NAMES:
        hint = near(name, (*_NAMES, *ALIASES))
        raise LimitError(f"--fail-if {text!r}: there is no metric {name!r}{hint}; there are {', '.join(_NAMES)}")
    if metric not in LATENCIES:
        if percentile is not None:
            raise LimitError(f"--fail-if {text!r}: {metric} has no percentiles; leave {'.' + percentile!r} out")
        return metric, None
    if percentile is None:
        raise LimitError(
            f"--fail-if {text!r}: {metric} needs one of {', '.join(PERCENTILES)}, such as {metric + '.p99'!r}"
        )
    wanted = percentile.replace("p99.9", "p99_9")
    if wanted not in PERCENTILES:
        raise LimitError(f"--fail-if {text!r}: found {percentile!r}; allowed are {', '.join(PERCENTILES)}")
    return metric, wanted


def _unit(metric: str) -> str:
    """`mean_running` is no metric of a summary; an adjusted latency has the unit of its plain one."""
    known = METRICS.get(metric.removesuffix("_adjusted"))
    return known.unit if known else ""


_SCALES: Mapping[str, Mapping[str, float]] = {
    "ms": {"ms": 1, "s": 1000, "us": 0.001},
    "ms/token": {"ms/token": 1, "ms": 1, "s": 1000},
    "s": {"s": 1, "ms": 0.001},
    "USD per million output tokens": {"USD": 1, "usd": 1, "$": 1},
    "J per output token": {"J": 1, "mJ": 0.001},
}


def _amount(text: str, metric: str, sign: str, size: float, unit: str) -> tuple[Kind, float]:
    if unit == "%":
        if not sign:
            raise LimitError(
                f"--fail-if {text!r}: {size:g}% of what? Say +{size:g}% or -{size:g}% of the baseline's value, or "
                f"{size / 100:g} for a ratio"
            )
        return "percent", size / 100 * (-1 if sign == "-" else 1)
    own = _unit(metric)
    scales = _SCALES.get(own, {own: 1.0} if own else {})
    if unit and unit not in scales:
        allowed = ", ".join(scales) if scales else "no unit"
        raise LimitError(f"--fail-if {text!r}: found the unit {unit!r}; {metric} has {allowed}")
    size *= scales[unit] if unit else 1
    return ("step", -size if sign == "-" else size) if sign else ("absolute", size)


@dataclass(frozen=True)
class Judgement:
    """What became of a limit in a column.

    Attributes:
        bound: the value at which it begins to hold.
        failed: whether it holds.
        noise: whether the value differs from the bound's side by no more than noise: from the baseline's value, or of
            an absolute limit whether the interval reaches across the bound; None where that can't be told.
    """

    limit: Limit
    label: str
    value: Value
    baseline: Value | None
    bound: float
    failed: bool
    noise: bool | None

    def __str__(self) -> str:
        shown = f"{number(self.value.value)} {_unit(self.limit.metric)}".strip()
        beside = "" if self.baseline is None else f", baseline {number(self.baseline.value)}"
        words = f"{'FAIL' if self.failed else 'ok'}: {self.label}: {self.limit.text}: {shown}{beside}"
        words += f", limit {number(self.bound)}" if self.limit.relative else ""
        if self.noise is None:
            return f"{words}; how much of it is noise is not known"
        across = "the difference from the baseline" if self.limit.relative else "the distance from the limit"
        return f"{words}; {across} is {'within' if self.noise else 'beyond'} noise"


def judge(limits: Sequence[Limit], groups: Sequence[Group], baselines: Sequence[Group]) -> list[Judgement]:
    """Each limit in each column that is no baseline, beside the baseline of its load.

    A limit that holds fails, within noise or not: a pipeline has to be able to rely on it. Raises UndefinedError when a
    figure is undefined on either side, LimitError when no baseline has a column's load.
    """
    found = []
    judged = [group for group in groups if all(group is not baseline for baseline in baselines)]
    if not judged and limits:
        raise LimitError("--fail-if: there is nothing to judge beside the baseline; name another run")
    for limit in limits:
        for group in judged:
            value = _figure(limit, group)
            beside = _figure(limit, _baseline_of(group, baselines)) if limit.relative else None
            assert value.value is not None
            bound = limit.against(beside.value if beside else None)
            apart = differ(value, beside or Value(bound, (bound, bound)))
            noise = None if apart is None else not apart
            found.append(
                Judgement(limit, label_of(group), value, beside, bound, limit.holds(value.value, bound), noise)
            )
    return found


def _baseline_of(group: Group, baselines: Sequence[Group]) -> Group:
    if len(baselines) == 1:
        return baselines[0]
    for baseline in baselines:
        if baseline.load == group.load:
            return baseline
    raise LimitError(
        f"the baseline has no run at load {group.load or 0:g}, which {label_of(group)} has; compare runs of its loads"
    )


def _figure(limit: Limit, group: Group) -> Value:
    value = group.figure(limit.metric, limit.percentile, limit.tenant)
    if value.value is None or math.isnan(value.value):
        why = METRICS[limit.metric].undefined if limit.metric in METRICS else ""
        of = f"{limit.tenant}:" if limit.tenant else ""
        point = f".{limit.percentile}" if limit.percentile else ""
        raise UndefinedError(
            f"--fail-if {limit.text!r}: {of}{limit.metric}{point} is undefined in {label_of(group)}"
            f"{f': {why}' if why else ''}; leave it out, or mend the run"
        )
    return value
