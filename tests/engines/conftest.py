"""Engines that are really installed: found, or skipped with the reason; and a model that each can load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairshare_locust.child import child_command, child_environment
from fairshare_locust.record import RequestRecord

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Run:
    """What a run has left behind."""

    path: Path
    output: str
    info: dict[str, Any]
    sharing: dict[str, Any]
    records: list[RequestRecord]
    requested: dict[str, int] = field(default_factory=dict)

    def of(self, tenant: str) -> list[RequestRecord]:
        return [record for record in self.records if record.tenant == tenant and record.outcome == "ok"]


def found(variable: str, program: str, hint: str) -> Path:
    """The program that `variable` names, else the one on PATH or beside our own Python. Skips the test without one."""
    named = os.environ.get(variable)
    beside = Path(sys.executable).parent
    path = shutil.which(named) if named else shutil.which(program) or shutil.which(program, path=str(beside))
    if path is None:
        pytest.skip(f"{named or program} is not installed; {hint}, or name it with {variable}")
    return Path(path)


@pytest.fixture(scope="session")
def transformers() -> Path:
    return found("FAIRSHARE_TRANSFORMERS", "transformers", "pip install -e '.[engines]'")


@pytest.fixture(scope="session")
def vllm() -> Path:
    return found("FAIRSHARE_VLLM", "vllm", "pip install vllm")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, made by the Python of whichever engine there is."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    said = ""
    for variable, program in (("FAIRSHARE_TRANSFORMERS", "transformers"), ("FAIRSHARE_VLLM", "vllm")):
        try:
            path = found(variable, program, "")
        except pytest.skip.Exception:
            continue
        python = path.parent / "python"
        made = subprocess.run(
            [python, ROOT / "scripts" / "make_tiny_model.py", folder], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return folder
        said += made.stdout + made.stderr
    if said:
        pytest.fail(said)
    pytest.skip("no engine is installed, so there is no torch to make a model with; pip install -e '.[engines]'")


@pytest.fixture
def served(tmp_path: Path, model: Path) -> Any:
    """Call it with an engine, a way of sharing and the options of its servers: a whole run of two tenants."""
    hub = tmp_path / "hf" / "hub"  # transformers serve lists its models from there
    hub.mkdir(parents=True)

    def run(engine: str, sharing: str, server: dict[str, Any]) -> Run:
        environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub.parent), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
        workload = {"source": "synthetic", "input_tokens": 40, "output_tokens": 12}
        profile = {
            "name": f"{engine}-{sharing}",
            "seed": 7,
            "run": {"requests": 8, "warmup_s": 0, "drain_s": 60},
            "model": {"name": str(model), "tokenizer": "builtin"},
            "deployment": {
                "engine": engine,
                "sharing": sharing,
                "server": {**server, "environment": {**environment, **server.get("environment", {})}},
            },
            "tenants": [
                {"id": "chat", "arrival": {"process": "closed", "concurrency": 2}, "workload": workload},
                {
                    "id": "batch",
                    "api": "openai_completions",
                    "arrival": {"process": "closed", "concurrency": 2},
                    "workload": {**workload, "input_tokens": 60, "output_tokens": 8},
                },
            ],
        }
        file = tmp_path / "profile.yaml"
        file.write_text(yaml.safe_dump(profile))
        command = child_command("locust", "-f", str(ROOT / "locustfiles" / "mixed.py"), "--headless")
        done = subprocess.run(
            [*command, "--fairshare-profile", str(file), "--fairshare-out", str(tmp_path / "runs")],
            cwd=tmp_path,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        path = (tmp_path / "runs" / "latest").resolve()
        return Run(
            path,
            done.stdout,
            json.loads((path / "run.json").read_text()),
            json.loads((path / "sharing.json").read_text()),
            [RequestRecord.from_json(line) for line in (path / "requests.jsonl").read_bytes().splitlines()],
        )

    return run
