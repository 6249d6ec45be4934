"""Requests: `requests.jsonl` as columns, one entry per request; gaps and chunk tokens of all requests end to end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record.record import OUTCOMES, SCHEMA

__all__ = [
    "NEVER",
    "OK",
    "SHED",
    "TOKEN_SOURCES",
    "Failure",
    "Int32s",
    "Int64s",
    "Mask",
    "Requests",
    "read_requests",
    "record_lines",
]

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).min  # a stamp of something that did not happen
TOKEN_SOURCES = ("usage", "tokenizer", "chunks")
OK = OUTCOMES.index("ok")
SHED = OUTCOMES.index("shed")

_SLAB_BYTES = 64 << 20
_BLOCK_BYTES = 4 << 20
_ENGINE = ("queued_s", "prefill_s", "decode_s")
_STAMPS = ("scheduled_s", "sent_s", "first_token_s", "last_token_s", "ended_s")
_COLUMNS = pa.schema(
    [
        ("schema", pa.int64()),
        ("request_id", pa.string()),
        ("tenant", pa.string()),
        ("phase", pa.string()),
        ("worker", pa.int64()),
        ("index", pa.int64()),
        *((stamp, pa.float64()) for stamp in _STAMPS),
        ("outcome", pa.string()),
        ("status", pa.int64()),
        ("error", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("tokens_from", pa.string()),
        ("requested_output_tokens", pa.int64()),
        ("chunk_gap_us", pa.list_(pa.int32())),
        ("chunk_tokens", pa.list_(pa.int32())),
        ("endpoint", pa.string()),
        ("session", pa.string()),
        ("turn", pa.int64()),
        ("engine", pa.struct([(name, pa.float64()) for name in _ENGINE])),
    ]
)
_CODED = (
    ("tenant", np.int16),
    ("phase", np.int16),
    ("endpoint", np.int16),
    ("outcome", np.int8),
    ("tokens_from", np.int8),
)
_REQUIRED = ("schema", "request_id", "tenant", "phase", "worker", "scheduled_s", "outcome")


@dataclass(frozen=True)
class Failure:
    """One way in which requests of a tenant failed."""

    tenant: int
    outcome: str
    status: int | None
    error: str | None


@dataclass(frozen=True, eq=False)
class Requests:
    """n requests in file order. Stamps are whole nanoseconds on the run clock, NEVER where null.

    Whole nanoseconds are what the clocks count in: sums and comparisons stay exact, so a token that arrives on
    a window's edge falls on the right side of it.

    Attributes:
        tenant, phase, worker: index into the profile's tenants, into `phases`, of the load process.
        index: place in the tenant's schedule, from 0 in each phase; -1 where null.
        outcome: index into OUTCOMES. tokens_from: index into TOKEN_SOURCES, -1 where no token came.
        input_tokens, output_tokens, requested_tokens: 0 where null.
        gap_us: gaps between content chunks; request i has gap_us[gap_start[i]:gap_start[i + 1]].
        chunk_tokens: in the same way with chunk_start; an empty part means that the server told no counts.
        session: number of the conversation's name among all such names, -1 where there is none.
        follows: whether it is a later turn of a conversation, due when the one before has been answered.
        endpoint: index into `endpoints`, -1 where null.
        queued_s, computed_s: how long the engine says that it was queued, and in prefill and decode; NaN if it doesn't.
        duplicates: records whose id stood before in the same phase.
        incomplete_lines: 1 if the file ends inside a record, which is then left out.
    """

    tenant: npt.NDArray[np.int16]
    phase: npt.NDArray[np.int16]
    worker: Int32s
    index: Int32s
    outcome: npt.NDArray[np.int8]
    scheduled_ns: Int64s
    sent_ns: Int64s
    first_token_ns: Int64s
    last_token_ns: Int64s
    ended_ns: Int64s
    input_tokens: Int64s
    output_tokens: Int64s
    requested_tokens: Int64s
    tokens_from: npt.NDArray[np.int8]
    gap_us: Int32s
    gap_start: Int64s
    chunk_tokens: Int32s
    chunk_start: Int64s
    session: Int32s
    follows: Mask
    endpoint: npt.NDArray[np.int16]
    queued_s: Floats
    computed_s: Floats
    phases: tuple[str, ...]
    endpoints: tuple[str, ...]
    failures: dict[Failure, int]
    duplicates: int
    incomplete_lines: int

    def __len__(self) -> int:
        return len(self.tenant)

    @property
    def got_token(self) -> Mask:
        """Requests with at least one content chunk."""
        got: Mask = self.first_token_ns != NEVER
        return got

    @property
    def chunks(self) -> Int64s:
        """Content chunks of each request."""
        return np.diff(self.gap_start) + self.got_token

    @property
    def tells_tokens(self) -> Mask:
        """Requests whose server told the tokens of each chunk."""
        return np.diff(self.chunk_start) > 0

    @property
    def last_stamp_ns(self) -> int:
        """The latest that is known of any request; 0 without requests."""
        stamps = (self.scheduled_ns, self.sent_ns, self.last_token_ns, self.ended_ns)
        return max([0, *(int(stamp.max(initial=0)) for stamp in stamps)])


def read_requests(path: Path, tenants: Sequence[str], progress: Callable[[float], None] = lambda _: None) -> Requests:
    """Read a `requests.jsonl`, also one that is still being appended to; a missing file has no requests.

    The file is read in slabs, each parsed in parallel, so that memory holds the columns and one slab.
    `progress` is told the share that is read.

    Raises RunDirectoryError with file and line for a line that is no record of one of `tenants`.
    """
    reader = _Reader(path, tenants)
    for slab, share in _slabs(path):
        reader.add(slab)
        progress(share)
    return reader.requests()


def record_lines(path: Path, tenants: Sequence[str]) -> Iterator[tuple[str | None, bytes]]:
    """Every line of a `requests.jsonl` that holds a record, line end included, with what tells requests apart.

    That is the phase and the id, as for `Requests.duplicates`; a last line that a crash has torn has None, as it
    stands there. Memory holds one slab. Raises RunDirectoryError as `read_requests` does.
    """
    reader = _Reader(path, tenants)
    for slab, _ in _slabs(path):
        before = reader.lines
        table = reader.add(slab)
        reader.forget()
        if reader.incomplete_lines:
            yield None, slab
            return
        lines = [line for line in slab.splitlines(keepends=True) if line.strip()]
        if len(lines) != table.num_rows:
            number, reason = _first_line_of_other_than_one(slab)
            raise reader.error(before + number, reason)
        names = zip(table.column("phase").to_pylist(), table.column("request_id").to_pylist(), strict=True)
        for (phase, request_id), line in zip(names, lines, strict=True):
            yield f"{phase}\n{request_id}", line if line.endswith(b"\n") else line + b"\n"


def _slabs(path: Path) -> Iterator[tuple[bytes, float]]:
    """Pieces of whole lines, and the share of the file read after each; what follows the last line end comes last."""
    if not path.exists():
        return
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size  # what is appended from now on belongs to the next report
            tail = b""
            while file.tell() < size:
                data = file.read(min(_SLAB_BYTES, size - file.tell()))
                if not data:
                    break
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield tail + data[:cut], file.tell() / size
                    tail = data[cut:]
                else:
                    tail += data
            if tail:
                yield tail, 1.0
    except OSError as error:
        raise RunDirectoryError(f"{path} can't be read: {error.strerror}") from error


class _Reader:
    """Collects the columns slab by slab."""

    def __init__(self, path: Path, tenants: Sequence[str]) -> None:
        self.path = path
        self.lines = 0
        self.incomplete_lines = 0
        self.codes: dict[str, dict[str, int]] = {
            "tenant": {name: code for code, name in enumerate(tenants)},
            "outcome": {name: code for code, name in enumerate(OUTCOMES)},
            "tokens_from": {name: code for code, name in enumerate(TOKEN_SOURCES)},
            "phase": {},
            "endpoint": {},
        }
        self.parts: dict[str, list[npt.NDArray[Any]]] = {}
        self.ids: list[pa.Array] = []
        self.sessions: list[pa.Array] = []
        self.failures: Counter[Failure] = Counter()

    def add(self, slab: bytes) -> pa.Table:
        """Take in one slab of lines and return its rows; one without a line end is the last, and may be incomplete."""
        if not slab.endswith(b"\n"):
            try:
                orjson.loads(slab)
            except orjson.JSONDecodeError:
                self.incomplete_lines = 1
                return _COLUMNS.empty_table()
        try:
            table = _parse(slab)
        except pa.ArrowInvalid:
            line, reason = _first_broken_line(slab)
            raise self.error(self.lines + line, reason) from None
        if table.num_rows:
            self._add_table(table, slab)
        self.lines += slab.count(b"\n")
        return table

    def forget(self) -> None:
        """Give up the columns of what was added; it has been checked."""
        self.parts.clear()
        self.ids.clear()
        self.sessions.clear()

    def error(self, line: int, reason: str) -> RunDirectoryError:
        """What is wrong with a line, by its number in the file from 1."""
        return RunDirectoryError(f"{self.path}, line {line}: {reason}; mend or delete this line, then try again")

    def _fail_where(self, wrong: Mask, slab: bytes, reason: str | Callable[[int], str]) -> None:
        """Raise for the first row that is wrong; `reason` may depend on the row."""
        if wrong.any():
            row = int(wrong.argmax())
            line = self.lines + _line_of_row(slab, row)
            raise self.error(line, reason if isinstance(reason, str) else reason(row))

    def _add_table(self, table: pa.Table, slab: bytes) -> None:
        for name in _REQUIRED:
            column = table.column(name)
            if column.null_count:
                self._fail_where(column.is_null().to_numpy(), slab, f"{name} is missing")
        schemas = table.column("schema").to_numpy()
        self._fail_where(
            schemas != SCHEMA, slab, lambda row: f"record schema {schemas[row]} is unknown; this version reads {SCHEMA}"
        )

        columns: dict[str, npt.NDArray[Any]] = {"worker": table.column("worker").to_numpy().astype(np.int32)}
        for name, dtype in _CODED:
            columns[name] = self._encode(table, name, slab).astype(dtype)
        for stamp in _STAMPS:
            columns[stamp.removesuffix("_s") + "_ns"] = _nanoseconds(table.column(stamp))
        columns["index"] = _filled(table.column("index"), -1).astype(np.int32)
        columns["gap_us"], columns["gaps"] = _flatten(table.column("chunk_gap_us"))
        columns["chunk_tokens"], columns["told"] = _flatten(table.column("chunk_tokens"))
        got_token = columns["first_token_ns"] != NEVER
        chunks = columns["gaps"] + got_token
        self._fail_where((columns["gaps"] > 0) & ~got_token, slab, "chunk_gap_us has gaps, but first_token_s is null")
        self._fail_where(
            (columns["told"] > 0) & (columns["told"] != chunks),
            slab,
            lambda row: f"chunk_tokens has {columns['told'][row]} entries for {chunks[row]} content chunks",
        )
        for name, target in (("input_tokens",) * 2, ("requested_output_tokens", "requested_tokens")):
            columns[target] = _filled(table.column(name), 0)
        # The count of a request whose tokens are still to be counted: its content chunks, flagged as such.
        uncounted = table.column("output_tokens").is_null().to_numpy() & got_token
        columns["output_tokens"] = np.where(uncounted, chunks, _filled(table.column("output_tokens"), 0))
        columns["tokens_from"][uncounted] = TOKEN_SOURCES.index("chunks")

        columns["follows"] = _filled(table.column("turn"), 0) > 0
        columns |= _engine_times(table.column("engine"))

        for name, values in columns.items():
            self.parts.setdefault(name, []).append(values)
        self.ids.append(table.column("request_id").combine_chunks())
        self.sessions.append(table.column("session").combine_chunks())
        self._count_failures(table)

    def _encode(self, table: pa.Table, name: str, slab: bytes) -> Int64s:
        """A column of names as codes, -1 where null. New phases and endpoints get one; other names have to be known."""
        codes = self.codes[name]
        encoded = table.column(name).combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        indices = _filled(encoded.indices, -1)
        for index, value in enumerate(names):
            if name in ("phase", "endpoint"):
                codes.setdefault(value, len(codes))
            elif value not in codes:
                allowed = ", ".join(codes)
                self._fail_where(
                    indices == index,
                    slab,
                    f"{name} {value!r} is not one of {allowed}",
                )
        lookup = np.array([*(codes[value] for value in names), -1])
        return lookup[indices]

    def _count_failures(self, table: pa.Table) -> None:
        keys = ["tenant", "outcome", "status", "error"]
        failed = table.select(keys).filter(pc.not_equal(table.column("outcome"), "ok"))
        groups = failed.group_by(keys, use_threads=False).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            failure = Failure(self.codes["tenant"][group["tenant"]], group["outcome"], group["status"], group["error"])
            self.failures[failure] += group["count_all"]

    def requests(self) -> Requests:
        """All that was added."""

        def whole(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
            parts = self.parts.pop(name, [])  # given up as soon as joined: the gaps are most of the memory
            return np.concatenate(parts) if parts else np.empty(0, dtype)

        phase = whole("phase", np.int16)
        return Requests(
            tenant=whole("tenant", np.int16),
            phase=phase,
            worker=whole("worker", np.int32),
            index=whole("index", np.int32),
            outcome=whole("outcome", np.int8),
            scheduled_ns=whole("scheduled_ns", np.int64),
            sent_ns=whole("sent_ns", np.int64),
            first_token_ns=whole("first_token_ns", np.int64),
            last_token_ns=whole("last_token_ns", np.int64),
            ended_ns=whole("ended_ns", np.int64),
            input_tokens=whole("input_tokens", np.int64),
            output_tokens=whole("output_tokens", np.int64),
            requested_tokens=whole("requested_tokens", np.int64),
            tokens_from=whole("tokens_from", np.int8),
            gap_us=whole("gap_us", np.int32),
            gap_start=_starts(whole("gaps", np.int64)),
            chunk_tokens=whole("chunk_tokens", np.int32),
            chunk_start=_starts(whole("told", np.int64)),
            session=_coded(self.sessions),
            follows=whole("follows", np.bool_),
            endpoint=whole("endpoint", np.int16),
            queued_s=whole("queued_s", np.float64),
            computed_s=whole("computed_s", np.float64),
            phases=tuple(self.codes["phase"]),
            endpoints=tuple(self.codes["endpoint"]),
            failures=dict(self.failures),
            duplicates=_duplicates(self.ids, phase),
            incomplete_lines=self.incomplete_lines,
        )


def _parse(lines: bytes) -> pa.Table:
    """Raises ArrowInvalid when a line is no JSON object with the columns' types."""
    options = pj.ParseOptions(explicit_schema=_COLUMNS, unexpected_field_behavior="ignore")

    def read(block_size: int) -> pa.Table:
        return pj.read_json(pa.BufferReader(lines), pj.ReadOptions(block_size=block_size), options)

    if not lines.strip():
        return _COLUMNS.empty_table()
    try:
        return read(_BLOCK_BYTES)
    except pa.ArrowInvalid:
        return read(len(lines) + 1)  # a line longer than a block


