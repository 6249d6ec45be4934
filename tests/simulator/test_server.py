"""The simulator as its clients see it: a process of its own, over real sockets."""

from __future__ import annotations

import http.client
import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from fairshare_locust.simulator.text import BUILTIN_TOKENIZER, natural_length_tokens, prompt_seed
from tests.forks import run_fork
from tests.simulator.served import (
    DEADLINE_S,
    MODULE,
    Reply,
    Served,
    parse_reply,
    read_reply,
    read_until,
    serving,
)

WIRE = Path(__file__).parent / "wire"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]
TOKENIZER = Tokenizer.from_file(str(BUILTIN_TOKENIZER))
FAST: dict[str, float] = {"step_base_ms": 1, "step_per_sequence_us": 0, "compute_per_token_us": 1}
SLOW: dict[str, float] = {"step_base_ms": 20}
STEPS_OF_20_MS: dict[str, float] = {"step_base_ms": 20, "step_per_sequence_us": 0, "compute_per_token_us": 0}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
TIMED = ("queue", "prefill", "decode", "inference")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """As the recorded vLLM: without `--enable-per-request-metrics`."""
    with serving({**FAST, "per_request_metrics": False}, "--model", "tiny") as served:
        yield served


def recorded(name: str) -> Reply:
    """What vLLM answered."""
    lines = (WIRE / f"vllm.{name}.wire.jsonl").read_text().splitlines()
    return parse_reply("".join(json.loads(line)["bytes"] for line in lines).encode("latin-1"))


def shape(value: Any) -> Any:
    """Names in their order and types of values; what says what kind of thing it is stays."""
    if isinstance(value, dict):
        fixed = ("object", "role", "finish_reason")
        return [(name, item if name in fixed else shape(item)) for name, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value if value == "[DONE]" else type(value).__name__


def count_tokens(text: str) -> int:
    return len(TOKENIZER.encode(text, add_special_tokens=False).ids)


# -- shapes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("chat_stream_plain", CHAT, {"messages": HELLO, "max_tokens": 5}),
        (
            "chat_stream_usage",
            CHAT,
            {"messages": HELLO, "max_tokens": 12, "stream_options": {"include_usage": True}},
        ),
        (
            "chat_stream_continuous_usage",
            CHAT,
            {
                "messages": HELLO,
                "max_completion_tokens": 5,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
        ),
        (
            "completions_stream_usage",
            COMPLETIONS,
            {"prompt": "hello", "max_tokens": 8, "stream_options": {"include_usage": True}},
        ),
    ],
)
def test_streams_have_the_shape_of_those_of_vllm(served: Served, name: str, path: str, body: dict[str, Any]) -> None:
    real = recorded(name)
    ours = served.post(path, {"model": "tiny", "stream": True, "ignore_eos": True, "temperature": 0, **body})
    assert (ours.status, ours.complete) == (200, True)
    for header in ("content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked"):
        assert header in real.head.lower()
        assert header in ours.head.lower()
    assert [shape(event) for event in ours.events] == [shape(event) for event in real.events]
    assert len({event["id"] for event in ours.events[:-1]}) == 1
    assert {event["model"] for event in ours.events[:-1]} == {"tiny"}


def test_streams_of_two_choices_have_the_shape_of_those_of_vllm(served: Served) -> None:
    body = {"messages": HELLO, "max_tokens": 4, "n": 2, "stream": True, "ignore_eos": True}
    ours = served.post(CHAT, {**body, "stream_options": {"include_usage": True}})
    real = recorded("chat_stream_n2")
    for index in (0, 1):
        of_choice = [
            [shape(e) for e in reply.events[:-2] if e["choices"][0]["index"] == index] for reply in (ours, real)
        ]
        assert of_choice[0] == of_choice[1]
    assert [shape(event) for event in ours.events[-2:]] == [shape(event) for event in real.events[-2:]]
    assert ours.events[-2]["usage"]["completion_tokens"] == 8
    texts = [
        "".join(e["choices"][0]["delta"]["content"] for e in ours.events[:-2] if e["choices"][0]["index"] == i)
        for i in (0, 1)
    ]
    assert texts[0] != texts[1]


