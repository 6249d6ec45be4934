"""Faults as clients meet them."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any

import pytest

from fairshare_locust.simulator.faults import Fault
from tests.forks import run_fork
from tests.simulator.served import MODULE, Served, parse_reply, read_reply, read_until, serving

COMPLETIONS = "/v1/completions"
FAST = {"step_base_ms": 1, "step_per_sequence_us": 0, "compute_per_token_us": 1}
EIGHT: dict[str, Any] = {"prompt": "hello", "max_tokens": 8, "ignore_eos": True}
STREAM = {**EIGHT, "stream": True}


def texts(events: list[Any]) -> list[str]:
    return [event["choices"][0]["text"] for event in events if event != "[DONE]"]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """The eight words of the answer that nothing happens to."""
    with serving(FAST) as served:
        return texts(served.post(COMPLETIONS, STREAM).events)


def _read_to_the_end(connection: socket.socket) -> tuple[bytes, bool]:
    """All that can be read, and whether the connection was reset then."""
    raw = b""
    try:
        while segment := connection.recv(65536):
            raw += segment
    except ConnectionResetError:
        return raw, True
    return raw, False


def test_a_stalled_stream_stops_in_its_middle_and_then_goes_on(expected: list[str]) -> None:
    with serving(FAST, "--fault", "stall:for=0.4") as served:
        with served.send(COMPLETIONS, STREAM, Connection="close") as connection:
            fourth = f'"text":"{expected[3]}"'.encode()
            began = read_until(connection, fourth)
            stopped_s = time.monotonic()
            reply = read_reply(connection, began)
            took_s = time.monotonic() - stopped_s
        # The engine is through with it while the client still waits.
        metrics = served.metrics()
    assert f'"text":"{expected[4]}"'.encode() not in began
    assert reply.complete
    assert texts(reply.events) == expected
    assert took_s > 0.3  # less what the first half took on its way
    assert metrics["vllm:request_success_total{length}"] == 1
    assert metrics["vllm:e2e_request_latency_seconds_count"] == 1


def test_a_reset_cuts_an_answer_in_its_middle_and_nobody_else_s(expected: list[str]) -> None:
    seed = next(
        seed
        for seed in range(100)
        if [Fault("reset", 0.5, seed=seed).strikes(name, 0) for name in "abc"] == [True, False, True]
    )
    with serving(FAST, "--fault", f"reset:rate=0.5:seed={seed}") as served:
        with served.send(COMPLETIONS, STREAM, X_Request_Id="a") as connection:
            raw, reset = _read_to_the_end(connection)
        assert reset
        cut = parse_reply(raw)
        assert (cut.status, cut.complete) == (200, False)
        assert texts(cut.events) == expected[:4]
        assert texts(served.post(COMPLETIONS, STREAM, X_Request_Id="b").events) == expected
        with served.send(COMPLETIONS, EIGHT, X_Request_Id="c") as connection:
            raw, reset = _read_to_the_end(connection)
        assert reset
        cut = parse_reply(raw)
        assert (cut.status, cut.complete) == (200, False)
        assert cut.body.startswith(b'{"id":')
        metrics = served.metrics()
    assert metrics["fairshare_simulator_requests_received_total"] == 3


def test_an_error_ends_a_stream_in_vllm_s_words_and_an_answer_in_one_piece_is_an_http_error(
    expected: list[str],
) -> None:
    with serving(FAST, "--fault", "error") as served:
        stream = served.post(COMPLETIONS, STREAM)
        whole = served.post(COMPLETIONS, EIGHT)
        one_token = served.post(COMPLETIONS, {**STREAM, "max_tokens": 1})
        tgi = served.post("/generate_stream", {"inputs": "hello", "parameters": {"max_new_tokens": 2}})
        served.wait_for("vllm:num_requests_running", 0)
    error = {
        "message": "This error was injected: the simulator was told to fail some requests.",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
    assert (stream.status, stream.complete) == (200, True)
    assert texts(stream.events[:-2]) == expected[:4]
    assert stream.events[-2:] == [{"error": error}, "[DONE]"]
    assert (whole.status, whole.json) == (500, {"error": error})
    assert (one_token.status, one_token.json) == (500, {"error": error})  # there is no middle
    assert tgi.events[-1] == {"error": error["message"], "error_type": "generation"}


def test_a_slow_answer_has_each_token_held_back(expected: list[str]) -> None:
    with serving(FAST, "--fault", "slow:for=0.05") as served:
        for body in (STREAM, EIGHT):
            sent_s = time.monotonic()
            reply = served.post(COMPLETIONS, body)
            assert time.monotonic() - sent_s > 8 * 0.05
            assert reply.complete
        assert served.metrics()["vllm:generation_tokens_total"] == 16
        assert texts(served.post(COMPLETIONS, STREAM).events) == expected


def test_an_answer_in_one_piece_stalls_too() -> None:
    with serving(FAST, "--fault", "stall:for=0.2") as served:
        sent_s = time.monotonic()
        reply = served.post(COMPLETIONS, EIGHT)
        assert time.monotonic() - sent_s > 0.2
    assert reply.complete
    assert reply.json["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("kind", ["stall:for=0.05", "slow:for=0.005"])
def test_several_choices_stop_and_go_on_together(kind: str) -> None:
    with serving(FAST) as served:
        plain = served.post(COMPLETIONS, {**STREAM, "n": 3}).events
    with serving(FAST, "--fault", kind) as served:
        reply = served.post(COMPLETIONS, {**STREAM, "n": 3})
    assert reply.complete
    assert texts(reply.events) == texts(plain)


def test_a_client_that_leaves_a_stall_and_a_server_that_ends_in_one() -> None:
    with serving(FAST, "--fault", "stall:for=3600") as served:
        _leave_in_the_middle(served)
        with served.send(COMPLETIONS, STREAM) as connection:
            began = read_until(connection, b'"text"')
            served.wait_for("vllm:request_success_total{length}", 2)
            served.process.send_signal(signal.SIGTERM)
            assert not read_reply(connection, began).complete
        assert served.process.wait() == 0


def _leave_in_the_middle(served: Served) -> None:
    with served.send(COMPLETIONS, STREAM) as connection:
        read_until(connection, b'"text"')
        served.wait_for("vllm:request_success_total{length}", 1)


def test_a_crash_is_an_end_without_a_word() -> None:
    with serving(FAST, "--fault", "crash:after=0.2") as served:
        with served.send(COMPLETIONS, {**STREAM, "max_tokens": 8000}) as connection:
            raw, _ = _read_to_the_end(connection)
        assert served.process.wait() == -signal.SIGKILL
    assert b"[DONE]" not in raw


def test_faults_of_the_options_and_of_the_command_line_are_counted_by_kind() -> None:
    with serving(
        {**FAST, "faults": ["error:rate=0"]}, "--fault", "error:after=1000", "--fault", "slow:for=0.001"
    ) as served:
        served.post(COMPLETIONS, EIGHT)
        _, text = served.get("/metrics")
    counts = [line.rsplit(",", 1)[1] for line in text.decode().splitlines() if "faults_injected_total{" in line]
    assert counts == ['kind="stall"} 0', 'kind="reset"} 0', 'kind="error"} 0', 'kind="slow"} 1']


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "explode"], "simulator: --fault 'explode': found kind 'explode'; must be one of stall, reset,"),
        (["--options", '{"faults": ["slow:for=0"]}'], "faults[0]: 'slow:for=0': for: found '0'; must be a number of"),
    ],
)
def test_a_wrong_fault_is_told_at_the_start(arguments: list[str], message: str) -> None:
    ended = run_fork(MODULE, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
