"""Experiments for tests: two tenants on the simulator, over within a moment."""

from __future__ import annotations

from pathlib import Path

from fairshare_locust.matrix.experiment import Experiment, parse_experiment

BASE = """
name: base
seed: 5
run: {warmup_s: 0.5, duration_s: 2, drain_s: 5, fairness_window_s: 1}
model: {name: simulated}
deployment: {engine: simulator, simulator: {step_base_ms: 5, memory_mib: 24576, weights_mib: 1000}}
telemetry: {nvml: never, server_metrics: never}
tenants:
  - id: loop
    arrival: {process: closed, concurrency: 2}
    workload: {source: synthetic, input_tokens: 20, output_tokens: 8}
  - id: open
    arrival: {process: poisson, rate_per_s: 4, max_in_flight: 8}
    workload: {source: synthetic, input_tokens: 20, output_tokens: 8}
"""


def experiment_text(rest: str, base: str = BASE) -> str:
    """The YAML of an experiment with this base inline."""
    return f"name: trial\nbase:\n{_indented(base)}\n{rest}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())


def experiment(rest: str = "", base: str = BASE) -> Experiment:
    """The experiment of that text."""
    return parse_experiment(experiment_text(rest, base), source="trial.yaml", folder=Path("."))
