"""Profiles that are wrong: file, line, key path, what was found, what is allowed, all at once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fairshare_locust.errors import FairshareError, ProfileError
from fairshare_locust.profile import load_profile, parse_profile
from tests.profile.profiles import MINIMAL, parse

_PROCESSES = "closed, batch, constant, poisson, gamma, weibull, on_off, ramp, steps, trace"
_SOURCES = "synthetic, jsonl, text, sharegpt, trace, conversation, prefix"  # and mixture, but not in a mixture
_LENGTH = "must be a number or a mapping with distribution: one of constant, uniform, normal, lognormal"


def problems(text: str, folder: Path = Path()) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        parse(text, folder)
    assert isinstance(caught.value, FairshareError)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def only_problem(text: str, folder: Path = Path()) -> str:
    [problem] = problems(text, folder)
    return problem


def with_line(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


# --- files


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(tmp_path / "none.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: can't be read: No such file or directory; name a profile with --fairshare-profile"
    )


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="can't be read: Is a directory"):
        load_profile(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ProfileError, match=r"p.yaml: not UTF-8 text \(byte 9\); a profile is a YAML file"):
        load_profile(tmp_path / "p.yaml")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file(text: str) -> None:
    problem = only_problem(text)
    assert problem.startswith("p.yaml")
    if "---" not in text:
        assert problem == (
            "p.yaml: the file is empty; allowed: name, seed, run, model, deployment, traces, tenants, phases, "
            "telemetry, fairness, cost"
        )


@pytest.mark.parametrize(
    ("text", "found"),
    [("- a\n- b\n", "a list"), ("just words\n", "'just words'"), ("7\n", "7"), ("~\n", "nothing (null)")],
)
def test_something_else_at_the_top(text: str, found: str) -> None:
    assert only_problem(text) == f"p.yaml:1: found {found}; must be a mapping of keys to values"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("name: a\nrun: {warmup_s: 1\n", 3, "expected ',' or '}'"),
        ("name: a\n\tseed: 1\n", 2, "cannot start any token"),
        ("name: 'a\n", 2, "found unexpected end of stream"),
        ("name: *nobody\n", 1, "found undefined alias 'nobody'"),
        ("name: a\n---\nname: b\n", 2, "but found another document"),
        ("name: a\nseed: 1: 2\n", 2, "mapping values are not allowed here"),
    ],
)
def test_text_that_is_not_yaml(text: str, line: int, what: str) -> None:
    first = problems(text)[0]
    assert first.startswith(f"p.yaml:{line}: ")
    assert "not YAML: " in first
    assert what in first


def test_a_control_character() -> None:
    assert "not YAML: " in only_problem("name: a\x00b\n")


def test_a_value_inside_itself() -> None:
    assert only_problem(with_line("run: {duration_s: 60}", "run: &run {duration_s: *run}")) == (
        "p.yaml:2: run.duration_s: found a mapping; must be a number, greater than 0 or null"
    )
    assert only_problem(with_line("run: {duration_s: 60}", "run: &run {<<: *run, duration_s: 60}")) == (
        "p.yaml:2: run.<<: found the mapping itself; must be another one"
    )
    assert "p.yaml:4: tenants[0]: found a list; must be a mapping of keys to values" in problems(
        with_line("tenants:\n", "tenants: &tenants [*tenants]\nmore:\n")
    )


def test_mappings_that_merge_each_other() -> None:
    text = with_line("input_tokens: 100, output_tokens: 10", "input_tokens: &a {<<: &b {<<: *a}}, output_tokens: *b")
    assert [problem.split(": ")[1] for problem in problems(text)] == [
        "tenants[0].workload.input_tokens.distribution",
        "tenants[0].workload.output_tokens.distribution",
    ]


@pytest.mark.parametrize(("base", "found"), [("7", "7"), ("[7]", "7"), ("null", "nothing (null)"), ("[[]]", "a list")])
def test_a_merge_key_with_something_else_than_a_mapping(base: str, found: str) -> None:
    assert only_problem(with_line("duration_s: 60", f"<<: {base}, duration_s: 60")) == (
        f"p.yaml:2: run.<<: found {found}; must be a mapping or a list of mappings"
    )


def test_duplicate_keys_in_a_mapping_that_is_merged_are_told_once() -> None:
    text = (
        with_line("  - id: chat", "  - &chat\n    weight: 1\n    weight: 2\n    id: chat") + "  - {<<: *chat, id: b}\n"
    )
    assert only_problem(text) == "p.yaml:7: tenants[0].weight: found twice; the first is on line 6"


# --- keys


def test_all_at_once() -> None:
    text = """\
name: -x
sede: 1
run: {warmup_s: -1}
model: {name: tiny, tokeniser: builtin}
tenants:
  - id: 7up
    arrival: {process: poison, rate_per_s: 0}
    workload: {source: synthetic, input_tokens: 0}
    wieght: 2
  - arrival: {process: closed, concurrency: 1.5}
    workload: {source: jsonl, path: none.jsonl}
