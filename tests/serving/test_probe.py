"""The probe finds out what a server is, and says in one line what is wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile
from fairshare_locust.serving.probe import Found, probe
from tests.profile.profiles import MINIMAL, parse

KEY = "sk-4711-secret"

Answer = Callable[[str, dict[str, Any] | None, str], tuple[int, str, bytes]]
"""(path, body of a POST, Authorization) → status, content type, body."""

STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts servers that answer as a function says; gives the URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = orjson.loads(self.rfile.read(length)) if length else None
                status, kind, content = answer(self.path, body, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = reply  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def models(*names: str, **more: Any) -> bytes:
    return orjson.dumps({"data": [{"id": name, **more} for name in names]})


def profile(model: str = "auto", tenant: str = "") -> Profile:
    text = MINIMAL.replace("  - id: chat", f"  - id: chat{tenant}")
    lines = [f"model: {{name: {model}}}" if line.startswith("model:") else line for line in text.splitlines()]
    return parse("\n".join(lines) + "\n")


def found(url: str, **options: str) -> Found:
    chosen = profile(**options)
    return probe(chosen, chosen.tenants[0], url)


def test_a_server_like_vllm(serve: Callable[[Answer], str]) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: str) -> tuple[int, str, bytes]:
        if body is None:
            return 200, "application/json", models("llama", owned_by="vllm", max_model_len=2048)
        assert body["ignore_eos"] is True
        return 200, "text/event-stream", STREAM

    result = found(serve(answer))
    assert (result.model, result.family.name, result.family.ignore_eos, result.max_model_len) == (
        "llama",
        "vllm",
        True,
        2048,
    )


def test_a_server_like_transformers_lists_no_model_and_refuses_what_it_does_not_know(
    serve: Callable[[Answer], str],
) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: str) -> tuple[int, str, bytes]:
        if body is None:
            return 200, "application/json", models()
        if body["model"] != "/models/tiny":
            detail = f"Server is pinned to '/models/tiny'; requested '{body['model']}'."
            return 400, "application/json", orjson.dumps({"detail": detail})
        if "ignore_eos" in body:
            return 422, "application/json", b'{"detail":"unexpected fields: ignore_eos"}'
        assert orjson.loads(body["generation_config"])["min_new_tokens"] == 1
        return 200, "text/event-stream", STREAM

    result = found(serve(answer))
    assert result.model == "/models/tiny"
    assert result.family.generation_config


def test_a_server_that_takes_nothing_but_the_plain_api(serve: Callable[[Answer], str]) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: str) -> tuple[int, str, bytes]:
        if body is None:
            return 404, "text/html", b"<h1>not here</h1>"
        if body.keys() - {"model", "messages", "max_tokens", "stream", "temperature"}:
            return 400, "application/json", b'{"error":{"message":"unknown argument"}}'
        return 200, "text/event-stream", STREAM

    family = found(serve(answer), model="mine").family
    assert (family.name, family.ignore_eos, family.generation_config, family.stream_usage) == (
        "unknown",
        False,
        False,
        False,
    )


@pytest.mark.parametrize("at", ["GET", "POST"])
def test_a_key_that_the_server_repeats_is_not_told(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def answer(path: str, body: dict[str, Any] | None, authorization: str) -> tuple[int, str, bytes]:
        assert authorization == f"Bearer {KEY}"
        if at == "POST" and body is None:
            return 200, "application/json", models("m")
        message = orjson.dumps({"error": {"message": f"Incorrect API key provided: {authorization}"}})
        return 401, "application/json", message

    monkeypatch.setenv("TEST_PROBE_KEY", KEY)
    with pytest.raises(ServingError) as caught:
        found(serve(answer), tenant="\n    api_key_env: TEST_PROBE_KEY")
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value)
    assert "Incorrect API key" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_told_with_those_that_are_there(serve: Callable[[Answer], str]) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: str) -> tuple[int, str, bytes]:
        if body is None:
            return 200, "application/json", models("llama", "mistral")
        return 404, "application/json", b'{"error":{"message":"The model `other` does not exist."}}'

    with pytest.raises(ServingError, match=r"`other` does not exist.*it serves llama, mistral\); set model.name"):
        found(serve(answer), model="other")


def test_a_page_instead_of_an_api(serve: Callable[[Answer], str]) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: str) -> tuple[int, str, bytes]:
        return 200, "text/html", b"<html>Welcome</html>"

    with pytest.raises(ServingError, match=r"no event stream: text/html: <html>Welcome.*set model.name"):
        found(serve(answer))
