"""What a user is told of servers that do not take what is asked, or may not act on it."""

from __future__ import annotations

import pytest

from fairshare_locust.client.dialects import EVERY_OPTION, PLAIN_OPTIONS, TGI, ServerFamily
from fairshare_locust.profile.model import Sampling
from fairshare_locust.serving import Server, server_notes, unsupported
from tests.profile.profiles import tenant

_VLLM = ServerFamily("vllm", ignore_eos=True, takes=EVERY_OPTION)
_UNSEEN = "which can't be seen from outside"


def test_nothing_is_said_of_what_is_not_asked_for() -> None:
    assert unsupported(tenant(), ServerFamily("unknown", stream_usage=False)) == ()


def test_options_that_are_not_taken_are_named_in_their_order() -> None:
    asked = tenant(
        priority=1,
        cache_salt="a",
        sampling=Sampling(top_k=4, seed=0, frequency_penalty=0.0, presence_penalty=0.5),
    )
    assert unsupported(asked, ServerFamily("transformers", takes=frozenset(("seed",)))) == (
        "top_k is not taken by transformers; it is not sent",
        "frequency_penalty is not taken by transformers; it is not sent",
        "presence_penalty is not taken by transformers; it is not sent",
        "priority is not taken by transformers; it is not sent",
        "cache_salt is not taken by transformers; it is not sent",
    )
    assert unsupported(asked, TGI) == (
        "presence_penalty is not taken by tgi; it is not sent",
        "priority is not taken by tgi; it is not sent",
        "cache_salt is not taken by tgi; it is not sent",
    )
    assert unsupported(asked, ServerFamily("unknown", takes=PLAIN_OPTIONS))[0] == (
        "top_k is not taken by this server; it is not sent"
    )


@pytest.mark.parametrize(
    ("name", "by_priority", "notes"),
    [
        (
            "vllm",
            None,
            (f"priority is sent, but counts only if vllm was started with --scheduling-policy priority, {_UNSEEN}",),
        ),
        (
            "unknown",
            None,
            (f"priority is sent, but counts only if this server schedules by it, lower first, {_UNSEEN}",),
        ),
        (
            "simulator",
            False,
            (
                "priority is sent, but simulator serves first come, first served "
                "(its scheduling policy is not priority)",
            ),
        ),
        ("simulator", True, ()),
    ],
)
def test_a_priority_that_may_not_count(name: str, by_priority: bool | None, notes: tuple[str, ...]) -> None:
    family = ServerFamily(name, takes=EVERY_OPTION, by_priority=by_priority)
    assert unsupported(tenant(priority=0), family) == notes
    assert unsupported(tenant(cache_salt="a"), family) == ()


def _server(endpoint: str, overhead: int | None) -> Server:
    return Server(endpoint, "external", "logical", _VLLM, "llama", prompt_overhead_tokens=overhead)


def test_servers_that_add_alike_to_a_prompt_need_no_word() -> None:
    assert server_notes(tenant(), [_server("http://a", 5), _server("http://b", 5)]) == ()


def test_an_unknown_overhead_is_told_once_and_beside_the_rest() -> None:
    notes = server_notes(tenant(priority=1), [_server("http://a", None), _server("http://b", None)])
    assert [note.split(",")[0].split(" (")[0] for note in notes] == [
        "priority is sent",
        "how many tokens its server adds to a prompt",
    ]
    assert "can't be known" in notes[1]


def test_servers_that_add_differently_are_told_of() -> None:
    [note] = server_notes(tenant(), [_server("http://a", 5), _server("http://b", 6)])
    assert note.startswith("its servers do not add the same number of tokens")