def test_role_comes_apart_from_the_first_token_and_usage_grows_by_one(served: Served) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"messages": HELLO, "max_tokens": 3, "stream": True, "ignore_eos": True, "stream_options": options}
    events = served.post(CHAT, body).events
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    prompt_tokens = count_tokens("hello")
    assert [(e["usage"]["prompt_tokens"], e["usage"]["completion_tokens"]) for e in events[:-1]] == [
        (prompt_tokens, 0),
        (prompt_tokens, 1),
        (prompt_tokens, 2),
        (prompt_tokens, 3),
        (prompt_tokens, 3),
    ]
    assert events[-2]["usage"]["total_tokens"] == prompt_tokens + 3


def test_tgi_stream(served: Served) -> None:
    parameters = {"max_new_tokens": 3, "details": True}
    reply = served.post("/generate_stream", {"inputs": "hello there", "parameters": parameters})
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body.startswith(b'data:{"index":1,"token":{"id":')
    events = reply.events
    assert [event["index"] for event in events] == [1, 2, 3]
    assert [event["generated_text"] for event in events[:2]] == [None, None]
    assert [event["details"] for event in events[:2]] == [None, None]
    text = "".join(event["token"]["text"] for event in events)
    assert [event["token"]["id"] for event in events] == TOKENIZER.encode(text).ids
    assert events[-1]["generated_text"] == text
    assert events[-1]["details"] == {
        "finish_reason": "length",
        "generated_tokens": 3,
        "seed": None,
        "input_length": count_tokens("hello there"),
    }


def test_tgi_without_details_and_not_streamed(served: Served) -> None:
    body = {"inputs": "hello there", "parameters": {"max_new_tokens": 3}}
    streamed = served.post("/generate_stream", body).events
    assert streamed[-1]["details"] is None
    assert served.post("/generate", body).json == {"generated_text": streamed[-1]["generated_text"]}
    detailed = served.post("/generate", {**body, "parameters": {"max_new_tokens": 3, "details": True}}).json
    assert detailed["details"]["tokens"] == [event["token"] for event in streamed]
    assert detailed["details"]["generated_tokens"] == 3


def test_an_answer_in_one_piece_is_the_streamed_one(served: Served) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "ignore_eos": True}
    whole = served.post(CHAT, body).json
    events = served.post(CHAT, {**body, "stream": True}).events
    assert whole["object"] == "chat.completion"
    content = "".join(event["choices"][0]["delta"]["content"] for event in events[:-1])
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": content}
    assert whole["choices"][0]["finish_reason"] == "length"
    assert count_tokens(content) == whole["usage"]["completion_tokens"] == 20


def test_a_whole_completion_with_two_choices(served: Served) -> None:
    whole = served.post(COMPLETIONS, {"prompt": [5, 6, 7], "n": 2, "max_tokens": 4, "ignore_eos": True}).json
    assert whole["object"] == "text_completion"
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert [count_tokens(choice["text"]) for choice in whole["choices"]] == [4, 4]
    assert whole["usage"] == {"prompt_tokens": 3, "total_tokens": 11, "completion_tokens": 8}


def test_models_version_health(served: Served) -> None:
    status, body = served.get("/v1/models")
    (model,) = json.loads(body)["data"]
    assert status == 200
    assert (model["id"], model["owned_by"], model["max_model_len"]) == ("tiny", "fairshare-simulator", 8192)
    assert served.get("/health") == (200, recorded("health").body)
    status, body = served.get("/version")
    assert (status, list(json.loads(body))) == (200, ["version"])


# -- models and templates ------------------------------------------------------------------------------------


