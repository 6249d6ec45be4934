"""Locust's own CSV files: as its own writers leave them, torn, of other columns, beside records and alone."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis import report_run
from analysis.__main__ import main
from analysis.latency import per_request_ms
from analysis.load import load_run
from analysis.locust_check import describe_locust, response_ms
from analysis.locust_csv import (
    ExceptionRow,
    FailureRow,
    LocustCounts,
    csv_prefix,
    find_prefixes,
    read_histories,
    read_locust_csv,
    users_over_time,
)
from analysis.locust_only import describe
from analysis.report.locust import rows, users_line
from analysis.report.locust_only import build_locust_report
from analysis.summary import summarise
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RequestRecord
from tests.analysis.build import columns, quick_pictures, record, worker, write_run

EVIL = "<script>alert('x')</script> | `no`"
START = 1795224435  # write_run's run started then

# Locust's own writers, in a process of its own, as analysis and its tests do without gevent. Two history rows.
_WRITE = """
import csv, sys
from locust.env import Environment
from locust.stats import StatsCSVFileWriter, PERCENTILES_TO_REPORT
prefix, start, full, evil = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "full", sys.argv[4]
environment = Environment(user_classes=[])
runner = environment.create_local_runner()
writer = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, prefix, full)
writer.stats_history_csv_writer.writerow(writer.stats_history_csv_columns)
writer._stats_history_data_rows(writer.stats_history_csv_writer, start)
stats = environment.stats
for ms in (1500.0, 100.0, 1940.0):
    stats.log_request("openai_chat", "a", ms, 10)
    stats.entries[("a", "TTFT")].log(500.0, 0)
stats.log_request("openai_chat", "a", None, 0)
stats.log_error("openai_chat", "a", RuntimeError(evil))
runner.exceptions["x"] = {"count": 2, "msg": evil, "traceback": 'File "x"\\n  line, two', "nodes": {"local"}}
writer._stats_history_data_rows(writer.stats_history_csv_writer, start + 1)
writer.requests_csv(writer.requests_csv_writer)
writer.failures_csv(writer.failures_csv_writer)
writer.exceptions_csv(writer.exceptions_csv_writer)
writer.close_files()
"""


@cache
def _written(full: bool) -> dict[str, bytes]:
    """What Locust writes, by kind of file."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"{folder}/p", str(START), "full" if full else "", EVIL]
        subprocess.run([sys.executable, "-c", _WRITE, *arguments], check=True, capture_output=True)
        return {path.stem.removeprefix("p_"): path.read_bytes() for path in Path(folder).glob("p_*.csv")}


