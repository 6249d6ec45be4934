"""Tables on the terminal, the page, and the files of a report."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis import report_run
from analysis.figures import load, telemetry
from analysis.load import Slo, Tenant, load_run
from analysis.metrics import METRICS
from analysis.report import numbers
from analysis.report.definitions import definition
from analysis.report.environment import script, style
from analysis.report.html import page
from analysis.report.progress import ProgressBar
from analysis.report.terminal import print_summary
from analysis.summary import summarise
from fairshare_locust.errors import RunDirectoryError
from fairshare_locust.record import RequestRecord
from tests.analysis.build import (
    Sample,
    conducted,
    histogram,
    lost,
    part,
    quick_pictures,
    record,
    run,
    sampled,
    worker,
    write_run,
    write_samples,
)

EVIL = "<script>alert('x')</script>"


def several(tenant: str, count: int) -> list[RequestRecord]:
    return [record(tenant, index, scheduled_s=index * 9.0 / count, gaps_us=[20_000] * 9) for index in range(count)]


def printed(folder: Path, width: int = 80) -> str:
    """What a terminal shows of a run."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(summarise(load_run(folder)), folder / "analysis" / "report.html", console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, start: str) -> str:
    """The first such line from the table of tenants on."""
    return next(line for line in text[text.index("\ntenant ") :].splitlines() if line.startswith(start))


def test_the_verdict_comes_first_with_its_reasons(tmp_path: Path) -> None:
    folder = write_run(tmp_path, several("a", 20) + several("b", 20), info={"workers": [worker(0, cpu_p95=0.99)]})
    text = printed(folder)
    assert text.index("suspect") < text.index("CPU p95 99%") < text.index("tenant ")
    assert "lower the rate" in text


def test_the_tenants_stand_in_a_table(tmp_path: Path) -> None:
    slo = Slo(ttft_ms=1000)
    failed = record("b", 99, outcome="timeout")
    folder = write_run(
        tmp_path, [*several("a", 20), *several("b", 3), failed], [Tenant(id="a", slo=slo), Tenant(id="b")]
    )
    text = printed(folder)
    # TTFT 500 ms, TPOT 20 ms; 20 samples certify p50 only; 200 and 30 tokens in 10 s.
    assert line_of(text, "a ").split() == ["a", "20/20", "0", "500", "~500", "~500", "20.0", "~20.0", "20.0", "100.0%"]
    assert line_of(text, "b ").split() == ["b", "3/4", "1", "~500", "~500", "~500", "~20.0", "~20.0", "3.00", "-"]
    assert "TTFT from schedule: counted from when a request was due" in text
    assert "~ indicative" in text
    assert "failed, b: 1 timeout" in text
    assert str(folder / "analysis" / "report.html") in text.replace("\n", "")


def test_a_report_prints_its_summary(reported: tuple[Path, str]) -> None:
    folder, text = reported
    assert text == printed(folder)


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(tmp_path: Path, width: int) -> None:
    names = ["a-tenant-with-a-name-that-is-longer-than-any-column", "b"]
    info = {"notes": ["a note " * 30], "workers": [worker(0, cpu_p95=0.99, lag_p99_ms=99.0)]}
    text = printed(
        write_run(
            tmp_path / "run",
            [one for name in names for one in several(name, 30)],
            [Tenant(id=n) for n in names],
            info=info,
        ),
        width,
    )
    table = [line for line in text.splitlines() if not line.startswith("report:")]
    assert max(map(len, table)) <= width
    assert "30/30" in line_of(text, "a-tenant")
    assert "60/60" in line_of(text, "total")
    assert ("…" in line_of(text, "a-tenant")) or width > 80


def test_what_is_undefined_is_a_dash(tmp_path: Path) -> None:
    text = printed(write_run(tmp_path, []))
    assert line_of(text, "a ").split() == ["a", "0/0", "0", "-", "-", "-", "-", "-", "0", "-"]


