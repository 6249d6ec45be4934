"""OpenTelemetry: a span for every request that was sent, and histograms of its latencies, with the tenant on them.

Locust's `--otel` sets the exporters up, as the OTEL_* variables say, and counts `locust.client.duration` by name. Its
spans come from the HTTP libraries that it instruments; our client reads its sockets itself, so the spans are made here,
from the records, once a request has ended.

span `request` (client), from when it was sent until it ended; an error unless its outcome is `ok`
    gen_ai.operation.name, gen_ai.request.model, gen_ai.response.finish_reasons, gen_ai.usage.input_tokens,
    gen_ai.usage.output_tokens, server.address, server.port, http.response.status_code, error.type: as OpenTelemetry's
    semantic conventions name them; error.type is the outcome
    fairshare.tenant, fairshare.phase, fairshare.request_id, fairshare.outcome, fairshare.worker: as on the record
    event `first token`
histograms by fairshare.tenant and fairshare.phase
    fairshare.ttft (s): first token, from when the request was due
    fairshare.tpot (s): time per output token after the first chunk

No text of a prompt, an answer or an error is among them: servers repeat what they were sent in what they complain of.

A span costs the load process about half a millisecond of CPU, to make and to encode it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gevent import subprocess
from locust.env import Environment

from fairshare_locust import __version__
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.errors import FairshareError
from fairshare_locust.live.prometheus import REQUEST_S, TOKEN_S
from fairshare_locust.record import RequestRecord
from fairshare_locust.recorder import tpot_ms

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

__all__ = ["prepare_opentelemetry", "trace_requests"]

_OPERATIONS = {"openai_chat": "chat", "openai_completions": "text_completion", "tgi": "text_completion"}

# Spans are encoded in one go, in which nobody else runs: 3 ms of it, where OpenTelemetry's 512 take 100 ms.
_BATCH = 16

_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


def prepare_opentelemetry() -> None:
    """Have OpenTelemetry get along with the load. Call it before Locust sets that up: as the locustfile loads.

    Its exporters work in the event loop that reads the streams. gRPC, which Locust takes if nothing is said, would hold
    that loop until the collector has answered, and ends programs that are started meanwhile; HTTP does neither.

    Raises FairshareError where somebody asks for gRPC.
    """
    os.environ.setdefault(_PROTOCOL, "http/protobuf")
    os.environ.setdefault("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(_BATCH))
    for signal in ("TRACES", "METRICS", "LOGS"):
        own = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
        name = own if own in os.environ else _PROTOCOL
        if "otlp" in os.getenv(f"OTEL_{signal}_EXPORTER", "otlp") and "grpc" in os.environ[name].lower():
            raise FairshareError(
                f"{name}: found {os.environ[name]!r}; must be 'http/protobuf' (a collector mostly takes it on port "
                "4318): gRPC holds up the load while it sends"
            )
    _keep_out_of_programs()


def _keep_out_of_programs() -> None:
    """Let what is registered with `os.register_at_fork` from now on rest in a fork that becomes another program.

    OpenTelemetry starts threads there, as in every fork. They are greenlets, and so, between fork and exec, others run
    in the child as well: a master's that reads its workers' messages never lets the exec happen.
    """
    register, fork = os.register_at_fork, subprocess.fork_and_watch
    becomes_program = False

    def fork_for_program(*args: Any) -> Any:
        nonlocal becomes_program
        becomes_program = True
        try:
            return fork(*args)
        finally:
            becomes_program = False

    def register_at_fork(*, after_in_child: Callable[[], Any] | None = None, **others: Callable[[], Any]) -> None:
        if after_in_child is not None:
            others["after_in_child"] = lambda: None if becomes_program else after_in_child()
        register(**others)

    subprocess.fork_and_watch = fork_for_program
    os.register_at_fork = register_at_fork  # type: ignore[assignment]


def trace_requests(environment: Environment, unix_s: Callable[[], float]) -> Callable[[], None]:
    """Tell OpenTelemetry of every request from now on, if Locust was started with `--otel`.

    Args:
        unix_s: wall-clock time of t = 0. It is asked at each request, as a worker may learn it better.

    Returns a function that ends it, safe to call twice.
    """
    with ExitStack() as ending:
        if getattr(environment.parsed_options, "otel", False):
            try:
                listener = _listener(unix_s)
            except ImportError:
                pass  # Locust has said what to install
            else:
                response: Any = environment.events.response  # type: ignore[attr-defined]
                response.add_listener(listener)
                ending.callback(response.remove_listener, listener)
        return ending.pop_all().close


def _listener(unix_s: Callable[[], float]) -> Callable[..., None]:
    """What is called with each record. Raises ImportError without OpenTelemetry, which nothing else here needs."""
    from opentelemetry.context import Context
    from opentelemetry.metrics import get_meter
    from opentelemetry.trace import SpanKind, StatusCode, get_tracer

    tracer = get_tracer("fairshare_locust", __version__)
    meter = get_meter("fairshare_locust", __version__)  # the same ones in every run of the process
    # OpenTelemetry's own buckets are made for milliseconds: a TTFT in seconds would fall into the first of them.
    ttft = meter.create_histogram(
        "fairshare.ttft",
        unit="s",
        description="First token, from when the request was due.",
        explicit_bucket_boundaries_advisory=REQUEST_S,
    )
    tpot = meter.create_histogram(
        "fairshare.tpot",
        unit="s",
        description="Time per output token after the first chunk.",
        explicit_bucket_boundaries_advisory=TOKEN_S,
    )

    def on_response(record: RequestRecord, **_: Any) -> None:
        if record.sent_s is None:
            return
        t0_ns = round(unix_s() * 1e9)
        span = tracer.start_span(
            "request",
            Context(),  # no part of a trace that may be open where records are made
            SpanKind.CLIENT,
            dict(_attributes(record)),
            start_time=t0_ns + _ns(record.sent_s),
        )
        if record.first_token_s is not None:
            span.add_event("first token", timestamp=t0_ns + _ns(record.first_token_s))
        if record.outcome != "ok":
            span.set_status(StatusCode.ERROR)
        span.end(t0_ns + _ns(record.sent_s if record.ended_s is None else record.ended_s))

        by = {"fairshare.tenant": record.tenant, "fairshare.phase": record.phase}
        if record.first_token_s is not None:
            ttft.record(record.first_token_s - record.scheduled_s, by)
        per_token_ms = tpot_ms(record)
        if per_token_ms is not None:
            tpot.record(per_token_ms / 1000, by)

    return on_response


def _ns(seconds: float) -> int:
    """A stamp of a record, which has microseconds, in nanoseconds."""
    return round(seconds * 1e6) * 1000


def _attributes(record: RequestRecord) -> Iterator[tuple[str, AttributeValue]]:
    """What is known of a request."""
    yield "fairshare.tenant", record.tenant
    yield "fairshare.phase", record.phase
    yield "fairshare.request_id", record.request_id
    yield "fairshare.outcome", record.outcome
    yield "fairshare.worker", record.worker
    if record.outcome != "ok":
        yield "error.type", record.outcome
    if record.api in _OPERATIONS:
        yield "gen_ai.operation.name", _OPERATIONS[record.api]
    if record.model is not None:
        yield "gen_ai.request.model", record.model
    if record.finish_reason is not None:
        yield "gen_ai.response.finish_reasons", (record.finish_reason,)
    if record.input_tokens is not None:
        yield "gen_ai.usage.input_tokens", record.input_tokens
    if record.output_tokens is not None:
        yield "gen_ai.usage.output_tokens", record.output_tokens
    if record.endpoint is not None:
        host, port = _address(record.endpoint)
        yield "server.address", host
        yield "server.port", port
    if record.status is not None:
        yield "http.response.status_code", record.status


@lru_cache
def _address(url: str) -> tuple[str, int]:
    endpoint = Endpoint.parse(url)
    return endpoint.host, endpoint.port
