"""LocustCsv: Locust's own CSV files in the run directory, complete.

Locust rewrites its files every second and closes them without a last write, so up to a second of requests is
missing in them. Here they are written once more when everything is in.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import gevent
from locust import stats
from locust.env import Environment

__all__ = ["LocustCsv"]


class LocustCsv:
    """Writes `<prefix>_stats.csv` and its sisters while the run goes on, and finally."""

    def __init__(self, environment: Environment, prefix: Path) -> None:
        self._prefix = prefix
        self._writer: Any = stats.StatsCSVFileWriter(environment, stats.PERCENTILES_TO_REPORT, str(prefix), True)
        self._greenlet = gevent.spawn(self._writer.stats_writer)

    def finish(self) -> None:
        """Write the final state. Raises OSError when the disk does not take it."""
        self._greenlet.kill()
        self._writer._stats_history_data_rows(self._writer.stats_history_csv_writer, time.time())
        self._writer.close_files()
        for name, write in (
            ("stats", self._writer.requests_csv),
            ("failures", self._writer.failures_csv),
            ("exceptions", self._writer.exceptions_csv),
        ):
            with open(f"{self._prefix}_{name}.csv", "w", newline="") as file:
                write(csv.writer(file))