def test_adapters_are_models_of_their_own() -> None:
    with serving(FAST, "--model", "tiny", "--adapter", "sql", "--adapter", "law") as served:
        listed = json.loads(served.get("/v1/models")[1])["data"]
        for name in ("tiny", "sql", "law"):
            assert served.post(CHAT, {"model": name, "messages": HELLO, "max_tokens": 1}).json["model"] == name
        assert served.post(CHAT, {"messages": HELLO, "max_tokens": 1}).json["model"] == "tiny"
        streamed = served.post(COMPLETIONS, {"model": "sql", "prompt": "hello", "max_tokens": 1, "stream": True})
        refused = served.post(CHAT, {"model": "poetry", "messages": HELLO})
        tgi = served.post("/generate", {"inputs": "hello", "parameters": {"adapter_id": "sql", "max_new_tokens": 1}})
    assert [(model["id"], model["parent"], model["max_model_len"]) for model in listed] == [
        ("tiny", None, 8192),
        ("sql", "tiny", None),
        ("law", "tiny", None),
    ]
    assert streamed.events[0]["model"] == "sql"
    assert refused.status == 404
    assert refused.json["error"]["message"] == "The model `poetry` does not exist. Valid aliases: tiny."
    assert tgi.status == 200


def test_a_chat_template_adds_to_the_prompt_and_to_its_prefill() -> None:
    with serving({**FAST, "chat_template_tokens": 23}, "--model", "tiny") as served:
        chat = served.post(CHAT, {"messages": HELLO * 2, "max_tokens": 1}).json["usage"]
        completion = served.post(COMPLETIONS, {"prompt": "hello", "max_tokens": 1}).json["usage"]
        assert chat["prompt_tokens"] == 2 * count_tokens("hello") + 23
        assert completion["prompt_tokens"] == count_tokens("hello")
        computed = chat["prompt_tokens"] + completion["prompt_tokens"]
        assert served.metrics()["vllm:prompt_tokens_total"] == computed
        overhead = {"openai_chat": 23, "openai_completions": 0, "tgi": 0}
        assert served.announcement["prompt_overhead_tokens"] == overhead


def _overtakes(served: Served, first: dict[str, Any], late: dict[str, Any]) -> bool:
    """Whether the late one of two that wait is served first. Names of headers are capitalised, those of fields not."""
    long = {"prompt": [1], "max_tokens": 8000, "ignore_eos": True, "stream": True}
    running = served.send(COMPLETIONS, long)
    served.wait_for("vllm:num_requests_running", 1)
    waiting = []
    for number, asked in enumerate((first, late), start=1):
        body = {name: value for name, value in asked.items() if name.islower()}
        headers = {name: value for name, value in asked.items() if name not in body}
        waiting.append(served.send(COMPLETIONS, {**long, **body}, **headers))
        read_until(waiting[-1], b"\r\n\r\n")  # of the head
        served.wait_for("vllm:num_requests_waiting", number)
    running.close()
    readable, _, _ = select.select(waiting, [], [], DEADLINE_S)
    for connection in waiting:
        connection.close()
    served.wait_for("vllm:num_requests_running", 0)
    assert len(readable) == 1
    return readable == [waiting[1]]


def test_a_priority_counts_where_the_server_schedules_by_it() -> None:
    with serving({**SLOW, "max_num_seqs": 1, "scheduling_policy": "priority"}) as served:
        assert _overtakes(served, {"priority": 2}, {"priority": -1})
        assert not _overtakes(served, {"priority": 2}, {"priority": 2})
        assert _overtakes(served, {"priority": 2, "cache_salt": "a"}, {"cache_salt": "b"})  # none given: 0
        assert _overtakes(served, {}, {"priority": 9, "X_Vllm_Priority": "-5"})  # the header goes before the body
        assert not _overtakes(served, {}, {"priority": 9, "X_Vllm_Priority": "first"})  # unless it is no number
    with serving({**SLOW, "max_num_seqs": 1}) as served:
        assert not _overtakes(served, {"priority": 2}, {"priority": -1})


# -- lengths and counts --------------------------------------------------------------------------------------


