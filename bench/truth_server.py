"""A server that knows the truth: it streams tokens on a set timetable and stamps each one as it writes it.

    python -m bench.truth_server --stamps FILE [--port 0] [--ttft-ms 200] [--gap-ms 20] ...

It speaks `/v1/chat/completions` and `/v1/completions` with vLLM's events, and stamps CLOCK_MONOTONIC, the clock
that a client on the same host stamps with, so that both can be compared token by token. One thread, one epoll, no
framework: what it does between two tokens is little, and known. It polls without sleeping while a token is due
within a millisecond, so it wants a core of its own.

When it ends (SIGTERM), `FILE` (npz) holds one entry per finished request, and the stamps of all their chunks in a row:
`request_ids`, `received_ns`, `first_chunk` (index into `written_ns`), `chunks`, `written_ns`, `written_tokens`.
The entry's stamp `written_ns` is taken just before the send that completes the chunk.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import re
import select
import signal
import socket
import ssl
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

__all__ = ["Stamps", "load_stamps", "main"]

_SPIN_NS = 1_000_000
_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: truth\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_MODELS = orjson.dumps({"object": "list", "data": [{"id": "truth", "object": "model", "owned_by": "vllm"}]})
_REQUEST_ID = re.compile(rb"^x-request-id: *(\S+)\r?$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length: *(\d+)\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Timetable:
    """When the tokens of an answer are written, and how they are packed.

    Attributes:
        jitter: each gap is uniform in `gap * (1 ± jitter)`, TTFT likewise.
        tokens_per_chunk: tokens in one event.
        chunks_per_segment: events written with one send.
        pieces_per_chunk: sends that one event takes, a quarter of a gap apart in all.
        continuous_usage: every event tells the tokens so far.
        stall_ns: nothing is written in `[from, to)` since the first request (a client's probe is none); what was due
            in it is due at its end.
    """

    ttft_ns: int
    gap_ns: int
    jitter: float
    tokens_per_chunk: int
    chunks_per_segment: int
    pieces_per_chunk: int
    continuous_usage: bool
    seed: int
    stall_ns: tuple[int, int] | None = None


@dataclass
class Answer:
    """One stream under way."""

    connection: Connection
    request_id: str
    chat: bool
    received_ns: int
    tokens: int
    usage: bool
    due_ns: list[int]
    written: int = 0  # chunks
    stamps: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    piece: int = 0


class Connection:
    """A client's connection: what has arrived of its next request."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.inbox = b""
        self.answer: Answer | None = None


class TruthServer:
    """Accepts, reads requests, and writes each chunk when it is due."""

    def __init__(self, listener: Any, timetable: Timetable, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._timetable = timetable
        self._tls = tls
        self._random = np.random.default_rng(timetable.seed)
        self._poll = select.epoll()
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._due: list[tuple[int, int, Answer]] = []
        self._serial = 0
        self.stopping = False
        self.finished: list[Answer] = []
        self.most_late_ns = 0
        self._began_ns: int | None = None

    def serve(self) -> None:
        """Until `stopping` is set."""
        while not self.stopping:
            now = time.monotonic_ns()
            if self._due:
                left_ns = self._due[0][0] - now
                timeout_s = 0.0 if left_ns < _SPIN_NS else (left_ns - _SPIN_NS) / 1e9
            else:
                timeout_s = 0.05
            for descriptor, _ in self._poll.poll(timeout_s):
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._receive(self._connections[descriptor])
            due = self._due
            while due and due[0][0] <= time.monotonic_ns():
                self._write(due[0][2])

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                try:
                    peer = self._tls.wrap_socket(peer, server_side=True)
                except OSError:
                    continue
            peer.setblocking(False)
            self._connections[peer.fileno()] = Connection(peer)
            self._poll.register(peer.fileno(), select.EPOLLIN)

    def _drop(self, connection: Connection) -> None:
        self._poll.unregister(connection.peer.fileno())
        del self._connections[connection.peer.fileno()]
        connection.peer.close()
        connection.answer = None

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.peer.recv(1 << 20)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.inbox += data
        head, separator, rest = connection.inbox.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        wanted = int(length[1]) if length else 0
        if len(rest) < wanted:
            return
        received_ns = time.monotonic_ns()
        connection.inbox = rest[wanted:]
        self._answer(connection, head, rest[:wanted], received_ns)

    def _answer(self, connection: Connection, head: bytes, body: bytes, received_ns: int) -> None:
        if not head.startswith(b"POST"):
            self._reply(connection, b"200 OK", _MODELS)
            return
        try:
            asked: dict[str, Any] = orjson.loads(body)
        except orjson.JSONDecodeError:
            self._reply(connection, b"400 Bad Request", b"{}")
            return
        tokens = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or 16)
        found_id = _REQUEST_ID.search(head)
        request_id = found_id[1].decode() if found_id else ""
        if self._began_ns is None and request_id != "probe":
            self._began_ns = received_ns
        self._send(connection, _HEAD)
        answer = Answer(
            connection=connection,
            request_id=request_id,
            chat=b"/chat/" in head.split(b"\r\n", 1)[0],
            received_ns=received_ns,
            tokens=tokens,
            usage=bool((asked.get("stream_options") or {}).get("include_usage")),
            due_ns=self._due_times(received_ns, -(-tokens // self._timetable.tokens_per_chunk)),
        )
        connection.answer = answer
        self._push(answer, answer.due_ns[0])

    def _reply(self, connection: Connection, status: bytes, content: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
        self._send(connection, head + content)

    def _due_times(self, received_ns: int, chunks: int) -> list[int]:
        table = self._timetable
        gaps = np.full(chunks, table.gap_ns, dtype=np.float64)
        gaps[0] = table.ttft_ns
        if table.jitter:
            gaps *= self._random.uniform(1 - table.jitter, 1 + table.jitter, chunks)
        due = (received_ns + np.cumsum(gaps)).astype(np.int64)
        if table.stall_ns is not None and self._began_ns is not None:
            start, end = (self._began_ns + at for at in table.stall_ns)
            due[(due >= start) & (due < end)] = end
        times: list[int] = due.tolist()
        return times

    def _push(self, answer: Answer, due_ns: int) -> None:
        self._serial += 1
        heapq.heappush(self._due, (due_ns, self._serial, answer))

    def _write(self, answer: Answer) -> None:
        """Write what is due of the answer at the top of the heap, and put it back for what comes next."""
        heapq.heappop(self._due)
        connection = answer.connection
        if connection.answer is not answer:
            return  # the client has gone
        table = self._timetable
        chunks = len(answer.due_ns)
        first = answer.written
        last = min(first + table.chunks_per_segment, chunks)
        segment = b"".join(self._chunk(answer, number) for number in range(first, last))
        pieces = table.pieces_per_chunk
        if pieces > 1:
            size = -(-len(segment) // pieces)
            part = segment[answer.piece * size : (answer.piece + 1) * size]
            answer.piece += 1
            if answer.piece < pieces:
                self._send(connection, part)
                self._push(answer, answer.due_ns[first] + answer.piece * table.gap_ns // (4 * pieces))
                return
            answer.piece = 0
            segment = part
        if last == chunks:
            segment += self._ending(answer)
        now = time.monotonic_ns()
        self._send(connection, segment)
        for number in range(first, last):
            answer.stamps.append(now)
            answer.counts.append(self._tokens_in(answer, number))
        answer.written = last
        if last < chunks:
            self._push(answer, answer.due_ns[last])
        else:
            connection.answer = None
            self.finished.append(answer)
        self.most_late_ns = max(self.most_late_ns, now - answer.due_ns[first])

    def _send(self, connection: Connection, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[connection.peer.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass  # the client is slow to read: that is its truth too
            except OSError:
                return

    def _tokens_in(self, answer: Answer, number: int) -> int:
        return min(self._timetable.tokens_per_chunk, answer.tokens - number * self._timetable.tokens_per_chunk)

    def _chunk(self, answer: Answer, number: int) -> bytes:
        tokens = self._tokens_in(answer, number)
        finish = b'"length"' if number == len(answer.due_ns) - 1 else b"null"
        usage = b""
        if self._timetable.continuous_usage:
            so_far = number * self._timetable.tokens_per_chunk + tokens
            usage = b',"usage":{"prompt_tokens":7,"total_tokens":%d,"completion_tokens":%d}' % (7 + so_far, so_far)
        text = b" token" * tokens
        delta = b'"delta":{"content":"%s"}' % text if answer.chat else b'"text":"%s"' % text
        kind = b"chat.completion.chunk" if answer.chat else b"text_completion"
        event = (
            b'data: {"id":"chatcmpl-0123456789abcdef","object":"%s","created":1795223833,"model":"truth",'
            b'"choices":[{"index":0,%s,"logprobs":null,"finish_reason":%s,"token_ids":null}]%s}\n\n'
            % (kind, delta, finish, usage)
        )
        return b"%x\r\n%s\r\n" % (len(event), event)

    def _ending(self, answer: Answer) -> bytes:
        ending = b""
        if answer.usage:
            event = (
                b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1795223833,'
                b'"model":"truth","choices":[],"usage":{"prompt_tokens":7,"total_tokens":%d,"completion_tokens":%d}}\n\n'
                % (7 + answer.tokens, answer.tokens)
            )
            ending += b"%x\r\n%s\r\n" % (len(event), event)
        return ending + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Stamps:
    """What the server wrote down. Times are seconds of CLOCK_MONOTONIC; arrays by request, and by chunk."""

    request_ids: list[str]
    received_s: np.ndarray[Any, np.dtype[np.float64]]
    written_s: list[np.ndarray[Any, np.dtype[np.float64]]]
    tokens: list[np.ndarray[Any, np.dtype[np.int64]]]
    most_late_ms: float


def save_stamps(path: Path, server: TruthServer) -> None:
    """Write the npz file that `load_stamps` reads."""
    finished = server.finished
    stamps = array("q")
    counts = array("q")
    for answer in finished:
        stamps.extend(answer.stamps)
        counts.extend(answer.counts)
    np.savez(
        path,
        request_ids=np.array([answer.request_id for answer in finished]),
        received_ns=np.array([answer.received_ns for answer in finished], dtype=np.int64),
        chunks=np.array([len(answer.stamps) for answer in finished], dtype=np.int64),
        written_ns=np.array(stamps, dtype=np.int64),
        written_tokens=np.array(counts, dtype=np.int64),
        most_late_ns=np.int64(server.most_late_ns),
    )


def load_stamps(path: Path) -> Stamps:
    """The server's stamps."""
    with np.load(path) as saved:
        ends = np.cumsum(saved["chunks"])[:-1]
        return Stamps(
            request_ids=saved["request_ids"].tolist(),
            received_s=saved["received_ns"] / 1e9,
            written_s=np.split(saved["written_ns"] / 1e9, ends),
            tokens=np.split(saved["written_tokens"], ends),
            most_late_ms=float(saved["most_late_ns"]) / 1e6,
        )


def main() -> None:
    """Serve until SIGTERM or SIGINT, then write the stamps."""
    parser = argparse.ArgumentParser(description="A streaming server that stamps every token it writes.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stamps", type=Path, required=True, help="npz file written at the end")
    parser.add_argument("--ttft-ms", type=float, default=200)
    parser.add_argument("--gap-ms", type=float, default=20)
    parser.add_argument("--jitter", type=float, default=0, help="gaps are uniform in gap × (1 ± jitter)")
    parser.add_argument("--tokens-per-chunk", type=int, default=1)
    parser.add_argument("--chunks-per-segment", type=int, default=1)
    parser.add_argument("--pieces-per-chunk", type=int, default=1)
    parser.add_argument("--continuous-usage", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall-s", type=float, nargs=2, metavar=("FROM", "TO"), help="write nothing in between")
    parser.add_argument("--certificate", type=Path, help="PEM file with key and chain: serve TLS")
    options = parser.parse_args()
    tls = None
    if options.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=4096)
    listener.setblocking(False)
    timetable = Timetable(
        ttft_ns=round(options.ttft_ms * 1e6),
        gap_ns=round(options.gap_ms * 1e6),
        jitter=options.jitter,
        tokens_per_chunk=options.tokens_per_chunk,
        chunks_per_segment=options.chunks_per_segment,
        pieces_per_chunk=options.pieces_per_chunk,
        continuous_usage=options.continuous_usage,
        seed=options.seed,
        stall_ns=None
        if options.stall_s is None
        else (round(options.stall_s[0] * 1e9), round(options.stall_s[1] * 1e9)),
    )
    server = TruthServer(listener, timetable, tls)

    def stop(*_: object) -> None:
        server.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause would be read as the client's
    port = listener.getsockname()[1]
    print(orjson.dumps({"endpoint": f"http{'s' if tls else ''}://127.0.0.1:{port}"}).decode(), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()
    save_stamps(options.stamps, server)


if __name__ == "__main__":
    main()
