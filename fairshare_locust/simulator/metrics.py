"""The simulator's /metrics: vLLM's names, types and buckets, and some of its own.

Counts are plain numbers while the server runs and become Prometheus families only when scraped: one
observation stands for all tokens of a step, which is what lets one core serve many streams.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fairshare_locust.simulator.engine import Engine

__all__ = ["FinishedReason", "Histogram", "SimulatorMetrics"]

FinishedReason = Literal["stop", "length", "abort", "error"]

_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_INTER_TOKEN_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
_REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_STEP_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Histogram:
    """Counts per bucket; `bounds` are the inclusive upper ends, ascending, without +Inf."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` that many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as (`le`, count), +Inf last."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, itertools.accumulate(self.counts), strict=True))


class SimulatorMetrics(Collector):
    """What the server counts, and the engine's state at the moment of a scrape.

    Attributes:
        step_lateness_s: from the modelled end of a step until the process began to write its tokens.
        step_write_s: from there until the last of them was handed to the kernel.
        requests_received: generation requests that arrived, whatever became of them.
    """

    def __init__(self, engine: Engine, model_name: str) -> None:
        self._engine = engine
        self._labels = {"model_name": model_name, "engine": "0"}
        self.requests_received = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: dict[FinishedReason, int] = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        config = engine.config
        self.time_to_first_token_s = Histogram(_TTFT_S)
        self.inter_token_latency_s = Histogram(_INTER_TOKEN_S)
        self.e2e_request_latency_s = Histogram(_REQUEST_S)
        self.request_queue_time_s = Histogram(_REQUEST_S)
        self.request_prompt_tokens = Histogram(_one_two_five(config.max_model_len))
        self.request_generation_tokens = Histogram(_one_two_five(config.max_model_len))
        self.step_lateness_s = Histogram(_STEP_S)
        self.step_write_s = Histogram(_STEP_S)

    def registry(self) -> CollectorRegistry:
        """A registry with these metrics and those of the process."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterator[Metric]:
        """Yield every family, as vLLM orders them."""
        engine, config = self._engine, self._engine.config
        yield self._gauge("vllm:num_requests_running", "Number of requests in model execution batches.", engine.running)
        yield self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", engine.waiting)
        yield self._gauge(
            "vllm:kv_cache_usage_perc",
            "KV-cache usage. 1 means 100 percent usage.",
            engine.kv_used_tokens / config.kv_capacity_tokens,
        )
        # The model has no prefix cache: these exist, and stay 0.
        yield self._counter("vllm:prefix_cache_queries", "Prefix cache queries, in terms of tokens.", 0)
        yield self._counter("vllm:prefix_cache_hits", "Prefix cache hits, in terms of tokens.", 0)
        yield self._counter(
            "vllm:num_preemptions", "Cumulative number of preemption from the engine.", engine.preemptions
        )
        yield self._counter("vllm:prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens)
        yield self._counter("vllm:generation_tokens", "Number of generation tokens processed.", self.generation_tokens)
        success = CounterMetricFamily(
            "vllm:request_success",
            "Count of successfully processed requests.",
            labels=[*self._labels, "finished_reason"],
        )
        for reason, count in self.finished.items():
            success.add_metric([*self._labels.values(), reason], count)
        yield success
        yield self._histogram(
            "vllm:request_prompt_tokens", "Number of prefill tokens processed.", self.request_prompt_tokens
        )
        yield self._histogram(
            "vllm:request_generation_tokens",
            "Number of generation tokens processed.",
            self.request_generation_tokens,
        )
        yield self._histogram(
            "vllm:time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            self.time_to_first_token_s,
        )
        yield self._histogram(
            "vllm:inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            self.inter_token_latency_s,
        )
        yield self._histogram(
            "vllm:e2e_request_latency_seconds",
            "Histogram of e2e request latency in seconds.",
            self.e2e_request_latency_s,
        )
        yield self._histogram(
            "vllm:request_queue_time_seconds",
            "Histogram of time spent in WAITING phase for request.",
            self.request_queue_time_s,
        )
        yield self._cache_config_info()
        yield self._counter(
            "fairshare_simulator_requests_received",
            "Generation requests that arrived, whatever became of them.",
            self.requests_received,
        )
        yield self._histogram(
            "fairshare_simulator_step_lateness_seconds",
            "From the modelled end of a step until the process began to write its tokens.",
            self.step_lateness_s,
        )
        yield self._histogram(
            "fairshare_simulator_step_write_seconds",
            "From the first write of a step's tokens until the last was handed to the kernel.",
            self.step_write_s,
        )

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), histogram.buckets(), histogram.sum)
        return family

    def _cache_config_info(self) -> Metric:
        """KV cache in blocks of one token, so that blocks × block size is the capacity."""
        tokens = str(self._engine.config.kv_capacity_tokens)
        labels = {
            "block_size": "1",
            "enable_prefix_caching": "False",
            "engine": "0",
            "kv_cache_size_tokens": tokens,
            "num_gpu_blocks": tokens,
        }
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=list(labels)
        )
        family.add_metric(list(labels.values()), 1.0)
        return family


def _one_two_five(largest: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, … up to `largest`, as vLLM's token histograms have them."""
    series = (mantissa * 10.0**exponent for exponent in itertools.count() for mantissa in (1, 2, 5))
    return tuple(itertools.takewhile(lambda bound: bound <= largest, series))