def test_without_ignore_eos_an_answer_ends_where_its_prompt_says(served: Served) -> None:
    prompt = next(p for p in map(str, range(1000)) if 10 < natural_length_tokens(prompt_seed(p)) < 40)
    natural = natural_length_tokens(prompt_seed(prompt))
    for wanted, tokens, reason in [
        ({"max_tokens": 1000}, natural, "stop"),
        ({"max_tokens": natural - 1}, natural - 1, "length"),
        ({"max_tokens": 1000, "min_tokens": 60}, 60, "stop"),
        ({"max_tokens": 50, "ignore_eos": True}, 50, "length"),
    ]:
        answer = served.post(COMPLETIONS, {"prompt": prompt, **wanted}).json
        assert answer["usage"]["completion_tokens"] == tokens
        assert answer["choices"][0]["finish_reason"] == reason
        assert count_tokens(answer["choices"][0]["text"]) == tokens
    tgi = served.post("/generate", {"inputs": prompt, "parameters": {"max_new_tokens": 1000, "details": True}}).json
    assert tgi["details"]["generated_tokens"] == natural
    assert tgi["details"]["finish_reason"] == "eos_token"


def test_long_prompts_and_all_their_messages_are_counted(served: Served) -> None:
    long = "several words " * 400
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": long}]},
    ]
    usage = served.post(CHAT, {"messages": messages, "max_tokens": 1}).json["usage"]
    assert usage["prompt_tokens"] == count_tokens("be brief") + count_tokens(long)


def test_without_a_cap_a_completion_has_at_most_16_tokens(served: Served) -> None:
    answer = served.post(COMPLETIONS, {"prompt": "hello", "ignore_eos": True}).json
    assert answer["usage"]["completion_tokens"] == 16


def test_a_connection_serves_one_request_after_another(served: Served) -> None:
    connection = http.client.HTTPConnection(*served.address, timeout=60)
    body = json.dumps({"messages": HELLO, "max_tokens": 3, "stream": True})
    sockets = []
    for _ in range(3):
        connection.request("POST", CHAT, body)
        response = connection.getresponse()
        assert response.read().endswith(b"data: [DONE]\n\n")
        sockets.append(connection.sock)
    connection.close()
    assert sockets[0] is not None
    assert sockets[0] is sockets[1] is sockets[2]


def test_counters_agree_with_what_clients_received() -> None:
    with serving(FAST) as served:
        replies = [
            served.post(COMPLETIONS, {"prompt": [1] * n, "max_tokens": 2 * n, "ignore_eos": True}).json
            for n in (3, 10, 30)
        ]
        stream = served.post(
            CHAT,
            {"messages": HELLO, "max_tokens": 9, "n": 2, "stream": True, "stream_options": {"include_usage": True}},
        )
        usages = [reply["usage"] for reply in replies] + [stream.events[-2]["usage"]]
        assert served.post(COMPLETIONS, b"{").status == 400
        metrics = served.metrics()
    generated = sum(usage["completion_tokens"] for usage in usages)
    assert metrics["vllm:generation_tokens_total"] == generated
    assert metrics["vllm:request_generation_tokens_sum"] == generated
    # Each of the two choices has the prompt for itself.
    prompts = sum(usage["prompt_tokens"] for usage in usages) + usages[-1]["prompt_tokens"]
    assert metrics["vllm:prompt_tokens_total"] == metrics["vllm:request_prompt_tokens_sum"] == prompts
    reasons = [metrics[f"vllm:request_success_total{{{r}}}"] for r in ("stop", "length", "abort", "error")]
    assert sum(reasons) == sum(reasons[:2]) == 5
    for name in ("time_to_first_token", "e2e_request_latency", *(f"request_{part}_time" for part in TIMED)):
        assert metrics[f"vllm:{name}_seconds_count"] == 5
    assert metrics["vllm:inter_token_latency_seconds_count"] == generated - 5
    assert metrics["fairshare_simulator_requests_received_total"] == 5
    assert metrics["fairshare_simulator_step_lateness_seconds_count"] > 0
    assert metrics["vllm:num_requests_running"] == metrics["vllm:num_requests_waiting"] == 0


