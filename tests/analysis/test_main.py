"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.__main__ import main
from tests.analysis.build import quick_pictures, record, write_run


def test_a_report_of_a_valid_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, [record("a"), record("b")])
    with quick_pictures():
        assert main(["report", str(tmp_path), "--strict"]) == 0
    assert "valid" in capsys.readouterr().out
    assert (tmp_path / "analysis" / "summary.json").exists()


def test_a_suspect_run_fails_under_strict_only(tmp_path: Path) -> None:
    write_run(tmp_path, [record("a"), record("b")], info={"state": "interrupted"})
    with quick_pictures():
        assert main(["report", str(tmp_path)]) == 0
        assert main(["report", str(tmp_path), "--strict"]) == 3


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: '{tmp_path}' is no run directory: it has no run.json\n"
