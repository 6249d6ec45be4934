"""What an exporter, or our agent, tells of GPUs elsewhere."""

from __future__ import annotations

import pytest

from fairshare_locust.telemetry.remote_gpus import RemoteGpus
from fairshare_locust.telemetry.scraper import Scraper
from fairshare_locust.telemetry.source import Sample, UnavailableError
from fairshare_locust.telemetry.task import Identity
from tests.telemetry.page import Page, fixture

MIB = 2**20


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def dcgm(page: Page, clock: Clock | None = None) -> RemoteGpus:
    return RemoteGpus("dcgm", page.url, 1.0, Scraper(page.url), clock or Clock())


def by_device(samples: list[Sample]) -> dict[str, dict[str, float]]:
    devices: dict[str, dict[str, float]] = {}
    for device, metric, value in samples:
        assert metric not in devices.setdefault(device, {})
        devices[device][metric] = value
    return devices


def test_dcgm_in_our_names_and_units() -> None:
    with Page(fixture("dcgm")) as page:
        gpus = dcgm(page)
        devices = by_device(gpus.sample(False))
    assert devices == {
        "GPU-a": {
            "sm_clock_mhz": 2040,
            "memory_clock_mhz": 6251,
            "temperature_c": 61,
            "power_w": 68.25,
            "energy_j_total": pytest.approx(123456.789),
            "gpu_utilization_ratio": 0.87,
            "memory_copy_utilization_ratio": 0.5,
            "memory_used_bytes": 20000 * MIB,
            "memory_total_bytes": 22500 * MIB,
            "graphics_active_ratio": 0.75,
            "dram_active_ratio": 0.5,
            "pcie_tx_bytes_per_s": 1048576,
            "stale_s": 0,
        },
        "GPU-b/gi1": {"memory_used_bytes": 1024 * MIB, "stale_s": 0},
        "GPU-b/gi2": {"memory_used_bytes": 2048 * MIB, "graphics_active_ratio": 0.25, "stale_s": 0},
    }
    described = gpus.describe()
    assert [(device["device"], device["name"], device["simulated"]) for device in described["devices"]] == [
        ("GPU-a", "NVIDIA L4", False),
        ("GPU-b/gi1", "NVIDIA A100", False),
        ("GPU-b/gi2", "NVIDIA A100", False),
    ]
    assert set(described["unsupported"]["GPU-a"]) == {
        *("sm_active_ratio", "sm_occupancy_ratio", "tensor_active_ratio", "pcie_rx_bytes_per_s")
    }


def test_a_simulated_device_is_said_to_be_one() -> None:
    with Page('DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="SIM-1",modelName="Simulated GPU"} 40\n') as page:
        gpus = dcgm(page)
        gpus.sample(False)
    (device,) = gpus.describe()["devices"]
    assert (device["name"], device["simulated"]) == ("Simulated GPU", True)


def test_a_device_without_uuid_goes_by_its_index() -> None:
    with Page('DCGM_FI_DEV_FB_TOTAL{gpu="3"} 10\nDCGM_FI_DEV_FB_FREE{gpu="3"} 4\n') as page:
        assert by_device(dcgm(page).sample(False)) == {"gpu3": {"memory_total_bytes": 10 * MIB, "stale_s": 0}}


def test_a_device_told_once_for_each_of_its_containers_counts_once() -> None:
    lines = [f'DCGM_FI_DEV_POWER_USAGE{{UUID="GPU-a",pod="{pod}"}} 70' for pod in ("x", "y")]
    with Page("\n".join(lines)) as page:
        assert by_device(dcgm(page).sample(False)) == {"GPU-a": {"power_w": 70, "stale_s": 0}}


def test_values_that_stand_still_are_marked() -> None:
    clock = Clock()
    text = 'DCGM_FI_DEV_POWER_USAGE{UUID="GPU-a"} 70\nDCGM_FI_DEV_POWER_USAGE{UUID="GPU-b"} 71\n'
    with Page(text) as page:
        gpus = dcgm(page, clock)
        stale_s = []
        for at_s in (0.0, 1.0, 3.0, 4.0, 5.0, 6.0):
            clock.now_s = 100 + at_s
            if at_s == 5.0:
                page.text = text.replace("70", "75")
            devices = by_device(gpus.sample(False))
            stale_s.append((devices["GPU-a"]["stale_s"], devices["GPU-b"]["stale_s"]))
    assert stale_s == [(0, 0), (1, 1), (3, 3), (4, 4), (0, 5), (1, 6)]
    longest = {device["device"]: device["longest_stale_s"] for device in gpus.describe()["devices"]}
    assert longest == {"GPU-a": 4, "GPU-b": 6}
    assert len(gpus.problems) == 1  # at 4 s, and not again
    assert "no value of GPU-a changed for more than 3 scrapes" in gpus.problems[0]


