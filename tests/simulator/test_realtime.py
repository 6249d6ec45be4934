"""The schedule of steps, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.engine import Engine, FinishReason, Sequence
from fairshare_locust.simulator.gpu import Concurrent, Gpu, Independent, TimeSlice
from fairshare_locust.simulator.machine import Machine
from fairshare_locust.simulator.metrics import SimulatorMetrics
from fairshare_locust.simulator.realtime import RealTimeMachine
from fairshare_locust.simulator.timing import Timing


class Timer:
    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s, self.callback, self.cancelled = when_s, callback, False

    def when(self) -> float:
        return self.when_s

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """As much of an event loop as the engine needs; its timers fire when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.timer: Timer | None = None

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        self.timer = Timer(when_s, callback)
        return self.timer

    def fire(self, late_s: float = 0.0) -> float:
        """End the step under way, so much too late; return when it was due."""
        assert self.timer is not None
        timer, self.timer = self.timer, None
        assert not timer.cancelled
        self.now_s = timer.when_s + late_s
        timer.callback()
        return timer.when_s


class Collector:
    def __init__(self) -> None:
        self.tokens: list[tuple[int, FinishReason | None]] = []
        self.timing: Timing | None = None
        self.failure: str | None = None

    def token(self, generated_tokens: int) -> None:
        self.tokens.append((generated_tokens, None))

    def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
        self.tokens.append((generated_tokens, finish_reason))
        self.timing = timing

    @property
    def parts_s(self) -> tuple[float, float, float, float]:
        """Queue, prefill, decode and inference time of the finished answer."""
        assert self.timing is not None
        timing = self.timing
        return timing.queue_s, timing.prefill_s, timing.decode_s, timing.inference_s

    def failed(self, message: str) -> None:
        self.failure = message


class Bench:
    """10 ms a step, 1 ms per decoding sequence (0.9 on the host, 0.1 for its token), 0.1 ms per prompt token."""

    def __init__(self, gpu: Gpu | None = None, parts: int = 1, **changes: Any) -> None:
        options = {"step_base_ms": 10, "step_per_sequence_us": 900, "compute_per_token_us": 100, **changes}
        self.clock = Clock()
        engines = [Engine(SimulatorOptions(**options)) for _ in range(parts)]
        self.every_metrics = [SimulatorMetrics(engine, "m") for engine in engines]
        self.metrics = self.every_metrics[0]
        loop = cast(asyncio.AbstractEventLoop, self.clock)
        self.machine = Machine(engines, gpu or Independent())
        self.realtime = RealTimeMachine(self.machine, self.every_metrics, loop)

    def submit(self, prompt: int, answer: int, tokenizing_s: float = 0.0, part: int = 0) -> tuple[Sequence, Collector]:
        sequence, collector = Sequence(prompt, answer), Collector()
        self.realtime.part(part).submit([(sequence, collector)], self.clock.now_s - tokenizing_s)
        return sequence, collector


def test_late_ends_do_not_add_up() -> None:
    bench = Bench()
    _, answer = bench.submit(prompt=50, answer=4)
    # 10 + 5 for the prompt, then 11 each, however late the one before was.
    due = [bench.clock.fire(late_s) for late_s in (0.003, 0.030, 0.002, 0.0)]
    assert due == pytest.approx([100.015, 100.026, 100.037, 100.048])
    assert answer.tokens == [(1, None), (2, None), (3, None), (4, "length")]
    lateness = bench.metrics.step_lateness_s
    assert sum(lateness.counts) == 4
    assert lateness.sum == pytest.approx(0.035)


def test_an_idle_engine_begins_when_a_sequence_arrives() -> None:
    bench = Bench()
    bench.submit(prompt=10, answer=1)
    assert bench.clock.fire() == pytest.approx(100.011)
    assert bench.clock.timer is None
    bench.clock.now_s = 200.0
    bench.submit(prompt=20, answer=1)
    assert bench.clock.fire() == pytest.approx(200.012)


