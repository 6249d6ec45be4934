"""Probing a server that runs already: does it answer, which model, and what does it accept?"""

from __future__ import annotations

import http.client
import os
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

__all__ = ["api_key", "probe"]

# Ways to ask for an answer of a fixed length, most exact first; the first that the server takes is used.
_CANDIDATES = (
    ServerFamily("unknown", ignore_eos=True),
    ServerFamily("transformers", generation_config=True),
    ServerFamily("unknown"),
    ServerFamily("unknown", stream_usage=False),
)
_CONNECT_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class _Models:
    """What the server lists. `owner` is its own word for who made them: engines write their name there."""

    names: tuple[str, ...]
    owner: str | None


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


def probe(profile: Profile, tenant: Tenant, url: str) -> tuple[str, ServerFamily]:
    """Model name and family of the server at `url`, found by one answer of one token.

    Raises ServingError, in one line, when it does not answer or refuses.
    """
    endpoint = Endpoint.parse(url)
    key = api_key(tenant)
    models = _Models((), None) if tenant.api == "tgi" else _models(tenant, endpoint, key)
    if tenant.api == "tgi":
        _reach(tenant, endpoint)
    model = profile.model.name
    if model == "auto" and tenant.api != "tgi":
        if not models.names:
            raise ServingError(
                f"{url}: the server lists no model, and model.name is auto; set model.name in the profile"
            )
        model = models.names[0]
    candidates = (ServerFamily("tgi"),) if tenant.api == "tgi" else _CANDIDATES
    refusals: list[Exchange] = []
    for family in candidates:
        exchange = _ask_one_token(tenant, endpoint, key, model, family)
        if exchange.outcome == "ok":
            name = models.owner if models.owner and family.ignore_eos else family.name
            return model, replace(family, name=name)
        refusals.append(exchange)
        if exchange.status not in (400, 422):
            break
    last = refusals[-1]
    listed = f" (it serves {', '.join(models.names)})" if models.names and model not in models.names else ""
    raise ServingError(
        f"{url}: tenant {tenant.id!r} asked {model!r} for one token and got {last.outcome}: {last.error}{listed}; "
        + ("set model.name" if listed else "mend the server or the profile")
    )


def _ask_one_token(tenant: Tenant, endpoint: Endpoint, key: str | None, model: str, family: ServerFamily) -> Exchange:
    dialect = DIALECTS[tenant.api]
    client = StreamingClient(endpoint, dialect, tenant.timeouts, tenant.headers, key)
    exchange = client.exchange(dialect.body(Ask(model, None, "Hello", 1, tenant.sampling, family)), "probe")
    try:
        client.send(exchange)
    finally:
        client.close()
    return exchange


def _reach(tenant: Tenant, endpoint: Endpoint) -> None:
    _get(tenant, endpoint, "/health", None)


def _models(tenant: Tenant, endpoint: Endpoint, key: str | None) -> _Models:
    status, body = _get(tenant, endpoint, "/v1/models", key)
    if status in (401, 403):
        hint = f"the key in {tenant.api_key_env} is not the one it wants" if key else "set api_key_env in the profile"
        raise ServingError(f"{endpoint.url}: HTTP {status} {_reason(body)}: {hint}")
    try:
        listed: Any = orjson.loads(body)["data"] if status == 200 else []
        names = tuple(str(model["id"]) for model in listed)
        owner = str(listed[0]["owned_by"]) if listed and listed[0].get("owned_by") else None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return _Models((), None)
    return _Models(names, {"fairshare-simulator": "simulator"}.get(owner, owner) if owner else None)


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
