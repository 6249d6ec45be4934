"""Injection: a fault at work in one streamed answer, between the engine and the answer's receivers.

The engine notices nothing: it makes its tokens when they are due, whatever becomes of them here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Many

from fairshare_locust.simulator.engine import FinishReason
from fairshare_locust.simulator.faults import Fault
from fairshare_locust.simulator.realtime import Receiver
from fairshare_locust.simulator.timing import Timing

__all__ = ["INJECTED_ERROR", "Injection", "reset_connection"]

INJECTED_ERROR = "This error was injected: the simulator was told to fail some requests."
"""What an injected error says."""


class Injection:
    """Lets half of an answer's tokens pass, of all its choices together; then the fault has its way.

    Attributes:
        receivers: to be given to the engine instead of the answer's own, in the same order.
    """

    def __init__(
        self,
        fault: Fault,
        receivers: Many[Receiver],
        tokens: int,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Stand before `receivers`, who will get `tokens` in all."""
        self._fault = fault
        self._first = receivers[0]
        self._transport = transport
        self._loop = loop
        self._safe: int | None = 0 if fault.kind == "slow" else tokens // 2  # still to pass; None: all
        self._held: deque[Callable[[], None]] | None = None  # None: nothing is held back
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.receivers = [_Held(self, receiver) for receiver in receivers]

    def deliver(self, give: Callable[[], None]) -> None:
        """Take one token on its way; `give` hands it on."""
        if self._closed:
            return
        if self._held is not None:
            self._held.append(give)
        elif self._safe is None or self._safe > 0:
            if self._safe is not None:
                self._safe -= 1
            give()
        else:
            self._strike(give)

    def fail(self, receiver: Receiver, message: str) -> None:
        """The engine gave up: nothing more comes, not even what was held back."""
        if not self._closed:
            self.close()
            receiver.failed(message)

    def close(self) -> None:
        """Nobody waits for the answer any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _strike(self, give: Callable[[], None]) -> None:
        match self._fault.kind:
            case "stall":
                self._held = deque([give])
                self._timer = self._loop.call_later(self._fault.for_s, self._release_all)
            case "slow":
                self._held = deque([give])
                self._timer = self._loop.call_later(self._fault.for_s, self._release_one)
            case "reset":
                self.close()
                reset_connection(self._transport)
            case _:
                self.fail(self._first, INJECTED_ERROR)

    def _release_all(self) -> None:
        """A stall happens once in an answer."""
        held, self._held, self._safe = self._held or (), None, None
        for give in held:
            give()

    def _release_one(self) -> None:
        assert self._held
        give = self._held.popleft()
        if self._held:
            self._timer = self._loop.call_later(self._fault.for_s, self._release_one)
        else:
            self._held = None
        give()


class _Held:
    """Stands before one receiver."""

    __slots__ = ("_injection", "_receiver")

    def __init__(self, injection: Injection, receiver: Receiver) -> None:
        self._injection = injection
        self._receiver = receiver

    def token(self, generated_tokens: int) -> None:
        self._injection.deliver(lambda: self._receiver.token(generated_tokens))

    def last_token(self, generated_tokens: int, finish_reason: FinishReason, timing: Timing) -> None:
        self._injection.deliver(lambda: self._receiver.last_token(generated_tokens, finish_reason, timing))

    def failed(self, message: str) -> None:
        self._injection.fail(self._receiver, message)


def reset_connection(transport: asyncio.Transport) -> None:
    """End a connection at once and without a farewell: its other end sees it reset (RST)."""
    transport_socket = transport.get_extra_info("socket")
    if transport_socket is not None:
        # Closed with a linger of no time, a socket sends a reset.
        transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
