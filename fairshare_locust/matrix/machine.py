"""What this machine can't do is refused before the first cell, not when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fairshare_locust.matrix.cells import Cell
from fairshare_locust.serving.doctor import Diagnosis, diagnose

__all__ = ["refuse"]

_NEED_MORE = ("mps", "mig")  # a daemon, slices; the others only need what any run needs, and tell it themselves
_NO_ENGINE = "no engine on PATH"  # a profile may name another executable


def refuse(cells: Sequence[Cell], look: Callable[[], Diagnosis] = diagnose) -> tuple[Cell, ...]:
    """The cells; those whose way of sharing this machine lacks something for are refused, with what is missing."""
    if not any(_concerned(cell) for cell in cells):
        return tuple(cells)
    missing = {
        mode.mode: "; ".join(line for line in mode.missing if not line.startswith(_NO_ENGINE)) for mode in look().modes
    }
    return tuple(
        replace(cell, refused=missing.get(cell.sharing, "")) if _concerned(cell) and not cell.refused else cell
        for cell in cells
    )


def _concerned(cell: Cell) -> bool:
    deployment = cell.profile.deployment
    return deployment.real and cell.sharing in _NEED_MORE and not deployment.server.manage_mig
