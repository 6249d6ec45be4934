"""Another process, in which strings hash otherwise: what comes from a seed is the same there.

    python -m tests.elsewhere

A line of JSON in: a module, one of its functions, and arguments for it. A line out: what it returns.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["elsewhere"]

_ROOT = Path(__file__).resolve().parents[1]


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in the other process; it and the arguments are of JSON."""
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([function.__module__, function.__name__, arguments]) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, "the other process has ended"
    return json.loads(answer)


@cache
def _process() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.elsewhere"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)
    return process


def _main() -> None:
    for line in sys.stdin:
        module, function, arguments = json.loads(line)
        print(json.dumps(getattr(importlib.import_module(module), function)(*arguments)), flush=True)


if __name__ == "__main__":
    _main()
