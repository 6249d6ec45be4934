"""A master and its workers as processes of their own, with a network between them that can be cut."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread

from tests.run.conftest import REPOSITORY, LocustProcess

SKEWED = Path(__file__).with_name("skewed_locustfile.py")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Network:
    """A way to the master's port that can be cut: nothing passes then, and what was sent waits, or is lost."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = Event()
        self._open.set()
        self._refuses = False
        self._over = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            peers: dict[socket.socket, socket.socket] = {}
            while not self._over:
                if self._refuses:
                    for one in peers:
                        selector.unregister(one)
                        _reset(one)
                    peers.clear()
                elif not self._open.wait(0.1):
                    continue
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._server:
                        near, _address = self._server.accept()
                        if self._refuses:
                            _reset(near)
                            continue
                        try:
                            far = socket.create_connection(("127.0.0.1", self._target))
                        except OSError:  # nobody listens yet; whoever asked tries again
                            near.close()
                            continue
                        peers.update({near: far, far: near})
                        for one in (near, far):
                            selector.register(one, selectors.EVENT_READ)
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    one = key.fileobj
                    try:
                        data = one.recv(1 << 16)
                        if data:
                            peers[one].sendall(data)
                    except OSError:
                        data = b""
                    if not data and one in peers:
                        for end in (one, peers.pop(one)):
                            peers.pop(end, None)
                            selector.unregister(end)
                            end.close()
            for one in peers:
                one.close()

    def cut(self, seconds: float) -> None:
        """Nothing passes for so long."""
        self._open.clear()
        Event().wait(seconds)
        self._open.set()

    def reset(self, seconds: float) -> None:
        """Every connection is reset, what is on its way is lost, and for so long no new one comes about."""
        self._refuses = True
        Event().wait(seconds)
        self._refuses = False

    def close(self) -> None:
        self._over = True
        self._open.set()
        self._thread.join()
        self._server.close()


def _reset(connection: socket.socket) -> None:
    """Close it so that the other end is told that it was reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Cluster:
    """One master, some workers. Workers have no profile; each may have a clock of its own, by `skews_s`."""

    def __init__(
        self,
        folder: Path,
        profile: str,
        workers: int,
        *arguments: str,
        skews_s: Sequence[float] = (),
        file_bytes: int | None = None,
        cuttable: bool = False,
    ) -> None:
        port = free_port()
        self.folder = folder
        self.network = Network(port) if cuttable else None
        self._master_port = port if self.network is None else self.network.port
        self.workers: list[subprocess.Popen[str]] = []
        self.outputs: list[Path] = []
        self.master = LocustProcess(
            folder,
            profile,
            "mixed.py",
            (
                *("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)),
                *("--expect-workers", str(workers), *arguments),
            ),
            file_bytes,
        )
        for number in range(workers):
            self.add_worker(skews_s[number] if skews_s else None)

    def add_worker(self, skew_s: float | None = None, *arguments: str) -> subprocess.Popen[str]:
        """Start a worker, in a folder of its own."""
        home = self.folder / f"host-{len(self.workers)}"
        home.mkdir()
        locustfile = SKEWED if skew_s is not None else REPOSITORY / "locustfiles" / "mixed.py"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "FAIRSHARE_"))}
        environment |= {"PYTHONPATH": str(REPOSITORY), "TEST_CLOCK_SKEW_S": str(skew_s or 0.0)}
        self.outputs.append(home / "output.txt")
        with open(self.outputs[-1], "w") as output:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", "locust", "-f", str(locustfile), "--worker"),
                    *("--master-host", "127.0.0.1", "--master-port", str(self._master_port), *arguments),
                ],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.workers.append(worker)
        return worker

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers]

    def kept_by_workers(self) -> list[Path]:
        """Files of records that workers have not deleted."""
        return sorted(self.folder.glob("host-*/runs/*/workers/*-requests.jsonl"))

    def close(self) -> None:
        """End whatever is still there."""
        for process in (self.master.process, *self.workers):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        if self.master.process.stdout is not None:
            self.master.process.stdout.close()
        if self.network is not None:
            self.network.close()


StartCluster = Callable[..., Cluster]
