"""BurstGPT: models, sessions where a file has them, failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fairshare_locust.errors import WorkloadError
from fairshare_locust.trace import read_trace

_OLD = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
_NEW = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
_SAMPLE = Path(__file__).resolve().parents[2] / "profiles/traces/burstgpt_sample.csv"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


def test_older_files_have_no_session(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        _OLD,
        "5,ChatGPT,472,18,490,Conversation log",
        "45,ChatGPT,1087,230,1317,Conversation log",
        "118,GPT-4,417,0,417,Conversation log",
    )
    rows = read_trace(path, "burstgpt")
    assert rows.times_s.tolist() == [0, 40, 113]
    assert rows.input_tokens.tolist() == [472, 1087, 417]
    assert rows.output_tokens.tolist() == [18, 230, 0]
    assert rows.models is not None
    assert rows.models.names == ("ChatGPT", "GPT-4")
    assert rows.models.codes.tolist() == [0, 0, 1]
    assert rows.sessions is not None
    assert rows.sessions.codes.tolist() == [-1, -1, -1]


def test_newer_files_have_sessions_except_for_the_api(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        _NEW,
        "19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log",
        "19440192.25,,1,GPT-4,36,29,65,API log",
        "19440161.0,d5983bf9-4b48,2,ChatGPT,36,29,65,Conversation log",
        "19440193.0,1722ac82-0a46,2,ChatGPT,1,2,3,Conversation log",
    )
    rows = read_trace(path, "burstgpt")
    assert rows.times_s.tolist() == [0, 51, 82.25, 83]
    assert rows.sessions is not None
    named = [rows.sessions.names[code] if code >= 0 else None for code in rows.sessions.codes]
    assert named == ["1722ac82-0a46", "d5983bf9-4b48", None, "1722ac82-0a46"]
    assert rows.models is not None
    assert [rows.models.names[code] for code in rows.models.codes] == ["GPT-4", "ChatGPT", "GPT-4", "ChatGPT"]


def test_the_sample() -> None:
    rows = read_trace(_SAMPLE, "burstgpt")
    assert len(rows) == 110
    assert rows.models is not None
    assert set(rows.models.names) == {"ChatGPT", "GPT-4"}
    assert rows.sessions is not None
    assert np.any(rows.sessions.codes == -1)
    assert max(np.bincount(rows.sessions.codes[rows.sessions.codes >= 0])) > 1
    assert 0 < np.sum(rows.output_tokens == 0) < 20


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-1,ChatGPT,1,1,2,API log", "Timestamp: found '-1'; must be seconds, 0 or more"),
        ("nan,ChatGPT,1,1,2,API log", "Timestamp: found 'nan'; must be seconds, 0 or more"),
        ("1,ChatGPT,one,1,2,API log", "Request tokens: found 'one'; must be a whole number from 0 to 10,000,000"),
        ("1,ChatGPT,1,-1,2,API log", "Response tokens: found '-1'; must be a whole number from 0 to 10,000,000"),
        ("1,ChatGPT,1,1", f"found 4 columns; must be 6: {_OLD}"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, _OLD, "5,ChatGPT,472,18,490,Conversation log", line)
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "burstgpt")
    assert str(caught.value) == f"{path}:3: {problem}"


def test_a_header_of_another_format(tmp_path: Path) -> None:
    path = write(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens")
    with pytest.raises(WorkloadError) as caught:
        read_trace(path, "burstgpt")
    assert str(caught.value) == (
        f"{path}:1: found columns TIMESTAMP, ContextTokens, GeneratedTokens; format burstgpt also needs Timestamp, "
        "Model, Request tokens, Response tokens (its columns are those of format azure)"
    )


def test_more_rows_than_are_read_at_once(tmp_path: Path) -> None:
    count = 200_000
    path = write(
        tmp_path, _NEW, *(f"{i}.5,session {i % 7},1,model {i % 3},{i % 1000},{i % 11},0,API log" for i in range(count))
    )
    assert path.stat().st_size > 8 * 2**20
    rows = read_trace(path, "burstgpt")
    index = np.arange(count)
    assert np.array_equal(rows.times_s, index)
    assert np.array_equal(rows.input_tokens, index % 1000)
    assert np.array_equal(rows.output_tokens, index % 11)
    assert rows.sessions is not None
    assert rows.models is not None
    assert rows.sessions.names == tuple(f"session {i}" for i in range(7))
    assert np.array_equal(rows.sessions.codes, index % 7)
    assert np.array_equal(rows.models.codes, index % 3)
