"""Merge: a run's records put together again from what its load processes kept of theirs, each record once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import EAGAIN
from pathlib import Path
from typing import BinaryIO

from analysis.load import open_run, read_profile
from analysis.requests import record_lines
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RunDirectory
from fairshare_locust.record.run_directory import worker_file

__all__ = ["Merge", "Taken", "merge_records"]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was found in a file.

    Attributes:
        records: whole ones; new: those of them that no file before it had.
        torn: it ends inside a record, which is left out.
    """

    path: Path
    records: int
    new: int
    torn: bool


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What was put together.

    Attributes:
        run: the run's own `requests.jsonl`, as it was.
        files: those of load processes, in the order in which they were read.
        uncounted: files of answers whose tokens nobody has counted.
    """

    run: Taken
    files: tuple[Taken, ...]
    uncounted: tuple[Path, ...]

    @property
    def records(self) -> int:
        """How many there are now."""
        return self.run.new + sum(file.new for file in self.files)

    @property
    def changed(self) -> bool:
        """Whether `requests.jsonl` was written anew."""
        return self.run.torn or self.run.new < self.run.records or any(file.new for file in self.files)


def merge_records(run: Path, files: Iterable[Path] = ()) -> Merge:
    """Add to a run's `requests.jsonl` what it lacks of its `workers/*-requests.jsonl`, and of more such files.

    What is there keeps its order, and what is new follows. Of records of one request the first stays. The file is
    replaced as a whole, or not at all if there is nothing to change; all others stay as they are. Memory holds the
    ids of all records and a part of one file.

    Raises RunDirectoryError when a line is no record of a tenant of this run, when a file can't be read or written,
    and while the run is still being written.
    """
    directory = open_run(run)
    tenants = [tenant.id for tenant in read_profile(directory.profile).tenants]
    sources = _sources(directory, files)
    _refuse_if_written(directory.requests)
    temporary = directory.requests.with_name(f".{directory.requests.name}.part")
    known: set[str] = set()
    try:
        with open(temporary, "wb") as merged:
            own, *others = [_take(source, tenants, known, merged) for source in (directory.requests, *sources)]
            merged.flush()
            os.fsync(merged.fileno())
        merge = Merge(run=own, files=tuple(others), uncounted=_uncounted(directory))
        if merge.changed:
            os.replace(temporary, directory.requests)
    except OSError as error:
        raise RunDirectoryError(
            f"{error.filename or temporary} can't be written: {error.strerror}; make room or mend its permissions"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it became the file, or could not even be made
            temporary.unlink()
    return merge


def _take(path: Path, tenants: Sequence[str], known: set[str], merged: BinaryIO) -> Taken:
    """Write the records of a file that are not known yet, and know them."""
    records = new = 0
    torn = False
    for key, line in record_lines(path, tenants):
        if key is None:
            torn = True
            continue
        records += 1
        if key not in known:
            known.add(key)
            merged.write(line)
            new += 1
    return Taken(path=path, records=records, new=new, torn=torn)


def _sources(directory: RunDirectory, files: Iterable[Path]) -> list[Path]:
    """The load processes' files in the run directory by their number, then those given; each once."""
    sources: dict[Path, Path] = {}
    for path in (*_kept(directory, "requests"), *files):
        if not path.is_file():
            raise RunDirectoryError(
                f"{str(path)!r} can't be merged: there is no such file; copy it there, or mend its name"
            )
        sources.setdefault(path.resolve(), path)
    sources.pop(directory.requests.resolve(), None)
    return list(sources.values())


def _kept(directory: RunDirectory, kind: str) -> list[Path]:
    """What load processes kept of their requests or texts in the run directory."""
    pattern = worker_file(directory.path, 0, kind)
    found = pattern.parent.glob(pattern.name.replace("0", "*", 1))
    return sorted(found, key=lambda path: (len(path.name), path.name))  # 10 comes after 9


def _uncounted(directory: RunDirectory) -> tuple[Path, ...]:
    every = (directory.texts, *_kept(directory, "texts"))
    return tuple(path for path in every if path.exists() and path.stat().st_size)


def _refuse_if_written(path: Path) -> None:
    """A run that goes on would write the rest of its records into the file that was replaced, and lose them.

    The kernel grants a lease for reading only on a file that nobody has open for writing (Linux; elsewhere, or on
    a file system without leases, nothing is known).
    """
    if not hasattr(fcntl, "F_SETLEASE") or not path.exists():
        return
    with open(path, "rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno == EAGAIN:
                raise RunDirectoryError(
                    f"{path} is still being written: the run goes on; wait for its end, then merge again"
                ) from error
