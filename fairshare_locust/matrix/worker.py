"""Worker: a process that makes runs in virtual time, one after another, so that each does not load everything anew.

`python -m fairshare_locust.matrix.worker` reads an order per line, as JSON:

    {"profile": PATH, "plan": NAME, "out": FOLDER, "log": FILE, "cell": TEXT, "figures": BOOL}

and answers each with a line: `{"error": TEXT or null}`. It ends when its input does.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import orjson

from fairshare_locust.cell import VARIABLE
from fairshare_locust.errors import FairshareError
from fairshare_locust.matrix.verdict import write_verdict
from fairshare_locust.profile import load_profile
from fairshare_locust.simulator.virtual import VirtualRun

__all__ = ["main"]


def main() -> int:
    """Make runs until there is nothing more to read."""
    answers = os.dup(1)
    for line in sys.stdin.buffer:
        order: dict[str, Any] = orjson.loads(line)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        error = _carry_out(order)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answers, orjson.dumps({"error": error}) + b"\n")
    return 0


def _carry_out(order: dict[str, Any]) -> str | None:
    """Make the run; what is wrong, if anything is."""
    os.environ[VARIABLE] = order["cell"]
    try:
        run = VirtualRun(load_profile(order["profile"]), order["plan"])
        directory = run.run(Path(order["out"]))
        for note in run.notes:
            print(f"fairshare: {note}", file=sys.stderr)
        write_verdict(directory.path, figures=order["figures"])
    except (FairshareError, OSError) as error:
        print(f"fairshare: {error}", file=sys.stderr)
        return str(error)
    except Exception as error:  # the other cells go on
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
