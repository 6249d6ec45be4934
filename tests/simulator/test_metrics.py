"""The exposition: vLLM's names and types, and sums that a scraper can trust."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.engine import Engine, Sequence
from fairshare_locust.simulator.metrics import SimulatorMetrics

WIRE = Path(__file__).parent / "wire"


def test_names_and_types_are_those_of_vllm() -> None:
    lines = (WIRE / "vllm.metric_types.txt").read_text().splitlines()
    real = {name.removesuffix("_total"): kind for name, kind in map(str.split, lines)}
    families = text_string_to_metric_families(SimulatorMetrics(Engine(SimulatorOptions()), "m").exposition())
    ours = {family.name: family.type for family in families if family.name.startswith("vllm:")}
    assert ours == {name: real[name] for name in ours}
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions",
        "vllm:prompt_tokens",
        "vllm:generation_tokens",
        "vllm:request_success",
        "vllm:prefix_cache_queries",
        "vllm:prefix_cache_hits",
        "vllm:time_to_first_token_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:cache_config_info",
    } <= set(ours)


def test_gauges_show_the_engine_at_the_moment_of_the_scrape() -> None:
    engine = Engine(SimulatorOptions(max_num_seqs=1, kv_capacity_tokens=10000))
    metrics = SimulatorMetrics(engine, "m")
    engine.submit(Sequence(1990, 1500))  # 125 blocks of 16, of 625
    engine.submit(Sequence(10, 10))
    engine.begin_step()
    text = metrics.exposition()
    assert 'vllm:num_requests_running{model_name="m",engine="0"} 1\n' in text
    assert 'vllm:num_requests_waiting{model_name="m",engine="0"} 1\n' in text
    assert 'vllm:kv_cache_usage_perc{model_name="m",engine="0"} 0.2\n' in text


def test_the_prefix_cache_is_counted_in_tokens_and_described_in_blocks() -> None:
    engine = Engine(SimulatorOptions(kv_capacity_tokens=10001))
    metrics = SimulatorMetrics(engine, "m")
    for _ in range(2):
        engine.submit(Sequence(40, 10, blocks=("a", "b")))
    engine.begin_step()
    text = metrics.exposition()
    assert 'vllm:prefix_cache_queries_total{model_name="m",engine="0"} 80\n' in text
    assert 'vllm:prefix_cache_hits_total{model_name="m",engine="0"} 32\n' in text
    (described,) = [line for line in text.splitlines() if line.startswith("vllm:cache_config_info{")]
    for label in ('block_size="16"', 'num_gpu_blocks="625"', 'enable_prefix_caching="True"'):
        assert label in described


def test_token_buckets_end_at_the_longest_request_as_those_of_vllm() -> None:
    # vLLM, for a model of 2,048 tokens: 1, 2, 5, 10, … 1000, 2000.
    metrics = SimulatorMetrics(Engine(SimulatorOptions(max_model_len=2048)), "m")
    bounds = metrics.request_prompt_tokens.bounds
    assert bounds == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def test_text_form_can_be_parsed_back() -> None:
    metrics = SimulatorMetrics(Engine(SimulatorOptions()), 'a "model"')
    metrics.finished["abort"] = 3
    metrics.inter_token_latency_s.observe(0.02, 5)
    families = text_string_to_metric_families(metrics.exposition())
    samples = {
        (s.name, s.labels.get("finished_reason") or s.labels.get("le")): s.value
        for family in families
        for s in family.samples
        if s.labels.get("model_name") == 'a "model"'
    }
    assert samples["vllm:request_success_total", "abort"] == 3
    assert samples["vllm:inter_token_latency_seconds_bucket", "0.01"] == 0
    assert samples["vllm:inter_token_latency_seconds_bucket", "0.025"] == 5
    assert samples["vllm:inter_token_latency_seconds_count", None] == 5
    assert samples["vllm:inter_token_latency_seconds_sum", None] == 0.1
