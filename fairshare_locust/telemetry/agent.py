"""The agent: `/metrics` with what NVML says, on a GPU host that is not the load's.

    python -m fairshare_locust telemetry --listen 127.0.0.1:9401

Prometheus text: a gauge `fairshare_gpu_<metric>{device="…",name="…"}` per metric of `nvml.METRICS`, with its unit, and
`fairshare_gpu_sample_unix_s`, when they were read. What a device no longer tells is not there, nor what it does not
support: that is `fairshare_gpu_unsupported{device="…",metric="…",why="…"} 1`. Each GPU and each MIG slice has a
`fairshare_gpu_info{device="…",name="…",driver="…",mig="on"} 1`; `mig` is `on`, `off` or `slice`.
"""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn

from fairshare_locust.errors import ServingError
from fairshare_locust.telemetry.gpm import GPM_METRICS, MIN_WINDOW_S
from fairshare_locust.telemetry.nvml import METRICS, SLOW_S, Gpu, NvmlSource, Row

__all__ = ["Exposition", "add_arguments", "serve"]

_IDLE_S = 60.0  # a connection that is silent for so long is closed
_STOP_WITHIN_S = 5.0
_NAME = "fairshare_gpu_"
_EVERY_S = {**SLOW_S, **dict.fromkeys(GPM_METRICS, MIN_WINDOW_S)}


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`127.0.0.1:9401`, `[::1]:9401`, `gpu-host:9401`; argparse shows the error."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise argparse.ArgumentTypeError(f"expected HOST:PORT, such as 127.0.0.1:9401, found {text!r}")
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this host reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Exposition:
    """The newest value of each metric of each device, as Prometheus text.

    What is not read with every sample stays until its next reading; what was due and did not come is no longer there.
    """

    def __init__(self, gpus: Sequence[Gpu], interval_s: float) -> None:
        self._names = {gpu.uuid: gpu.name for gpu in gpus}
        self._infos = _infos(gpus)
        self._interval_s = interval_s
        self._newest: dict[str, dict[str, tuple[float, float]]] = {metric: {} for metric in METRICS}
        self.text = ""

    def update(
        self, rows: Iterable[Row], unsupported: Mapping[str, Mapping[str, str]], now_s: float, unix_s: float
    ) -> None:
        """Take a sample, read at `now_s` of a monotonic clock and `unix_s` of the wall.

        `unsupported` is device → metric → why.
        """
        for device, metric, value in rows:
            self._newest[metric][device] = (value, now_s)
        for metric, values in self._newest.items():
            every_s = _EVERY_S.get(metric, 0.0)
            keep_s = every_s + 1.5 * self._interval_s if 2 * every_s > self._interval_s else 0.0
            for device in [device for device, (_, read_s) in values.items() if now_s - read_s > keep_s]:
                del values[device]
        lacking = [
            (_labelled(device=device, metric=metric, why=why), 1)
            for device, metrics in unsupported.items()
            for metric, why in metrics.items()
        ]
        families = [
            *self._families(),
            _family("info", "a GPU, or a slice of one", self._infos),
            _family("unsupported", "what a device does not tell", lacking),
            _family("sample_unix_s", "when these were read", [("", unix_s)]),
        ]
        self.text = "".join(families)

    def _families(self) -> Iterable[str]:
        for metric, values in self._newest.items():
            if values:
                samples = [(self._labels(device), value) for device, (value, _) in values.items()]
                yield _family(metric, METRICS[metric], samples)

    def _labels(self, device: str) -> str:
        return _labelled(device=device, name=self._names.get(device.partition("/")[0], ""))


def _infos(gpus: Iterable[Gpu]) -> list[tuple[str, float]]:
    found = []
    for gpu in gpus:
        found.append((gpu.uuid, gpu.name, gpu.driver, "on" if gpu.mig else "off"))
        found += [(one.device, one.name, gpu.driver, "slice") for one in gpu.slices]
    return [(_labelled(device=device, name=name, driver=driver, mig=mig), 1) for device, name, driver, mig in found]


def _family(metric: str, meaning: str, samples: Iterable[tuple[str, float]]) -> str:
    lines = "".join(f"{_NAME}{metric}{labels} {value!r}\n" for labels, value in samples)
    return f"# HELP {_NAME}{metric} {meaning}\n# TYPE {_NAME}{metric} gauge\n{lines}"


