"""A server that follows a script, over real sockets, in greenlets of the test's own event loop.

A script is a function of a `Peer`; it runs once for each connection. Where a test says what the client has to have
seen before the script goes on, the script waits for that (`Peer.until`), never for time to pass.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
from gevent import socket as gevent_socket
from gevent.pool import Pool
from gevent.server import StreamServer

__all__ = ["Peer", "Request", "Script", "ScriptedServer", "answer", "chunk", "event_stream", "until"]

Script = Callable[["Peer"], None]

_EVENT_STREAM = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def event_stream(framing: str = "Transfer-Encoding: chunked\r\n") -> bytes:
    """The head of a streamed answer; `framing` is what it says of the body's end."""
    return (_EVENT_STREAM + framing + "\r\n").encode()


def chunk(data: bytes) -> bytes:
    """A chunk of the chunked transfer coding; empty for the last one."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answer(status: str, body: bytes, content_type: str | None = "application/json", more: str = "") -> bytes:
    """A whole answer with its length."""
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status}\r\n{kind}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def until(condition: Callable[[], bool]) -> None:
    """Let the event loop do everything else that it has to do, until the condition holds."""
    while not condition():
        gevent.idle()


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire; header names in lower case, with every value they had."""

    line: str
    headers: dict[str, list[str]]
    body: bytes


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: Any, number: int, requests: list[Request], tls: ssl.SSLContext | None) -> None:
        self.number = number  # of the connection, from 0
        self._socket = sock
        self._requests = requests
        self._buffer = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = None if tls is None else tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        if self._tls is not None:
            self._handshake(self._tls)

    def _handshake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._outgoing.read())
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("the client closed in the TLS handshake") from None
                self._incoming.write(data)
            else:
                self._socket.sendall(self._outgoing.read())
                return

    def _receive(self) -> bytes:
        while True:
            if self._tls is not None:
                try:
                    return self._tls.read(65536)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    return b""
            data: bytes = self._socket.recv(65536)
            if self._tls is None or not data:
                return data
            self._incoming.write(data)

    def head(self) -> str:
        """Read the head of a request and leave its body where it is."""
        while b"\r\n\r\n" not in self._buffer:
            data = self._receive()
            if not data:
                raise ConnectionError("the client closed before its request was complete")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head.decode()

    def request(self) -> Request:
        """Read a whole request, and keep it for the test."""
        line, *lines = self.head().split("\r\n")
        headers: dict[str, list[str]] = {}
        for header in lines:
            name, _, value = header.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        length = int(headers["content-length"][0])
        while len(self._buffer) < length:
            data = self._receive()
            if not data:
                raise ConnectionError("the client closed before its request was complete")
            self._buffer += data
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        request = Request(line, headers, body)
        self._requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        """Send; one TLS record where there is TLS and the data fit one."""
        self.send_raw(self.encrypt(data))

    def encrypt(self, data: bytes) -> bytes:
        """What `send` would put on the wire."""
        if self._tls is None:
            return data
        written = 0
        while written < len(data):
            written += self._tls.write(data[written:])
        return self._outgoing.read()

    def close_notify(self) -> None:
        """End the TLS stream as TLS wants it."""
        assert self._tls is not None
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.send_raw(self._outgoing.read())

    def send_raw(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self._socket.sendall(data)

    def until(self, condition: Callable[[], bool]) -> None:
        """Until the client has come so far; see `until`."""
        until(condition)

    def wait_closed(self) -> None:
        """Until the client closes its end, whatever it still sends."""
        try:
            while self._socket.recv(65536):
                pass
        except OSError:
            pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class ScriptedServer:
    """Plays its script to each connection; `stop` raises what went wrong in one."""

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._script = script
        self._tls = tls
        self._errors: list[Exception] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = gevent_socket.socket(family, socket.SOCK_STREAM)
        # Small, so that a large request body does not disappear into the kernel's buffers.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.bind((host, 0))
        listener.listen(16)
        self.port: int = listener.getsockname()[1]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        self._server = StreamServer(listener, self._play, spawn=Pool())
        self._server.start()

    def _play(self, sock: Any, _address: Any) -> None:
        number = self.connections
        self.connections += 1
        try:
            peer = Peer(sock, number, self.requests, self._tls)
        except ConnectionError:
            return  # the client does not trust us: its test says so
        try:
            self._script(peer)
        except Exception as error:
            self._errors.append(error)

    def stop(self) -> None:
        """Close, and end the scripts that still run."""
        self._server.stop(timeout=0)
        if self._errors:
            raise self._errors[0]
