"""Prometheus text: those of its lines that are wanted, as samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["read_samples"]

# What the parser raises on lines that are none.
_MALFORMED = (ValueError, IndexError, KeyError, OverflowError)


def read_samples(text: str, wanted: Callable[[str], bool]) -> tuple[list[Sample], list[str]]:
    """The samples whose names are `wanted`, and those of their lines that can't be read.

    A server's text has ten times the lines that are wanted, and parsing is dear: lines are chosen by their name
    before they are parsed. Types and help are not read, so names stay as they were sent.
    """
    lines = [line for line in text.split("\n") if wanted(line.partition("{")[0].partition(" ")[0])]
    try:
        return _parsed(lines), []
    except _MALFORMED:
        pass
    samples: list[Sample] = []
    malformed: list[str] = []
    for line in lines:
        try:
            samples += _parsed([line])
        except _MALFORMED:
            malformed.append(line)
    return samples, malformed


def _parsed(lines: Iterable[str]) -> list[Sample]:
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return [sample._replace(value=float(sample.value)) for family in families for sample in family.samples]
