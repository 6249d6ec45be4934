"""An NvmlSource in a process of its own, that meets the stub; asked over a pipe, at times that the test says.

    python -m tests.telemetry.stub.sampling

A line of JSON in: {"at_s": …, "last": …} to sample at that time of the source's clock, perhaps for the last time,
{"begin_s": …, "unix_later_s": …} to begin at that time, so much later by the wall's clock, {"close": true} to close.
A line out for each, and one at the start: the state of the source.
"""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any
from unittest.mock import patch

from fairshare_locust.telemetry.nvml import NvmlSource
from tests.forks import Fork
from tests.telemetry.stub import Stub

__all__ = ["Sampling"]


class Sampling:
    """The test's end of the pipe.

    Attributes:
        state: as it was after the last question: `refused`, or `devices`, `problems`, `unsupported`, `lost`, `gaps`.
    """

    def __init__(self, stub: Stub, **environment: str) -> None:
        self._process = Fork("tests.telemetry.stub.sampling", environment={**stub.environment, **environment})
        self.state = self._answer()

    def begin(self, at_s: float, unix_later_s: float = 0.0) -> None:
        """Begin; by the wall's clock so much later than now."""
        self._ask({"begin_s": at_s, "unix_later_s": unix_later_s})

    def sample(self, at_s: float, *, last: bool = False) -> dict[tuple[str, str], float]:
        """The rows of a sample, by device and metric; none may come twice."""
        rows = self._ask({"at_s": at_s, "last": last})["rows"]
        by_name = {(device, metric): value for device, metric, value in rows}
        assert len(by_name) == len(rows)
        return by_name

    def close(self) -> None:
        """Close the source."""
        self._ask({"close": True})

    def __enter__(self) -> Sampling:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        errors = self._process.communicate()[1]
        assert self._process.returncode == 0, errors

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        self.state = self._answer()
        return self.state

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _main() -> None:
    now_s = 0.0
    source = NvmlSource.open(lambda: now_s)
    if isinstance(source, str):
        print(json.dumps({"refused": source}), flush=True)
        return
    rows: list[Any] = []
    while True:
        names = ("problems", "unsupported", "lost", "gaps")
        state = {name: getattr(source, name) for name in names}
        devices = [{**vars(gpu), "slices": [vars(one) for one in gpu.slices]} for gpu in source.devices]
        print(json.dumps({"devices": devices, "rows": rows, **state}), flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        question = json.loads(line)
        if "close" in question:
            source.close()
            rows = []
        elif "begin_s" in question:
            now_s = question["begin_s"]
            with patch("time.time", return_value=time.time() + question["unix_later_s"]):
                source.begin()
            rows = []
        else:
            now_s = question["at_s"]
            rows = source.sample(question["last"])


if __name__ == "__main__":
    _main()
