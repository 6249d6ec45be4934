"""Windows of GPM: between which two readings a ratio is, and what is given back to the driver."""

from __future__ import annotations

from tests.telemetry.stub import ONE_GPU, Stub
from tests.telemetry.stub.sampling import Sampling

GPU = "GPU-stub-0"
WINDOW = "gpm.2 window"  # the ratio is a hundredth of the attempts to sample from the one reading to the other

SLICES = """\
mig 1
processes
nvmlGpmSampleGet 3
mig.0 1:0
mig.1 2:0
"""


def test_a_window_lasts_from_the_reading_before(stub: Stub) -> None:
    stub.script(ONE_GPU, WINDOW)
    with Sampling(stub) as sampling:
        windows = [sampling.sample(at_s).get((GPU, "sm_active_ratio")) for at_s in range(4)]
    assert windows == [None, 0.01, 0.01, 0.01]


def test_after_a_failed_reading_a_window_lasts_from_the_last_good_one(stub: Stub) -> None:
    stub.script(ONE_GPU, WINDOW, "nvmlGpmSampleGet 0 0 10 999 0")
    with Sampling(stub) as sampling:
        windows = [sampling.sample(at_s).get((GPU, "sm_active_ratio")) for at_s in range(6)]
        assert sampling.state["gaps"][GPU]["sm_active_ratio"] == 2
    assert windows == [None, 0.01, None, None, 0.03, 0.01]


def test_no_window_reaches_back_to_before_the_beginning(stub: Stub) -> None:
    stub.script(ONE_GPU, WINDOW)
    with Sampling(stub) as sampling:
        sampling.sample(0)
        sampling.sample(1)
        sampling.begin(8)
        windows = [sampling.sample(at_s).get((GPU, "sm_active_ratio")) for at_s in (8, 8.5)]
    assert windows == [None, 0.01]


def test_a_beginning_that_fails_is_made_at_the_next_reading(stub: Stub) -> None:
    stub.script(ONE_GPU, WINDOW, "nvmlGpmSampleGet 0 0 10 0")
    with Sampling(stub) as sampling:
        sampling.sample(0)
        sampling.sample(1)
        sampling.begin(8)
        windows = [sampling.sample(at_s).get((GPU, "sm_active_ratio")) for at_s in (8, 8.5, 9)]
    assert windows == [None, None, 0.01]


def test_slices_do_not_mix_their_readings(stub: Stub) -> None:
    # Each sample takes one attempt for each of the two slices, and one, refused for good, for the whole GPU.
    stub.script(ONE_GPU, SLICES, WINDOW)
    with Sampling(stub) as sampling:
        sampling.sample(0)
        rows = sampling.sample(1)
        assert sampling.state["gaps"] == {}
    assert rows[f"{GPU}/gi1", "sm_active_ratio"] == rows[f"{GPU}/gi2", "sm_active_ratio"] == 0.02


def test_every_sample_is_given_back(stub: Stub) -> None:
    stub.script(ONE_GPU, SLICES, "nvmlGpmMigSampleGet 0 0 10 0")
    with Sampling(stub) as sampling:
        for at_s in range(6):
            sampling.sample(at_s)
        sampling.close()
    assert stub.left_at_shutdown == [0]


def test_a_gpu_that_gives_none_of_the_metrics_is_not_asked_again(stub: Stub) -> None:
    none = [f"gpm.{number}.code 3" for number in (2, 3, 5, 10)]
    stub.script(ONE_GPU, *none)
    with Sampling(stub) as sampling:
        sampling.sample(0)
        sampling.sample(1)
        stub.script(ONE_GPU, *none, "nvmlGpmSampleGet 10")
        sampling.sample(2)
        assert sampling.state["gaps"] == {}
        assert len(sampling.state["unsupported"][GPU]) == 4
