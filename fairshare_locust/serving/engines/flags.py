"""Program: an engine's executable, and which flags it knows in the version that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.causes import likely_cause

__all__ = ["Program", "find_program"]

_FLAG = re.compile(r"(?<![\w-])--[A-Za-z0-9][\w-]*")
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")
_HELP_WITHIN_S = 300.0  # importing an engine, perhaps from a network disk, or fetching its image
_LINES = 5
_UNKNOWN_ARGUMENT = 2  # what argparse and clap exit with


@dataclass(frozen=True)
class Program:
    """What runs an engine: a command, and the flags that its help tells.

    Attributes:
        command: what goes before the arguments.
        flags: those it knows.
        help: all that its help says.
    """

    command: tuple[str, ...]
    flags: frozenset[str]
    help: str
    version_command: tuple[str, ...]

    def first(self, *flags: str) -> str | None:
        """The first of these that this version has; None if it has none of them."""
        return next((flag for flag in flags if flag in self.flags), None)

    def need(self, key: str, *flags: str) -> str:
        """The same. Raises ServingError when it has none: `key` is the option of the profile that asks for it."""
        flag = self.first(*flags)
        if flag is None:
            version = self.version()
            raise ServingError(
                f"deployment.server.{key}: {self.command[0]}{'' if version is None else f' {version}'} has no "
                f"{' or '.join(flags)}; leave {key} out, or install another version"
            )
        return flag

    def version(self) -> str | None:
        """What it says of its version; None if it says nothing that looks like one."""
        return _version(self.version_command)


def find_program(
    executable: str,
    hint: str,
    arguments: Sequence[str],
    helps: Sequence[Sequence[str]],
    version: Sequence[str],
    known: str = "--port",
) -> Program:
    """The program by its name or path, asked once for its help.

    Args:
        executable: the program.
        hint: how to install it.
        arguments: what goes between it and its flags.
        helps: arguments that make it print all flags; the first that it takes are used.
        known: a flag that every version has; help without it isn't all of it.
        version: arguments that make it print its version.

    Raises:
        ServingError: it is not there, or does not run.
    """
    found = shutil.which(os.path.expanduser(executable))
    if found is None:
        raise ServingError(f"{executable} is not found on PATH; {hint}, or name it with deployment.server.executable")
    stamp = os.stat(found).st_mtime_ns
    text = _help(found, stamp, tuple(tuple(one) for one in helps), known)
    return Program((found, *arguments), frozenset(_FLAG.findall(text)), text, (found, *version))


@cache
def _help(executable: str, _: int, helps: tuple[tuple[str, ...], ...], known: str) -> str:
    failed, said = helps[-1], ""
    for arguments in helps:
        try:
            result = subprocess.run(
                [executable, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_HELP_WITHIN_S,
                check=False,
                env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
            )
        except subprocess.TimeoutExpired as error:
            raise ServingError(
                f"{executable} {' '.join(arguments)} said nothing within {_HELP_WITHIN_S:g} s; mend its installation"
            ) from error
        except OSError as error:
            raise ServingError(f"{executable} can't be run: {error.strerror}; mend its installation") from error
        text = result.stdout.decode(errors="replace")
        if result.returncode == 0 and known in _FLAG.findall(text):
            return text
        if result.returncode not in (0, _UNKNOWN_ARGUMENT) or not said:
            failed, said = arguments, (result.stderr or result.stdout).decode(errors="replace")
    cause = likely_cause(said)
    why = "" if cause is None else f"; likely cause: {cause}"
    end = "\n".join(said.rstrip().splitlines()[-_LINES:])
    raise ServingError(f"{executable} {' '.join(failed)} failed{why}\n{end}".rstrip())


@cache
def _version(command: tuple[str, ...]) -> str | None:
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_HELP_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (result.stdout + b"\n" + result.stderr).decode(errors="replace").splitlines()
    found = [match[0] for line in lines if (match := _VERSION.search(line))]
    return found[-1] if found and result.returncode == 0 else None