def _first_broken_line(slab: bytes) -> tuple[int, str]:
    """Number (from 1) of the first line that does not parse, and why, by bisection."""
    lines = slab.splitlines(keepends=True)
    good, bad = 0, len(lines)  # lines[:good] parse, lines[:bad] do not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _parse(b"".join(lines[good:middle]))
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    try:
        record = orjson.loads(lines[good])
    except orjson.JSONDecodeError as error:
        return bad, f"no JSON ({error})"
    if not isinstance(record, dict):
        return bad, f"a record is a JSON object, found {type(record).__name__}"
    for field in _COLUMNS:
        try:
            _parse(orjson.dumps({field.name: record.get(field.name)}))
        except pa.ArrowInvalid:
            return bad, f"{field.name} must be {_TYPE_WORDS[field.type]}, found {record[field.name]!r}"
    return bad, "no record"


def _first_line_of_other_than_one(slab: bytes) -> tuple[int, str]:
    """Number (from 1) of the first line that is not one JSON value: the reader takes several on a line for rows."""
    for number, line in enumerate(slab.splitlines(), 1):
        try:
            if line.strip():
                orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return number, f"a line holds one record ({error})"
    return 1, "a line from here on holds more or less than one record"


_TYPE_WORDS = {
    pa.int64(): "a whole number",
    pa.float64(): "a number",
    pa.string(): "text",
    pa.list_(pa.int32()): "a list of whole numbers",
    _COLUMNS.field("engine").type: "an object of numbers",
}


