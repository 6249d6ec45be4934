"""Locust's web UI with our part in it and figures by command: `python -m tests.live.served FOLDER [BASE_PATH]`.

Prints its address, then obeys a line of standard input at a time and answers `done`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gevent
from gevent.fileobject import FileObjectThread
from locust.env import Environment
from locust.web import WebUI

from fairshare_locust.live.web import RunLink, install
from tests.live.snapshots import snapshot


class Shown:
    """What the page gets to see."""

    def __init__(self, folder: Path, runner: Any) -> None:
        self._folder = folder
        self._runner = runner
        self.current: dict[str, Any] | None = None
        self.runs: list[RunLink] = []

    def obey(self, command: str, rest: str) -> None:
        """Carry out one line."""
        match command:
            case "run":
                self._show(snapshot(int(rest)))
            case "next":
                self._show(snapshot(int(rest), run="20260101T000100Z-second"))
            case "many":
                self._show(snapshot(int(rest), tenants=tuple(f"tenant-{index}" for index in range(10))))
            case "hostile":
                self._show({**snapshot(tenants=(rest, "other")), "notes": [rest]})
            case "locust":
                self._runner.state = rest
            case "report":
                run = self.runs[-1]
                (run.path / "analysis").mkdir()
                (run.path / "analysis" / "report.html").write_text(f"<body>The report of {run.name}</body>")
                self.runs[-1] = RunLink(run.path, {"status": rest, "reasons": ["too few requests"]})
            case _:
                raise ValueError(command)

    def _show(self, content: dict[str, Any]) -> None:
        path = self._folder / content["run"]
        if not path.exists():
            path.mkdir()
            (path / "run.json").write_text("{}")
            self.runs.append(RunLink(path))
        self.current = content


def main(folder: str, base_path: str = "") -> None:
    """Serve until the standard input ends."""
    environment = Environment()
    shown = Shown(Path(folder), environment.create_local_runner())
    web_ui: Any = WebUI(environment, "127.0.0.1", 0, web_base_path=base_path or None, delayed_start=True)
    install(web_ui, lambda: shown.current, lambda: shown.runs, lambda: "")
    web_ui.start()
    while web_ui.server is None or not web_ui.server.started:
        gevent.sleep(0.01)
    print(f"http://127.0.0.1:{web_ui.server.server_port}", flush=True)
    for line in FileObjectThread(sys.stdin.buffer, "rb"):
        shown.obey(*line.decode().strip().partition(" ")[::2])
        print("done", flush=True)


if __name__ == "__main__":
    arguments, sys.argv[1:] = sys.argv[1:], []  # Locust's page reads the command line
    main(*arguments)
