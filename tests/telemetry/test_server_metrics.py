"""What engines tell under their own names arrives under ours, with the values they gave."""

from __future__ import annotations

import re

import pytest

from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.server_metrics import ServerMetrics
from fairshare_locust.telemetry.source import UnavailableError
from fairshare_locust.telemetry.task import Identity
from tests.telemetry.page import Page, fixture

LABELS = '{engine="0",model_name="tiny"}'


def source(page: Page, token_env: str | None = None) -> ServerMetrics:
    return ServerMetrics("http://engine", Scraper(page.url, [Identity(token_env=token_env)]))


def values(page_text: str, *, whole: bool = False) -> dict[str, float]:
    """The metrics on a page, by name; none may come twice."""
    with Page(page_text) as page:
        samples = source(page).sample(whole)
    assert {endpoint for endpoint, _, _ in samples} == {"http://engine"}
    by_name = {metric: value for _, metric, value in samples}
    assert len(by_name) == len(samples)
    return by_name


def with_values(text: str, **values_by_name: float) -> str:
    """A recorded page with other values of some lines."""
    for name, value in values_by_name.items():
        text, count = re.subn(rf"^(vllm:|llamacpp:)({name})(\{{[^}}]*\}})? .*$", rf"\1\2\3 {value}", text, flags=re.M)
        assert count == 1, name
    return text


def test_vllm() -> None:
    page = with_values(
        fixture("vllm"),
        kv_cache_usage_perc=0.25,
        num_requests_running=3,
        num_requests_waiting=2,
        num_preemptions_total=1,
        prefix_cache_queries_total=640,
        prefix_cache_hits_total=128,
        prompt_tokens_total=1000,
        generation_tokens_total=77,
    )
    assert values(page) == {
        "kv_cache_usage": 0.25,
        "requests_running": 3,
        "requests_waiting": 2,
        "requests_finished_total": 0,
        "requests_rejected_total": 0,
        "preemptions_total": 1,
        "prefix_cache_queries_tokens_total": 640,
        "prefix_cache_hits_tokens_total": 128,
        "prompt_tokens_total": 1000,
        "generation_tokens_total": 77,
    }


def test_vllm_tells_the_configuration_of_its_cache_once() -> None:
    with Page(fixture("vllm")) as page:
        metrics = source(page)
        metrics.sample(True)
        described = metrics.describe()
    assert described["cache_config_info"]["block_size"] == "128"
    assert described["cache_config_info"]["num_gpu_blocks"] == "2048"
    assert described["engines"] == 1
    assert list(described["unsupported"]["http://engine"]) == ["requests_swapped"]


OLD_VLLM = """\
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:num_requests_swapped{model_name="m"} 4
# HELP vllm:gpu_prefix_cache_queries_total GPU prefix cache queries, in terms of number of queried UNIT.
vllm:gpu_prefix_cache_queries_total{model_name="m"} 10
vllm:gpu_prefix_cache_hits_total{model_name="m"} 5
"""


def test_old_names_of_vllm() -> None:
    assert values(OLD_VLLM.replace("UNIT", "tokens")) == {
        "kv_cache_usage": 0.5,
        "requests_swapped": 4,
        "prefix_cache_queries_tokens_total": 10,
        "prefix_cache_hits_tokens_total": 5,
    }


def test_a_prefix_cache_counted_in_blocks_is_told_in_tokens() -> None:
    page = OLD_VLLM.replace("UNIT", "blocks")
    told = values(page + 'vllm:cache_config_info{block_size="16"} 1\n')
    assert told["prefix_cache_queries_tokens_total"] == 160
    assert told["prefix_cache_hits_tokens_total"] == 80
    assert "prefix_cache_hits_tokens_total" not in values(page)  # blocks of unknown size


def test_an_old_and_a_new_name_of_the_same_thing_count_once() -> None:
    both = OLD_VLLM.replace("UNIT", "tokens") + (
        'vllm:kv_cache_usage_perc{model_name="m"} 0.5\nvllm:prefix_cache_hits_total{model_name="m"} 5\n'
    )
    told = values(both)
    assert told["kv_cache_usage"] == 0.5
    assert told["prefix_cache_hits_tokens_total"] == 5


