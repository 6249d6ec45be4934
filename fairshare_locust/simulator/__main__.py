"""`python -m fairshare_locust.simulator`: serve until told to stop.

When it listens it prints one line of JSON: `{"endpoint": "http://127.0.0.1:PORT", "dcgm": URL, "model": NAME,
"pid": PID, "prompt_overhead_tokens": {API: TOKENS}}`; the URL is where its modelled GPU is exported as by NVIDIA's DCGM
exporter, the last is what it adds to the tokens of a prompt's text. Where tenants have parts of the GPU (`--sharing`),
there is `"endpoints"` instead, a list with one for each part, in the order of the tenants.
SIGTERM and SIGINT end it with status 0, answers in flight with an error event.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from aiohttp import web

from fairshare_locust.errors import FairshareError, ServingError
from fairshare_locust.profile.model import Sharing, SimulatorOptions
from fairshare_locust.profile.reader import Reader
from fairshare_locust.simulator.dcgm import create_exporter
from fairshare_locust.simulator.faults import Fault, FaultError
from fairshare_locust.simulator.partition import Part, partition
from fairshare_locust.simulator.realtime import new_event_loop
from fairshare_locust.simulator.server import Simulator
from fairshare_locust.simulator.text import Vocabulary

__all__ = ["main"]

_logger = logging.getLogger("fairshare_locust.simulator")

_BACKLOG = 1024  # all users of a run may connect at once
_SHUTDOWN_S = 0.25  # for writing the last events to clients that do not read


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; return the exit status: 0 after a signal, 2 if it could not start."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        config = _options(arguments.options)
        parts = partition(config, arguments.sharing, _tenants(arguments))
        faults = _faults(config, arguments.fault)
        vocabulary = Vocabulary.load(arguments.tokenizer)
        api_key = _api_key(arguments.api_key_env)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(arguments, config, parts, vocabulary, api_key, faults))
    except FairshareError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _serve(
    arguments: argparse.Namespace,
    config: SimulatorOptions,
    parts: Sequence[Part],
    vocabulary: Vocabulary,
    api_key: str | None,
    faults: Sequence[Fault],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    simulator = Simulator(
        config,
        parts,
        model=arguments.model,
        vocabulary=vocabulary,
        sharing=arguments.sharing,
        seed=arguments.seed,
        adapters=arguments.adapter,
        api_key=api_key,
        faults=faults,
    )
    runners = [
        web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        for app in simulator.apps
    ]
    exporter = web.AppRunner(create_exporter(simulator.device), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    try:
        endpoints = [
            await _listen(runner, arguments.host, arguments.port and arguments.port + number, "--port")
            for number, runner in enumerate(runners)
        ]
        dcgm = await _listen(exporter, arguments.host, arguments.dcgm_port, "--dcgm-port") + "/metrics"
        # What exists now stays: the collector need not walk it again in the middle of a step.
        gc.collect()
        gc.freeze()
        special = vocabulary.special_tokens
        overhead = {"openai_chat": config.chat_template_tokens, "openai_completions": special, "tgi": special}
        where = {"endpoint": endpoints[0]} if arguments.sharing == "logical" else {"endpoints": endpoints}
        ready = {**where, "dcgm": dcgm, "model": arguments.model, "pid": os.getpid()}
        print(json.dumps({**ready, "prompt_overhead_tokens": overhead}), flush=True)
        _logger.info("serving %s with %s", arguments.model, config)
        for part, endpoint in zip(parts, endpoints, strict=True):
            _logger.info("%s, %s: %s", endpoint, arguments.sharing, part)
        for fault in faults:
            _logger.warning("faults are injected: %s", fault)
            if fault.kind == "crash":
                loop.call_later(fault.after_s, os.kill, os.getpid(), signal.SIGKILL)
        if arguments.exit_with_parent:
            _on_end_of_input(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        _logger.info("stopping")
    finally:
        await asyncio.gather(*(runner.cleanup() for runner in runners))
        await exporter.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, option: str) -> str:
    """Serve on a port; `option` is where it was given. Returns scheme, host and port."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OSError as error:
        raise ServingError(
            f"simulator: can't listen on {host}:{port}: {error.strerror}; give an address of this host, and another "
            f"{option}, or 0 for a free one"
        ) from error
    address, bound_port = runner.addresses[0][:2]
    return f"http://[{address}]:{bound_port}" if ":" in address else f"http://{address}:{bound_port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fairshare_locust.simulator",
        description="Serve a modelled GPU over the OpenAI (as vLLM speaks it) and TGI interfaces.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="of the first part, the others have the next ones; 0: free ones (default: %(default)s)",
    )
    parser.add_argument(
        "--dcgm-port",
        type=int,
        default=0,
        help="where the modelled GPU is exported; 0: a free one (default: %(default)s)",
    )
    parser.add_argument("--model", default="simulated", help="name to serve under (default: %(default)s)")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME", help="a further name, of an adapter; may be repeated"
    )
    parser.add_argument(
        "--tokenizer",
        default="builtin",
        help="'builtin', or a tokenizer.json or a folder with one (default: %(default)s)",
    )
    parser.add_argument(
        "--options",
        default="{}",
        metavar="JSON",
        help="the modelled GPU as a JSON object of SimulatorOptions fields, such as '{\"step_base_ms\": 20}'",
    )
    parser.add_argument(
        "--sharing",
        choices=get_args(Sharing),
        default="logical",
        help="one engine for all, or one for each tenant, and how they share the GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--tenant",
        action="append",
        default=[],
        metavar="ID",
        help="who has a part of the GPU, unless it is shared as logical; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the jitter (default: %(default)s)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:rate=R][:after=S][:for=S][:seed=N]",
        help="what goes wrong on purpose: stall, reset, error, slow (of the share R of the requests), crash; may be "
        "repeated",
    )
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with the key that clients must send"
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input reaches its end")
    return parser


def _options(text: str) -> SimulatorOptions:
    """The options as the profile's own reader takes them: JSON is YAML, and so are the limits the same."""
    reader = Reader("--options", Path())
    options = reader.read(text, SimulatorOptions)
    if reader.problems:
        raise ServingError("\n".join(f"simulator: {problem}" for problem in reader.problems))
    assert isinstance(options, SimulatorOptions)
    return options


def _tenants(arguments: argparse.Namespace) -> list[str]:
    tenants: list[str] = arguments.tenant
    if arguments.sharing != "logical" and not tenants:
        raise ServingError(
            f"simulator: --sharing {arguments.sharing}: each tenant has a part of the GPU; name them with --tenant ID"
        )
    for tenant in tenants:
        if tenants.count(tenant) > 1:
            raise ServingError(f"simulator: --tenant: found {tenant!r} again; each needs a name of its own")
    return tenants


def _faults(config: SimulatorOptions, more: Sequence[str]) -> list[Fault]:
    """Those of the options, which have been checked, and those of the command line."""
    faults = [Fault.parse(text) for text in config.faults]
    for text in more:
        try:
            faults.append(Fault.parse(text))
        except FaultError as error:
            raise ServingError(f"simulator: --fault {text!r}: {error}") from error
    return faults


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ServingError(f"simulator: environment variable {variable} is not set; put the API key into it")
    return key


def _on_end_of_input(callback: Callable[[], object]) -> None:
    """Call `callback` from a thread when standard input ends: whoever started this process is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        callback()

    threading.Thread(target=watch, name="end-of-input", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
