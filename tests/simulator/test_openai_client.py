"""OpenAI's own client takes what the simulator answers."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.simulator.served import Served, serving

KEY = "s3cret"
HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
FAST = {"step_base_ms": 1, "step_per_sequence_us": 0, "compute_per_token_us": 1}
EXACT = {"ignore_eos": True}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    environment = {"SIMULATOR_KEY": KEY}
    arguments = ("--model", "tiny", "--api-key-env", "SIMULATOR_KEY")
    with serving(FAST, *arguments, environment=environment) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with _client(served, KEY) as client:
        yield client


def _client(served: Served, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.announcement['endpoint']}/v1", api_key=key, max_retries=0)


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_chat_in_one_piece(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=7, extra_body=EXACT)
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content is not None
    assert len(choice.message.content.split()) == 7
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (7, answer.usage.prompt_tokens + 7)


def test_a_chat_streams_what_it_says_in_one_piece_and_its_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=9, extra_body=EXACT)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=EXACT,
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "length"


def test_two_choices_stream_side_by_side(client: openai.OpenAI) -> None:
    texts = {0: "", 1: ""}
    reasons = {}
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=5, n=2, stream=True, extra_body=EXACT
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=5, n=2, extra_body=EXACT)
    assert [choice.message.content for choice in whole.choices] == [texts[0], texts[1]]
    assert texts[0] != texts[1]
    assert reasons == {0: "length", 1: "length"}


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="tiny", prompt="hello", max_tokens=6, n=2, extra_body=EXACT)
    assert [len(choice.text.split()) for choice in whole.choices] == [6, 6]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    chunks = list(client.completions.create(model="tiny", prompt="hello", max_tokens=6, stream=True, extra_body=EXACT))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text


@pytest.mark.parametrize("cut", [0, 2])
def test_a_stop_string_ends_an_answer_before_it(client: openai.OpenAI, cut: int) -> None:
    """Also one that begins within a word, and reaches into the next."""
    whole = client.completions.create(model="tiny", prompt="hello", max_tokens=8, extra_body=EXACT).choices[0].text
    fourth = len("".join(f" {word}" for word in whole.split()[:3])) + cut
    stop = whole[fourth : fourth + 5]
    ended = client.completions.create(model="tiny", prompt="hello", max_tokens=8, stop=[stop, "?"], extra_body=EXACT)
    [choice] = ended.choices
    assert (choice.text, choice.finish_reason) == (whole[: whole.index(stop)], "stop")
    assert choice.model_extra is not None
    assert choice.model_extra["stop_reason"] == stop
    chunks = list(
        client.completions.create(model="tiny", prompt="hello", max_tokens=8, stop=stop, stream=True, extra_body=EXACT)
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == choice.text
    last = chunks[-1].choices[0]
    assert last.finish_reason == "stop"
    assert last.model_extra is not None
    assert last.model_extra["stop_reason"] == stop
    kept = client.completions.create(
        model="tiny", prompt="hello", max_tokens=8, stop=stop, extra_body={**EXACT, "include_stop_str_in_output": True}
    )
    assert kept.choices[0].text == choice.text + stop
    assert kept.usage is not None
    assert kept.usage == ended.usage
    assert kept.usage.completion_tokens < 8


def test_a_model_that_is_not_served_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `huge` does not exist"):
        client.chat.completions.create(model="huge", messages=HELLO)


def test_a_wrong_key_is_no_key(served: Served) -> None:
    with _client(served, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="tiny", messages=HELLO)


@pytest.mark.parametrize("stop", ["", ["a", ""], ["a", 5], {"a": 1}])
def test_a_stop_string_that_is_none_is_refused(client: openai.OpenAI, stop: object) -> None:
    with pytest.raises(openai.BadRequestError, match="stop"):
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body={"stop": stop})


def test_an_injected_error_ends_a_stream_and_refuses_an_answer_in_one_piece() -> None:
    with serving(FAST, "--fault", "error") as served, _client(served, KEY) as client:
        said: list[str] = []
        stream = client.chat.completions.create(
            model="simulated", messages=HELLO, max_tokens=8, stream=True, extra_body=EXACT
        )
        with pytest.raises(openai.APIError, match="This error was injected"):
            said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert len(list(filter(None, said))) == 4
        with pytest.raises(openai.InternalServerError, match="This error was injected"):
            client.chat.completions.create(model="simulated", messages=HELLO, max_tokens=8)
