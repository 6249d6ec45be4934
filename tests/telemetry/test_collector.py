"""The collector's process: from its task to its files, and every way to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairshare_locust.telemetry.task import Identity, Task
from tests.telemetry.collecting import Collecting, polled, rows, task
from tests.telemetry.page import Page, fixture
from tests.telemetry.stub import Stub


def test_a_task_says_the_same_after_its_way_through_a_pipe(tmp_path: Path) -> None:
    whole = task(
        tmp_path, "http://a", "http://b", nvml=True, servers={12: "http://a"}, agent_token_env="T", notes=("n",)
    )
    assert Task.from_line(whole.to_line()) == whole
    keyed = polled("http://a", identities=(Identity(headers={"X-Team": "a"}), Identity(token_env="KEY")))
    whole = task(tmp_path, endpoints=(keyed,))
    assert Task.from_line(whole.to_line()) == whole


def test_what_is_to_be_known_of_a_task_is_told_first(tmp_path: Path) -> None:
    with Page(fixture("tgi")) as engine, Collecting(task(tmp_path, engine.origin, notes=("heed this",))) as collecting:
        collecting.wait_for("ready")
        collecting.end()
    assert collecting.said[0] == {"note": "heed this"}


def test_what_is_sampled_from_begin_to_end_is_in_the_files(tmp_path: Path) -> None:
    with (
        Page(fixture("tgi")) as engine,
        Page(fixture("dcgm")) as exporter,
        Collecting(task(tmp_path, engine.origin, dcgm_url=exporter.url)) as collecting,
    ):
        ready = collecting.wait_for("ready")
        assert [(source["source"], source["works"], source["problems"]) for source in ready] == [
            ("dcgm", True, []),
            ("server_metrics", True, []),
        ]
        collecting.begin()
        engine.wait_for(5)
        exporter.wait_for(2)
        engine.text = engine.text.replace("tgi_queue_size 4", "tgi_queue_size 6")
        engine.wait_for(2)
        done = collecting.end()
    server = rows(tmp_path / "server.csv")
    gpu = rows(tmp_path / "gpu.csv")
    assert list(server[0]) == ["t_s", "source", "endpoint", "metric", "value"]
    assert list(gpu[0]) == ["t_s", "source", "device", "metric", "value"]
    assert {row["endpoint"] for row in server} == {engine.origin}
    waiting = [float(row["value"]) for row in server if row["metric"] == "requests_waiting"]
    assert waiting == sorted(waiting)
    assert set(waiting) == {4, 6}
    times = [float(row["t_s"]) for row in server]
    assert times == sorted(times)
    assert times[0] >= 0
    assert {row["value"] for row in gpu if row["metric"] == "power_w"} == {"68.25"}
    assert {row["device"] for row in gpu} == {"GPU-a", "GPU-b/gi1", "GPU-b/gi2"}
    # The first and the last sample have the histograms.
    whole = [float(row["t_s"]) for row in server if row["metric"] == "queue_seconds_count"]
    assert whole[0] == times[0]
    assert whole[-1] == times[-1]
    sources = {source["source"]: source for source in done["sources"]}
    assert sources["server_metrics"]["samples"] == len(waiting)
    assert sources["server_metrics"]["interval_s"] == 0.02
    assert sources["server_metrics"]["tenants"] == ["chat"]
    assert sources["server_metrics"]["subject"] == engine.origin
    assert sources["dcgm"]["devices"][0]["name"] == "NVIDIA L4"
    assert done["files"] == {
        "gpu.csv": {"rows": len(gpu), "rows_lost": 0},
        "server.csv": {"rows": len(server), "rows_lost": 0},
    }
    assert [note for note in collecting.notes if "no value of GPU-a changed" not in note] == []


def test_nothing_is_written_before_t0(tmp_path: Path) -> None:
    with Page(fixture("tgi")) as engine, Collecting(task(tmp_path, engine.origin)) as collecting:
        collecting.wait_for("ready")
        done = collecting.end()
    assert not (tmp_path / "server.csv").exists()
    assert done["sources"][0]["samples"] == 0


def test_the_newest_values_are_told_while_it_runs(tmp_path: Path) -> None:
    with (
        Page(fixture("tgi")) as engine,
        Page(fixture("dcgm")) as exporter,
        Collecting(task(tmp_path, engine.origin, dcgm_url=exporter.url)) as collecting,
    ):
        collecting.wait_for("ready")
        collecting.begin()
        engine.wait_for(2)
        exporter.wait_for(2)
        latest = collecting.wait_for("latest")
        collecting.end()
    server = latest["server"][engine.origin]
    assert server.pop("t_s") >= 0
    assert server == {"requests_running": 7, "requests_waiting": 4}
    assert latest["gpu"]["GPU-a"]["power_w"] == 68.25


def test_an_endpoint_without_metrics_is_told_once_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        Page('{"detail":"Not Found"}', status=404) as engine,
        Collecting(task(tmp_path, engine.origin)) as collecting,
    ):
        (source,) = collecting.wait_for("ready")
        assert not source["works"]
        assert source["problems"] == [f"{engine.origin}/metrics answers HTTP 404"]
        collecting.begin()
        engine.wait_for(1)
        done = collecting.end()
    assert collecting.notes == source["problems"]
    assert not (tmp_path / "server.csv").exists()
    assert done["sources"][0]["samples"] == 0
    assert done["sources"][0]["failures"] >= 1


def test_a_server_that_dies_leaves_the_others_alone(tmp_path: Path) -> None:
    with (
        Page(fixture("tgi")) as lives,
        Page(fixture("tgi")) as dies,
        Collecting(task(tmp_path, lives.origin, dies.origin)) as collecting,
    ):
        collecting.wait_for("ready")
        collecting.begin()
        dies.wait_for(2)
        dies.status = 503
        assert collecting.wait_for("note") == f"{dies.origin}/metrics answers HTTP 503"
        lives.wait_for(3)
        done = collecting.end()
    by_subject = {source["subject"]: source for source in done["sources"]}
    assert by_subject[dies.origin]["failures"] >= 1
    assert by_subject[lives.origin]["failures"] == 0
    assert {row["endpoint"] for row in rows(tmp_path / "server.csv")} == {lives.origin, dies.origin}


def test_a_server_that_does_not_answer_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with (
        Page(fixture("tgi")) as lives,
        Page(fixture("tgi")) as hangs,
        Collecting(task(tmp_path, lives.origin, hangs.origin)) as collecting,
    ):
        collecting.wait_for("ready")
        collecting.begin()
        hangs.wait_for(2)
        hangs.gate.clear()
        hangs.wait_for(1)
        lives.wait_for(2)
        done = collecting.end()
    assert [source["subject"] for source in done["sources"]] == [lives.origin, hangs.origin]
    assert all(source["samples"] for source in done["sources"])


def test_when_the_run_dies_it_writes_what_it_has_and_stops(tmp_path: Path) -> None:
    with Page(fixture("tgi")) as engine, Collecting(task(tmp_path, engine.origin)) as collecting:
        collecting.wait_for("ready")
        collecting.begin()
        engine.wait_for(3)
        assert collecting.finish() == 0
    assert not [message for message in collecting.said if "done" in message]
    assert rows(tmp_path / "server.csv")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_end_too(tmp_path: Path, number: signal.Signals) -> None:
    with Page(fixture("tgi")) as engine, Collecting(task(tmp_path, engine.origin)) as collecting:
        collecting.wait_for("ready")
        collecting.begin()
        engine.wait_for(3)
        collecting.process.send_signal(number)
        assert collecting.process.wait() == 0
    assert rows(tmp_path / "server.csv")


def test_killed_it_leaves_what_it_flushed(tmp_path: Path) -> None:
    with Page(fixture("tgi")) as engine, Collecting(task(tmp_path, engine.origin)) as collecting:
        collecting.wait_for("ready")
        collecting.begin()
        engine.wait_for(2)
        collecting.wait_for("latest")  # comes after a flush
        collecting.process.kill()
        collecting.process.wait()
    whole, _, cut = (tmp_path / "server.csv").read_bytes().rpartition(b"\n")
    assert cut == b""
    assert whole.count(b"requests_waiting") >= 1


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    with (
        Page(fixture("tgi")) as engine,
        Collecting(task(tmp_path, engine.origin), file_bytes=100) as collecting,
    ):
        collecting.wait_for("ready")
        collecting.begin()
        collecting.wait_for("latest")
        engine.wait_for(2)
        collecting.wait_for("latest")
        engine.wait_for(2)
        done = collecting.end()
    assert [note for note in collecting.notes if "can't be written" in note] == collecting.notes
    assert len(collecting.notes) == 1
    assert (tmp_path / "server.csv").stat().st_size == 100
    assert done["sources"][0]["failures"] == 0
    whole_lines = (tmp_path / "server.csv").read_bytes().count(b"\n")
    assert done["files"]["server.csv"]["rows"] == whole_lines - 1
    assert done["files"]["server.csv"]["rows_lost"] > 0


def test_a_token_is_sent_and_never_told(tmp_path: Path) -> None:
    endpoint = "http://127.0.0.1:1"
    with Page(fixture("tgi")) as engine:
        asked = task(
            tmp_path,
            endpoints=(polled(engine.origin, identities=(Identity(token_env="ENGINE_KEY"),)), polled(endpoint)),
        )
        with Collecting(asked, environment={"ENGINE_KEY": "very-secret"}) as collecting:
            collecting.wait_for("ready")
            collecting.begin()
            engine.wait_for(2)
            engine.status = 401
            collecting.wait_for("note")
            collecting.end()
            assert collecting.process.stderr is not None
            heard = repr(collecting.said).encode() + collecting.process.stderr.read()
    assert engine.asked[0]["Authorization"] == "Bearer very-secret"
    for text in (heard, asked.to_line(), (tmp_path / "server.csv").read_bytes()):
        assert b"very-secret" not in text


@pytest.mark.parametrize(
    "line", [b"", b"hello\n", b"[]\n", b'{"directory": "x"}\n', b'{"endpoints": [], "servers": {}}\n']
)
def test_without_a_task_it_says_so(line: bytes) -> None:
    with Collecting(None) as collecting:
        out, err = collecting.process.communicate(line)
    assert collecting.process.returncode == 2
    assert out == b""
    assert b"no task on standard input" in err


def test_it_loads_no_event_loop() -> None:
    code = "import fairshare_locust.telemetry.__main__, sys; print('gevent' in sys.modules, 'locust' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert out.split() == ["False", "False"]


def test_the_gpus_of_this_host(tmp_path: Path, stub: Stub) -> None:
    asked = task(tmp_path, nvml=True, nvml_interval_s=0.1)
    with Collecting(asked, environment=stub.environment) as collecting:
        (ready,) = collecting.wait_for("ready")
        assert ready == {"source": "nvml", "subject": None, "works": True, "problems": []}
        collecting.begin()
        collecting.wait_for("latest")
        done = collecting.end()
    sampled = rows(tmp_path / "gpu.csv")
    assert {row["source"] for row in sampled} == {"nvml"}
    assert {"power_w", "energy_j_total", "memory_used_bytes", "gpu_utilization_ratio"} <= {
        row["metric"] for row in sampled
    }
    # Even a short run has the first and the last value of what is read only now and then.
    assert len([row for row in sampled if row["metric"] == "pcie_tx_bytes_per_s"]) == 2
    assert len([row for row in sampled if row["metric"] == "process_memory_bytes"]) == 4  # of two processes
    (source,) = done["sources"]
    assert source["devices"][0]["uuid"] in {row["device"] for row in sampled}
    assert source["samples"] >= 2


def test_without_a_gpu_there_is_a_line_that_says_so(tmp_path: Path) -> None:
    with Collecting(task(tmp_path, nvml=True), environment={"LD_LIBRARY_PATH": str(tmp_path)}) as collecting:
        (ready,) = collecting.wait_for("ready")
        if ready["works"]:
            pytest.skip("this host has a GPU")
        collecting.begin()
        collecting.end()
    assert len(collecting.notes) == 1
    assert collecting.notes[0].startswith("no GPU of this host is sampled: ")
    assert not (tmp_path / "gpu.csv").exists()
