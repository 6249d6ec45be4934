"""The commands of `python -m analysis`, one module each: `add` declares its arguments, `run` carries it out."""

from __future__ import annotations

from analysis.commands import compare, merge, metrics, publish, report

__all__ = ["COMMANDS"]

COMMANDS = (report, compare, merge, metrics, publish)
