"""Token by token: does the client see the gaps that the server made, however the tokens are packed?

    python -m bench.packings [--streams 50]

For each way to pack tokens into events, segments and TLS records: the error of every single gap against the truth
server's stamps, with gaps that jitter by half.
"""

from __future__ import annotations

import argparse
import ssl
import sys
import tempfile
from pathlib import Path

import gevent
import numpy as np
import trustme
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from bench.client import truth_server
from bench.truth_server import load_stamps
from fairshare_locust.client.client import StreamingClient
from fairshare_locust.client.dialects import DIALECTS, Ask, ServerFamily
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.profile.model import Sampling, Timeouts

__all__ = ["PACKINGS", "main"]

TOKENS = 128
LIMIT_P99_MS = 5.0
JITTER = ("--jitter", "0.5")

PACKINGS: dict[str, tuple[str, ...]] = {
    "a token a segment": (),
    "three tokens in a segment": ("--chunks-per-segment", "3"),
    "a token in three segments": ("--pieces-per-chunk", "3"),
    "continuous usage": ("--continuous-usage",),
    "four tokens in a chunk, continuous usage": ("--tokens-per-chunk", "4", "--continuous-usage"),
}


def main() -> None:
    """Measure each packing, plain and over TLS, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=50)
    options = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD, title=f"gap error in ms, {options.streams} streams", title_justify="left")
    for column in ("packing", "transport", "gaps", "p50", "p99", "max"):
        table.add_column(column, justify="left" if column in ("packing", "transport") else "right")
    worst_p99_ms = 0.0
    for name, arguments in PACKINGS.items():
        for secure in (False, True):
            errors_ms = measure(arguments, options.streams, secure=secure)
            worst_p99_ms = max(worst_p99_ms, float(np.quantile(errors_ms, 0.99)))
            figures = [f"{value:.3f}" for value in (*np.quantile(errors_ms, (0.5, 0.99)), errors_ms.max())]
            table.add_row(name, "TLS" if secure else "plain", f"{len(errors_ms):,}", *figures)
    Console(highlight=False).print(table)
    if worst_p99_ms > LIMIT_P99_MS:
        sys.exit(f"gap error p99 {worst_p99_ms:.1f} ms; at most {LIMIT_P99_MS:g} ms is allowed")


def measure(arguments: tuple[str, ...], streams: int, *, secure: bool) -> NDArray[np.float64]:
    """Absolute errors, in ms, of all gaps of two requests on each stream. Raises RuntimeError for a lost token."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stamps.npz"
        context = None
        if secure:
            authority = trustme.CA()
            certificate = Path(folder) / "certificate.pem"
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
            context = ssl.create_default_context()
            authority.configure_trust(context)
            arguments = (*arguments, "--certificate", str(certificate))
        with truth_server(file, *JITTER, *arguments) as endpoint:
            exchanges = ask(endpoint, streams, context)
        stamps = load_stamps(file)
    written_s = dict(zip(stamps.request_ids, stamps.written_s, strict=True))
    errors_s = []
    for request_id, exchange in exchanges.items():
        seen_s = np.array(exchange.transcript.stamps)
        if exchange.outcome != "ok" or len(seen_s) != len(written_s[request_id]):
            raise RuntimeError(f"{request_id}: {exchange.outcome} {exchange.error}, {len(seen_s)} chunks")
        errors_s.append(np.diff(seen_s) - np.diff(written_s[request_id]))
    errors_ms: NDArray[np.float64] = np.abs(np.concatenate(errors_s)) * 1000
    return errors_ms


def ask(endpoint: str, streams: int, tls: ssl.SSLContext | None) -> dict[str, Exchange]:
    """Two requests on each stream, all streams at once; exchanges by request id."""
    dialect = DIALECTS["openai_chat"]
    client = StreamingClient(Endpoint.parse(endpoint), dialect, Timeouts(), tls=tls)
    body = dialect.body(Ask("truth", None, "Hello", TOKENS, Sampling(), ServerFamily("vllm", ignore_eos=True)))
    exchanges: dict[str, Exchange] = {}

    def stream(number: int) -> None:
        for turn in range(2):
            request_id = f"{number}-{turn}"
            exchanges[request_id] = client.exchange(body, request_id)
            client.send(exchanges[request_id])

    gevent.joinall([gevent.spawn(stream, number) for number in range(streams)], raise_error=True)
    client.close()
    return exchanges


if __name__ == "__main__":
    main()
