"""Spans and histograms of requests, in processes of their own: Locust patches the process that imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# What a test's program has: an environment as Locust makes it, and a way to say that a request has ended.
_PROLOGUE = """
import locust, argparse, json, sys
from locust.env import Environment
from locust.event import EventHook
from fairshare_locust.otel import trace_requests
from fairshare_locust.record import RequestRecord

environment = Environment(parsed_options=argparse.Namespace(otel={otel}))
environment.events.response = EventHook()

SCHEDULED = dict(request_id="chat-000007", tenant="chat", phase="measure", worker=3, index=7, scheduled_s=2.0)
SENT = dict(
    sent_s=2.25, headers_s=2.3, first_token_s=2.5, last_token_s=3.5, ended_s=3.500001, outcome="ok", status=200,
    finish_reason="length", input_tokens=40, output_tokens=11, tokens_from="usage", chunk_gap_us=[100_000] * 10,
    endpoint="http://llm.test:8000/v1", api="openai_chat", model="llama", prompt_sha="9f2c",
)

def respond(**changes):
    environment.events.response.fire(record=RequestRecord(**{{**SCHEDULED, **SENT, **changes}}))
"""

# Keeps what OpenTelemetry is told, instead of sending it anywhere.
_KEPT = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))

def told():
    spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    nanoseconds = [[span.start_time, span.end_time, *(event.timestamp for event in span.events)]
                   for span in exporter.get_finished_spans()]
    data = reader.get_metrics_data()
    found = [] if data is None else json.loads(data.to_json())["resource_metrics"][0]["scope_metrics"]
    return {"spans": spans, "nanoseconds": nanoseconds, "metrics": found}
"""


def run(program: str, folder: Path, *, otel: bool = True, kept: bool = True) -> Any:
    """What a program prints as JSON; a list of it if it prints several lines."""
    code = _PROLOGUE.format(otel=otel) + (_KEPT if kept else "") + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return answers if len(answers) > 1 else answers[0]


_REQUESTS = """
trace_requests(environment, lambda: 1_800_000_000.0)
respond()
respond(first_token_s=2.6)
respond(tenant="batch", phase="warmup", chunk_gap_us=[], output_tokens=1)
nothing = dict(headers_s=None, first_token_s=None, last_token_s=None, finish_reason=None, output_tokens=None,
               tokens_from=None, chunk_gap_us=None)
respond(**nothing, outcome="http_error", status=429, error="too many: SECRET PROMPT")
respond(**nothing, outcome="connection_error", status=None, error="reset")
respond(outcome="timeout", finish_reason=None, error="no token within 30 s after SECRET PROMPT")
respond(outcome="cancelled", finish_reason=None, error="the run ended first", tenant="late")
environment.events.response.fire(record=RequestRecord(**SCHEDULED, ended_s=2.0, outcome="shed"))
print(json.dumps(told()))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What OpenTelemetry is told of these requests."""
    answer: dict[str, Any] = run(_REQUESTS, tmp_path_factory.mktemp("otel"))
    return answer


def test_a_request_that_ended_well(told: dict[str, Any]) -> None:
    span = told["spans"][0]
    assert span["name"] == "request"
    assert span["kind"] == "SpanKind.CLIENT"
    assert span["parent_id"] is None
    assert span["status"] == {"status_code": "UNSET"}
    assert span["attributes"] == {
        "fairshare.tenant": "chat",
        "fairshare.phase": "measure",
        "fairshare.request_id": "chat-000007",
        "fairshare.outcome": "ok",
        "fairshare.worker": 3,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "llama",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 11,
        "server.address": "llm.test",
        "server.port": 8000,
        "http.response.status_code": 200,
    }
    assert [event["name"] for event in span["events"]] == ["first token"]
    # Sent 2.25 s, ended 3.500001 s, and had its first token 2.5 s after t = 0.
    assert told["nanoseconds"][0] == [1_800_000_002_250_000_000, 1_800_000_003_500_001_000, 1_800_000_002_500_000_000]