cost: {gpus: 1}
"""
    assert [problem.split(":")[1:3] for problem in problems(text)] == [
        ["2", " sede"],
        ["1", " name"],
        ["3", " run.warmup_s"],
        ["3", " run.duration_s"],
        ["4", " model.tokeniser"],
        ["9", " tenants[0].wieght"],
        ["6", " tenants[0].id"],
        ["7", " tenants[0].arrival.process"],
        ["8", " tenants[0].workload.input_tokens"],
        ["8", " tenants[0].workload.output_tokens"],
        ["10", " tenants[1].id"],
        ["10", " tenants[1].arrival.concurrency"],
        ["11", " tenants[1].workload.path"],
        ["12", " cost.gpu_hour_usd"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "name: small",
            "name: small\nsede: 1",
            "p.yaml:2: sede: unknown key; allowed: name, seed, run, model, deployment, traces, tenants, phases, "
            "telemetry, fairness, cost; did you mean 'seed'?",
        ),
        (
            "duration_s: 60",
            "duration_s: 60, xyz: 1",
            "p.yaml:2: run.xyz: unknown key; allowed: warmup_s, duration_s, requests, drain_s, fairness_window_s",
        ),
        (
            "rate_per_s: 2",
            "rate_per_sec: 2, rate_per_s: 2",
            "p.yaml:6: tenants[0].arrival.rate_per_sec: unknown key; allowed: active_s, max_in_flight, overflow, "
            "process, rate_per_s; did you mean 'rate_per_s'?",
        ),
        (
            "rate_per_s: 2",
            "concurrency: 2, rate_per_s: 2",
            "p.yaml:6: tenants[0].arrival.concurrency: unknown key; allowed: active_s, max_in_flight, overflow, "
            "process, rate_per_s",
        ),
    ],
)
def test_unknown_keys(old: str, new: str, problem: str) -> None:
    assert only_problem(with_line(old, new)) == problem


def test_a_key_that_is_no_text() -> None:
    assert "7: unknown key" in only_problem(MINIMAL + "7: a\n")
    assert "unknown key" in only_problem(MINIMAL + "? [a, b]\n: c\n")


@pytest.mark.parametrize(
    ("old", "where", "what"),
    [
        ("name: small\n", "p.yaml:1: name", "missing; must be letters, digits, ., - or _ (63 at most)"),
        ("run: {duration_s: 60}\n", "p.yaml:1: run", "missing; must be a mapping of keys to values"),
        (
            "    arrival: {process: poisson, rate_per_s: 2}\n",
            "p.yaml:5: tenants[0].arrival",
            f"missing; must be a mapping with process: one of {_PROCESSES}",
        ),
        (", output_tokens: 10", "p.yaml:7: tenants[0].workload.output_tokens", f"missing; {_LENGTH}"),
        (
            ", rate_per_s: 2",
            "p.yaml:6: tenants[0].arrival.rate_per_s",
            "missing; must be a number, greater than 0 and at most 1000000",
        ),
        (
            "process: poisson, ",
            "p.yaml:6: tenants[0].arrival.process",
            f"missing; must be one of {_PROCESSES}",
        ),
        (
            "name: tiny",
            "p.yaml:3: model.name",
            "missing; must be a name as the server knows it, or auto to ask the server",
        ),
    ],
)
def test_missing_keys(old: str, where: str, what: str) -> None:
    assert only_problem(with_line(old, "")) == f"{where}: {what}"


def test_a_misspelt_tag_is_the_near_miss_of_a_missing_one() -> None:
    problem = only_problem(with_line("process: poisson", "proces: poisson"))
    assert problem == (
        f"p.yaml:6: tenants[0].arrival.process: missing; must be one of {_PROCESSES}; did you mean 'process'?"
    )


def test_duplicate_keys() -> None:
    assert only_problem(MINIMAL + "name: again\n") == "p.yaml:8: name: found twice; the first is on line 1"
    text = with_line("rate_per_s: 2", "rate_per_s: 2, rate_per_s: 3")
    assert only_problem(text) == "p.yaml:6: tenants[0].arrival.rate_per_s: found twice; the first is on line 6"
    text = with_line("- id: chat", "- id: chat\n    headers: {X-A: '1', X-A: '2'}")
    assert only_problem(text) == "p.yaml:6: tenants[0].headers.X-A: found twice; the first is on line 6"


# --- values


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0", "0"),
        ("-1", "-1"),
        (".nan", "nan"),
        (".inf", "inf"),
        ("-.inf", "-inf"),
        ("1000001", "1000001"),
        ("'2'", "'2' (YAML reads"),
        ("fast", "'fast'"),
        ("true", "true"),
        ("null", "nothing (null)"),
        ("", "nothing (null)"),
        ("[1]", "a list"),
        ("{a: 1}", "a mapping"),
        ("2026-01-01", "'2026-01-01'"),
        ("1" + 400 * "0", "1" + 400 * "0"),
        ("1" + 5000 * "0", "'1" + 5000 * "0"),
    ],
)
def test_rates(value: str, found: str) -> None:
    problem = only_problem(with_line("rate_per_s: 2}", f"rate_per_s: {value}}}"))
    allowed = "; must be a number, greater than 0 and at most 1000000"
    start = "p.yaml:6: tenants[0].arrival.rate_per_s: found "
    assert problem.startswith(start)
    if "YAML reads" in found:
        assert problem == f"{start}'2'{allowed} (YAML reads '2' as text: write 2 without quotes or exponent)"
    else:
        assert problem == f"{start}{found}{allowed}" or (len(value) > 5000 and problem.startswith(start + found))


@pytest.mark.parametrize(("text", "number"), [("1e3", "1000"), ("2E-1", "0.2"), ("1.5e2", "150")])
def test_numbers_with_an_exponent_that_yaml_reads_as_text(text: str, number: str) -> None:
    problem = only_problem(with_line("rate_per_s: 2", f"rate_per_s: {text}"))
    assert problem.endswith(f"(YAML reads {text!r} as text: write {number} without quotes or exponent)")


@pytest.mark.parametrize("value", ["1.5", "0", "100001", "true", "'3'", ".inf", "null"])
def test_whole_numbers(value: str) -> None:
    problem = only_problem(with_line("rate_per_s: 2", f"rate_per_s: 2, max_in_flight: {value}"))
    assert "tenants[0].arrival.max_in_flight: found " in problem
    assert "; must be a whole number, at least 1 and at most 100000" in problem


@pytest.mark.parametrize("seed", ["-1", "9223372036854775808", "0.5", "abc", "1e3"])
def test_seeds(seed: str) -> None:
    problem = only_problem(with_line("name: small", f"name: small\nseed: {seed}"))
    assert problem.startswith("p.yaml:2: seed: found ")


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        (
            "process: poisson",
            "process: poison",
            "p.yaml:6: tenants[0].arrival.process",
            f"found 'poison'; must be one of {_PROCESSES}; did you mean 'poisson'?",
        ),
        (
            "process: poisson",
            "process: [a]",
            "p.yaml:6: tenants[0].arrival.process",
            f"found a list; must be one of {_PROCESSES}",
        ),
        (
            "process: poisson",
            "process: null",
            "p.yaml:6: tenants[0].arrival.process",
            f"found nothing (null); must be one of {_PROCESSES}",
        ),
        (
            "source: synthetic",
            "source: alpaca",
            "p.yaml:7: tenants[0].workload.source",
            f"found 'alpaca'; must be one of {_SOURCES}, mixture",
        ),
        (
            "input_tokens: 100",
            "input_tokens: {distribution: gaussian}",
            "p.yaml:7: tenants[0].workload.input_tokens.distribution",
            "found 'gaussian'; must be one of constant, uniform, normal, lognormal",
        ),
        (
            "input_tokens: 100",
            "input_tokens: many",
            "p.yaml:7: tenants[0].workload.input_tokens",
            f"found 'many'; {_LENGTH}",
        ),
        (
            "input_tokens: 100",
            "input_tokens: 1.5",
            "p.yaml:7: tenants[0].workload.input_tokens",
            "found 1.5; must be a whole number, at least 1 and at most 10000000",
        ),
        (
            "input_tokens: 100",
            "input_tokens: true",
            "p.yaml:7: tenants[0].workload.input_tokens",
            f"found true; {_LENGTH}",
        ),
        (
            "input_tokens: 100",
            "input_tokens: null",
            "p.yaml:7: tenants[0].workload.input_tokens",
            f"found nothing (null); {_LENGTH}",
        ),
        (
            "input_tokens: 100",
            "input_tokens: {distribution: uniform, low: 9, high: 3}",
            "p.yaml:7: tenants[0].workload.input_tokens.low",
            "found 9; must not be above high (3)",
        ),
        (
            "input_tokens: 100",
            "input_tokens: {distribution: normal, mean: 9, std: 3, min: 8, max: 7}",
            "p.yaml:7: tenants[0].workload.input_tokens.min",
            "found 8; must not be above max (7)",
        ),
        (
            "input_tokens: 100",
            "input_tokens: {distribution: lognormal, mean: 9, sigma: 3, max: 7, min: 8}",
            "p.yaml:7: tenants[0].workload.input_tokens.min",
            "found 8; must not be above max (7)",
        ),
        (
            "input_tokens: 100",
            "input_tokens: {distribution: lognormal, mean: 9, sigma: 6}",
            "p.yaml:7: tenants[0].workload.input_tokens.sigma",
            "found 6; must be a number, at least 0 and at most 5",
        ),
        (
            "duration_s: 60",
            "warmup_s: 5",
            "p.yaml:2: run.duration_s",
            "missing; give duration_s (seconds measured) or requests (a number for each tenant)",
        ),
        (
            "duration_s: 60",
            "duration_s: 60, requests: 5",
            "p.yaml:2: run.requests",
            "found 5 beside duration_s: 60; give one of the two",
        ),
        (
            "duration_s: 60",
            "duration_s: 60, warmup_s: null",
            "p.yaml:2: run.warmup_s",
            "found nothing (null); must be a number, at least 0",
        ),
        (
            "run: {duration_s: 60}",
            "run: null",
            "p.yaml:2: run",
            "found nothing (null); must be a mapping of keys to values",
        ),
        ("run: {duration_s: 60}", "run: 60", "p.yaml:2: run", "found 60; must be a mapping of keys to values"),
        (
            "name: tiny",
            "name: 7",
            "p.yaml:3: model.name",
            "found 7; must be a name as the server knows it, or auto to ask the server",
        ),
        (
            "name: tiny",
            "name: ' '",
            "p.yaml:3: model.name",
            "found ' '; must be a name as the server knows it, or auto to ask the server",
        ),
        ("name: small", "name: a/b", "p.yaml:1: name", "found 'a/b'; must be letters, digits, ., - or _ (63 at most)"),
        (
            "id: chat",
            "id: chat room",
            "p.yaml:5: tenants[0].id",
            "found 'chat room'; must be a letter, then letters, digits, - or _ (63 at most)",
        ),
        (
            "id: chat",
            "id: no",
            "p.yaml:5: tenants[0].id",
            "found false; must be a letter, then letters, digits, - or _ (63 at most)",
        ),
        (
            "id: chat",
            "id: chat\n    api: openai",
            "p.yaml:6: tenants[0].api",
            "found 'openai'; must be one of openai_chat, openai_completions, tgi; did you mean 'openai_chat'?",
        ),
        (
            "id: chat",
            "id: chat\n    slo: {}",
            "p.yaml:6: tenants[0].slo",
            "no limit given; give ttft_ms, tpot_ms or e2e_ms, or leave slo out",
        ),
        (
            "id: chat",
            "id: chat\n    slo: {ttft_ms: 0}",
            "p.yaml:6: tenants[0].slo.ttft_ms",
            "found 0; must be a number, greater than 0 or null",
        ),
        (
            "id: chat",
            "id: chat\n    weight: 0",
            "p.yaml:6: tenants[0].weight",
            "found 0; must be a number, greater than 0",
        ),
        (
            "id: chat",
            "id: chat\n    sampling: {ignore_eos: maybe}",
            "p.yaml:6: tenants[0].sampling.ignore_eos",
            "found 'maybe'; must be true or false",
        ),
        (
            "id: chat",
            "id: chat\n    sampling: {ignore_eos: 1}",
            "p.yaml:6: tenants[0].sampling.ignore_eos",
            "found 1; must be true or false",
        ),
        (
            "id: chat",
            "id: chat\n    sampling: {temperature: 2.1}",
            "p.yaml:6: tenants[0].sampling.temperature",
            "found 2.1; must be a number, at least 0 and at most 2",
        ),
        (
            "id: chat",
            "id: chat\n    sampling: {top_p: 0}",
            "p.yaml:6: tenants[0].sampling.top_p",
            "found 0; must be a number, greater than 0 and at most 1 or null",
        ),
        (
            "id: chat",
            "id: chat\n    sampling: null",
            "p.yaml:6: tenants[0].sampling",
            "found nothing (null); must be a mapping of keys to values",
        ),
        (
            "id: chat",
            "id: chat\n    timeouts: {total_s: 0}",
            "p.yaml:6: tenants[0].timeouts.total_s",
            "found 0; must be a number, greater than 0",
        ),
        (
            "id: chat",
            "id: chat\n    api_key_env: sk-1234",
            "p.yaml:6: tenants[0].api_key_env",
            "found 'sk-1234'; must be the name of an environment variable or null",
        ),
        (
            "tenants:\n",
            "deployment: {engine: ollama}\ntenants:\n",
            "p.yaml:4: deployment.engine",
            "found 'ollama'; must be one of simulator, vllm, tgi, transformers, external; did you mean 'vllm'?",
        ),
        (
            "tenants:\n",
            "deployment: {simulator: {max_num_seqs: 64, max_num_batched_tokens: 63}}\ntenants:\n",
            "p.yaml:4: deployment.simulator.max_num_batched_tokens",
            "found 63; must be at least max_num_seqs (64)",
        ),
        (
            "tenants:\n",
            "deployment: {simulator: {kv_capacity_tokens: 100}}\ntenants:\n",
            "p.yaml:4: deployment.simulator.kv_capacity_tokens",
            "found 100; must be at least max_model_len (8192)",
        ),
        (
            "tenants:\n",
            "fairness: {service_weights: {input: 0, output: 0}}\ntenants:\n",
            "p.yaml:4: fairness.service_weights",
            "both weights are 0; at least one must count",
        ),
        (
            "tenants:\n",
            "cost: {gpu_hour_usd: -1}\ntenants:\n",
            "p.yaml:4: cost.gpu_hour_usd",
            "found -1; must be a number, at least 0",
        ),
    ],
)
def test_values(old: str, new: str, where: str, what: str) -> None:
    assert only_problem(with_line(old, new)) == f"{where}: {what}"


@pytest.mark.parametrize(
    "value", ["!!timestamp nonsense", "!!int ''", "!!bool maybe", "!!float x", "!!binary é", "!x 7"]
)
def test_values_with_a_tag_that_they_do_not_fit(value: str) -> None:
    assert "rate_per_s: found " in only_problem(with_line("rate_per_s: 2", f"rate_per_s: {value}"))


@pytest.mark.parametrize(
    ("tenants", "where", "what"),
    [
        ("tenants: []\n", "p.yaml:4: tenants", "found an empty list; at least one tenant is needed"),
        ("tenants: null\n", "p.yaml:4: tenants", "found nothing (null); must be a list"),
        ("tenants: {id: chat}\n", "p.yaml:4: tenants", "found a mapping; must be a list"),
        ("tenants: [chat]\n", "p.yaml:4: tenants[0]", "found 'chat'; must be a mapping of keys to values"),
    ],
)
def test_tenants(tenants: str, where: str, what: str) -> None:
    assert only_problem(MINIMAL[: MINIMAL.index("tenants:")] + tenants) == f"{where}: {what}"


_ANOTHER = MINIMAL[MINIMAL.index("  - id") :]


def test_tenants_that_can_not_be_told_apart() -> None:
    assert only_problem(MINIMAL + _ANOTHER) == (
        "p.yaml:8: tenants[1].id: found 'chat' again; tenants[0] has it already"
    )
    assert only_problem(MINIMAL + _ANOTHER.replace("chat", "Chat")) == (
        "p.yaml:8: tenants[1].id: found 'Chat'; its user class ChatTenant is that of 'chat'"
    )


@pytest.mark.parametrize(
    "endpoint", ["localhost:8000", "ftp://a", "http://", "http://user:key@a:1", "http://a/?q=1", "''", "7"]
)
def test_endpoints(endpoint: str) -> None:
    text = with_line("id: chat", f"id: chat\n    endpoint: {endpoint}") + "deployment: {engine: external}\n"
    problem = only_problem(text)
    assert problem.startswith("p.yaml:6: tenants[0].endpoint: found ")
    assert "must be an http:// or https:// URL" in problem


def test_endpoints_in_a_list() -> None:
    text = with_line("id: chat", "id: chat\n    endpoint: [http://a:1, b:2]") + "deployment: {engine: external}\n"
    assert only_problem(text).startswith("p.yaml:6: tenants[0].endpoint[1]: found 'b:2'; must be an http://")
    text = with_line("id: chat", "id: chat\n    endpoint: []") + "deployment: {engine: external}\n"
    assert only_problem(text) == (
        "p.yaml:6: tenants[0].endpoint: found an empty list; give a URL, a list of URLs, or leave it out"
    )


def test_an_endpoint_beside_a_server_of_our_own() -> None:
    assert only_problem(with_line("id: chat", "id: chat\n    endpoint: http://a:1")) == (
        "p.yaml:6: tenants[0].endpoint: found 'http://a:1', but engine 'simulator' starts the server itself; "
        "leave endpoint out or say deployment.engine: external"
    )


@pytest.mark.parametrize(
    "name", ["Authorization", "authorization", "X-API-Key", "api-key", "Cookie", "Proxy-Authorization"]
)
def test_headers_that_would_hold_a_secret(name: str) -> None:
    problem = only_problem(with_line("id: chat", f"id: chat\n    headers: {{{name}: secret-value}}"))
    assert problem == (
        f"p.yaml:6: tenants[0].headers.{name}: a key must not stand in a file; put it into an environment variable "
        "and name that with api_key_env"
    )
    assert "secret-value" not in problem


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("Host: a", "this header is set by the client itself"),
        ("content-length: '7'", "this header is set by the client itself"),
        ("X-Request-Id: a", "this header is set by the client itself"),
        ("Accept: a", "this header is set by the client itself"),
        ("User-Agent: a", "this header is set by the client itself"),
        ("'X A': b", "found 'X A'; not a header name"),
        ("'': b", "found ''; not a header name"),
        ("'X:': b", "found 'X:'; not a header name"),
        ('X: "a\\r\\nY: b"', "found 'a\\r\\nY: b'; must be printable ASCII on one line"),
        ("X: é", "found 'é'; must be printable ASCII on one line"),
        ("X: 7", "found 7; must be text"),
        ("X: null", "found nothing (null); must be text"),
    ],
)
def test_headers(header: str, what: str) -> None:
    problem = only_problem(with_line("id: chat", f"id: chat\n    headers: {{{header}}}"))
    assert problem.startswith("p.yaml:6: tenants[0].headers.")
    assert problem.endswith(what)


# --- arrivals, workloads, traces and phases

_CLOSED = "{process: closed, concurrency: 1, think_s: "


@pytest.mark.parametrize(
    ("arrival", "where", "what"),
    [
        (
            "{process: gamma, rate_per_s: 2}",
            ".burstiness",
            "give either burstiness (1: Poisson) or cv (1: Poisson)",
        ),
        (
            "{process: gamma, rate_per_s: 2, burstiness: 1, cv: 1}",
            ".burstiness",
            "give either burstiness (1: Poisson) or cv (1: Poisson)",
        ),
        (
            "{process: gamma, rate_per_s: 2, cv: 0}",
            ".cv",
            "found 0; must be a number, at least 0.001 and at most 30 or null",
        ),
        (
            "{process: weibull, rate_per_s: 2, shape: 0}",
            ".shape",
            "found 0; must be a number, at least 0.1 and at most 1000",
        ),
        ("{process: weibull, rate_per_s: 2}", ".shape", "missing; must be a number, at least 0.1 and at most 1000"),
        (
            "{process: on_off, rate_per_s: 2, on_s: 0, off_s: 1}",
            ".on_s",
            "found 0; must be a number, at least 0.001",
        ),
        (
            "{process: on_off, rate_per_s: 2, on_s: 1, off_s: 1, durations: random}",
            ".durations",
            "found 'random'; must be one of fixed, exponential",
        ),
        (
            "{process: on_off, rate_per_s: 2, on_s: 1, off_s: 1, base: gamma}",
            ".base",
            "found 'gamma'; must be one of poisson, constant",
        ),
        (
            "{process: ramp, from_per_s: 0, to_per_s: 0, over_s: 9}",
            ".to_per_s",
            "found 0 with from_per_s: 0; nothing would be sent",
        ),
        (
            "{process: ramp, from_per_s: 0, to_per_s: 1, over_s: 0}",
            ".over_s",
            "found 0; must be a number, greater than 0",
        ),
        (
            "{process: steps, steps: [{rate_per_s: 0, for_s: 5}]}",
            ".steps",
            "found no step with a rate above 0; nothing would be sent",
        ),
        ("{process: steps, steps: []}", ".steps", "found no step with a rate above 0; nothing would be sent"),
        ("{process: steps}", ".steps", "missing; must be a list"),
        (
            "{process: steps, steps: [{rate_per_s: 1}]}",
            ".steps[0].for_s",
            "missing; must be a number, greater than 0",
        ),
        ("{process: batch}", ".size", "missing; must be a whole number, at least 1 and at most 100000"),
        (
            _CLOSED + "soon}",
            ".think_s",
            "found 'soon'; must be a number or a mapping with distribution: one of constant, uniform, exponential, "
            "lognormal",
        ),
        (_CLOSED + "-1}", ".think_s", "found -1; must be a number, at least 0"),
        (
            _CLOSED + "{distribution: normal, mean: 1}}",
            ".think_s.distribution",
            "found 'normal'; must be one of constant, uniform, exponential, lognormal; did you mean 'lognormal'?",
        ),
        (
            _CLOSED + "{distribution: uniform, low: 2.5, high: 1}}",
            ".think_s.low",
            "found 2.5; must not be above high (1)",
        ),
        (
            _CLOSED + "{distribution: exponential, mean: 0}}",
            ".think_s.mean",
            "found 0; must be a number, greater than 0",
        ),
    ],
)
def test_arrivals(arrival: str, where: str, what: str) -> None:
    text = with_line("{process: poisson, rate_per_s: 2}", arrival)
    assert only_problem(text) == f"p.yaml:6: tenants[0].arrival{where}: {what}"


@pytest.mark.parametrize(
    ("stretches", "where", "what"),
    [
        ("[[5, 3]]", "[0]", "found [5.0, 3.0]; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[3, 3]]", "[0]", "found [3.0, 3.0]; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[-1, 3]]", "[0]", "found [-1.0, 3.0]; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[3]]", "[0]", "found [3.0]; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[1, 2, 3]]", "[0]", "found [1.0, 2.0, 3.0]; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[]]", "[0]", "found []; must be [from, to] in seconds, 0 ≤ from < to"),
        ("[[0, 9], [8, 12]]", "[1]", "found [8.0, 12.0]; must not begin before the last one ends (9)"),
        ("[[5, 9], [0, 1]]", "[1]", "found [0.0, 1.0]; must not begin before the last one ends (9)"),
        ("[9]", "[0]", "found 9; must be a list"),
        ("[[0, .inf]]", "[0][1]", "found inf; must be a number"),
        ("[[soon]]", "[0][0]", "found 'soon'; must be a number"),
        ("null", "", "found nothing (null); must be a list"),
    ],
)
@pytest.mark.parametrize("arrival", ["process: poisson, rate_per_s: 2", "process: closed, concurrency: 2"])
def test_stretches_of_presence(stretches: str, where: str, what: str, arrival: str) -> None:
    text = with_line("process: poisson, rate_per_s: 2", f"{arrival}, active_s: {stretches}")
    assert only_problem(text) == f"p.yaml:6: tenants[0].arrival.active_s{where}: {what}"


@pytest.mark.parametrize(
    "arrival",
    [
        "{process: gamma, rate_per_s: 2, cv: 1, active_s: [[2, 1]]}",
        "{process: ramp, from_per_s: 1, to_per_s: 2, over_s: 9, active_s: [[2, 1]]}",
        "{process: steps, steps: [{rate_per_s: 1, for_s: 1}], active_s: [[2, 1]]}",
        "{process: trace, trace: t, active_s: [[2, 1]]}",
    ],
)
def test_arrivals_with_rules_of_their_own_check_stretches_too(arrival: str) -> None:
    text = with_line("{process: poisson, rate_per_s: 2}", arrival)
    assert problems(text)[0].startswith(
        "p.yaml:6: tenants[0].arrival.active_s[0]: found [2.0, 1.0]; must be [from, to]"
    )


def test_a_stretch_is_told_with_its_own_line() -> None:
    text = with_line(
        "{process: poisson, rate_per_s: 2}",
        "\n      process: poisson\n      rate_per_s: 2\n      active_s:\n        - [1, 2]\n        - [1, 3]",
    )
    assert only_problem(text) == (
        "p.yaml:11: tenants[0].arrival.active_s[1]: found [1.0, 3.0]; must not begin before the last one ends (2)"
    )


@pytest.mark.parametrize(
    ("run", "phases"),
    [("{requests: 5}", "[]"), ("{duration_s: 5}", "[{name: a}, {name: b, requests: 7}]")],
)
def test_stretches_beside_a_number_of_requests(run: str, phases: str) -> None:
    text = with_line("rate_per_s: 2", "rate_per_s: 2, active_s: [[1, 2]]").replace("{duration_s: 60}", run)
    assert only_problem(f"{text}phases: {phases}\n") == (
        "p.yaml:6: tenants[0].arrival.active_s: found beside a number of requests; tenants that come and go need "
        "duration_s"
    )


@pytest.mark.parametrize(
    ("workload", "where", "what"),
    [
        ("{source: mixture}", ".parts", "missing; must be a list"),
        ("{source: mixture, parts: []}", ".parts", "found an empty list; at least one part is needed"),
        (
            "{source: mixture, parts: [{weight: 2}]}",
            ".parts[0].workload",
            f"missing; must be a mapping with source: one of {_SOURCES}",
        ),
        (
            "{source: mixture, parts: [{workload: {source: mixture, parts: []}}]}",
            ".parts[0].workload.source",
            f"found 'mixture'; must be one of {_SOURCES}",
        ),
        (
            "{source: mixture, parts: [{weight: 0, workload: {source: synthetic, input_tokens: 1, output_tokens: 1}}]}",
            ".parts[0].weight",
            "found 0; must be a number, greater than 0",
        ),
        (
            "{source: conversation, turns: 0, input_tokens: 1, output_tokens: 1}",
            ".turns",
            "found 0; must be a whole number, at least 1 and at most 10000000",
        ),
        (
            "{source: conversation, turns: 2, input_tokens: 1, output_tokens: 1, think_s: -1}",
            ".think_s",
            "found -1; must be a number, at least 0",
        ),
        (
            "{source: conversation, turns: 2, input_tokens: 1, output_tokens: 1, system_tokens: -1}",
            ".system_tokens",
            "found -1; must be a whole number, at least 0 and at most 1000000",
        ),
        ("{source: prefix, input_tokens: 1, output_tokens: 1}", ".prefix_tokens", f"missing; {_LENGTH}"),
        (
            "{source: prefix, groups: 0, prefix_tokens: 1, input_tokens: 1, output_tokens: 1}",
            ".groups",
            "found 0; must be a whole number, at least 1 and at most 10000",
        ),
        (
            "{source: prefix, zipf: -1, prefix_tokens: 1, input_tokens: 1, output_tokens: 1}",
            ".zipf",
            "found -1; must be a number, at least 0 and at most 10",
        ),
        ("{source: sharegpt}", ".path", "missing; must be the path of a file"),
        ("{source: sharegpt, path: f, output_tokens: all}", ".output_tokens", f"found 'all'; {_LENGTH} or null"),
        ("{source: trace}", ".trace", "missing; must be text"),
        (
            "{source: trace, trace: t, max_output_tokens: 0}",
            ".max_output_tokens",
            "found 0; must be a whole number, at least 1 or null",
        ),
    ],
)
def test_workloads(workload: str, where: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    text = with_line("{source: synthetic, input_tokens: 100, output_tokens: 10}", workload)
    text += "traces: [{name: t, path: f, format: azure}]\n"
    assert only_problem(text, tmp_path) == f"p.yaml:7: tenants[0].workload{where}: {what}"


@pytest.mark.parametrize(
    ("trace", "where", "what"),
    [
        ("{path: f, format: azure}", "[0].name", "missing; must be letters, digits, ., - or _"),
        ("{name: a/b, path: f, format: azure}", "[0].name", "found 'a/b'; must be letters, digits, ., - or _"),
        ("{name: t, format: azure}", "[0].path", "missing; must be the path of a file"),
        (
            "{name: t, path: f, format: csv}",
            "[0].format",
            "found 'csv'; must be one of azure, burstgpt, mooncake",
        ),
        ("{name: t, path: f, format: azure, to_s: 0}", "[0].to_s", "found 0; must be a number, greater than 0 or null"),
        (
            "{name: t, path: f, format: azure, from_s: 9.5, to_s: 9}",
            "[0].to_s",
            "found 9; must be greater than from_s (9.5)",
        ),
        (
            "{name: t, path: f, format: azure, from_s: 9, to_s: 9}",
            "[0].to_s",
            "found 9; must be greater than from_s (9)",
        ),
        (
            "{name: t, path: f, format: azure, assign: chat}",
            "[0].assign",
            "found 'chat'; must be a mapping with by: one of share, session, hash, model or null",
        ),
        (
            "{name: t, path: f, format: azure, assign: {shares: {chat: 1}}}",
            "[0].assign.by",
            "missing; must be one of share, session, hash, model",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: tenant}}",
            "[0].assign.by",
            "found 'tenant'; must be one of share, session, hash, model",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share}}",
            "[0].assign.shares",
            "missing; must be a mapping of keys to values",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: {}}}",
            "[0].assign.shares",
            "found an empty mapping; give each tenant a share",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: {chat: 0}}}",
            "[0].assign.shares.chat",
            "found 0; must be a number greater than 0",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: {chat: -0.5}}}",
            "[0].assign.shares.chat",
            "found -0.5; must be a number greater than 0",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: {chat: half}}}",
            "[0].assign.shares.chat",
            "found 'half'; must be a number",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: {chat: .nan}}}",
            "[0].assign.shares.chat",
            "found nan; must be a number",
        ),
        (
            "{name: t, path: f, format: azure, assign: {by: share, shares: [chat]}}",
            "[0].assign.shares",
            "found a list; must be a mapping of keys to values",
        ),
        (
            "{name: t, path: f, format: burstgpt, assign: {by: model, models: {}}}",
            "[0].assign.models",
            "found an empty mapping; give each model of the trace a tenant",
        ),
        (
            "{name: t, path: f, format: burstgpt, assign: {by: model, models: {GPT-4: 1}}}",
            "[0].assign.models.GPT-4",
            "found 1; must be text",
        ),
        (
            "{name: t, path: f, format: azure}, {name: t, path: f, format: mooncake}",
            "[1].name",
            "found 't' again; a trace before has it already",
        ),
    ],
)
def test_traces(trace: str, where: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert only_problem(f"{MINIMAL}traces: [{trace}]\n", tmp_path) == f"p.yaml:8: traces{where}: {what}"


@pytest.mark.parametrize(
    ("trace_format", "assign", "allowed"),
    [
        ("azure", "{by: session, shares: {chat: 1}}", "share"),
        ("azure", "{by: hash, shares: {chat: 1}}", "share"),
        ("azure", "{by: model, models: {GPT-4: chat}}", "share"),
        ("burstgpt", "{by: hash, shares: {chat: 1}}", "share or session or model"),
        ("mooncake", "{by: session, shares: {chat: 1}}", "share or hash"),
        ("mooncake", "{by: model, models: {GPT-4: chat}}", "share or hash"),
    ],
)
def test_traces_assigned_by_a_column_that_their_format_lacks(
    trace_format: str, assign: str, allowed: str, tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    text = f"{MINIMAL}traces: [{{name: t, path: f, format: {trace_format}, assign: {assign}}}]\n"
    by = assign[len("{by: ") : assign.index(",")]
    assert only_problem(text, tmp_path) == (
        f"p.yaml:8: traces[0].assign.by: found {by!r}; a trace of format {trace_format} can be assigned by {allowed}"
    )


_TRACES = """\
traces:
  - {name: t, path: f, format: azure}
  - {name: others, path: f, format: azure, assign: {by: share, shares: {other: 1}}}
