"""Probing a server that runs already: does it answer, which model, and what does it accept?"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from dataclasses import dataclass, replace
from typing import Any

import orjson

from fairshare_locust.client.client import StreamingClient
from fairshare_locust.client.dialects import DIALECTS, EVERY_OPTION, PLAIN_OPTIONS, TGI, Ask, Option, ServerFamily
from fairshare_locust.client.dialects.dialect import error_message
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.workload.tokenizer import Tokenizer

__all__ = ["Found", "api_key", "key_of", "probe", "prompt_overhead_tokens", "reach"]

# Ways to ask for an answer of a fixed length and for all that a tenant asks, most exact first; the first that the
# server takes is used. transformers serve reads a frequency_penalty as something else, so it gets none.
_CANDIDATES = (
    ServerFamily("unknown", ignore_eos=True, takes=EVERY_OPTION),
    ServerFamily("unknown", ignore_eos=True, takes=PLAIN_OPTIONS),
    ServerFamily("transformers", generation_config=True, takes=frozenset(("seed",))),
    ServerFamily("unknown", takes=PLAIN_OPTIONS),
    ServerFamily("unknown", stream_usage=False),
)
# Servers that take anything, and pass over in silence what they do not know.
_TAKEN_IN_FACT: dict[str, frozenset[Option]] = {"llamacpp": PLAIN_OPTIONS | {"top_k"}}
# Two prompts of different length. The second has something of all that tokenizers disagree about.
_PROMPT = "Hello"
_LONGER_PROMPT = (
    "Hello again! In 1987, twelve engineers (nine of them from Zürich) re-built the observatory's 3.14159 m mirror; "
    'nobody, not even Dr. O\'Neill, expected "unbelievable" sharpness: 0x7F <= f(x) && y != null → 42 % 日本'
)
_CONNECT_WITHIN_S = 5.0


# A server that is there but does not answer should be told before anybody loses patience.
_ANSWER_WITHIN_S = 20.0
# What transformers serve says, which lists no model, when it is asked for another one than its own.
_PINNED = re.compile(r"pinned to '([^']+)'")


@dataclass(frozen=True, slots=True)
class _Models:
    """What the server lists. `owner` is its own word for who made them: engines write their name there."""

    names: tuple[str, ...] = ()
    owner: str | None = None
    max_model_len: int | None = None  # of the first


@dataclass(frozen=True, slots=True)
class Found:
    """A server that works: the model's name there, its family, and the longest prompt and answer, where told.

    `prompt_tokens` is its own count of the probe's prompt; None if it told none.
    """

    model: str
    family: ServerFamily
    max_model_len: int | None
    prompt_tokens: int | None


def api_key(tenant: Tenant) -> str | None:
    """The tenant's key from its environment variable. Raises ServingError when that is not set."""
    return key_of(tenant.id, tenant.api_key_env)


