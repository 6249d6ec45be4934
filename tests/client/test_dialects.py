"""What each API is asked, and how its events are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.client.dialects import (
    DIALECTS,
    EVERY_OPTION,
    PLAIN_OPTIONS,
    TGI,
    Ask,
    Option,
    ServerFamily,
    Transcript,
    asked_options,
)
from fairshare_locust.client.sse import SseParser
from fairshare_locust.profile.model import Api, Sampling
from tests.client.events import DONE, FINISH, ROLE, USAGE, event, tgi_token, token

_VLLM = ServerFamily("vllm", ignore_eos=True, takes=EVERY_OPTION)
_TRANSFORMERS = ServerFamily("transformers", generation_config=True, takes=frozenset(("seed",)))
_UNKNOWN = ServerFamily("unknown", stream_usage=False)


def read(*stream: bytes, api: Api = "openai_chat") -> Transcript:
    """The transcript of these events, event i at second i."""
    parser, transcript = SseParser(), Transcript()
    events = [data for piece in stream for data in parser.feed(piece)]
    for second, data in enumerate(events):
        DIALECTS[api].read(data, float(second), transcript)
    DIALECTS[api].close(transcript)
    return transcript


def ask(api: Api, family: ServerFamily = _VLLM, messages: Any = None, **sampling: Any) -> dict[str, Any]:
    request = Ask("tiny", messages, "Say hi", 12, Sampling(**sampling), family)
    body = json.loads(DIALECTS[api].body(request))
    assert isinstance(body, dict)
    return body


# --- asking


def test_names() -> None:
    assert {name: dialect.name for name, dialect in DIALECTS.items()} == {name: name for name in DIALECTS}


def test_a_chat() -> None:
    assert ask("openai_chat") == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Say hi"}],
        "max_tokens": 12,
        "stream": True,
        "temperature": 0.0,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "min_tokens": 12,
    }


def test_a_chat_of_several_messages() -> None:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert ask("openai_chat", messages=messages)["messages"] == list(messages)
    assert ask("openai_completions", messages=messages)["prompt"] == "Say hi"


def test_a_completion() -> None:
    assert ask("openai_completions", temperature=0.7, top_p=0.9, ignore_eos=False) == {
        "model": "tiny",
        "prompt": "Say hi",
        "max_tokens": 12,
        "stream": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "stream_options": {"include_usage": True},
    }


def test_continuous_usage() -> None:
    options = ask("openai_chat", continuous_usage=True)["stream_options"]
    assert options == {"include_usage": True, "continuous_usage_stats": True}


def test_transformers_takes_the_length_as_a_text_and_nothing_that_it_would_reject() -> None:
    body = ask("openai_chat", _TRANSFORMERS)
    assert json.loads(body["generation_config"]) == {"max_new_tokens": 12, "min_new_tokens": 12}
    assert body.keys().isdisjoint({"ignore_eos", "min_tokens"})
    assert "generation_config" not in ask("openai_chat", _TRANSFORMERS, ignore_eos=False)


def test_an_unknown_server_is_asked_for_nothing_special() -> None:
    body = ask("openai_chat", _UNKNOWN, continuous_usage=True)
    assert body.keys() == {"model", "messages", "max_tokens", "stream", "temperature"}


def test_tgi_says_greedy_by_not_sampling() -> None:
    assert ask("tgi") == {
        "inputs": "Say hi",
        "parameters": {"max_new_tokens": 12, "details": True, "do_sample": False},
    }
    assert ask("tgi", temperature=0.5, top_p=0.9)["parameters"] == {
        "max_new_tokens": 12,
        "details": True,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert "top_p" not in ask("tgi", temperature=0.5, top_p=1.0)["parameters"]  # TGI refuses 1


_ALL = Sampling(temperature=0.5, top_p=0.9, top_k=40, seed=0, frequency_penalty=-0.5, presence_penalty=1.0)
_PRIORITY: dict[str, Any] = {"priority": -3, "cache_salt": "chat", "adapter": "sql"}


def everything(api: Api, family: ServerFamily, sampling: Sampling = _ALL) -> bytes:
    """The body of a request that asks for all there is."""
    return DIALECTS[api].body(Ask("sql", None, "Say hi", 12, sampling, family, **_PRIORITY))


def test_every_option_goes_to_a_server_that_takes_it() -> None:
    rest = (
        b'"max_tokens":12,"stream":true,"temperature":0.5,"top_p":0.9,"top_k":40,"seed":0,"frequency_penalty":-0.5,'
        b'"presence_penalty":1.0,"priority":-3,"cache_salt":"chat","stream_options":{"include_usage":true},'
        b'"ignore_eos":true,"min_tokens":12}'
    )
    chat = b'{"model":"sql","messages":[{"role":"user","content":"Say hi"}],'
    assert everything("openai_chat", _VLLM) == chat + rest
    assert everything("openai_completions", _VLLM) == b'{"model":"sql","prompt":"Say hi",' + rest


def test_transformers_gets_the_seed_alone_and_is_told_to_sample() -> None:
    assert everything("openai_completions", _TRANSFORMERS) == (
        b'{"model":"sql","prompt":"Say hi","max_tokens":12,"stream":true,"temperature":0.5,"top_p":0.9,"seed":0,'
        b'"stream_options":{"include_usage":true},"generation_config":"{\\"max_new_tokens\\":12,'
        b'\\"min_new_tokens\\":12,\\"do_sample\\":true}"}'
    )


def test_a_plain_server_gets_the_options_of_the_plain_api() -> None:
    assert everything("openai_completions", ServerFamily("unknown", takes=PLAIN_OPTIONS)) == (
        b'{"model":"sql","prompt":"Say hi","max_tokens":12,"stream":true,"temperature":0.5,"top_p":0.9,"seed":0,'
        b'"frequency_penalty":-0.5,"presence_penalty":1.0,"stream_options":{"include_usage":true}}'
    )


def test_tgi_gets_what_it_has_parameters_for() -> None:
    assert everything("tgi", TGI) == (
        b'{"inputs":"Say hi","parameters":{"max_new_tokens":12,"details":true,"do_sample":true,"temperature":0.5,'
        b'"top_p":0.9,"top_k":40,"seed":0,"frequency_penalty":-0.5,"adapter_id":"sql"}}'
    )


def test_a_greedy_request_of_tgi_has_nothing_that_would_make_it_sample() -> None:
    assert everything("tgi", TGI, Sampling(top_p=0.9, top_k=40, frequency_penalty=0.5)) == (
        b'{"inputs":"Say hi","parameters":{"max_new_tokens":12,"details":true,"do_sample":false,'
        b'"frequency_penalty":0.5,"adapter_id":"sql"}}'
    )


@given(takes=st.sets(st.sampled_from(sorted(EVERY_OPTION))), api=st.sampled_from(sorted(DIALECTS)))
def test_nothing_is_sent_that_the_server_does_not_take(takes: set[Option], api: Api) -> None:
    body = json.loads(everything(api, ServerFamily("some", takes=frozenset(takes))))
    assert EVERY_OPTION & body.get("parameters", body).keys() == takes


def test_what_is_asked_for_is_what_has_a_value() -> None:
    assert asked_options(Sampling(), None, None) == {}
    assert asked_options(Sampling(top_k=1, seed=0), 0, "x") == {"top_k": 1, "seed": 0, "priority": 0, "cache_salt": "x"}


# --- OpenAI: what counts as content


def test_roles_empty_deltas_usage_and_comments_are_no_content() -> None:
    transcript = read(ROLE, b": keep-alive\n\n", token(""), event({"choices": []}), USAGE, FINISH, DONE)
    assert transcript.first_token_at is None
    assert transcript.chunks == 0
    assert transcript.gap_us == []
    assert transcript.ended


def test_the_first_token_is_the_first_text() -> None:
    transcript = read(ROLE, token("a"), token(""), token("b"), FINISH, DONE)
    assert (transcript.first_token_at, transcript.last_token_at) == (1.0, 3.0)
    assert transcript.gap_us == [2_000_000]
    assert transcript.texts == ["a", "b"]


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"content": "a"}, "a"),
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm", "content": None}, "hm"),
        ({"reasoning": "hm", "content": "a"}, "hma"),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, ""),
        ({"content": " "}, " "),
        ({"content": "\ufffd"}, "\ufffd"),
        ({"role": "assistant", "content": "a"}, "a"),
    ],
)
def test_deltas_with_generated_content(delta: dict[str, Any], text: str) -> None:
    transcript = read(event({"choices": [{"index": 0, "delta": delta}]}))
    assert transcript.texts == [text]
    assert transcript.first_token_at == 0.0


@pytest.mark.parametrize(
    "delta",
    [{}, None, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}, {"reasoning": ""}],
)
def test_deltas_without(delta: dict[str, Any] | None) -> None:
    assert read(event({"choices": [{"index": 0, "delta": delta}]})).chunks == 0


def test_completions() -> None:
    events = [event({"choices": [{"index": 0, "text": text, "finish_reason": None}]}) for text in ("", "a", "b")]
    transcript = read(*events, DONE, api="openai_completions")
    assert transcript.texts == ["a", "b"]
    assert transcript.first_token_at == 1.0


def test_choices_of_one_event_are_one_chunk() -> None:
    both = {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}
    assert read(event(both)).texts == ["ab"]


# --- OpenAI: how a stream ends


def test_done_is_an_end() -> None:
    assert read(token("a"), DONE).ended


def test_an_answer_is_carried_on_without_the_thoughts_before_it() -> None:
    """What was thought counts as generated, and is no part of the chat."""
    deltas = ({"reasoning": "hm, "}, {"reasoning_content": "só", "content": "4"}, {"content": "2."})
    transcript = read(*(event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas))
    assert transcript.texts == ["hm, ", "só4", "2."]
    assert transcript.answer == "42."


def test_what_the_engine_says_of_its_own_work() -> None:
    """As vLLM has it in the final usage event under `--enable-per-request-metrics`; nonsense is left out."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    told = {"queue_time_ms": 12.5, "time_to_first_token_ms": 40, "generation_time_ms": 80.0, "tokens_per_second": 9}
    assert read(event({"choices": [], "usage": usage, "metrics": told})).engine == {
        "queued_s": 0.0125,
        "prefill_s": 0.04,
        "decode_s": 0.08,
    }
    wrong = {"queue_time_ms": "x", "generation_time_ms": -1, "time_to_first_token_ms": True}
    nonsense: list[Any] = [None, {}, [], wrong]
    for nothing in nonsense:
        assert read(event({"choices": [], "usage": usage, "metrics": nothing})).engine is None


