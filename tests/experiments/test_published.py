"""The experiments that come along, as they are, on the modelled GPU: each runs, and says what it is there to say."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest

from fairshare_locust.__main__ import main
from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.experiment import load_experiment
from fairshare_locust.profile.model import Engine

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
Figures = dict[tuple[str, str, str], float]


def matrix(name: str, out: Path, *more: str) -> tuple[Path, Figures]:
    """Run an experiment quickly; its folder, and figures of all tenants by mode, load and metric."""
    arguments = ["matrix", str(FOLDER / f"{name}.yaml"), "--engine", "simulator", "--quick", "--out", str(out)]
    assert main([*arguments, *more]) == 0
    folder = out / f"{name}-simulator-quick"
    with open(folder / "comparison.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["tenant"] == "total" and row["value"]]
    loads = [f"{float(row['load']):g}" if row["load"] else "" for row in rows]
    return folder, {
        (row["mode"], load, row["metric"]): float(row["value"]) for row, load in zip(rows, loads, strict=True)
    }


def summary(folder: Path, cell: str) -> dict[str, Any]:
    [path] = folder.glob(f"{cell}/2*/analysis/summary.json")
    content: dict[str, Any] = orjson.loads(path.read_bytes())
    return content


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", [path.stem for path in sorted(FOLDER.glob("*.yaml"))])
def test_every_mode_fits_the_modelled_gpu(name: str, quick: bool) -> None:
    cells = expand(load_experiment(FOLDER / f"{name}.yaml"), engine="simulator", quick=quick)
    assert [(cell.id, cell.refused) for cell in cells if cell.refused] == []


@pytest.mark.parametrize(
    ("name", "engine"),
    [("fairshare_l4", "vllm"), ("solo_multitenant", "vllm"), ("solo_multitenant", "tgi"), ("decomposition", None)],
)
def test_real_engines_can_be_asked_for_it(name: str, engine: Engine | None) -> None:
    cells = expand(load_experiment(FOLDER / f"{name}.yaml"), engine=engine)
    assert cells
    assert all(cell.profile.deployment.real for cell in cells)


def test_fairshare_l4(tmp_path: Path) -> None:
    folder, found = matrix("fairshare_l4", tmp_path)
    logical, mps, capped = (found[mode, "", "output_tokens_per_s"] for mode in ("logical", "mps", "mig_emulated"))
    # One server reads the weights once for all. Two read them twice, and caps cost a little more.
    assert 1.6 < logical / mps < 2
    assert 0 < mps / capped - 1 < 0.05
    assert found["mig_emulated", "", "jain_throughput"] > found["logical", "", "jain_throughput"]
    assert (folder / "comparison.html").exists()
    assert list((folder / "figures").glob("*.png"))


def test_solo_multitenant(tmp_path: Path) -> None:
    folder, _ = matrix("solo_multitenant", tmp_path, "--only", "mode=mps")
    together, alone = summary(folder, "mps-r1"), summary(folder, "solo-mps")
    per_token_ms = {tenant: entry["tpot_ms"]["p50"] for tenant, entry in alone["tenants"].items()}
    assert per_token_ms["llama-8b"] > per_token_ms["mistral-7b"] > per_token_ms["llama-3b"]  # by what each has to read
    for tenant, entry in together["tenants"].items():
        assert entry["tpot_ms"]["p50"] > 1.5 * per_token_ms[tenant]
        assert entry["makespan_tokens_per_s"] < alone["tenants"][tenant]["makespan_tokens_per_s"]
    # All together take less time than one after another.
    assert together["totals"]["makespan_tokens_per_s"] > alone["totals"]["makespan_tokens_per_s"]


def test_decomposition(tmp_path: Path) -> None:
    _, found = matrix("decomposition", tmp_path, "--only", "load=1,8")
    cost, tokens = "cost_per_million_output_tokens", "output_tokens_per_s"
    for engine in ("vllm", "transformers"):
        # 2.93 dollars an hour over what comes out in one.
        rate = found[f"{engine} logical", "8", tokens]
        assert found[f"{engine} logical", "8", cost] == pytest.approx(2.93 / (rate * 3600) * 1e6, rel=1e-6)
    # Batching: eight streams give nearly eight times as much, but not where one goes after another.
    assert found["vllm logical", "8", tokens] > 6 * found["vllm logical", "1", tokens]
    assert found["transformers logical", "8", tokens] < 1.1 * found["transformers logical", "1", tokens]
    assert found["transformers logical", "8", "ttft_p50_ms"] > 50 * found["vllm logical", "8", "ttft_p50_ms"]
    # At one stream the reading of the weights is the same, and Python launches kernels for half of the time.
    assert 1.8 < found["transformers logical", "1", "tpot_p50_ms"] / found["vllm logical", "1", "tpot_p50_ms"] < 2.2
    assert found["tgi logical", "1", tokens] == pytest.approx(found["vllm logical", "1", tokens], rel=0.01)