def test_llama_server() -> None:
    page = with_values(
        fixture("llama-server"),
        prompt_tokens_total=300,
        prompt_tokens_cached_total=100,
        tokens_predicted_total=50,
        requests_processing=2,
        requests_deferred=1,
    )
    assert values(page, whole=True) == {
        "requests_running": 2,
        "requests_waiting": 1,
        "prompt_tokens_total": 400,
        "prefix_cache_queries_tokens_total": 400,
        "prefix_cache_hits_tokens_total": 100,
        "generation_tokens_total": 50,
    }


def test_llama_server_before_it_counted_what_its_cache_had() -> None:
    lines = [line for line in fixture("llama-server").splitlines(keepends=True) if "_cached_" not in line]
    told = values(with_values("".join(lines), prompt_tokens_total=300))
    assert told["prompt_tokens_total"] == 300
    assert "prefix_cache_queries_tokens_total" not in told


def test_the_queue_of_vllms_first_engine() -> None:
    name = "vllm:time_in_queue_requests"
    page = f'{name}_bucket{{le="1.0"}} 3\n{name}_bucket{{le="+Inf"}} 4\n{name}_sum 5.5\n{name}_count 4\n'
    assert values(page, whole=True) == {
        "queue_seconds_bucket_le_1": 3,
        "queue_seconds_bucket_le_inf": 4,
        "queue_seconds_sum": 5.5,
        "queue_seconds_count": 4,
    }


def test_tgi() -> None:
    assert values(fixture("tgi"), whole=True) == {
        "requests_running": 7,
        "requests_waiting": 4,
        "requests_finished_total": 9,
        "prompt_tokens_total": 4608,
        "generation_tokens_total": 1152,
        "queue_seconds_bucket_le_1e-05": 0,
        "queue_seconds_bucket_le_0.5": 6,
        "queue_seconds_bucket_le_inf": 9,
        "queue_seconds_sum": 3.75,
        "queue_seconds_count": 9,
        "inference_seconds_bucket_le_1.5": 8,
        "inference_seconds_bucket_le_inf": 9,
        "inference_seconds_sum": 11.5,
        "inference_seconds_count": 9,
    }


def test_histograms_come_only_with_the_whole() -> None:
    page = fixture("vllm")
    assert not [name for name in values(page) if "seconds" in name]
    whole = values(page, whole=True)
    bounds = [name.removeprefix("ttft_seconds_bucket_le_") for name in whole if name.startswith("ttft_seconds_b")]
    le = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560 inf"
    assert " ".join(bounds) == le
    kinds = {name.partition("_seconds")[0] for name in whole if "_seconds" in name}
    assert kinds == {"ttft", "queue", "prefill", "decode", "inference", "e2e"}


@pytest.mark.parametrize(
    "lines",
    [
        'vllm:time_to_first_token_seconds_bucket{le="1"} 1\nvllm:time_to_first_token_seconds_count 1',
        'vllm:time_to_first_token_seconds_bucket{le="x"} 1\nvllm:time_to_first_token_seconds_count 1\n'
        "vllm:time_to_first_token_seconds_sum 1",
    ],
)
def test_half_a_histogram_is_none(lines: str) -> None:
    assert values(f"vllm:num_requests_running 1\n{lines}\n", whole=True) == {"requests_running": 1}


def test_counts_split_by_a_label_are_added_up() -> None:
    page = (
        'vllm:request_success_total{finished_reason="stop"} 2\nvllm:request_success_total{finished_reason="length"} 3\n'
    )
    assert values(page) == {"requests_finished_total": 5}


