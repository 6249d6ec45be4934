"""Whole runs of tenants that share the modelled GPU, each in a part of its own or all in one."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.run.conftest import UNSAMPLED, FinishedRun, run_once

PROFILE = """
name: sharing
seed: 5
run: {{warmup_s: 0, duration_s: 1, drain_s: 5}}
model: {{name: simulated}}
deployment:
  sharing: {sharing}
  simulator: {{step_base_ms: 2, compute_per_token_us: 5, memory_mib: 12000, weights_mib: 1000, {more}}}
tenants:
  - id: chat
    arrival: {{process: constant, rate_per_s: 10}}
    workload: {{source: synthetic, input_tokens: 40, output_tokens: 5}}
  - id: batch
    api: openai_completions
    arrival: {{process: closed, concurrency: 2, think_s: 0.05}}
    workload: {{source: synthetic, input_tokens: 20, output_tokens: 8}}
"""


def _run(folder: Path, sharing: str, more: str = "") -> FinishedRun:
    return run_once(folder, PROFILE.format(sharing=sharing, more=more) + UNSAMPLED, "--fairshare-no-report")


def _counts(run: FinishedRun, file: str, name: str, label: str) -> dict[str, float]:
    """Samples of a counter in the file that the simulator left, by one of their labels."""
    families = text_string_to_metric_families((run.path / "logs" / file).read_text())
    return {s.labels[label]: s.value for family in families for s in family.samples if s.name == name}


@pytest.mark.parametrize("sharing", ["mps", "mig_emulated"])
def test_each_tenant_is_served_by_its_part(tmp_path: Path, sharing: str) -> None:
    run = _run(tmp_path, sharing)
    assert run.code == 0, run.output
    assert run.run["state"] == "complete"
    servers = run.run["servers"]
    assert [(server["sharing"], server["part"], server["simulated"]) for server in servers] == [
        (sharing, 0, True),
        (sharing, 1, True),
    ]
    endpoints = [server["endpoint"] for server in servers]
    assert endpoints[0] != endpoints[1]
    assert {record.outcome for record in run.records} == {"ok"}
    assert {(record.tenant, record.endpoint) for record in run.records} == {
        ("chat", endpoints[0]),
        ("batch", endpoints[1]),
    }
    for part, tenant in enumerate(("chat", "batch")):
        counts = _counts(run, f"simulator.{part}.metrics.txt", "vllm:generation_tokens_total", "engine")
        assert counts == {str(part): sum(r.output_tokens or 0 for r in run.records if r.tenant == tenant)}


def test_one_engine_knows_whose_a_request_is_and_faults_come_as_the_profile_says(tmp_path: Path) -> None:
    run = _run(tmp_path, "logical", "scheduling_policy: vtc, faults: ['error:rate=0.3:seed=3']")
    assert run.code == 1, run.output  # as Locust ends when requests failed
    [server] = run.run["servers"]  # both tenants meet it alike
    assert (server["sharing"], server["part"]) == ("logical", None)
    assert {record.outcome for record in run.records} == {"ok", "stream_error"}
    services = _counts(run, "simulator.metrics.txt", "fairshare_simulator_service_total", "tenant")
    assert set(services) == {"chat", "batch"}
    struck = _counts(run, "simulator.metrics.txt", "fairshare_simulator_faults_injected_total", "kind")["error"]
    assert struck == sum(record.outcome != "ok" for record in run.records) > 0
