"""Probe: a run of the search, an ordinary cell of a matrix, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.matrix.cells import Cell, Variant
from fairshare_locust.profile import Profile, scaled
from fairshare_locust.search.bisection import Try

__all__ = ["Outcome", "outcome_of", "probe_cell"]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        held: whether every tenant kept its SLO, and the run can be relied on.
        attainment: of each tenant with an SLO; None without a request.
        broke: whose SLO broke, in words; "" if none did.
        doubt: why the run can't be relied on; "" if it can.
        output_tokens_per_s, requests_per_s: of all tenants together; None if undefined.
        run: its run directory.
    """

    held: bool
    attainment: Mapping[str, float | None]
    broke: str
    doubt: str
    output_tokens_per_s: float | None
    requests_per_s: float | None
    run: str


def probe_cell(variant: Variant, one: Try, seed: int) -> Cell:
    """The cell of a try: the variant's profile at this scale, repeat r with the seed `seed + r - 1`."""
    name = f"{variant.name.replace(' ', '-')}-scale-{one.scale:g}-r{one.repeat}"
    profile = scaled(replace(variant.profile, phases=()), one.scale)
    return Cell(
        name,
        variant.name,
        variant.mode,
        variant.engine,
        variant.sharing,
        "scale",
        one.scale,
        one.repeat,
        replace(profile, name=name, seed=seed + one.repeat - 1),
        refused=variant.refused,
    )


def outcome_of(profile: Profile, path: Path, doubt: str) -> Outcome:
    """Judge a run by its summary; `doubt`: why it is suspect, "" if it is not.

    An SLO is broken as in every report: fewer of the requests scheduled while all offered load met it than it wants. A
    suspect run in which all SLOs held did not hold: nobody could rely on it.

    Raises RunDirectoryError for a summary that can't be read.
    """
    file = path / "analysis" / "summary.json"
    try:
        content: dict[str, Any] = orjson.loads(file.read_bytes())
        tenants, totals = content["tenants"], content["totals"]
        attainment = {
            tenant.id: tenants[tenant.id]["slo_attainment"] for tenant in profile.tenants if tenant.slo is not None
        }
        figures = totals["output_tokens_per_s"], totals["requests_per_s"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{file}: can't be read: {error}; python -m analysis report {path} makes it anew"
        ) from error
    wanted = {tenant.id: tenant.slo.attainment for tenant in profile.tenants if tenant.slo is not None}
    broken = [
        f"{tenant_id}'s: {share:.1%} < {wanted[tenant_id]:.1%}"
        for tenant_id, share in attainment.items()
        if share is not None and share < wanted[tenant_id]
    ]
    judged = any(share is not None for share in attainment.values())
    held = judged and not broken and not doubt
    return Outcome(held, attainment, ", ".join(broken), doubt, *figures, run=str(path))
