"""Options of real engines: their defaults, and what is refused before anything starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairshare_locust.errors import ProfileError, ServingError
from fairshare_locust.profile import only_tenants, resolved_yaml
from fairshare_locust.serving.placement import memory_shares, tenant_groups
from tests.profile.profiles import MINIMAL, parse

_BATCH = """\
  - id: batch
    arrival: {process: closed, concurrency: 2}
    workload: {source: synthetic, input_tokens: 7, output_tokens: 5}
"""
_TWO = MINIMAL + _BATCH


def problems(deployment: str, text: str = _TWO) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse(f"{text}deployment: {deployment}\n")
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


def test_every_default_is_seen_and_read_back() -> None:
    made = parse(_TWO + "deployment: {engine: vllm, sharing: mps, server: {gpu: GPU-1a-2b, kv_cache_gib: {chat: 3}}}\n")
    text = resolved_yaml(made)
    assert parse(text) == made
    for line in ("gpu: GPU-1a-2b", "kv_cache_gib: {chat: 3.0}", "max_num_seqs: 256", "manage_mig: false"):
        assert f"    {line}\n" in text


@pytest.mark.parametrize("gpu", [0, 3, "GPU-0f1e"])
def test_a_gpu_is_an_index_or_a_uuid(gpu: int | str) -> None:
    assert parse(f"{_TWO}deployment: {{server: {{gpu: {gpu}}}}}\n").deployment.server.gpu == gpu


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("gpu: -1", "deployment.server.gpu: found -1; must be a whole number, at least 0"),
        ("gpu: L4", "deployment.server.gpu: found 'L4'; must be the UUID of a GPU (GPU-…), as nvidia-smi -L tells"),
        (
            "mig: {chatt: 1g.5gb}",
            "deployment.server.mig.chatt: found 'chatt'; no tenant has this id; did you mean 'chat'?",
        ),
        ("sm_percent: {chat: 0}", "deployment.server.sm_percent.chat: found 0; must be above 0 and at most 100"),
        (
            "memory_percent: {chat: 60, batch: 60}",
            "deployment.server.memory_percent: found 120 in all; must be at most 100 together",
        ),
        ("kv_cache_gib: {chat: 0}", "deployment.server.kv_cache_gib.chat: found 0; must be above 0"),
        (
            "max_num_seqs: 4096",
            "deployment.server.max_num_batched_tokens: found 2048; must be at least max_num_seqs (4096)",
        ),
        (
            "environment: {HF_TOKEN: hf_abc}",
            "deployment.server.environment.HF_TOKEN: a secret must not stand in a file; export it before the run: the "
            "servers get it from there",
        ),
        (
            "environment: {CUDA_MPS_PIPE_DIRECTORY: /x}",
            "deployment.server.environment.CUDA_MPS_PIPE_DIRECTORY: this variable is set by the run itself; leave it "
            "out",
        ),
        (
            "extra_args: [--api-key=abc]",
            "deployment.server.extra_args[0]: --api-key: a secret must not stand in a file or a command; export it as "
            "the variable that the engine reads before the run",
        ),
        (
            "extra_args: [--max_num_seqs=7]",
            "deployment.server.extra_args[0]: found --max-num-seqs; say it as deployment.server.max_num_seqs",
        ),
        ("extra_args: [--x, --port=1]", "deployment.server.extra_args[1]: found --port; it is set by the run itself"),
        (
            "extra_args: [--served_model_name, x]",
            "deployment.server.extra_args[0]: found --served-model-name; it is set by the run itself",
        ),
        (
            "image: a/b, executable: c",
            "deployment.server.executable: found c beside image a/b; give one of them",
        ),
    ],
)
def test_what_no_server_can_have(server: str, problem: str) -> None:
    assert problems(f"{{server: {{{server}}}}}") == [problem]


def test_variables_that_only_look_like_secrets_may_be_set() -> None:
    made = parse(
        _TWO + "deployment: {server: {environment: {TOKENIZERS_PARALLELISM: 'false', OMP_NUM_THREADS: '4'}}}\n"
    )
    assert len(made.deployment.server.environment) == 2


@pytest.mark.parametrize(
    ("engine", "server", "problem"),
    [
        ("tgi", "scheduling_policy: priority", "found priority; tgi serves who came first"),
        ("tgi", "load_format: dummy", "found dummy; tgi loads real weights only"),
        ("tgi", "kv_cache_gib: {chat: 1}", "say --max-batch-total-tokens in extra_args"),
        ("transformers", "image: x", "found x; transformers serve has no image of its own"),
        ("transformers", "enforce_eager: true", "found true; transformers serve is told by --compile in extra_args"),
        ("vllm", "continuous_batching: true", "found true; vllm always batches continuously"),
    ],
)
def test_what_an_engine_can_not_follow(engine: str, server: str, problem: str) -> None:
    key = server.split(":")[0]
    [told] = problems(f"{{engine: {engine}, server: {{{server}}}}}")
    assert told.startswith(f"deployment.server.{key}: ")
    assert problem in told
    parse(f"{_TWO}deployment: {{engine: simulator, server: {{{server}}}}}\n")  # where nobody looks at it


def test_a_server_that_we_start_needs_a_model_and_an_api() -> None:
    text = _TWO.replace("name: tiny", "name: auto").replace("id: batch", "id: batch\n    api: tgi")
    assert problems("{engine: vllm}", text) == [
        "model.name: found 'auto'; engine vllm starts the server itself: name a model of the hub, or a folder with one",
        "tenants[1].api: found 'tgi'; engine vllm has openai_chat and openai_completions",
    ]
    parse(text.replace("name: auto", "name: tiny") + "deployment: {engine: tgi}\n")


def test_options_go_with_their_tenant() -> None:
    made = parse(_TWO + "deployment: {engine: vllm, server: {mig: {chat: a, batch: b}, sm_percent: {batch: 9}}}\n")
    alone = only_tenants(made, {"ChatTenant"})
    assert (alone.deployment.server.mig, alone.deployment.server.sm_percent) == ({"chat": "a"}, {})
    assert parse(resolved_yaml(alone)) == alone


def test_memory_is_shared_evenly_but_for_those_who_have_a_share() -> None:
    three = parse(_TWO + _BATCH.replace("batch", "third") + "deployment: {engine: vllm, sharing: mps}\n")
    assert tenant_groups(three) == (("chat",), ("batch",), ("third",))
    assert memory_shares(three) == pytest.approx((0.3, 0.3, 0.3))
    server = replace(three.deployment.server, memory_percent={"batch": 50}, gpu_memory_utilization=0.8)
    given = replace(three, deployment=replace(three.deployment, server=server))
    assert memory_shares(given) == pytest.approx((0.2, 0.4, 0.2))
    logical = replace(given, deployment=replace(given.deployment, sharing="logical"))
    assert (tenant_groups(logical), memory_shares(logical)) == ((("chat", "batch", "third"),), (0.8,))
    all_of_it = replace(server, memory_percent={"batch": 100})
    with pytest.raises(ServingError, match=r"100 in all leaves nothing of 100 for 'chat', 'third'"):
        memory_shares(replace(given, deployment=replace(given.deployment, server=all_of_it)))