def test_a_finish_reason_is_an_end_when_the_stream_is_over() -> None:
    transcript = read(token("a"), FINISH)
    assert transcript.ended
    assert transcript.finish_reason == "stop"


def test_neither_is_no_end() -> None:
    assert not read(ROLE, token("a"), USAGE).ended


def test_every_choice_has_to_finish() -> None:
    def choice(index: int, reason: str | None) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": reason}]})

    assert not read(choice(0, None), choice(1, None), choice(0, "length")).ended
    assert read(choice(0, None), choice(1, None), choice(0, "length"), choice(1, "stop")).ended


def test_a_finish_reason_of_error_is_an_error() -> None:
    transcript = read(token("a"), event({"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}), DONE)
    assert transcript.error == "finish_reason is error"


@pytest.mark.parametrize("error", [{"message": "m"}, {"error": "m"}, "m"])
def test_error_events(error: Any) -> None:
    transcript = read(token("a"), event({"error": error}), event({"error": "second"}), DONE)
    assert transcript.error == "m"
    assert read(token("a"), event({"error": None, "choices": []}), DONE).error is None


# --- OpenAI: token counts


def test_usage_in_any_event() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 2}
    for stream in (
        [token("a"), FINISH, event({"choices": [], "usage": usage})],
        [token("a"), event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": usage})],
        [token("a"), event({"usage": usage})],
    ):
        transcript = read(*stream)
        assert (transcript.input_tokens, transcript.output_tokens) == (20, 2)
        assert transcript.chunk_tokens is None
    assert read(token("a"), event({"choices": [], "usage": None})).output_tokens is None


@pytest.mark.parametrize("count", ["7", 7.5, True, -1, [7], None, {}])
def test_a_count_that_is_no_count_is_unknown(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count}
    transcript = read(token("a"), event({"choices": [], "usage": usage}))
    assert (transcript.input_tokens, transcript.output_tokens) == (None, None)
    assert transcript.error is None


def _running(text: str, total: int) -> bytes:
    return token(text, usage={"prompt_tokens": 20, "completion_tokens": total})


def test_a_running_count_tells_the_tokens_of_each_chunk() -> None:
    transcript = read(_running("", 0), _running("abc", 3), _running("d", 4), _running("ef", 6), DONE)
    assert transcript.chunk_tokens == [3, 1, 2]
    assert transcript.output_tokens == 6


def test_tokens_without_text_are_credited_to_the_chunk_that_shows_them() -> None:
    """A character of several tokens shows with its last; an end marker never does."""
    transcript = read(_running("a", 1), _running("", 2), _running("é", 3), _running("", 4), DONE)
    assert transcript.chunk_tokens == [1, 2]
    assert transcript.output_tokens == 4


def test_a_count_that_does_not_run_tells_nothing() -> None:
    assert read(_running("a", 5), _running("b", 5), DONE).chunk_tokens is None
    assert read(_running("a", 5), _running("b", 3), DONE).chunk_tokens is None


def test_token_ids_tell_the_tokens_of_each_chunk() -> None:
    def ids(text: str, *numbers: int) -> bytes:
        return event({"choices": [{"index": 0, "delta": {"content": text}, "token_ids": list(numbers)}]})

    assert read(ids("a", 5), ids("bcd", 6, 7, 8), DONE).chunk_tokens == [1, 3]
    assert read(ids("a", 5), token("b"), ids("c", 6), DONE).chunk_tokens is None


# --- TGI


def _last(text: str, **details: Any) -> bytes:
    return tgi_token(text, generated_text="whole", details={"finish_reason": "length", **details})


def test_tgi() -> None:
    stream = [tgi_token("a"), b":\n\n", tgi_token("b"), _last("c", generated_tokens=3, input_length=9, seed=None)]
    transcript = read(*stream, api="tgi")
    assert transcript.texts == ["a", "b", "c"]
    assert transcript.chunk_tokens == [1, 1, 1]
    assert transcript.stamps == [0.0, 1.0, 2.0]
    assert (transcript.input_tokens, transcript.output_tokens) == (9, 3)
    assert transcript.finish_reason == "length"
    assert transcript.ended


def test_tgi_without_details() -> None:
    transcript = read(tgi_token("a"), tgi_token("b", generated_text=""), api="tgi")
    assert transcript.ended
    assert transcript.output_tokens is None
    assert transcript.chunk_tokens == [1, 1]


def test_tgi_that_breaks_off() -> None:
    assert not read(tgi_token("a"), tgi_token("b"), api="tgi").ended


def test_special_tokens_are_no_content() -> None:
    end = tgi_token("</s>", special=True, generated_text="ab", details={"finish_reason": "eos_token"})
    transcript = read(tgi_token("<s>", special=True), tgi_token("a"), tgi_token("b"), end, api="tgi")
    assert transcript.texts == ["a", "b"]
    assert transcript.first_token_at == 1.0
    assert transcript.ended


def test_special_tokens_are_content_when_there_is_nothing_else() -> None:
    end = tgi_token("</s>", special=True, generated_text="", details={"finish_reason": "eos_token"})
    transcript = read(tgi_token("<s>", special=True), end, api="tgi")
    assert transcript.stamps == [0.0, 1.0]
    assert transcript.ended


def test_a_token_without_text_is_a_token() -> None:
    transcript = read(tgi_token(""), tgi_token("é"), _last(""), api="tgi")
    assert transcript.chunks == 3


def test_tgi_errors() -> None:
    stream = [tgi_token("a"), b'data:{"error": "Request failed", "error_type": "generation"}\n\n']
    transcript = read(*stream, api="tgi")
    assert transcript.error == "Request failed"
    assert transcript.texts == ["a"]
    assert read(b"data:nonsense\n\n", api="tgi").error == "event is no JSON object: nonsense"
    assert read(b"data:[]\n\n", api="tgi").error == "event is no JSON object: []"


# --- any bytes at all


_KEYS = [
    "choices",
    "usage",
    "delta",
    "content",
    "index",
    "finish_reason",
    "error",
    "token",
    "details",
    "text",
    "completion_tokens",
    "prompt_tokens",
    "token_ids",
    "generated_text",
    "message",
    "special",
    "tool_calls",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["", "x", "length", "error"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=250)
@given(
    api=st.sampled_from(sorted(DIALECTS)),
    data=_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20),
)
def test_no_event_raises_what_an_exchange_does_not_expect(api: Api, data: bytes) -> None:
    transcript = Transcript()
    try:
        DIALECTS[api].read(data, 0.0, transcript)
    except (AttributeError, TypeError, KeyError, ValueError):
        pass
    DIALECTS[api].close(transcript)
    assert transcript.chunks <= 1
    assert type(transcript.output_tokens) in (int, type(None))
    assert transcript.chunk_tokens is None or all(type(count) is int and count > 0 for count in transcript.chunk_tokens)
    assert transcript.finish_reason is None or isinstance(transcript.finish_reason, str)
    assert transcript.error is None or isinstance(transcript.error, str)