# -- times ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "prompt"),
    [(CHAT, {"messages": HELLO}), (COMPLETIONS, {"prompt": "hello"})],
)
def test_the_usage_chunk_says_how_long_the_request_waited_and_computed(path: str, prompt: dict[str, Any]) -> None:
    with serving(STEPS_OF_20_MS) as served:
        sent_s = time.monotonic()
        reply = served.post(path, {**prompt, "max_tokens": 5, "ignore_eos": True, **WITH_USAGE})
        took_ms = (time.monotonic() - sent_s) * 1e3
    last = reply.events[-2]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5
    metrics = last["metrics"]
    assert list(metrics) == [
        "time_to_first_token_ms",
        "generation_time_ms",
        "queue_time_ms",
        "mean_itl_ms",
        "tokens_per_second",
    ]
    # An idle engine begins at once. A step of 20 ms, then four; no earlier than they are modelled to end.
    assert metrics["queue_time_ms"] == 0
    inference_ms = metrics["time_to_first_token_ms"] + metrics["generation_time_ms"]
    assert metrics["time_to_first_token_ms"] >= 20 - 0.01
    assert 100 - 0.01 <= inference_ms < took_ms
    assert metrics["mean_itl_ms"] == pytest.approx(metrics["generation_time_ms"] / 4)
    assert metrics["tokens_per_second"] == pytest.approx(5e3 / inference_ms)
    assert [event for event in reply.events[:-2] if "metrics" in event] == []


def test_who_waits_for_another_says_so() -> None:
    with serving({**STEPS_OF_20_MS, "max_num_seqs": 1}) as served:
        body = {"prompt": [1], "ignore_eos": True, **WITH_USAGE}
        with served.send(COMPLETIONS, {**body, "max_tokens": 8000}):
            served.wait_for("vllm:num_requests_running", 1)
            sent_s = time.monotonic()
            second = served.send(COMPLETIONS, {**body, "max_tokens": 2}, Connection="close")
            served.wait_for("vllm:num_requests_waiting", 1)
        with second:
            metrics = read_reply(second).events[-2]["metrics"]
        took_ms = (time.monotonic() - sent_s) * 1e3
    # It had to wait until the first one's client had gone; its time to the first token, of one step, began then.
    assert metrics["queue_time_ms"] > 0
    assert metrics["time_to_first_token_ms"] >= 20 - 0.01
    assert metrics["queue_time_ms"] + metrics["time_to_first_token_ms"] + metrics["generation_time_ms"] < took_ms


def test_metrics_of_a_request_are_those_of_one_sequence(served: Served) -> None:
    one = {"prompt": [1, 2], "max_tokens": 1, "ignore_eos": True}
    with serving(FAST) as with_metrics:
        stream = with_metrics.post(COMPLETIONS, {**one, **WITH_USAGE}).events[-2]
        whole = with_metrics.post(COMPLETIONS, one).json
        two = with_metrics.post(COMPLETIONS, {**one, **WITH_USAGE, "n": 2}).events[-2]
        whole_two = with_metrics.post(COMPLETIONS, {**one, "n": 2}).json
        silent = with_metrics.post(COMPLETIONS, {**one, "stream": True}).events[-2]
    # One token has no gap: null, which a stream leaves out.
    assert whole["metrics"]["mean_itl_ms"] is None
    assert set(whole["metrics"]) - set(stream["metrics"]) == {"mean_itl_ms"}
    assert whole["metrics"]["generation_time_ms"] == stream["metrics"]["generation_time_ms"] == 0
    # Two answers have no time in common, and who asked for no usage gets no metrics.
    assert "metrics" not in two
    assert whole_two["metrics"] is None
    assert "metrics" not in silent
    assert "metrics" not in served.post(COMPLETIONS, one).json


def test_the_server_and_its_client_see_the_same_time_to_first_token() -> None:
    with serving({**STEPS_OF_20_MS, "step_base_ms": 50}) as served:
        seen_s = []
        for _ in range(4):
            sent_s = time.monotonic()
            body = {"prompt": [1], "max_tokens": 2, "ignore_eos": True, "stream": True}
            with served.send(COMPLETIONS, body, Connection="close") as connection:
                began = read_until(connection, b"data: ")
                seen_s.append(time.monotonic() - sent_s)
                assert read_reply(connection, began).complete
        metrics = served.metrics()
    assert metrics["vllm:time_to_first_token_seconds_count"] == 4
    # Never before the step's end, never after the client has it: what is between is the way there and back.
    assert 4 * 0.050 - 1e-5 <= metrics["vllm:time_to_first_token_seconds_sum"] < sum(seen_s)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("error_bad_json", b"{x"),
        ("error_bad_max_tokens", {"messages": HELLO, "max_tokens": -1}),
        ("error_unknown_model", {"model": "no-such-model", "messages": HELLO}),
    ],
)
def test_refusals_are_those_of_vllm(served: Served, name: str, body: dict[str, Any] | bytes) -> None:
    real, ours = recorded(name), served.post(CHAT, body)
    assert (ours.status, ours.json) == (real.status, real.json)
    assert "content-type: application/json" in ours.head.lower()


