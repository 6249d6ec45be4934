"""The agent, over HTTP, on the stub of the driver's library."""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from fairshare_locust.telemetry.agent import Exposition, add_arguments
from fairshare_locust.telemetry.nvml import Gpu
from fairshare_locust.telemetry.remote_gpus import RemoteGpus
from fairshare_locust.telemetry.scraper import Scraper
from tests.forks import Fork
from tests.telemetry.stub import ONE_GPU, Stub

GPU = "GPU-stub-0"
Start = Callable[..., tuple[Fork, int]]


def agent_of(stub: Stub, *arguments: str, **environment: str) -> Fork:
    """An agent on the stub, on a free port of 127.0.0.1 unless the arguments say another."""
    some = ("--listen", "127.0.0.1:0", *arguments)
    return Fork("fairshare_locust", "telemetry", *some, environment={**stub.environment, **environment})


@pytest.fixture
def start(stub: Stub) -> Iterator[Start]:
    """Starts agents on free ports of 127.0.0.1; gives the process and the port."""
    agents: list[Fork] = []

    def run(*arguments: str, **environment: str) -> tuple[Fork, int]:
        agent = agent_of(stub, "--interval", "0.1", *arguments, **environment)
        agents.append(agent)
        line = agent.stdout.readline()
        assert line.startswith("serving what 1 GPU(s) say on http://127.0.0.1:"), line
        return agent, int(line.rpartition(":")[2].partition("/")[0])

    yield run
    for agent in agents:
        agent.kill()
        agent.wait()
        agent.close()


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def scrape(port: int) -> dict[tuple[str, str], float]:
    status, text = get(port)
    assert status == 200
    return {(sample.labels.get("device", ""), sample.name): sample.value for sample in samples(text)}


def scrape_until(port: int, good: Callable[[dict[tuple[str, str], float]], bool]) -> dict[tuple[str, str], float]:
    for _ in range(20_000):
        if good(values := scrape(port)):
            return values
    raise AssertionError(values)


def test_it_serves_what_the_driver_says(start: Start) -> None:
    _, port = start()
    values = scrape_until(port, lambda values: (GPU, "fairshare_gpu_sm_active_ratio") in values)
    assert values[GPU, "fairshare_gpu_gpu_utilization_ratio"] == 0.83
    assert values[GPU, "fairshare_gpu_memory_used_bytes"] == 20 * 2**30
    assert values[GPU, "fairshare_gpu_power_w"] == 312.5
    assert values[GPU, "fairshare_gpu_throttle_sw_power_cap"] == 1
    assert values[GPU, "fairshare_gpu_throttle_hw_thermal"] == 0
    assert values[GPU, "fairshare_gpu_sm_active_ratio"] == 0.625
    assert values[GPU, "fairshare_gpu_pcie_tx_bytes_per_s"] == 2 * 2**20
    assert values[f"{GPU}/pid4001", "fairshare_gpu_process_memory_bytes"] == 2**30
    assert values["", "fairshare_gpu_sample_unix_s"] > 1.7e9
    assert {sample.labels["name"] for sample in samples(get(port)[1]) if "device" in sample.labels} == {"Stub-H100"}


def test_it_samples_again_and_again(start: Start, stub: Stub) -> None:
    _, port = start()
    stub.script(ONE_GPU, "power_mw 55000")
    values = scrape_until(port, lambda values: values[GPU, "fairshare_gpu_power_w"] == 55)
    later = scrape_until(
        port, lambda later: later["", "fairshare_gpu_sample_unix_s"] > values["", "fairshare_gpu_sample_unix_s"]
    )
    assert later[GPU, "fairshare_gpu_power_w"] == 55


def test_a_lost_gpu_has_no_values_and_is_told_once(start: Start, stub: Stub) -> None:
    agent, port = start()
    stub.script(ONE_GPU, "every 15")
    values = scrape_until(port, lambda values: (GPU, "fairshare_gpu_power_w") not in values)
    at_s = values["", "fairshare_gpu_sample_unix_s"]
    scrape_until(port, lambda values: values["", "fairshare_gpu_sample_unix_s"] > at_s)
    agent.send_signal(signal.SIGTERM)
    _, errors = agent.communicate()
    assert agent.returncode == 0
    assert errors.count("the GPU is lost") == 1
    assert errors.count("\n") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_lets_go_of_the_driver(start: Start, stub: Stub, how: signal.Signals) -> None:
    agent, port = start()
    scrape(port)
    agent.send_signal(how)
    _, errors = agent.communicate()
    assert (agent.returncode, errors) == (0, "")
    assert stub.left_at_shutdown == [0]