def two_loads(folder: Path, *, late_s: float = 0.0) -> Path:
    """At load 1 chat keeps its SLO, at load 2 it does not; 4 requests each, and 2 of batch."""
    records, parts = [], []
    for place, ttft_s in enumerate((0.1, 0.9)):
        name, start = f"load-{place + 1}/measure", place * 10.0
        parts.append(part(name, start, start + 10, ["chat", "batch"], place + 1))
        for index in range(4):
            due = start + index
            sent = due + late_s * place
            records.append(
                record(
                    "chat",
                    index,
                    phase=name,
                    scheduled_s=due,
                    sent_s=sent,
                    first_token_s=sent + ttft_s,
                    gaps_us=[20_000] * 9,
                    session=f"chat-{index // 2}",
                    turn=index % 2,
                )
            )
        records += [record("batch", index, phase=name, scheduled_s=start + index) for index in range(2)]
    tenants = [Tenant(id="chat", slo=Slo(ttft_ms=500)), Tenant(id="batch")]
    return write_run(folder, records, tenants, info={"phases": parts, "ended_s": 20.0})


def test_a_run_of_several_phases_has_a_table_of_them(tmp_path: Path) -> None:
    text = printed(two_loads(tmp_path))
    joined = " ".join(text.split())
    assert (
        "figures from load-1/measure: highest load at which every SLO held: 1 (2 broke chat's: attainment 0% < 95%)"
        in joined
    )
    assert text.index("figures from") < text.index("tenant ")
    lines = text.splitlines()
    # Ten tokens a request, at 0.1 and 0.9 s and every 20 ms after; 40 tokens of chat in 10 s.
    at = next(index for index, line in enumerate(lines) if line.startswith("load-1/measure, 0 to 10 s, load 1"))
    assert lines[at + 1].split() == ["chat", "4/4", "~100", "~100", "~20.0", "~280", "4.00", "100.0%"]
    assert lines[at + 2].split() == ["batch", "2/2", "~500", "~500", "-", "~500", "0.200", "-"]
    assert lines[at + 3].startswith("load-2/measure, 10 to 20 s, load 2")
    assert lines[at + 4].split() == ["chat", "4/4", "~900", "~900", "~20.0", "~1,080", "4.00", "0.0%"]
    assert "conversations, whole run: chat 4 of 2.00 turns on average" in text
    assert "suspect" not in text


def test_one_phase_has_no_table_of_phases(reported: tuple[Path, str]) -> None:
    folder, text = reported
    assert "figures from" not in text
    assert "conversations" not in text
    assert text.count("tenant ") == 1
    assert "By phase" not in read_page(folder).text


def test_a_phase_that_cannot_be_believed_is_named(tmp_path: Path) -> None:
    folder = two_loads(tmp_path, late_s=0.3)
    text = " ".join(printed(folder, 400).split())
    assert "valid: all" in text  # what the figures are from is sound
    assert "load-2/measure is suspect: chat: send lag p99 300.0 ms" in text
    assert "load-2/measure is suspect: chat: send lag p99 300.0 ms" in page_of(folder).text


def test_the_page_has_the_phases_and_the_figure_of_the_loads(tmp_path: Path) -> None:
    page = page_of(two_loads(tmp_path))
    words = " ".join(page.text.split())
    assert "Figures from load-1/measure: highest load at which every SLO held: 1" in words
    assert words.index("By phase") < words.index("load-2/measure, 10 to 20 s, load 2") < words.index("Fairness")
    assert "conversations, whole run: chat 4 of 2.00 turns on average" in words
    assert load.TITLE in titles_of_pictures(page)
    assert sum(tag == "td" and attributes.get("class") == "bad" for tag, attributes in page.tags) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_phases_keeps_to_the_terminal(tmp_path: Path, width: int) -> None:
    names = ["a-tenant-with-a-name-that-is-longer-than-any-column", "b"]
    parts = [part(f"phase-{place}/measure", place * 10, place * 10 + 10, names) for place in range(2)]
    records = [record(name, index, scheduled_s=index / 2) for name in names for index in range(30)]
    text = printed(
        write_run(tmp_path / "run", records, [Tenant(id=n) for n in names], info={"phases": parts, "ended_s": 20.0}),
        width,
    )
    assert max(len(line) for line in text.splitlines() if not line.startswith("report:")) <= width
    assert text.count("20/20") == 2
    assert text.count("10/10") == 2


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def has_no_script_but_its_own(page: Page) -> bool:
    """Whether the only script is the one that every page has; nothing from a run became an element."""
    return page.text.count(script()) == 1 and [tag for tag, _ in page.tags].count("script") == 1