def locusts(folder: Path, prefix: str = "locust", *, full: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in _written(full).items():
        (folder / f"{prefix}_{kind}.csv").write_bytes(content)
    return folder / prefix


def stats(folder: Path, *lines: str) -> Path:
    """A stats file of the few columns that are needed, and the mean."""
    header = "Type,Name,Request Count,Failure Count,Average Response Time,Max Response Time\n"
    (folder / "locust_stats.csv").write_text(header + "".join(f"{line}\n" for line in lines))
    return folder


def test_what_locust_itself_writes_is_read(tmp_path: Path) -> None:
    told = read_locust_csv(locusts(tmp_path))
    assert told is not None
    assert told.rows is not None
    ttft, a = told.rows
    assert (a.type, a.name, a.requests, a.failures) == ("openai_chat", "a", 4, 1)
    assert a.mean_ms == pytest.approx((1500 + 100 + 1940) / 3)  # the fourth was never timed
    assert (a.min_ms, a.max_ms, a.median_ms) == (100, 1940, 1500)
    assert a.percentiles_ms["99%"] == 1900  # of 1,940: two digits
    assert (ttft.type, ttft.requests, ttft.mean_ms) == ("TTFT", 3, 500)
    assert told.total is not None
    assert told.total.requests == 4
    assert told.failures == (FailureRow("openai_chat", "a", f"RuntimeError({EVIL!r})", 1),)
    assert told.exceptions == (ExceptionRow(2, EVIL, 'File "x"\n  line, two', "local"),)
    assert told.torn == ()


def test_its_ttft_rows_are_no_requests(tmp_path: Path) -> None:
    told = read_locust_csv(locusts(tmp_path))
    assert told is not None
    assert told.counts("a") == LocustCounts(4, 1)
    assert told.counts("b") == LocustCounts(0, 0)


def test_its_zeros_for_no_data_are_none(tmp_path: Path) -> None:
    """Locust writes N/A and 0 before the first request, and 0 for requests that have no time."""
    told = read_locust_csv(locusts(tmp_path))
    assert told is not None
    assert told.history is not None
    assert told.history.unix_s == [START, START + 1]
    assert told.history.percentiles_ms["99%"] == [None, None]
    never_timed = read_locust_csv(stats(tmp_path, "x,shed,7,7,0.0,0", "x,none,0,0,0.0,0") / "locust")
    assert never_timed is not None
    assert [row.mean_ms for row in never_timed.rows or ()] == [None, None]


def test_without_full_history_percentiles_are_of_all_requests_so_far(tmp_path: Path) -> None:
    prefix = locusts(tmp_path, full=False)
    assert (read_histories(prefix) or {}).keys() == {("", "Aggregated")}
    assert (read_histories(prefix) or {})["", "Aggregated"].percentiles_ms["50%"] == [None, 1500]
    only = describe(prefix)
    assert only.content["history"]["percentiles_of"] == "all requests so far"
    assert any("--csv-full-history" in one["how"] for one in only.content["cannot"])


def test_full_history_has_each_name(tmp_path: Path) -> None:
    prefix = locusts(tmp_path)
    assert (read_histories(prefix) or {}).keys() == {("", "Aggregated"), ("openai_chat", "a"), ("TTFT", "a")}
    assert (read_histories(prefix, every=False) or {}).keys() == {("", "Aggregated")}


def test_no_file_is_nothing(tmp_path: Path) -> None:
    assert read_locust_csv(tmp_path / "locust") is None
    assert read_histories(tmp_path / "locust") is None


def test_each_missing_file_is_none(tmp_path: Path) -> None:
    prefix = locusts(tmp_path)
    for kind in ("stats", "failures", "exceptions"):
        (tmp_path / f"locust_{kind}.csv").unlink()
    told = read_locust_csv(prefix)
    assert told is not None
    assert (told.rows, told.total, told.failures, told.exceptions, told.counts("a")) == (None,) * 5
    assert told.history is not None


def test_wherever_a_crash_cuts_a_file_what_is_whole_is_read(tmp_path: Path) -> None:
    prefix = locusts(tmp_path)
    path = tmp_path / "locust_stats_history.csv"
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    header = ends[0]
    for cut in range(header, len(whole)):
        path.write_bytes(whole[:cut])
        torn: list[str] = []
        histories = read_histories(prefix, torn=torn) or {}
        assert sum(len(one.users) for one in histories.values()) == sum(end <= cut for end in ends) - 1
        assert torn == ([] if cut in ends else [path.name])


def test_a_cut_inside_a_quoted_traceback_is_torn(tmp_path: Path) -> None:
    prefix = locusts(tmp_path)
    path = tmp_path / "locust_exceptions.csv"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"  line, two")])  # ends with a line end, but inside a field
    told = read_locust_csv(prefix)
    assert told is not None
    assert told.exceptions == ()
    assert told.torn == ("locust_exceptions.csv",)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("stats", "Type,Name\nx,a\n"),
        ("stats", "Type,Name,Request Count,Failure Count\nx,a,many,0\n"),
        ("stats", "Type,Name,Request Count,Failure Count\nx,a\ny,b,1,0\n"),
        ("stats_history", "Timestamp,Name\n1,a\n"),
        ("failures", "Method,Name\nx,a\n"),
        ("exceptions", "Count\nno\n"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str, content: str) -> None:
    (tmp_path / f"locust_{kind}.csv").write_text(content)
    with pytest.raises(RunDirectoryError, match=rf"locust_{kind}.csv can't be read: .*mend it or move it away"):
        read_locust_csv(tmp_path / "locust")


def test_users_are_told_where_they_change(tmp_path: Path) -> None:
    lines = [f"{START + second},{users},,Aggregated" for second, users in enumerate((0, 5, 5, 5, 5, 2, 2))]
    (tmp_path / "locust_stats_history.csv").write_text(
        "Timestamp,User Count,Type,Name\n" + "".join(f"{line}\n" for line in lines)
    )
    histories = read_histories(tmp_path / "locust") or {}
    users = users_over_time(histories["", "Aggregated"], START - 0.5)
    assert users == {"t_s": [0.5, 1.5, 4.5, 5.5, 6.5], "users": [0, 5, 5, 2, 2]}
    assert users_line(users) == "Locust's users: 5 at most, from 1.5 to 4.5 s; 2 at the end"
    assert users_line(None) is None
    assert users_line({"t_s": [0.0], "users": [0]}) == "Locust counted no user"


# --- beside the records of a run