def test_only_metrics_are_served(start: Start) -> None:
    _, port = start()
    assert get(port, "/")[0] == get(port, "/metrics/x")[0] == 404
    assert get(port, "/metrics?x=1")[0] == 200


def test_a_token_is_asked_for(start: Start) -> None:
    _, port = start("--token-env", "AGENT_TOKEN", AGENT_TOKEN="s3cret-ä")
    assert get(port)[0] == 401
    for wrong in ("Bearer", "Bearer s3cret", "Bearer s3cret-ä2", "Basic s3cret-ä", "s3cret-ä"):
        assert get(port, Authorization=wrong.encode().decode("latin-1"))[0] == 401
    for path in ("/", "/metrics"):  # no path tells a stranger anything
        assert get(port, path)[0] == 401
    right = "Bearer s3cret-ä".encode().decode("latin-1")
    status, text = get(port, Authorization=right)
    assert status == 200
    assert "fairshare_gpu_power_w" in text
    assert "s3cret" not in text


def test_it_listens_on_ipv6_too(stub: Stub) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    agent = agent_of(stub, "--listen", "[::1]:0")
    url = agent.stdout.readline().split()[6].removesuffix(";")
    assert url.startswith("http://[::1]:")
    with urllib.request.urlopen(url) as answer:
        assert b"fairshare_gpu_power_w" in answer.read()
    agent.terminate()
    agent.communicate()


def test_one_connection_serves_many_scrapes(start: Start) -> None:
    _, port = start()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    assert connection.sock is first
    connection.close()


def refusal(stub: Stub, *arguments: str, **environment: str) -> str:
    agent = agent_of(stub, *arguments, **environment)
    said, errors = agent.communicate()
    assert agent.returncode == 2
    assert said == ""
    assert "Traceback" not in errors
    return errors


def test_no_gpu(stub: Stub) -> None:
    stub.script("nvmlInitWithFlags 18")
    assert refusal(stub).startswith("fairshare: no GPU to sample: NVIDIA's library and the loaded driver differ")


def test_a_token_that_is_not_there(stub: Stub) -> None:
    for value in ({}, {"AGENT_TOKEN": " "}):
        assert "--token-env AGENT_TOKEN: that environment variable is not set" in refusal(
            stub, "--token-env", "AGENT_TOKEN", **value
        )


def test_a_port_in_use(start: Start, stub: Stub) -> None:
    _, port = start()
    assert f"can't listen on 127.0.0.1:{port}: " in refusal(stub, "--listen", f"127.0.0.1:{port}")
    assert stub.left_at_shutdown == [0]