def test_too_long_a_prompt_is_refused_as_by_vllm() -> None:
    with serving({"max_model_len": 2048}) as served:
        ours = served.post(COMPLETIONS, {"prompt": [1] * 2049, "max_tokens": 1})
    real = recorded("error_prompt_too_long_chat")
    assert (ours.status, ours.json) == (real.status, real.json)


def test_unknown_paths_and_methods(served: Served) -> None:
    real = recorded("error_not_found")
    status, body = served.get("/nowhere")
    assert (status, body) == (real.status, real.body)
    assert served.get(CHAT) == (405, b'{"detail":"Method Not Allowed"}')


def test_http_1_0_has_no_chunks_to_stream_in(served: Served) -> None:
    body = b'{"prompt":"a","stream":true}'
    with served.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        reply = read_reply(connection)
    assert (reply.status, reply.body) == (505, b"Streaming needs HTTP/1.1")


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (CHAT, {"messages": HELLO, "max_tokens": 9000}, 400, "you requested 9000 output tokens"),
        (CHAT, {"messages": HELLO, "max_tokens": 0}, 400, "max_tokens must be at least 1, got 0."),
        (CHAT, {"messages": HELLO, "max_tokens": "5"}, 400, "Input should be a valid integer"),
        (CHAT, {"messages": HELLO, "max_tokens": 5, "min_tokens": 6}, 400, "min_tokens must be less than"),
        (CHAT, {"messages": HELLO, "min_tokens": -1}, 400, "min_tokens must be greater than or equal to 0"),
        (CHAT, {"messages": HELLO, "temperature": -0.5}, 400, "temperature must be non-negative, got -0.5."),
        (CHAT, {"messages": HELLO, "temperature": "hot"}, 400, "Input should be a valid number"),
        (CHAT, {"messages": HELLO, "n": 0}, 400, "n must be at least 1 and at most 128, got 0."),
        (CHAT, {"messages": HELLO, "stream": "yes"}, 400, "Input should be a valid boolean"),
        (CHAT, {"messages": HELLO, "stream_options": {}}, 400, "can only be defined when `stream=True`"),
        (CHAT, {"messages": HELLO, "stream": True, "stream_options": 1}, 400, "valid dictionary"),
        (CHAT, {}, 400, "Field required"),
        (CHAT, {"messages": []}, 400, "List should have at least 1 item"),
        (CHAT, {"messages": "hello"}, 400, "Input should be a valid list"),
        (CHAT, {"messages": ["hello"]}, 400, "Input should be a string or a list of text parts"),
        (CHAT, b"[]", 400, "Input should be a valid dictionary"),
        (CHAT, {"messages": [{"role": "user", "content": ""}]}, 400, "The decoder prompt cannot be empty"),
        (CHAT, {"messages": HELLO, "model": 5}, 400, "Input should be a valid string"),
        (CHAT, {"messages": HELLO, "priority": "high"}, 400, "Input should be a valid integer"),
        (CHAT, {"messages": HELLO, "priority": 2**63}, 400, "Input should be a 64-bit integer"),
        (CHAT, {"messages": HELLO, "cache_salt": 5}, 400, "'cache_salt' must be a non-empty string if provided."),
        (CHAT, {"messages": HELLO, "cache_salt": ""}, 400, "'cache_salt' must be a non-empty string if provided."),
        (
            COMPLETIONS,
            {"prompt": "a", "cache_salt": "a/b"},
            400,
            "must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL.",
        ),
        (
            COMPLETIONS,
            {"prompt": "a", "cache_salt": "a" * 129},
            400,
            "must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL.",
        ),
        (CHAT, b'"\xff"', 400, "JSON decode error"),
        (COMPLETIONS, {}, 400, "Field required"),
        (COMPLETIONS, {"prompt": []}, 400, "The decoder prompt cannot be empty"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, 400, "a string or a list of token ids"),
        (COMPLETIONS, {"prompt": [1] * 8192}, 400, "contains at least 8192 input tokens"),
    ],
)
def test_other_refusals(served: Served, path: str, body: dict[str, Any] | bytes, status: int, message: str) -> None:
    reply = served.post(path, body)
    error = reply.json["error"]
    assert (reply.status, error["code"]) == (status, status)
    assert list(error) == ["message", "type", "param", "code"]
    assert message in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": "a", "parameters": {"max_new_tokens": 0}}, 422, "`max_new_tokens` must be strictly positive"),
        ({"inputs": "a", "parameters": {"max_new_tokens": 8192}}, 422, "must be <= 8192. Given: 1 `inputs`"),
        ({"inputs": ""}, 422, "`inputs` cannot be empty"),
        ({"prompt": "a"}, 422, "`inputs` must be a string"),
        ({"inputs": "a", "parameters": []}, 422, "`parameters` must be an object"),
        ({"inputs": "a", "parameters": {"max_new_tokens": "9"}}, 422, "must be an integer"),
        ({"inputs": "a", "parameters": {"details": 1}}, 422, "must be a boolean"),
        ({"inputs": "a", "parameters": {"adapter_id": 1}}, 422, "must be a string"),
        (b"{", 400, "Failed to parse the request body as JSON"),
    ],
)
def test_refusals_of_tgi(served: Served, body: dict[str, Any] | bytes, status: int, message: str) -> None:
    reply = served.post("/generate_stream", body)
    assert reply.status == status
    assert message in reply.body.decode()


