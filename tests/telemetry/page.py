"""A page that is served: what a server's `/metrics`, an exporter or an agent answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

__all__ = ["Page", "fixture"]

_SOON_S = 60.0


def fixture(name: str) -> str:
    """A recorded page."""
    return (Path(__file__).parent / "fixtures" / f"{name}.metrics.txt").read_text()


class Page:
    """Serves `text` with `status` on a free port, and remembers who asked.

    Attributes:
        gate: answers wait until it is open; it is.
        lets_in: the token without which the answer is 401; None: whoever asks.
        asked: the headers of each request so far.
        clients: the client's port of each request.
    """

    def __init__(self, text: str = "", status: int = 200, kind: str = "text/plain") -> None:
        self.text = text
        self.status = status
        self.gate = threading.Event()
        self.gate.set()
        self.hang_up = False
        self.lets_in: str | None = None
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.clients: list[int] = []
        self._changed = threading.Condition()
        page = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment

            def do_GET(self) -> None:
                with page._changed:
                    page.asked.append(dict(self.headers))
                    page.paths.append(self.path)
                    page.clients.append(self.client_address[1])
                    page._changed.notify_all()
                page.gate.wait(_SOON_S)
                body = page.text.encode()
                strange = page.lets_in and self.headers.get("Authorization") != f"Bearer {page.lets_in}"
                self.send_response(401 if strange else page.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = page.hang_up

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/metrics"

    def __enter__(self) -> Page:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, requests: int) -> None:
        """Until so many more were asked for; they may not have been answered yet."""
        with self._changed:
            wanted = len(self.asked) + requests
            assert self._changed.wait_for(lambda: len(self.asked) >= wanted, _SOON_S), "nobody asks"
