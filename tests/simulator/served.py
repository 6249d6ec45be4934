"""A simulator in a process of its own, and a client that keeps every byte it sends."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.forks import Fork

DEADLINE_S = 60.0  # after which a test that waits for something has failed


@dataclass
class Reply:
    status: int
    head: str
    body: bytes  # chunked coding taken off
    complete: bool  # ended as its framing says

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of each event: JSON values, and `[DONE]` as it is."""
        assert self.body.endswith(b"\n\n")
        lines = self.body.decode().removesuffix("\n\n").split("\n\n")
        data = [re.fullmatch("data: ?(.*)", line) for line in lines]
        values = [match[1] for match in data if match]
        assert len(values) == len(lines)
        return [value if value == "[DONE]" else json.loads(value) for value in values]


class Served:
    """A running simulator, or one of its parts."""

    def __init__(self, process: Fork, announcement: dict[str, Any], endpoint: str | None = None) -> None:
        self.process = process
        self.announcement = announcement
        endpoints = announcement.get("endpoints") or [announcement["endpoint"]]
        self.address = _address(endpoint or endpoints[0])

    @property
    def parts(self) -> list[Served]:
        """The same process, asked at the port of each of its parts."""
        return [Served(self.process, self.announcement, endpoint) for endpoint in self.announcement["endpoints"]]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=DEADLINE_S)

    def send(self, path: str, body: dict[str, Any] | bytes, **headers: str) -> socket.socket:
        """Send a request and leave the answer in the socket."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: simulator", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection = self.connect()
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        return connection

    def post(self, path: str, body: dict[str, Any] | bytes, **headers: str) -> Reply:
        with self.send(path, body, Connection="close", **headers) as connection:
            return read_reply(connection)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=DEADLINE_S)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def gpu(self) -> dict[str, float]:
        """What the exporter on the second port says, by name. (The parser's samples of a counter end in `_total`.)"""
        with urllib.request.urlopen(self.announcement["dcgm"], timeout=DEADLINE_S) as answer:
            text = answer.read().decode()
        return {family.name: family.samples[0].value for family in text_string_to_metric_families(text)}

    def metrics(self) -> dict[str, float]:
        """Samples without buckets; `name{finished_reason}` where there is one."""
        _, text = self.get("/metrics")
        samples = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                reason = sample.labels.get("finished_reason")
                if "le" not in sample.labels:
                    samples[f"{sample.name}{{{reason}}}" if reason else sample.name] = sample.value
        return samples

    def wait_for(self, name: str, value: float) -> dict[str, float]:
        """The metrics as soon as one of them, or one of the GPU's, has a value."""
        deadline_s = time.monotonic() + DEADLINE_S
        read = self.gpu if name.startswith("DCGM_") else self.metrics
        while (metrics := read())[name] != value:
            assert time.monotonic() < deadline_s, f"{name} stays {metrics[name]}, not {value}"
        return metrics


def _address(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def read_reply(connection: socket.socket, beginning: bytes = b"") -> Reply:
    """Everything until the server closes the connection, after what has been read of it."""
    raw = beginning
    while segment := connection.recv(65536):
        raw += segment
    return parse_reply(raw)


def parse_reply(raw: bytes) -> Reply:
    head, _, rest = raw.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    status = int(text.split()[1])
    if "transfer-encoding: chunked" not in text.lower():
        length = int(re.search(r"(?i)content-length: (\d+)", text)[1])  # type: ignore[index]
        return Reply(status, text, rest, len(rest) == length)
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return Reply(status, text, body, rest == b"\r\n")
        assert rest[length : length + 2] in (b"\r\n", b"")
        body, rest = body + rest[:length], rest[length + 2 :]
    return Reply(status, text, body, False)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """What the server sends until `wanted` is in it."""
    raw = b""
    while wanted not in raw:
        segment = connection.recv(65536)
        assert segment, f"closed before {wanted!r}: {raw!r}"
        raw += segment
    return raw


MODULE = "fairshare_locust.simulator"


@contextmanager
def serving(options: dict[str, Any], *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Served]:
    """Run a simulator with `options` of its engine; killed at the end, if it still runs."""
    more = {**os.environ, **(environment or {})}
    process = Fork(MODULE, "--options", json.dumps(options), *arguments, environment=more, keep_errors=False)
    try:
        line = process.stdout.readline()
        assert line, "the simulator did not start"
        yield Served(process, json.loads(line))
    finally:
        process.kill()
        process.wait()
        process.close()
