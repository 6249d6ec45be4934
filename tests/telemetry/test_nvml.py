"""The real pynvml on a stub of the driver's library: every metric, and every way in which a driver can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fairshare_locust.telemetry.nvml import FUNCTIONS, METRICS, THROTTLE_REASONS
from tests.telemetry.stub import ONE_GPU, Stub
from tests.telemetry.stub.sampling import Sampling

GPU = "GPU-stub-0"

MIG = """\
mig 1
nvmlDeviceGetUtilizationRates 3
nvmlDeviceGetProcessUtilization 3
nvmlGpmSampleGet 3
mig.0 1:0
mig.3 5:0
mig.4 5:1
gpu0.gi1.memory_used 1000
gpu0.gi1.memory_total 4000
gpu0.gi5.memory_used 2000
gpu0.gi5.memory_total 8000
gpu0.gi1.multiprocessors 16
gpu0.gi5.multiprocessors 60
gpu0.gi1.name Stub-H100-MIG-1g.10gb
gpu0.gi1.processes 4001:700
gpu0.gi5.processes 4002:1500
gpu0.gi1.gpm.2 80
gpu0.gi5.gpm.2 20
"""


def of(rows: dict[tuple[str, str], float], device: str = GPU) -> dict[str, float]:
    return {metric: value for (name, metric), value in rows.items() if name == device}


def test_every_metric_in_its_unit(stub: Stub) -> None:
    with Sampling(stub) as sampling:
        first, second = sampling.sample(0), sampling.sample(0.5)
    assert of(first) == {
        "gpu_utilization_ratio": 0.83,
        "memory_copy_utilization_ratio": 0.41,
        "memory_used_bytes": 20 * 2**30,
        "memory_total_bytes": 80 * 2**30,
        "power_w": 312.5,
        "energy_j_total": 7000,
        "temperature_c": 64,
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "throttle_sw_power_cap": 1,
        **dict.fromkeys(THROTTLE_REASONS.keys() - {"throttle_sw_power_cap"}, 0),
        "pcie_tx_bytes_per_s": 2 * 2**20,
        "pcie_rx_bytes_per_s": 2**19,
    }
    assert second[GPU, "energy_j_total"] == 7156.25
    gpm = {"sm_active_ratio": 0.625, "sm_occupancy_ratio": 0.25, "tensor_active_ratio": 0.125, "dram_active_ratio": 0.4}
    assert {metric: second[GPU, metric] for metric in gpm} == gpm
    assert of(first, f"{GPU}/pid4001") == {"process_memory_bytes": 2**30, "process_sm_ratio": 0.4}  # (30 + 50) / 2 %
    assert of(first, f"{GPU}/pid4002") == {"process_memory_bytes": 2**31, "process_sm_ratio": 0.1}
    assert {metric for _, metric in [*first, *second]} == set(METRICS)
    assert sampling.state["unsupported"] == sampling.state["lost"] == sampling.state["gaps"] == {}
    assert sampling.state["problems"] == []


def test_what_is_known_of_a_gpu(stub: Stub) -> None:
    with Sampling(stub) as sampling:
        assert sampling.state["devices"] == [
            {
                "uuid": GPU,
                "name": "Stub-H100",
                "driver": "580.95.05",
                "memory_total_bytes": 80 * 2**30,
                "mig": False,
                "slices": [],
            }
        ]


def test_slow_metrics_come_at_their_own_pace(stub: Stub) -> None:
    at_s = (0, 0.5, 4.9, 5, 9, 10, 14.9, 15, 20)
    with Sampling(stub) as sampling:
        seen = [(now_s, metric) for now_s in at_s for metric in {metric for _, metric in sampling.sample(now_s)}]
    times_s = {name: [now_s for now_s, metric in seen if metric == name] for name in METRICS}
    assert times_s["power_w"] == list(at_s)
    assert times_s["process_memory_bytes"] == [0, 5, 10, 15, 20]
    assert times_s["pcie_tx_bytes_per_s"] == times_s["pcie_rx_bytes_per_s"] == [0, 10, 20]


def test_slow_metrics_are_due_again_when_the_load_begins_and_when_it_ends(stub: Stub) -> None:
    stub.script(ONE_GPU, "process_sm 4001:40:5")
    with Sampling(stub) as sampling:
        sampling.sample(0)
        sampling.begin(1)
        first, second, last = sampling.sample(1), sampling.sample(2), sampling.sample(2.1, last=True)
    instant = {"pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s", "process_memory_bytes"}
    slow = {*instant, "process_sm_ratio"}
    assert {metric for _, metric in first} & slow == instant
    assert {metric for _, metric in second} & slow == set()
    assert {metric for _, metric in last} & slow == slow
    assert (GPU, "sm_active_ratio") in second
    assert (GPU, "sm_active_ratio") not in last  # 0.1 s is no window for it


def test_what_a_process_used_before_the_load_does_not_count(stub: Stub) -> None:
    stub.script(ONE_GPU, "process_sm 4001:90:60 4001:40:120")
    with Sampling(stub) as sampling:
        sampling.begin(0, unix_later_s=90)
        assert sampling.sample(5)[f"{GPU}/pid4001", "process_sm_ratio"] == 0.4


def test_a_time_in_garbage_is_garbage_too(stub: Stub) -> None:
    stub.script(ONE_GPU, "process_sm 4001:40:5 0:0:1000000 4002:4294967295:1000000")
    with Sampling(stub) as sampling:
        sampling.sample(0)
        stub.script(ONE_GPU, "process_sm 4001:70:60")
        assert sampling.sample(5)[f"{GPU}/pid4001", "process_sm_ratio"] == 0.7


def test_gpm_does_not_measure_over_less_than_its_window(stub: Stub) -> None:
    with Sampling(stub) as sampling:
        at_s = [tick / 10 for tick in range(6)]
        measured = [tick for tick in at_s if (GPU, "sm_active_ratio") in sampling.sample(tick)]
    assert measured == [0.2, 0.4]


def test_what_is_not_supported_is_asked_for_once_and_has_no_rows(stub: Stub) -> None:
    stub.script(
        ONE_GPU,
        "nvmlDeviceGetUtilizationRates 3",  # not supported
        "nvmlDeviceGetTotalEnergyConsumption 13",  # no such function
        "nvmlDeviceGetPcieThroughput 4",  # no permission
    )
    with Sampling(stub) as sampling:
        first = sampling.sample(0)
        stub.script(ONE_GPU)  # even if it came back
        second = sampling.sample(20)
        state = sampling.state
    refused = {
        "gpu_utilization_ratio": "not supported on this device",
        "memory_copy_utilization_ratio": "not supported on this device",
        "energy_j_total": "this driver has no call for it",
        "pcie_tx_bytes_per_s": "no permission to read it",
        "pcie_rx_bytes_per_s": "no permission to read it",
    }
    assert state["unsupported"] == {GPU: refused}
    assert not refused.keys() & {metric for _, metric in [*first, *second]}
    assert second[GPU, "power_w"] == 312.5
    assert state["problems"] == []
    assert state["gaps"] == {}


def test_a_reason_that_a_gpu_never_gives_is_unsupported(stub: Stub) -> None:
    stub.script(ONE_GPU, "reasons_supported 13", "reasons 8")  # 13 = 0x1 + 0x4 + 0x8
    with Sampling(stub) as sampling:
        rows = of(sampling.sample(0))
        assert {m: v for m, v in rows.items() if m.startswith("throttle_")} == {
            "throttle_sw_power_cap": 0,
            "throttle_hw_slowdown": 1,
        }
        never = sampling.state["unsupported"][GPU]
    assert never.keys() == THROTTLE_REASONS.keys() - {"throttle_sw_power_cap", "throttle_hw_slowdown"}


@pytest.mark.parametrize("metric", THROTTLE_REASONS)
def test_each_throttle_reason(stub: Stub, metric: str) -> None:
    stub.script(ONE_GPU, f"reasons {THROTTLE_REASONS[metric][0]}")
    with Sampling(stub) as sampling:
        rows = of(sampling.sample(0))
    assert [name for name in THROTTLE_REASONS if rows[name]] == [metric]


def test_an_older_driver_is_asked_in_its_own_words(stub: Stub) -> None:
    newer = (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetSupportedClocksEventReasons",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    )
    stub.script(ONE_GPU, *(f"{function} 13" for function in newer), "reasons_supported 4")
    with Sampling(stub) as sampling:
        rows = of(sampling.sample(0))
        assert sampling.state["unsupported"][GPU].keys() == THROTTLE_REASONS.keys() - {"throttle_sw_power_cap"}
    assert rows["memory_used_bytes"] == 20 * 2**30 + 2**29  # it counts what the driver reserves
    assert rows["temperature_c"] == 64
    assert rows["throttle_sw_power_cap"] == 1


@pytest.mark.parametrize(("code", "words"), [(10, "Timeout"), (999, "Unknown Error")])
def test_a_passing_fault_leaves_a_gap_and_is_told_once(stub: Stub, code: int, words: str) -> None:
    stub.script(ONE_GPU, f"nvmlDeviceGetPowerUsage 0 {code} {code} 0", f"nvmlDeviceGetTemperatureV 0 {code} 0")
    with Sampling(stub) as sampling:
        power = [(GPU, "power_w") in sampling.sample(at_s) for at_s in range(4)]
        state = sampling.state
    assert power == [True, False, False, True]
    assert state["gaps"] == {GPU: {"power_w": 2, "temperature_c": 1}}
    assert state["problems"] == [f"{GPU}: {words}, at first of power_w; such readings leave gaps"]
    assert state["unsupported"] == state["lost"] == {}


@pytest.mark.parametrize(
    ("code", "words"), [(15, "the GPU is lost"), (16, "needs a reset"), (1, "unloaded or reloaded"), (18, "replaced")]
)
def test_a_lost_gpu_is_told_once_and_the_others_go_on(stub: Stub, code: int, words: str) -> None:
    both = (ONE_GPU, "devices 2")
    stub.script(*both)
    with Sampling(stub) as sampling:
        assert {device.partition("/")[0] for device, _ in sampling.sample(0)} == {GPU, "GPU-stub-1"}
        stub.script(*both, f"gpu0.nvmlDeviceGetPowerUsage {code}", f"gpu0.every 0 0 {code}")
        partly = sampling.sample(1)
        later = [sampling.sample(at_s) for at_s in (2, 30)]
        state = sampling.state
    assert (GPU, "power_w") not in partly
    assert (GPU, "gpu_utilization_ratio") in partly  # what was read before it was lost
    assert {device.partition("/")[0] for rows in later for device, _ in rows} == {"GPU-stub-1"}
    assert words in state["lost"].pop(GPU)
    assert state["lost"] == state["unsupported"] == state["gaps"] == {}
    [problem] = state["problems"]
    assert problem.startswith(f"{GPU}: ")
    assert problem.endswith("; it is sampled no more")


def test_a_gpu_that_is_lost_at_the_start_is_told_and_left_out(stub: Stub) -> None:
    stub.script(ONE_GPU, "devices 2", "gpu0.nvmlDeviceGetHandleByIndex_v2 15")
    with Sampling(stub) as sampling:
        assert [gpu["uuid"] for gpu in sampling.state["devices"]] == ["GPU-stub-1"]
        assert sampling.state["problems"] == ["GPU 0: GPU is lost; it is not sampled"]
        assert {device.partition("/")[0] for device, _ in sampling.sample(0)} == {"GPU-stub-1"}


def test_closing_after_the_loss_and_twice_is_quiet(stub: Stub) -> None:
    with Sampling(stub) as sampling:
        sampling.sample(0)
        stub.script(ONE_GPU, "every 15", "nvmlShutdown 15")
        sampling.sample(1)
        sampling.close()
        sampling.close()
        assert sampling.sample(2) == {}
    assert stub.left_at_shutdown == [0]


def test_slices_are_devices_and_the_whole_gpu_has_what_they_lack(stub: Stub) -> None:
    stub.script(ONE_GPU, MIG)
    with Sampling(stub) as sampling:
        first, second = sampling.sample(0), sampling.sample(1)
        state = sampling.state
    [gpu] = state["devices"]
    assert gpu["mig"]
    assert gpu["slices"] == [
        {
            "device": f"{GPU}/gi1",
            "name": "Stub-H100-MIG-1g.10gb",
            "uuids": ["MIG-stub-0-1-0"],
            "memory_total_bytes": 4000,
            "multiprocessors": 16,
        },
        {
            "device": f"{GPU}/gi5",
            "name": "Stub-H100",
            "uuids": ["MIG-stub-0-5-0", "MIG-stub-0-5-1"],  # two compute instances share its memory
            "memory_total_bytes": 8000,
            "multiprocessors": 60,
        },
    ]
    assert of(first, f"{GPU}/gi1") == {"memory_used_bytes": 1000, "memory_total_bytes": 4000}
    assert of(first, f"{GPU}/gi5") == {"memory_used_bytes": 2000, "memory_total_bytes": 8000}
    assert second[f"{GPU}/gi1", "sm_active_ratio"] == 0.8
    assert second[f"{GPU}/gi5", "sm_active_ratio"] == 0.2
    assert of(first, f"{GPU}/pid4001") == {"process_memory_bytes": 700}
    assert of(first, f"{GPU}/pid4002") == {"process_memory_bytes": 1500}
    whole = of(second)
    assert whole["power_w"] == 312.5
    assert whole["energy_j_total"] == 7156.25
    unsupported = state["unsupported"]
    assert "gpu_utilization_ratio" not in whole
    assert unsupported[GPU]["gpu_utilization_ratio"] == "not supported on this device"
    assert unsupported[GPU]["sm_active_ratio"] == "not supported on this device"
    for one in ("gi1", "gi5"):
        assert unsupported[f"{GPU}/{one}"]["power_w"] == "the driver has it for the whole GPU only"
        assert not unsupported[f"{GPU}/{one}"].keys() & of(second, f"{GPU}/{one}").keys()


def test_a_gpu_with_mig_and_no_slice_has_no_processes(stub: Stub) -> None:
    stub.script(ONE_GPU, "mig 1")
    with Sampling(stub) as sampling:
        assert sampling.state["devices"][0]["mig"]
        assert sampling.state["devices"][0]["slices"] == []
        assert "process_memory_bytes" not in {metric for _, metric in sampling.sample(0)}


def test_a_list_that_grows_while_it_is_asked_for_is_asked_for_again(stub: Stub) -> None:
    stub.script(ONE_GPU, "processes.again 7 7 0")
    with Sampling(stub) as sampling:
        assert (f"{GPU}/pid4001", "process_memory_bytes") in sampling.sample(0)
        assert sampling.state["gaps"] == {}


def test_a_list_that_never_stops_growing_is_a_gap(stub: Stub) -> None:
    stub.script(ONE_GPU, "processes.again 7")
    with Sampling(stub) as sampling:
        assert (f"{GPU}/pid4001", "process_memory_bytes") not in sampling.sample(0)
        assert sampling.state["gaps"] == {GPU: {"process_memory_bytes": 1}}
        stub.script(ONE_GPU, "processes.again 0")
        assert (f"{GPU}/pid4001", "process_memory_bytes") in sampling.sample(5)


def test_clients_of_mps_count_among_the_processes(stub: Stub) -> None:
    stub.script(ONE_GPU, "processes 4001:100", "mps_processes 4003:300 4004:400")
    with Sampling(stub) as sampling:
        rows = sampling.sample(0)
    memory = {device: value for (device, metric), value in rows.items() if metric == "process_memory_bytes"}
    assert memory == {f"{GPU}/pid4001": 100, f"{GPU}/pid4003": 300, f"{GPU}/pid4004": 400}


def test_processes_whose_memory_is_not_told_have_no_rows(stub: Stub) -> None:
    stub.script(ONE_GPU, "processes 4001:- 4002:-")
    with Sampling(stub) as sampling:
        assert "process_memory_bytes" not in {metric for _, metric in sampling.sample(0)}
        why = sampling.state["unsupported"][GPU]["process_memory_bytes"]
    assert why == "the driver lists processes without their memory"


@pytest.mark.parametrize("code", [0, 6])
def test_no_process_ran_is_neither_a_row_nor_a_fault(stub: Stub, code: int) -> None:
    # With 0, pynvml raises an error of value 0.
    stub.script(ONE_GPU, "process_sm", f"process_sm_none {code}")
    with Sampling(stub) as sampling:
        assert "process_sm_ratio" not in {metric for _, metric in sampling.sample(0)}
        assert sampling.state["gaps"] == sampling.state["unsupported"] == {}
        assert sampling.state["problems"] == []


def test_stale_empty_and_impossible_samples_of_processes_do_not_count(stub: Stub) -> None:
    stub.script(ONE_GPU, "process_sm 4001:40:5 4001:90:-60 4002:4294967295:5 0:77:5")
    with Sampling(stub) as sampling:
        rows = sampling.sample(0)
        again = sampling.sample(0.0), sampling.sample(2.0)
    assert {key: v for key, v in rows.items() if key[1] == "process_sm_ratio"} == {
        (f"{GPU}/pid4001", "process_sm_ratio"): 0.4
    }
    assert all("process_sm_ratio" not in {metric for _, metric in later} for later in again)


def test_gpm_metrics_are_refused_one_by_one(stub: Stub) -> None:
    stub.script(ONE_GPU, "gpm.3.code 3", "gpm.5.code 0 10 0", "gpm.10 40 nan 40")
    with Sampling(stub) as sampling:
        seen = [{metric for _, metric in sampling.sample(at_s)} for at_s in range(4)]
        state = sampling.state
    assert [("sm_active_ratio" in metrics) for metrics in seen] == [False, True, True, True]
    assert [("tensor_active_ratio" in metrics) for metrics in seen] == [False, True, False, True]
    assert [("dram_active_ratio" in metrics) for metrics in seen] == [False, True, False, True]
    assert state["unsupported"] == {GPU: {"sm_occupancy_ratio": "not supported on this device"}}
    assert state["gaps"] == {GPU: {"tensor_active_ratio": 1, "dram_active_ratio": 1}}


@pytest.mark.parametrize("line", ["gpm 0", "nvmlGpmQueryDeviceSupport 13"])
def test_a_gpu_before_hopper_has_no_gpm_rows(stub: Stub, line: str) -> None:
    stub.script(ONE_GPU, line)
    gpm = {"sm_active_ratio", "sm_occupancy_ratio", "tensor_active_ratio", "dram_active_ratio"}
    with Sampling(stub) as sampling:
        assert sampling.state["unsupported"][GPU].keys() == gpm
        assert not gpm & {metric for at_s in (0, 1) for _, metric in sampling.sample(at_s)}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nvmlInitWithFlags 9", "the kernel's driver is not loaded"),
        ("nvmlInitWithFlags 18", "differ in version"),
        ("nvmlInitWithFlags 4", "no permission"),
        ("nvmlInitWithFlags 999", "does not start up: Unknown Error"),
        ("nvmlDeviceGetCount_v2 999", "does not tell its GPUs: Unknown Error"),
        ("devices 0", "has no GPU for us"),
        ("nvmlDeviceGetHandleByIndex_v2 4", "GPU 0: Insufficient Permissions"),
    ],
)
def test_why_there_is_nothing_to_sample(stub: Stub, line: str, why: str) -> None:
    stub.script(ONE_GPU, line)
    with Sampling(stub) as sampling:
        assert why in sampling.state["refused"]
    assert stub.left_at_shutdown == ([] if "Init" in line else [0])


def test_no_driver_library(tmp_path: Path) -> None:
    nowhere = Stub(tmp_path, tmp_path)
    with Sampling(nowhere, LD_LIBRARY_PATH="") as sampling:
        if "refused" not in sampling.state:
            pytest.skip("there is an NVIDIA driver on this host")
        assert "no libnvidia-ml.so.1" in sampling.state["refused"]


def test_another_package_of_the_same_name(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("def nvmlInit(): raise RuntimeError('not asked')\n")
    with Sampling(stub, PYTHONPATH=str(tmp_path)) as sampling:
        assert f"the module pynvml at {tmp_path}/pynvml.py has no " in sampling.state["refused"]
        assert "pip install --force-reinstall nvidia-ml-py" in sampling.state["refused"]


def test_no_package(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('no such package')\n")
    with Sampling(stub, PYTHONPATH=str(tmp_path)) as sampling:
        assert "pip install nvidia-ml-py" in sampling.state["refused"]


def test_slow_calls_still_give_every_row(stub: Stub) -> None:
    with Sampling(stub) as sampling:
        quick = sampling.sample(0)
    stub.script(ONE_GPU, "nvmlDeviceGetUtilizationRates.ms 50", "nvmlDeviceGetPowerUsage.ms 50")
    with Sampling(stub) as sampling:
        slow = sampling.sample(0)
    assert slow == quick


def test_importing_loads_no_driver_and_no_event_loop() -> None:
    code = "import fairshare_locust.telemetry.nvml, sys; print({'pynvml', 'locust'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert out.strip() == "set()"


def test_pynvml_has_all_that_is_called() -> None:
    import pynvml  # type: ignore[import-untyped, unused-ignore]

    assert [name for name in FUNCTIONS if not hasattr(pynvml, name)] == []
