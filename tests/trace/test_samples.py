"""The sample traces are what their script makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path("scripts/make_trace_samples.py")
SAMPLES = Path("profiles/traces")
NAMES = ["azure_sample.csv", "burstgpt_sample.csv", "mooncake_sample.jsonl", "sharegpt_sample.json"]


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / SCRIPT).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / SCRIPT, folder / SCRIPT)
    return subprocess.run([sys.executable, str(folder / SCRIPT), *options], capture_output=True, text=True, check=False)


def test_the_script_makes_the_shipped_bytes(tmp_path: Path) -> None:
    assert make(tmp_path).returncode == 0
    for name in NAMES:
        assert (tmp_path / SAMPLES / name).read_bytes() == (ROOT / SAMPLES / name).read_bytes()


def test_check_names_the_file_that_differs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / SAMPLES, tmp_path / SAMPLES)
    assert make(tmp_path, "--check").returncode == 0
    (tmp_path / SAMPLES / "azure_sample.csv").write_text("TIMESTAMP\n")
    result = make(tmp_path, "--check")
    assert result.returncode == 1
    assert result.stderr.startswith("profiles/traces/azure_sample.csv differs: run python scripts/make_trace_samples")
    assert "burstgpt" not in result.stderr


def test_conversations_have_turns_systems_and_one_lacks_an_answer() -> None:
    conversations = [entry["conversations"] for entry in json.loads((ROOT / SAMPLES / NAMES[3]).read_text("utf-8"))]
    speakers = [[said["from"] for said in conversation] for conversation in conversations]
    assert len(speakers) == 12
    assert sum("system" in who for who in speakers) == 3
    assert sum("gpt" not in who for who in speakers) == 1
    assert sum(who.count("human") >= 2 for who in speakers) == 11
