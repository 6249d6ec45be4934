"""`python -m fairshare_locust matrix`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from rich.console import Console

from fairshare_locust.matrix.cells import Cell, expand, only
from fairshare_locust.matrix.end import write_end
from fairshare_locust.matrix.execute import Executor, LocustExecutor, VirtualExecutor
from fairshare_locust.matrix.experiment import Experiment, load_experiment
from fairshare_locust.matrix.interrupt import sigterm_interrupts
from fairshare_locust.matrix.machine import refuse
from fairshare_locust.matrix.progress import MatrixProgress, TimeLeft, duration
from fairshare_locust.matrix.runner import Runner
from fairshare_locust.matrix.state import MatrixFolder, Time
from fairshare_locust.profile.model import Engine

__all__ = ["HELP", "add_arguments", "folder_name", "run"]

HELP = "run an experiment: a profile under several sharing modes and loads; goes on where it was interrupted"

_EXIT_MISSING = 1
_EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Each cell is an ordinary run in a folder of its own, and counts when it is complete and valid. What counts "
        "already is not run again. On the simulator, cells run in virtual time. Exit code: 0 all count, 1 some do not, "
        "2 an error before any, 130 interrupted."
    )
    parser.add_argument(
        "experiment", type=Path, metavar="EXPERIMENT", help="a YAML file, such as those in experiments/"
    )
    parser.add_argument("--engine", choices=get_args(Engine), help="stands in for the engines of the experiment")
    parser.add_argument("--quick", action="store_true", help="shorter runs, as the experiment says, without reports")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where its folder is made (default: runs)"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where an earlier try was (the default)")
    again.add_argument("--fresh", action="store_true", help="begin anew; earlier runs are set aside")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only cells of which this holds: mode, engine, load or repeat, as mode=mps or load=1,8; may be given "
        "several times",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cells in their order, and run nothing")
    parser.add_argument("--real-time", action="store_true", help="the simulator, too, through Locust and in real time")


def run(options: argparse.Namespace) -> int:
    """The exit code. Raises FairshareError for what is wrong before any cell has begun."""
    experiment = load_experiment(options.experiment)
    every = expand(experiment, engine=options.engine, quick=options.quick)
    cells = refuse(only(every, options.only))
    time = _time(cells, real=options.real_time)
    console = Console(highlight=False)
    left = TimeLeft(cells, time, experiment.cooldown_s if time == "real" else 0.0)
    path = options.out / folder_name(experiment, options.engine, quick=options.quick, real=options.real_time)
    if options.dry_run:
        _print_plan(cells, left, path)
        return 0
    about = {
        "experiment": experiment.name,
        "source": experiment.source,
        "engine": options.engine,
        "quick": options.quick,
        "time": time,
    }
    folder = MatrixFolder(path, about, time)
    try:
        with sigterm_interrupts():
            return _run(options, experiment, every, cells, folder, left, time, console)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    finally:
        folder.close()


def _run(
    options: argparse.Namespace,
    experiment: Experiment,
    every: tuple[Cell, ...],
    cells: tuple[Cell, ...],
    folder: MatrixFolder,
    left: TimeLeft,
    time: Time,
    console: Console,
) -> int:
    told = folder.sweep(cells, fresh=options.fresh)
    progress = MatrixProgress(cells, left, Console(stderr=True, highlight=False))
    executor = _executor(time, progress, figures=not options.quick)
    runner = Runner(experiment.name, cells, folder, executor, progress, cooldown_s=experiment.cooldown_s)
    for line in told:
        progress.tell(line)
    try:
        whole = runner.run()
    except KeyboardInterrupt:
        progress.close()
        progress.tell(f"interrupted; the same command goes on from here ({folder.path})")
        raise
    finally:
        executor.close()
        progress.close()
    chosen = {cell.id for cell in cells}
    others = [cell for cell in every if cell.id not in chosen]  # `--only`: what has been run before is compared, too
    if any(cell.plan != "solo" and folder.state(cell).state == "counted" for cell in cells):
        write_end(runner.runs(others), folder.path, console)
    _tell_missing(runner, folder)
    return 0 if whole else _EXIT_MISSING


def _executor(time: Time, progress: MatrixProgress, *, figures: bool) -> Executor:
    return LocustExecutor(progress.tell, figures=figures) if time == "real" else VirtualExecutor(figures=figures)


def _tell_missing(runner: Runner, folder: MatrixFolder) -> None:
    """At the end, each cell that does not count: why, and where to look."""
    missing = runner.missing()
    if not missing:
        return
    one = len(missing) == 1
    head = "one cell does not count" if one else f"{len(missing)} cells do not count"
    print(f"fairshare: {head}; the same command tries {'it' if one else 'them'} again:", file=sys.stderr)
    for cell, state in missing:
        log = folder.log(cell)
        where = f" (log: {log})" if log.exists() else ""
        print(f"fairshare:   {cell.title}: {state.state}: {state.reason}{where}", file=sys.stderr)


def folder_name(experiment: Experiment, engine: Engine | None, *, quick: bool, real: bool) -> str:
    """The name of a matrix's folder: what is run otherwise stands elsewhere."""
    parts = (experiment.name, engine, "quick" if quick else None, "real-time" if real else None)
    return "-".join(filter(None, parts))


def _time(cells: tuple[Cell, ...], *, real: bool) -> Time:
    simulated = all(cell.profile.deployment.engine == "simulator" for cell in cells)
    return "virtual" if simulated and not real else "real"


def _print_plan(cells: tuple[Cell, ...], left: TimeLeft, path: Path) -> None:
    for number, cell in enumerate(cells, 1):
        refused = f": refused: {cell.refused}" if cell.refused else ""
        print(f"{number:>{len(str(len(cells)))}}  {cell.title}, seed {cell.profile.seed}{refused}")
    seconds = left.seconds()
    print(f"{len(cells)} runs, {'in virtual time' if seconds is None else f'about {duration(seconds)}'}; in {path}")
