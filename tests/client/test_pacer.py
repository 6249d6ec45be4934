"""Greenlets that want to go on together do so one after another, and sockets are read between them."""

from __future__ import annotations

import os
import time

import gevent
import pytest

from fairshare_locust.client.pacer import pacer
from tests.client.server import until


def _busy(seconds: float) -> None:
    """Longer than the pacer goes on without a look at the sockets."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_callbacks_run_once_and_in_order() -> None:
    ran: list[int] = []
    for i in range(500):
        pacer().call(ran.append, i)
    assert ran == []  # in the event loop, not at once
    until(lambda: len(ran) >= 500)
    gevent.idle()
    assert ran == list(range(500))


def test_sockets_are_read_between_callbacks() -> None:
    happened: list[str] = []
    reading, writing = os.pipe()
    os.write(writing, b"x")
    watcher = gevent.get_hub().loop.io(reading, 1)

    def read() -> None:
        os.read(reading, 1)
        happened.append("read")

    def work() -> None:
        _busy(0.001)
        happened.append("work")

    try:
        watcher.start(read)
        for _ in range(20):
            pacer().call(work)
        until(lambda: happened.count("work") == 20)
    finally:
        watcher.stop()
        watcher.close()
        os.close(reading)
        os.close(writing)
    assert happened.index("read") < 5


def test_a_greenlet_pauses_until_its_turn() -> None:
    happened: list[str] = []

    def go_on(name: str) -> None:
        pacer().pause()
        happened.append(name)

    greenlets = [gevent.spawn(go_on, name) for name in "abc"]
    gevent.joinall(greenlets, raise_error=True)
    assert happened == ["a", "b", "c"]


def test_a_greenlet_killed_in_its_pause_stays_dead() -> None:
    """Its turn comes and finds nobody; the next one's turn comes all the same."""
    happened: list[str] = []

    def go_on() -> None:
        happened.append("paused")
        pacer().pause()
        happened.append("went on")

    greenlet = gevent.spawn(go_on)
    pacer().call(lambda: greenlet.kill(block=False))  # its turn is before the one that `go_on` asks for
    pacer().call(_busy, 0.001)
    greenlet.join()
    pacer().call(happened.append, "the next")
    until(lambda: "the next" in happened)
    assert happened == ["paused", "the next"]


def test_callbacks_added_by_callbacks() -> None:
    ran: list[int] = []

    def again(left: int) -> None:
        ran.append(left)
        if left:
            pacer().call(again, left - 1)

    pacer().call(again, 10)
    until(lambda: len(ran) == 11)
    assert ran == list(range(10, -1, -1))


@pytest.mark.parametrize("count", [1, 300])
def test_the_queue_may_run_empty_and_fill_again(count: int) -> None:
    ran: list[int] = []
    for round_ in range(3):
        for i in range(count):
            pacer().call(ran.append, i)
        until(lambda: len(ran) == (round_ + 1) * count)  # noqa: B023
