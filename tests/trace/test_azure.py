"""Azure's traces: times to the tenth of a microsecond, in any of the ways the files write them; faults by line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.trace import read_trace
from fairshare_locust.trace.rows import Rows

_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
_SAMPLE = Path(__file__).resolve().parents[2] / "profiles/traces/azure_sample.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("azure")


def read(folder: Path, *lines: str, end: str = "\n", header: str = _HEADER) -> Rows:
    path = folder / "trace.csv"
    path.write_bytes(end.join([header, *lines, ""]).encode())
    return read_trace(path, "azure")


def fault(folder: Path, *lines: str | bytes, header: str = _HEADER) -> str:
    """What is said of a file, without its path."""
    path = folder / "trace.csv"
    encoded = [line if isinstance(line, bytes) else line.encode() for line in (header, *lines)]
    path.write_bytes(b"\n".join([*encoded, b""]))
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "azure")
    return str(caught.value).replace(f"{path}", "")


def test_2023(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "2023-11-16 18:17:03.9799600,4808,10",
        "2023-11-16 18:17:04.0319569,3180,8",
        "2023-11-16 18:18:03.9799600,110,27",
        end="\r\n",
    )
    assert rows.times_s.tolist() == [0, pytest.approx(0.0519969, abs=1e-9), 60]
    assert rows.input_tokens.tolist() == [4808, 3180, 110]
    assert rows.output_tokens.tolist() == [10, 8, 27]
    assert rows.sessions is None
    assert rows.models is None
    assert rows.blocks is None


def test_2024_with_offset_and_whole_seconds(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "2024-05-10 00:00:00.009930+00:00,2162,5",
        "2024-05-10 00:00:01+00:00,2399,6",
        "2024-05-10 02:00:02Z,1,2",
        "2024-05-10T05:30:03.5+05:30,3,4",
        "2024-05-10 00:00:04,5,6",
    )
    seconds = [0, 0.99007, 3.49007, 3.99007, 7201.99007]
    assert rows.times_s.tolist() == pytest.approx(seconds, abs=1e-9)
    assert rows.input_tokens.tolist() == [2162, 2399, 3, 5, 1]


def test_rows_of_one_time_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = read(tmp_path, *(f"2024-05-10 00:00:0{second},{i},1" for i, second in enumerate([5, 1, 5, 1, 0, 5])))
    assert rows.times_s.tolist() == [0, 1, 1, 5, 5, 5]
    assert rows.input_tokens.tolist() == [4, 1, 3, 0, 2, 5]


def test_a_week_keeps_tenths_of_a_microsecond(tmp_path: Path) -> None:
    rows = read(tmp_path, "2024-05-10 00:00:00.0000001,1,1", "2024-05-19 23:59:59.9999999,1,1")
    assert rows.times_s[1] == pytest.approx(863999.9999998, abs=2e-10, rel=0)


def test_columns_may_stand_in_another_order_beside_others(tmp_path: Path) -> None:
    rows = read(
        tmp_path, "10,0,2025-01-01 00:00:00,20", header="\ufeffGeneratedTokens,NumImages, TIMESTAMP,ContextTokens"
    )
    assert (rows.times_s.tolist(), rows.input_tokens.tolist(), rows.output_tokens.tolist()) == ([0], [20], [10])


def test_quotes_and_empty_lines_mean_nothing(tmp_path: Path) -> None:
    assert len(read(tmp_path, '"2024-05-10 00:00:00","7","8"', "", "2024-05-10 00:00:01,7,8", "")) == 2


def test_the_sample() -> None:
    assert _SAMPLE.read_bytes().count(b"\r\n") == _SAMPLE.read_bytes().count(b"\n") == 121
    rows = read_trace(_SAMPLE, "azure")
    assert len(rows) == 120
    assert rows.times_s[0] == 0
    assert 50 < rows.times_s[-1] < 60


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("2024-05-10 00:00:00,-5,7", "ContextTokens: found '-5'; must be a whole number from 0 to 10,000,000"),
        ("2024-05-10 00:00:00,5,7.5", "GeneratedTokens: found '7.5'; must be a whole number from 0 to 10,000,000"),
        ("2024-05-10 00:00:00,,7", "ContextTokens: found ''; must be a whole number from 0 to 10,000,000"),
        ("2024-05-10 00:00:00, 5,7", "ContextTokens: found ' 5'; must be a whole number from 0 to 10,000,000"),
        ("2024-05-10 00:00:00,0x1F,7", "ContextTokens: found '0x1F'; must be a whole number from 0 to 10,000,000"),
        ("2024-05-10 00:00:00,10000001,7", "ContextTokens: found '10000001'; must be a whole number from 0 to"),
        ("2024-02-30 00:00:00,5,7", "TIMESTAMP: found '2024-02-30 00:00:00'; must be a date and time such as"),
        ("2024-05-10 24:00:00,5,7", "TIMESTAMP: found '2024-05-10 24:00:00'; must be a date and time such as"),
        ("yesterday,5,7", "TIMESTAMP: found 'yesterday'; must be a date and time such as 2023-11-16 18:17:03.9799600"),
        ("2024-05-10 00:00:00,5", f"found 2 columns; must be 3: {_HEADER}"),
        ("2024-05-10 00:00:00,5,7,9", f"found 4 columns; must be 3: {_HEADER}"),
        (b"2024-05-10 00:00:00,\xff,7", "not UTF-8 (byte 20 of the line)"),
        (b"\xff,5,7", "not UTF-8 (byte 0 of the line)"),
        ('2024-05-10 00:00:00,5,"7', "not CSV: unexpected end of data"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str | bytes, problem: str) -> None:
    said = fault(tmp_path, "2024-05-10 00:00:00,5,7", "", line, "2024-05-10 00:00:00,5,7")
    assert said.startswith(f":4: {problem}")
    assert "\n" not in said


def test_every_broken_row_is_told_at_once(tmp_path: Path) -> None:
    good = "2024-05-10 00:00:00,5,7"
    said = fault(tmp_path, good, "1,2,3", good, "2024-05-10 00:00:00,x,y", "2024-05-10 00:00:00,5").split("\n")
    assert [line.split(":")[1] for line in said] == ["3", "5", "5", "6"]


def test_twenty_broken_rows_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    said = fault(tmp_path, *["x"] * 100_000).split("\n")
    assert [line.split(":")[1] for line in said[:-1]] == [str(number) for number in range(2, 22)]
    assert said[-1] == "and 99980 more"


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("TIMESTAMP,ContextTokens", "also needs GeneratedTokens (no known format has these columns)"),
        ("", "found columns none; format azure also needs TIMESTAMP, ContextTokens, GeneratedTokens"),
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
            "also needs TIMESTAMP, ContextTokens, GeneratedTokens (its columns are those of format burstgpt)",
        ),
        (
            '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}',
            "also needs TIMESTAMP, ContextTokens, GeneratedTokens (its columns are those of format mooncake)",
        ),
        (f"{_HEADER},TIMESTAMP", "found column TIMESTAMP twice; each must stand there once"),
        (b"\xff", "not UTF-8 (byte 0 of the line)"),
    ],
)
def test_a_wrong_header(tmp_path: Path, header: str | bytes, problem: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes((header if isinstance(header, bytes) else header.encode()) + b"\n1,2,3\n")
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "azure")
    assert str(caught.value).startswith(f"{path}:1: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("content", [_HEADER, f"{_HEADER}\n", f"{_HEADER}\r\n\r\n\n"])
def test_a_file_without_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(WorkloadError, match=r"trace\.csv: has no row; a trace of format azure needs at least one"):
        read_trace(path, "azure")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"nothing\.csv: can't be read: No such file or directory"):
        read_trace(tmp_path / "nothing.csv", "azure")


_INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31))
_OFFSETS = st.none() | st.integers(-12 * 60, 14 * 60)


@given(st.lists(st.tuples(_INSTANTS, _OFFSETS, st.integers(0, 10_000_000)), min_size=1, max_size=20))
def test_any_instants_come_out_as_python_reckons_them(
    folder: Path, drawn: list[tuple[datetime, int | None, int]]
) -> None:
    lines, expected = [], []
    for instant, minutes, tokens in drawn:
        offset = (
            "" if minutes is None else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
        )
        zone = UTC if minutes is None else timezone(timedelta(minutes=minutes))
        lines.append(f"{instant:%Y-%m-%d %H:%M:%S.%f}{offset},{tokens},1")
        expected.append((instant.replace(tzinfo=zone), tokens))
    expected.sort(key=lambda row: row[0])
    rows = read(folder, *lines)
    microseconds = [(instant - expected[0][0]) // timedelta(microseconds=1) for instant, _ in expected]
    assert (rows.times_s * 1e6).tolist() == pytest.approx(microseconds, abs=1, rel=1e-15)
    assert rows.input_tokens.tolist() == [tokens for _, tokens in expected]


@given(st.lists(st.text('0123456789-: .,"+Zx\r\t', max_size=40) | st.just("2024-05-10 00:00:00,5,7"), max_size=6))
def test_any_file_is_read_or_refused(folder: Path, lines: list[str]) -> None:
    path = folder / "trace.csv"
    path.write_bytes("\n".join([_HEADER, *lines]).encode())
    said = ""
    try:
        rows = len(read_trace(path, "azure"))
    except WorkloadError as error:
        rows, said = 0, str(error)
    assert rows > 0 or said.startswith(str(path))