def three() -> list[RequestRecord]:
    """Response times of 500 + 100, 500 and 250 ms; the last failed, the shed one has none. TTFT 500, 500."""
    return [
        record("a", 0, gaps_us=[60_000, 40_000]),  # TPOT 50 ms
        record("a", 1),
        record("a", 2, outcome="timeout", ended_s=1.25),
        record("a", 3, outcome="shed"),
    ]


AGREEING = ("openai_chat,a,4,2,450.0,600", "TTFT,a,2,0,500.0,500", "TPOT,a,1,0,50.0,50", ",Aggregated,4,2,450.0,600")


def checked(folder: Path, **values: Any) -> dict[str, Any]:
    run = load_run(write_run(folder, three(), **values))
    content = describe_locust(run, per_request_ms(run.requests))
    assert content is not None
    return content


def test_the_time_that_locust_is_told() -> None:
    assert response_ms(columns(three())).tolist()[:3] == [600, 500, 250]
    assert str(response_ms(columns(three()))[3]) == "nan"


def test_what_agrees_is_no_warning(tmp_path: Path) -> None:
    content = checked(stats(tmp_path, *AGREEING))
    own = [one for one in content["cross_check"] if one["tenant"] == "a"]
    assert [(one["what"], one["ours"], one["locust"], one["agree"]) for one in own] == [
        ("requests", 4, 4, True),
        ("failures", 2, 2, True),
        ("e2e_mean_ms", 450, 450, True),
        ("ttft_count", 2, 2, True),
        ("ttft_mean_ms", 500, 500, True),
        ("tpot_count", 1, 1, True),
        ("tpot_mean_ms", 50, 50, True),
    ]
    nothing = [(one["ours"], one["agree"]) for one in content["cross_check"] if one["tenant"] == "b"]
    assert nothing == [(0, True), (0, True), (None, None), (0, True), (None, None), (0, True), (None, None)]
    assert content["warnings"] == []
    assert (content["users"], content["failures"], content["exceptions"]) == (None, None, None)


def test_a_disagreement_is_a_warning_with_both_figures(tmp_path: Path) -> None:
    content = checked(stats(tmp_path, "openai_chat,a,5,2,450.0,600", *AGREEING[1:]))
    (line,) = content["warnings"]
    assert line.startswith("a: Locust's CSV and requests.jsonl disagree: requests 5 against 4; look in the log")


@pytest.mark.parametrize(("mean_ms", "agrees"), [(450.04, True), (450.1, False), (0.001, False)])
def test_means_agree_to_a_ten_thousandth(tmp_path: Path, mean_ms: float, agrees: bool) -> None:
    content = checked(stats(tmp_path, f"openai_chat,a,4,2,{mean_ms},600", *AGREEING[1:]))
    assert [one["agree"] for one in content["cross_check"] if one["what"] == "e2e_mean_ms"] == [agrees, None]
    figures = [f"mean response time in ms {mean_ms:,.2f} against 450.00" in line for line in content["warnings"]]
    assert figures == ([] if agrees else [True])


def test_a_row_that_is_missing_for_one_tenant_counts_as_zero(tmp_path: Path) -> None:
    content = checked(stats(tmp_path, AGREEING[0], "TTFT,b,1,0,1.0,1"))
    figures = {(one["tenant"], one["what"]): (one["locust"], one["agree"]) for one in content["cross_check"]}
    assert figures["a", "ttft_count"] == (0, False)
    assert figures["a", "tpot_count"] == (None, None)  # nobody has such a row: an older file


def test_what_explains_a_difference_is_told(tmp_path: Path) -> None:
    for info, why in (
        ({"state": "interrupted"}, "the run's state is interrupted"),
        ({"workers": [worker(0), worker(1, state="lost")]}, "load processes were lost"),
    ):
        stats(tmp_path, "openai_chat,a,3,2,450.0,600", *AGREEING[1:])
        assert why in checked(tmp_path, info=info)["warnings"][0]


def test_recounted_tokens_are_not_compared(tmp_path: Path) -> None:
    one = record("a", 0, gaps_us=[60_000, 40_000], tokens_from="tokenizer", output_tokens=9)
    run = load_run(write_run(stats(tmp_path, "x,a,1,0,600.0,600", "TPOT,a,1,0,50.0,50"), [one]))
    content = describe_locust(run, per_request_ms(run.requests))
    assert content is not None
    assert next(one["agree"] for one in content["cross_check"] if one["what"] == "tpot_mean_ms") is None
    assert content["warnings"] == []


def test_without_locusts_files_there_is_nothing_to_compare(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path, three()))
    assert describe_locust(run, per_request_ms(run.requests)) is None
    assert rows({"locust": None}) is None


