"""All numbers of a run."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from analysis.load import Slo, Tenant
from analysis.summary import Summary, summarise
from fairshare_locust.record import RequestRecord
from tests.analysis.build import conducted, lost, part, record, run, sampled, write_samples

TENANTS = (Tenant(id="a", weight=1.0, slo=Slo(ttft_ms=600.0)), Tenant(id="b", weight=2.0))


def example() -> list[RequestRecord]:
    """Three requests in the window from 0 to 10 s."""
    return [
        # Chunks of 1, 2 and 2 tokens at 1.51, 1.61 and 1.91 s.
        record(
            "a",
            0,
            scheduled_s=1.0,
            sent_s=1.01,
            first_token_s=1.51,
            gaps_us=[100_000, 300_000],
            last_token_s=1.91,
            ended_s=1.92,
            input_tokens=10,
            output_tokens=5,
            chunk_tokens=[1, 2, 2],
            requested_output_tokens=5,
        ),
        # Chunks of 2 tokens at 9.8, 9.9, 10.0 and 10.1 s: two of them in the window.
        record(
            "a",
            1,
            scheduled_s=9.0,
            first_token_s=9.8,
            gaps_us=[100_000] * 3,
            last_token_s=10.1,
            ended_s=10.1,
            input_tokens=20,
            output_tokens=8,
            requested_output_tokens=8,
        ),
        # Tokens at 3.0 and 3.5 s, then nothing until it failed at 8 s.
        record(
            "b",
            0,
            scheduled_s=2.0,
            first_token_s=3.0,
            gaps_us=[500_000],
            ended_s=8.0,
            outcome="timeout",
            error="no token for 4.5 s",
            input_tokens=30,
            requested_output_tokens=10,
        ),
    ]


def summary_of(folder: Path, records: list[RequestRecord], *tenants: Tenant, **values: Any) -> Summary:
    return summarise(run(folder, records, *tenants, **values))


@pytest.fixture
def worked(tmp_path: Path) -> dict[str, Any]:
    cost = {"gpu_hour_usd": 3.6, "gpus": 1}  # 0.01 dollars for the window
    content: dict[str, Any] = json.loads(summary_of(tmp_path, example(), *TENANTS, cost=cost).to_json())
    return content


def test_the_top_keys_stand_in_order(worked: dict[str, Any]) -> None:
    assert ", ".join(worked) == (
        "schema, run, verdict, window, tenants, totals, fairness, phases, timeline, "
        "interference, gpu, server, cost, locust, sources, steady, warnings, answer"
    )
    assert worked["interference"] is worked["gpu"] is worked["server"] is None


def test_counts_and_rates_worked_by_hand(worked: dict[str, Any]) -> None:
    a, b, total = worked["tenants"]["a"], worked["tenants"]["b"], worked["totals"]
    assert [entry["scheduled"] for entry in (a, b, total)] == [2, 1, 3]
    assert [entry["completed"] for entry in (a, b, total)] == [2, 0, 2]
    assert [entry["failed"]["timeout"] for entry in (a, b, total)] == [0, 1, 1]
    assert [entry["output_tokens_per_s"] for entry in (a, b, total)] == [0.9, 0.2, 1.1]
    assert [entry["requests_per_s"] for entry in (a, b, total)] == [0.1, 0.0, 0.1]  # the second ended at 10.1 s
    assert [entry["asked_requests_per_s"] for entry in (a, b, total)] == [0.2, 0.1, 0.3]
    assert [entry["offered_requests_per_s"] for entry in (a, b, total)] == [0.2, 0.1, 0.3]
    assert [entry["goodput_requests_per_s"] for entry in (a, b, total)] == [0.1, 0.0, 0.1]
    assert [entry["goodput_tokens_per_s"] for entry in (a, b, total)] == [0.5, 0.0, 0.5]
    assert [entry["slo_attainment"] for entry in (a, b, total)] == [0.5, None, 0.5]
    assert a["makespan_tokens_per_s"] == pytest.approx(13 / 9.09)
    assert b["makespan_tokens_per_s"] == pytest.approx(2 / 1.5)
    assert total["makespan_tokens_per_s"] == pytest.approx(15 / 9.09)
    assert [entry["starvation_s_max"] for entry in (a, b, total)] == [0.8, 4.5, 4.5]
    assert worked["window"]["start_s"] == 0
    assert worked["window"]["end_s"] == 10


def test_latencies_worked_by_hand(worked: dict[str, Any]) -> None:
    def values(entry: dict[str, Any], name: str) -> tuple[Any, ...]:
        return tuple(entry[name][key] for key in ("count", "mean", "p50", "p90"))

    a, b, total = worked["tenants"]["a"], worked["tenants"]["b"], worked["totals"]
    assert values(a, "ttft_ms") == (2, 650.0, 500.0, 800.0)
    assert values(a, "ttft_scheduled_ms") == (2, 655.0, 510.0, 800.0)
    assert values(b, "ttft_ms") == (1, 1000.0, 1000.0, 1000.0)
    assert values(total, "ttft_ms") == (3, pytest.approx(2300 / 3), 800.0, 1000.0)
    assert values(a, "tpot_ms") == (2, pytest.approx((100 + 300 / 7) / 2), pytest.approx(300 / 7), 100.0)
    assert values(b, "tpot_ms") == (1, 500.0, 500.0, 500.0)
    assert values(a, "icl_ms") == (5, 140.0, 100.0, 300.0)
    assert values(total, "icl_ms") == (6, 200.0, 100.0, 500.0)
    assert values(a, "itl_ms") == (4, 100.0, 50.0, 150.0)  # of the first request only
    assert a["itl_ms"]["share_of_requests"] == 0.5
    assert total["itl_ms"]["share_of_requests"] == pytest.approx(1 / 3)
    assert values(a, "e2e_ms") == (2, 1000.0, 900.0, 1100.0)
    assert values(a, "e2e_scheduled_ms") == (2, 1005.0, 910.0, 1100.0)
    assert values(b, "e2e_ms") == (0, None, None, None)
    assert values(a, "send_lag_ms") == (2, 5.0, 0.0, 10.0)
    assert values(total, "ttft_ms_adjusted") == (3, "inf", 800.0, "inf")
    assert values(b, "e2e_ms_adjusted") == (1, "inf", "inf", "inf")


def test_fairness_worked_by_hand(worked: dict[str, Any]) -> None:
    fairness = worked["fairness"]
    # 0.9 / 1 and 0.2 / 2 tokens/s
    assert fairness["jain_throughput"] == pytest.approx(1.0 / (2 * (0.81 + 0.01)))
    assert fairness["max_min_ratio"] == pytest.approx(9.0)
    # a: 10 + 20 + 2 · 9 = 48, over weight 1; b: 30 + 2 · 2 = 34, over weight 2
    assert fairness["jain_service"] == pytest.approx(65**2 / (2 * (48**2 + 17**2)))
    # a got 48 of 20 + 36; b got 34 of 30 + 2 · 10
    assert fairness["jain_demand"] == pytest.approx((6 / 7 + 0.68) ** 2 / (2 * ((6 / 7) ** 2 + 0.68**2)))
    assert fairness["attainment_gap"] == 0  # only a has an SLO
    assert fairness["service_gap_max_tokens"] is None  # never both waiting
    assert fairness["starvation_s_max"] == 4.5
    series = fairness["series"]
    assert series["t_s"] == [0, 5]
    assert series["jain_throughput"] == [pytest.approx(6**2 / (2 * (25 + 1))), 1.0]  # from 5 s on, b is idle
    assert series["starvation_s_max"] == [1.5, 3.0]  # b from 3.5 to 5 s, and from 5 to 8 s
    assert {len(values) for values in series.values()} == {2}


def test_cost_worked_by_hand(worked: dict[str, Any]) -> None:
    assert worked["cost"]["cost_per_million_output_tokens"] == pytest.approx(0.01 / 11 * 1e6)
    assert worked["cost"]["tenants"]["a"] == pytest.approx(0.01 * 48 / 82 / 9 * 1e6)


def test_sources_count_the_whole_run(tmp_path: Path) -> None:
    records = [*example(), record("a", 2, scheduled_s=11.0, phase="drain", tokens_from="chunks")]
    (tmp_path / "locust_stats.csv").write_text(
        "Type,Name,Request Count,Failure Count\nopenai_chat,a,3,0\nopenai_chat,b,1,0\n"
    )
    sources = summary_of(tmp_path, records, *TENANTS).content["sources"]
    assert sources["requests_lines"] == 4
    a, b = sources["tenants"]["a"], sources["tenants"]["b"]
    assert a["records"] == a["by_outcome"]["ok"] == 3
    assert a["by_phase"] == {"measure": 2, "drain": 1}
    assert a["tokens_from"] == {"usage": pytest.approx(2 / 3), "tokenizer": 0, "chunks": pytest.approx(1 / 3)}
    assert (a["agree"], b["agree"], sources["locust_agrees"]) == (True, False, False)  # b's failure is missing
    assert sources["errors"] == [
        {"tenant": "b", "outcome": "timeout", "status": None, "error": "no token for 4.5 s", "count": 1}
    ]


def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (summary_of(tmp_path, example(), *TENANTS) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.to_csv() == second.to_csv()


def test_no_request_leaves_everything_undefined(tmp_path: Path) -> None:
    content = summary_of(tmp_path, []).content
    assert content["verdict"]["status"] == "suspect"
    assert content["tenants"]["a"]["scheduled"] == 0
    assert content["tenants"]["a"]["ttft_ms"]["p50"] is None
    assert content["fairness"]["jain_throughput"] is None
    assert content["fairness"]["series"]["jain_throughput"] == [None, None]


def test_one_tenant_that_got_one_token(tmp_path: Path) -> None:
    content = summary_of(tmp_path, [record()], Tenant(id="a")).content
    assert content["totals"]["output_tokens_per_s"] == 0.1
    assert content["totals"]["tpot_ms"]["count"] == 0
    assert content["fairness"]["jain_throughput"] == 1.0
    assert content["fairness"]["service_gap_max_tokens"] is None
    assert content["cost"] is None


def test_all_failed(tmp_path: Path) -> None:
    records = [record("a", index, outcome="connection_error", error="refused") for index in range(3)]
    content = summary_of(tmp_path, records, Tenant(id="a", slo=Slo(ttft_ms=1))).content
    entry = content["tenants"]["a"]
    assert (entry["completed"], entry["failed"]["connection_error"]) == (0, 3)
    assert entry["slo_attainment"] == 0
    assert entry["ttft_ms"]["count"] == 0
    assert entry["ttft_ms_adjusted"]["p50"] == math.inf
    assert content["fairness"]["jain_demand"] is None


def test_a_window_of_no_length(tmp_path: Path) -> None:
    measure = {"name": "measure", "start_s": 3.0, "end_s": 3.0, "measured": True, "tenants": ["a", "b"]}
    content = summary_of(tmp_path, example(), *TENANTS, info={"phases": [measure]}).content
    assert content["window"]["start_s"] is None
    assert content["totals"]["output_tokens_per_s"] is None
    assert content["fairness"] is None
    assert content["verdict"]["status"] == "suspect"


def test_tenants_alone_are_measured_each_in_its_own_window(tmp_path: Path) -> None:
    phases = [
        {"name": "solo-a/measure", "start_s": 0.0, "end_s": 5.0, "measured": True, "tenants": ["a"]},
        {"name": "solo-b/measure", "start_s": 5.0, "end_s": 15.0, "measured": True, "tenants": ["b"]},
    ]
    records = [
        record("a", 0, scheduled_s=1.0),
        record("a", 1, scheduled_s=6.0),  # in b's window: not a's
        record("b", 0, scheduled_s=6.0, gaps_us=[1000, 1000]),
    ]
    cost = {"gpu_hour_usd": 3.6, "gpus": 1}
    content = summary_of(tmp_path, records, info={"phases": phases, "ended_s": 20.0}, cost=cost).content
    assert content["fairness"] is None
    assert content["window"]["start_s"] is None
    assert content["window"]["tenants"] == {"a": [[0, 5]], "b": [[5, 15]]}
    assert [content["tenants"][name]["output_tokens_per_s"] for name in "ab"] == [1 / 5, 3 / 10]
    assert content["totals"]["scheduled"] == 2
    assert content["totals"]["output_tokens_per_s"] == 4 / 15
    # a: 5 s for 1 token; b: 10 s for 3 tokens, less what a's late request took of them (service 2 of 8).
    assert content["cost"]["tenants"] == {"a": pytest.approx(5e-3 * 1e6), "b": pytest.approx(7.5e-3 / 3 * 1e6)}


def test_a_crashed_run_is_analysed_until_its_last_record(tmp_path: Path) -> None:
    info: dict[str, Any] = {"state": "running", "ended_s": None, "asked": {}}
    content = summary_of(tmp_path, example()[:1], *TENANTS, info=info).content
    assert content["run"]["state"] == "running"
    assert content["window"]["end_s"] == 1.92
    assert content["tenants"]["a"]["output_tokens_per_s"] == 5 / 1.92
    assert any("crashed" in reason for reason in content["verdict"]["reasons"])


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    content = summary_of(tmp_path, example(), *TENANTS, info={"state": "interrupted"}).content
    assert "the run was interrupted at 12.0 s" in content["verdict"]["reasons"][0]


def test_an_incomplete_last_line_is_counted(tmp_path: Path) -> None:
    from analysis.load import load_run
    from tests.analysis.build import write_run

    write_run(tmp_path, example(), TENANTS)
    with open(tmp_path / "requests.jsonl", "ab") as file:
        file.write(record("b", 1).to_json()[:50])
    content = summarise(load_run(tmp_path)).content
    assert content["sources"]["incomplete_lines"] == 1
    assert content["tenants"]["b"]["scheduled"] == 1
    assert any("ends inside a record" in reason for reason in content["verdict"]["reasons"])


def test_the_csv_has_a_row_for_each_tenant_and_the_total(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(summary_of(tmp_path, example(), *TENANTS).to_csv())))
    assert [row["tenant"] for row in rows] == ["a", "b", "total"]
    assert [row["scheduled"] for row in rows] == ["2", "1", "3"]
    assert [row["failed_timeout"] for row in rows] == ["0", "1", "1"]
    assert [row["ttft_ms_p50"] for row in rows] == ["500.0", "1000.0", "800.0"]
    assert rows[1]["slo_attainment"] == ""
    assert rows[1]["e2e_ms_adjusted_p50"] == "inf"


def test_the_timeline_covers_warm_up_and_drain(tmp_path: Path) -> None:
    timeline = summary_of(tmp_path, example(), *TENANTS).curves.timeline
    assert (timeline.edges_s[0], timeline.edges_s[-1]) == (0, 12)
    tokens = (timeline.tokens_per_s * (timeline.edges_s[1:] - timeline.edges_s[:-1])).sum(axis=1)
    assert tokens.tolist() == pytest.approx([13, 2])


def waiting(tenant: str, start_s: float, waits_ms: list[float]) -> list[RequestRecord]:
    """A request a second from `start_s` on, each with its TTFT."""
    return [
        record(tenant, index, scheduled_s=start_s + index, first_token_s=start_s + index + wait_ms / 1000)
        for index, wait_ms in enumerate(waits_ms)
    ]


def steps(folder: Path, loads: dict[float, list[float]], *tenants: Tenant) -> dict[str, Any]:
    """The summary of a run with 10 s at each load, and the TTFTs of a's requests there; b asks once a phase."""
    records, parts = [], []
    for place, (load, waits_ms) in enumerate(loads.items()):
        parts.append(part(f"load-{load:g}/measure", place * 10, place * 10 + 10, "ab", load))
        records += [*waiting("a", place * 10.0, waits_ms), record("b", place, scheduled_s=place * 10 + 5.0)]
    info = {"phases": parts, "ended_s": len(loads) * 10.0}
    return summary_of(folder, records, *tenants, info=info).content


