"""The simulator's /metrics: vLLM's names, types and buckets, and some of its own.

Counts are plain numbers while the server runs and become text only when scraped: one observation stands for all
tokens of a step, which is what lets one core serve many streams.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from fairshare_locust.simulator.blocks import BLOCK_TOKENS
from fairshare_locust.simulator.engine import Engine, FinishReason, Sequence
from fairshare_locust.simulator.exposition import Histogram, label_set, metric
from fairshare_locust.simulator.faults import STRIKING, FaultKind
from fairshare_locust.simulator.lateness import Lateness
from fairshare_locust.simulator.timing import Timing

__all__ = ["FinishedReason", "SimulatorMetrics"]

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


class SimulatorMetrics:
    """What the server counts, and the engine's state at the moment of a scrape.

    Attributes:
        time_to_first_token_s: from a request's arrival, its body read, until its first token began to be written.
        e2e_request_latency_s: from there until its last token did.
        step_lateness_s: from the modelled end of a step until the process began to write its tokens.
        step_write_s: from there until the last of them was handed to the kernel.
        requests_received: generation requests that arrived, whatever became of them.
        faults: requests that a fault was to strike, by kind.
        lateness: of the whole process in the last second; None: nobody keeps it.
    """

    def __init__(self, engine: Engine, model_name: str, index: int = 0) -> None:
        """`index` is the engine's, among those of the process."""
        self._engine = engine
        self._index = index
        self._labels = label_set(model_name=model_name, engine=str(index))
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        self.requests_received = 0
        self.faults: Counter[FaultKind] = Counter()
        self.lateness: Lateness | None = None
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: dict[FinishedReason, int] = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        config = engine.config
        self.time_to_first_token_s = Histogram(_TTFT_S)
        self.inter_token_latency_s = Histogram(_INTER_TOKEN_S)
        self.e2e_request_latency_s = Histogram(_REQUEST_S)
        self.request_queue_time_s = Histogram(_REQUEST_S)
        self.request_inference_time_s = Histogram(_REQUEST_S)
        self.request_prefill_time_s = Histogram(_REQUEST_S)
        self.request_decode_time_s = Histogram(_REQUEST_S)
        self.request_prompt_tokens = Histogram(_one_two_five(config.max_model_len))
        self.request_generation_tokens = Histogram(_one_two_five(config.max_model_len))
        self.step_lateness_s = Histogram(_STEP_S)
        self.step_write_s = Histogram(_STEP_S)

    def count_finished(self, sequence: Sequence, reason: FinishReason, timing: Timing) -> None:
        """Count a sequence that has come to its end, its times too: like vLLM, not before."""
        self.finished[reason] += 1
        self.request_prompt_tokens.observe(sequence.prompt_tokens)
        self.request_generation_tokens.observe(sequence.generated_tokens)
        self.request_queue_time_s.observe(timing.queue_s)
        self.request_inference_time_s.observe(timing.inference_s)
        self.request_prefill_time_s.observe(timing.prefill_s)
        self.request_decode_time_s.observe(timing.decode_s)

    def exposition(self) -> str:
        """Every metric in Prometheus text, as vLLM orders them."""
        engine, labels = self._engine, self._labels
        kv_usage = engine.kv_used_tokens / engine.kv_capacity_tokens
        successes = [(f'{labels},finished_reason="{reason}"', count) for reason, count in self.finished.items()]
        return "".join(
            [
                self._gauge(
                    "vllm:num_requests_running", "Number of requests in model execution batches.", engine.running
                ),
                self._gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", engine.waiting),
                self._gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kv_usage),
                self._counter(
                    "vllm:prefix_cache_queries_total",
                    "Prefix cache queries, in terms of number of queried tokens.",
                    engine.prefix_queries_tokens,
                ),
                self._counter(
                    "vllm:prefix_cache_hits_total",
                    "Prefix cache hits, in terms of number of cached tokens.",
                    engine.prefix_hits_tokens,
                ),
                self._counter(
                    "vllm:num_preemptions_total",
                    "Cumulative number of preemption from the engine.",
                    engine.preemptions,
                ),
                self._counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", self.prompt_tokens),
                self._counter(
                    "vllm:generation_tokens_total", "Number of generation tokens processed.", self.generation_tokens
                ),
                metric("counter", "vllm:request_success_total", "Count of successfully processed requests.", successes),
                self.request_prompt_tokens.exposition(
                    "vllm:request_prompt_tokens", "Number of prefill tokens processed.", labels
                ),
                self.request_generation_tokens.exposition(
                    "vllm:request_generation_tokens", "Number of generation tokens processed.", labels
                ),
                self.time_to_first_token_s.exposition(
                    "vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", labels
                ),
                self.inter_token_latency_s.exposition(
                    "vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", labels
                ),
                self.e2e_request_latency_s.exposition(
                    "vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", labels
                ),
                self.request_queue_time_s.exposition(
                    "vllm:request_queue_time_seconds",
                    "Histogram of time spent in WAITING phase for request.",
                    labels,
                ),
                self.request_inference_time_s.exposition(
                    "vllm:request_inference_time_seconds",
                    "Histogram of time spent in RUNNING phase for request.",
                    labels,
                ),
                self.request_prefill_time_s.exposition(
                    "vllm:request_prefill_time_seconds",
                    "Histogram of time spent in PREFILL phase for request.",
                    labels,
                ),
                self.request_decode_time_s.exposition(
                    "vllm:request_decode_time_seconds",
                    "Histogram of time spent in DECODE phase for request.",
                    labels,
                ),
                self._cache_config_info(),
                self._counter(
                    "fairshare_simulator_requests_received_total",
                    "Generation requests that arrived, whatever became of them.",
                    self.requests_received,
                ),
                metric(
                    "counter",
                    "fairshare_simulator_service_total",
                    "Tokens served, of a prompt 1 each, of an answer 2 each, by the tenant that a request names.",
                    [(f"{labels},{label_set(tenant=name)}", served) for name, served in engine.services.items()],
                ),
                metric(
                    "counter",
                    "fairshare_simulator_faults_injected_total",
                    "Requests that a fault was to strike.",
                    [(f'{labels},kind="{kind}"', self.faults[kind]) for kind in STRIKING],
                ),
                self.step_lateness_s.exposition(
                    "fairshare_simulator_step_lateness_seconds",
                    "From the modelled end of a step until the process began to write its tokens.",
                    labels,
                ),
                self._gauge(
                    "fairshare_simulator_step_lateness_p99_seconds",
                    "99th percentile over the last second, all engines; above 0.002 the process can't keep up.",
                    0.0 if self.lateness is None else self.lateness.p99_s(),
                ),
                self.step_write_s.exposition(
                    "fairshare_simulator_step_write_seconds",
                    "From the first write of a step's tokens until the last was handed to the kernel.",
                    labels,
                ),
                generate_latest(self._process).decode(),
            ]
        )

    def _gauge(self, name: str, text: str, value: float) -> str:
        return metric("gauge", name, text, [(self._labels, value)])

    def _counter(self, name: str, text: str, value: float) -> str:
        return metric("counter", name, text, [(self._labels, value)])

    def _cache_config_info(self) -> str:
        """The KV cache: blocks × block size is its capacity."""
        tokens = self._engine.kv_capacity_tokens
        labels = label_set(
            block_size=str(BLOCK_TOKENS),
            enable_prefix_caching=str(self._engine.config.prefix_caching),
            engine=str(self._index),
            kv_cache_size_tokens=str(tokens),
            num_gpu_blocks=str(tokens // BLOCK_TOKENS),
        )
        return metric("gauge", "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", [(labels, 1)])


def _one_two_five(largest: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, … up to `largest`, as vLLM's token histograms have them."""
    series = (mantissa * 10.0**exponent for exponent in itertools.count() for mantissa in (1, 2, 5))
    return tuple(itertools.takewhile(lambda bound: bound <= largest, series))