def test_requests_that_failed(told: dict[str, Any]) -> None:
    spans = [span for span in told["spans"] if span["attributes"]["fairshare.outcome"] != "ok"]
    assert [span["attributes"]["error.type"] for span in spans] == [
        "http_error",
        "connection_error",
        "timeout",
        "cancelled",
    ]
    assert [span["attributes"].get("http.response.status_code") for span in spans] == [429, None, 200, 200]
    assert [span["attributes"].get("gen_ai.usage.output_tokens") for span in spans] == [None, None, 11, 11]
    assert [len(span["events"]) for span in spans] == [0, 0, 1, 1]
    assert all(span["status"] == {"status_code": "ERROR"} for span in spans)
    assert not any("gen_ai.response.finish_reasons" in span["attributes"] for span in spans)


def test_what_the_server_says_is_not_passed_on(told: dict[str, Any]) -> None:
    assert "SECRET" not in json.dumps(told)


def test_a_request_that_was_never_sent_has_no_span(told: dict[str, Any]) -> None:
    assert len(told["spans"]) == 7
    assert "shed" not in json.dumps(told)


def test_latencies_by_tenant_and_phase(told: dict[str, Any]) -> None:
    [scope] = told["metrics"]
    assert scope["scope"]["name"] == "fairshare_locust"
    points = {
        (metric["name"], metric["unit"], *point["attributes"].values()): point
        for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
    }
    assert {key: (point["count"], round(point["sum"], 9)) for key, point in points.items()} == {
        # Due at 2 s, first tokens at 2.5 s (and of the one that ran into its timeout), and at 2.6 s.
        ("fairshare.ttft", "s", "chat", "measure"): (3, 1.6),
        ("fairshare.ttft", "s", "batch", "warmup"): (1, 0.5),
        ("fairshare.ttft", "s", "late", "measure"): (1, 0.5),
        # 1 s, 1 s and 0.9 s for the 10 tokens after the first; an answer of one token has none.
        ("fairshare.tpot", "s", "chat", "measure"): (3, 0.29),
        ("fairshare.tpot", "s", "late", "measure"): (1, 0.1),
    }
    ttft = points["fairshare.ttft", "s", "chat", "measure"]
    bounds_s = dict(zip(ttft["explicit_bounds"], ttft["bucket_counts"], strict=False))
    assert {bound_s: count for bound_s, count in bounds_s.items() if count} == {0.5: 2, 0.75: 1}  # up to the bound


_SEVERAL_RUNS = """
end = trace_requests(environment, lambda: 0.0)
respond()
end()
end()
respond(tenant="between")
end = trace_requests(environment, lambda: 0.0)
respond()
print(json.dumps(told()))
end()
exporter.clear()

times_s = iter([100.0, 200.0])
trace_requests(environment, lambda: next(times_s))
respond()
respond()
print(json.dumps(told()))
"""


