import os
from dataclasses import replace
from pathlib import Path

import pytest

from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.state import CellState, MatrixFolder
from tests.matrix.experiments import experiment
from tests.matrix.fake import Fake
from tests.matrix.test_runner import attempt

CELLS = expand(experiment("repeats: 2"))


def test_two_do_not_share_a_folder(tmp_path: Path) -> None:
    first = MatrixFolder(tmp_path, {}, "real")
    with pytest.raises(RunDirectoryError) as caught:
        MatrixFolder(tmp_path, {}, "real")
    assert str(caught.value) == (
        f"{tmp_path}: another matrix is at work there (pid {os.getpid()}); wait for its end, or name another folder "
        "with --out"
    )
    first.close()
    MatrixFolder(tmp_path, {}, "real").close()


def test_what_became_of_a_cell_is_there_again(tmp_path: Path) -> None:
    state = CellState("failed", None, "no GPU", 1.5, 2)
    first = MatrixFolder(tmp_path, {"experiment": "trial"}, "real")
    first.note(CELLS[0], state)
    first.close()
    second = MatrixFolder(tmp_path, {}, "real")
    assert second.state(CELLS[0]) == state
    assert second.state(CELLS[1]) == CellState()
    second.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": {"a": {"b": 1}}}'])
def test_without_it_the_runs_are_found_all_the_same(tmp_path: Path, content: bytes) -> None:
    attempt(tmp_path, Fake(), CELLS)
    (tmp_path / "state.json").write_bytes(content)
    fake = Fake()
    _, _, whole = attempt(tmp_path, fake, CELLS)
    assert whole
    assert fake.ran == []


def test_a_cell_of_another_profile_is_run_again_and_what_there_was_set_aside(tmp_path: Path) -> None:
    attempt(tmp_path, Fake(), CELLS)
    changed = (replace(CELLS[0], profile=replace(CELLS[0].profile, seed=99)), CELLS[1])
    folder = MatrixFolder(tmp_path, {}, "virtual")
    [told] = folder.sweep(changed, fresh=False)
    folder.close()
    assert told == (
        f"1 cell was of another profile than the experiment has now: set aside in {tmp_path / 'aside'}, and run again"
    )
    fake = Fake()
    attempt(tmp_path, fake, changed)
    assert fake.ran == [CELLS[0].id]
    assert [path.name for path in (tmp_path / "aside").iterdir()] == [CELLS[0].id]


def test_a_run_in_virtual_time_is_none_in_real_time(tmp_path: Path) -> None:
    attempt(tmp_path, Fake(), CELLS)
    fake = Fake("real")
    attempt(tmp_path, fake, CELLS)
    assert fake.ran == [cell.id for cell in CELLS]


def test_fresh_sets_everything_aside(tmp_path: Path) -> None:
    attempt(tmp_path, Fake(), CELLS)
    folder = MatrixFolder(tmp_path, {}, "virtual")
    assert folder.sweep(CELLS, fresh=True) == []
    assert [folder.counted(cell) for cell in CELLS] == [None, None]
    assert folder.state(CELLS[0]) == CellState()
    folder.close()
    assert len(list(tmp_path.glob("aside/*/*/run.json"))) == 2


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match=r"can't be written: .*; name another folder with --out"):
        MatrixFolder(tmp_path / "file" / "inner", {}, "real")