def test_the_figures_are_from_the_highest_load_that_kept_every_slo(tmp_path: Path) -> None:
    good, bad = [100.0] * 4, [100.0, 100.0, 700.0, 700.0]
    content = steps(tmp_path, {1.0: good, 2.0: [*good, 300.0], 3.0: bad}, *TENANTS)
    window = content["window"]
    assert window["phases"] == ["load-2/measure"]
    assert window["why"] == "highest load at which every SLO held: 2 (3 broke a's: attainment 50% < 95%)"
    assert window["spans"] == [[10.0, 20.0]]
    assert content["tenants"]["a"]["scheduled"] == 5
    assert content["totals"]["scheduled"] == 6
    assert [one["held"] for one in window["loads"]] == [True, True, False]
    assert [one["load"] for one in window["loads"]] == [1.0, 2.0, 3.0]
    assert [one["tenants"]["a"]["slo_attainment"] for one in window["loads"]] == [1.0, 1.0, 0.5]
    assert [one["tenants"]["a"]["slo_broken"] for one in window["loads"]] == [False, False, True]
    assert [one["tenants"]["b"]["slo_broken"] for one in window["loads"]] == [None, None, None]
    assert [one["tenants"]["a"]["ttft_scheduled_ms"]["p99"] for one in window["loads"]] == [100.0, 300.0, 700.0]


