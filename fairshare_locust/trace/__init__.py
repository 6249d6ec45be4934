"""Published traces: recorded requests with times and lengths, read, cut, and dealt to tenants."""

from fairshare_locust.trace.load import load_traces, read_trace
from fairshare_locust.trace.rows import BLOCK_TOKENS, TenantRows, TraceRows
from fairshare_locust.trace.times import row_times

__all__ = ["BLOCK_TOKENS", "TenantRows", "TraceRows", "load_traces", "read_trace", "row_times"]
