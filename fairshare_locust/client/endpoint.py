"""Endpoint: a base URL taken apart once, with the request head that goes to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from fairshare_locust import __version__
from fairshare_locust.errors import ServingError

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens. `prefix` is the path of the base URL, without a slash at its end."""

    url: str
    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Take a base URL apart. A path ending in `/v1` means the same as one without it.

        Raises ServingError for anything but http:// and https:// with a host.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ServingError(f"endpoint {url!r}: {error}; give a URL such as http://127.0.0.1:8000") from error
        well_formed = parts.scheme in ("http", "https") and port != 0 and re.fullmatch("[!-~]+", url)
        if not well_formed or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ServingError(
                f"endpoint {url!r} is no http:// or https:// URL with a host (in ASCII, without password or query); "
                "give one such as http://127.0.0.1:8000"
            )
        prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(url, parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), prefix)

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    def head(self, method: str, path: str, headers: dict[str, str], key: str | None = None) -> bytes:
        """Request line and headers, up to the ones that differ from request to request; no closing blank line."""
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            f"Host: {self.host_header}",
            f"User-Agent: fairshare-locust/{__version__}",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if key is not None:
            lines.append(f"Authorization: Bearer {key}")
        return ("\r\n".join(lines) + "\r\n").encode("ascii")
