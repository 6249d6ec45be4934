"""How much load the shared server takes: what became of each tenant's SLO at each load that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.entry import slo_broken
from analysis.load import Profile
from analysis.requests import Mask, Requests
from analysis.window import Windows

__all__ = ["Trial", "best_trial", "trial", "why_best"]


@dataclass(frozen=True)
class Trial:
    """One load, with all tenants.

    Attributes:
        attainment: SLO attainment of each tenant, in the profile's order; None without an SLO or a request.
        wanted: the attainment below which each tenant's SLO is broken.
    """

    load: float
    windows: Windows
    tenants: tuple[str, ...]
    attainment: tuple[float | None, ...]
    wanted: tuple[float, ...]

    @property
    def broken(self) -> tuple[bool | None, ...]:
        """Whether each tenant's SLO was broken."""
        return tuple(slo_broken(*shares) for shares in zip(self.attainment, self.wanted, strict=True))

    @property
    def held(self) -> bool | None:
        """True if every SLO was kept; None if there was none to judge by."""
        judged = [broken for broken in self.broken if broken is not None]
        return not any(judged) if judged else None


def trial(requests: Requests, profile: Profile, met: Mask, load: float, windows: Windows) -> Trial:
    """Judge one load by the requests scheduled in its windows.

    Args:
        met: shape (n,), requests that met their SLOs.
    """
    attainment: list[float | None] = []
    for code, (tenant, window) in enumerate(zip(profile.tenants, windows.tenants, strict=True)):
        scheduled = (requests.tenant == code) & window.contains(requests.scheduled_ns)
        count = int(scheduled.sum()) if tenant.slo else 0
        attainment.append(int((scheduled & met).sum()) / count if count else None)
    return Trial(
        load=load,
        windows=windows,
        tenants=tuple(tenant.id for tenant in profile.tenants),
        attainment=tuple(attainment),
        wanted=tuple(tenant.slo.attainment if tenant.slo else 0.0 for tenant in profile.tenants),
    )


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The highest load at which every SLO held; if none did the lowest, if there was none to judge by the highest.

    Args:
        trials: one at least, by ascending load.
    """
    held = [one for one in trials if one.held]
    if held:
        return held[-1]
    return trials[0] if any(one.held is False for one in trials) else trials[-1]


def why_best(trials: Sequence[Trial]) -> str:
    """Why `best_trial` is the one to look at, in words."""
    best = best_trial(trials)
    broke = "; ".join(_breaks(one) for one in trials if one.held is False)
    if best.held is None:
        return f"the highest load, {best.load:g}: there is no SLO to judge the loads by"
    if not best.held:
        return f"the lowest load, {best.load:g}, as no load kept every SLO ({broke})"
    return f"highest load at which every SLO held: {best.load:g} ({broke or 'the highest that was tried'})"


def _breaks(one: Trial) -> str:
    """Such as `3 broke chat's: attainment 61% < 95%`."""
    named = (
        f"{tenant}'s: attainment {_below(attainment, wanted)}"
        for tenant, attainment, wanted, broken in zip(one.tenants, one.attainment, one.wanted, one.broken, strict=True)
        if broken and attainment is not None
    )
    return f"{one.load:g} broke {', '.join(named)}"


def _below(attainment: float, wanted: float) -> str:
    """Two shares with as many digits as it takes to tell them apart."""
    texts = ((f"{attainment:.{digits}%}", f"{wanted:.{digits}%}") for digits in range(8))
    return " < ".join(next((pair for pair in texts if pair[0] != pair[1]), (str(attainment), str(wanted))))