def test_the_share_that_breaks_an_slo_is_the_tenants_own(tmp_path: Path) -> None:
    patient = (Tenant(id="a", slo=Slo(ttft_ms=600.0, attainment=0.5)), Tenant(id="b"))
    content = steps(tmp_path, {1.0: [100.0], 3.0: [100.0, 700.0]}, *patient)
    assert content["window"]["phases"] == ["load-3/measure"]


def test_where_all_ran_together_decides(tmp_path: Path) -> None:
    parts = [part("solo-a/measure", 0, 10, "a"), part("solo-b/measure", 10, 20, "b"), part("all/measure", 20, 30, "ab")]
    records = [
        *waiting("a", 0.0, [100.0]),
        *waiting("b", 10.0, [100.0]),
        *waiting("a", 20.0, [900.0, 900.0]),
        *waiting("b", 25.0, [900.0]),
    ]
    cost = {"gpu_hour_usd": 3.6, "gpus": 1}
    content = summary_of(tmp_path, records, *TENANTS, info={"phases": parts, "ended_s": 30.0}, cost=cost).content
    assert content["window"]["phases"] == ["all/measure"]
    assert content["window"]["why"] == "all tenants take part in it"
    assert content["window"]["tenants"] == {"a": [[20, 30]], "b": [[20, 30]]}
    assert [content["tenants"][name]["scheduled"] for name in "ab"] == [2, 1]
    assert content["tenants"]["a"]["ttft_ms"]["p50"] == 900.0
    assert content["fairness"]["jain_throughput"] == pytest.approx(0.25**2 / (2 * (0.2**2 + 0.05**2)))
    assert content["cost"]["cost_per_million_output_tokens"] == pytest.approx(0.01 / 3 * 1e6)
    assert content["window"]["loads"] is None


