"""The probe finds out what a server is, and says in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from fairshare_locust.client.dialects import EVERY_OPTION, PLAIN_OPTIONS
from fairshare_locust.errors import ServingError
from fairshare_locust.serving.probe import Found, probe, prompt_overhead_tokens
from fairshare_locust.workload.tokenizer import Tokenizer, load_tokenizer
from tests.serving.answers import JSON, Serve, models, profile, prompt, stream

KEY = "sk-4711-secret"
EVERYTHING = """
    priority: -1
    cache_salt: chat
    sampling: {top_k: 40, seed: 1, frequency_penalty: 0.5, presence_penalty: 0.5}"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("builtin")


def found(url: str, **options: str) -> Found:
    chosen = profile(**options)
    return probe(chosen, chosen.tenants[0], url)


def test_a_server_like_vllm(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama", owned_by="vllm", max_model_len=2048)
        assert body["ignore_eos"] is True
        return stream()

    result = found(serve(answer))
    assert (result.model, result.family.name, result.family.ignore_eos, result.max_model_len) == (
        "llama",
        "vllm",
        True,
        2048,
    )


def test_a_server_like_transformers_lists_no_model_and_refuses_what_it_does_not_know(
    serve: Serve,
) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models()
        if body["model"] != "/models/tiny":
            detail = f"Server is pinned to '/models/tiny'; requested '{body['model']}'."
            return 400, JSON, orjson.dumps({"detail": detail})
        if "ignore_eos" in body:
            return 422, JSON, b'{"detail":"unexpected fields: ignore_eos"}'
        assert orjson.loads(body["generation_config"])["min_new_tokens"] == 1
        return stream()

    result = found(serve(answer))
    assert result.model == "/models/tiny"
    assert result.family.generation_config


def test_a_server_that_takes_nothing_but_the_plain_api(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 404, "text/html", b"<h1>not here</h1>"
        if body.keys() - {"model", "messages", "max_tokens", "stream", "temperature"}:
            return 400, JSON, b'{"error":{"message":"unknown argument"}}'
        return stream()

    family = found(serve(answer), model="mine").family
    assert (family.name, family.ignore_eos, family.generation_config, family.stream_usage) == (
        "unknown",
        False,
        False,
        False,
    )


@pytest.mark.parametrize("at", ["GET", "POST"])
def test_a_key_that_the_server_repeats_is_not_told(serve: Serve, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def answer(path: str, body: dict[str, Any] | None, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        authorization = headers["Authorization"]
        assert authorization == f"Bearer {KEY}"
        if at == "POST" and body is None:
            return 200, JSON, models("m")
        message = orjson.dumps({"error": {"message": f"Incorrect API key provided: {authorization}"}})
        return 401, JSON, message

    monkeypatch.setenv("TEST_PROBE_KEY", KEY)
    with pytest.raises(ServingError) as caught:
        found(serve(answer), tenant="\n    api_key_env: TEST_PROBE_KEY")
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value)
    assert "Incorrect API key" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_told_with_those_that_are_there(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama", "mistral")
        return 404, JSON, b'{"error":{"message":"The model `other` does not exist."}}'

    with pytest.raises(ServingError, match=r"`other` does not exist.*it serves llama, mistral\); set model.name"):
        found(serve(answer), model="other")


def test_a_page_instead_of_an_api(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        return 200, "text/html", b"<html>Welcome</html>"

    with pytest.raises(ServingError, match=r"no event stream: text/html: <html>Welcome.*set model.name"):
        found(serve(answer))


# --- what it takes beyond the plain API


def test_a_server_that_refuses_nothing_gets_everything(serve: Serve) -> None:
    asked: list[dict[str, Any]] = []

    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama", owned_by="vllm")
        asked.append(body)
        return stream()

    family = found(serve(answer), tenant=EVERYTHING).family
    assert (family.name, family.takes, family.by_priority) == ("vllm", EVERY_OPTION, None)
    [body] = asked
    assert (body["priority"], body["cache_salt"], body["top_k"]) == (-1, "chat", 40)


def test_a_server_of_the_plain_options_still_has_its_length_forced(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 404, JSON, b"{}"
        if body.keys() & (EVERY_OPTION - PLAIN_OPTIONS):
            return 400, JSON, b'{"error":{"message":"unknown argument"}}'
        return stream()

    family = found(serve(answer), model="mine", tenant=EVERYTHING).family
    assert (family.name, family.takes, family.ignore_eos) == ("unknown", PLAIN_OPTIONS, True)


@pytest.mark.parametrize(("tenant", "bodies"), [("", 3), (EVERYTHING, 4)])
def test_no_server_is_asked_the_same_twice(serve: Serve, tenant: str, bodies: int) -> None:
    asked: list[bytes] = []

    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama")
        asked.append(orjson.dumps(body))
        if body.keys() & {"ignore_eos", "generation_config"}:
            return 422, JSON, b'{"detail":"unexpected fields"}'
        return stream()

    assert found(serve(answer), tenant=tenant).family.takes == PLAIN_OPTIONS
    assert len(asked) == len(set(asked)) == bodies


def test_a_server_that_passes_over_what_it_does_not_know_is_known_by_name(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        return (200, JSON, models("llama", owned_by="llamacpp")) if body is None else stream()

    assert found(serve(answer), tenant=EVERYTHING).family.takes == PLAIN_OPTIONS | {"top_k"}


# --- a tenant's own model


def test_a_tenants_own_model_is_asked_for(serve: Serve) -> None:
    asked = []

    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama", "sql-lora", max_model_len=2048)
        asked.append(body["model"])
        return stream()

    result = found(serve(answer), tenant="\n    model: sql-lora")
    assert (result.model, asked, result.max_model_len) == ("sql-lora", ["sql-lora"], 2048)


def test_a_tenants_own_model_has_to_be_listed(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        return (200, JSON, models("llama", "sql-lora")) if body is None else stream()  # whatever it is asked for

    with pytest.raises(ServingError, match=r"'law-lora', which it does not list \(it serves llama, sql-lora\)"):
        found(serve(answer), tenant="\n    model: law-lora")


def test_tgi_gets_a_tenants_own_model_as_an_adapter(serve: Serve) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, b""
        assert body["parameters"]["adapter_id"] == "sql-lora"
        event = {"token": {"text": "x"}, "generated_text": "x", "details": {"input_length": 9, "generated_tokens": 1}}
        return 200, "text/event-stream", b"data:%b\n\n" % orjson.dumps(event)

    result = found(serve(answer), tenant="\n    model: sql-lora\n    api: tgi")
    assert (result.family.name, result.prompt_tokens) == ("tgi", 9)
    assert result.family.takes == {"top_k", "seed", "frequency_penalty"}


# --- what it adds to a prompt


@pytest.mark.parametrize("api", ["openai_chat", "openai_completions"])
def test_the_overhead_is_what_the_server_counts_beyond_the_text(serve: Serve, tokenizer: Tokenizer, api: str) -> None:
    asked: list[str] = []

    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama")
        asked.append(prompt(body))
        assert body["max_tokens"] == 1
        return stream(tokenizer.count(asked[-1]) + (26 if path.endswith("chat/completions") else 1))

    url = serve(answer)
    chosen = profile(tenant=f"\n    api: {api}")
    result = probe(chosen, chosen.tenants[0], url)
    overhead = prompt_overhead_tokens(chosen.tenants[0], url, result, tokenizer)
    assert overhead == {"openai_chat": 26, "openai_completions": 1}[api]
    assert len(asked) == 2
    assert tokenizer.count(asked[1]) > 10 * tokenizer.count(asked[0])


@pytest.mark.parametrize(
    ("count", "asks"),
    [
        (len, 2),  # another tokenizer: a token for each character
        (lambda text: len(text.split()) + 5, 2),  # or for each word
        (lambda _: 0, 2),  # fewer than the text has
        (lambda _: None, 1),  # no usage: no need to ask again
        (lambda text: 9 if text == "Hello" else None, 2),
    ],
)
def test_an_overhead_that_can_not_be_known(serve: Serve, tokenizer: Tokenizer, count: Any, asks: int) -> None:
    asked: list[str] = []

    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama")
        asked.append(prompt(body))
        return stream(count(asked[-1]))

    url = serve(answer)
    chosen = profile()
    result = probe(chosen, chosen.tenants[0], url)
    assert prompt_overhead_tokens(chosen.tenants[0], url, result, tokenizer) is None
    assert len(asked) == asks


def test_a_server_that_refuses_the_longer_prompt_leaves_the_overhead_unknown(
    serve: Serve, tokenizer: Tokenizer
) -> None:
    def answer(path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama")
        return stream(9) if prompt(body) == "Hello" else (400, JSON, b'{"error":{"message":"too long"}}')

    url = serve(answer)
    chosen = profile()
    result = probe(chosen, chosen.tenants[0], url)
    assert prompt_overhead_tokens(chosen.tenants[0], url, result, tokenizer) is None


# --- headers


def test_a_gateways_headers_go_along(serve: Serve) -> None:
    seen: list[Mapping[str, str]] = []

    def answer(path: str, body: dict[str, Any] | None, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        seen.append({name.lower(): value for name, value in headers.items()})
        return (200, JSON, models("llama")) if body is None else stream()

    headers = {
        "x-gateway-inference-fairness-id": "tenant-a",
        "x-gateway-inference-objective": "interactive",
        "x-gateway-model-name-rewrite": "llama",
        "X-Vllm-Priority": "-2",
        "X-Session-ID": "7",
    }
    lines = "".join(f"\n      {name}: '{value}'" for name, value in headers.items())
    found(serve(answer), tenant=f"\n    headers:{lines}")
    assert len(seen) == 2
    for one in seen:
        assert {name: one.get(name.lower()) for name in headers} == headers
