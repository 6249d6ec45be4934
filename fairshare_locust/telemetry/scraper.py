"""Scraper: gets one page again and again, on a connection of its own that stays open."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from fairshare_locust.telemetry.source import UnavailableError

__all__ = ["Scraper"]

_TIMEOUT_S = 5.0
_LONGEST_BYTES = 16 << 20


class Scraper:
    """Gets `url`. `token_env` names the environment variable with the bearer token, which is read when it is sent."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, token_env: str | None = None) -> None:
        parts = urlsplit(url)
        self._url = url
        self._path = parts.path or "/metrics"
        self._token_env = token_env
        self._headers = {"Accept": "text/plain;version=0.0.4", **(headers or {})}
        assert parts.hostname is not None
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        )

    def get(self) -> str:
        """The page's text. Raises UnavailableError: no answer, or one with another status than 200."""
        headers = {**self._headers, **self._authorization()}
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
        self._connection.request("GET", self._path, headers=headers)
        answer = self._connection.getresponse()
        body = answer.read(_LONGEST_BYTES)
        if answer.status in (401, 403):
            fix = f"it does not take the token in {self._token_env}" if self._token_env else "it wants a token"
            raise UnavailableError(f"{self._url} answers HTTP {answer.status}: {fix}")
        if answer.status != 200:
            raise UnavailableError(f"{self._url} answers HTTP {answer.status}")
        if len(body) == _LONGEST_BYTES:
            raise UnavailableError(f"{self._url} sends more than {_LONGEST_BYTES >> 20} MiB: no page of metrics")
        return body.decode(errors="replace")

    def _authorization(self) -> dict[str, str]:
        if self._token_env is None:
            return {}
        token = os.environ.get(self._token_env, "").strip()
        if not token:
            raise UnavailableError(f"{self._url} is not asked: {self._token_env} is not set; export it with the token")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UnavailableError(f"{self._url} is not asked: {self._token_env} has characters no header takes")
        return {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        """Close the connection; the next `get` opens another."""
        with contextlib.suppress(OSError):
            self._connection.close()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold ({error.verify_message})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
