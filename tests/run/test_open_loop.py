"""An open loop against a server that stalls: the schedule goes on, and what is late says so (no coordinated omission).

10 requests/s, one token each, at most 5 in flight; the server writes nothing from 0.95 s to 3 s after the first one.
Request i is due at d = i / 10. The 20 that are due in [1, 3) get their token at 3 at the earliest, after 3 - d: 2.0,
1.9, …, 0.1 s. The first 5 of them find a free stream and are sent when due; the other 15 wait for one until 3.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tests.run.conftest import REPOSITORY, LocustProcess

PROFILE = """
name: stall
run: {warmup_s: 0, duration_s: 4, drain_s: 10, fairness_window_s: 1}
model: {name: truth}
deployment: {engine: external}
telemetry: {nvml: never, server_metrics: never}
tenants:
  - id: load
    arrival: {process: constant, rate_per_s: 10, max_in_flight: 5}
    workload: {source: synthetic, input_tokens: 20, output_tokens: 1}
"""
# Far more than a loaded machine is late, far less than the stall.
SLACK_S = 0.9


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.truth_server", "--stamps", str(tmp_path / "stamps.npz"), "--ttft-ms", "1"]
    process = subprocess.Popen([*command, "--stall-s", "0.95", "3"], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield orjson.loads(process.stdout.readline())["endpoint"]
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def test_a_stall_shows_in_what_was_due_in_it(stalling: str, start_locust: Callable[..., LocustProcess]) -> None:
    run = start_locust(PROFILE, "--host", stalling, "--fairshare-no-report").finish()
    records = sorted(run.records, key=lambda record: record.index)
    assert [record.scheduled_s for record in records] == [pytest.approx(i / 10) for i in range(40)]
    assert {record.outcome for record in records} == {"ok"}
    sent_s = [record.sent_s or -1 for record in records]
    assert sent_s == sorted(sent_s)

    # The server's stall begins with its first request, a moment after t = 0: none of these could come sooner.
    ttft_s = [(record.first_token_s or 0) - record.scheduled_s for record in records]
    stalled = ttft_s[10:30]
    expected = [2 - i / 10 for i in range(20)]
    assert all(own >= due - 1e-3 for own, due in zip(stalled, expected, strict=True))
    assert all(own <= due + SLACK_S for own, due in zip(stalled, expected, strict=True))

    # The 5 streams went out on time; what found none waited for 3 s, and its lag is on the record.
    lag_s = [record.sent_s - record.scheduled_s for record in records if record.sent_s is not None]
    assert max(lag_s[:15]) < SLACK_S
    for i in range(15, 30):
        assert 3 - i / 10 - 1e-3 <= lag_s[i] <= 3 - i / 10 + SLACK_S

    # 20 of 40 were not stalled; the others, ascending, have 0.1 k: ranks 36, 38 and 40 are k = 16, 18 and 20.
    percentiles = run.summary["tenants"]["load"]["ttft_scheduled_ms"]
    for name, share, by_hand_ms in (("p90", 0.90, 1600), ("p95", 0.95, 1800), ("p99", 0.99, 2000)):
        assert percentiles[name] == pytest.approx(nearest_rank(ttft_s, share) * 1000, abs=0.01)
        assert by_hand_ms - 1 <= percentiles[name] <= by_hand_ms + SLACK_S * 1000
    # A client that counts from sending would have seen 5 slow requests, where 20 were kept waiting.
    own_s = [(record.first_token_s or 0) - (record.sent_s or 0) for record in records]
    assert sum(ttft > 1 for ttft in own_s) == 5
    assert sum(ttft > 1 for ttft in ttft_s) >= 10