@pytest.fixture(scope="module")
def told_of_several(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What OpenTelemetry is told by two runs of a process together, and by one more after them."""
    answers: list[dict[str, Any]] = run(_SEVERAL_RUNS, tmp_path_factory.mktemp("runs"))
    return answers


def test_the_wall_clock_is_asked_at_each_request(told_of_several: list[dict[str, Any]]) -> None:
    starts_ns = [start_ns for start_ns, *_ in told_of_several[1]["nanoseconds"]]
    assert starts_ns == [102_250_000_000, 202_250_000_000]


def test_a_second_run_of_the_process_counts_once(told_of_several: list[dict[str, Any]]) -> None:
    told = told_of_several[0]
    assert [span["attributes"]["fairshare.tenant"] for span in told["spans"]] == ["chat", "chat"]
    assert [
        (metric["name"], [point["count"] for point in metric["data"]["data_points"]])
        for scope in told["metrics"]
        for metric in scope["metrics"]
    ] == [("fairshare.ttft", [2]), ("fairshare.tpot", [2])]


_WITHOUT = """
end = trace_requests(environment, lambda: 0.0)
respond()
end()
print(json.dumps([name for name in sys.modules if name.split(".")[0] == "opentelemetry"]))

sys.modules["opentelemetry"] = None  # as if it were not installed
environment.parsed_options.otel = True
end = trace_requests(environment, lambda: 0.0)
respond()
end()
print(json.dumps(len(environment.events.response._handlers)))
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What is loaded without the flag; how many listen without OpenTelemetry."""
    answers: list[Any] = run(_WITHOUT, tmp_path_factory.mktemp("without"), otel=False, kept=False)
    return answers


def test_without_the_flag_nothing_is_loaded(without: list[Any]) -> None:
    assert without[0] == []


def test_without_opentelemetry_the_run_goes_on(without: list[Any]) -> None:
    assert without[1] == 0


def prepared(folder: Path, *environments: dict[str, str]) -> list[Any]:
    """What `prepare_opentelemetry` makes of each environment, or its error."""
    program = f"""
import os
from fairshare_locust.errors import FairshareError
from fairshare_locust.otel import prepare_opentelemetry

outside = dict(os.environ)
for changes in {list(environments)}:
    os.environ.update(changes)
    try:
        prepare_opentelemetry()
    except FairshareError as error:
        print(json.dumps(str(error)))
    else:
        print(json.dumps([os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"], os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]]))
    os.environ.clear()
    os.environ.update(outside)
"""
    answers: list[Any] = run(program, folder, kept=False)
    return answers


def test_exporters_are_made_to_leave_the_load_alone_and_grpc_is_refused_where_it_would_be_used(tmp_path: Path) -> None:
    message = (
        "{}: found 'gRPC'; must be 'http/protobuf' (a collector mostly takes it on port 4318): "
        "gRPC holds up the load while it sends"
    )
    protocol, of_metrics = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
    unused = {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc", "OTEL_LOGS_EXPORTER": "console"}
    batch = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64"}
    assert prepared(tmp_path, {}, batch, {protocol: "gRPC"}, {of_metrics: "gRPC"}, unused) == [
        ["http/protobuf", "16"],
        ["http/protobuf", "64"],
        message.format(protocol),
        message.format(of_metrics),
        ["http/protobuf", "16"],
    ]


def test_the_load_goes_on_while_a_collector_does_not_answer(tmp_path: Path) -> None:
    """It takes the connection, and says nothing until the exporter gives up."""
    program = """
import gevent, socket
from time import monotonic
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

silent = socket.create_server(("127.0.0.1", 0))
collector = OTLPSpanExporter(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)
trace.get_tracer("test").start_span("span").end()
exporting = gevent.spawn(collector.export, exporter.get_finished_spans())
began_s = last_s = monotonic()
longest_s = 0.0
while not exporting.ready():
    gevent.sleep(0.01)
    longest_s = max(longest_s, monotonic() - last_s)
    last_s = monotonic()
print(json.dumps([last_s - began_s, longest_s, exporting.value.name]))
"""
    took_s, longest_s, result = run(program, tmp_path)
    assert result == "FAILURE"
    assert took_s > 0.9
    assert longest_s < 0.5


def test_programs_that_are_started_are_not_disturbed(tmp_path: Path) -> None:
    """OpenTelemetry starts its threads anew in every fork, and with them our greenlets would run there."""
    program = """
import gevent, os, subprocess
from fairshare_locust.otel import prepare_opentelemetry

prepare_opentelemetry()
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def work():
    while True:
        os.write(log, b"%d\\n" % os.getpid())
        gevent.sleep(0)

worker = gevent.spawn(work)
for _ in range(3):
    subprocess.run(["true"], check=True)
worker.kill()
alone = {int(line) for line in open("log")} == {os.getpid()}

child = gevent.fork()
if not child:  # a process that goes on has its threads
    tracers.get_tracer("test").start_span("span").end()
    gevent.sleep(0.5)
    os._exit(len(exporter.get_finished_spans()))
print(json.dumps([alone, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""
    assert run(program, tmp_path, kept=False) == [True, 1]
