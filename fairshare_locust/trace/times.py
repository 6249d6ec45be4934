"""Times: when the rows of a trace are due that a tenant's arrival process follows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fairshare_locust.profile.arrivals import TraceArrival
from fairshare_locust.profile.model import Tenant
from fairshare_locust.trace.rows import TraceRows

__all__ = ["trace_times_s"]


def trace_times_s(tenant: Tenant, traces: Mapping[str, TraceRows]) -> NDArray[np.float64] | None:
    """Seconds since the cut begins of each of the tenant's rows; None for an arrival process that follows no trace."""
    arrival = tenant.arrival
    return traces[arrival.trace].of_tenant(tenant.id).times_s if isinstance(arrival, TraceArrival) else None