def test_a_tenant_that_comes_and_goes_has_its_own_window(tmp_path: Path) -> None:
    parts = [part("measure-1", 0, 10, "a"), part("measure-2", 10, 20, "ab"), part("measure-3", 20, 30, "a")]
    records = [*waiting("a", 0.0, [100.0] * 30), *waiting("b", 10.0, [100.0] * 5)]
    content = summary_of(tmp_path, records, info={"phases": parts, "ended_s": 30.0}).content
    assert content["window"]["tenants"] == {"a": [[0, 30]], "b": [[10, 20]]}
    assert content["window"]["spans"] == [[10, 20]]
    assert content["window"]["why"] == "all that is measured; each tenant while it was there"
    assert content["tenants"]["a"]["output_tokens_per_s"] == 1.0
    assert content["tenants"]["b"]["output_tokens_per_s"] == 0.5
    assert [list(one["tenants"]) for one in content["phases"]] == [["a"], ["a", "b"], ["a"]]


def test_why_the_windows_are_these(tmp_path: Path) -> None:
    def why(*parts: dict[str, Any]) -> str:
        return str(summary_of(tmp_path, example(), info={"phases": list(parts)}).content["window"]["why"])

    both = part("one/measure", 0, 5, "ab")
    assert why() == "nothing was measured"
    assert why(both) == "all that is measured"
    assert why(both, part("two/measure", 5, 10, "ab")) == "all that is measured"
    assert (
        why(both, part("two/measure", 5, 8, "ab"), part("solo/measure", 8, 10, "b")) == "all tenants take part in them"
    )
    assert why(part("one/measure", 0, 5, "a"), part("two/measure", 5, 10, "b")).startswith("no phase has all tenants")


