"""The command as a user runs it: a process that is killed, interrupted, and goes on."""

from __future__ import annotations

import csv
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from fairshare_locust.child import child_command, child_environment
from tests.matrix.experiments import experiment_text

REPOSITORY = Path(__file__).resolve().parents[2]
GPUSHARE = [
    "experiments/gpushare.yaml",
    "--engine",
    "simulator",
    "--quick",
    "--only",
    "load=1,8",
    "--only",
    "mode=logical,mps",
]


@contextmanager
def matrix(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        child_command("fairshare_locust", "matrix", *arguments),
        cwd=REPOSITORY,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def whole(*arguments: str) -> tuple[int, str]:
    with matrix(*arguments) as process:
        output, _ = process.communicate()
        return process.returncode, output


def kill_after(counted: int, folder: Path, *arguments: str) -> bool:
    """Kill a matrix in the run of a cell, once so many count; nothing of it is left. Whether it was half-way, indeed.

    A run may end between our look and its end.
    """
    with matrix(*arguments) as process:
        while process.poll() is None:
            states = [cell["state"] for cell in state(folder).values()]
            if states.count("counted") >= counted and "running" in states:
                break
            time.sleep(0.01)
        assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    [half] = [name for name, cell in state(folder).items() if cell["state"] == "running"]
    runs = [orjson.loads(run.read_bytes()) for run in (folder / half).glob("2*/run.json")]
    return not any(run.get("verdict") for run in runs)


def state(folder: Path) -> dict[str, Any]:
    file = folder / "state.json"
    cells: dict[str, Any] = orjson.loads(file.read_bytes())["cells"] if file.exists() else {}
    return cells


def test_killed_twice_it_goes_on_and_ends_with_table_and_figures(tmp_path: Path) -> None:
    arguments = (*GPUSHARE, "--out", str(tmp_path))
    folder = tmp_path / "gpushare-simulator-quick"
    kill_after(1, folder, *arguments)
    first = {name for name, cell in state(folder).items() if cell["state"] == "counted"}
    half = kill_after(4, folder, *arguments)
    code, output = whole(*arguments)
    assert code == 0, output
    assert ("1 run was killed half-way: set aside in" in output) == half
    cells = state(folder)
    assert len(cells) == 2 * 2 * 2
    assert {cell["state"] for cell in cells.values()} == {"counted"}
    assert all(cells[name]["attempts"] == 1 for name in first)
    assert "had been run before" in output
    assert "concurrency 8" in output
    assert "Choose " in output
    with open(folder / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["mode"], row["load"]) for row in rows} == {
        (mode, load) for mode in ("logical", "mps") for load in ("1.0", "8.0")
    }
    assert [row for row in rows if row["metric"] == "isolation_leakage" and row["tenant"] == "total" and row["value"]]
    assert list((folder / "figures").glob("*.svg"))
    for name in ("comparison.json", "comparison.md", "comparison.html"):
        assert (folder / name).stat().st_size > 0
    run = orjson.loads((folder / cells["mps-concurrency-8-r1"]["run"] / "run.json").read_bytes())
    assert run["cell"] == {
        "experiment": "gpushare",
        "mode": "mps",
        "load_name": "concurrency",
        "load": 8.0,
        "repeat": 1,
    }
    assert run["verdict"] == "valid"
    assert (folder / "mps-concurrency-8-r1" / "run" / run["solo"] / "run.json").resolve().exists()


def write(path: Path, rest: str) -> str:
    file = path / "trial.yaml"
    file.write_text(experiment_text(rest))
    return str(file)


def test_a_mode_that_does_not_fit_fails_at_once_and_the_others_go_on(tmp_path: Path) -> None:
    code, output = whole(write(tmp_path, "sharing: [mig, logical]\nrepeats: 1"), "--out", str(tmp_path), "--quick")
    assert code == 1
    assert "one cell does not count; the same command tries it again:" in output
    assert "mig, repeat 1: refused: deployment.simulator.gpu: missing, and sharing: mig needs a card" in output
    cells = state(tmp_path / "trial-quick")
    assert cells["logical-r1"]["state"] == "counted"
    assert cells["mig-r1"]["state"] == "refused"
    assert (tmp_path / "trial-quick" / "comparison.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "fairshare: none.yaml: can't be read: No such file or directory; name an experiment"),
        ([GPUSHARE[0], "--only", "mode=mpz"], "fairshare: --only: found mode=mpz; this experiment has "),
    ],
)
def test_what_is_wrong_is_told_before_any_cell(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, output = whole(*arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in output
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_run(tmp_path: Path) -> None:
    code, output = whole(*GPUSHARE, "--dry-run", "--out", str(tmp_path / "out"))
    assert code == 0
    assert "mps, concurrency 8, repeat 1, seed 7\n" in output
    assert f"8 runs, in virtual time; in {tmp_path / 'out' / 'gpushare-simulator-quick'}" in output
    assert not (tmp_path / "out").exists()


def test_a_pass_over_some_of_its_cells_compares_all_that_count(tmp_path: Path) -> None:
    experiment = write(tmp_path, "repeats: 1\nsharing: [logical, timeslice]")
    arguments = (experiment, "--quick", "--out", str(tmp_path))
    assert whole(*arguments)[0] == 0
    assert whole(*arguments, "--only", "mode=timeslice")[0] == 0
    with open(tmp_path / "trial-quick" / "comparison.csv", newline="") as file:
        assert {row["mode"] for row in csv.DictReader(file)} == {"logical", "timeslice"}


def test_in_real_time_each_cell_is_a_locust_and_ctrl_c_ends_its_run_properly(tmp_path: Path) -> None:
    # A test can't say that a run was not disturbed: what counts in real time is only that it was whole.
    arguments = (write(tmp_path, "repeats: 1\ncooldown_s: 0"), "--real-time", "--quick", "--out", str(tmp_path))
    folder = tmp_path / "trial-quick-real-time"
    log = folder / "logical-r1" / "log.txt"
    with matrix(*arguments) as process:
        while process.poll() is None and not (log.exists() and "measure: loop" in log.read_text()):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        assert process.returncode == 130, output
    assert "interrupted; the same command goes on from here" in output
    cell = state(folder)["logical-r1"]
    assert (cell["state"], cell["reason"]) == ("failed", "it was interrupted")
    run = orjson.loads((folder / cell["run"] / "run.json").read_bytes())
    assert run["state"] == "interrupted"
    assert run["ended_s"] > 0
    code, output = whole(*arguments)
    cell = state(folder)["logical-r1"]
    assert code == (0 if cell["state"] == "counted" else 1), output
    run = orjson.loads((folder / cell["run"] / "run.json").read_bytes())
    assert run["state"] == "complete"
    assert run["verdict"] in ("valid", "suspect")
    assert "time" not in run
    assert run["cell"] == {"experiment": "trial", "mode": "logical", "load_name": None, "load": None, "repeat": 1}
    assert len(list((folder / "aside" / "logical-r1").iterdir())) >= 1
