"""The second port: the modelled GPU under the names and in the units of NVIDIA's DCGM exporter."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.simulator.dcgm import exposition
from fairshare_locust.simulator.device import Reading
from tests.simulator.served import DEADLINE_S, read_reply, read_until, serving

STEPS = {"step_base_ms": 20, "step_per_sequence_us": 0, "compute_per_token_us": 0}


def test_units_are_those_of_the_exporter() -> None:
    reading = Reading(
        busy_share=0.256, memory_used_mib=15400.4, memory_free_mib=9175.6, power_w=99.12345, energy_j=12.3456
    )
    assert exposition(reading, "SIM-1").splitlines()[2::3] == [
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 26',
        'DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 0.256',
        'DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 0.256',
        'DCGM_FI_DEV_FB_USED{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 15400',
        'DCGM_FI_DEV_FB_FREE{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 9176',
        'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 99.123',
        'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 12346',
    ]


def test_a_parser_takes_it_with_names_as_they_are() -> None:
    reading = Reading(busy_share=1.0, memory_used_mib=1.0, memory_free_mib=2.0, power_w=3.0, energy_j=4.0)
    families = list(text_string_to_metric_families(exposition(reading, "SIM-1")))
    samples = {family.name: sample for family in families for sample in family.samples}
    assert samples["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].value == 4000
    assert samples["DCGM_FI_DEV_GPU_UTIL"].labels == {"gpu": "0", "UUID": "SIM-1", "modelName": "Simulated GPU"}
    kinds = {family.name: family.type for family in families}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"}
    assert set(kinds.values()) == {"counter", "gauge"}


def test_energy_is_that_of_the_steps_however_often_it_is_asked_for() -> None:
    # Without idle power it is 250 W for as long as steps were modelled to run: 5 of 20 ms are 25 J.
    with serving({**STEPS, "idle_w": 0, "busy_w": 250}) as served:
        assert served.gpu()["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 0
        body = {"prompt": [1], "max_tokens": 5, "ignore_eos": True, "stream": True}
        energies_mj = []
        with served.send("/v1/completions", body, Connection="close") as connection:
            began = read_until(connection, b"data: ")
            while (energy_mj := served.gpu()["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"]) < 25000:
                energies_mj.append(energy_mj)
            assert read_reply(connection, began).complete
        assert energies_mj == sorted(energies_mj)
        assert served.gpu()["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 25000
        assert served.post("/v1/completions", {**body, "max_tokens": 2}).complete
        assert served.gpu()["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 35000


def test_use_power_and_memory_rise_with_the_load_and_fall_again() -> None:
    # One step that does not end: the prompt's 4,096 tokens of 128 KiB are 512 MiB beside the weights.
    with serving({**STEPS, "step_base_ms": 1e6}) as served:
        idle = served.gpu()
        assert idle == {
            **idle,
            "DCGM_FI_DEV_GPU_UTIL": 0,
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0,
            "DCGM_FI_DEV_FB_USED": 15316,
            "DCGM_FI_DEV_FB_FREE": 24576 - 15316,
            "DCGM_FI_DEV_POWER_USAGE": 30,
        }
        body = {"prompt": [1] * 4096, "max_tokens": 1, "stream": True}
        with served.send("/v1/completions", body):
            # 2,048 tokens a step, and this step is the first.
            busy = served.wait_for("DCGM_FI_PROF_SM_ACTIVE", 1)
            assert busy["DCGM_FI_DEV_GPU_UTIL"] == 100
            assert busy["DCGM_FI_DEV_POWER_USAGE"] == 300
            assert busy["DCGM_FI_DEV_FB_USED"] == 15316 + 256
            assert busy["DCGM_FI_DEV_FB_FREE"] == 24576 - 15316 - 256
        served.wait_for("DCGM_FI_DEV_FB_USED", 15316)  # its client has gone


def test_each_simulator_is_a_device_of_its_own() -> None:
    def device(url: str) -> str:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            text = answer.read().decode()
        (uuid,) = {s.labels["UUID"] for family in text_string_to_metric_families(text) for s in family.samples}
        return str(uuid)

    with serving({}) as one, serving({}) as other:
        uuid = device(one.announcement["dcgm"])
        assert uuid.startswith("SIM-")
        assert device(one.announcement["dcgm"]) == uuid
        assert device(other.announcement["dcgm"]) != uuid


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_the_second_port_has_nothing_else(path: str) -> None:
    with serving({}) as served, pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(served.announcement["dcgm"].removesuffix("/metrics") + path, timeout=DEADLINE_S)