def test_the_page_of_a_run_shows_and_escapes_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path, three())
    locusts(folder)
    with quick_pictures():
        summary = report_run(folder)
    page = (folder / "analysis" / "report.html").read_text()
    assert "Locust's own figures" in page.replace("&#39;", "'")
    assert EVIL not in page
    assert "&lt;script&gt;alert(" in page
    assert "mean response time in ms" in page
    locust = summary.content["locust"]
    assert locust["users"] == {"t_s": [0.0, 1.0], "users": [0, 0]}
    assert locust["failures"][0]["occurrences"] == 1
    (disagree, raised) = locust["warnings"]
    assert "failed requests 1 against 2" in disagree
    assert raised.startswith("Locust caught 2 exceptions in the load's own code")
    assert set(locust["warnings"]) <= set(summary.content["warnings"])
    assert summary.content["sources"]["tenants"]["a"]["locust_failures"] == 1
    assert summary.content["sources"]["tenants"]["a"]["agree"] is False


# --- alone in a folder


def test_a_folder_of_only_csv_gets_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locusts(tmp_path, "load")
    assert main(["report", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "analysis" / "summary.json").read_bytes())
    assert summary["kind"] == "locust_csv"
    assert [row["name"] for row in summary["names"]] == ["a", "a"]
    assert summary["names"][1]["failure_share"] == 0.25
    assert summary["names"][0]["failures"] is None  # a TTFT row can't fail
    assert summary["total"]["percentiles_rounded_ms"]["99%"] == 1900
    what = [one["what"] for one in summary["cannot"]]
    assert what[:2] == ["TPOT", "tails, and intervals of percentiles"]
    page = (tmp_path / "analysis" / "report.html").read_text()
    assert EVIL not in page
    assert "http" not in page.split("<body>")[1].split("<script>")[0]
    assert "rounded" in page
    assert (tmp_path / "figures" / "locust.png").stat().st_size > 0
    document = (tmp_path / "analysis" / "report.md").read_text()
    assert EVIL not in document
    assert "| a | openai\\_chat | 4 | 1 |" in document
    text = capsys.readouterr().out
    assert "tokens per second, cost and energy" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_cut_on_the_terminal(tmp_path: Path, width: int) -> None:
    prefix = stats(tmp_path, f"GET,/{'long' * 30},1234567,234567,123.4,56789", ",Aggregated,1234567,234567,123.4,56789")
    console = Console(file=io.StringIO(), width=width, color_system=None)
    build_locust_report(prefix / "locust", console=console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("1,234,567") == 2
    assert max(len(line) for line in text.splitlines() if not line.startswith("report:")) <= width


def test_without_history_and_requests_nothing_is_invented(tmp_path: Path) -> None:
    only = build_locust_report(stats(tmp_path, ",Aggregated,0,0,0.0,0") / "locust", console=None)
    content = only.content
    assert (content["users"], content["history"], content["failures"], content["length_s"]) == (None,) * 4
    assert content["total"]["mean_ms"] is None
    assert content["total"]["failure_share"] is None
    assert {"users and rates over time", "failures by message"} <= {one["what"] for one in content["cannot"]}
    assert not (tmp_path / "figures").exists()


def test_files_of_several_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locusts(tmp_path, "one")
    locusts(tmp_path, "two")
    assert main(["report", str(tmp_path)]) == 2
    assert "of 2 runs, one, two: move those of each run into a folder of its own" in capsys.readouterr().err


def test_other_files_are_none_of_locusts(tmp_path: Path) -> None:
    with open(tmp_path / "player_stats.csv", "w", newline="") as file:
        csv.writer(file).writerows([["player", "goals"], ["x", 1]])
    (tmp_path / "empty_stats.csv").touch()
    assert find_prefixes(tmp_path) == []
    assert csv_prefix(tmp_path) is None


def test_a_run_directory_is_no_such_folder(tmp_path: Path) -> None:
    locusts(write_run(tmp_path, []))
    assert csv_prefix(tmp_path) is None


def test_a_broken_file_beside_good_records_is_a_warning(tmp_path: Path) -> None:
    path = write_run(tmp_path, [record("a"), record("b")])
    (path / "locust_stats.csv").write_text("Type,Name,Request Count,Failure Count\nPOST,a,many,0\nPOST,b,1,0\n")
    content = summarise(load_run(path)).content
    assert content["totals"]["completed"] == 2
    assert content["sources"]["tenants"]["a"]["locust_requests"] is None
    [warning] = content["locust"]["warnings"]
    assert warning in content["warnings"]
    assert "locust_stats.csv" in warning
    with quick_pictures():
        assert report_run(path).content["locust"]["cross_check"] == []
