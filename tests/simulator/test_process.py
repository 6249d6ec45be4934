"""The simulator as a deployment starts it."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.simulator import SimulatorProcess
from tests.profile.profiles import parse
from tests.simulator.served import DEADLINE_S

PROFILE = """\
name: p
run: {duration_s: 1}
model: {name: llama}
deployment: {simulator: {weights_mib: 1000, memory_mib: 10000, idle_w: 25}}
tenants:
  - id: a
    arrival: {process: poisson, rate_per_s: 2}
    workload: {source: synthetic, input_tokens: 9, output_tokens: 9}
"""


def test_its_gpu_is_the_profiles_and_is_exported_as_long_as_it_runs(tmp_path: Path) -> None:
    process = SimulatorProcess(parse(PROFILE), tmp_path / "simulator.log")
    try:
        with urllib.request.urlopen(process.dcgm_url, timeout=DEADLINE_S) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            values = {family.name: family.samples[0].value for family in families}
    finally:
        process.stop()
    assert values["DCGM_FI_DEV_POWER_USAGE"] == 25
    assert (values["DCGM_FI_DEV_FB_USED"], values["DCGM_FI_DEV_FB_FREE"]) == (1000, 9000)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(process.dcgm_url, timeout=DEADLINE_S)


def test_a_tenant_meets_its_part_and_is_named_in_its_requests_unless_the_profile_does() -> None:
    text = PROFILE.replace("simulator: {", "sharing: timeslice, simulator: {kv_bytes_per_token: 16384, ")
    other = text.partition("tenants:\n")[2].replace("id: a", "id: b")
    profile = parse(text + other + "    headers: {x-gateway-inference-fairness-id: team}\n")
    process = SimulatorProcess(profile, None)
    try:
        a, b = map(process.server, profile.tenants)
    finally:
        process.stop()
    assert a.endpoint != b.endpoint
    assert [(server.part, server.sharing, server.simulated) for server in (a, b)] == [
        (0, "timeslice", True),
        (1, "timeslice", True),
    ]
    assert (a.headers, b.headers) == ((("X-Gateway-Inference-Fairness-Id", "a"),), ())
    assert a.pid == b.pid


def test_parts_that_do_not_fit_the_card_start_nothing() -> None:
    text = PROFILE.replace("simulator: {", "sharing: mps, simulator: {max_model_len: 65536, ")
    other = text.partition("tenants:\n")[2].replace("id: a", "id: b")
    with pytest.raises(ServingError, match="has no room for max_model_len"):
        SimulatorProcess(parse(text + other), None)
