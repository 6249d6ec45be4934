from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.prefix_cache import reset_prefix_caches
from fairshare_locust.profile import Profile
from tests.matrix.experiments import BASE, experiment


class Server(HTTPServer):
    """Answers with `status`, and keeps what it was asked."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str, str | None]] = []


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def profile(url: str) -> Profile:
    base = BASE.replace("engine: simulator", "engine: external")
    base = base.replace("    arrival", f"    endpoint: {url}/v1\n    api_key_env: TRIAL_KEY\n    arrival")
    [cell] = expand(experiment("repeats: 1", base))
    return cell.profile


def test_each_server_is_asked_once_with_its_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAL_KEY", "abc")
    assert reset_prefix_caches(profile(f"http://127.0.0.1:{server.server_port}")) == []
    assert server.asked == [("POST", "/reset_prefix_cache", "Bearer abc")]


def test_one_that_can_not_is_told(server: Server) -> None:
    server.status = 404
    assert reset_prefix_caches(profile(f"http://127.0.0.1:{server.server_port}")) == [
        f"127.0.0.1:{server.server_port}: its prefix cache can't be emptied (POST /reset_prefix_cache is answered with "
        "404); what one run left in it, the next one finds (vLLM: set VLLM_SERVER_DEV_MODE=1, or turn prefix caching "
        "off)"
    ]


def test_one_that_is_not_there_is_told(server: Server) -> None:
    port = server.server_port
    server.server_close()
    [note] = reset_prefix_caches(profile(f"http://127.0.0.1:{port}"))
    assert note.startswith(f"127.0.0.1:{port}: its prefix cache can't be emptied (POST /reset_prefix_cache: ")
