"""The simulator as a deployment starts it."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

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
