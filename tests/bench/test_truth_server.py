"""The client sees every token that the truth server wrote, in order and never before it was written.

How long after is a matter of the machine, and measured by `bench.client`.
"""

from __future__ import annotations

import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import trustme

from bench.truth_server import Stamps, load_stamps
from fairshare_locust.client.client import StreamingClient
from fairshare_locust.client.dialects import DIALECTS, Ask, ServerFamily
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.profile.model import Sampling, Timeouts
from tests.forks import Fork

TOKENS = 100

Truth = Callable[..., tuple[str, Callable[[], Stamps]]]


@pytest.fixture
def truth(tmp_path: Path) -> Iterator[Truth]:
    """Starts truth servers; gives the endpoint, and a function that stops the server and reads its stamps."""
    processes: list[Fork] = []

    def start(*arguments: str) -> tuple[str, Callable[[], Stamps]]:
        file = tmp_path / "stamps.npz"
        options = ("--stamps", str(file), "--ttft-ms", "5", "--gap-ms", "1", *arguments)
        process = Fork("bench.truth_server", *options, keep_errors=False)
        processes.append(process)
        endpoint: str = orjson.loads(process.stdout.readline())["endpoint"]

        def stop() -> Stamps:
            process.send_signal(signal.SIGTERM)
            process.wait()
            return load_stamps(file)

        return endpoint, stop

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.close()


def ask(endpoint: str, requests: int, tls: ssl.SSLContext | None = None) -> list[Exchange]:
    dialect = DIALECTS["openai_chat"]
    client = StreamingClient(Endpoint.parse(endpoint), dialect, Timeouts(), tls=tls)
    body = dialect.body(Ask("truth", None, "Hello", TOKENS, Sampling(), ServerFamily("vllm", ignore_eos=True)))
    exchanges = [client.exchange(body, f"request-{number}") for number in range(requests)]
    for exchange in exchanges:
        client.send(exchange)
    client.close()
    return exchanges


@pytest.mark.parametrize(
    ("arguments", "tokens_told"),
    [
        ((), False),
        (("--jitter", "0.9"), False),
        (("--chunks-per-segment", "3"), False),
        (("--pieces-per-chunk", "3"), False),
        (("--continuous-usage",), True),
        (("--continuous-usage", "--tokens-per-chunk", "4"), True),
        (("--tokens-per-chunk", "7", "--chunks-per-segment", "2"), False),
    ],
)
@pytest.mark.parametrize("secure", [False, True])
def test_every_token_is_seen_once_and_after_it_was_written(
    truth: Truth, tmp_path: Path, arguments: tuple[str, ...], tokens_told: bool, secure: bool
) -> None:
    context = None
    if secure:
        authority = trustme.CA()
        certificate = tmp_path / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        arguments = (*arguments, "--certificate", str(certificate))
    endpoint, stop = truth(*arguments)
    exchanges = ask(endpoint, 3, context)
    stamps = stop()
    assert stamps.request_ids == [f"request-{number}" for number in range(3)]
    for exchange, received_s, written_s, tokens in zip(
        exchanges, stamps.received_s, stamps.written_s, stamps.tokens, strict=True
    ):
        seen_s: Any = np.array(exchange.transcript.stamps)
        assert exchange.outcome == "ok", exchange.error
        assert len(seen_s) == len(written_s)
        assert (seen_s >= written_s).all()
        assert (np.diff(seen_s) >= 0).all()
        assert exchange.sent_at is not None
        assert exchange.sent_at <= received_s
        assert exchange.transcript.output_tokens == TOKENS == tokens.sum()
        assert "".join(exchange.transcript.texts) == " token" * TOKENS
        assert exchange.transcript.chunk_tokens == (tokens.tolist() if tokens_told else None)


def test_one_connection_serves_all(truth: Truth) -> None:
    endpoint, stop = truth()
    assert [exchange.outcome for exchange in ask(endpoint, 5)] == ["ok"] * 5
    assert len(stop().request_ids) == 5
