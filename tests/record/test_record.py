"""Records and their JSON form."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.record import OUTCOMES, RequestRecord
from fairshare_locust.record.record import SCHEMA, Outcome

_LINE = (
    b'{"schema":1,"request_id":"chat-000017","tenant":"chat","phase":"measure","worker":0,"index":17,'
    b'"scheduled_s":3.201,"sent_s":3.2012,"headers_s":3.2031,"first_token_s":3.441,"last_token_s":5.9102,'
    b'"ended_s":5.9107,"outcome":"ok","status":200,"error":null,"finish_reason":"length","input_tokens":512,'
    b'"output_tokens":128,"tokens_from":"usage","requested_output_tokens":128,"chunk_gap_us":[19873,20110],'
    b'"chunk_tokens":null,"endpoint":"http://127.0.0.1:8000","api":"openai_chat","model":"tiny",'
    b'"session":null,"turn":null,"engine":null,"prompt_sha":"9f2c000000000000"}\n'
)
_RECORD = RequestRecord(
    request_id="chat-000017",
    tenant="chat",
    phase="measure",
    worker=0,
    index=17,
    scheduled_s=3.201,
    sent_s=3.2012,
    headers_s=3.2031,
    first_token_s=3.441,
    last_token_s=5.9102,
    ended_s=5.9107,
    outcome="ok",
    status=200,
    finish_reason="length",
    input_tokens=512,
    output_tokens=128,
    tokens_from="usage",
    requested_output_tokens=128,
    chunk_gap_us=[19873, 20110],
    endpoint="http://127.0.0.1:8000",
    api="openai_chat",
    model="tiny",
    prompt_sha="9f2c000000000000",
)


def test_the_line_of_a_record() -> None:
    """Names and their order are a file format that other people's scripts read."""
    assert _RECORD.to_json() == _LINE
    assert RequestRecord.from_json(_LINE) == _RECORD
    assert RequestRecord.from_json(_LINE.decode()) == _RECORD


def test_outcomes() -> None:
    assert typing.get_args(Outcome) == OUTCOMES
    assert len(set(OUTCOMES)) == 8


def test_what_did_not_happen_is_null() -> None:
    shed = RequestRecord(
        request_id="chat-000001", tenant="chat", phase="measure", worker=0, index=1, scheduled_s=0.5, outcome="shed"
    )
    line = json.loads(shed.to_json())
    assert line["sent_s"] is None
    assert line["output_tokens"] is None
    assert line["chunk_gap_us"] is None
    assert list(line) == [field.name for field in dataclasses.fields(RequestRecord)]


_STAMP = st.floats(-1e6, 1e9, allow_nan=False)
_COUNT = st.integers(0, 2**53)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_RECORDS = st.builds(
    RequestRecord,
    request_id=_TEXT,
    tenant=_TEXT,
    phase=_TEXT,
    worker=_COUNT,
    index=_COUNT,
    scheduled_s=_STAMP,
    sent_s=st.none() | _STAMP,
    headers_s=st.none() | _STAMP,
    first_token_s=st.none() | _STAMP,
    last_token_s=st.none() | _STAMP,
    ended_s=st.none() | _STAMP,
    outcome=st.sampled_from(OUTCOMES),
    status=st.none() | st.integers(100, 999),
    error=st.none() | _TEXT,
    finish_reason=st.none() | _TEXT,
    input_tokens=st.none() | _COUNT,
    output_tokens=st.none() | _COUNT,
    tokens_from=st.sampled_from([None, "usage", "tokenizer", "chunks"]),
    requested_output_tokens=st.none() | _COUNT,
    chunk_gap_us=st.none() | st.lists(_COUNT, max_size=5),
    chunk_tokens=st.none() | st.lists(_COUNT, max_size=5),
    endpoint=st.none() | _TEXT,
    api=st.none() | _TEXT,
    model=st.none() | _TEXT,
    session=st.none() | _TEXT,
    turn=st.none() | _COUNT,
    prompt_sha=st.none() | _TEXT,
)


@settings(deadline=None, max_examples=200)
@given(record=_RECORDS)
def test_json_and_back(record: RequestRecord) -> None:
    line = record.to_json()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert RequestRecord.from_json(line) == record
    assert json.loads(line) == dataclasses.asdict(record)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[]", "a record is a JSON object, found list"),
        (b'{"schema": 2}', f"record schema 2 is unknown; this version reads {SCHEMA}"),
        (b"{}", "record schema None is unknown"),
        (b'{"schema": 1, "zeta": 1, "alpha": 2}', "unknown keys in a record: alpha, zeta"),
        (b'{"schema": 1', "unexpected end"),
        (b"", "empty"),
    ],
)
def test_lines_that_are_no_record(line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RequestRecord.from_json(line)


def test_a_line_that_lacks_something_is_no_record() -> None:
    with pytest.raises(
        ValueError, match="keys missing in a record: index, outcome, phase, request_id, scheduled_s, worker"
    ):
        RequestRecord.from_json(b'{"schema": 1, "tenant": "chat"}')


def test_a_record_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _RECORD.outcome = "timeout"  # type: ignore[misc]
