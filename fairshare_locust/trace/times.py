"""Times: when the rows of a trace are due that a tenant's arrival process follows."""

from __future__ import annotations

from collections.abc import Mapping

from fairshare_locust.arrival import RowTimes
from fairshare_locust.arrival.trace import period_s
from fairshare_locust.profile.arrivals import TraceArrival
from fairshare_locust.profile.model import Tenant
from fairshare_locust.trace.rows import TraceRows

__all__ = ["row_times"]


def row_times(tenant: Tenant, traces: Mapping[str, TraceRows]) -> RowTimes | None:
    """When the tenant's rows of its trace came; None for an arrival process that follows no trace."""
    arrival = tenant.arrival
    if not isinstance(arrival, TraceArrival):
        return None
    trace = traces[arrival.trace]
    return RowTimes(trace.of_tenant(tenant.id).times_s, period_s(trace.rows.times_s))
