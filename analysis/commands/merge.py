"""`merge`: put the records of a run together again after a crash."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.merge import Merge, Taken

__all__ = ["HELP", "NAME", "add", "run"]

NAME = "merge"
HELP = "after a crash: add to a run's requests.jsonl what its load processes kept of their records"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Adds to RUN/requests.jsonl every record that it lacks of RUN/workers/*-requests.jsonl and of "
        "each FILE. Nothing else is changed; a second time there is nothing to add."
    )
    parser.add_argument(
        "run_directory",
        type=Path,
        metavar="RUN",
        help="a run directory, such as runs/latest, of a run that is over",
    )
    parser.add_argument(
        "files",
        type=Path,
        metavar="FILE",
        nargs="*",
        help="a file N-requests.jsonl copied from a worker on another host",
    )


def run(options: argparse.Namespace) -> int:
    """Exit code: 0 done."""
    from analysis.merge import merge_records  # loads pyarrow

    merge = merge_records(options.run_directory, options.files)
    _print_merge(merge, options.run_directory)
    return 0


def _print_merge(merge: Merge, run: Path) -> None:
    """What was found in each file, what there is now, and what to do next."""
    own = merge.run
    repeated = f", {own.records - own.new:,} of them repeated and left out" if own.new < own.records else ""
    print(f"{own.path}: {own.records:,} records{repeated}{_torn(own)}")
    for file in merge.files:
        print(f"{file.path}: {file.records:,} records, {file.new:,} added{_torn(file)}")
    if not merge.files:
        print(f"{run / 'workers'} holds no records; name copies from other hosts after {run}")
    now = f"now has {merge.records:,} records" if merge.changed else f"has all {merge.records:,} records already"
    print(f"{own.path} {now}")
    if merge.uncounted:
        places = ", ".join(str(path) for path in merge.uncounted)
        print(f"not counted: the tokens of the answers in {places}; their records count chunks instead")
    if merge.files:
        print("the files of load processes stay, and can be deleted")
    print(f"next: python -m analysis report {run}")


def _torn(file: Taken) -> str:
    return "; its last line is torn and was left out" if file.torn else ""
