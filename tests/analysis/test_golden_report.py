"""The whole page as it was, so that no change of it goes unseen."""

from __future__ import annotations

import os
from pathlib import Path

from analysis.figures import Picture
from analysis.load import Slo, Tenant, load_run
from analysis.report.html import page
from analysis.summary import summarise
from tests.analysis.build import part, record, sampled, write_run, write_samples

GOLDEN = Path(__file__).parent / "golden" / "report.html"
E = "http://127.0.0.1:40001"


def small_run(folder: Path) -> Path:
    """Two tenants alone and together, sampled, with a price, an SLO and a failure; together they wait twice as long."""
    windows = {"solo-a": ["a"], "solo-b": ["b"], "all": ["a", "b"]}
    parts, records = [], []
    for place, (name, tenants) in enumerate(windows.items()):
        start_s = place * 20.0
        parts.append(part(f"{name}/measure", start_s, start_s + 20, tenants))
        for tenant in tenants:
            for index in range(60):
                due_s = start_s + index / 3
                records.append(
                    record(
                        tenant,
                        index,
                        phase=f"{name}/measure",
                        scheduled_s=due_s,
                        sent_s=due_s + 0.001,
                        first_token_s=due_s + 0.1 * len(tenants) + 0.001 * (index % 7),
                        gaps_us=[20_000] * (9 if tenant == "a" else 19),
                        input_tokens=50,
                        requested_output_tokens=10 if tenant == "a" else 20,
                        endpoint=E,
                    )
                )
    error = {"outcome": "http_error", "status": 503, "error": "<overloaded> & busy"}
    records.append(record("b", 60, phase="all/measure", scheduled_s=59.0, **error))
    ticks = [float(at) for at in range(61)]
    write_samples(
        folder,
        gpu=[
            *sampled("SIM-1", "gpu_utilization_ratio", *((at, 0.75) for at in ticks)),
            *sampled("SIM-1", "energy_j_total", *((at, 40 * at) for at in ticks)),
        ],
        server=sampled(E, "kv_cache_usage", *((at, 0.5 + at / 200) for at in ticks)),
        gpu_source="dcgm",
    )
    device = {"device": "SIM-1", "name": "Simulated GPU", "simulated": True}
    source = {"source": "dcgm", "devices": [device], "unsupported": {"SIM-1": {"power_w": "not sent"}}, "problems": []}
    return write_run(
        folder,
        records,
        [Tenant(id="a", slo=Slo(ttft_ms=500)), Tenant(id="b", weight=2)],
        info={"phases": parts, "ended_s": 61.0, "telemetry": {"state": "complete", "sources": [source]}},
        cost={"gpu_hour_usd": 1.8, "gpus": 1},
    )


def test_golden(tmp_path: Path) -> None:
    """After a change that is meant: REGOLD=1 pytest tests/analysis/test_golden_report.py, and look at the diff."""
    folder = small_run(tmp_path / "20261115T012715Z-example")
    summary = summarise(load_run(folder))
    picture = folder / "figure.png"
    picture.write_bytes(b"")
    text = page(summary, [Picture(picture, "A figure", "What it shows, <b> and all.")])
    if os.environ.get("REGOLD"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