"""
_OTHER = _ANOTHER.replace("chat", "other")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("{process: poisson, rate_per_s: 2}", "{process: trace, trace: NAME}", "p.yaml:6: tenants[0].arrival.trace"),
        (
            "{source: synthetic, input_tokens: 100, output_tokens: 10}",
            "{source: trace, trace: NAME}",
            "p.yaml:7: tenants[0].workload.trace",
        ),
        (
            "{source: synthetic, input_tokens: 100, output_tokens: 10}",
            "{source: mixture, parts: [{workload: {source: trace, trace: t}}, "
            "{workload: {source: trace, trace: NAME}}]}",
            "p.yaml:7: tenants[0].workload.parts[1].workload.trace",
        ),
    ],
)
def test_traces_that_a_tenant_names(old: str, new: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    text = with_line(old, new) + _OTHER + _TRACES
    assert only_problem(text.replace("NAME", "tt"), tmp_path) == (
        f"{where}: found 'tt'; traces named in this profile: t, others"
    )
    assert only_problem(text.replace("NAME", "others"), tmp_path) == (
        f"{where}: found 'others', which assigns no row to 'chat'; give it a part in that trace's assign"
    )
    assert parse(text.replace("NAME", "t"), tmp_path).tenants[0].id == "chat"


def test_a_trace_in_a_profile_without_any() -> None:
    assert only_problem(with_line("{process: poisson, rate_per_s: 2}", "{process: trace, trace: t}")) == (
        "p.yaml:6: tenants[0].arrival.trace: found 't'; traces named in this profile: none"
    )


def test_a_trace_that_is_assigned_by_model_to_another_tenant(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    text = with_line("{process: poisson, rate_per_s: 2}", "{process: trace, trace: t}") + _OTHER
    text += "traces: [{name: t, path: f, format: burstgpt, assign: {by: model, models: {GPT-4: other}}}]\n"
    assert only_problem(text, tmp_path) == (
        "p.yaml:6: tenants[0].arrival.trace: found 't', which assigns no row to 'chat'; give it a part in that trace's "
        "assign"
    )


@pytest.mark.parametrize(
    ("more", "where", "what"),
    [
        ("speed: 2, rate_per_s: 3.5", "rate_per_s", "found 3.5 beside speed: 2; give one of the two"),
        ("speed: 0", "speed", "found 0; must be a number, at least 1e-06 and at most 1000000"),
        ("rate_per_s: 0", "rate_per_s", "found 0; must be a number, greater than 0 and at most 1000000 or null"),
    ],
)
def test_how_fast_a_trace_goes(more: str, where: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    text = with_line("{process: poisson, rate_per_s: 2}", f"{{process: trace, trace: t, {more}}}") + _OTHER + _TRACES
    assert only_problem(text, tmp_path) == f"p.yaml:6: tenants[0].arrival.{where}: {what}"


@pytest.mark.parametrize(
    ("phases", "where", "what"),
    [
        ("{name: a}", "", "found a mapping; must be a list"),
        ("[{load: 2}]", "[0].name", "missing; must be letters, digits, ., -, + or _"),
        ("[{name: a/b}]", "[0].name", "found 'a/b'; must be letters, digits, ., -, + or _"),
        ("[{name: a}, {name: b}, {name: a}]", "[2].name", "found 'a' again; phases[0] has it already"),
        ("[{name: a, tenants: [chat, chta]}]", "[0].tenants", "found 'chta'; no tenant has this id"),
        ("[{name: a, tenants: [chat, 7]}]", "[0].tenants[1]", "found 7; must be text"),
        ("[{name: a, tenants: chat}]", "[0].tenants", "found 'chat'; must be a list"),
        ("[{name: a, load: 0}]", "[0].load", "found 0; must be a number, greater than 0 and at most 1000000"),
        (
            "[{name: a, duration_s: 2.5, requests: 3}]",
            "[0].requests",
            "found 3 beside duration_s: 2.5; give one of the two",
        ),
        ("[{name: a, duration_s: 0}]", "[0].duration_s", "found 0; must be a number, greater than 0 or null"),
        ("[{name: a, warmup_s: -1}]", "[0].warmup_s", "found -1; must be a number, at least 0 or null"),
        (
            "[{name: a}, {name: b, stop_if_slo_breaks: true}]",
            "[1].stop_if_slo_breaks",
            "found true, but no tenant of the phase has an slo that could break",
        ),
        (
            "[{name: a, fairness_window_s: 5}]",
            "[0].fairness_window_s",
            "unknown key; allowed: name, tenants, load, warmup_s, duration_s, requests, drain_s, stop_if_slo_breaks",
        ),
    ],
)
def test_phases(phases: str, where: str, what: str) -> None:
    assert only_problem(f"{MINIMAL}phases: {phases}\n") == f"p.yaml:8: phases{where}: {what}"


def test_a_phase_can_stop_only_for_an_slo_of_its_own_tenants() -> None:
    text = MINIMAL + "    slo: {ttft_ms: 9}\n" + _OTHER
    for tenants in ("[]", "[chat]", "[chat, other]"):
        assert parse(f"{text}phases: [{{name: a, tenants: {tenants}, stop_if_slo_breaks: true}}]\n").phases
    assert only_problem(f"{text}phases: [{{name: a, tenants: [other], stop_if_slo_breaks: true}}]\n") == (
        "p.yaml:12: phases[0].stop_if_slo_breaks: found true, but no tenant of the phase has an slo that could break"
    )


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        *(
            (
                f"cache_salt: {salt}",
                "cache_salt",
                f"found {found}; must be text without blanks, @, / or \\ (128 characters at most) or null",
            )
            for salt, found in (
                ("a b", "'a b'"),
                ("a@b", "'a@b'"),
                ("a/b", "'a/b'"),
                ("a\\b", r"'a\\b'"),
                ('"a\\0b"', r"'a\x00b'"),
                ("''", "''"),
                (129 * "x", repr(129 * "x")),
                ("7", "7"),
            )
        ),
        ("model: ''", "model", "found ''; must be a name as the server knows it or null"),
        (
            "priority: 0.5",
            "priority",
            "found 0.5; must be a whole number, at least -2147483648 and at most 2147483647 or null",
        ),
        (
            "sampling: {top_k: 0}",
            "sampling.top_k",
            "found 0; must be a whole number, at least 1 or null",
        ),
        (
            "sampling: {seed: -1}",
            "sampling.seed",
            "found -1; must be a whole number, at least 0 and at most 2147483647 or null",
        ),
        (
            "sampling: {presence_penalty: 3}",
            "sampling.presence_penalty",
            "found 3; must be a number, at least -2 and at most 2 or null",
        ),
        (
            "slo: {ttft_ms: 9, attainment: 95}",
            "slo.attainment",
            "found 95; must be a number, greater than 0 and at most 1",
        ),
        ("slo: {attainment: 0.9}", "slo", "no limit given; give ttft_ms, tpot_ms or e2e_ms, or leave slo out"),
        ("slo: 500", "slo", "found 500; must be a mapping of keys to values or null"),
    ],
)
def test_what_a_tenant_asks_of_its_server(line: str, where: str, what: str) -> None:
    text = with_line("id: chat", f"id: chat\n    {line}")
    assert only_problem(text) == f"p.yaml:6: tenants[0].{where}: {what}"


# --- files that a profile names


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("none.jsonl", "No such file or directory"),
        (".", "Is a directory"),
        ("/none/at/all", "No such file or directory"),
        ("~nobody-by-this-name/x", ""),
        ('"a\\0b"', ""),
    ],
)
def test_files_that_can_not_be_read(tmp_path: Path, path: str, why: str) -> None:
    text = with_line("{source: synthetic, input_tokens: 100, output_tokens: 10}", f"{{source: jsonl, path: {path}}}")
    problem = only_problem(text, tmp_path)
    assert problem.startswith("p.yaml:7: tenants[0].workload.path: found ")
    assert "can't be read: " in problem
    assert why in problem


def test_a_path_that_is_no_text() -> None:
    text = with_line("{source: synthetic, input_tokens: 100, output_tokens: 10}", "{source: jsonl, path: 7}")
    assert only_problem(text) == "p.yaml:7: tenants[0].workload.path: found 7; must be the path of a file"


def test_rules_across_values_are_told_beside_a_value_that_cannot_be_read() -> None:
    text = """\
