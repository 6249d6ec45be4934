"""The collector as a run sees it: whatever becomes of it, the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fairshare_locust.client.dialects import EVERY_OPTION, ServerFamily
from fairshare_locust.clock import RunClock
from fairshare_locust.profile.model import Deployment, Profile
from fairshare_locust.profile.telemetry import Telemetry as TelemetryOptions
from fairshare_locust.record import RunDirectory
from fairshare_locust.serving.server import Server
from fairshare_locust.telemetry import Telemetry
from fairshare_locust.telemetry.process import task_of
from fairshare_locust.telemetry.task import Identity
from tests.profile.profiles import MINIMAL, parse, tenant
from tests.telemetry.collecting import rows
from tests.telemetry.page import Page, fixture

_SOON_S = 60.0

Children = Callable[[], set[int]]


def profile(*tenant_ids: str, telemetry: TelemetryOptions | None = None, **of_each: str) -> Profile:
    tenants = tuple(tenant(id_, **of_each) for id_ in tenant_ids or ("chat",))
    options = telemetry or TelemetryOptions(nvml="never", server_metrics_interval_s=0.05)
    return replace(parse(MINIMAL), tenants=tenants, telemetry=options)


def server(endpoint: str, pid: int | None = None, family_name: str = "simulator") -> Server:
    family = ServerFamily(family_name, ignore_eos=True, takes=EVERY_OPTION)
    return Server(endpoint, "external", "logical", family, "tiny", pid=pid)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "test")


def until(true: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end_s = time.monotonic() + _SOON_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.005)


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """Pids of the processes that the test has started and not yet reaped."""

    def all_there_are() -> set[int]:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))

    before = all_there_are()
    return lambda: all_there_are() - before


def test_a_run(directory: RunDirectory, children: Children) -> None:
    with Page(fixture("tgi")) as engine:
        telemetry = Telemetry.start(profile(), {"chat": [server(engine.origin)]}, directory)
        before = telemetry.describe()
        assert before["state"] == "running"
        assert [(source["subject"], source["works"]) for source in before["sources"]] == [(engine.origin, True)]
        telemetry.begin(_clock())
        until(lambda: telemetry.latest)
        telemetry.end()
        telemetry.end()
        telemetry.abandon()
    after = telemetry.describe()
    assert after["state"] == "complete"
    sampled = rows(directory.path / "server.csv")
    assert after["files"]["server.csv"]["rows"] == len(sampled)
    assert after["sources"][0]["samples"] > 0
    assert after["cpu_share"] > 0
    assert telemetry.latest["server"][engine.origin]["requests_running"] == 7
    assert telemetry.notes == []
    assert list(directory.logs.iterdir()) == []
    assert children() == set()


def test_nothing_to_sample_starts_nothing(directory: RunDirectory, children: Children) -> None:
    off = TelemetryOptions(nvml="never", server_metrics="never")
    telemetry = Telemetry.start(profile(telemetry=off), {"chat": [server("http://127.0.0.1:1")]}, directory)
    assert children() == set()
    telemetry.begin(_clock())
    telemetry.end()
    telemetry.abandon()
    assert telemetry.describe() == {"state": "off", "sources": [], "files": {}, "cpu_share": None}
    assert telemetry.latest == {}


def test_what_it_could_not_sample_is_known_before_the_load(directory: RunDirectory, children: Children) -> None:
    with Page("", status=404) as engine:
        telemetry = Telemetry.start(profile(), {"chat": [server(engine.origin)]}, directory)
        assert telemetry.notes == [f"{engine.origin}/metrics answers HTTP 404"]
        telemetry.abandon()
    assert telemetry.describe()["state"] == "abandoned"
    assert children() == set()


def test_a_collector_that_dies_is_told_once(directory: RunDirectory, children: Children) -> None:
    with Page(fixture("tgi")) as engine:
        telemetry = Telemetry.start(profile(), {"chat": [server(engine.origin)]}, directory)
        telemetry.begin(_clock())
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        until(lambda: telemetry.notes)
        telemetry.begin(_clock())
        telemetry.end()
        telemetry.end()
    assert telemetry.notes == ["telemetry ended before the run did (exit code -9); its files end there"]
    assert telemetry.describe()["state"] == "lost"
    assert children() == set()


def test_a_collector_that_does_not_end_is_stopped(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, children: Children
) -> None:
    monkeypatch.setattr("fairshare_locust.telemetry.process._DONE_WITHIN_S", 0.1)
    monkeypatch.setattr("fairshare_locust.telemetry.process._GONE_WITHIN_S", 0.1)
    with Page(fixture("tgi")) as engine:
        telemetry = Telemetry.start(profile(), {"chat": [server(engine.origin)]}, directory)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        telemetry.end()
    assert telemetry.describe()["state"] == "lost"
    assert telemetry.notes == ["telemetry did not end within 0.1 s and was stopped"]
    assert children() == set()


def test_a_collector_that_can_not_be_started_is_told(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    telemetry = Telemetry.start(profile(), {"chat": [server("http://127.0.0.1:1")]}, directory)
    telemetry.begin(_clock())
    telemetry.end()
    assert telemetry.notes == ["telemetry can't be started (No such file or directory); there will be none"]
    assert telemetry.describe()["state"] == "lost"


def _task(profile_: Profile, servers: Mapping[str, Sequence[Server]], **more: str) -> dict[str, object]:
    task = task_of(profile_, servers, RunDirectory(Path("/run")), **more)
    return {
        "endpoints": [
            (polled.endpoint, polled.metrics_url, polled.tenants, polled.identities) for polled in task.endpoints
        ],
        "servers": task.servers,
        "dcgm_url": task.dcgm_url,
    }


def test_an_endpoint_of_several_tenants_is_polled_once() -> None:
    shared, own = server("http://a:8000/v1", pid=5), server("http://a:8000/team")
    asked = _task(profile("one", "two"), {"one": [shared], "two": [server("http://a:8000"), own, own]})
    assert asked["endpoints"] == [
        ("http://a:8000/v1", "http://a:8000/metrics", ("one", "two"), (Identity(),)),
        ("http://a:8000/team", "http://a:8000/team/metrics", ("two",), (Identity(),)),
    ]
    assert asked["servers"] == {5: "http://a:8000/v1"}


def test_a_tenants_headers_go_with_its_own_key() -> None:
    plain = tenant("one", headers={"X-Team": "a"})
    keyed = tenant("two", headers={"X-Team": "b"}, api_key_env="KEY")
    both = replace(profile(), tenants=(plain, keyed, replace(keyed, id="three")))
    asked = _task(
        both,
        {"one": [server("http://[::1]:80")], "two": [server("http://[::1]")], "three": [server("http://[::1]")]},
    )
    identities = (Identity(headers={"X-Team": "a"}), Identity(headers={"X-Team": "b"}, token_env="KEY"))
    assert asked["endpoints"] == [("http://[::1]:80", "http://[::1]/metrics", ("one", "two", "three"), identities)]


def test_the_profiles_exporter_goes_before_that_of_the_server() -> None:
    servers = {"chat": [server("http://a")]}
    own = TelemetryOptions(dcgm_url="http://gpu:9400/metrics")
    assert _task(profile(), servers)["dcgm_url"] is None
    assert _task(profile(), servers, dcgm_url="http://sim/metrics")["dcgm_url"] == "http://sim/metrics"
    assert _task(profile(telemetry=own), servers, dcgm_url="http://sim/metrics")["dcgm_url"] == own.dcgm_url


HERE, ELSEWHERE = "http://127.0.0.1:8000", "http://192.0.2.1:8000"  # the latter is an address for examples, of nobody


@pytest.mark.parametrize(
    ("of_servers", "sampled", "noted"),
    [
        ([(HERE, "simulator")], False, False),  # beside a modelled GPU those of this host are left alone
        ([(ELSEWHERE, "simulator")], False, False),
        ([(HERE, "vllm")], True, False),
        ([("http://localhost:8000", "vllm")], True, False),
        ([(ELSEWHERE, "vllm")], False, True),
        ([(ELSEWHERE, "vllm"), (HERE, "vllm")], True, False),
        ([(ELSEWHERE, "vllm"), (HERE, "simulator")], False, True),
    ],
)
def test_the_gpus_of_this_host_are_asked_where_a_server_may_run_on_them(
    of_servers: list[tuple[str, str]], sampled: bool, noted: bool
) -> None:
    external = replace(profile(telemetry=TelemetryOptions()), deployment=Deployment(engine="external"))
    servers = {"chat": [server(endpoint, family_name=family) for endpoint, family in of_servers]}
    task = task_of(external, servers, RunDirectory(Path("/run")))
    assert task.nvml is sampled
    note = "servers run elsewhere; this host's GPUs are not sampled: give dcgm_url or agent_url"
    assert list(task.notes) == [note] * noted


@pytest.mark.parametrize(
    "options",
    [
        TelemetryOptions(nvml="never"),
        TelemetryOptions(dcgm_url="http://192.0.2.1:9400/metrics"),
        TelemetryOptions(agent_url="http://192.0.2.1:9401/metrics"),
    ],
)
def test_who_asks_elsewhere_or_does_not_want_to_is_told_nothing(options: TelemetryOptions) -> None:
    servers = {"chat": [server(ELSEWHERE, family_name="vllm")]}
    task = task_of(profile(telemetry=options), servers, RunDirectory(Path("/run")))
    assert (task.nvml, task.notes) == (False, ())


def test_under_gevent_it_holds_nobody_up(tmp_path: Path) -> None:
    """While it starts, samples and ends, another greenlet goes on running."""
    code = f"""
from gevent import monkey
monkey.patch_all()
import gevent, sys
from pathlib import Path
from tests.telemetry import test_process as t
turns = 0
def turn():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.001)
gevent.spawn(turn)
directory = t.RunDirectory.create(Path({str(tmp_path)!r}), "test")
said = []
def after(step):
    said.append((step, turns))
with t.Page(t.fixture("tgi")) as engine:
    after("begin")
    telemetry = t.Telemetry.start(t.profile(), {{"chat": [t.server(engine.origin)]}}, directory)
    after("started")
    telemetry.begin(t._clock())
    t.until(lambda: telemetry.latest)
    after("sampled")
    telemetry.end()
    after("ended")
print(telemetry.describe()["state"], telemetry.notes, all(b[1] > a[1] + 3 for a, b in zip(said, said[1:])))
"""
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert out.stdout.split() == ["complete", "[]", "True"], out.stderr


def test_importing_it_loads_no_event_loop() -> None:
    code = "import fairshare_locust.telemetry, sys; print({'gevent', 'locust', 'pynvml'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert out.strip() == "set()"


def _clock() -> RunClock:
    clock = RunClock()
    clock.start(0.0)
    return clock
