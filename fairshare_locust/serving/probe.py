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
from fairshare_locust.client.dialects import DIALECTS, Ask, ServerFamily
from fairshare_locust.client.dialects.dialect import error_message
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Profile, Tenant

__all__ = ["Found", "api_key", "probe"]

# Ways to ask for an answer of a fixed length, most exact first; the first that the server takes is used.
_CANDIDATES = (
    ServerFamily("unknown", ignore_eos=True),
    ServerFamily("transformers", generation_config=True),
    ServerFamily("unknown"),
    ServerFamily("unknown", stream_usage=False),
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
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A server that works: the model's name there, its family, and the longest prompt and answer, where told."""

    model: str
    family: ServerFamily
    max_model_len: int | None


def api_key(tenant: Tenant) -> str | None:
    """The tenant's key from its environment variable. Raises ServingError when that is not set."""
    if tenant.api_key_env is None:
        return None
    key = os.environ.get(tenant.api_key_env, "").strip()
    if not key:
        raise ServingError(
            f"tenant {tenant.id!r}: api_key_env names {tenant.api_key_env}, which is not set; export it with the key"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ServingError(f"tenant {tenant.id!r}: the key in {tenant.api_key_env} has characters no HTTP header takes")
    return key


def probe(profile: Profile, tenant: Tenant, url: str) -> Found:
    """What the server at `url` is, found by asking it for one token.

    Raises ServingError, in one line, when it does not answer or refuses.
    """
    key = api_key(tenant)
    try:
        return _probe(profile.model.name, tenant, Endpoint.parse(url), key)
    except ServingError as error:
        if key is None or key not in str(error):
            raise
        raise ServingError(str(error).replace(key, "***")) from None  # servers like to repeat a key they refuse


def _probe(model: str, tenant: Tenant, endpoint: Endpoint, key: str | None) -> Found:
    if tenant.api == "tgi":
        _get(tenant, endpoint, "/health", None)
        models, candidates = _Models(), [ServerFamily("tgi")]
    else:
        models, candidates = _models(tenant, endpoint, key), list(_CANDIDATES)
    if model == "auto":
        model = models.names[0] if models.names else "auto"
    while True:
        family = candidates[0]
        exchange = _ask_one_token(tenant, endpoint, key, model, family)
        if exchange.outcome == "ok":
            name = models.owner if models.owner and family.ignore_eos else family.name
            return Found(model, replace(family, name=name), models.max_model_len)
        pinned = _PINNED.search(exchange.error or "")
        if model == "auto" and pinned:
            model = pinned[1]
        elif exchange.status in (400, 422) and len(candidates) > 1:
            candidates.pop(0)
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


def _ask_one_token(tenant: Tenant, endpoint: Endpoint, key: str | None, model: str, family: ServerFamily) -> Exchange:
    dialect = DIALECTS[tenant.api]
    timeouts = replace(
        tenant.timeouts,
        connect_s=min(tenant.timeouts.connect_s, _CONNECT_WITHIN_S),
        first_token_s=min(tenant.timeouts.first_token_s, _ANSWER_WITHIN_S),
        total_s=min(tenant.timeouts.total_s, _ANSWER_WITHIN_S),
    )
    client = StreamingClient(endpoint, dialect, timeouts, tenant.headers, key)
    exchange = client.exchange(dialect.body(Ask(model, None, "Hello", 1, tenant.sampling, family)), "probe")
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