def test_conversations_are_counted_over_the_whole_run(tmp_path: Path) -> None:
    turns = [record("a", turn, session=f"a-{turn // 3}", turn=turn % 3) for turn in range(5)]
    sources = summary_of(tmp_path, [*turns, record("b")]).content["sources"]["tenants"]
    assert (sources["a"]["sessions"], sources["a"]["mean_turns"]) == (2, 2.5)
    assert (sources["b"]["sessions"], sources["b"]["mean_turns"]) == (None, None)


def test_telemetry_is_measured_where_the_tenants_are(tmp_path: Path) -> None:
    # Two tenants alone: their windows together, 0 to 5 s and 8 to 10 s, with 3 tokens in them.
    phases = [part("solo-a/measure", 0, 5, "a"), part("solo-b/measure", 8, 10, "b")]
    records = [record("a", 0, scheduled_s=1.0), record("b", 0, scheduled_s=8.5, gaps_us=[1000])]
    gpu = sampled("GPU-1", "power_w", (0, 10), (5, 10), (6, 900), (7, 900), (8, 20), (10, 20))
    write_samples(tmp_path, gpu=gpu)
    info = {"phases": phases, "ended_s": 10.0, "servers": [{"endpoint": "http://a", "simulated": False}]}
    content = summary_of(tmp_path, records, info=info).content
    assert content["gpu"]["energy_j"] == pytest.approx(50 + 40)
    assert content["gpu"]["joules_per_output_token"] == pytest.approx(30)
    assert content["server"] is None