def _labelled(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Handler(BaseHTTPRequestHandler):
    """`/metrics`, to those who have the token."""

    protocol_version = "HTTP/1.1"
    server_version = "fairshare-telemetry"
    sys_version = ""
    timeout = _IDLE_S

    def __init__(self, exposition: Exposition, token: bytes | None, *arguments: object) -> None:
        self._exposition = exposition
        self._token = token
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a request."""
        if not self._allowed():
            self._answer(HTTPStatus.UNAUTHORIZED, "a bearer token is needed\n")
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, "there is only /metrics\n")
        else:
            self._answer(HTTPStatus.OK, self._exposition.text)

    def log_message(self, *_: object) -> None:
        """A scrape is no news."""

    def _allowed(self) -> bool:
        if self._token is None:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        # http.server reads headers as Latin-1, whatever bytes they are.
        given_bytes = given.strip().encode("latin-1", errors="replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(given_bytes, self._token)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    """Listens on IPv4 or IPv6, as the address is."""

    def __init__(self, address: Address, handler: partial[_Handler]) -> None:
        try:
            [self.address_family, *_], *_ = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            super().__init__((address.host, address.port), handler)
        except OSError as error:
            raise ServingError(
                f"can't listen on {address.host}:{address.port}: {error.strerror or error}; --listen names another"
            ) from None

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}/metrics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument(
        "--listen",
        type=Address.parse,
        default=Address("127.0.0.1", 9401),
        metavar="HOST:PORT",
        help="where to serve /metrics, and nowhere else (default: 127.0.0.1:9401)",
    )
    parser.add_argument(
        "--token-env", metavar="NAME", help="the environment variable with the bearer token that a scrape must bring"
    )
    parser.add_argument(
        "--interval", type=_interval, default=0.5, metavar="SECONDS", help="between two samples (default: 0.5)"
    )


def serve(options: argparse.Namespace) -> int:
    """Sample this host's GPUs and serve what they say until SIGINT or SIGTERM; the exit code.

    Raises ServingError: no GPU, no token in the variable, an address that can't be listened on.
    """
    token = _token(options.token_env)
    source = NvmlSource.open()
    if isinstance(source, str):
        raise ServingError(f"no GPU to sample: {source}")
    exposition = Exposition(source.devices, options.interval)
    stop = threading.Event()
    sampling = threading.Thread(target=_sample, args=(source, exposition, options.interval, stop), daemon=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _take(source, exposition)
        with _Server(options.listen, partial(_Handler, exposition, token)) as server:
            if token is None and not options.listen.loopback:
                _say(f"warning: whoever reaches {options.listen.host} can read this; --token-env asks for a token")
            sampling.start()
            print(f"serving what {len(source.devices)} GPU(s) say on {server.url}; Ctrl-C stops", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        stop.set()
        if sampling.ident is not None:
            sampling.join(_STOP_WITHIN_S)
        if not sampling.is_alive():  # else a call of the driver hangs: the end of the process lets go of it
            source.close()
    return 0


def _sample(source: NvmlSource, exposition: Exposition, interval_s: float, stop: threading.Event) -> None:
    """Sample at multiples of the interval; what is late is left out. Says what goes wrong, once."""
    told = 0
    started_s = time.monotonic()
    while True:
        for problem in source.problems[told:]:
            _say(f"warning: {problem}")
            told += 1
        if stop.wait(interval_s - (time.monotonic() - started_s) % interval_s):
            return
        _take(source, exposition)


def _take(source: NvmlSource, exposition: Exposition) -> None:
    now_s, unix_s = time.monotonic(), time.time()  # before: what blocks long is read last
    rows = source.sample()
    exposition.update(rows, source.unsupported, now_s, unix_s)


def _token(variable: str | None) -> bytes | None:
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ServingError(f"--token-env {variable}: that environment variable is not set; put the token there")
    return os.fsencode(token)


def _interval(text: str) -> float:
    try:
        interval_s = float(text)
    except ValueError:
        interval_s = 0.0
    if not 0.1 <= interval_s <= 60:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.1 to 60, found {text!r}")
    return interval_s


def _say(line: str) -> None:
    print(f"fairshare: {line}", file=sys.stderr, flush=True)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
