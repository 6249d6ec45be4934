"""Records put together from what load processes kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import requests as requests_module
from analysis.__main__ import main
from analysis.merge import Merge, merge_records
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RequestRecord
from tests.analysis.build import record, write_run
from tests.analysis.random_records import records

SIX = [record("a", index, worker=index % 2) for index in range(6)]


def lines(*some: RequestRecord) -> bytes:
    return b"".join(one.to_json() for one in some)


def kept(run: Path, worker: int, content: bytes, kind: str = "requests") -> Path:
    path = run / "workers" / f"{worker}-{kind}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def crashed(folder: Path, *own: RequestRecord, torn: bytes = b"") -> Path:
    """A run whose master was killed."""
    run = write_run(folder, own, info={"state": "running", "ended_s": None})
    with open(run / "requests.jsonl", "ab") as file:
        file.write(torn)
    return run


def read(run: Path) -> list[RequestRecord]:
    return [RequestRecord.from_json(line) for line in (run / "requests.jsonl").read_bytes().splitlines()]


def told(merge: Merge) -> list[tuple[str, int, int, bool]]:
    return [(taken.path.name, taken.records, taken.new, taken.torn) for taken in (merge.run, *merge.files)]


def test_what_is_there_stays_and_what_is_new_follows(tmp_path: Path) -> None:
    run = crashed(tmp_path / "run", SIX[3], SIX[0], torn=SIX[1].to_json()[:99])
    kept(run, 10, lines(SIX[5]))
    kept(run, 9, lines(SIX[1], SIX[3]))
    elsewhere = tmp_path / "copied.jsonl"
    elsewhere.write_bytes(lines(SIX[0], SIX[2], SIX[4]) + SIX[5].to_json()[:-2])
    before = (run / "run.json").read_bytes()
    merge = merge_records(run, [elsewhere])
    assert told(merge) == [
        ("requests.jsonl", 2, 2, True),
        ("9-requests.jsonl", 2, 1, False),
        ("10-requests.jsonl", 1, 1, False),
        ("copied.jsonl", 3, 2, True),
    ]
    assert read(run) == [SIX[3], SIX[0], SIX[1], SIX[5], SIX[2], SIX[4]]
    assert merge.records == 6
    assert (run / "run.json").read_bytes() == before
    assert len(list((run / "workers").iterdir())) == 2


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    run = crashed(tmp_path, *SIX[:2], torn=b'{"schema')
    kept(run, 0, lines(*SIX))
    assert merge_records(run).changed
    file = run / "requests.jsonl"
    before, stamp = file.read_bytes(), file.stat().st_mtime_ns
    again = merge_records(run)
    assert (again.changed, again.records, again.files[0].new) == (False, 6, 0)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, stamp)
    assert sorted(path.name for path in run.iterdir()) == [
        *("profile.resolved.yaml", "requests.jsonl", "run.json", "workers")
    ]


def test_the_first_of_several_records_of_a_request_stays(tmp_path: Path) -> None:
    """The master's may have its tokens counted, the worker's own never has."""
    run = crashed(tmp_path, record("a", tokens_from="tokenizer"), record("a", tokens_from="tokenizer"))
    kept(run, 0, lines(record("a", tokens_from="chunks"), record("a", phase="drain"), record("b", request_id="b-1")))
    merge = merge_records(run)
    assert told(merge) == [("requests.jsonl", 2, 1, False), ("0-requests.jsonl", 3, 2, False)]
    assert [(one.tokens_from, one.phase) for one in read(run)] == [
        *(("tokenizer", "measure"), ("usage", "drain"), ("usage", "measure"))
    ]


def test_a_run_that_had_written_nothing_gets_everything(tmp_path: Path) -> None:
    run = crashed(tmp_path)
    (run / "requests.jsonl").unlink()
    kept(run, 0, lines(*SIX).rstrip(b"\n"))  # whole, but for its line end
    assert merge_records(run).records == 6
    assert (run / "requests.jsonl").read_bytes() == lines(*SIX)


def test_a_file_counts_once_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = crashed(tmp_path, *SIX[:2])
    path = kept(run, 0, lines(*SIX))
    monkeypatch.chdir(tmp_path)
    merge = merge_records(run, [Path("workers") / path.name, run / "requests.jsonl"])
    assert told(merge) == [("requests.jsonl", 2, 2, False), ("0-requests.jsonl", 6, 4, False)]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"{nonsense\n", "line 3: no JSON"),
        (b"[1]\n", "line 3: a record is a JSON object, found list"),
        (lines(record("c")), "line 3: tenant 'c' is not one of a, b"),
        (lines(record()).replace(b'"schema":1', b'"schema":9'), "line 3: record schema 9 is unknown"),
        (lines(record()).replace(b"}\n", b"}") + lines(record("a", 9)), "line 3: a line holds one record"),
    ],
)
def test_a_line_that_is_no_record_is_named_and_nothing_changes(tmp_path: Path, broken: bytes, message: str) -> None:
    run = crashed(tmp_path, SIX[0])
    path = kept(run, 0, lines(SIX[1]) + b"\n" + broken + lines(*SIX))
    with pytest.raises(RunDirectoryError) as caught:
        merge_records(run)
    assert f"{path}, {message}" in str(caught.value)
    assert read(run) == [SIX[0]]
    assert not (run / ".requests.jsonl.part").exists()


def test_what_is_missing_or_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"is no run directory: it has no run\.json"):
        merge_records(tmp_path)
    run = crashed(tmp_path / "run", *SIX[:1])
    with pytest.raises(RunDirectoryError, match=r"'nowhere\.jsonl' can't be merged: there is no such file"):
        merge_records(run, [Path("nowhere.jsonl")])
    (run / ".requests.jsonl.part").mkdir()
    with pytest.raises(RunDirectoryError, match=r"\.part can't be written: Is a directory; make room"):
        merge_records(run)


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    run = crashed(tmp_path, *SIX[:1])
    kept(run, 0, lines(*SIX))
    with open(run / "requests.jsonl", "ab"), pytest.raises(RunDirectoryError, match="still being written"):
        merge_records(run)
    assert read(run) == SIX[:1]
    with open(run / "requests.jsonl", "rb"):  # a reader is in nobody's way
        assert merge_records(run).records == 6


def test_more_than_fits_into_memory_is_read_in_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_module, "_SLAB_BYTES", 700)  # about two records
    run = crashed(tmp_path, *SIX[:3], torn=b"{")
    path = kept(run, 0, lines(*SIX) + b"{\n" + lines(*SIX))
    with pytest.raises(RunDirectoryError, match="line 7: no JSON"):
        merge_records(run)
    path.write_bytes(lines(*SIX) + SIX[0].to_json()[:50])
    assert merge_records(run).records == 6


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_however_records_are_spread_and_torn_the_same_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every record is whole in one file at least; anything may be in several, and any file may end in a part of one."""
    every = data.draw(records())
    run = crashed(tmp_path_factory.mktemp("run"))
    owners = [data.draw(st.sets(st.integers(0, 3), min_size=1), label=one.request_id) for one in every]

    def content(file: int) -> bytes:
        own: Sequence[RequestRecord] = [one for one, files in zip(every, owners, strict=True) if file in files]
        tail = data.draw(st.sampled_from(every)).to_json() if every else b"{}\n"
        return lines(*own) + tail[: data.draw(st.integers(0, len(tail) - 2))]  # never a whole one

    (run / "requests.jsonl").write_bytes(content(0))
    for worker in (0, 1):
        kept(run, worker, content(worker + 1))
    copied = run.parent / "copied.jsonl"
    copied.write_bytes(content(3))
    before = [line for line in (run / "requests.jsonl").read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    merge_records(run, [copied])
    merged = (run / "requests.jsonl").read_bytes().splitlines(keepends=True)
    assert sorted(merged) == sorted(one.to_json() for one in every)
    assert merged[: len(before)] == before
    assert not merge_records(run, [copied]).changed


def test_the_command_says_what_it_did_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = crashed(tmp_path, *SIX[:2], torn=b"{")
    own = run / "requests.jsonl"
    path = kept(run, 0, lines(*SIX) + b"{")
    texts = kept(run, 0, b"{}\n", "texts")
    assert main(["merge", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{own}: 2 records; its last line is torn and was left out",
        f"{path}: 6 records, 4 added; its last line is torn and was left out",
        f"{own} now has 6 records",
        f"not counted: the tokens of the answers in {texts}; their records count chunks instead",
        "the files of load processes stay, and can be deleted",
        f"next: python -m analysis report {run}",
    ]
    assert main(["merge", str(run)]) == 0
    assert f"{own} has all 6 records already\n" in capsys.readouterr().out


def test_the_command_without_files_says_where_there_may_be_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = crashed(tmp_path, *SIX)
    assert main(["merge", str(run)]) == 0
    assert f"{run / 'workers'} holds no records; name copies from other hosts after {run}\n" in capsys.readouterr().out
    assert main(["merge", str(run), "nowhere.jsonl"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: 'nowhere.jsonl' can't be merged")
