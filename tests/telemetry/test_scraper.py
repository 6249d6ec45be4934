"""A page is the whole page, asked for as somebody who is let in, or it is no page."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fairshare_locust.telemetry import scraper
from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.source import UnavailableError
from fairshare_locust.telemetry.task import Identity
from tests.telemetry.page import Page

_SOON_S = 60.0
TEXT = b"vllm:num_requests_running 1\n"


@contextmanager
def answering(*pieces: bytes, every_s: float = 0.0) -> Iterator[str]:
    """The URL of a server that answers each connection with these pieces, so far apart, and closes it."""
    gone = threading.Event()

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        gone.wait(every_s)
                except OSError:
                    pass  # it has had enough

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        gone.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(_SOON_S)


def head(*lines: str, kind: str = "text/plain") -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Type: {kind}", *lines, "", ""]).encode()


OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    "answer",
    [
        head(f"Content-Length: {len(TEXT)}") + TEXT,
        head(f"Content-Length: {len(TEXT) - 1}") + TEXT[:-1],  # its length says that it is whole
        head("Transfer-Encoding: chunked") + b"1c\r\n" + TEXT + b"\r\n0\r\n\r\n",
        head() + TEXT,
        head(kind=OPEN_METRICS) + TEXT + b"# EOF\n",
    ],
)
def test_a_whole_page(answer: bytes) -> None:
    with answering(answer) as url:
        assert Scraper(url).get().startswith("vllm:num_requests_running 1")


@pytest.mark.parametrize(
    "answer",
    [
        head("Content-Length: 1000") + TEXT,
        head("Content-Length: 1000"),
        head("Transfer-Encoding: chunked") + b"100\r\n" + TEXT,
        head("Transfer-Encoding: chunked") + b"1c\r\n" + TEXT + b"\r\n",
        head() + TEXT[:-1],
        head(kind=OPEN_METRICS) + TEXT,
    ],
)
def test_half_a_page_is_none(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(UnavailableError):
        Scraper(url).get()


@pytest.mark.parametrize("start", [b"", head("Content-Length: 100000")])
def test_a_page_that_drips_is_given_up(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraper, "_TIMEOUT_S", 0.3)
    drops = [b"H"] * 1000  # each comes well within the limit, all of them in 50 s
    with answering(start, *drops, every_s=0.05) as url, pytest.raises(UnavailableError, match=r"no page within 0\.3 s"):
        Scraper(url).get()


def test_the_next_identity_is_tried_where_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k1")
    with Page(TEXT.decode()) as page:
        page.lets_in = "k1"
        asking = Scraper(
            page.url, [Identity(headers={"X-Team": "a"}), Identity(headers={"X-Team": "b"}, token_env="KEY")]
        )
        for _ in range(2):
            assert asking.get() == TEXT.decode()
        told = [(asked["X-Team"], asked.get("Authorization")) for asked in page.asked]
        assert told == [("a", None), ("b", "Bearer k1"), ("b", "Bearer k1")]
        page.lets_in = "k2"
        with pytest.raises(UnavailableError, match="HTTP 401: it does not take the token in KEY"):
            asking.get()
        asking.close()