def test_api_key() -> None:
    with serving(FAST, "--api-key-env", "SIMULATOR_KEY", environment={"SIMULATOR_KEY": "s3cret"}) as served:
        body = {"messages": HELLO, "max_tokens": 1}
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            refused = served.post(CHAT, body, **headers)
            assert (refused.status, refused.body) == (401, b'{"error":"Unauthorized"}')
        assert served.post("/generate", {"inputs": "a"}).status == 401
        assert served.get("/v1/models")[0] == 401
        assert served.post(CHAT, body, Authorization="Bearer s3cret").status == 200
        assert served.get("/v1/models", Authorization="Bearer s3cret")[0] == 200
        assert served.get("/health")[0] == 200
        assert served.metrics()["fairshare_simulator_requests_received_total"] == 4


# -- ends ----------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_is_an_abort_and_frees_its_place() -> None:
    with serving({**SLOW, "max_num_seqs": 1}) as served:
        body = {"messages": HELLO, "max_tokens": 8000, "ignore_eos": True}
        running = served.send(CHAT, {**body, "stream": True})
        read_until(running, b'"content":" ')
        waiting = [served.send(CHAT, {**body, "stream": True}), served.send(COMPLETIONS, {"prompt": [1]})]
        served.wait_for("vllm:num_requests_waiting", 2)
        waiting[0].close()
        metrics = served.wait_for("vllm:num_requests_waiting", 1)
        assert metrics["vllm:request_success_total{abort}"] == 1
        running.close()
        metrics = served.wait_for("vllm:request_success_total{abort}", 2)
        assert metrics["vllm:num_preemptions_total"] == 0
        # The last one now has the place, and its answer is whole.
        reply = b""
        while b'"usage"' not in reply:
            reply += waiting[1].recv(65536)
        waiting[1].close()
        assert served.metrics()["vllm:kv_cache_usage_perc"] == 0


def test_a_client_that_leaves_an_answer_in_one_piece_is_an_abort() -> None:
    with serving(SLOW) as served:
        body = {"prompt": [1], "max_tokens": 8000, "ignore_eos": True, "n": 3}
        connection = served.send(COMPLETIONS, body)
        served.wait_for("vllm:num_requests_running", 3)
        connection.close()
        served.wait_for("vllm:request_success_total{abort}", 3)
        metrics = served.wait_for("vllm:num_requests_running", 0)
        assert metrics["vllm:request_generation_tokens_count"] == 0


