from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.matrix.cells import Cell, expand
from fairshare_locust.matrix.runner import Runner
from fairshare_locust.matrix.state import MatrixFolder
from tests.matrix.experiments import experiment
from tests.matrix.fake import POINTS, Fake, Killed, Notes

CELLS = expand(experiment("sharing: [logical, mps]\nrepeats: 2\nsolo: true"))
IDS = [cell.id for cell in CELLS]


def attempt(path: Path, fake: Fake, cells: tuple[Cell, ...] = CELLS, **options: Any) -> tuple[Runner, Notes, bool]:
    """One try of a matrix, from the lock to its release."""
    folder = MatrixFolder(path, {}, fake.time)
    notes = Notes()
    try:
        folder.sweep(cells, fresh=False)
        runner = Runner("trial", cells, folder, fake, notes, **options)
        return runner, notes, runner.run()
    finally:
        folder.close()


def states(path: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, Any] = orjson.loads((path / "state.json").read_bytes())
    cells: dict[str, dict[str, Any]] = content["cells"]
    return cells


def test_each_cell_is_run_once_and_a_second_time_there_is_nothing_to_do(tmp_path: Path) -> None:
    fake = Fake()
    runner, _, whole = attempt(tmp_path, fake)
    assert whole
    assert fake.ran == IDS
    again = Fake()
    _, notes, whole = attempt(tmp_path, again)
    assert whole
    assert again.ran == []
    assert notes.ended == [(name, "counted", False) for name in IDS]
    assert {state["attempts"] for state in states(tmp_path).values()} == {1}
    assert all((run / "run.json").exists() for run in runner.runs())


def test_a_cell_is_told_where_its_tenants_are_alone(tmp_path: Path) -> None:
    fake = Fake()
    attempt(tmp_path, fake)
    for cell in CELLS:
        solo = fake.solos[cell.id]
        assert (solo is None) == (cell.plan == "solo")
        if solo is not None:
            assert solo.resolve().parent == (tmp_path / f"solo-{cell.mode}").resolve()
            assert (solo / "run.json").exists()


stops = st.lists(
    st.one_of(st.none(), st.tuples(st.sampled_from(POINTS), st.sampled_from([Killed, KeyboardInterrupt]))), max_size=12
)


@settings(max_examples=25, deadline=None)
@given(stops)
def test_wherever_it_is_stopped_it_goes_on_and_no_run_that_counts_is_made_twice(
    where: list[tuple[str, type[BaseException]] | None],
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name)
        stopping = iter(where)
        began: list[str] = []
        while True:
            fake = Fake(stops=stopping)
            try:
                runner, _, whole = attempt(path, fake)
                began += fake.ran
                break
            except (Killed, KeyboardInterrupt):
                began += fake.ran
        assert whole
        counted = runner.runs()
        assert sorted(run.parent.name for run in counted) == sorted(IDS)
        stopped = sum(stop is not None for stop in where[: len(began)])
        # Stopped when all was written already: that run counts.
        late = sum(stop is not None and stop[0] == "analysed" for stop in where[: len(began)])
        assert len(began) == len(IDS) + stopped - late
        in_place = {run.resolve() for run in path.glob("*/*/") if (run / "run.json").exists() and run.name != "latest"}
        assert in_place == {run.resolve() for run in counted}
        aside = [orjson.loads(file.read_bytes()) for file in path.glob("aside/*/*/run.json")]
        assert all(run.get("verdict") is None for run in aside)


def verdicts(*answers: str) -> Callable[[Cell], str]:
    given = iter(answers)
    return lambda cell: next(given, "valid") if cell.id == IDS[1] else "valid"


def test_a_suspect_run_does_not_count_and_does_not_stop_the_others(tmp_path: Path) -> None:
    fake = Fake(verdict=verdicts("suspect"))
    runner, _, whole = attempt(tmp_path, fake)
    assert not whole
    assert fake.ran == IDS
    [(cell, state)] = runner.missing()
    assert cell.id == IDS[1]
    assert state.state == "suspect"
    assert state.reason == f"suspect: {IDS[1]} was slow; run it alone."
    assert len(runner.runs()) == len(IDS) - 1
    again = Fake()
    _, _, whole = attempt(tmp_path, again)
    assert whole
    assert again.ran == [IDS[1]]
    assert states(tmp_path)[IDS[1]]["attempts"] == 2
    assert len(list((tmp_path / "aside" / IDS[1]).iterdir())) == 1


def test_in_real_time_what_is_suspect_is_run_once_more_at_the_end(tmp_path: Path) -> None:
    fake = Fake("real", verdict=verdicts("suspect"))
    _, _, whole = attempt(tmp_path, fake)
    assert whole
    assert fake.ran == [*IDS, IDS[1]]


def test_once_more_and_no_more(tmp_path: Path) -> None:
    fake = Fake("real", verdict=verdicts("suspect", "suspect", "suspect"))
    _, _, whole = attempt(tmp_path, fake)
    assert not whole
    assert fake.ran == [*IDS, IDS[1]]


def test_a_failed_cell_is_told_with_its_reason_and_one_without_its_baseline_is_run_all_the_same(tmp_path: Path) -> None:
    broken = next(cell for cell in CELLS if cell.plan == "solo")
    fake = Fake(failure=lambda cell: "no GPU here" if cell.id == broken.id else "")
    runner, _, whole = attempt(tmp_path, fake)
    assert not whole
    [(cell, state)] = runner.missing()
    assert (cell.id, state.state, state.reason, state.run) == (broken.id, "failed", "no GPU here", None)
    alone = {one.id for one in CELLS if one.solo == broken.id}
    assert {name for name, solo in fake.solos.items() if solo is None} >= alone


def test_what_a_log_says_last_is_the_reason_where_nothing_else_is_told(tmp_path: Path) -> None:
    class Silent(Fake):
        def run(self, cell: Cell, profile: Path, log: Path, variable: str) -> str:
            log.write_text("fairshare: GPU 0 is in use\nTraceback: x\n")
            return ""

    runner, _, _ = attempt(tmp_path, Silent(), CELLS[:1])
    assert runner.missing()[0][1].reason == "GPU 0 is in use"


def test_a_cell_that_can_not_be_run_is_not(tmp_path: Path) -> None:
    cells = (replace(CELLS[0], refused="it does not fit"), *CELLS[1:])
    fake = Fake("real")
    runner, _, whole = attempt(tmp_path, fake, cells)
    assert not whole
    assert fake.ran == IDS[1:]
    [(_, state)] = runner.missing()
    assert (state.state, state.reason, state.attempts) == ("refused", "it does not fit", 0)


def test_it_cools_down_between_runs_in_real_time_alone(tmp_path: Path) -> None:
    slept: list[float] = []
    _, notes, _ = attempt(tmp_path / "real", Fake("real"), cooldown_s=7, sleep=slept.append)
    assert slept == notes.cooled == [7] * (len(IDS) - 1)
    _, notes, _ = attempt(tmp_path / "virtual", Fake(), cooldown_s=7, sleep=slept.append)
    assert notes.cooled == []


def test_runs_are_compared_mode_by_mode_whatever_their_order(tmp_path: Path) -> None:
    cells = expand(experiment("sharing: [mps, logical, timeslice]\nload: {scale: [2, 1]}\nrepeats: 1\nseed: 1"))
    runner, _, _ = attempt(tmp_path, Fake(), cells)
    assert [run.parent.name for run in runner.runs()] == [
        f"{mode}-scale-{scale}-r1" for mode in ("mps", "logical", "timeslice") for scale in (2, 1)
    ]
