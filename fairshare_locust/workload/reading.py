"""Reading files of prompts: whole, and every fault at once."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.errors import WorkloadError

__all__ = ["read_whole", "refuse"]

_PROBLEMS_SHOWN = 20


def read_whole(path: Path) -> bytes:
    """The file without its byte order mark. Raises WorkloadError."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise WorkloadError(f"{path}: can't be read: {error.strerror}") from error


def refuse(path: Path, problems: list[str]) -> None:
    """Raise WorkloadError with a line for each of the first problems, if there are any."""
    if problems:
        more = f"\nand {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise WorkloadError("\n".join(f"{path}:{problem}" for problem in problems[:_PROBLEMS_SHOWN]) + more)
