"""Scraper: gets one page again and again, on a connection of its own that stays open."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fairshare_locust.telemetry.source import UnavailableError
from fairshare_locust.telemetry.task import Identity

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Scraper"]

_TIMEOUT_S = 5.0
_LONGEST_BYTES = 16 << 20


class Scraper:
    """Gets `url` as the first of `identities`; where that one is refused, as the next, from then on.

    A token is read from the environment when it is sent.
    """

    def __init__(self, url: str, identities: Sequence[Identity] = (Identity(),)) -> None:
        parts = urlsplit(url)
        self._url = url
        self._path = parts.path or "/metrics"
        self._identities = identities
        self._at = 0
        assert parts.hostname is not None
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        )
        self._connection.response_class = _Answer

    def get(self) -> str:
        """The page's text. Raises UnavailableError: no whole answer in time, or one with another status than 200."""
        for _ in self._identities[1:]:
            try:
                return self._get_as(self._identities[self._at])
            except _RefusedError:
                self._at = (self._at + 1) % len(self._identities)
        return self._get_as(self._identities[self._at])

    def _get_as(self, identity: Identity) -> str:
        headers = {"Accept": "text/plain;version=0.0.4", **identity.headers, **self._authorization(identity.token_env)}
        reused = self._connection.sock is not None
        try:
            try:
                return self._get(headers)
            except (ConnectionError, http.client.BadStatusLine):
                if not reused:
                    raise
                # The server closed a connection that was idle for long.
                self.close()
                return self._get(headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnavailableError(f"{self._url} gives no answer: {_reason(error)}") from error
        except UnavailableError:
            self.close()
            raise

    def _get(self, headers: dict[str, str]) -> str:
        if self._connection.sock is not None:
            self._connection.sock.settimeout(_TIMEOUT_S)
        self._connection.request("GET", self._path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read(_LONGEST_BYTES)
        if answer.status in (401, 403):
            variables = dict.fromkeys(filter(None, (identity.token_env for identity in self._identities)))
            fix = f"it does not take the token in {' or '.join(variables)}" if variables else "it wants a token"
            raise _RefusedError(f"{self._url} answers HTTP {answer.status}: {fix}")
        if answer.status != 200:
            raise UnavailableError(f"{self._url} answers HTTP {answer.status}")
        if len(body) == _LONGEST_BYTES:
            raise UnavailableError(f"{self._url} sends more than {_LONGEST_BYTES >> 20} MiB: no page of metrics")
        if not _is_whole(answer, body):
            raise UnavailableError(f"{self._url} broke off in the middle of its page")
        return body.decode(errors="replace")

    def _authorization(self, token_env: str | None) -> dict[str, str]:
        if token_env is None:
            return {}
        token = os.environ.get(token_env, "").strip()
        if not token:
            raise UnavailableError(f"{self._url} is not asked: {token_env} is not set; export it with the token")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UnavailableError(f"{self._url} is not asked: {token_env} has characters no header takes")
        return {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        """Close the connection; the next `get` opens another."""
        with contextlib.suppress(OSError):
            self._connection.close()


class _RefusedError(UnavailableError):
    """It answers, but not to this identity."""


class _Answer(http.client.HTTPResponse):
    """An answer that comes in time as a whole, head and body: a socket's own limit is for each piece of it."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_InTime(sock, time.monotonic() + _TIMEOUT_S))


class _InTime(io.RawIOBase):
    """What a socket receives until then, on CLOCK_MONOTONIC. Raises TimeoutError after that."""

    def __init__(self, sock: socket.socket, until_s: float) -> None:
        self._sock = sock
        self._until_s = until_s
        self._raw = sock.makefile("rb", buffering=0)  # it keeps the socket open when the connection lets go of it

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        rest_s = self._until_s - time.monotonic()
        if rest_s <= 0:
            raise TimeoutError
        self._sock.settimeout(rest_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _is_whole(answer: http.client.HTTPResponse, body: bytes) -> bool:
    """Whether a page was read to its end: http.client raises nothing where one is cut short.

    Where its length wasn't announced, its format tells: the text ends with a line's end, OpenMetrics with `# EOF`.
    """
    if answer.chunked or answer.headers.get("Content-Length") is not None:
        return not answer.length
    if answer.headers.get_content_type() == "application/openmetrics-text":
        return body.rstrip().endswith(b"# EOF")
    return body.endswith(b"\n")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no page within {_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold ({error.verify_message})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
