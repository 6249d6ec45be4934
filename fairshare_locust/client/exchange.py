"""Exchange: one request and its streamed answer, from the first byte sent to one outcome."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import httptools
import orjson
from gevent.hub import Waiter

from fairshare_locust.client.connection import Connection, Receiver
from fairshare_locust.client.dialects import Dialect, Transcript
from fairshare_locust.client.dialects.dialect import error_message
from fairshare_locust.client.pacer import pacer
from fairshare_locust.client.sse import SseParser
from fairshare_locust.client.template import Template
from fairshare_locust.profile.model import Timeouts
from fairshare_locust.record.record import Outcome

__all__ = ["Exchange"]

# After the first token, segments are put aside and parsed so many at a time: parsing never stands between
# two stamps for long, and a long answer never piles up.
_DIGEST_EVERY = 16
# An event may be no plain one by chance (a quote in its text), or all of them by nature (each with a count).
_TEMPLATE_TRIES = 4
# The end of a chunked answer: its last bytes as a whole, or, in a segment shorter than that, perhaps a part of them.
_ANSWER_END = b"\r\n\r\n"
_DONE_WITHIN = 64  # bytes of a segment's end; a comment may follow
_SHORTEST_WHOLE_END = 8
_ERROR_BODY_BYTES = 65536
# A server that said [DONE] owes only the end of its framing.
_LINGER_S = 1.0


class Exchange(Receiver):
    """A request on its way. `run` it in a greenlet; afterwards `outcome` and the stamps say how it went.

    All `..._at` are `time.monotonic()` seconds, None if it did not happen. Killed at any point, it still holds
    what was measured; `cancel` then settles the outcome.
    """

    __slots__ = (
        "_aborted",
        "_between_chunks",
        "_chunked",
        "_collecting",
        "_connection",
        "_content_type",
        "_deadline_timer",
        "_dialect",
        "_ended_stream",
        "_error_body",
        "_framed",
        "_http",
        "_parser",
        "_put_aside",
        "_request",
        "_reusable",
        "_sent",
        "_stamp",
        "_stamps",
        "_template",
        "_template_tries",
        "_timeouts",
        "_waiter",
        "_woken",
        "answered",
        "complete",
        "ended_at",
        "error",
        "headers_at",
        "on_first_token",
        "on_token",
        "outcome",
        "sent_at",
        "status",
        "transcript",
    )

    def __init__(self, dialect: Dialect, request: bytes, timeouts: Timeouts) -> None:
        self._dialect = dialect
        self._request = request
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._waiter: Any = None
        self._deadline_timer: Any = None
        self._http: Any = None
        self._parser = SseParser()
        self._stamp = 0.0
        self._stamps: list[float] = []  # of the segments put aside
        self._put_aside: list[bytes] = []
        self._template: Template | None = None
        self._template_tries = _TEMPLATE_TRIES
        self._collecting = False  # segments are put aside
        self._chunked = False
        self._between_chunks = False  # the HTTP parser is at the end of a chunk
        self._framed = False
        self._woken = False
        self._reusable = False
        self._sent = False  # the whole request was
        self._content_type = ""
        self._error_body = b""
        self._ended_stream = False
        self._aborted: tuple[Outcome, str] | None = None
        self.transcript = Transcript()
        self.answered = False  # any byte of an answer came
        self.complete = False  # the answer's HTTP framing is complete: the connection can be used again
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.status: int | None = None
        self.sent_at: float | None = None
        self.headers_at: float | None = None
        self.ended_at: float | None = None
        self.on_first_token: Callable[[Exchange, float], None] | None = None
        self.on_token: Callable[[Exchange, float], None] | None = None

    # --- the sending greenlet

    def run(self, acquire: Callable[[float], Connection], release: Callable[[Connection], None]) -> None:
        """Send, wait for the answer, settle the outcome. Only a kill of the greenlet is raised.

        `acquire(timeout_s)` gives a connection or raises OSError; `release` takes it back when another
        request can use it.
        """
        self.sent_at = monotonic()
        try:
            try:
                self._connection = acquire(self._timeouts.connect_s)
            except TimeoutError as error:
                self._settle("timeout", f"connect_s: {error}")
                return
            except OSError as error:
                self._settle("connection_error", f"can't connect: {_os_error(error)}")
                return
            if self._aborted is not None:
                self._settle(*self._aborted)
                return
            self._converse(self._connection)
        finally:
            self._let_go(release)

    def _converse(self, connection: Connection) -> None:
        self._http = httptools.HttpResponseParser(self)
        self._waiter = Waiter()
        deadline = self._next_deadline()
        self._arm(deadline)
        connection.listen(self)
        try:
            connection.send(self._request, deadline)
            self._sent = True
        except OSError:
            # The receiving side says what became of it: a server that refuses early may close before it has
            # read everything, with its answer on the way. If nothing comes, the deadline does.
            pass
        self._request = b""
        verdict = self._waiter.get()
        self._digest()
        broken_off = verdict is not None and verdict[0] in ("truncated", "connection_error")
        if verdict is None or (broken_off and self.transcript.error is not None):
            verdict = self._judge()
        self._settle(*verdict)

    def _let_go(self, release: Callable[[Connection], None]) -> None:
        self._digest()
        self._disarm()
        self._http = None  # it knows our methods: without it nothing here waits for the garbage collector
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._reusable and self._sent:
            connection.pause()
            release(connection)
        else:
            connection.close()

    def cancel(self, reason: str) -> None:
        """Settle what a kill left open; no effect on an exchange that has its outcome."""
        if self.outcome is None:
            self._settle(*(self._judge() if self.complete else ("cancelled", reason)))

    def abort(self, outcome: Outcome, reason: str) -> None:
        """From another greenlet: end this exchange soon, with this outcome."""
        self._aborted = (outcome, reason)
        if self._waiter is not None:
            self._wake(self._aborted)

    def _settle(self, outcome: Outcome, error: str | None) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self.error = error
            if self.ended_at is None:
                self.ended_at = monotonic()

    def _judge(self) -> tuple[Outcome, str | None]:
        """The outcome of an answer that has come to its end, or broken off."""
        transcript = self.transcript
        if self.status != 200:
            return "http_error", f"HTTP {self.status}: {self._error_text()}"
        self._dialect.close(transcript)
        if transcript.error is not None:
            return "stream_error", transcript.error
        if transcript.ended:
            return "ok", None
        if not transcript.chunks and "event-stream" not in self._content_type:
            kind = self._content_type or "no content type"
            return "http_error", f"HTTP 200, but no event stream: {kind}: {self._error_text()}"
        return "truncated", "the stream ended without its proper end"

    def _error_text(self) -> str:
        try:
            body: Any = orjson.loads(self._error_body)
        except orjson.JSONDecodeError:
            text = self._error_body.decode(errors="replace")
        else:
            text = (
                error_message(body.get("error") or body.get("detail") or body) if isinstance(body, dict) else str(body)
            )
        return " ".join(text.split())[:500] or "(no body)"

    # --- the event loop

    def received(self, stamp: float, data: bytes) -> None:
        """Take in a segment. The only code that runs for every one; most are put aside, stamped."""
        if (
            self._collecting
            and not data.endswith(_ANSWER_END)
            and data.find(b"[DONE]", -_DONE_WITHIN) < 0
            and len(data) >= _SHORTEST_WHOLE_END
        ):
            put_aside = self._put_aside
            put_aside.append(data)
            self._stamps.append(stamp)
            if len(put_aside) >= _DIGEST_EVERY:
                self._digest()
            return
        self._digest()
        self._feed(stamp, data)

    def _digest(self) -> None:
        """Parse what was put aside."""
        segments, self._put_aside = self._put_aside, []
        stamps, self._stamps = self._stamps, []
        template = self._template
        if template is None or not segments:
            return
        match = template.match
        known_stamps, known_pieces = self.transcript.stamps, self.transcript.pieces
        for stamp, segment in zip(stamps, segments, strict=True):
            text = match(segment)
            if text is not None and self._between_chunks and self._parser.between_events:
                known_stamps.append(stamp)
                known_pieces.append(text)
            else:
                self._feed(stamp, segment)

    def _feed(self, stamp: float, data: bytes) -> None:
        """Frame and understand a segment in full."""
        self._stamp = stamp
        self.answered = True
        self._between_chunks = False
        try:
            self._http.feed_data(data)
            # A chunk was completed; a piece of the next one's size behind it has not been told of yet.
            self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._between_chunks = False
            self._reusable = False
            if not self.complete:
                self._wake(("http_error", f"malformed HTTP: {error}"))

    def closed(self, error: OSError | None) -> None:
        """The peer closed, or the connection broke."""
        self._digest()
        if error is None and self.headers_at is not None and not self._framed:
            self._wake(None)  # a body without length ends with its connection
        elif self.status not in (None, 200):
            self._wake(None)  # refused, though without the whole reason
        elif not self.answered:
            what = "the connection was closed" if error is None else _os_error(error)
            self._wake(("connection_error", f"no answer: {what}"))
        elif self._ended_stream:
            self._wake(None)
        elif error is None:
            self._wake(("truncated", "the connection was closed in mid-answer"))
        else:
            self._wake(("connection_error", f"broken in mid-answer: {_os_error(error)}"))

    def _wake(self, verdict: tuple[Outcome, str | None] | None) -> None:
        """Let the sending greenlet go on; the first verdict counts.

        It goes on after the other sockets that are readable now have been read and stamped.
        """
        if self._woken:
            return
        self._woken = True
        if self.ended_at is None:
            self.ended_at = monotonic()
        if self._connection is not None:
            self._connection.pause()
            if not self._sent:
                self._connection.hang_up()  # the greenlet may be waiting for the peer to take the rest
        self._disarm()
        pacer().call(self._waiter.switch, verdict)

    def _understand(self, stamp: float, data: bytes) -> None:
        transcript = self.transcript
        chunks_before = transcript.chunks
        whole = self._parser.between_events
        events = self._parser.feed(data)
        for event in events:
            try:
                self._dialect.read(event, stamp, transcript)
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                transcript.fail(f"event can't be read ({error}): {event[:200].decode(errors='replace')}")
        if transcript.chunks == chunks_before:
            return
        if chunks_before == 0:
            if self._deadline_timer is not None:
                self._arm(self._next_deadline())
            if self.on_first_token is not None:
                self.on_first_token(self, stamp)
        if self.on_token is not None:
            self.on_token(self, stamp)
        if self._template_tries and self._chunked and whole and len(events) == 1 and transcript.error is None:
            self._make_template(events[0], data)

    def _make_template(self, event: bytes, data: bytes) -> None:
        """Make a template of an event that is the whole content of its piece of body, if it is a plain one."""
        if self.transcript.chunk_tokens or data not in (b"data: %s\n\n" % event, b"data:%s\n\n" % event):
            return
        self._template_tries -= 1
        bounds = self._dialect.text_bounds(event)
        if bounds is None:
            return
        at = len(data) - len(event) - 2
        self._template = Template(data[: at + bounds[0]], data[at + bounds[1] :])
        self._template_tries = 0
        self._collecting = self.on_token is None
        if self._connection is not None:
            self._connection.expect(len(data))

    # --- deadlines

    def _next_deadline(self) -> float:
        assert self.sent_at is not None
        transcript = self.transcript
        if transcript.last_token_at is None:
            progress = self.sent_at + self._timeouts.first_token_s
        else:
            progress = transcript.last_token_at + self._timeouts.between_tokens_s
        return min(progress, self.sent_at + self._timeouts.total_s)

    def _arm(self, deadline: float) -> None:
        self._disarm()
        self._deadline_timer = gevent.get_hub().loop.timer(max(0.0, deadline - monotonic()))
        self._deadline_timer.start(self._deadline_passed, update=True)

    def _disarm(self) -> None:
        timer, self._deadline_timer = self._deadline_timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def _deadline_passed(self) -> None:
        self._digest()
        if self._ended_stream:
            self._wake(None)
            return
        deadline = self._next_deadline()
        now = monotonic()
        if now < deadline:
            self._arm(deadline)
            return
        assert self.sent_at is not None
        if now >= self.sent_at + self._timeouts.total_s:
            verdict = f"total_s: not finished within {self._timeouts.total_s:g} s"
        elif self.transcript.first_token_at is None:
            verdict = f"first_token_s: no token within {self._timeouts.first_token_s:g} s"
        else:
            verdict = f"between_tokens_s: no token for {self._timeouts.between_tokens_s:g} s"
        self._wake(("timeout", verdict))

    # --- the HTTP parser's callbacks

    def on_message_begin(self) -> None:
        """An answer begins. One that nobody asked for, behind the answer, stops the parser."""
        if self.complete:
            raise ValueError("an answer without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what decides how the body ends and what it is."""
        name = name.lower()
        if name == b"content-type":
            self._content_type = value.decode("latin-1").lower()
        elif name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding" and b"chunked" in value.lower():
            self._framed = self._chunked = True

    def on_headers_complete(self) -> None:
        """The head is there."""
        status = self._http.get_status_code()
        if status >= 200:
            self.status = status
            self.headers_at = self._stamp

    def on_body(self, data: bytes) -> None:
        """A piece of the body, stamped when its segment arrived."""
        if self.status != 200 or "event-stream" not in self._content_type:
            if len(self._error_body) < _ERROR_BODY_BYTES:
                self._error_body += data
            if self.status != 200:
                return
        self._understand(self._stamp, data)
        if self.transcript.ended and not self._ended_stream:
            self._ended_stream = True
            self._arm(monotonic() + _LINGER_S)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """A chunk is complete, its closing line end included."""
        self._between_chunks = True

    def on_message_complete(self) -> None:
        """The answer's framing is complete. An interim answer (1xx) is not the answer."""
        if self.status is not None and not self.complete:
            self.complete = True
            self._between_chunks = False
            self._reusable = self._http.should_keep_alive()
            self.ended_at = self._stamp
            self._wake(None)


def _os_error(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