def test_the_collectors_own_account_is_kept(tmp_path: Path) -> None:
    info = {"telemetry": {"state": "complete", "sources": [{"source": "nvml", "problems": ["no driver"]}]}}
    (tmp_path / "gpu.csv").write_text("t_s,source,device,metric,value\n1.0,nvml,GPU-1,pow")
    found = summary_of(tmp_path, example(), *TENANTS, info=info).content
    assert found["gpu"] is None
    assert found["sources"]["telemetry"] == {
        **info["telemetry"],
        "lines_left_out": {"gpu.csv": 1, "server.csv": 0},
        "asked_for": {"gpu": True, "server": True},
    }


def test_several_load_processes_stand_side_by_side(tmp_path: Path) -> None:
    records = [
        record("a", 0, scheduled_s=1.0, sent_s=1.004),
        record("a", 1, scheduled_s=2.0, worker=1),
        record("b", 0, scheduled_s=3.0, sent_s=3.002),
        record("b", 1, scheduled_s=11.0),  # after the window
    ]
    workers = [conducted(0), lost(1, a=4, b=None)]
    content = summary_of(tmp_path, records, info={"workers": workers}).content
    assert content["run"]["load_processes"] == 2
    first, second = content["run"]["processes"]
    assert (first["index"], first["hostname"], first["state"], first["requests"]) == (0, "vm", "complete", 2)
    assert (first["send_lag_ms"]["count"], first["send_lag_ms"]["p99"]) == (2, 4.0)
    assert (first["event_loop_lag_ms_p99"], first["cpu_share_p95"]) == (1.0, 0.2)
    assert (first["clock_offset_s"], first["clock_uncertainty_s"]) == (0.00025, 0.0001)
    assert (second["state"], second["requests"], second["send_lag_ms"]["p99"]) == ("lost", 1, 0.0)
    (compared, other) = content["run"]["ttft_by_process"]
    assert (compared["tenant"], compared["worker"], compared["requests"]) == ("a", 0, 1)
    assert (compared["difference_ms"], compared["p_value"], compared["apart"]) == (None, None, False)
    assert (other["worker"], other["median_ms"]) == (1, 500.0)
    (reason,) = content["verdict"]["reasons"]
    assert reason.startswith("load process 1 (vm) was lost at 4.2 s (it went silent for 10 s): of a 4 requests in 12.3")
    assert [check["name"] for check in content["verdict"]["checks"]].count("clock uncertainty") == 2


def test_what_older_runs_and_single_processes_do_not_tell_is_undefined(tmp_path: Path) -> None:
    content = summary_of(tmp_path, example(), *TENANTS).content
    (only,) = content["run"]["processes"]
    assert (only["state"], only["requests"], only["clock_uncertainty_s"]) == (None, 3, None)
    assert content["run"]["ttft_by_process"] == []
    bare = summary_of(tmp_path, example(), *TENANTS, info={"workers": [{}]}).content["run"]["processes"][0]
    assert (bare["hostname"], bare["event_loop_lag_ms_p99"], bare["cpu_share_p95"]) == (None, None, None)
    assert summary_of(tmp_path, example(), *TENANTS, info={"workers": None}).content["run"]["processes"] == []


def test_a_load_process_that_waits_longer_is_told_and_leaves_the_run_valid(tmp_path: Path) -> None:
    records = [
        record("a", index, scheduled_s=index / 20, first_token_s=index / 20 + (0.106 if worker else 0.1), worker=worker)
        for index in range(200)
        for worker in [index % 2]
    ]
    content = summary_of(tmp_path, [*records, record("b")], info={"workers": [conducted(0), conducted(1)]}).content
    assert content["verdict"]["status"] == "valid"
    faster, slower = content["run"]["ttft_by_process"]
    assert (faster["apart"], slower["apart"]) == (True, True)
    assert slower["difference_ms"] == -faster["difference_ms"] == pytest.approx(6.0)
    assert (slower["median_ms"], slower["others_median_ms"]) == (106.0, 100.0)
