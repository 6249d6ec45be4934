"""Mooncake: milliseconds and prefix blocks from JSONL; faults by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.trace import read_trace

_SAMPLE = Path(__file__).resolve().parents[2] / "profiles/traces/mooncake_sample.jsonl"
_GOOD = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("mooncake")


def row(**changes: Any) -> str:
    fields = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2], **changes}
    return json.dumps({key: value for key, value in fields.items() if value != "absent"})


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "trace.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def test_rows_by_time_with_their_blocks(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        b"\xef\xbb\xbf" + row(timestamp=3052, input_length=1100, output_length=9, hash_ids=[0, 28, 29]).encode(),
        "",
        row(timestamp=1000, input_length=6, output_length=0, hash_ids=[]),
        row(timestamp=3052.5, input_length=513, output_length=1, hash_ids=[0, 30]) + "\r",
        row(timestamp=1000, input_length=7, output_length=2, hash_ids="absent", type="text"),
    )
    rows = read_trace(path, "mooncake")
    assert rows.times_s.tolist() == [0, 0, 2.052, 2.0525]
    assert rows.input_tokens.tolist() == [6, 7, 1100, 513]
    assert rows.output_tokens.tolist() == [0, 2, 9, 1]
    assert rows.blocks is not None
    assert [rows.blocks.of(i) for i in range(4)] == [(), (), (0, 28, 29), (0, 30)]


def test_the_sample_shares_prefixes() -> None:
    rows = read_trace(_SAMPLE, "mooncake")
    assert len(rows) == 60
    blocks = rows.blocks
    assert blocks is not None
    prompts = [blocks.of(i) for i in range(60)]
    assert all(len(ids) == -(-tokens // 512) for ids, tokens in zip(prompts, rows.input_tokens, strict=True))
    assert len({ids[0] for ids in prompts}) == 3
    assert len({ids[:3] for ids in prompts}) < 55


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON: "),
        ("[1]", "found list; must be an object with timestamp, input_length, output_length and hash_ids"),
        (b'{"timestamp": "\xff"}', "not UTF-8 (byte 15 of the line)"),
        (row(timestamp="absent", output_length="absent"), "timestamp, output_length: missing; a row has timestamp, "),
        (row(timestamp=-1), "timestamp: found -1; must be milliseconds, 0 or more"),
        (row(timestamp="0"), "timestamp: found '0'; must be milliseconds, 0 or more"),
        (row(timestamp=True), "timestamp: found True; must be milliseconds, 0 or more"),
        (row(input_length=1.5), "input_length: found 1.5; must be a whole number from 0 to 10,000,000"),
        (row(input_length=10_000_001), "input_length: found 10000001; must be a whole number from 0 to 10,000,000"),
        (row(output_length=-3), "output_length: found -3; must be a whole number from 0 to 10,000,000"),
        (row(hash_ids=None), "hash_ids: found None; must be a list of whole numbers"),
        (row(hash_ids={}), "hash_ids: found {}; must be a list of whole numbers"),
        (row(hash_ids=[1, True]), "hash_ids: found [1, True]; must be a list of whole numbers"),
        (row(hash_ids=[1, "2"]), "hash_ids: found [1, '2']; must be a list of whole numbers"),
        (row(hash_ids=[1, 2**63]), "hash_ids: found [1, 9223372036854775808]; must be a list of whole numbers"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str | bytes, problem: str) -> None:
    path = write(tmp_path, _GOOD, "", line, _GOOD)
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "mooncake")
    assert str(caught.value).startswith(f"{path}:3: {problem}")
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut_short(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_trace(write(tmp_path, row(timestamp="9" * 10_000)), "mooncake")
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_every_broken_row_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "x", _GOOD, *["y"] * 30)
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "mooncake")
    said = str(caught.value).split("\n")
    assert said[0].startswith(f"{path}:1: not JSON")
    assert said[19].startswith(f"{path}:21: not JSON")
    assert said[20:] == ["and 11 more"]


def test_a_csv_file_is_told_its_format(tmp_path: Path) -> None:
    path = write(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens", "2024-05-10 00:00:00,5,7")
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "mooncake")
    assert str(caught.value).startswith(f"{path}:1: found columns TIMESTAMP, ContextTokens, GeneratedTokens; ")
    assert str(caught.value).endswith("(its columns are those of format azure)")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_rows(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WorkloadError, match=r"trace\.jsonl: has no row; a trace of format mooncake needs at least one"):
        read_trace(write(tmp_path, content), "mooncake")


_ROWS = st.tuples(
    st.integers(0, 10**12), st.integers(0, 10**7), st.integers(0, 10**7), st.lists(st.integers(-(2**63), 2**63 - 1))
)


@given(st.lists(_ROWS, min_size=1, max_size=20))
def test_any_rows_come_back(folder: Path, drawn: list[tuple[int, int, int, list[int]]]) -> None:
    path = write(
        folder,
        *(
            row(timestamp=at, input_length=tokens, output_length=answer, hash_ids=ids)
            for at, tokens, answer, ids in drawn
        ),
    )
    rows = read_trace(path, "mooncake")
    expected = sorted(drawn, key=lambda fields: fields[0])
    assert rows.times_s.tolist() == [(at - expected[0][0]) / 1000 for at, *_ in expected]
    assert rows.blocks is not None
    got = [(rows.input_tokens[i], rows.output_tokens[i], list(rows.blocks.of(i))) for i in range(len(rows))]
    assert got == [(tokens, answer, ids) for _, tokens, answer, ids in expected]


@given(st.lists(st.binary(max_size=30) | st.just(_GOOD.encode()), max_size=5))
def test_any_file_is_read_or_refused(folder: Path, lines: list[bytes]) -> None:
    path = write(folder, *lines)
    said = ""
    try:
        rows = len(read_trace(path, "mooncake"))
    except WorkloadError as error:
        rows, said = 0, str(error)
    assert rows > 0 or said.startswith(str(path))
