"""`comparison.json`, `comparison.csv` and `comparison.md`: a comparison for programs, tables and pages."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from analysis.compare import markdown
from analysis.compare.comparison import Compared
from analysis.compare.model import Comparison, Value
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record.run_directory import replace_file

__all__ = ["SCHEMA", "to_csv", "to_json", "write_files"]

SCHEMA = 1


def write_files(compared: Compared, folder: Path) -> list[Path]:
    """Write all three into a folder, which is made if need be. Raises RunDirectoryError when that can't be done."""
    contents = {
        "comparison.json": to_json(compared),
        "comparison.csv": to_csv(compared.comparison).encode(),
        "comparison.md": markdown.document(compared.comparison, compared.judgements).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            replace_file(folder / name, content)
    except OSError as error:
        raise RunDirectoryError(
            f"{error.filename or folder} can't be written: {error.strerror}; name another folder with --out"
        ) from error
    return [folder / name for name in contents]


def to_json(compared: Compared) -> bytes:
    """Columns, rows and all that is said: undefined as null, +inf as the string "inf", places of columns as lists."""
    limits = [
        {
            "limit": judgement.limit.text,
            "column": judgement.label,
            "value": judgement.value.value,
            "baseline": judgement.baseline.value if judgement.baseline else None,
            "bound": judgement.bound,
            "failed": judgement.failed,
            "within_noise": judgement.noise,
        }
        for judgement in compared.judgements
    ]
    content = {"schema": SCHEMA, **asdict(compared.comparison), "limits": limits}
    return orjson.dumps(_json_form(content), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _json_form(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_form(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_json_form(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


_COLUMNS = (
    "load",
    "mode",
    "label",
    "runs",
    "suspect",
    "tenant",
    "metric",
    "value",
    "ci95_low",
    "ci95_high",
    "certified",
    "best",
    "within_noise",
)


def to_csv(comparison: Comparison) -> str:
    """A row per column, tenant and metric; tenant "total" is all together. An empty field is undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(comparison))
    return text.getvalue()


def _lines(comparison: Comparison) -> Iterator[dict[str, Any]]:
    rows = {row.key: row for row in comparison.rows}
    for place, column in enumerate(comparison.columns):
        head = {
            "load": column.load,
            "mode": column.mode,
            "label": column.label,
            "runs": len(column.runs),
            "suspect": len(column.suspect),
        }
        for key, row in rows.items():
            marks = {"best": place in row.best, "within_noise": place in row.within_noise}
            yield {**head, "tenant": "total", "metric": key, **_fields(column.get(key)), **marks}
        for tenant, values in column.tenants.items():
            for key, value in values.items():
                if key in rows:
                    yield {**head, "tenant": tenant, "metric": key, **_fields(value)}


def _fields(value: Value) -> dict[str, Any]:
    return {
        "value": value.value,
        "ci95_low": value.ci95[0],
        "ci95_high": value.ci95[1],
        "certified": None if value.value is None else value.certified,
    }
