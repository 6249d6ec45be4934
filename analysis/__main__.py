"""Make the report of a run directory, compare runs, or put the records of a run together again after a crash."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.commands import COMMANDS
from fairshare_locust.errors import FairshareError

__all__ = ["main"]

_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code: its own, or 2 for an error that the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        of_command = commands.add_parser(command.NAME, help=command.HELP)
        command.add(of_command)
        of_command.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except FairshareError as error:
        print(f"error: {error}", file=sys.stderr)
        return _ERROR


if __name__ == "__main__":
    sys.exit(main())
