import os
from pathlib import Path

import pytest

from fairshare_locust.cell import VARIABLE, cell_keys, cell_variable, note_verdict
from fairshare_locust.errors import FairshareError
from fairshare_locust.record import RunDirectory

CELL = {"experiment": "trial", "mode": "mps", "load_name": "scale", "load": 2.0, "repeat": 1}


def test_a_run_of_no_matrix_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cell_keys() == {}


@pytest.mark.parametrize("solo", [None, Path("../solo-mps/run")])
def test_what_a_matrix_writes_stands_in_run_json(monkeypatch: pytest.MonkeyPatch, solo: Path | None) -> None:
    monkeypatch.setenv(VARIABLE, cell_variable(CELL, solo))
    assert cell_keys() == {"cell": CELL} | ({} if solo is None else {"solo": str(solo)})


@pytest.mark.parametrize("text", ["{", "3", "null"])
def test_a_variable_that_nobody_understands(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(FairshareError) as caught:
        cell_keys()
    assert str(caught.value) == f"FAIRSHARE_CELL: found {text!r}; must be what a matrix writes; unset it"


def test_the_verdict_leaves_the_time_of_the_file(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "trial")
    directory.write_run({"schema": 1, "state": "complete"})
    os.utime(directory.run_json, ns=(1_000, 2_000))
    note_verdict(directory, "valid")
    assert directory.read_run() == {"schema": 1, "state": "complete", "verdict": "valid"}
    assert directory.run_json.stat().st_mtime_ns == 2_000
