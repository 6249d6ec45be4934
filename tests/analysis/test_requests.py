"""Reading requests.jsonl into columns."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings

from analysis import requests as module
from analysis.requests import NEVER, Failure, read_requests
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import OUTCOMES, RequestRecord
from tests.analysis.build import columns, record
from tests.analysis.random_records import records


def write(path: Path, *lines: bytes) -> Path:
    file = path / "requests.jsonl"
    file.write_bytes(b"".join(lines))
    return file


def test_a_record_becomes_a_row() -> None:
    read = columns(
        [
            record("b", 5, scheduled_s=1.25, sent_s=1.5, first_token_s=2.0, gaps_us=[7, 9], chunk_tokens=[1, 2, 3]),
            record("a", outcome="shed", sent_s=None, phase="drain", error="full"),
        ]
    )
    assert read.tenant.tolist() == [1, 0]
    assert read.index.tolist() == [5, 0]
    assert [read.phases[code] for code in read.phase] == ["measure", "drain"]
    assert [OUTCOMES[code] for code in read.outcome] == ["ok", "shed"]
    assert read.scheduled_ns.tolist() == [1_250_000_000, 1_000_000_000]
    assert read.sent_ns.tolist() == [1_500_000_000, NEVER]
    assert read.first_token_ns.tolist() == [2_000_000_000, NEVER]
    assert read.gap_us.tolist() == [7, 9]
    assert read.gap_start.tolist() == [0, 2, 2]
    assert read.chunk_tokens.tolist() == [1, 2, 3]
    assert read.chunks.tolist() == [3, 0]
    assert read.output_tokens.tolist() == [3, 0]
    assert read.failures == {Failure(0, "shed", None, "full"): 1}


def test_a_missing_and_an_empty_file_have_no_requests(tmp_path: Path) -> None:
    assert len(read_requests(tmp_path / "requests.jsonl", ["a"])) == 0
    assert len(read_requests(write(tmp_path), ["a"])) == 0


def test_a_record_without_an_index_has_none(tmp_path: Path) -> None:
    line = orjson.loads(record().to_json())
    del line["index"]
    assert read_requests(write(tmp_path, orjson.dumps(line) + b"\n"), ["a"]).index.tolist() == [-1]


def test_tokens_still_to_be_counted_count_as_chunks() -> None:
    read = columns([record(gaps_us=[1, 1], output_tokens=None, tokens_from=None)])
    assert read.output_tokens.tolist() == [3]
    assert module.TOKEN_SOURCES[read.tokens_from[0]] == "chunks"


def test_an_incomplete_last_line_is_left_out_and_counted(tmp_path: Path) -> None:
    whole = record().to_json()
    read = read_requests(write(tmp_path, whole, whole[:40]), ["a"])
    assert (len(read), read.incomplete_lines) == (1, 1)


def test_a_whole_last_line_without_line_end_is_a_record(tmp_path: Path) -> None:
    read = read_requests(write(tmp_path, record().to_json(), record(index=1).to_json().rstrip()), ["a"])
    assert (len(read), read.incomplete_lines) == (2, 0)


def test_blank_lines_hold_no_record(tmp_path: Path) -> None:
    assert len(read_requests(write(tmp_path, b"\n", record().to_json(), b"\n\n"), ["a"])) == 1


def broken(**values: object) -> bytes:
    return orjson.dumps(orjson.loads(record().to_json()) | values) + b"\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{nonsense\n", "line 3: no JSON"),
        (b"[1]\n", "line 3: a record is a JSON object, found list"),
        (broken(scheduled_s="soon"), "line 3: scheduled_s must be a number, found 'soon'"),
        (broken(output_tokens=1.5), "line 3: output_tokens must be a whole number, found 1.5"),
        (broken(scheduled_s=None), "line 3: scheduled_s is missing"),
        (broken(schema=99), "line 3: record schema 99 is unknown; this version reads 1"),
        (broken(tenant="x"), "line 3: tenant 'x' is not one of a, b"),
        (broken(outcome="lost"), "line 3: outcome 'lost' is not one of ok, http_error"),
        (broken(engine="fast"), "line 3: engine must be an object of numbers, found 'fast'"),
        (broken(engine={"queued_s": "long"}), "line 3: engine must be an object of numbers"),
        (broken(chunk_tokens=[1, 2]), "line 3: chunk_tokens has 2 entries for 1 content chunks"),
        (broken(first_token_s=None, chunk_gap_us=[1]), "line 3: chunk_gap_us has gaps, but first_token_s is null"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    file = write(tmp_path, record().to_json(), b"\n", line, record(index=1).to_json())
    with pytest.raises(RunDirectoryError) as caught:
        read_requests(file, ["a", "b"])
    assert f"{file}, {message}" in str(caught.value)


def test_a_broken_line_is_named_in_a_later_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_BYTES", 1000)
    lines = [record(index=index).to_json() for index in range(20)]
    file = write(tmp_path, *lines, b"{\n", *lines)
    with pytest.raises(RunDirectoryError, match="line 21: no JSON"):
        read_requests(file, ["a"])


def test_a_line_may_be_longer_than_a_slab_and_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_BYTES", 1000)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 2000)
    gaps = list(range(10_000))
    read = read_requests(write(tmp_path, record(gaps_us=gaps).to_json(), record(index=1).to_json()), ["a"])
    assert read.gap_us.tolist() == gaps
    assert read.gap_start.tolist() == [0, 10_000, 10_000]


@settings(deadline=None)
@given(records())
def test_slabs_make_no_difference(some: list[RequestRecord]) -> None:
    whole = columns(some)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLAB_BYTES", 700)
        sliced = columns(some)
    for name in (
        "tenant",
        "outcome",
        "scheduled_ns",
        "ended_ns",
        "output_tokens",
        "gap_us",
        "gap_start",
        "chunk_start",
    ):
        assert getattr(whole, name).tolist() == getattr(sliced, name).tolist()
    assert whole.failures == sliced.failures


def test_a_repeated_id_is_counted_within_its_phase_only() -> None:
    read = columns([record(), record(), record(phase="drain"), record(index=1)])
    assert read.duplicates == 1


def test_turns_and_phases_make_ids_of_their_own() -> None:
    ids = [("all/a-000001", "measure"), ("all/a-000001.1", "measure"), ("solo/a-000001", "measure"), ("a-000001", "m")]
    assert columns([record(request_id=name, phase=phase) for name, phase in ids]).duplicates == 0
    again = [("all/a-000001.1", "measure"), ("all/a-000001.1", "measure"), ("all/a-000001.1", "drain")]
    assert columns([record(request_id=name, phase=phase) for name, phase in again]).duplicates == 1


def test_what_the_engine_tells_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_BYTES", 500)  # about one record
    told = [
        {"queued_s": 0.5, "prefill_s": 0.25, "decode_s": 1.0},
        None,
        {"queued_s": 0.125},
        {"decode_s": 2.0, "x": 1.0},
    ]
    read = columns([record(index=index, engine=engine) for index, engine in enumerate(told)])
    assert read.queued_s.tolist() == [
        0.5,
        pytest.approx(math.nan, nan_ok=True),
        0.125,
        pytest.approx(math.nan, nan_ok=True),
    ]
    assert read.computed_s.tolist() == [1.25, *[pytest.approx(math.nan, nan_ok=True)] * 3]


def test_endpoints_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_BYTES", 500)  # about one record
    names = ["http://b", None, "http://a", "http://b"]
    read = columns([record(index=index, endpoint=name) for index, name in enumerate(names)])
    assert read.endpoints == ("http://b", "http://a")
    assert read.endpoint.tolist() == [0, -1, 1, 0]


def test_sessions_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_BYTES", 500)  # about one record
    names = ["x", None, "y", "x"]
    read = columns([record(index=index, session=name, turn=0) for index, name in enumerate(names)])
    assert read.session.tolist() == [0, -1, 1, 0]
    assert columns([record()]).session.tolist() == [-1]
    assert columns([]).session.tolist() == []


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[float] = []
    read_requests(write(tmp_path, record().to_json()), ["a"], seen.append)
    assert seen == [1.0]