def test_an_unknown_host(stub: Stub) -> None:
    assert "can't listen on no.such.host.invalid:9401: " in refusal(stub, "--listen", "no.such.host.invalid:9401")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "9401"], "expected HOST:PORT, such as 127.0.0.1:9401, found '9401'"),
        (["--listen", ":9401"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--interval", "0.01"], "expected seconds from 0.1 to 60, found '0.01'"),
        (["--interval", "nan"], "expected seconds from 0.1 to 60, found 'nan'"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listen", "host", "port", "loopback"),
    [
        ("127.0.0.1:9401", "127.0.0.1", 9401, True),
        ("localhost:1", "localhost", 1, True),
        ("[::1]:9401", "::1", 9401, True),
        ("0.0.0.0:9401", "0.0.0.0", 9401, False),
        ("[::]:9401", "::", 9401, False),
        ("gpu-host:0", "gpu-host", 0, False),
    ],
)
def test_where_to_listen(listen: str, host: str, port: int, loopback: bool) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    address = parser.parse_args(["--listen", listen]).listen
    assert (address.host, address.port, address.loopback) == (host, port, loopback)


def test_others_reach_it_only_with_a_warning_or_a_token(stub: Stub) -> None:
    for arguments, warnings in (([], 1), (["--token-env", "AGENT_TOKEN"], 0)):
        agent = agent_of(stub, "--listen", "0.0.0.0:0", *arguments, AGENT_TOKEN="s3cret")
        agent.stdout.readline()
        agent.terminate()
        _, errors = agent.communicate()
        assert errors.count("warning: whoever reaches 0.0.0.0 can read this") == warnings


def test_its_page_is_read_as_the_page_of_a_host(start: Start, stub: Stub) -> None:
    slices = ("mig 1", "mig.0 1:0", "gpu0.gi1.memory_used 700", "gpu0.gi1.name Stub-MIG", "gpu0.gi1.processes 4001:5")
    stub.script(ONE_GPU, *slices, "nvmlDeviceGetTotalEnergyConsumption 3")
    _, port = start()
    url = f"http://127.0.0.1:{port}/metrics"
    gpus = RemoteGpus("agent", url, 1.0, Scraper(url))
    rows = {(device, metric): value for device, metric, value in gpus.sample(True)}
    gpus.close()
    assert rows[GPU, "power_w"] == 312.5
    assert rows[GPU, "stale_s"] == 0
    assert rows[f"{GPU}/gi1", "memory_used_bytes"] == 700
    assert {metric for device, metric in rows if device == f"{GPU}/pid4001"} <= {
        *("process_memory_bytes", "process_sm_ratio")
    }
    assert rows[f"{GPU}/pid4001", "process_memory_bytes"] == 5
    described = gpus.describe()
    known = [(device["device"], device["name"], device["driver"], device["mig"]) for device in described["devices"]]
    assert known == [(GPU, "Stub-H100", "580.95.05", "on"), (f"{GPU}/gi1", "Stub-MIG", "580.95.05", "slice")]
    assert described["unsupported"][GPU] == {"energy_j_total": "not supported on this device"}
    assert described["unsupported"][f"{GPU}/gi1"]["power_w"] == "the driver has it for the whole GPU only"
    assert gpus.problems == []


def values_of(exposition: Exposition) -> dict[str, float]:
    return {sample.name: sample.value for sample in samples(exposition.text)}


def test_a_value_stays_until_its_next_reading_and_no_longer() -> None:
    exposition = Exposition([], interval_s=0.5)
    exposition.update(
        [(GPU, "power_w", 1.5), (GPU, "pcie_tx_bytes_per_s", 7), (f"{GPU}/pid1", "process_sm_ratio", 0.5)], {}, 100, 1e9
    )
    assert values_of(exposition) == {
        "fairshare_gpu_power_w": 1.5,
        "fairshare_gpu_pcie_tx_bytes_per_s": 7,
        "fairshare_gpu_process_sm_ratio": 0.5,
        "fairshare_gpu_sample_unix_s": 1e9,
    }
    exposition.update([], {}, 104.9, 1e9 + 4.9)  # every 5 s, and every 10 s
    assert values_of(exposition).keys() == {
        "fairshare_gpu_pcie_tx_bytes_per_s",
        "fairshare_gpu_process_sm_ratio",
        "fairshare_gpu_sample_unix_s",
    }
    exposition.update([], {}, 106, 1e9 + 6)
    assert "fairshare_gpu_process_sm_ratio" not in values_of(exposition)
    exposition.update([], {}, 111, 1e9 + 11)
    assert values_of(exposition) == {"fairshare_gpu_sample_unix_s": 1e9 + 11}


def test_names_are_escaped() -> None:
    name = 'a "b" \\ c\nd'
    gpu = Gpu(uuid=GPU, name=name, driver="1", memory_total_bytes=None, mig=False, slices=())
    exposition = Exposition([gpu], interval_s=0.5)
    exposition.update([(GPU, "power_w", 1.0)], {GPU: {"energy_j_total": name}}, 0, 1e9)
    power, info, unsupported, _ = samples(exposition.text)
    assert power.labels == {"device": GPU, "name": name}
    assert info.labels == {"device": GPU, "name": name, "driver": "1", "mig": "off"}
    assert unsupported.labels == {"device": GPU, "metric": "energy_j_total", "why": name}


def test_numbers_keep_all_their_digits() -> None:
    exposition = Exposition([], interval_s=0.5)
    exposition.update([(GPU, "energy_j_total", 123456789.123), (GPU, "memory_total_bytes", 150754820096)], {}, 0, 1e9)
    values = values_of(exposition)
    assert values["fairshare_gpu_energy_j_total"] == 123456789.123
    assert values["fairshare_gpu_memory_total_bytes"] == 150754820096


def test_it_runs_without_locust_or_gevent() -> None:
    code = "import fairshare_locust.telemetry.agent, sys; print({'gevent', 'locust', 'pynvml'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "set()"
