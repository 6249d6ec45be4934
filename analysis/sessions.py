"""Sessions: conversations of several requests each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.load import phase_of
from analysis.requests import Requests

__all__ = ["Sessions", "sessions"]


@dataclass(frozen=True)
class Sessions:
    """How many conversations a tenant had, and their requests on average."""

    count: int
    mean_turns: float


def sessions(requests: Requests, tenants: int) -> tuple[Sessions | None, ...]:
    """Each tenant's conversations over the whole run; None where no request belongs to one.

    A tenant's schedule begins anew in each phase, so the same name in another phase is another conversation.
    """
    names = [phase_of(part) for part in requests.phases]
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    phase = np.array([codes[name] for name in names], np.int64)[requests.phase]
    found: list[Sessions | None] = []
    for code in range(tenants):
        talking = (requests.tenant == code) & (requests.session >= 0)
        turns = int(talking.sum())
        count = len(np.unique(requests.session[talking].astype(np.int64) * max(1, len(codes)) + phase[talking]))
        found.append(Sessions(count, turns / count) if count else None)
    return tuple(found)