def key_of(tenant_id: str, variable: str | None) -> str | None:
    """The same for a tenant of whom only this is known."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ServingError(
            f"tenant {tenant_id!r}: api_key_env names {variable}, which is not set; export it with the key"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ServingError(f"tenant {tenant_id!r}: the key in {variable} has characters no HTTP header takes")
    return key


def probe(profile: Profile, tenant: Tenant, url: str, *, answer_within_s: float | None = None) -> Found:
    """What the server at `url` is, found by asking it for one token.

    `answer_within_s` is for a server that has just been started; others have as long as a tenant's requests, at most
    20 s.

    Raises ServingError, in one line, when it does not answer or refuses.
    """
    key = api_key(tenant)
    try:
        return _probe(tenant.model or profile.model.name, tenant, Endpoint.parse(url), key, answer_within_s)
    except ServingError as error:
        if key is None or key not in str(error):
            raise
        raise ServingError(str(error).replace(key, "***")) from None  # servers like to repeat a key they refuse


def prompt_overhead_tokens(
    tenant: Tenant, url: str, found: Found, tokenizer: Tokenizer, *, answer_within_s: float | None = None
) -> int | None:
    """Tokens that the server adds to a prompt of one message by the tenant's API: its counts less the tokenizer's.

    None if it tells no counts, or if the difference depends on the text: then the tokenizers differ.
    """
    if found.prompt_tokens is None:
        return None
    exchange = _ask_one_token(
        tenant, Endpoint.parse(url), api_key(tenant), found.model, found.family, _LONGER_PROMPT, answer_within_s
    )
    longer_tokens = exchange.transcript.input_tokens
    if exchange.outcome != "ok" or longer_tokens is None:
        return None
    overhead = found.prompt_tokens - tokenizer.count(_PROMPT)
    return overhead if 0 <= overhead == longer_tokens - tokenizer.count(_LONGER_PROMPT) else None


def reach(url: str) -> None:
    """Raises ServingError when nobody listens at `url`, as seen from this host."""
    endpoint = Endpoint.parse(url)
    try:
        socket.create_connection((endpoint.host, endpoint.port), _CONNECT_WITHIN_S).close()
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ServingError(f"{endpoint.url} can't be reached from {socket.gethostname()}: {why}") from error


def _probe(model: str, tenant: Tenant, endpoint: Endpoint, key: str | None, answer_within_s: float | None) -> Found:
    if tenant.api == "tgi":
        _get(tenant, endpoint, "/health", None)
        models, candidates = _Models(), [TGI]
    else:
        models, candidates = _models(tenant, endpoint, key), list(_CANDIDATES)
    if tenant.model is not None and models.names and tenant.model not in models.names:
        raise ServingError(
            f"{endpoint.url}: tenant {tenant.id!r} asks for model {tenant.model!r}, which it does not list (it serves "
            f"{', '.join(models.names)}); load it there, or name another in tenants[].model"
        )
    if model == "auto":
        model = models.names[0] if models.names else "auto"
    while True:
        family = candidates[0]
        exchange = _ask_one_token(tenant, endpoint, key, model, family, _PROMPT, answer_within_s)
        if exchange.outcome == "ok":
            name = models.owner if models.owner and family.ignore_eos else family.name
            takes = family.takes & _TAKEN_IN_FACT.get(name, EVERY_OPTION)
            named = replace(family, name=name, takes=takes)
            return Found(model, named, models.max_model_len, exchange.transcript.input_tokens)
        pinned = _PINNED.search(exchange.error or "")
        if model == "auto" and pinned:
            model = pinned[1]
        elif exchange.status in (400, 422):
            refused = _body(tenant, model, family, _PROMPT)
            candidates = [other for other in candidates if _body(tenant, model, other, _PROMPT) != refused]
            if not candidates:
                break
        else:
            break
    if models.names and model not in models.names:
        hint = f" (it serves {', '.join(models.names)}); set model.name in the profile"
    elif model == "auto":
        hint = "; it lists no model: set model.name in the profile"
    else:
        hint = "; mend the server or the profile"
    raise ServingError(
        f"{endpoint.url}: tenant {tenant.id!r} asked {model!r} for one token and got {exchange.outcome}: "
        f"{exchange.error}{hint}"
    )


def _body(tenant: Tenant, model: str, family: ServerFamily, prompt: str) -> bytes:
    ask = Ask(
        model,
        None,
        prompt,
        1,
        tenant.sampling,
        family,
        priority=tenant.priority,
        cache_salt=tenant.cache_salt,
        adapter=tenant.model,
    )
    return DIALECTS[tenant.api].body(ask)


def _ask_one_token(
    tenant: Tenant,
    endpoint: Endpoint,
    key: str | None,
    model: str,
    family: ServerFamily,
    prompt: str,
    answer_within_s: float | None,
) -> Exchange:
    timeouts = replace(
        tenant.timeouts,
        connect_s=min(tenant.timeouts.connect_s, _CONNECT_WITHIN_S),
        first_token_s=answer_within_s or min(tenant.timeouts.first_token_s, _ANSWER_WITHIN_S),
        total_s=answer_within_s or min(tenant.timeouts.total_s, _ANSWER_WITHIN_S),
    )
    client = StreamingClient(endpoint, DIALECTS[tenant.api], timeouts, tenant.headers, key)
    exchange = client.exchange(_body(tenant, model, family, prompt), "probe")
    try:
        client.send(exchange)
    finally:
        client.close()
    return exchange


def _models(tenant: Tenant, endpoint: Endpoint, key: str | None) -> _Models:
    status, body = _get(tenant, endpoint, "/v1/models", key)
    if status in (401, 403):
        hint = f"the key in {tenant.api_key_env} is not the one it wants" if key else "set api_key_env in the profile"
        raise ServingError(f"{endpoint.url}: HTTP {status} {_reason(body)}: {hint}")
    try:
        listed: Any = orjson.loads(body)["data"] if status == 200 else []
        names = tuple(str(model["id"]) for model in listed)
        first: dict[str, Any] = listed[0] if listed else {}
        owner = str(first["owned_by"]) if first.get("owned_by") else None
        longest = first.get("max_model_len")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return _Models()
    known_as = {"fairshare-simulator": "simulator"}
    return _Models(names, known_as.get(owner, owner) if owner else None, longest if type(longest) is int else None)


def _get(tenant: Tenant, endpoint: Endpoint, path: str, key: str | None) -> tuple[int, bytes]:
    timeout_s = min(tenant.timeouts.connect_s, _CONNECT_WITHIN_S)
    connection: http.client.HTTPConnection
    if endpoint.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)
    headers = {**tenant.headers, **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        connection.request("GET", endpoint.prefix + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20)
    except ssl.SSLCertVerificationError as error:
        raise ServingError(
            f"{endpoint.url}: its certificate does not hold ({error.verify_message}); "
            "point SSL_CERT_FILE to the authority that signed it"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        why = (
            "no answer"
            if isinstance(error, TimeoutError | socket.timeout)
            else (getattr(error, "strerror", None) or str(error) or type(error).__name__)
        )
        raise ServingError(
            f"{endpoint.url} (tenant {tenant.id!r}) can't be reached: {why}; "
            "start the server, or name a running one with --host"
        ) from error
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "Unauthorized"
    return error_message(content.get("error") or content)[:200] if isinstance(content, dict) else "Unauthorized"
