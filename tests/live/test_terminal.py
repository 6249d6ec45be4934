"""The live figures as lines of a log, and as a table that leaves the terminal as it was."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from fairshare_locust.live.tally import LoadGauges
from fairshare_locust.live.terminal import TerminalLines, TerminalTable, terminal_view
from tests.live.build import CHAT, Inputs, record


def _console(*, terminal: bool, width: int = 100) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=width, height=30, highlight=False, _environ={}), file


def _inputs() -> Inputs:
    inputs = Inputs(loads={"chat": LoadGauges(streams=64, in_flight=3, waiting=1, asked=24, sent=20)})
    inputs.tally.add(record(ended_s=1.5), CHAT, True)
    inputs.tally.add(record(ended_s=2.5, outcome="timeout"), CHAT, False)
    return inputs


def test_lines_each_ten_seconds() -> None:
    console, file = _console(terminal=False)
    lines = TerminalLines(console)
    view = _inputs().view()
    shown = []
    for second in range(1, 32):
        view.tick(second + 0.02)
        before = file.tell()
        lines.show(view.snapshot())
        if file.tell() > before:
            shown.append(second)
    assert shown == [10, 20, 30]


def test_the_figures_of_a_line_by_hand() -> None:
    """In 10 s: 24 asked, 20 sent, one ok, 22 tokens, TTFT 200 ms, 80 ms per token, one of two met the SLO."""
    console, file = _console(terminal=False)
    view = _inputs().view()
    view.tick(10.0)
    TerminalLines(console).show(view.snapshot())
    head, titles, chat, batch, total = file.getvalue().splitlines()
    assert head.startswith("fairshare: t =  10.0 s  measure  Jain 1.000")
    assert titles.split()[:5] == ["last", "10", "s", "in", "flight"]
    name, *cells = chat.split()
    assert name == "chat"
    assert cells[:5] == ["3", "1", "2.00", "0.10", "2.20"]
    assert 198 <= float(cells[5]) <= 202
    assert 198 <= float(cells[6]) <= 202
    assert 79.2 <= float(cells[7]) <= 80.8
    assert cells[8:] == ["50.0%", "1"]
    assert batch.split() == ["batch", "0", "0", "0", "0", "0", "-", "-", "-", "-", "0"]
    assert total.split()[0] == "total"
    assert len({len(line) for line in (titles, chat, batch, total)}) == 1


def test_lines_fit_a_hundred_columns_whatever_the_figures() -> None:
    console, file = _console(terminal=False)
    view = Inputs(
        loads={"chat": LoadGauges(100_000, 99_999, 9_999, 10_000_000, 9_000_000)},
    ).view()
    view.tick(12_345.0)
    snapshot = view.snapshot()
    snapshot["phase"] = "x" * 60
    snapshot["tenants"][0]["id"] = "a-tenant-with-a-long-name-" * 2
    TerminalLines(console).show(snapshot)
    assert max(map(len, file.getvalue().splitlines())) <= 100


def test_the_table_is_drawn_without_a_thread_and_gone_at_the_end() -> None:
    console, file = _console(terminal=True)
    table = TerminalTable(console)
    view = _inputs().view()
    threads = threading.active_count()
    view.tick(1.0)
    table.show(view.snapshot())
    view.tick(10.0)
    table.show(view.snapshot())
    assert threading.active_count() == threads
    drawn = file.getvalue()
    assert "chat" in drawn
    assert "in flight" in drawn
    assert "50.0%" in drawn
    table.close()
    table.close()
    table.show(view.snapshot())
    after = file.getvalue()[len(drawn) :]
    assert "chat" not in after
    assert after.count("\x1b[2K") >= len(("head", "titles", "chat", "batch", "total"))  # its lines are cleared
    assert "\x1b[?25h" in after  # the cursor is there again


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_cuts_no_number(width: int) -> None:
    console, file = _console(terminal=True, width=width)
    table = TerminalTable(console)
    inputs = Inputs(loads={"chat": LoadGauges(1000, 1000, 99_999, 100_000, 90_000)})
    for _ in range(2000):
        inputs.tally.add(record(ended_s=1.5, output_tokens=10_000), CHAT, True)
    view = inputs.view()
    view.tick(10.0)
    table.show(view.snapshot())
    table.close()
    assert "…" not in file.getvalue()
    assert "2,000,000" in file.getvalue()


def test_a_table_that_was_never_shown_leaves_nothing() -> None:
    console, file = _console(terminal=True)
    TerminalTable(console).close()
    assert file.getvalue() == ""


def test_a_terminal_has_the_table_a_log_the_lines() -> None:
    assert isinstance(terminal_view(_console(terminal=True)[0]), TerminalTable)
    assert isinstance(terminal_view(_console(terminal=False)[0]), TerminalLines)
