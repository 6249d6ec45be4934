"""From run directories to a comparison: read, refuse, compute, mark, recommend, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.compare.columns import FIGURES, Group, column, grouped, label_of, modes_of, title_of, unit_of
from analysis.compare.gate import Judgement, judge, read_limit
from analysis.compare.keys import differences, refuse
from analysis.compare.model import Column, Comparison
from analysis.compare.noise import marked
from analysis.compare.recommend import recommend
from analysis.compare.runs import ComparedRun, find_runs, open_compared, read_content, solo_of, split_solo
from analysis.metrics import METRICS

__all__ = ["Compared", "compare"]


@dataclass(frozen=True)
class Compared:
    """A comparison, the runs it is of, and what became of the limits.

    Attributes:
        runs: by the names that stand in the columns.
    """

    comparison: Comparison
    runs: Mapping[str, Path]
    judgements: tuple[Judgement, ...] = ()


def compare(
    paths: Sequence[Path],
    *,
    baseline: Path | None = None,
    fail_if: Sequence[str] = (),
    force: bool = False,
    reuse: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> Compared:
    """Compare runs; limits and differences are looked at before anything is computed.

    Args:
        paths: run directories, and folders that hold some.
        baseline: a run directory, or a folder of repeats; its own column if it is not among `paths`.
        fail_if: limits, see `gate`.
        force: compare runs although they differ in more than their mode.
        reuse: take a run's `analysis/summary.json` where it is up to date.

    Raises RunDirectoryError for what is no run or can't be compared, LimitError and UndefinedError for a limit.
    """
    runs, solo = split_solo([open_compared(path) for path in find_runs(paths)])
    beside: list[ComparedRun] = []
    if baseline is not None:
        beside, also_solo = split_solo([open_compared(path) for path in find_runs([baseline])])
        solo += also_solo
    own = {run.path for run in runs}
    extra = [run for run in beside if run.path not in own]
    every = [*extra, *runs]
    tenants = dict.fromkeys(tenant.id for run in every for tenant in run.profile.tenants)
    limits = [read_limit(text, tenants, baseline=baseline is not None) for text in fail_if]

    modes = modes_of(every)
    groups = [
        *grouped(extra, modes[: len(extra)], apart="baseline"),
        *grouped(runs, modes[len(extra) :]),
    ]
    groups = sorted(groups, key=lambda group: (group.load is not None, group.load or 0.0))
    labelled = [(run, f"{group.mode} {group.apart}".strip()) for group in groups for run in group.runs]
    found = differences([run for run, _ in labelled], [label for _, label in labelled])
    if not force:
        refuse(found)

    groups = _computed(groups, solo, reuse, progress)
    columns = tuple(column(group) for group in groups)
    wanted = {tenant.id: tenant.slo.attainment for run in every for tenant in run.profile.tenants if tenant.slo}
    comparison = Comparison(
        columns=columns,
        rows=tuple(
            marked(key, title_of(key), unit_of(key), _direction(key), columns)
            for key in FIGURES
            if any(one.get(key).value is not None for one in columns)
        ),
        differences=tuple(found),
        recommendation=recommend(columns, wanted),
        slo_wanted=wanted,
        warnings=tuple(_warnings(groups, columns)),
    )
    at = {run.path for run in beside}
    baselines = [group for group in groups if any(run.path in at for run in group.runs)]
    modes_at = {group.mode for group in baselines} if not extra else set()
    baselines += [group for group in groups if group.mode in modes_at and all(group is not one for one in baselines)]
    return Compared(
        comparison,
        {run.name: run.path for run in every},
        tuple(judge(limits, groups, baselines)),
    )


def _computed(
    groups: Sequence[Group], solo: Sequence[ComparedRun], reuse: bool, progress: Callable[[float], None]
) -> list[Group]:
    """One run after the other: of each only its summary is kept."""
    total, done = sum(len(group.runs) for group in groups), 0
    computed = []
    for group in groups:
        contents: list[dict[str, Any]] = []
        for run in group.runs:
            contents.append(read_content(run, reuse=reuse, solo=solo_of(run, solo)))
            done += 1
            progress(done / total)
        computed.append(replace(group, contents=tuple(contents)))
    return computed


def _direction(key: str) -> Any:
    metric, _ = FIGURES[key]
    return METRICS[metric].direction if metric in METRICS and metric != "kv_cache_peak" else None


_WHY_ABSENT = {
    "isolation_leakage": "isolation leakage and sharing efficiency are not known: no run has its tenants alone to "
    "compare with (run the plan solo with the same profile and seed)",
    "cost_per_million_output_tokens": "cost is not known: no price per hour (cost.gpu_hour_usd in the profile)",
    "joules_per_output_token": "energy is not known: no GPU's power was sampled",
}


def _warnings(groups: Sequence[Group], columns: Sequence[Column]) -> Iterator[str]:
    for group in groups:
        for run, content in zip(group.runs, group.contents, strict=True):
            if content["verdict"]["status"] == "suspect":
                reasons = "; ".join(reason.rstrip(".") for reason in content["verdict"]["reasons"])
                yield f"{label_of(group)}: suspect, {run.name}: {reasons}"
            for line in content.get("warnings") or ():
                yield f"{label_of(group)}: {run.name}: {line}"
            yield from _failed(group, run, content["totals"])
        yield from _same_again(group)
    kinds = {one.simulated for one in columns}
    if len(kinds) > 1 and None in kinds:
        of_kind = ", ".join(f"{one.label}: {one.simulated or 'a GPU'}" for one in columns)
        yield f"simulated and measured figures stand side by side, and are not alike ({of_kind})"
    yield from _loads_missing(columns)
    for key, words in _WHY_ABSENT.items():
        if all(one.get(key).value is None for one in columns):
            yield words


def _failed(group: Group, run: ComparedRun, totals: Mapping[str, Any]) -> Iterator[str]:
    """That latencies leave out what failed: a mode that drops its slow requests must not look fast unnoticed."""
    if failed := sum(totals["failed"].values()):
        yield (
            f"{label_of(group)}: {run.name}: {failed:,} of {totals['scheduled']:,} requests failed; e2e is of the "
            "others, TTFT and TPOT of those that got so far"
        )


def _same_again(group: Group) -> Iterator[str]:
    """Virtual time gives the same again for the same seed: no repeat of it is a run of its own."""
    virtual = [run for run in group.runs if run.info.get("time") == "virtual"]
    seeds = [run.seed for run in virtual]
    if len(set(seeds)) < len(seeds):
        yield f"{label_of(group)}: repeats with the same seed in virtual time are one run told twice; give each its own"


def _loads_missing(columns: Sequence[Column]) -> Iterator[str]:
    loads = list(dict.fromkeys(one.load for one in columns if one.load is not None))
    for mode in dict.fromkeys(one.mode for one in columns):
        missing = [load for load in loads if not any(one.mode == mode and one.load == load for one in columns)]
        if missing:
            yield f"{mode} has no run at load {', '.join(f'{load:g}' for load in missing)}"
