"""StreamingClient: keeps connections to an endpoint and sends exchanges over them."""

from __future__ import annotations

import ssl
from time import monotonic

from fairshare_locust.client.connection import Connection
from fairshare_locust.client.dialects import Dialect
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.profile.model import Timeouts

__all__ = ["StreamingClient"]

# Servers close idle connections (uvicorn after 5 s). One that is closed while a request travels to it fails
# that request through no fault of the server's, so older ones are not used again.
_REUSE_WITHIN_S = 4.0


class StreamingClient:
    """Sends one tenant's requests to one endpoint. The connections are shared by the tenant's slots."""

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: Dialect,
        timeouts: Timeouts,
        headers: dict[str, str] | None = None,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._dialect = dialect
        self._timeouts = timeouts
        self._tls = tls or (ssl.create_default_context() if endpoint.scheme == "https" else None)
        own = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        self._head = endpoint.head("POST", dialect.path, own | (headers or {}), key)
        self._idle: list[Connection] = []

    def exchange(self, body: bytes, request_id: str) -> Exchange:
        """An exchange for this body, to be `send`t. The id goes along as `X-Request-Id`."""
        tail = f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        return Exchange(self._dialect, self._head + tail.encode("ascii") + body, self._timeouts)

    def send(self, exchange: Exchange) -> None:
        """Run an exchange to its outcome; blocks the calling greenlet. Only a kill is raised."""
        exchange.run(self._acquire, self._release)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _acquire(self, timeout_s: float) -> Connection:
        now = monotonic()
        while self._idle:
            connection = self._idle.pop()  # the one used last: it is the least likely to be closed
            if now - connection.idle_since < _REUSE_WITHIN_S and connection.quiet:
                return connection
            connection.close()
        return Connection.open(self.endpoint, timeout_s, self._tls)

    def _release(self, connection: Connection) -> None:
        connection.idle_since = monotonic()
        self._idle.append(connection)
