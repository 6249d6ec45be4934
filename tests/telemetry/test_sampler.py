"""A thread that samples, whatever its source does."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairshare_locust.telemetry.sampler import Sampler
from fairshare_locust.telemetry.source import Sample, Source, UnavailableError

_SOON_S = 60.0


class Scripted:
    """A source that does what its script says, one entry a sample, and the last of them for ever."""

    def __init__(self, *script: float | Exception) -> None:
        self.problems: list[str] = []
        self.wholes: list[bool] = []
        self.lasts: list[bool] = []
        self.begun: list[tuple[int, float]] = []
        self.closed = False
        self._script = list(script)

    def begin(self) -> None:
        self.begun.append((len(self.wholes), time.monotonic()))

    def sample(self, whole: bool, last: bool = False) -> list[Sample]:
        self.wholes.append(whole)
        self.lasts.append(last)
        entry = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(entry, Exception):
            raise entry
        return [("device", "metric", entry)]

    def describe(self) -> dict[str, Any]:
        return {"devices": ["device"]}

    def close(self) -> None:
        self.closed = True


class Sink:
    """What the sampler delivered and told."""

    def __init__(self) -> None:
        self.delivered: queue.Queue[tuple[float, float]] = queue.Queue()
        self.told: queue.Queue[str] = queue.Queue()

    def deliver(self, sampler: Sampler, stamp_s: float, samples: list[Sample]) -> None:
        self.delivered.put((stamp_s, samples[0][2]))

    def next(self) -> tuple[float, float]:
        return self.delivered.get(timeout=_SOON_S)


@contextmanager
def sampling(source: Source | Exception, interval_s: float = 0.01) -> Iterator[tuple[Sampler, Sink]]:
    sink = Sink()

    def open_source() -> Source:
        if isinstance(source, Exception):
            raise source
        return source

    sampler = Sampler("nvml", None, open_source, interval_s, sink.deliver, sink.told.put)
    sampler.start()
    assert sampler.tried.wait(_SOON_S)
    yield sampler, sink
    sampler.end()
    sampler.join(_SOON_S)


def test_it_tries_at_once_delivers_from_t0_and_takes_a_last_sample() -> None:
    source = Scripted(1, 2, 3, 4)
    with sampling(source, interval_s=60.0) as (sampler, sink):
        assert sampler.works
        assert sink.delivered.empty()  # the try was before t = 0
        t0_s = time.monotonic()
        sampler.begin(t0_s)
        stamp_s, value = sink.next()
        assert value == 2
        assert stamp_s >= t0_s
    assert sink.next()[1] == 3
    assert sink.delivered.empty()
    assert source.closed
    assert source.wholes == [True, True, True]
    summary = sampler.summary()
    assert (summary["samples"], summary["failures"], summary["source"]) == (2, 0, "nvml")
    assert summary["devices"] == ["device"]


def test_the_source_begins_at_t0_and_is_told_which_sample_is_the_last() -> None:
    source = Scripted(1)
    with sampling(source) as (sampler, sink):
        t0_s = time.monotonic() + 0.05
        sampler.begin(t0_s)
        sink.next()
    ((samples_before, at_s),) = source.begun
    assert samples_before == 1  # the try
    assert at_s >= t0_s
    assert source.lasts.index(True) == len(source.lasts) - 1


def test_a_source_that_can_not_begin_is_told_and_sampled_all_the_same() -> None:
    class Stubborn(Scripted):
        def begin(self) -> None:
            raise UnavailableError("no beginning")

    with sampling(Stubborn(1)) as (sampler, sink):
        sampler.begin(time.monotonic())
        assert sink.next()[1] == 1
    assert sink.told.get_nowait() == "no beginning"


def test_no_sample_is_taken_before_it_is_due() -> None:
    with sampling(Scripted(1), interval_s=0.02) as (sampler, sink):
        t0_s = time.monotonic() + 0.05
        sampler.begin(t0_s)
        stamps = [sink.next()[0] - t0_s for _ in range(3)]
    assert all(stamp_s >= tick * 0.02 for tick, stamp_s in enumerate(stamps))


def test_ticks_that_pass_during_a_long_sample_are_left_out_and_counted() -> None:
    class Slow(Scripted):
        def sample(self, whole: bool, last: bool = False) -> list[Sample]:
            if len(self.wholes) == 1:  # the first after the try
                until_s = time.monotonic() + 0.05
                while time.monotonic() < until_s:
                    pass
            return super().sample(whole, last)

    with sampling(Slow(1), interval_s=0.02) as (sampler, sink):
        t0_s = time.monotonic()
        sampler.begin(t0_s)
        sink.next()
        second_s = sink.next()[0] - t0_s
    assert second_s >= 0.06  # the first tick after the 50 ms that the one at 0 took
    assert sampler.summary()["late_ticks"] >= 2


def test_the_whole_is_asked_for_at_the_start_now_and_then_and_at_the_end() -> None:
    source = Scripted(1)
    with sampling(source) as (sampler, sink):
        t0_s = time.monotonic()
        sampler.begin(t0_s)
        sink.next()
        while True not in source.wholes[2:]:
            stamp_s, _ = sink.next()
    assert source.wholes[1] is True
    assert stamp_s - t0_s >= 0.9
    assert False in source.wholes
    assert source.wholes[-1] is True


def test_a_source_that_can_not_be_opened_is_told_and_left() -> None:
    with sampling(UnavailableError("there is no driver")) as (sampler, sink):
        assert not sampler.works
        sampler.begin(time.monotonic())
    assert sink.told.get_nowait() == "there is no driver"
    assert sink.told.empty()
    assert sampler.summary()["problems"] == ["there is no driver"]
    assert sampler.summary()["samples"] == 0


def test_a_source_that_fails_is_told_once_and_asked_again() -> None:
    source = Scripted(1, 2, UnavailableError("gone"), 4)
    with sampling(source) as (sampler, sink):
        sampler.begin(time.monotonic())
        assert [sink.next()[1] for _ in range(3)] == [2, 4, 4]
    assert sink.told.get_nowait() == "gone"
    assert sink.told.empty()
    assert sampler.summary()["failures"] == 1
    assert sampler.works


def test_a_source_that_keeps_failing_is_not_asked_all_the_time() -> None:
    source = Scripted(UnavailableError("no such page"))
    with sampling(source) as (sampler, sink):
        sampler.begin(time.monotonic())
        assert sink.told.get(timeout=_SOON_S) == "no such page"
    assert len(source.wholes) <= 2  # the try, and the first tick
    assert sink.told.empty()
    assert sink.delivered.empty()


def test_an_error_nobody_thought_of_does_not_end_it() -> None:
    source = Scripted(1, ZeroDivisionError("oops"), 3)
    with sampling(source) as (sampler, sink):
        sampler.begin(time.monotonic())
        assert sink.next()[1] == 3
    assert sink.told.get_nowait() == "nvml: ZeroDivisionError('oops')"


def test_problems_of_the_source_are_told_once_each() -> None:
    source = Scripted(1)
    source.problems.append("slow")
    with sampling(source) as (sampler, sink):
        sampler.begin(time.monotonic())
        sink.next()
        source.problems.append("slower")
        assert sink.told.get(timeout=_SOON_S) == "slow"
        assert sink.told.get(timeout=_SOON_S) == "slower"
        sink.next()
    assert sink.told.empty()


def test_ended_before_it_began_it_delivers_nothing() -> None:
    source = Scripted(1)
    with sampling(source) as (sampler, sink):
        pass
    assert sink.delivered.empty()
    assert source.closed
    assert sampler.summary()["gaps"]["count"] == 0
