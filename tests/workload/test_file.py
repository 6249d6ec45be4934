"""Prompts from files: what a line may be, in which order they come, and what marks a tenant's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile.distribution import ConstantLength, UniformLength
from fairshare_locust.profile.workloads import JsonlWorkload, TextWorkload
from fairshare_locust.workload import load_tokenizer
from fairshare_locust.workload.file import FilePrompt, FileSource, read_jsonl, read_text
from tests.elsewhere import elsewhere

_TOKENIZER = load_tokenizer("builtin")


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def jsonl(folder: Path, *values: Any) -> Path:
    (folder / "prompts.jsonl").write_text(lines(*values))
    return folder / "prompts.jsonl"


def source(path: Path, tenant_id: str = "chat", seed: int = 7, **options: Any) -> FileSource:
    kind = TextWorkload if path.suffix == ".txt" else JsonlWorkload
    return FileSource(kind(path=path, **options), seed, tenant_id, _TOKENIZER)


# --- reading


def test_read_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a"}\r\n\n  \n'
        b'{"prompt": "b", "output_tokens": 7, "tenant": "chat"}\n'
        b'{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "tenant": null}'
    )
    assert read_jsonl(path) == [
        FilePrompt(None, "a"),
        FilePrompt(None, "b", 7, "chat"),
        FilePrompt(({"role": "system", "content": "s"}, {"role": "user", "content": "u"}), "s\n\nu"),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"prompt": "a"', "not JSON: "),
        ("[]", "found list; must be an object with prompt or messages"),
        ("7", "found int; must be an object with prompt or messages"),
        ('{"promt": "a"}', "unknown key 'promt'; allowed: prompt or messages, and output_tokens, tenant"),
        ("{}", "must have either prompt or messages"),
        ('{"prompt": "a", "messages": []}', "must have either prompt or messages"),
        ('{"prompt": ""}', "prompt: found ''; must be text that is not empty"),
        ('{"prompt": " \\n"}', "prompt: found ' \\n'; must be text that is not empty"),
        ('{"prompt": 7}', "prompt: found 7; must be text that is not empty"),
        ('{"prompt": "a", "output_tokens": 0}', "output_tokens: found 0; must be a whole number, at least 1"),
        ('{"prompt": "a", "output_tokens": 1.5}', "output_tokens: found 1.5; must be a whole number, at least 1"),
        ('{"prompt": "a", "output_tokens": true}', "output_tokens: found True; must be a whole number, at least 1"),
        ('{"prompt": "a", "tenant": 7}', "tenant: found 7; must be a tenant's id"),
        ('{"messages": []}', "messages: found []; must be a list of {role, content} that is not empty"),
        ('{"messages": "hi"}', "messages: found 'hi'; must be a list of {role, content} that is not empty"),
        ('{"messages": ["hi"]}', "messages[0]: found 'hi'; must be an object with the texts role and content"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": null}]}',
            "messages[1]: found {'role': 'user', 'content': None}; must be an object with the texts role and content",
        ),
        (
            '{"messages": [{"role": "user", "content": "a", "name": "x"}]}',
            "messages[0]: found {'role': 'user', 'content': 'a', 'name': 'x'}; "
            "must be an object with the texts role and content",
        ),
    ],
)
def test_lines_that_are_no_prompt(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "good"}}\n\n{line}\n{{"prompt": "good"}}\n')
    with pytest.raises(WorkloadError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:3: {problem}")
    assert "\n" not in str(caught.value)


def test_every_bad_line_is_named_up_to_twenty(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *[7] * 23)
    with pytest.raises(WorkloadError) as caught:
        read_jsonl(path)
    told = str(caught.value).split("\n")
    assert [line.split(":")[1] for line in told[:20]] == [str(i) for i in range(1, 21)]
    assert told[20:] == ["and 3 more"]


def test_a_line_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
    with pytest.raises(WorkloadError, match=r"prompts.jsonl:1: not JSON: "):
        read_jsonl(tmp_path / "prompts.jsonl")
    (tmp_path / "prompts.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(WorkloadError, match=r"prompts.txt:2: not UTF-8 \(byte 3 of the line\)"):
        read_text(tmp_path / "prompts.txt")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"none.jsonl: can't be read: No such file or directory"):
        read_jsonl(tmp_path / "none.jsonl")


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffeins\r\n\n  zwei \n \t\ngröße\u2028drei".encode())
    assert [prompt.prompt for prompt in read_text(path)] == ["eins", "  zwei ", "größe\u2028drei"]


# --- who gets what


def test_lines_for_a_tenant_serve_that_tenant_only(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path, {"prompt": "all"}, {"prompt": "mine", "tenant": "chat"}, {"prompt": "its", "tenant": "batch"}
    )
    prompts = {source(path, share_prefix=True).request(i).prompt for i in range(2)}
    assert prompts == {"all", "mine"}
    with pytest.raises(WorkloadError) as caught:
        source(jsonl(tmp_path, {"prompt": "its", "tenant": "batch"}))
    assert str(caught.value) == (
        f"{path}: no prompt for tenant 'chat' among 1; add lines without tenant, or with this one"
    )
    path.write_text("\n")
    with pytest.raises(WorkloadError, match="no prompt for tenant 'chat' among 0"):
        source(path)


def test_a_lines_own_output_tokens_go_first(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"prompt": "own", "output_tokens": 7}, {"prompt": "drawn"})
    constant = source(path, share_prefix=True, output_tokens=ConstantLength(value=3))
    made = [constant.request(i) for i in range(8)]
    assert {(request.prompt, request.output_tokens) for request in made} == {("own", 7), ("drawn", 3)}
    drawn = source(path, output_tokens=UniformLength(low=10, high=12))
    assert {drawn.request(i).output_tokens for i in range(100)} == {7, 10, 11, 12}
    default = source(path)
    assert {default.request(i).output_tokens for i in range(8)} == {7, 128}


# --- in which order


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 30), rounds=st.integers(1, 4), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_every_round_is_a_permutation(tmp_path: Path, count: int, rounds: int, seed: int, data: st.DataObject) -> None:
    texts = [f"prompt {i}" for i in range(count)]
    path = jsonl(tmp_path, *({"prompt": text} for text in texts))
    prompts = source(path, seed=seed, share_prefix=True)
    made = [prompts.request(i).prompt for i in range(rounds * count)]
    for round_ in range(rounds):
        assert sorted(made[round_ * count : (round_ + 1) * count]) == sorted(texts)
    asked = data.draw(st.lists(st.integers(0, rounds * count - 1), max_size=10))
    again = source(path, seed=seed, share_prefix=True)
    assert [again.request(i).prompt for i in asked] == [made[i] for i in asked]


def test_the_order_is_shuffled_by_seed_tenant_and_round(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({"prompt": str(i)} for i in range(50)))

    def order(tenant_id: str = "chat", seed: int = 7, round_: int = 0) -> list[str]:
        prompts = source(path, tenant_id, seed, share_prefix=True)
        return [prompts.request(round_ * 50 + i).prompt for i in range(50)]

    orders = [order(), order(seed=8), order("batch"), order(round_=1), [str(i) for i in range(50)]]
    assert len({tuple(one) for one in orders}) == 5
    assert order() == orders[0]


def shas(path: str) -> list[str]:
    prompts = source(Path(path))
    return [prompts.request(i).sha for i in range(120)]


def test_the_same_in_another_process(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path, *({"prompt": str(i)} for i in range(50))))
    assert elsewhere(shas, path) == shas(path)


# --- a beginning of the tenant's own


def test_each_prompt_begins_with_the_tenant_and_the_round(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path = jsonl(tmp_path, {"messages": chat})
    first, second = (source(path).request(i) for i in (0, 1))
    assert first.messages == ({"role": "system", "content": "(chat)\nBe brief."}, {"role": "user", "content": "Hi"})
    assert first.prompt == "(chat)\nBe brief.\n\nHi"
    assert second.messages == ({"role": "system", "content": "(chat 2)\nBe brief."}, {"role": "user", "content": "Hi"})
    assert source(path, share_prefix=True).request(1).messages == tuple(chat)
    assert source(path).request(0) == first  # the file's own messages are left as they are


def test_share_prefix_sends_what_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("only one\n")
    prompts = source(path, share_prefix=True)
    assert {prompts.request(i).prompt for i in range(5)} == {"only one"}
    marked = source(path)
    assert len({marked.request(i).prompt for i in range(5)}) == 5


def test_tenants_never_share_a_beginning(tmp_path: Path) -> None:
    text = "the same long prompt for everybody, " * 5
    path = jsonl(tmp_path, {"prompt": text})
    starts = []
    for tenant_id in ("a", "a-b", "ab", "chat", "chat-2"):
        prompts = source(path, tenant_id)
        for i in range(5):
            encoding = _TOKENIZER._inner.encode(prompts.request(i).prompt, add_special_tokens=False)
            starts.append(tuple(encoding.ids[:16]))
    assert len(set(starts)) == len(starts)


def test_input_tokens_count_the_mark_of_every_round(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path, {"prompt": "one"}, {"prompt": "\n two three"}, {"messages": [{"role": "user", "content": "4"}]}
    )
    for options in ({}, {"share_prefix": True}):
        prompts = source(path, "chat-eu", **options)
        for index in (0, 1, 2, 3, 4, 5, 29, 30, 3000, 29_999):
            request = prompts.request(index)
            assert request.input_tokens == _TOKENIZER.count(request.prompt)