def test_sigterm_ends_streams_with_an_error_event() -> None:
    with serving({**SLOW, "max_num_seqs": 3}) as served:
        long = {"max_tokens": 8000, "ignore_eos": True}
        chat = served.send(CHAT, {"messages": HELLO, "stream": True, **long})
        whole = served.send(COMPLETIONS, {"prompt": [1], **long})
        prompt = next(p for p in map(str, range(10000)) if natural_length_tokens(prompt_seed(p)) > 1000)
        tgi = served.send("/generate_stream", {"inputs": prompt, "parameters": {"max_new_tokens": 8000}})
        served.wait_for("vllm:num_requests_running", 3)
        queued = served.send(CHAT, {"messages": HELLO, "stream": True, **long})
        served.wait_for("vllm:num_requests_waiting", 1)
        beginning = read_until(chat, b'"content":" ')
        served.process.send_signal(signal.SIGTERM)
        replies = [read_reply(chat, beginning), *map(read_reply, (queued, whole, tgi))]
        assert served.process.wait(60) == 0
    error = {"message": "The simulator is shutting down.", "type": "InternalServerError"}
    error |= {"param": None, "code": 500}  # type: ignore[dict-item]
    for reply in replies[:2]:
        assert (reply.status, reply.complete) == (200, True)
        assert reply.events[-2:] == [{"error": error}, "[DONE]"]
    assert (replies[2].status, replies[2].json) == (500, {"error": error})
    assert replies[3].complete
    assert replies[3].events[-1] == {"error": "The simulator is shutting down.", "error_type": "generation"}


def test_sigint_ends_it_too() -> None:
    with serving({}) as served:
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0


def test_end_of_standard_input_ends_it_if_asked_to() -> None:
    with serving({}, "--exit-with-parent") as served:
        assert served.get("/health")[0] == 200
        served.process.stdin.close()
        assert served.process.wait(60) == 0


def test_one_line_says_where_it_serves_and_nothing_else_is_printed() -> None:
    with serving({}, "--model", "name of it") as served:
        host, port = served.address
        dcgm = served.announcement["dcgm"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", dcgm)
        assert str(port) not in dcgm
        assert served.announcement == {
            "endpoint": f"http://{host}:{port}",
            "dcgm": dcgm,
            "model": "name of it",
            "pid": served.process.pid,
            "prompt_overhead_tokens": {"openai_chat": 0, "openai_completions": 0, "tgi": 0},
        }
        assert host == "127.0.0.1"
        served.process.terminate()
        assert served.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", '{"max_seqs": 4}'], "did you mean 'max_num_seqs'?"),
        (["--options", '{"step_base_ms": 0}'], "step_base_ms: found 0; must be a number, greater than 0"),
        (["--options", '{"max_model_len": 10, "kv_capacity_tokens": 9}'], "kv_capacity_tokens"),
        (["--options", "{"], "--options:1: not YAML"),
        (["--options", "[]"], "--options:1: found a list; must be a mapping"),
        (["--api-key-env", "NOT_SET_ANYWHERE"], "environment variable NOT_SET_ANYWHERE is not set"),
        (["--tokenizer", "nowhere.json"], "tokenizer nowhere.json: no file nowhere.json"),
        (
            ["--options", '{"memory_mib": 23507}'],
            "memory_mib: found 23507; must be at least 23508: weights_mib (15316)",
        ),
        (["--options", '{"busy_w": 20}'], "busy_w: found 20; must be at least idle_w (30)"),
    ],
)
def test_what_can_not_be_started_says_why(arguments: list[str], message: str) -> None:
    ended = run_fork(MODULE, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", ["--port", "--dcgm-port"])
def test_a_port_in_use_is_named(served: Served, option: str) -> None:
    port = str(served.address[1])
    ended = run_fork(MODULE, option, port)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"can't listen on 127.0.0.1:{port}" in ended.stderr
    assert f"another {option}," in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_runs_without_locust_and_gevent() -> None:
    code = (
        "import sys, fairshare_locust.simulator.__main__\n"
        "print(sorted({'gevent', 'locust'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
