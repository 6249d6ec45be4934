"""Whose a request is, what it shares with others, and which part of the GPU it goes to."""

from __future__ import annotations

import select
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.simulator.blocks import block_names
from tests.forks import run_fork
from tests.simulator.served import DEADLINE_S, MODULE, Served, read_until, serving

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
FAST: dict[str, Any] = {"step_base_ms": 1, "step_per_sequence_us": 0, "compute_per_token_us": 1}
SMALL: dict[str, Any] = {**FAST, "memory_mib": 10000, "weights_mib": 1000}  # two fit on the card
TOKENS = "vllm:generation_tokens_total"
HITS = "vllm:prefix_cache_hits_total"


def _overtakes(served: Served, late: str) -> bool:
    """While a request of `a` runs and another of `a` waits, whether one of `late` is served before that."""
    long = {"prompt": [1], "max_tokens": 8000, "ignore_eos": True, "stream": True}
    running = served.send(COMPLETIONS, long, X_Gateway_Inference_Fairness_Id="a")
    read_until(running, b'"text"')
    waiting = []
    for number, tenant in enumerate(("a", late), start=1):
        waiting.append(served.send(COMPLETIONS, long, x_gateway_inference_fairness_id=tenant))
        read_until(waiting[-1], b"\r\n\r\n")  # of the head
        served.wait_for("vllm:num_requests_waiting", number)
    # Who is new stands where the least served of the others stands: `a` has to be served once more to be ahead.
    told = served.metrics()[TOKENS]
    while served.metrics()[TOKENS] < told + 2:
        pass
    running.close()
    readable, _, _ = select.select(waiting, [], [], DEADLINE_S)
    for connection in waiting:
        connection.close()
    served.wait_for("vllm:num_requests_running", 0)
    return readable == [waiting[1]]


@pytest.mark.parametrize(("policy", "fair"), [("fcfs", False), ("vtc", True)])
def test_a_header_says_whose_a_request_is(policy: str, fair: bool) -> None:
    options = {**FAST, "step_base_ms": 10, "max_num_seqs": 1, "scheduling_policy": policy}
    with serving(options) as served:
        assert _overtakes(served, "b") is fair
        assert not _overtakes(served, "a")


def test_prompts_that_begin_alike_share_what_is_computed_unless_their_salts_differ() -> None:
    def hits(served: Served, path: str, body: dict[str, Any]) -> float:
        before = served.metrics()[HITS]
        assert served.post(path, {"max_tokens": 1, **body}).status == 200
        return served.metrics()[HITS] - before

    prompt = list(range(65))
    preamble = {"role": "system", "content": "one and the same preamble for all " * 8}
    with serving({**FAST, "chat_template_tokens": 20}, "--adapter", "law") as served:
        assert hits(served, COMPLETIONS, {"prompt": prompt}) == 0
        assert hits(served, COMPLETIONS, {"prompt": prompt}) == 64
        assert hits(served, COMPLETIONS, {"prompt": prompt[:40] + [0] * 25}) == 32
        assert hits(served, COMPLETIONS, {"prompt": prompt, "cache_salt": "s"}) == 0
        assert hits(served, COMPLETIONS, {"prompt": prompt, "cache_salt": "s"}) == 64
        assert hits(served, COMPLETIONS, {"prompt": prompt, "model": "law"}) == 0  # computes other KV tokens
        first = [preamble, {"role": "user", "content": "hello"}]
        assert hits(served, CHAT, {"messages": first}) == 0
        assert hits(served, CHAT, {"messages": [preamble, {"role": "user", "content": "so long"}]}) >= 48
    with serving({**FAST, "prefix_caching": False}) as served:
        assert [hits(served, COMPLETIONS, {"prompt": prompt}) for _ in range(2)] == [0, 0]


def test_a_block_s_name_is_that_of_all_before_it() -> None:
    tokens = list(range(50))
    names = block_names("root", tokens)
    assert len(names) == len(set(names)) == 3
    assert block_names("root", tokens[:48]) == names
    assert block_names("root", tokens[:47]) == names[:2]
    assert block_names("root", [*tokens[:16], -1, *tokens[17:]])[0] == names[0]
    assert set(block_names("root", [-1, *tokens[1:]])).isdisjoint(names)
    assert set(block_names("other", tokens)).isdisjoint(names)
    assert block_names("root", ()) == ()


@pytest.mark.parametrize("sharing", ["timeslice", "mps", "mig_emulated"])
def test_each_tenant_has_a_part_with_a_port_and_metrics_of_its_own(sharing: str) -> None:
    with serving(SMALL, "--sharing", sharing, "--tenant", "a", "--tenant", "b") as served:
        assert "endpoint" not in served.announcement
        a, b = served.parts
        assert a.address != b.address
        assert served.gpu()["DCGM_FI_DEV_FB_USED"] == 2000  # the weights, twice
        assert served.gpu()["DCGM_FI_DEV_FB_FREE"] == 8000
        body = {"prompt": [1], "max_tokens": 5, "ignore_eos": True}
        assert b.post(COMPLETIONS, body).json["usage"]["completion_tokens"] == 5
        assert [part.metrics()["vllm:generation_tokens_total"] for part in (a, b)] == [0, 5]
        for index, part in enumerate((a, b)):
            families = text_string_to_metric_families(part.get("/metrics")[1].decode())
            engines = {sample.labels.get("engine") for family in families for sample in family.samples}
            assert engines - {None} == {str(index)}


def test_the_memory_of_all_parts_is_that_of_the_one_device() -> None:
    # Steps that do not end: each prompt's first 2,048 tokens of 128 KiB are 256 MiB beside the weights.
    with serving({**SMALL, "step_base_ms": 1e6}, "--sharing", "mps", "--tenant", "a", "--tenant", "b") as served:
        body = {"prompt": [1] * 4096, "max_tokens": 1, "stream": True}
        a, b = served.parts
        with a.send(COMPLETIONS, body):
            served.wait_for("DCGM_FI_DEV_FB_USED", 2256)
            with b.send(COMPLETIONS, body):
                served.wait_for("DCGM_FI_DEV_FB_USED", 2512)
        served.wait_for("DCGM_FI_DEV_FB_USED", 2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sharing", "mps"], "--sharing mps: each tenant has a part of the GPU; name them with --tenant ID"),
        (["--sharing", "mps", "--tenant", "a", "--tenant", "a"], "--tenant: found 'a' again"),
        (["--sharing", "mps", "--tenant", "a", "--tenant", "b"], "of weights"),
    ],
)
def test_parts_that_can_not_be_had_are_told_at_the_start(arguments: list[str], message: str) -> None:
    ended = run_fork(MODULE, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
