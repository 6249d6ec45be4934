"""Table: a CSV file read by column, checked whole. Large files are read in pieces, on one core."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from fairshare_locust.errors import WorkloadError
from fairshare_locust.trace.formats import MOST_TOKENS, TOKENS_ALLOWED
from fairshare_locust.trace.problems import Problems, found
from fairshare_locust.trace.rows import Labels

__all__ = ["INSTANT", "SECONDS", "TOKENS", "Column", "Table", "read_table"]

_PIECE_BYTES = 8 * 2**20
_PIECE_LINES = 65_536


@dataclass(frozen=True)
class Column:
    """What may stand in a column: a pattern, in words for errors, and the Arrow type that it is read as."""

    pattern: str
    allowed: str
    type: Any

    def valid(self, texts: Any) -> Any:
        """Which of the texts fit the pattern."""
        return pyarrow.compute.match_substring_regex(texts, f"^(?:{self.pattern})$")

    def convert(self, texts: Any) -> Any:
        """The numbers of texts that fit. Raises ArrowInvalid, as for 30 February."""
        if not pyarrow.types.is_timestamp(self.type):
            return texts.cast(self.type)
        zoned = pyarrow.compute.match_substring_regex(texts, "(?:Z|[+-][0-9:]{4,5})$")
        in_utc = pyarrow.compute.binary_join_element_wise(texts, "Z", "")
        return pyarrow.compute.if_else(zoned, texts, in_utc).cast(self.type).cast(pyarrow.int64())


TOKENS = Column(rf"0*(?:[0-9]{{1,7}}|{MOST_TOKENS})", TOKENS_ALLOWED, pyarrow.int32())
SECONDS = Column(r"[0-9]{1,12}(?:\.[0-9]{0,12})?", "seconds, 0 or more", pyarrow.float64())
INSTANT = Column(
    r"(?:19[7-9]|2[01][0-9])[0-9]-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][01][0-9]:?[0-5][0-9])?",
    "a date and time such as 2023-11-16 18:17:03.9799600, in UTC or with an offset such as +00:00 (years 1970 to 2199)",
    pyarrow.timestamp("ns", "UTC"),
)


@dataclass(frozen=True)
class Table:
    """Columns of a file, by name; each has a value for each row. Instants are nanoseconds since 1970."""

    numbers: dict[str, NDArray[Any]]
    labels: dict[str, Labels]


def read_table(path: Path, header: list[str], numbers: Mapping[str, Column], labels: Sequence[str] = ()) -> Table:
    """The named columns of a file with numbers, and those with texts.

    `header` names all columns of the file, whose first line is passed over. Raises WorkloadError that names each
    line that can't be read.
    """
    numeric: dict[str, list[Any]] = {name: [] for name in numbers}
    coded: dict[str, list[Any]] = {name: [] for name in labels}
    try:
        for batch in _pieces(path, header, [*numbers, *labels]):
            for name, column in numbers.items():
                texts = batch.column(name)
                if not pyarrow.compute.all(column.valid(texts)).as_py():
                    raise pyarrow.ArrowInvalid(f"{name}: must be {column.allowed}")
                numeric[name].append(column.convert(texts).to_numpy(zero_copy_only=False))
            for name in labels:
                coded[name].append(batch.column(name).dictionary_encode())
    except pyarrow.ArrowInvalid as error:
        # Reading by column tells that something is wrong, but neither where nor everything.
        _explain(path, header, numbers).refuse()
        raise WorkloadError(f"{path}: can't be read as CSV: {error}") from error
    return Table(
        {name: _joined(pieces, numbers[name]) for name, pieces in numeric.items()},
        {name: _labelled(pieces) for name, pieces in coded.items()},
    )


def _pieces(path: Path, header: list[str], wanted: list[str]) -> Iterator[Any]:
    """Columns of the file's rows as texts, in batches."""
    if not _has_rows(path):
        return
    yield from pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(
            # Names of columns that aren't read don't matter, but have to differ.
            column_names=[name if name in wanted else f"column {i}" for i, name in enumerate(header)],
            skip_rows=1,
            block_size=_PIECE_BYTES,
            use_threads=False,  # a load process may be forked from this one
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pyarrow.string()), include_columns=wanted
        ),
    )


def _has_rows(path: Path) -> bool:
    with path.open("rb") as file:
        file.readline()
        return any(line.strip() for line in file)


def _joined(pieces: list[NDArray[Any]], column: Column) -> NDArray[Any]:
    none = np.empty(0, dtype=np.int64 if pyarrow.types.is_timestamp(column.type) else column.type.to_pandas_dtype())
    return np.concatenate([none, *pieces])


def _labelled(pieces: list[Any]) -> Labels:
    codes: dict[str, int] = {}
    parts = [np.empty(0, dtype=np.int32)]
    for piece in pieces:
        names = piece.dictionary.to_pylist()
        own = [codes.setdefault(name, len(codes)) if name else -1 for name in names]
        parts.append(np.array(own, dtype=np.int32)[piece.indices.to_numpy()])
    return Labels(np.concatenate(parts), tuple(codes))


def _explain(path: Path, header: list[str], columns: Mapping[str, Column]) -> Problems:
    """What is wrong with which line."""
    problems = Problems(path)
    with path.open("rb") as file:
        lines = enumerate(file, start=1)
        next(lines, None)
        while piece := list(islice(lines, _PIECE_LINES)):
            _explain_piece(piece, header, columns, problems)
    return problems


def _explain_piece(
    piece: list[tuple[int, bytes]], header: list[str], columns: Mapping[str, Column], problems: Problems
) -> None:
    faults: list[tuple[int, str]] = []
    rows: list[tuple[int, list[str]]] = []
    for number, line in piece:
        content = line.rstrip(b"\r\n")
        if not content:
            continue
        try:
            fields = next(csv.reader([content.decode()], strict=True))
        except UnicodeDecodeError as error:
            faults.append((number, f"not UTF-8 (byte {error.start} of the line)"))
        except csv.Error as error:
            faults.append((number, f"not CSV: {error}"))
        else:
            if len(fields) == len(header):
                rows.append((number, fields))
            else:
                faults.append((number, f"found {len(fields)} columns; must be {len(header)}: {','.join(header)}"))
    for name, column in columns.items():
        place = header.index(name)
        for i in _faults(column, [fields[place] for _, fields in rows]):
            number, fields = rows[i]
            faults.append((number, f"{name}: {found(fields[place], column.allowed)}"))
    for number, problem in sorted(faults, key=lambda fault: fault[0]):
        problems.add(number, problem)


def _faults(column: Column, texts: list[str]) -> list[int]:
    array = pyarrow.array(texts, pyarrow.string())
    valid = column.valid(array).to_numpy(zero_copy_only=False)
    faults = np.flatnonzero(~valid.astype(bool)).tolist()
    try:
        column.convert(array.filter(pyarrow.array(valid)))
    except pyarrow.ArrowInvalid:
        faults += [i for i in np.flatnonzero(valid).tolist() if not _converts(column, array[i])]
    return faults


def _converts(column: Column, text: Any) -> bool:
    try:
        column.convert(pyarrow.array([text.as_py()], pyarrow.string()))
    except pyarrow.ArrowInvalid:
        return False
    return True
