"""Formats of traces, as their columns tell them apart."""

from __future__ import annotations

import csv
from pathlib import Path

import orjson

from fairshare_locust.errors import WorkloadError

__all__ = ["MOST_TOKENS", "REQUIRED", "TOKENS_ALLOWED", "check_columns", "columns_of", "first_line", "fitting_format"]

REQUIRED = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Model", "Request tokens", "Response tokens"),
    "mooncake": ("timestamp", "input_length", "output_length"),
}

MOST_TOKENS = 10_000_000  # no model takes more, and a broken row should not fill the memory
TOKENS_ALLOWED = f"a whole number from 0 to {MOST_TOKENS:,}"


def first_line(path: Path) -> str:
    """The line that tells the format, without byte-order mark and line end. Raises WorkloadError."""
    try:
        with path.open("rb") as file:
            line = file.readline(1_000_000)
    except OSError as error:
        raise WorkloadError(f"{path}: can't be read: {error.strerror}") from error
    try:
        return line.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}:1: not UTF-8 (byte {error.start} of the line); a trace is a text file") from error


def columns_of(line: str) -> list[str]:
    """Names of the columns: a CSV header's, or the keys of a JSON object."""
    if line.lstrip().startswith("{"):
        try:
            return list(orjson.loads(line))
        except orjson.JSONDecodeError:
            return []
    try:
        return [name.strip() for name in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def fitting_format(columns: list[str]) -> str | None:
    """The format whose columns these are."""
    return next((name for name, needed in REQUIRED.items() if set(needed) <= set(columns)), None)


def check_columns(path: Path, trace_format: str, columns: list[str]) -> None:
    """Raises WorkloadError if columns that the format needs are missing, or stand there twice."""
    missing = [name for name in REQUIRED[trace_format] if name not in columns]
    if missing:
        fitting = fitting_format(columns)
        fix = f"its columns are those of format {fitting}" if fitting else "no known format has these columns"
        found = ", ".join(columns)[:200] or "none"
        raise WorkloadError(
            f"{path}:1: found columns {found}; format {trace_format} also needs {', '.join(missing)} ({fix})"
        )
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise WorkloadError(f"{path}:1: found column {twice[0]} twice; each must stand there once")
