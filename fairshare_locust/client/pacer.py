"""Pacer: lets greenlets go on a few at a time, and has the sockets read between them.

When a thousand answers end together, a thousand greenlets want to go on at once. gevent's loop runs at least fifty
callbacks before it looks at a socket again, and whatever arrives meanwhile is stamped late. The pacer
runs callbacks for a fraction of a millisecond, then lets the loop poll, and so on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent.hub import Waiter

__all__ = ["Pacer", "pacer"]

_SLICE_S = 0.0003


class Pacer:
    """A queue of callbacks beside the event loop's own."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        # An idle watcher is called once in each turn of the loop, and keeps it from sleeping while there is work.
        # With the highest priority it is called even when sockets are readable, so a busy loop does not starve it.
        self._turn: Any = hub.loop.idle(priority=2)

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call this from the event loop, in its turn, soon. It must not block."""
        self._queue.append((callback, arguments))
        if not self._turn.active:
            self._turn.start(self._run)

    def pause(self) -> None:
        """Let the sockets be read, and others have their turn, before the calling greenlet goes on."""
        waiter = Waiter(self.hub)
        self.call(waiter.switch, None)
        waiter.get()

    def _run(self) -> None:
        until = monotonic() + _SLICE_S
        queue = self._queue
        while queue:
            callback, arguments = queue.popleft()
            callback(*arguments)
            if monotonic() >= until:
                return
        self._turn.stop()


_pacer: Pacer | None = None


def pacer() -> Pacer:
    """The pacer of this thread's event loop."""
    global _pacer
    hub = gevent.get_hub()
    if _pacer is None or _pacer.hub is not hub:
        _pacer = Pacer(hub)
    return _pacer
