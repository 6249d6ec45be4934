"""Every tenant's servers: found among those that run, or started."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.profile.model import Profile
from fairshare_locust.serving import Deployed, check_external, deploy
from fairshare_locust.workload.tokenizer import load_tokenizer
from tests.profile.profiles import parse
from tests.serving.answers import JSON, Serve, models, prompt, stream

_TOKENIZER = load_tokenizer("builtin")


def profile(*tenants: str, deployment: str = "{engine: external}", endpoint: str | None = None) -> Profile:
    """Tenants t0, t1, … with these keys, at one endpoint."""
    common = "arrival: {process: poisson, rate_per_s: 2}, workload: {source: synthetic, input_tokens: 9"
    where = "" if endpoint is None else f"endpoint: '{endpoint}', "
    lines = [
        f"  - {{id: t{i}, {where}{keys}{', ' if keys else ''}{common}, output_tokens: 9}}}}"
        for i, keys in enumerate(tenants)
    ]
    head = ["name: p", "run: {duration_s: 1}", "model: {name: llama}", f"deployment: {deployment}", "tenants:"]
    return parse("\n".join([*head, *lines]) + "\n")


class Counting:
    """A server of two models that counts what it is asked, by model; it adds 7 tokens to a chat."""

    def __init__(self, serve: Serve) -> None:
        self.asked: list[dict[str, Any]] = []
        self.url = serve(self._answer)

    def _answer(self, path: str, body: dict[str, Any] | None, _: Mapping[str, str]) -> tuple[int, str, bytes]:
        if body is None:
            return 200, JSON, models("llama", "sql", owned_by="vllm")
        self.asked.append(body)
        return stream(_TOKENIZER.count(prompt(body)) + (7 if path.endswith("chat/completions") else 0))

    def check(self, *tenants: str) -> Deployed:
        return check_external(profile(*tenants, endpoint=self.url), _TOKENIZER)


def test_tenants_who_ask_alike_share_one_probe(serve: Serve) -> None:
    counting = Counting(serve)
    deployed = counting.check("", "sampling: {temperature: 1}", "weight: 3")
    assert len(counting.asked) == 2  # the prompt, and the longer one
    assert [deployed.servers[t][0].model for t in ("t0", "t1", "t2")] == ["llama"] * 3
    assert deployed.prompt_overhead_tokens() == {"t0": 7, "t1": 7, "t2": 7}
    [server] = deployed.describe()
    assert (server["model"], server["family"], server["prompt_overhead_tokens"]) == ("llama", "vllm", 7)


def test_another_option_is_tried_and_the_overhead_is_not_measured_again(serve: Serve) -> None:
    counting = Counting(serve)
    counting.check("", "priority: 1", "priority: 2", "priority: 3, cache_salt: a", "sampling: {ignore_eos: false}")
    first, longer, *others = counting.asked
    assert prompt(first) == "Hello" != prompt(longer)
    assert [(body.get("priority"), body.get("cache_salt"), "ignore_eos" in body) for body in others] == [
        (1, None, True),
        (3, "a", True),
        (None, None, False),
    ]


def test_models_and_apis_are_met_apart(serve: Serve) -> None:
    counting = Counting(serve)
    deployed = counting.check("", "model: sql", "api: openai_completions")
    assert [deployed.servers[t][0].model for t in ("t0", "t1", "t2")] == ["llama", "sql", "llama"]
    assert deployed.prompt_overhead_tokens() == {"t0": 7, "t1": 7, "t2": 0}
    assert [(server["model"], server["prompt_overhead_tokens"]) for server in deployed.describe()] == [
        ("llama", 7),
        ("sql", 7),
        ("llama", 0),
    ]


def test_an_overhead_that_differs_between_a_tenants_servers_is_not_known(serve: Serve) -> None:
    def without_template(_: str, body: dict[str, Any] | None, __: Mapping[str, str]) -> tuple[int, str, bytes]:
        return (200, JSON, models("llama")) if body is None else stream(_TOKENIZER.count(prompt(body)))

    other = serve(without_template)
    deployed = check_external(profile(f"endpoint: ['{Counting(serve).url}', '{other}']"), _TOKENIZER)
    assert [server.prompt_overhead_tokens for server in deployed.servers["t0"]] == [7, 0]
    assert deployed.prompt_overhead_tokens() == {}


def test_the_simulator_serves_every_tenants_model_and_knows_what_it_adds(tmp_path: Path) -> None:
    deployment = "{simulator: {chat_template_tokens: 11, scheduling_policy: priority}}"
    asked = ("priority: 1", "model: sql", "model: sql, api: openai_completions", "model: llama, api: tgi")
    deployed = deploy(profile(*asked, deployment=deployment), tmp_path)
    try:
        servers = [deployed.servers[f"t{i}"][0] for i in range(4)]
        with urllib.request.urlopen(f"{servers[0].endpoint}/v1/models", timeout=30) as answer:
            listed = [model["id"] for model in orjson.loads(answer.read())["data"]]
    finally:
        deployed.stop()
    assert listed == ["llama", "sql"]
    assert [server.model for server in servers] == ["llama", "sql", "sql", "llama"]
    assert deployed.prompt_overhead_tokens() == {"t0": 11, "t1": 11, "t2": 0, "t3": 0}
    assert [server.family.by_priority for server in servers] == [True, True, True, None]
    assert [server.family.ignore_eos for server in servers] == [True, True, True, False]
    assert all(server.simulated for server in servers)
