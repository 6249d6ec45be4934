"""`python -m fairshare_locust search`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import yaml
from rich.console import Console

from fairshare_locust.errors import FairshareError, RunDirectoryError
from fairshare_locust.matrix.cells import Cell, Variant, variants
from fairshare_locust.matrix.execute import Executor, LocustExecutor, VirtualExecutor
from fairshare_locust.matrix.experiment import Experiment, load_experiment
from fairshare_locust.matrix.interrupt import sigterm_interrupts
from fairshare_locust.matrix.state import CellState, MatrixFolder, Time
from fairshare_locust.profile import load_profile
from fairshare_locust.profile.model import Engine, Sharing
from fairshare_locust.search.bisection import Limits, Try
from fairshare_locust.search.probe import Outcome
from fairshare_locust.search.search import ModeSearch, Search, check_slos
from fairshare_locust.search.show import print_table, write_files

__all__ = ["HELP", "add_arguments", "run"]

HELP = "find the highest load at which every tenant keeps its SLO, for each sharing mode"

_EXIT_MISSING = 1
_EXIT_INTERRUPTED = 130
_DEFAULTS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Doubles the load until an SLO breaks, then halves the difference; loads at the border are repeated with other "
        "seeds, and the majority counts. Each run is an ordinary one in a folder of its own, and is not run again: the "
        "same command goes on where it was interrupted. In virtual time runs have their summary alone; python -m "
        "analysis report makes the rest. Exit code: 0 every mode's border is known, 1 some are not, 2 an error before "
        "any run, 130 interrupted."
    )
    parser.add_argument("source", type=Path, metavar="EXPERIMENT_OR_PROFILE", help="a YAML file of either")
    parser.add_argument("--engine", choices=get_args(Engine), help="stands in for the engines of the experiment")
    parser.add_argument(
        "--sharing",
        nargs="+",
        choices=get_args(Sharing),
        default=(),
        metavar="MODE",
        help=f"which modes: {', '.join(get_args(Sharing))} (default: as the file says)",
    )
    for option, value, words in (
        ("--low", _DEFAULTS.low, "the lowest load that is tried, as a factor of the profile's"),
        ("--high", _DEFAULTS.high, "the highest"),
        ("--precision", _DEFAULTS.precision, "how near the load that broke has to be to the one that held"),
    ):
        parser.add_argument(option, type=float, default=value, metavar="NUMBER", help=f"{words} (default: %(default)s)")
    parser.add_argument(
        "--repeats-at-border",
        type=int,
        default=_DEFAULTS.repeats,
        metavar="NUMBER",
        help="runs of each of the two loads at the border; odd (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, as the experiment says")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where its folder is made (default: runs)"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew; earlier runs are set aside")
    parser.add_argument("--real-time", action="store_true", help="the simulator, too, through Locust and in real time")


def run(options: argparse.Namespace) -> int:
    """The exit code. Raises FairshareError for what is wrong before any run has begun."""
    limits = Limits(low=options.low, high=options.high, precision=options.precision, repeats=options.repeats_at_border)
    if problems := [f"--{key}: {message}" for key, message in limits.check()]:
        raise FairshareError("\n".join(problems))
    experiment = _experiment(options.source)
    if options.sharing:
        experiment = replace(experiment, sharing=tuple(dict.fromkeys(options.sharing)))
    chosen = variants(experiment, engine=options.engine, quick=options.quick)
    for variant in chosen:
        check_slos(variant, str(options.source))
    simulated = all(variant.profile.deployment.engine == "simulator" for variant in chosen)
    time: Time = "virtual" if simulated and not options.real_time else "real"
    parts = (experiment.name, options.engine, "quick" if options.quick else None)
    name = "-".join(filter(None, (*parts, "real-time" if options.real_time else None, "search")))
    about = {"search": experiment.name, "source": str(options.source), "engine": options.engine, "time": time}
    folder = MatrixFolder(options.out / name, about, time)
    try:
        with sigterm_interrupts():
            return _run(options, experiment, chosen, limits, folder, time)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    finally:
        folder.close()


def _experiment(path: Path) -> Experiment:
    """An experiment, or a profile as one: with its own engine and way of sharing.

    Raises ProfileError with every problem in the file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None  # told by whoever reads it next
    if not isinstance(content, dict) or "tenants" not in content:
        return load_experiment(path)
    profile = load_profile(path)
    return Experiment(name=profile.name, profile=path.resolve(), source=str(path), folder=path.parent)


def _run(
    options: argparse.Namespace,
    experiment: Experiment,
    chosen: Sequence[Variant],
    limits: Limits,
    folder: MatrixFolder,
    time: Time,
) -> int:
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    watcher = _Watcher(errors)
    executor: Executor
    executor = LocustExecutor(watcher.tell) if time == "real" else VirtualExecutor(figures=False)
    search = Search(
        experiment.name,
        limits,
        folder,
        executor,
        watcher,
        watcher.tried,
        seed=_seed(experiment, chosen),
        cooldown_s=experiment.cooldown_s,
        fresh=options.fresh,
    )
    found: list[ModeSearch] = []
    try:
        for variant in chosen:
            found.append(search.run(variant))
    except KeyboardInterrupt:
        watcher.tell(f"interrupted; the same command goes on from here ({folder.path})")
        raise
    finally:
        executor.close()
    how = " (simulated, virtual time)" if time == "virtual" else ""
    try:
        written = write_files(found, limits, folder.path, experiment.name, how)
    except OSError as error:
        raise RunDirectoryError(f"{folder.path}: can't be written: {error.strerror}") from error
    if how:
        console.print("All figures: simulated, virtual time.")
    print_table(found, limits, console)
    for path in written:
        console.print(f"written: {path}", soft_wrap=True, markup=False)
    return _EXIT_MISSING if any(mode.failure for mode in found) else 0


def _seed(experiment: Experiment, chosen: Sequence[Variant]) -> int:
    seed: int | None = experiment.seed
    return chosen[0].profile.seed if seed is None else seed


class _Watcher:
    """Tells of each run in a line. See `Watcher` of the matrix."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, text: str) -> None:
        """A line of ours."""
        self._console.print(f"fairshare: {text}", soft_wrap=True, markup=False)

    def tried(self, variant: Variant, one: Try, outcome: Outcome) -> None:
        """What came of a run."""
        shares = [share for share in outcome.attainment.values() if share is not None]
        worst = f", attainment at least {min(shares):.1%}" if shares else ""
        word = f"held{worst}" if outcome.held else f"broke {outcome.broke or outcome.doubt}"
        self.tell(f"{variant.name}, × {one.scale:g}, repeat {one.repeat}: {word}")

    def begin(self, cell: Cell) -> None:
        """Nothing: its end is told."""

    def end(self, cell: Cell, state: CellState, *, now: bool) -> None:
        """Nothing: see `tried`."""

    def again(self, cells: Sequence[Cell]) -> None:
        """Does not happen."""

    def cool(self, cooldown_s: float) -> None:
        """Nothing."""