AGENT = """\
fairshare_gpu_power_w{device="GPU-a",name="NVIDIA H200"} 300
fairshare_gpu_memory_used_bytes{device="GPU-a/gi1",name="NVIDIA H200"} 4096
fairshare_gpu_sample_unix_s 1000.5
other 1
"""


def test_the_agent_is_read_in_the_names_it_uses() -> None:
    with Page(AGENT) as page:
        gpus = RemoteGpus("agent", page.url, 1.0, Scraper(page.url), Clock())
        assert by_device(gpus.sample(False)) == {
            "GPU-a": {"power_w": 300, "stale_s": 0},
            "GPU-a/gi1": {"memory_used_bytes": 4096, "stale_s": 0},
        }
    assert gpus.describe()["unsupported"] == {}


def agent(page: Page) -> RemoteGpus:
    return RemoteGpus("agent", page.url, 1.0, Scraper(page.url), Clock())


def test_processes_are_in_the_samples_and_no_devices() -> None:
    process = 'fairshare_gpu_process_memory_bytes{device="GPU-a/pid7",name="NVIDIA H200"} 512\n'
    with Page(AGENT + process) as page:
        gpus = agent(page)
        assert by_device(gpus.sample(False))["GPU-a/pid7"] == {"process_memory_bytes": 512}
    assert [device["device"] for device in gpus.describe()["devices"]] == ["GPU-a", "GPU-a/gi1"]


def test_the_agent_tells_what_its_gpus_are_and_lack() -> None:
    more = (
        'fairshare_gpu_info{device="GPU-a",name="NVIDIA H200",driver="580.1",mig="on"} 1\n'
        'fairshare_gpu_info{device="GPU-a/gi1",name="H200 MIG 1g.18gb",driver="580.1",mig="slice"} 1\n'
        'fairshare_gpu_unsupported{device="GPU-a/gi1",metric="power_w",why="the GPU\'s only"} 1\n'
    )
    with Page(AGENT + more) as page:
        gpus = agent(page)
        assert {metric for _, metric, _ in gpus.sample(False)} == {"power_w", "memory_used_bytes", "stale_s"}
    described = gpus.describe()
    known = [(device["device"], device["name"], device["driver"], device["mig"]) for device in described["devices"]]
    assert known == [("GPU-a", "NVIDIA H200", "580.1", "on"), ("GPU-a/gi1", "H200 MIG 1g.18gb", "580.1", "slice")]
    assert described["unsupported"] == {"GPU-a/gi1": {"power_w": "the GPU's only"}}


def test_a_gpu_that_the_agent_has_lost_is_told() -> None:
    info = 'fairshare_gpu_info{device="GPU-b",name="NVIDIA H200",driver="580.1",mig="off"} 1\n'
    with Page(AGENT + info) as page:
        gpus = agent(page)
        gpus.sample(False)
        gpus.sample(False)
        assert gpus.problems == [f"{page.url} tells nothing of GPU-b: it is lost; see what the agent says there"]
        for lost in ("", info):
            page.text = f"{lost}fairshare_gpu_sample_unix_s 1000.5\n"
            with pytest.raises(UnavailableError, match="tells nothing of any GPU: they are lost"):
                gpus.sample(False)


def test_an_idle_gpu_is_not_stale_while_the_agent_samples_it() -> None:
    clock = Clock()
    with Page(AGENT) as page:
        gpus = RemoteGpus("agent", page.url, 1.0, Scraper(page.url), clock)
        gpus.sample(False)
        clock.now_s += 10
        page.text = AGENT.replace("1000.5", "1010.5")
        assert by_device(gpus.sample(False))["GPU-a"]["stale_s"] == 0
    assert gpus.problems == []


@pytest.mark.parametrize("text", ["", "<html></html>", 'DCGM_FI_DEV_POWER_USAGE{UUID="GPU-a"} 9223372036854775794\n'])
def test_a_page_without_a_gpu_says_what_it_should_be(text: str) -> None:
    with Page(text) as page, pytest.raises(UnavailableError, match="has no GPU; it should be the /metrics of a DCGM"):
        dcgm(page).sample(False)


def test_the_agents_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TOKEN", "secret")
    with Page(AGENT) as page:
        RemoteGpus("agent", page.url, 1.0, Scraper(page.url, [Identity(token_env="AGENT_TOKEN")])).sample(False)
    assert page.asked[0]["Authorization"] == "Bearer secret"


def test_a_bare_address_means_its_metrics() -> None:
    with Page(fixture("dcgm")) as page:
        RemoteGpus("dcgm", page.origin, 1.0, Scraper(page.origin)).sample(False)
    assert page.paths == ["/metrics"]