def _line_of_row(slab: bytes, row: int) -> int:
    """Number (from 1) of the line that holds a row; blank lines hold none."""
    filled = [number for number, line in enumerate(slab.splitlines(), 1) if line.strip()]
    return filled[row]


def _filled(column: pa.ChunkedArray | pa.Array, value: int) -> Int64s:
    filled: Int64s = column.fill_null(value).to_numpy().astype(np.int64)
    return filled


def _nanoseconds(column: pa.ChunkedArray) -> Int64s:
    seconds = column.to_numpy()  # NaN where null
    never = np.isnan(seconds)
    stamps: Int64s = np.rint(np.where(never, 0.0, seconds) * 1e9).astype(np.int64)
    stamps[never] = NEVER
    return stamps


def _flatten(column: pa.ChunkedArray) -> tuple[Int32s, Int64s]:
    """All lists end to end, and the length of each; null is a list without entries."""
    lengths = _filled(pc.list_value_length(column), 0)
    return pc.list_flatten(column).to_numpy(), lengths


def _engine_times(column: pa.ChunkedArray) -> dict[str, Floats]:
    """How long each request was queued, and how long the engine worked on it."""
    times = {name: pc.struct_field(column, name).to_numpy() for name in _ENGINE}  # NaN where null
    return {"queued_s": times["queued_s"], "computed_s": times["prefill_s"] + times["decode_s"]}


def _starts(lengths: Int64s) -> Int64s:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _duplicates(ids: list[pa.Array], phase: npt.NDArray[np.int16]) -> int:
    """Records whose id stood before in the same phase."""
    if not ids:
        return 0
    keys = _coded(ids).astype(np.int64) * (int(phase.max()) + 1) + phase
    return len(keys) - len(np.unique(keys))


def _coded(texts: list[pa.Array]) -> Int32s:
    """A number for each different text, -1 where null."""
    if not texts:
        return np.empty(0, np.int32)
    return _filled(pa.chunked_array(texts).combine_chunks().dictionary_encode().indices, -1).astype(np.int32)
