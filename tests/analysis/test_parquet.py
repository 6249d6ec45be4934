"""A run as tables: every row and value, null where undefined, and nothing half written."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from analysis.latency import per_request_ms
from analysis.load import Run, Slo, Tenant
from analysis.report import parquet
from analysis.report.parquet import write_requests, write_timeseries
from analysis.summary import Summary, summarise
from fairshare_locust.record import RequestRecord
from tests.analysis.build import part, record, run, sampled, write_samples
from tests.analysis.random_records import records as some_records

E = "http://127.0.0.1:40001"


def requests_of(measured: Run, folder: Path) -> list[dict[str, Any]]:
    """The rows of `requests.parquet`."""
    summary = summarise(measured)
    write_requests(measured, summary.content, folder / "requests.parquet")
    rows: list[dict[str, Any]] = pq.read_table(folder / "requests.parquet").to_pylist()
    return rows


def series_of(summary: Summary, folder: Path) -> list[dict[str, Any]]:
    """The rows of `timeseries.parquet`."""
    write_timeseries(summary, folder / "timeseries.parquet")
    rows: list[dict[str, Any]] = pq.read_table(folder / "timeseries.parquet").to_pylist()
    return rows


def test_a_request_is_a_row(tmp_path: Path) -> None:
    one = record(
        "a",
        3,
        scheduled_s=2.0,
        sent_s=2.01,
        first_token_s=2.5,
        gaps_us=[20_000] * 4,
        input_tokens=7,
        requested_output_tokens=5,
        endpoint=E,
        session="a-1",
        turn=1,
    )
    rows = requests_of(run(tmp_path, [one], Tenant(id="a", slo=Slo(ttft_ms=1000)), Tenant(id="b")), tmp_path)
    assert rows == [
        {
            "tenant": "a",
            "phase": "measure",
            "index": 3,
            "worker": 0,
            "session": 0,
            "follows": True,
            "endpoint": E,
            "outcome": "ok",
            "scheduled_s": 2.0,
            "sent_s": 2.01,
            "first_token_s": 2.5,
            "last_token_s": 2.58,
            "ended_s": 2.58,
            "input_tokens": 7,
            "output_tokens": 5,
            "requested_output_tokens": 5,
            "tokens_from": "usage",
            "chunks": 5,
            "queued_s": None,
            "computed_s": None,
            "ttft_ms": pytest.approx(490),
            "ttft_scheduled_ms": pytest.approx(500),
            "tpot_ms": pytest.approx(20),
            "e2e_ms": pytest.approx(570),
            "e2e_scheduled_ms": pytest.approx(580),
            "send_lag_ms": pytest.approx(10),
            "in_window": True,
            "met_slo": True,
        }
    ]


def test_what_did_not_happen_is_null(tmp_path: Path) -> None:
    records = [record("b", outcome="shed"), record("a", scheduled_s=11.0)]
    shed, late = requests_of(run(tmp_path, records), tmp_path)
    null = {name for name, value in shed.items() if value is None}
    stamps = {"sent_s", "first_token_s", "last_token_s", "endpoint", "session", "queued_s", "computed_s"}
    assert null == stamps | {"tokens_from", "met_slo", *(name for name in shed if name.endswith("_ms"))}
    assert (shed["in_window"], late["in_window"]) == (True, False)
    assert late["tpot_ms"] is None  # one token
    assert late["met_slo"] is None  # without an SLO there is nothing to meet


def test_a_missed_slo_is_false(tmp_path: Path) -> None:
    tenant = Tenant(id="a", slo=Slo(ttft_ms=100))
    (row,) = requests_of(run(tmp_path, [record("a")], tenant), tmp_path)
    assert row["met_slo"] is False


def test_rows_come_in_groups_and_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        record(
            name, index, scheduled_s=index / 2, gaps_us=[1000 * index] * (index % 3), chunk_tokens=[2] * (index % 3 + 1)
        )
        for name in "ab"
        for index in range(10)
    ]
    whole = requests_of(run(tmp_path / "run", records), tmp_path)
    monkeypatch.setattr(parquet, "_ROWS", 7)
    assert requests_of(run(tmp_path / "run", records), tmp_path) == whole
    assert pq.ParquetFile(tmp_path / "requests.parquet").num_row_groups == 3


@settings(deadline=None)
@given(records=some_records())
def test_rows_have_the_latencies_of_the_whole(records: list[RequestRecord], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("run")
    measured = run(folder, records)
    rows = requests_of(measured, folder)
    assert len(rows) == len(records)
    for name, values in per_request_ms(measured.requests).items():
        shown = np.array([math.nan if row[name] is None else row[name] for row in rows], float)
        np.testing.assert_array_equal(shown, values)


def test_an_empty_run_has_tables_without_rows(tmp_path: Path) -> None:
    measured = run(tmp_path, [])
    assert requests_of(measured, tmp_path) == []
    assert "ttft_ms" in pq.read_schema(tmp_path / "requests.parquet").names
    summary = summarise(measured)
    assert {row["subject"] for row in series_of(summary, tmp_path)} == {"a", "b", "all"}
    bare = dataclasses.replace(
        summary,
        content={**summary.content, "timeline": {"t_s": [], "tenants": {}}, "fairness": None},
        curves=dataclasses.replace(summary.curves, traces=()),
    )
    assert series_of(bare, tmp_path) == []


def test_series_stand_in_long_form(tmp_path: Path) -> None:
    write_samples(
        tmp_path,
        gpu=sampled("SIM-1", "power_w", (1, 50), (2, 60)),
        server=sampled(E, "kv_cache_usage", (1, 0.5), (2, 0.75)),
    )
    records = [record(name, scheduled_s=1.0, gaps_us=[20_000] * 9) for name in "ab"]
    rows = series_of(summarise(run(tmp_path, records)), tmp_path)
    of = {(row["of"], row["subject"], row["metric"], row["t_s"]): row["value"] for row in rows}
    assert len(of) == len(rows)
    assert of["tenant", "a", "output_tokens_per_s", 0.0] == 2.0  # 10 tokens in 5 s
    assert of["tenant", "a", "ttft_scheduled_ms_p50", 0.0] == 500.0
    assert of["tenant", "a", "ttft_scheduled_ms_p50", 5.0] is None
    assert of["all", "all", "jain_throughput", 0.0] == 1.0
    assert of["all", "all", "jain_throughput", 5.0] is None
    assert of["server", E, "kv_cache_usage", 2.0] == 0.75
    assert of["nvml", "SIM-1", "power_w", 2.0] == 60.0
    assert pa.types.is_dictionary(pq.read_schema(tmp_path / "timeseries.parquet").field("metric").type)


def test_phases_are_names(tmp_path: Path) -> None:
    parts = [part(f"p{place}/measure", place * 5, place * 5 + 5, "ab") for place in range(2)]
    records = [record("a", place, phase=f"p{place}/measure", scheduled_s=place * 5 + 1.0) for place in range(2)]
    rows = requests_of(run(tmp_path, records, info={"phases": parts, "ended_s": 10.0}), tmp_path)
    assert [row["phase"] for row in rows] == ["p0/measure", "p1/measure"]


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = run(tmp_path, [record("a")])
    content = summarise(measured).content
    target = tmp_path / "requests.parquet"
    write_requests(measured, content, target)
    before = target.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.report.parquet.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_requests(measured, content, target)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))
