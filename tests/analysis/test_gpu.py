"""What the GPUs did in a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.gpu import describe_gpu, energy_in
from analysis.telemetry import Metrics, read_telemetry
from analysis.window import Window
from tests.analysis.build import Sample, sampled, write_samples
from tests.analysis.test_telemetry import series

WINDOW = Window.of_seconds((0.0, 10.0))


def described(
    folder: Path,
    samples: Sequence[Sample],
    tokens: float = 100.0,
    *,
    source: str = "nvml",
    info: Any = None,
    **known: Any,
) -> dict[str, Any]:
    telemetry = read_telemetry(write_samples(folder, gpu=samples, gpu_source=source), info)
    found = describe_gpu(telemetry, WINDOW, tokens, **known)
    assert found is not None
    return found


def told(metrics: Metrics, window: Window) -> tuple[Any, ...]:
    found = energy_in(metrics, window)
    return found.joules, found.source, found.covered


def test_energy_is_the_difference_of_the_counter_at_the_windows_ends() -> None:
    # 100 J/s; between the samples the counter is read in proportion: 350 J at 2.5 s, 850 J at 7.5 s.
    metrics: Metrics = {
        "energy_j_total": series((0.0, 100.0), (5.0, 600.0), (10.0, 1100.0)),
        "power_w": series((0.0, 1.0)),
    }
    assert told(metrics, Window.of_seconds((2.5, 7.5))) == (pytest.approx(500.0), "counter", 1.0)


def test_without_a_counter_energy_is_power_over_time() -> None:
    # 10 W to 4 s, 20 W at 6 s, 30 W at 8 s: 20 J from 2 to 4 s, and 15 W on average for the 2 s after.
    metrics: Metrics = {"power_w": series((0.0, 10.0), (4.0, 10.0), (8.0, 30.0))}
    assert told(metrics, Window.of_seconds((2.0, 6.0))) == (pytest.approx(20.0 + 30.0), "power", 1.0)


def test_a_counter_that_was_reset_counts_from_zero() -> None:
    metrics: Metrics = {"energy_j_total": series((0.0, 900.0), (5.0, 1000.0), (6.0, 20.0), (10.0, 80.0))}
    assert energy_in(metrics, WINDOW).joules == pytest.approx(100.0 + 20.0 + 60.0)


def every_second(*values: tuple[int, float]) -> Metrics:
    """A counter and 50 W, sampled each second up to a second after the window; (from when on, at what it stands)."""
    stands = [next(value for since, value in reversed(values) if since <= t_s) for t_s in range(12)]
    return {
        "energy_j_total": series(*((float(t_s), value) for t_s, value in enumerate(stands))),
        "power_w": series((0.0, 50.0), (11.0, 50.0)),
    }


def test_a_counter_that_stands_still_is_no_energy() -> None:
    assert told(every_second((0, 700.0)), WINDOW) == (pytest.approx(500.0), "power", 1.0)
    alone: Metrics = {"energy_j_total": every_second((0, 700.0))["energy_j_total"]}
    assert told(alone, WINDOW) == (None, None, 0.0)


def test_a_counter_that_is_read_more_rarely_than_asked_for_counts_between_its_changes() -> None:
    # It moves at 1, 6 and 11 s, by 300 J each: 60 W, though 300 J are seen inside [1, 6) and 600 J inside [0, 10).
    metrics = every_second((0, 100.0), (1, 400.0), (6, 700.0), (11, 1000.0))
    assert told(metrics, Window.of_seconds((1.0, 6.0))) == (pytest.approx(300.0), "counter", 1.0)
    assert told(metrics, Window.of_seconds((4.0, 8.0))) == (pytest.approx(240.0), "counter", 1.0)
    # Of the second before its first change nothing is known: nine tenths, and as much for the rest.
    assert told(metrics, WINDOW) == (pytest.approx(600.0), "counter", pytest.approx(0.9))


def test_a_counter_that_changed_too_far_from_the_windows_ends_gives_way_to_power() -> None:
    assert told(every_second((0, 100.0), (4, 400.0), (9, 700.0)), WINDOW) == (pytest.approx(500.0), "power", 1.0)


def test_what_was_not_sampled_is_taken_to_be_like_the_rest() -> None:
    metrics: Metrics = {"energy_j_total": series((0.5, 0.0), (9.5, 900.0))}
    assert told(metrics, WINDOW) == (pytest.approx(1000.0), "counter", pytest.approx(0.9))


def test_energy_of_a_gpu_that_was_lost_is_undefined() -> None:
    metrics: Metrics = {"energy_j_total": series((0.0, 0.0), (4.0, 400.0)), "power_w": series((0.0, 9.0), (4.0, 9.0))}
    assert told(metrics, WINDOW) == (None, None, pytest.approx(0.4))


def test_power_steps_in_for_a_counter_that_says_too_little() -> None:
    metrics: Metrics = {"energy_j_total": series((3.0, 0.0)), "power_w": series((0.0, 50.0), (10.0, 50.0))}
    assert told(metrics, WINDOW) == (pytest.approx(500.0), "power", 1.0)


@pytest.mark.parametrize("window", [Window(), Window.of_seconds((20.0, 30.0))])
def test_energy_outside_the_samples_is_undefined(window: Window) -> None:
    metrics: Metrics = {"energy_j_total": series((0.0, 0.0), (4.0, 400.0))}
    assert told(metrics, window) == (None, None, 0.0)
    assert told({}, window) == (None, None, 0.0)


def test_two_spans_are_added_up() -> None:
    metrics: Metrics = {"power_w": series((0.0, 0.0), (10.0, 100.0))}
    # 5 W on average for 1 s, 85 W for 3 s.
    found = energy_in(metrics, Window.of_seconds((0.0, 1.0), (7.0, 10.0)))
    assert found.joules == pytest.approx(5.0 + 85.0 * 3)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=8, unique=True).map(sorted), st.data())
def test_power_over_time_agrees_with_small_steps(times: list[int], data: st.DataObject) -> None:
    watts = data.draw(st.lists(st.integers(0, 50), min_size=len(times), max_size=len(times)))
    start, end = times[0] + 0.5, float(times[-1])
    if not start < end:
        return
    steps = 2000

    def at(t_s: float) -> float:
        for (t0, w0), (t1, w1) in zip(
            zip(times, watts, strict=True), zip(times[1:], watts[1:], strict=True), strict=False
        ):
            if t0 <= t_s <= t1:
                return w0 + (w1 - w0) * (t_s - t0) / (t1 - t0)
        raise AssertionError(t_s)

    width = (end - start) / steps
    slow = sum(at(start + (step + 0.5) * width) for step in range(steps)) * width
    metrics: Metrics = {"power_w": series(*zip(map(float, times), map(float, watts), strict=True))}
    assert energy_in(metrics, Window.of_seconds((start, end))).joules == pytest.approx(slow, rel=1e-3, abs=0.5)


def test_a_device_by_hand(tmp_path: Path) -> None:
    samples = [
        *sampled("GPU-1", "gpu_utilization_ratio", (0, 0.5), (5, 1.0), (10, 0.0)),  # the last is outside
        *sampled("GPU-1", "energy_j_total", (0, 1000), (5, 1200), (10, 1500)),
        *sampled("GPU-1", "throttle_sw_power_cap", (0, 0), (2, 1), (5, 1), (10, 1)),
        *sampled("GPU-1", "temperature_c", (20, 60)),  # after the window
    ]
    info = {
        "sources": [
            {
                "source": "nvml",
                "devices": [{"uuid": "GPU-1", "name": "L4"}],
                "unsupported": {"GPU-1": {"sm_active_ratio": "no GPM counters"}},
            }
        ]
    }
    found = described(tmp_path, samples, 250.0, info=info)
    (device,) = found["devices"]
    assert device["metrics"] == {
        "gpu_utilization_ratio": {"count": 2, "mean": 0.75, "peak": 1.0, "peak_t_s": 5.0},
    }
    assert device["throttle"] == {"sw_power_cap": pytest.approx(2 / 3)}
    assert (device["name"], device["source"], device["simulated"]) == ("L4", "nvml", False)
    assert (device["samples"], device["interval_s"], device["longest_gap_s"]) == (3, 2.5, 5.0)
    assert (device["energy_j"], device["energy_from"]) == (500.0, "counter")
    assert device["unsupported"] == {"sm_active_ratio": "no GPM counters"}
    assert (found["energy_j"], found["energy_from"], found["boards"]) == (500.0, ["counter"], 1)
    assert found["joules_per_output_token"] == 2.0
    assert found["simulated"] is False


def test_no_samples_are_no_gpu(tmp_path: Path) -> None:
    assert describe_gpu(read_telemetry(tmp_path, None), WINDOW, 1.0) is None


def power(device: str, watts: float) -> list[Sample]:
    return sampled(device, "power_w", (0, watts), (10, watts))


def test_several_boards_are_added_up(tmp_path: Path) -> None:
    found = described(tmp_path, [*power("GPU-1", 50), *power("GPU-2", 30)], gpus=2)
    assert found["energy_of"] == ["GPU-1", "GPU-2"]
    assert found["energy_note"] is None
    assert (found["boards"], found["energy_j"], found["joules_per_output_token"]) == (2, 800.0, 8.0)


def test_one_board_whose_energy_is_unknown_makes_the_sum_unknown(tmp_path: Path) -> None:
    lost = sampled("GPU-2", "power_w", (0, 30), (4, 30))
    found = described(tmp_path, [*power("GPU-1", 50), *lost], gpus=2)
    assert (found["energy_j"], found["energy_from"], found["joules_per_output_token"]) == (None, None, None)
    assert found["energy_note"] == "energy or power of GPU-2 was sampled for only 40.0% of the window"


def test_without_tokens_energy_per_token_is_undefined(tmp_path: Path) -> None:
    found = described(tmp_path, power("GPU-1", 50), 0.0)
    assert (found["energy_j"], found["joules_per_output_token"]) == (500.0, None)
    assert found["energy_note"] == "no output token arrived in the window"


def test_which_of_more_boards_than_the_run_has_served_is_not_known(tmp_path: Path) -> None:
    found = described(tmp_path, [sample for index in range(8) for sample in power(f"GPU-{index}", 50)], gpus=2)
    assert (found["boards"], found["energy_of"], found["energy_j"], found["joules_per_output_token"]) == (
        8,
        None,
        None,
        None,
    )
    assert found["energy_note"] == "8 GPUs sampled, which of them served is not known"


def test_the_boards_of_the_servers_processes_are_the_runs(tmp_path: Path) -> None:
    samples = [
        *power("GPU-1", 50),
        *power("GPU-2", 30),
        *power("GPU-3", 900),
        *sampled("GPU-2/http://127.0.0.1:8000/v1", "process_memory_bytes", (1, 3)),
        *sampled("GPU-3/pid77", "process_memory_bytes", (1, 3)),  # somebody else's
    ]
    found = described(tmp_path, samples)
    assert (found["boards"], found["energy_of"], found["energy_j"]) == (3, ["GPU-2"], 300.0)
    assert found["joules_per_output_token"] == 3.0


def test_a_server_on_a_slice_is_on_its_board(tmp_path: Path) -> None:
    process = sampled("GPU-1/gi2/http://127.0.0.1:8000", "process_memory_bytes", (1, 3))
    found = described(tmp_path, [*power("GPU-1", 50), *power("GPU-2", 30), *process])
    assert (found["energy_of"], found["energy_j"]) == (["GPU-1"], 500.0)
    assert [device["device"] for device in found["devices"]] == ["GPU-1", "GPU-2"]


def test_of_simulated_servers_only_the_simulated_device_counts(tmp_path: Path) -> None:
    info = {"sources": [{"source": "dcgm", "devices": [{"device": "SIM-1", "simulated": True}]}]}
    both = [*power("SIM-1", 50), *power("GPU-1", 900)]
    found = described(tmp_path / "both", both, source="dcgm", info=info, simulated=True)
    assert (found["energy_of"], found["energy_j"], found["joules_per_output_token"]) == (["SIM-1"], 500.0, 5.0)
    found = described(tmp_path / "real", power("GPU-1", 900), simulated=True)
    assert (found["energy_j"], found["joules_per_output_token"]) == (None, None)
    assert found["energy_note"] == "the servers are simulated, and the GPUs that were sampled are not theirs"


def test_slices_share_their_boards_energy(tmp_path: Path) -> None:
    use = sampled("GPU-1/gi2", "memory_used_bytes", (1, 5))
    assert described(tmp_path / "own", [*power("GPU-1", 50), *use])["energy_j"] == 500.0
    # An exporter repeats the board's power on each slice.
    repeated = [*power("GPU-1/gi1", 50), *power("GPU-1/gi2", 50)]
    assert described(tmp_path / "repeated", repeated, source="dcgm")["energy_j"] == 500.0


def test_a_board_that_two_sources_sample_counts_once(tmp_path: Path) -> None:
    write_samples(tmp_path, gpu=power("GPU-1", 70), gpu_source="dcgm")
    with open(tmp_path / "gpu.csv", "a") as file:
        file.writelines(f"{t_s},nvml,GPU-1,power_w,50\n" for t_s in (0, 10))
    found = describe_gpu(read_telemetry(tmp_path, None), WINDOW, 1.0)
    assert found is not None
    assert len(found["devices"]) == 2
    assert (found["boards"], found["energy_j"]) == (1, 500.0)


def test_processes_are_no_devices(tmp_path: Path) -> None:
    name = "GPU-1/http://127.0.0.1:8000"
    samples = [
        *power("GPU-1", 50),
        *sampled(name, "process_memory_bytes", (1, 3), (6, 5)),
        *sampled(name, "stale_s", (1, 0), (6, 0)),
        *sampled("GPU-1/pid77", "stale_s", (1, 0)),
    ]
    found = described(tmp_path, samples, tenants_of={"http://127.0.0.1:8000": ["chat", "batch"]}.__getitem__)
    assert [device["device"] for device in found["devices"]] == ["GPU-1"]
    assert found["processes"] == [
        {
            "name": name,
            "source": "nvml",
            "device": "GPU-1",
            "endpoint": "http://127.0.0.1:8000",
            "tenants": ["chat", "batch"],
            "metrics": {"process_memory_bytes": {"count": 2, "mean": 4.0, "peak": 5.0, "peak_t_s": 6.0}},
        }
    ]


def test_a_simulated_device_says_so(tmp_path: Path) -> None:
    info = {"sources": [{"source": "dcgm", "devices": [{"device": "SIM-1", "name": "S", "simulated": True}]}]}
    found = described(tmp_path, power("SIM-1", 50), source="dcgm", info=info)
    assert found["simulated"] is True
    assert found["devices"][0]["simulated"] is True


def test_one_sample_is_a_device_without_energy(tmp_path: Path) -> None:
    found = described(tmp_path, sampled("GPU-1", "power_w", (1, 50)))
    (device,) = found["devices"]
    assert (device["samples"], device["interval_s"], device["longest_gap_s"], device["energy_j"]) == (
        1,
        None,
        9.0,
        None,
    )
