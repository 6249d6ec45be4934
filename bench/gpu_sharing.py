"""Tenants on a real GPU, shared in several ways: a model with random weights, served by transformers, and compared.

    python -m bench.gpu_sharing [--tenants 2] [--modes logical timeslice mps] [--seconds 30] [--out runs]

Needs an NVIDIA GPU, and torch and `transformers serve` (`pip install -e '.[engines]'`; FAIRSHARE_TRANSFORMERS names
another one). Nothing is fetched. It makes a model of some 1.4 billion parameters, and runs a matrix: each mode with the
same load, after each tenant alone. MPS where its daemon starts: a mode that can't be had is told, and the others go
on. Without a GPU it says so, and why, and that is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.telemetry.nvml import NvmlSource

__all__ = ["experiment", "main", "missing"]

ROOT = Path(__file__).resolve().parents[1]
MODES = ("logical", "timeslice", "mps")
HINT = "pip install -e '.[engines]', or name one with FAIRSHARE_TRANSFORMERS"
SEES_A_GPU = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 'torch sees no GPU')"


def main() -> int:
    """Run it; 0, also where there is no GPU; 1 where a mode could not be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=2, choices=(2, 3), help="how many (default: %(default)s)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="ways of sharing (default: all)")
    parser.add_argument("--seconds", type=float, default=30, help="measured in each run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each mode (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=2048, help="size of the model (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=20, help="of the model (default: %(default)s)")
    parser.add_argument("--batching", action="store_true", help="transformers batches continuously")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs go (default: %(default)s)")
    options = parser.parse_args()
    if why := missing():
        print(f"no GPU sharing to measure: {why}")
        return 0
    executable = _transformers()
    assert executable is not None
    with tempfile.TemporaryDirectory(prefix="fairshare-") as scratch:
        folder = Path(scratch)
        (folder / "hf" / "hub").mkdir(parents=True)  # transformers serve lists its models from there
        script = [
            str(executable.parent / "python"),
            str(ROOT / "scripts" / "make_tiny_model.py"),
            str(folder / "model"),
        ]
        sizes = ["--hidden", str(options.hidden), "--layers", str(options.layers), "--dtype", "bfloat16"]
        subprocess.run([*script, *sizes], check=True)
        file = folder / "gpu_sharing.yaml"
        file.write_text(yaml.safe_dump(experiment(options, folder, executable)), encoding="utf-8")
        matrix = child_command("fairshare_locust", "matrix", str(file), "--out", str(options.out), "--fresh")
        return subprocess.run(matrix, env=child_environment(), check=False).returncode


def missing() -> str:
    """What is missing here, in words; "" if nothing is."""
    source = NvmlSource.open()
    if isinstance(source, str):
        return source
    source.close()
    executable = _transformers()
    if executable is None:
        return f"transformers is not installed; {HINT}"
    said = subprocess.run(
        [executable.parent / "python", "-c", SEES_A_GPU], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if said.returncode == 0:
        return ""
    last = (said.stderr.strip().splitlines() or ["torch can't be loaded"])[-1]
    return f"{executable.parent / 'python'}: {last}; {HINT}"


def _transformers() -> Path | None:
    """The program of `transformers serve`: the one that is named, on PATH, or beside our own Python."""
    named = os.environ.get("FAIRSHARE_TRANSFORMERS")
    beside = str(Path(sys.executable).parent)
    found = shutil.which(named) if named else shutil.which("transformers") or shutil.which("transformers", path=beside)
    return None if found is None else Path(found)


def experiment(options: argparse.Namespace, folder: Path, executable: Path) -> dict[str, Any]:
    """The matrix: tenants alike but for the first, whose answers are short and who waits for them."""
    workload = {"source": "synthetic", "input_tokens": 256, "output_tokens": 64}
    tenants: list[dict[str, Any]] = [
        {
            "id": f"tenant-{letter}",
            "arrival": {"process": "closed", "concurrency": 2},
            "workload": workload if number else {**workload, "input_tokens": 64, "output_tokens": 32},
            "slo": {"ttft_ms": 2000},
        }
        for number, letter in enumerate("abc"[: options.tenants])
    ]
    share = 100 // options.tenants
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    server = {
        "executable": str(executable),
        "extra_args": ["--device", "cuda"],
        "environment": environment,
        "continuous_batching": options.batching,
        "memory_percent": {tenant["id"]: share for tenant in tenants},
    }
    return {
        "name": "gpu_sharing",
        "seed": 7,
        "base": {
            "name": "gpu_sharing",
            "run": {"warmup_s": 5, "duration_s": options.seconds, "drain_s": 30, "fairness_window_s": 5},
            "model": {"name": str(folder / "model"), "tokenizer": "builtin"},
            "deployment": {"engine": "transformers", "server": server},
            "tenants": tenants,
        },
        "sharing": list(options.modes),
        "repeats": options.repeats,
        "cooldown_s": 5,
        "solo": True,
    }


if __name__ == "__main__":
    sys.exit(main())
