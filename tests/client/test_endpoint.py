"""Base URLs taken apart."""

from __future__ import annotations

import pytest

from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.errors import ServingError


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "prefix", "host_header"),
    [
        ("http://127.0.0.1:8000", "http", "127.0.0.1", 8000, "", "127.0.0.1:8000"),
        ("http://gpu", "http", "gpu", 80, "", "gpu"),
        ("http://gpu:80", "http", "gpu", 80, "", "gpu"),
        ("http://gpu:443", "http", "gpu", 443, "", "gpu:443"),
        ("https://gpu", "https", "gpu", 443, "", "gpu"),
        ("https://gpu:8443/v1", "https", "gpu", 8443, "", "gpu:8443"),
        ("HTTP://GPU.Example", "http", "gpu.example", 80, "", "gpu.example"),
        ("http://[::1]:8000", "http", "::1", 8000, "", "[::1]:8000"),
        ("http://[fe80::1]", "http", "fe80::1", 80, "", "[fe80::1]"),
        ("http://gpu/", "http", "gpu", 80, "", "gpu"),
        ("http://gpu/v1/", "http", "gpu", 80, "", "gpu"),
        ("http://gpu/a/b/v1", "http", "gpu", 80, "/a/b", "gpu"),
        ("http://gpu/a//", "http", "gpu", 80, "/a", "gpu"),
        ("http://gpu/v1beta", "http", "gpu", 80, "/v1beta", "gpu"),
    ],
)
def test_parts(url: str, scheme: str, host: str, port: int, prefix: str, host_header: str) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.scheme, endpoint.host, endpoint.port, endpoint.prefix) == (scheme, host, port, prefix)
    assert endpoint.host_header == host_header
    assert endpoint.url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu:8000",
        "ftp://gpu",
        "http://",
        "http:///v1",
        "http://user:key@gpu",
        "http://gpu:port",
        "http://gpu:99999",
        "http://[::1",
        "http://grün:8000",
        "http://gpu/größe",
        "http://gpu/a b",
        "http://gpu/a\r\nX: y",
        "http://gpu/?key=1",
        "http://gpu/#top",
        "http://gpu:0",
    ],
)
def test_no_endpoint(url: str) -> None:
    with pytest.raises(ServingError) as caught:
        Endpoint.parse(url)
    assert repr(url) in str(caught.value)
    assert "http://127.0.0.1:8000" in str(caught.value)


def test_the_head_of_a_request() -> None:
    endpoint = Endpoint.parse("http://gpu:8000/eu/v1")
    assert endpoint.head("GET", "/metrics", {"X-A": "b"}, "key") == (
        b"GET /eu/metrics HTTP/1.1\r\n"
        b"Host: gpu:8000\r\n"
        b"User-Agent: fairshare-locust/0.1.0\r\n"
        b"Accept-Encoding: identity\r\n"
        b"X-A: b\r\n"
        b"Authorization: Bearer key\r\n"
    )
