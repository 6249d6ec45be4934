"""`metrics`: what every number means, from the registry that headers and hovers read; docs/metrics.md is its output."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from analysis.intervals import PERCENTILES, minimum_count
from analysis.metrics import GROUPS, Metric

__all__ = ["HELP", "NAME", "add", "markdown", "run", "text"]

NAME = "metrics"
HELP = "print what every number means: formula, unit, direction, when it is undefined, source"

_BETTER = {"higher": "higher is better", "lower": "lower is better", None: ""}
_SHORT = {"higher": "higher", "lower": "lower", None: "–"}
_HEADINGS = ("Name", "Called", "Unit", "Better", "Formula", "Undefined when", "Source", "Computed by")

_INTRODUCTION = """\
# What every number means

Written by `python -m analysis metrics --format md` from `analysis/metrics.py`, where the reports read the same words.
Change them there; a test compares this page with the code.

All stamps are seconds on one clock that starts with the load. `scheduled_s`: a request is due. `sent_s`: the client
begins to send it. `first_token_s`, `last_token_s`: its first and its last generated content arrive. `ended_s`: its
stream is closed. A request failed if it ended in any way but ok, shed and cancelled included.

A number that can't be said is undefined: null in `summary.json`, empty in `summary.csv`, `-` in the reports. It is
never 0.

## Window

Numbers are of the window `[start, end)`: after the warm-up, while all tenants that are compared offer load. Latencies
and attainment take the requests that were *scheduled* in it and follow them to their end, so that slow ones are not
lost. Rates take what *arrived* or *ended* in it, whenever it was scheduled. Series are over adjacent sub-windows of
`fairness_window_s`; a shorter last one is divided by its own length. Tenants that had no request scheduled in a window
take no part in its fairness: who asks for nothing is not treated unfairly.

## Percentiles

By nearest rank, `ceil(p · n)` of the raw values, never from buckets. A percentile stands beside its count and a 95 %
interval. It is *certified* from the smallest n with `P(Binomial(n, 1 - p) ≤ 1) ≤ 1 %` (MLPerf Inference), below that it
is *indicative* and marked `~`:
"""

_AFTER_COUNTS = """\
A latency that ends in `_adjusted` counts every failed request as +inf, so that a tenant whose slow requests time out
does not look fast; ok requests to which it does not apply are left out. JSON has +inf as the string `"inf"`. Totals
pool the requests of all tenants.
"""

_SERVICE = """\
Service is `W = 1·input + 2·output` tokens unless the profile has other weights (`fairness.service_weights`). Input is
credited in full with the first content chunk, output when it arrives. A tenant is backlogged while one of its requests
is due and has no token yet. `weight` is the tenant's in the profile.
"""

_GPU = """\
What a device or a MIG slice does not support is listed as unsupported. Each has a mean and a peak over the samples of
the window.
"""

_SERVER = """\
These are figures of a whole server, never of one tenant.
"""

_BEFORE = {"Fairness": _SERVICE, "GPU": _GPU, "Server": _SERVER}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--format", choices=("text", "md"), default="text", help="text for a terminal (default), or Markdown"
    )


def run(options: argparse.Namespace) -> int:
    """Print the registry. Exit code: 0."""
    print(markdown() if options.format == "md" else text(), end="")
    return 0


def text() -> str:
    """Name, unit, direction and formula of each, as lines for a terminal."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for group, metrics in GROUPS.items():
        yield f"{group}\n"
        for metric in metrics:
            yield f"  {', '.join(filter(None, [metric.name, metric.unit, _BETTER[metric.direction]]))}"
            yield f"    {metric.formula}"
            for word, said in (("undefined when", metric.undefined), ("source:", metric.source)):
                if said:
                    yield f"    {word} {said}"
        yield ""


def markdown() -> str:
    """docs/metrics.md: the rules in prose, and a table for each group."""
    from analysis.report.markdown import escape, table  # numpy and pyarrow load here, not with the commands

    counts = table(
        ("Percentile", *(f"p{name.removeprefix('p').replace('_', '.')}" for name in PERCENTILES)),
        [("certified from", *(f"{minimum_count(per_mille):,}" for per_mille in PERCENTILES.values()))],
    )
    parts = [_INTRODUCTION, counts, _AFTER_COUNTS]
    for group, metrics in GROUPS.items():
        parts.append(f"## {group}\n")
        if group in _BEFORE:
            parts.append(_BEFORE[group])
        parts.append(table(_HEADINGS, [_row(metric, escape) for metric in metrics]))
    return "\n".join(parts)


def _row(metric: Metric, escape: Callable[[str], str]) -> tuple[str, ...]:
    return (
        f"`{metric.name}`",
        *map(
            escape,
            (
                metric.label,
                metric.unit or "–",
                _SHORT[metric.direction],
                metric.formula,
                metric.undefined or "never",
                metric.source or "–",
            ),
        ),
        f"`{metric.function}`",
    )
