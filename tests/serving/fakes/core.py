"""`python -m tests.serving.fakes.core OWNER VERSION ARGUMENT…`: the simulator under another engine's name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import orjson
from aiohttp import web

from fairshare_locust.simulator import __main__ as simulator
from fairshare_locust.simulator import server

__all__: list[str] = []

_Handler = Callable[[web.Request], Any]


def _main(owner: str, version: str, arguments: list[str]) -> int:
    faults = os.environ.get("FAKE_ENGINE", "").split(",")
    served: Any = server
    make_app, list_models = served._app, served._Server.models

    async def models(self: Any, request: web.Request) -> web.StreamResponse:
        listed = orjson.loads((await list_models(self, request)).body)
        for model in listed["data"]:
            model["owned_by"] = owner
        return web.json_response(listed)

    async def tell_version(*_: object) -> web.StreamResponse:
        return web.json_response({"version": version})

    def app(*rest: Any) -> web.Application:
        made: web.Application = make_app(*rest)
        if owner == "tgi":
            made.add_routes([web.get("/info", tell_version)])
        return made

    served._app, served._Server.models, served._Server.version = app, models, tell_version
    if "no_token" in faults:
        served._Server.generation = lambda *_: _die
    if "ignore_sigterm" in faults:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        made: Any = simulator
        made.new_event_loop = _DeafLoop
    return simulator.main([*arguments, "--exit-with-parent"])


class _DeafLoop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        pass


async def _die(_: web.Request) -> NoReturn:
    print("RuntimeError: CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2], sys.argv[3:]))