def test_one_that_arrives_during_a_step_waits_for_its_end() -> None:
    bench = Bench()
    bench.submit(prompt=40, answer=2)  # until 100.014
    bench.clock.now_s = 100.004
    _, late = bench.submit(prompt=10, answer=1)
    assert bench.clock.fire() == pytest.approx(100.014)
    assert late.tokens == []
    assert bench.clock.fire() == pytest.approx(100.026)  # 10 + 1 + 1
    assert late.tokens == [(1, "length")]
    metrics = bench.metrics
    assert metrics.request_queue_time_s.sum == pytest.approx(0.010)
    assert metrics.request_prefill_time_s.sum == pytest.approx(0.014 + 0.012)
    assert metrics.request_decode_time_s.sum == pytest.approx(0.012)
    assert metrics.request_inference_time_s.sum == pytest.approx(0.026 + 0.012)
    assert metrics.time_to_first_token_s.sum == pytest.approx(0.014 + 0.022)
    assert metrics.e2e_request_latency_s.sum == pytest.approx(0.026 + 0.022)
    assert metrics.inter_token_latency_s.sum == pytest.approx(0.012)
    assert sum(metrics.inter_token_latency_s.counts) == 1
    assert (metrics.prompt_tokens, metrics.generation_tokens) == (50, 3)
    assert metrics.finished == {"stop": 0, "length": 2, "abort": 0, "error": 0}


def test_a_preempted_one_has_a_long_gap_and_waited_in_the_queue_once() -> None:
    bench = Bench(kv_capacity_tokens=48, max_model_len=48)  # three blocks
    _, first = bench.submit(prompt=8, answer=11)  # until 100.0108
    _, second = bench.submit(prompt=8, answer=10)
    # Both decode eight times, 12 ms each: they hold three blocks then, and the second needs another. So the first is
    # alone for its last, 11 ms; then 8 + 9 tokens of the second again, 11.7 ms.
    due = [bench.clock.fire() for _ in range(12)]
    assert due == pytest.approx([100.0108, 100.0226, *(100.0226 + 0.012 * i for i in range(1, 9)), 100.1296, 100.1413])
    assert first.tokens[-1] == (11, "length")
    assert second.tokens == [*((i, None) for i in range(1, 10)), (10, "length")]
    metrics = bench.metrics
    # 11.8, twice eight times 12, 11; the second's last token came 22.7 ms after the one before.
    assert sum(metrics.inter_token_latency_s.counts) == 19
    assert metrics.inter_token_latency_s.sum == pytest.approx(0.0118 + 16 * 0.012 + 0.011 + 0.0227)
    assert sum(metrics.request_queue_time_s.counts) == 2
    assert metrics.request_queue_time_s.sum == pytest.approx(0.0108)
    # The second took part from 100.0108 on, and waiting for its last token is no second time in the queue.
    assert first.parts_s == pytest.approx((0.0, 0.0108, 0.1188, 0.1296))
    assert second.parts_s == pytest.approx((0.0108, 0.0118, 0.1187, 0.1305))
    assert (metrics.prompt_tokens, metrics.generation_tokens) == (16, 21)
    assert 'vllm:num_preemptions_total{model_name="m",engine="0"} 1\n' in metrics.exposition()


def test_time_to_first_token_is_from_arrival_and_time_in_the_queue_from_submission_to_a_step() -> None:
    bench = Bench(step_per_sequence_us=0, compute_per_token_us=0)  # 10 ms any step
    bench.submit(prompt=1, answer=9)
    bench.clock.now_s = 100.006
    _, answer = bench.submit(prompt=1, answer=2, tokenizing_s=0.004)  # arrived at 100.002
    bench.clock.fire()
    bench.clock.fire(late_s=0.003)  # its first token is written at 100.023, not 100.020
    # Before it has ended it has a time to its first token, and no other.
    metrics = bench.metrics
    assert metrics.time_to_first_token_s.sum == pytest.approx(0.010 + 0.021)
    assert [sum(h.counts) for h in (metrics.request_queue_time_s, metrics.request_decode_time_s)] == [0, 0]
    bench.clock.fire()
    assert answer.parts_s == pytest.approx((0.004, 0.013, 0.007, 0.020))
    assert metrics.request_queue_time_s.sum == pytest.approx(0.004)
    assert metrics.e2e_request_latency_s.sum == pytest.approx(0.028)


def test_who_is_written_later_in_a_step_has_waited_for_those_before() -> None:
    bench = Bench(step_per_sequence_us=0, compute_per_token_us=0)

    class Slow(Collector):
        def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
            super().last_token(generated_tokens, finish_reason, timing)
            bench.clock.now_s += 0.002  # writing takes so long

    slow, other = Slow(), Slow()
    bench.realtime.part(0).submit([(Sequence(1, 1), slow), (Sequence(1, 1), other)], 100.0)
    bench.clock.fire()
    assert bench.metrics.time_to_first_token_s.sum == pytest.approx(0.010 + 0.012)
    assert bench.metrics.e2e_request_latency_s.sum == pytest.approx(0.010 + 0.012)
    # The engine was through with both at the end of the step.
    assert slow.parts_s == other.parts_s == pytest.approx((0.0, 0.010, 0.0, 0.010))