def titles_of_pictures(page: Page) -> list[str | None]:
    return [attributes["alt"] for tag, attributes in page.tags if tag == "img"]


def page_of(folder: Path) -> Page:
    """The page of a run; its pictures are empty."""
    with quick_pictures():
        report_run(folder)
    return read_page(folder)


def read_page(folder: Path) -> Page:
    return Page((folder / "analysis" / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run directory with its report, of two tenants in one phase, and what was printed."""
    folder = write_run(tmp_path_factory.mktemp("reported"), several("a", 5) + several("b", 5))
    console = Console(file=io.StringIO(), width=80, color_system=None)
    report_run(folder, console=console)
    assert isinstance(console.file, io.StringIO)
    return folder, console.file.getvalue()


def test_whatever_comes_from_the_run_is_escaped(tmp_path: Path) -> None:
    server = {"endpoint": EVIL, "engine": EVIL, "sharing": EVIL, "simulated": True, "command": [EVIL], "model": EVIL}
    info = {
        "name": EVIL,
        "plan": EVIL,
        "notes": [EVIL],
        "servers": [server],
        "versions": {EVIL: EVIL},
        "hosts": [{"hostname": EVIL, "platform": EVIL, "cpu_count": 1}],
    }
    records = [record(EVIL, 0, outcome="http_error", status=500, error=EVIL)]
    page = page_of(write_run(tmp_path, records, [Tenant(id=EVIL)], info=info))
    assert has_no_script_but_its_own(page)
    assert page.text.count(EVIL) >= 10


def test_the_page_loads_nothing_from_elsewhere(reported: tuple[Path, str]) -> None:
    page = read_page(reported[0])
    sources = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert len(sources) > 5
    assert all(source is not None and source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert {"link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    assert has_no_script_but_its_own(page)
    assert not re.search(r"(?:url\(|@import|https?:)", style() + script())


def test_headings_carry_their_formula(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path, several("a", 5) + several("b", 5), cost={"gpu_hour_usd": 1, "gpus": 1}))
    hovers = {attributes.get("title") for _, attributes in page.tags}
    for name in (
        *("scheduled", "completed", "failed", "ttft_scheduled_ms", "tpot_ms", "icl_ms", "output_tokens_per_s"),
        *("slo_attainment", "requests_per_s", "jain_throughput", "service_gap_max_tokens"),
        "cost_per_million_output_tokens",
    ):
        assert definition(METRICS[name]) in hovers


def test_the_page_says_verdict_and_failures(tmp_path: Path) -> None:
    records = [*several("a", 5), record("b", 0, outcome="http_error", status=503, error="overloaded")]
    page = page_of(write_run(tmp_path, records, info={"workers": [worker(0, cpu_p95=0.99)]}))
    assert page.text.index("CPU p95 99%") < page.text.index("What each tenant got")
    assert "overloaded" in page.text
    assert "Simulated server" in page.text
    assert "irtual time" not in page.text


def test_a_run_in_virtual_time_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path, several("a", 5) + several("b", 5), info={"time": "virtual"})
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with quick_pictures():
        report_run(folder, console=console)
    assert "Simulated, virtual time" in read_page(folder).text
    assert "Simulated server" not in read_page(folder).text
    assert isinstance(console.file, io.StringIO)
    assert "example · window 0 to 10 s · simulated, virtual time" in console.file.getvalue()


E = "http://127.0.0.1:40001"
REAL = {"endpoint": E, "engine": "external", "sharing": "logical", "simulated": False, "command": [], "model": "m"}


def observed(folder: Path, **values: object) -> Path:
    """A run with a server and a GPU that were sampled."""
    records = [record(name, index, scheduled_s=index + 1.0, endpoint=E) for name in "ab" for index in range(4)]
    server = [
        *sampled(E, "kv_cache_usage", (1, 0.5), (4.25, 0.75)),
        *sampled(E, "requests_running", (1, 4), (2, 6)),
        *sampled(E, "preemptions_total", (0, 0), (9, 12)),
        *sampled(E, "prefix_cache_queries_tokens_total", (0, 0), (5, 100), (10, 200)),
        *sampled(E, "prefix_cache_hits_tokens_total", (0, 0), (5, 45), (10, 90)),
        *histogram(E, "ttft_seconds", (0, 0, (0, 0, 0)), (9.9, 3.92, (0, 8, 8))),
        *histogram(E, "queue_seconds", (0, 0, (0, 0, 0)), (9.9, 0.8, (4, 8, 8))),
    ]
    gpu = [
        *sampled("SIM-1", "gpu_utilization_ratio", (1, 0.5), (3, 1.0)),
        *sampled("SIM-1", "memory_used_bytes", (1, 2**30), (3, 3 * 2**30)),
        *sampled("SIM-1", "memory_total_bytes", (1, 24 * 2**30)),
        *sampled("SIM-1", "energy_j_total", (0, 0), (10, 400)),
        *sampled("SIM-1", "throttle_sw_power_cap", (1, 0), (2, 1)),
    ]
    device = {"device": "SIM-1", "name": "Simulated GPU", "simulated": True}
    missing = {"power_w": "not sent by the exporter", "temperature_c": "not sent by the exporter"}
    sources = [{"source": "dcgm", "devices": [device], "unsupported": {"SIM-1": missing}, "problems": []}]
    write_samples(folder, gpu=gpu, server=server, gpu_source="dcgm")
    return write_run(folder, records, info={"telemetry": {"state": "complete", "sources": sources}, **values})


def test_server_and_gpu_stand_in_a_few_lines(tmp_path: Path) -> None:
    text = printed(observed(tmp_path), 1000)
    lines = [line.strip() for line in text.splitlines()]
    assert (
        f"server {E}, all its tenants: KV cache peak 75.0% at 4.2 s, mean 62.5%, running peak 6 at 2 s, "
        "12 preemptions, prefix-cache hit rate 45.0%"
    ) in lines
    # 8 requests of 500 ms each by the client.
    assert (
        "TTFT by the server: mean 490 ms, p95 100 to 1,000 ms (n = 8); by the client, over the same time: mean 500 ms, "
        "p95 500 ms (n = 8); they agree"
    ) in lines
    assert (
        "GPU Simulated GPU (simulated, dcgm): utilisation mean 75.0%, peak 100.0% at 3 s, "
        "memory peak 3.00 GiB of 24.0 GiB, throttled in 50.0% of samples: held back to keep to the power limit"
    ) in lines
    # One token a request: 8 in the window.
    assert "energy: 50.0 J per output token (400 J, from the energy counter, simulated)" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_server_and_gpu_keep_to_the_terminal(tmp_path: Path, width: int) -> None:
    text = printed(observed(tmp_path / "run"), width)
    assert max(len(line) for line in text.splitlines() if not line.startswith("report:")) <= width


@pytest.mark.parametrize(
    ("telemetry", "server", "gpu"),
    [
        (None, "the run has no record of telemetry", "the run has no record of telemetry"),
        ({"state": "off", "sources": []}, "nothing was asked", "the servers are simulated"),
        ({"state": "lost", "sources": []}, "telemetry ended before it could tell", "telemetry ended before it could"),
        (
            {
                "sources": [
                    {"source": "nvml", "problems": ["there is no driver"]},
                    {"source": "server_metrics", "problems": ["404 at http://x/metrics"]},
                ]
            },
            "404 at http://x/metrics",
            "there is no driver",
        ),
        (
            {"sources": [{"source": "nvml", "works": True}, {"source": "server_metrics", "problems": []}]},
            "no sample was taken",
            "no sample was taken",
        ),
    ],
)
def test_without_telemetry_a_line_says_why(tmp_path: Path, telemetry: object, server: str, gpu: str) -> None:
    folder = write_run(tmp_path, several("a", 5) + several("b", 5), info={"telemetry": telemetry})
    text = printed(folder)
    assert f"server metrics: none; {server}" in text
    assert f"GPU: none sampled; {gpu}" in text
    assert f"server metrics: none; {server}" in page_of(folder).text


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ({"nvml": "never", "server_metrics": "auto"}, ["server metrics: none; 404", "GPU: none sampled; the profile"]),
        (
            {"nvml": "auto", "server_metrics": "never"},
            ["server metrics: none; the profile", "GPU: none sampled; the s"],
        ),
        (
            {"nvml": "never", "dcgm_url": "http://gpu:9400/metrics", "server_metrics": "never"},
            ["server metrics: none; the profile asks for none", "GPU: none sampled; the servers run elsewhere"],
        ),
    ],
)
def test_a_profile_that_asks_for_no_telemetry_is_the_reason(
    tmp_path: Path, wanted: dict[str, str], lines: list[str]
) -> None:
    problem = {"source": "server_metrics", "problems": ["404 at http://x/metrics"]}
    info = {"telemetry": {"sources": [problem], "notes": ["404"]}, "servers": [REAL]}
    text = printed(write_run(tmp_path, several("a", 5) + several("b", 5), info=info, telemetry=wanted))
    assert [line for line in lines if line not in text] == []


def two_boards(folder: Path, *samples: Sample, **values: Any) -> str:
    """What is printed of a run with two GPUs of one model."""
    uuids = ["GPU-aaaaaaaa-1111", "GPU-bbbbbbbb-2222"]
    gpu = [sample for uuid in uuids for sample in sampled(uuid, "power_w", (0, 50), (10, 50))]
    sources = [{"source": "nvml", "devices": [{"uuid": uuid, "name": "NVIDIA L4"} for uuid in uuids]}]
    write_samples(folder, gpu=[*gpu, *samples])
    records = [record(name, index, scheduled_s=index + 1.0, endpoint=E) for name in "ab" for index in range(4)]
    info = {"telemetry": {"sources": sources}, "servers": [REAL]}
    return printed(write_run(folder, records, info=info, **values), 1000)


def test_two_boards_of_one_model_are_told_apart(tmp_path: Path) -> None:
    text = two_boards(tmp_path)
    assert "GPU NVIDIA L4 GPU-aaaaaaaa: power mean 50.0 W" in text
    assert "GPU NVIDIA L4 GPU-bbbbbbbb: power mean 50.0 W" in text
    assert "energy per output token: undefined, 2 GPUs sampled, which of them served is not known" in text


def test_energy_says_of_which_boards_it_is(tmp_path: Path) -> None:
    both = two_boards(tmp_path / "both", cost={"gpu_hour_usd": 1, "gpus": 2})
    assert "energy of 2 GPUs: 125 J per output token (1,000 J, from power over time)" in both
    process = sampled(f"GPU-bbbbbbbb-2222/{E}", "process_memory_bytes", (1, 2**30))
    one = two_boards(tmp_path / "one", *process)
    assert "energy of 1 GPU, of 2 sampled: 62.5 J per output token (500 J, from power over time)" in one
    words = " ".join(page_of(tmp_path / "one").text.split())
    assert f"process GPU-bbbbbbbb-2222: a, b ({E})" in words


def test_a_server_that_was_not_sampled_to_the_end_says_so(tmp_path: Path) -> None:
    write_samples(tmp_path, server=sampled(E, "preemptions_total", *((t_s, t_s) for t_s in range(5))))
    text = printed(write_run(tmp_path, several("a", 5) + several("b", 5)), 1000)
    assert "its counts are undefined: of 10.0 s measured, up to 6.0 s on end were not sampled" in text


def test_what_an_engine_tells_of_its_requests_is_printed(tmp_path: Path) -> None:
    engine = {"queued_s": 0.02, "prefill_s": 0.3, "decode_s": 0.1}
    records = [record("a", index, engine=engine) for index in range(20)] + several("b", 5)
    text = printed(write_run(tmp_path, records), 1000)
    assert "server metrics: none" in text
    assert (
        "a, by the engine: time in the queue p50 20.0 ms, p95 ~20.0 ms (n = 20); "
        "time of compute p50 400 ms, p95 ~400 ms (n = 20)"
    ) in text
    assert "b, by the engine" not in text


def test_the_page_has_tables_of_server_and_gpu(tmp_path: Path) -> None:
    page = page_of(observed(tmp_path))
    words = " ".join(page.text.split())
    assert words.index("Server and GPU") < words.index("Figures")
    for said in (
        f"server {E} (a, b)",
        "KV-cache use 62.5% 75.0% at 4.2 s",
        "running 5.00 requests 6.00 requests at 2 s",
        "prefix-cache hit rate 45.0% of 200 tokens looked up",
        "queue, by the server mean 100 ms, p95 100 to 1,000 ms (n = 8)",
        "mean time in the queue / mean TTFT 20.4%",
        "GPU Simulated GPU (simulated, dcgm)",
        "GPU utilisation 75.0% 100.0% at 3 s",
        "memory used 2.00 GiB 3.00 GiB at 3 s",
        "energy 400 J, from the energy counter",
        "throttled: held back to keep to the power limit 50.0% of samples",
        "unsupported power, temperature: not sent by the exporter",
    ):
        assert said.replace(" ", "") in words.replace(" ", "")  # cells stand side by side
    assert METRICS["gpu_utilization_ratio"].formula in {attributes.get("title") for _, attributes in page.tags}
    assert telemetry.TITLE in titles_of_pictures(page)


def by_two(folder: Path, second: dict[str, Any], late_s: float = 0.0) -> Path:
    """A run of two load processes; the second waits so much longer for first tokens."""
    records = [
        record(
            "a", index, scheduled_s=index / 20, first_token_s=index / 20 + 0.1 + late_s * (index % 2), worker=index % 2
        )
        for index in range(200)
    ]
    return write_run(folder, [*records, record("b")], info={"workers": [conducted(0), second]})


def shown(folder: Path) -> tuple[str, Page]:
    """On a wide terminal, and as a page without its pictures."""
    return printed(folder, 400), Page(page(summarise(load_run(folder)), []))


def test_several_load_processes_have_a_table(tmp_path: Path) -> None:
    text, html = shown(by_two(tmp_path, lost(1, a=67, b=None)))
    assert "load process 1 (vm) was lost at 4.2 s (it went silent for 10 s)" in text
    assert "warning" not in text
    assert "Load processes" not in text
    words = " ".join(html.text.split())
    assert "Warning" not in words
    assert words.index("load process 1 (vm) was lost at 4.2 s") < words.index("What each tenant got")
    assert words.index("Checks") < words.index("Load processes") < words.index("Where the numbers come from")
    # The first one's 101st request is b's.
    assert "0vmcomplete101~0 1.00 20.0% 0.250 ± 0.100 1vmlost100~0 1.00 20.0% 0.250 ± 0.100" in words
    lags = [attributes.get("title") or "" for tag, attributes in html.tags if tag == "td"]
    assert sum(lag.startswith("101 samples") for lag in lags) == 1


def test_a_load_process_that_waits_longer_is_told(tmp_path: Path) -> None:
    text, html = shown(by_two(tmp_path, conducted(1, hostname=EVIL), late_s=0.006))
    said = (
        f"load process 1 ({EVIL}): a's TTFT from send is 6.00 ms longer than with the other load processes at the "
        "same time (p50 106 against 100 ms, 100 requests, p = 8e-06): look at its network path to the server, and at "
        "its machine"
    )
    assert f"warning: {said}\n" in text
    assert text.count("warning") == 1  # that the other one waits less is the same
    assert "valid: all" in text
    assert f"Warning: {said}." in html.text
    assert has_no_script_but_its_own(html)


def test_all_that_wait_longer_are_told_and_not_who_waits_less(tmp_path: Path) -> None:
    records = [
        record("a", index, scheduled_s=index / 30, first_token_s=index / 30 + ttft_s, worker=index % 3)
        for index in range(300)
        for ttft_s in [0.09 if index % 3 else 0.05]
    ]
    info = {"workers": [{"index": number} for number in range(3)]}
    text, _ = shown(write_run(tmp_path, records, [Tenant(id="a")], info=info))
    told = [line for line in text.splitlines() if line.startswith("warning: load process")]
    assert [line.partition(" (p50")[0] for line in told] == [
        f"warning: load process {number}: a's TTFT from send is 20.0 ms longer than with the other load processes at "
        "the same time"
        for number in (1, 2)
    ]


def test_a_single_load_process_has_no_table(tmp_path: Path) -> None:
    _, html = shown(write_run(tmp_path, several("a", 5) + several("b", 5)))
    assert "Load processes" not in html.text


def test_names_of_devices_and_reasons_are_escaped(tmp_path: Path) -> None:
    missing = {EVIL: {EVIL: EVIL}}
    source = {"source": "nvml", "devices": [{"uuid": EVIL, "name": EVIL}], "unsupported": missing, "problems": [EVIL]}
    write_samples(tmp_path, gpu=sampled(EVIL, EVIL, (1, 2)), server=sampled(EVIL, "kv_cache_usage", (1, 0.5)))
    folder = write_run(tmp_path, several("a", 5) + several("b", 5), info={"telemetry": {"sources": [source]}})
    page = page_of(folder)
    assert has_no_script_but_its_own(page)
    assert page.text.count(EVIL) >= 4


def test_every_number_has_a_label_and_a_formula(tmp_path: Path) -> None:
    content = summarise(run(tmp_path, several("a", 2))).content
    names = {*content["totals"], *content["fairness"]} - {"weight", "series", "output_tokens", "ci95", "slo_broken"}
    assert {name.removesuffix("_adjusted") for name in names} <= set(METRICS)


def test_a_report_writes_its_files_again_and_the_same(reported: tuple[Path, str]) -> None:
    folder, _ = reported
    files = sorted(path for name in ("analysis", "figures") for path in (folder / name).iterdir())
    first = [path.read_bytes() for path in files]
    report_run(folder)
    assert [path.read_bytes() for path in files] == first
    assert json.loads((folder / "analysis" / "summary.json").read_bytes())["schema"] == 1
    assert sorted(path.name for path in (folder / "analysis").iterdir()) == [
        "report-ieee.tex",
        "report.html",
        "report.md",
        "report.tex",
        "requests.parquet",
        "summary.csv",
        "summary.json",
        "timeseries.parquet",
    ]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, [])
    (tmp_path / "analysis").write_text("a file in the way")
    with pytest.raises(RunDirectoryError, match=r"analysis.* can't be written: File exists"):
        report_run(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (0, "0"),
        (0.2042, "0.204"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (20.44, "20.4"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (float("inf"), "inf"),
    ],
)
def test_numbers(value: float | None, expected: str) -> None:
    assert numbers.number(value) == expected


@pytest.mark.parametrize(("value_s", "expected"), [(0.0, "0"), (70.0, "70"), (6.10142, "6.1"), (3600.5, "3,600.5")])
def test_stamps(value_s: float, expected: str) -> None:
    assert numbers.stamp(value_s) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, "-"), (1.0, "100.0%"), (0.99999, "99.9%"), (0.5, "50.0%")])
def test_shares(value: float | None, expected: str) -> None:
    assert numbers.share(value) == expected


def bar_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> str:
    now = 100.0
    monkeypatch.setattr("analysis.report.progress.time.monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with ProgressBar(console) as bar:
        stage = bar.stage("reading records", 0.0, 0.5)
        now += seconds
        stage(0.5)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_bar_shows_after_a_second_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar_after(0.9, monkeypatch) == ""
    assert re.search(r"reading records .* 25%", bar_after(1.1, monkeypatch))