name: two
run: {warmup_s: 1, duration_s: 2, requests: 3}
model: {name: m}
deployment: {engine: simulator, simulator: {kv_capacity_tokens: 10}}
tenants:
  - id: chat
    headers: {Authorization: Bearer x, X-Auth-Token: y}
    arrival: {process: closed, concurrency: none}
    workload: {source: synthetic, input_tokens: 1, output_tokens: 1}
  - id: chat
    arrival: {process: closed, concurrency: 1}
    workload: {source: synthetic, input_tokens: {distribution: uniform, low: 9, high: x}, output_tokens: 1}
"""
    found = [problem.split(": ", 2)[:2] for problem in problems(text)]
    assert found == [
        ["p.yaml:2", "run.requests"],
        ["p.yaml:4", "deployment.simulator.kv_capacity_tokens"],
        ["p.yaml:8", "tenants[0].arrival.concurrency"],
        ["p.yaml:7", "tenants[0].headers.Authorization"],
        ["p.yaml:7", "tenants[0].headers.X-Auth-Token"],
        ["p.yaml:12", "tenants[1].workload.input_tokens.high"],
        ["p.yaml:10", "tenants[1].id"],
    ]


def test_nested_too_deeply() -> None:
    assert only_problem("[" * 100_000) == "p.yaml: nested too deeply to be a profile"


def test_a_trace_for_a_tenant_that_is_none() -> None:
    """Nine tenths of the rows would go to nobody, unseen; `others` says that it is meant."""
    trace = "traces: [{{name: t, path: f, format: azure, assign: {{by: share, shares: {{chat: 1, chta: 9}}}}{more}}}]\n"
    told = (
        "p.yaml:8: traces[0].assign: found 'chta'; no tenant has this id; did you mean 'chat'? "
        "(name it in others, if nobody is to send its rows)"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "f").touch()
        assert only_problem(MINIMAL + trace.format(more=""), Path(folder)) == told
        parse_profile(MINIMAL + trace.format(more=", others: [chta]"), source="p.yaml", folder=Path(folder))


@pytest.mark.parametrize(
    ("telemetry", "where", "what"),
    [
        ("{nvml: maybe}", ".nvml", "found 'maybe'; must be one of auto, never"),
        ("{nvml_interval_s: 0.01}", ".nvml_interval_s", "found 0.01; must be a number, at least 0.1 and at most 60"),
        ("{dcgm_url: gpu:9400}", ".dcgm_url", "found 'gpu:9400'; must be an http:// or https:// URL or null"),
        ("{agent_token_env: T}", ".agent_token_env", "found 'T' without agent_url; name the agent it is for"),
    ],
)
def test_telemetry(telemetry: str, where: str, what: str) -> None:
    assert only_problem(f"{MINIMAL}telemetry: {telemetry}\n") == f"p.yaml:8: telemetry{where}: {what}"
