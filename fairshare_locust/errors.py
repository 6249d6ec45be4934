"""The project's errors.

FairshareError            what went wrong, with which value, and what to do about it
├── ProfileError          a profile that can't be used: all its problems at once
├── CardError             a GPU or model that has no card, or a model that doesn't fit on a GPU
├── WorkloadError         prompts that can't be read or made
├── ServingError          a server that can't be started or reached
└── RunDirectoryError     a run directory that can't be written or read
"""

from __future__ import annotations

__all__ = ["CardError", "FairshareError", "ProfileError", "RunDirectoryError", "ServingError", "WorkloadError"]


class FairshareError(Exception):
    """Something the user can mend: the message names the thing, the value and the fix."""


class ProfileError(FairshareError):
    """A profile that can't be used. `problems` has one line for each fault found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class CardError(FairshareError):
    """A card that is unknown or wrong, or a model that doesn't fit. `key` is what to change: gpu, model or dtype."""

    def __init__(self, message: str, key: str = "") -> None:
        self.key = key
        super().__init__(message)


class WorkloadError(FairshareError):
    """Prompts that can't be read or made."""


class ServingError(FairshareError):
    """A server that can't be started or reached."""


class RunDirectoryError(FairshareError):
    """A run directory that can't be written or read."""
