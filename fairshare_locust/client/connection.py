"""Connection: one TCP or TLS connection whose bytes are read in the event loop's own callback.

A greenlet per stream that wakes for every segment costs a switch for each token, and its stamp is late by
however long other greenlets run before it. Here the loop calls `_readable` as soon as the kernel has bytes; it
receives, stamps and hands them on, and the greenlet that waits for the answer wakes once.
"""

from __future__ import annotations

import ssl
from time import monotonic
from typing import Any

import gevent
from gevent import monkey
from gevent import socket as gevent_socket

from fairshare_locust.client.endpoint import Endpoint

__all__ = ["Connection", "Receiver"]

# The plain socket class: receiving in the loop's callback must never switch greenlets.
_PlainSocket: Any = monkey.get_original("socket", "socket")

_RECEIVE_BYTES = 4096
# A stream of short segments is cheaper to receive into objects that Python's own allocator serves (512 bytes).
_SHORT_BYTES = 448


class Receiver:
    """What a connection calls, in the event loop: neither method may block."""

    __slots__ = ()

    def received(self, stamp: float, data: bytes) -> None:
        """Bytes arrived at `stamp` (time.monotonic)."""
        raise NotImplementedError

    def closed(self, error: OSError | None) -> None:
        """Nothing more will come: the peer closed (None) or the connection broke."""
        raise NotImplementedError


class Connection:
    """An open connection, to one endpoint, for one request at a time."""

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_receive",
        "_receive_bytes",
        "_socket",
        "_tls",
        "_watcher",
        "idle_since",
        "receiver",
    )

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._receive = socket.recv
        self._receive_bytes = _RECEIVE_BYTES
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._watcher: Any = None
        self.receiver: Receiver | None = None
        self.idle_since = 0.0

    @classmethod
    def open(cls, endpoint: Endpoint, timeout_s: float, tls: ssl.SSLContext | None) -> Connection:
        """Connect, with the TLS handshake if `tls` is given. Blocks the calling greenlet only.

        Raises OSError (TimeoutError after `timeout_s`; ssl.SSLError when the certificate does not hold).
        """
        timeout = gevent.Timeout(timeout_s)
        timeout.start()
        try:
            waiting_socket = gevent_socket.create_connection((endpoint.host, endpoint.port))
            plain = _PlainSocket(fileno=waiting_socket.detach())
            plain.setblocking(False)
            plain.setsockopt(gevent_socket.IPPROTO_TCP, gevent_socket.TCP_NODELAY, 1)
            connection = cls(plain)
            try:
                if tls is not None:
                    connection._handshake(tls, endpoint.host, monotonic() + timeout_s)
            except BaseException:
                plain.close()
                raise
            connection._watcher = gevent.get_hub().loop.io(plain.fileno(), 1)
            return connection
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
            raise TimeoutError(f"no connection within {timeout_s:g} s") from None
        finally:
            timeout.close()

    def _handshake(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_plain(self._outgoing.read(), deadline)
                gevent_socket.wait_read(self._socket.fileno())
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise ConnectionResetError("closed during the TLS handshake") from None
                self._incoming.write(data)
            else:
                self._send_plain(self._outgoing.read(), deadline)
                return

    def send(self, data: bytes, deadline: float) -> None:
        """Send everything; blocks the calling greenlet while the peer is slow.

        Raises OSError; TimeoutError at `deadline` (time.monotonic).
        """
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._send_plain(data, deadline)

    def _send_plain(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                left_s = max(0.0, deadline - monotonic())
                gevent_socket.wait_write(self._socket.fileno(), left_s, TimeoutError("not sent in time"))

    def listen(self, receiver: Receiver) -> None:
        """From now on `receiver` gets what arrives."""
        self.receiver = receiver
        self._watcher.start(self._readable)

    def expect(self, segment_bytes: int) -> None:
        """What arrives next will mostly be segments of about this size. A hint: longer ones cost a second read."""
        short = self._tls is None and segment_bytes < _SHORT_BYTES * 0.9
        self._receive_bytes = _SHORT_BYTES if short else _RECEIVE_BYTES

    def pause(self) -> None:
        """Nobody gets what arrives (it waits in the kernel)."""
        self._watcher.stop()
        self._receive_bytes = _RECEIVE_BYTES
        self.receiver = None

    def hang_up(self) -> None:
        """Shut both directions, so that a `send` under way ends; only `close` is of use afterwards."""
        try:
            self._socket.shutdown(gevent_socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster

    @property
    def quiet(self) -> bool:
        """Whether an idle connection is still open with nothing unread: fit to be used again."""
        if self._tls is not None and (self._incoming.pending or self._tls.pending()):
            return False
        try:
            self._socket.recv(1, gevent_socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close at once; safe to call twice. The watcher goes before its file descriptor does."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self.receiver = None
        self._socket.close()

    def _readable(self) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        try:
            data = self._receive(self._receive_bytes)
            stamp = monotonic()
        except BlockingIOError:
            return
        except OSError as error:
            receiver.closed(error)
            return
        if self._tls is not None:
            self._decrypt(self._tls, stamp, data, receiver)
        elif data:
            receiver.received(stamp, data)
            if len(data) == self._receive_bytes:
                self._receive_bytes = _RECEIVE_BYTES
        else:
            receiver.closed(None)

    def _decrypt(self, tls: ssl.SSLObject, stamp: float, data: bytes, receiver: Receiver) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        try:
            while self.receiver is receiver:
                plain = tls.read(_RECEIVE_BYTES)
                if not plain:
                    receiver.closed(None)
                    return
                receiver.received(stamp, plain)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            receiver.closed(None)
        except OSError as error:
            receiver.closed(error)