def test_one_that_comes_before_a_late_process_gets_there_finds_the_next_step_begun() -> None:
    bench = Bench(step_per_sequence_us=0, compute_per_token_us=0)
    _, before = bench.submit(prompt=1, answer=2)
    bench.clock.now_s = 100.011  # the step that was to end at 100.010 has not been ended
    _, answer = bench.submit(prompt=1, answer=1)
    assert before.tokens == [(1, None)]
    assert bench.metrics.step_lateness_s.sum == pytest.approx(0.001)
    assert bench.clock.fire(late_s=0.002) == pytest.approx(100.020)
    assert bench.clock.fire() == pytest.approx(100.030)
    assert answer.parts_s == pytest.approx((0.009, 0.010, 0.0, 0.010))


def test_the_gpu_is_busy_while_steps_are_modelled_to_run() -> None:
    bench = Bench(step_per_sequence_us=0, compute_per_token_us=0)
    busy = bench.realtime.busy_time
    bench.clock.now_s = 100.5
    bench.submit(prompt=1, answer=3)  # 30 ms from here on
    bench.clock.fire(late_s=0.004)
    assert busy.until(bench.clock.now_s) == pytest.approx(0.014)
    bench.clock.fire()
    bench.clock.fire(late_s=0.006)
    # How late the process was does not count.
    assert busy.until(bench.clock.now_s) == pytest.approx(0.030)
    bench.clock.now_s = 101.0
    bench.submit(prompt=1, answer=1)
    bench.clock.fire()
    assert busy.until(101.25) == pytest.approx(0.040)
    assert busy.share(101.25) == pytest.approx(0.040)
    assert busy.share(101.52) == pytest.approx(0.020)  # since 100.52


def test_cancelling_counts_as_an_abort_once() -> None:
    bench = Bench()
    sequence, answer = bench.submit(prompt=10, answer=5)
    bench.clock.fire()
    bench.realtime.part(0).cancel(sequence)
    bench.realtime.part(0).cancel(sequence)
    bench.clock.fire()
    assert answer.tokens == [(1, None)]
    assert bench.clock.timer is None
    assert bench.metrics.finished["abort"] == 1


def test_cancelling_after_the_end_counts_nothing() -> None:
    bench = Bench()
    sequence, _ = bench.submit(prompt=10, answer=1)
    bench.clock.fire()
    bench.realtime.part(0).cancel(sequence)
    assert bench.metrics.finished == {"stop": 0, "length": 1, "abort": 0, "error": 0}


def test_closing_fails_what_is_under_way_and_what_still_comes() -> None:
    bench = Bench(max_num_seqs=1, max_num_batched_tokens=100)
    _, running = bench.submit(prompt=10, answer=5)
    _, waiting = bench.submit(prompt=10, answer=5)
    timer = bench.clock.timer
    bench.realtime.close("over")
    _, after = bench.submit(prompt=10, answer=5)
    assert [answer.failure for answer in (running, waiting, after)] == ["over"] * 3
    assert timer is not None
    assert timer.cancelled
    assert bench.metrics.finished["error"] == 2


# --- several parts


def test_the_next_end_moves_when_another_part_joins() -> None:
    # 10 ms of weights each, no time on the host to speak of.
    bench = Bench(
        Concurrent([1, 1], 0), 2, step_base_ms=0, weights_ms=10, step_per_sequence_us=0, compute_per_token_us=0
    )
    _, first = bench.submit(prompt=1, answer=1)
    assert bench.clock.timer is not None
    assert bench.clock.timer.when_s == pytest.approx(100.010)
    bench.clock.now_s = 100.005
    stale = bench.clock.timer
    _, second = bench.submit(prompt=1, answer=1, part=1)
    assert stale.cancelled
    # The first has 5 left at half the speed; then the second has 5 left, alone.
    assert bench.clock.fire() == pytest.approx(100.015)
    assert (first.tokens, second.tokens) == ([(1, "length")], [])
    assert bench.clock.fire() == pytest.approx(100.020)
    assert second.parts_s == pytest.approx((0.0, 0.015, 0.0, 0.015))
    assert bench.clock.timer is None
    assert bench.realtime.busy_time.until(100.5) == pytest.approx(0.020)


