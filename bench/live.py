"""What does the live view cost the load process? CPU, as a share of a core.

    python -m bench.live [--seconds 120] [--tenants 10] [--records-per-s 200] [--tokens 100]

Adds records as they end, and each second takes the figures, makes the JSON of a page and Prometheus's text from
them, draws the terminal's table, and merges what another process reports. Nothing waits: seconds are simulated, and
the work for each is timed. Exits 1 when it takes 5 % of a core or more.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from fairshare_locust.attainment import meets
from fairshare_locust.live.histogram import LogHistogram
from fairshare_locust.live.prometheus import exposition
from fairshare_locust.live.tally import LiveTally, LoadGauges, TallyDelta
from fairshare_locust.live.terminal import TerminalTable
from fairshare_locust.live.view import LiveView, RunStatus
from fairshare_locust.profile import Profile, parse_profile
from fairshare_locust.record import RequestRecord

__all__ = ["LIMIT_SHARE", "Cost", "main", "measure"]

LIMIT_SHARE = 0.05

TENANT = """
  - id: tenant-{number}
    slo: {{ttft_ms: 300, tpot_ms: 40}}
    arrival: {{process: poisson, rate_per_s: 20}}
    workload: {{source: synthetic, input_tokens: 100, output_tokens: 100}}
"""
HEAD = "name: live\nrun: {duration_s: 60}\nmodel: {name: tiny}\ntenants:"


@dataclass
class Cost:
    """CPU seconds by what they were spent on, and the longest stretch without a pause, over so many seconds."""

    seconds: int
    longest_s: dict[str, float] = field(default_factory=dict)
    spent_s: dict[str, float] = field(default_factory=dict)
    _what: str = ""
    _since_s: float = 0.0

    def timed(self, what: str, work: Callable[[], object]) -> None:
        """Do it and count what it took."""
        self._since_s = before = time.process_time()
        self._what = what
        work()
        self.pause()
        self.spent_s[what] = self.spent_s.get(what, 0.0) + time.process_time() - before

    def pause(self) -> None:
        """The event loop may go on here."""
        now_s = time.process_time()
        self.longest_s[self._what] = max(self.longest_s.get(self._what, 0.0), now_s - self._since_s)
        self._since_s = now_s

    @property
    def share(self) -> float:
        """Of a core."""
        return sum(self.spent_s.values()) / self.seconds


def main() -> int:
    """Run the bench; 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--tenants", type=int, default=10)
    parser.add_argument("--records-per-s", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=100, help="of each answer")
    options = parser.parse_args()
    console = Console(highlight=False, width=max(Console().width, 100))
    cost = measure(options.seconds, options.tenants, options.records_per_s, options.tokens)
    title = (
        f"live view, {options.tenants} tenants, {options.records_per_s} requests/s, "
        f"{options.records_per_s * options.tokens:,} tokens/s"
    )
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("work")
    table.add_column("ms each second", justify="right")
    table.add_column("longest stretch, ms", justify="right")
    table.add_column("share of a core", justify="right")
    for what, spent_s in cost.spent_s.items():
        longest_ms = cost.longest_s[what] * 1000
        table.add_row(
            what, f"{spent_s / cost.seconds * 1000:.2f}", f"{longest_ms:.2f}", f"{spent_s / cost.seconds:.4f}"
        )
    console.print(table)
    console.print(f"an addition to a histogram takes {_add_us():.2f} µs")
    good = cost.share < LIMIT_SHARE
    console.print(
        f"all of it: {cost.share:.4f} of a core; less than {LIMIT_SHARE:g} is wanted ({'ok' if good else 'bad'})"
    )
    return 0 if good else 1


def measure(seconds: int, tenants: int, records_per_s: int, tokens: int) -> Cost:
    """What so many simulated seconds cost; half of the records come from another process."""
    profile = parse_profile(
        HEAD + "".join(TENANT.format(number=n) for n in range(tenants)), source="live", folder=Path()
    )
    tally, other = LiveTally(), TallyDelta()
    cost = Cost(seconds)
    view = _view(profile, tally, cost.pause)
    terminal = TerminalTable(Console(file=io.StringIO(), force_terminal=True, width=100, height=40))
    random = np.random.default_rng(1)
    for second in range(seconds):
        records = [_record(profile, n, second, tokens, random) for n in range(records_per_s)]
        here, there = records[::2], records[1::2]
        cost.timed("records of this process", lambda here=here: _add(tally, profile, here))  # type: ignore[misc]
        _add(other, profile, there)  # at the other's cost
        delta = orjson.loads(orjson.dumps(other.take()))
        cost.timed("a report of another process", lambda delta=delta: tally.merge(delta))  # type: ignore[misc]
        cost.timed("figures", lambda now_s=second + 1.0: view.tick(now_s))  # type: ignore[misc]
        cost.timed("JSON for a page", lambda: orjson.dumps(view.snapshot()))
        cost.timed("table on a terminal", lambda: terminal.show(view.snapshot()))
        cost.timed("Prometheus text", lambda: exposition(tally, view.snapshot()))
    terminal.close()
    return cost


def _view(profile: Profile, tally: LiveTally, pause: Callable[[], None]) -> LiveView:
    status = RunStatus("running", phase="measure", phase_start_s=0.0, run="bench")
    loads = {tenant.id: LoadGauges(64, 20, 1, 1000, 990) for tenant in profile.tenants}
    server = {"kv_cache_usage": 0.5, "requests_waiting": 3.0}
    latest: dict[str, Any] = {"server": {"http://127.0.0.1:8000": server}, "gpu": {"0": {"gpu_utilization_ratio": 0.9}}}
    return LiveView(profile, tally, lambda: status, lambda: loads, lambda: latest, lambda: None, pause=pause)


def _add(counts: LiveTally | TallyDelta, profile: Profile, records: list[RequestRecord]) -> None:
    for record in records:
        tenant = profile.tenants[record.worker]
        assert tenant.slo is not None
        counts.add(record, tenant, meets(record, tenant.slo))


def _record(profile: Profile, number: int, second: int, tokens: int, random: np.random.Generator) -> RequestRecord:
    """A request that ends in that second, with a TTFT and gaps that vary as a busy server's do."""
    place = number % len(profile.tenants)
    ttft_s, gap_s = random.lognormal(-2, 0.8), random.lognormal(-4, 0.3)
    ended_s = second + random.random()
    first_s = ended_s - gap_s * (tokens - 1)
    return RequestRecord(
        request_id=f"r-{number}",
        tenant=profile.tenants[place].id,
        phase="measure",
        worker=place,
        index=number,
        scheduled_s=first_s - ttft_s,
        sent_s=first_s - ttft_s,
        first_token_s=first_s,
        last_token_s=ended_s,
        ended_s=ended_s,
        outcome="ok",
        output_tokens=tokens,
        chunk_gap_us=[round(gap_s * 1e6)] * (tokens - 1),
    )


def _add_us(values: int = 500_000) -> float:
    durations = np.random.default_rng(2).lognormal(5, 1, values).tolist()
    histogram = LogHistogram()
    before = time.process_time()
    for duration in durations:
        histogram.add(duration)
    return (time.process_time() - before) / values * 1e6


if __name__ == "__main__":
    sys.exit(main())