def test_several_engines_are_added_up_and_the_fullest_cache_counts() -> None:
    text = "\n".join(
        f'vllm:{name}{{engine="{engine}",model_name="m"}} {value}'
        for name, of_engine in (
            ("kv_cache_usage_perc", (0.2, 0.7)),
            ("prompt_tokens_total", (100, 50)),
            ("num_requests_running", (1, 2)),
        )
        for engine, value in enumerate(of_engine)
    )
    with Page(text) as page:
        metrics = source(page)
        told = {metric: value for _, metric, value in metrics.sample(True)}
        metrics.sample(True)
    assert told == {"kv_cache_usage": 0.7, "prompt_tokens_total": 150, "requests_running": 3}
    assert metrics.describe()["engines"] == 2
    assert len(metrics.problems) == 1
    assert "2 engines or models" in metrics.problems[0]


def test_one_engine_is_no_problem() -> None:
    with Page(fixture("vllm")) as page:
        metrics = source(page)
        metrics.sample(True)
    assert metrics.problems == []


def test_what_is_not_a_number_is_not_there() -> None:
    assert values("vllm:num_requests_running NaN\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc +Inf\n") == {
        "requests_waiting": 1
    }


def test_lines_that_can_not_be_read_are_told_once() -> None:
    with Page("vllm:num_requests_running 1\nvllm:num_requests_waiting one\n") as page:
        metrics = source(page)
        for _ in range(2):
            assert metrics.sample(False) == [("http://engine", "requests_running", 1.0)]
    assert len(metrics.problems) == 1
    assert "'vllm:num_requests_waiting one'" in metrics.problems[0]


def test_a_counter_that_was_reset_is_given_as_it_is() -> None:
    with Page("vllm:prompt_tokens_total 100\n") as page:
        metrics = source(page)
        assert metrics.sample(False)[0][2] == 100
        page.text = "vllm:prompt_tokens_total 7\n"
        assert metrics.sample(False)[0][2] == 7


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ('{"detail":"Not Found"}', 404, "answers HTTP 404"),
        ("<!doctype html><html><body>vllm:num_requests_running</body></html>", 200, "none of the metrics"),
        ("", 200, "none of the metrics"),
        ("", 401, "HTTP 401: it wants a token"),
    ],
)
def test_a_page_without_metrics_says_why(text: str, status: int, why: str) -> None:
    with Page(text, status) as page:
        metrics = source(page)
        with pytest.raises(UnavailableError, match=re.escape(why)):
            metrics.sample(False)
    assert metrics.describe()["unsupported"] == {}  # nothing is known of it


def test_a_server_that_is_gone_says_so() -> None:
    with Page(fixture("tgi")) as page:
        metrics = source(page)
        metrics.sample(False)
        metrics.close()
    with pytest.raises(UnavailableError, match=r"/metrics gives no answer: Connection refused"):
        metrics.sample(False)


def test_polls_share_a_connection_and_open_another_when_it_was_closed() -> None:
    with Page(fixture("tgi")) as page:
        metrics = source(page)
        metrics.sample(False)
        page.hang_up = True  # after this answer, without a word
        metrics.sample(False)
        page.hang_up = False
        metrics.sample(False)
        metrics.sample(False)
        metrics.close()
    first, second, third, fourth = page.clients
    assert first == second
    assert third == fourth
    assert first != third


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Page(fixture("tgi")) as page:
        metrics = source(page, "ENGINE_KEY")
        monkeypatch.delenv("ENGINE_KEY", raising=False)
        with pytest.raises(UnavailableError, match="ENGINE_KEY is not set; export it"):
            metrics.sample(False)
        monkeypatch.setenv("ENGINE_KEY", "se cret\n")
        with pytest.raises(UnavailableError, match="ENGINE_KEY has characters") as refused:
            metrics.sample(False)
        assert "cret" not in str(refused.value)
        assert page.asked == []
        monkeypatch.setenv("ENGINE_KEY", "secret")
        metrics.sample(False)
        assert page.asked[0]["Authorization"] == "Bearer secret"
        page.status = 403
        with pytest.raises(UnavailableError, match="HTTP 403: it does not take the token in ENGINE_KEY"):
            metrics.sample(False)
        metrics.close()