def test_parts_count_for_themselves_and_are_closed_for_themselves() -> None:
    bench = Bench(Independent(), 2)
    _, first = bench.submit(prompt=10, answer=2)
    _, second = bench.submit(prompt=20, answer=1, part=1)
    bench.realtime.part(0).close("crashed")
    assert first.failure == "crashed"
    assert bench.clock.fire() == pytest.approx(100.011)
    assert bench.clock.fire() == pytest.approx(100.012)
    assert second.tokens == [(1, "length")]
    assert [metrics.finished["error"] for metrics in bench.every_metrics] == [1, 0]
    assert [metrics.prompt_tokens for metrics in bench.every_metrics] == [0, 20]
    bench.submit(prompt=20, answer=1, part=1)
    timer = bench.clock.timer
    assert timer is not None
    bench.realtime.part(1).close("crashed, too")
    assert timer.cancelled


def test_a_timer_that_is_early_by_a_tick_does_not_turn_time_back() -> None:
    bench = Bench()
    bench.submit(prompt=10, answer=2)
    bench.clock.fire(late_s=-1e-9)
    _, answer = bench.submit(prompt=10, answer=1)
    bench.clock.fire()
    bench.clock.fire()
    assert answer.tokens == [(1, "length")]


def test_lateness_is_told_of_all_parts() -> None:
    bench = Bench(Independent(), 2)
    bench.submit(prompt=10, answer=1, part=1)
    bench.clock.fire(late_s=0.004)
    assert all(metrics.lateness is bench.realtime.lateness for metrics in bench.every_metrics)
    name = 'fairshare_simulator_step_lateness_p99_seconds{model_name="m",engine="0"} '
    [line] = [line for line in bench.metrics.exposition().splitlines() if line.startswith(name)]
    assert float(line.removeprefix(name)) == pytest.approx(0.004)


_requests = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 1), st.integers(1, 60), st.integers(1, 6)), min_size=1, max_size=10
)


@given(requests=_requests, gpu=st.sampled_from(["logical", "timeslice", "mps"]), late_ms=st.integers(0, 30))
def test_real_time_and_virtual_time_agree_however_late_the_process_is(
    requests: list[tuple[int, int, int, int]], gpu: str, late_ms: int
) -> None:
    def card() -> Gpu:
        if gpu == "logical":
            return Independent()
        return TimeSlice(0.002, 0.0001) if gpu == "timeslice" else Concurrent([0.5, 0.75], 0.05)

    requests.sort()
    changes: dict[str, Any] = {
        "weights_ms": 4,
        "kv_read_per_token_ns": 10000,
        "max_num_seqs": 3,
        "max_num_batched_tokens": 64,
    }
    config = SimulatorOptions(step_base_ms=2, step_per_sequence_us=900, compute_per_token_us=100, **changes)
    machine = Machine([Engine(config), Engine(config)], card())
    number: dict[Sequence, int] = {}
    expected: list[tuple[float, int]] = []
    spans: list[tuple[float, float]] = []
    for i, (at_ms, part, prompt, answer) in enumerate(requests):
        now_s = 100.0 + at_ms * 1e-3
        for end in machine.advance(now_s):
            expected += [(end.time_s, number[emission.sequence]) for emission in end.emissions]
            spans.append((end.start_s, end.time_s))
        sequence = Sequence(prompt, answer)
        number[sequence] = i
        machine.submit(part, [sequence], now_s)
    for end in machine.advance(1e9):
        expected += [(end.time_s, number[emission.sequence]) for emission in end.emissions]
        spans.append((end.start_s, end.time_s))

    bench = Bench(card(), 2, step_base_ms=2, **changes)
    found: list[tuple[float, int]] = []

    class Numbered(Collector):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def token(self, generated_tokens: int) -> None:
            found.append((bench.machine.now_s, self.number))

        def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
            found.append((bench.machine.now_s, self.number))

    clock = bench.clock
    for i, (at_ms, part, prompt, answer) in enumerate(requests):
        now_s = 100.0 + at_ms * 1e-3
        # What is due is handled by then, or only when this request makes it.
        while clock.timer is not None and clock.timer.when_s + late_ms * 1e-3 <= now_s:
            clock.fire(late_ms * 1e-3)
        clock.now_s = now_s
        bench.realtime.part(part).submit([(Sequence(prompt, answer), Numbered(i))], now_s)
    while clock.timer is not None:
        clock.fire(late_ms * 1e-3)
    assert found == expected
    busy_s, until_s = 0.0, 0.0
    for start_s, end_s in sorted(spans):  # the GPU is busy while a step of either runs
        busy_s += max(0.0, end_s - max(start_s, until_s))
        until_s = max(until_s, end_s)
    assert bench.realtime.busy_time.until(until_s) == pytest.approx(busy_s)
