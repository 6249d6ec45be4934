"""`python -m fairshare_locust.simulator`: serve until told to stop.

When it listens it prints one line of JSON: `{"endpoint": "http://127.0.0.1:PORT", "dcgm": URL, "model": NAME,
"pid": PID, "prompt_overhead_tokens": {API: TOKENS}}`; the URL is where its modelled GPU is exported as by NVIDIA's DCGM
exporter, the last is what it adds to the tokens of a prompt's text.
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

from aiohttp import web

from fairshare_locust.errors import FairshareError, ServingError
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.profile.reader import Reader
from fairshare_locust.simulator.dcgm import create_exporter
from fairshare_locust.simulator.realtime import new_event_loop
from fairshare_locust.simulator.server import DEVICE, create_app
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
        vocabulary = Vocabulary.load(arguments.tokenizer)
        api_key = _api_key(arguments.api_key_env)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(arguments, config, vocabulary, api_key))
    except FairshareError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _serve(
    arguments: argparse.Namespace, config: SimulatorOptions, vocabulary: Vocabulary, api_key: str | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = create_app(config, model=arguments.model, vocabulary=vocabulary, adapters=arguments.adapter, api_key=api_key)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    exporter = web.AppRunner(create_exporter(app[DEVICE]), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    try:
        endpoint = await _listen(runner, arguments.host, arguments.port, "--port")
        dcgm = await _listen(exporter, arguments.host, arguments.dcgm_port, "--dcgm-port") + "/metrics"
        # What exists now stays: the collector need not walk it again in the middle of a step.
        gc.collect()
        gc.freeze()
        special = vocabulary.special_tokens
        overhead = {"openai_chat": config.chat_template_tokens, "openai_completions": special, "tgi": special}
        ready = {"endpoint": endpoint, "dcgm": dcgm, "model": arguments.model, "pid": os.getpid()}
        print(json.dumps({**ready, "prompt_overhead_tokens": overhead}), flush=True)
        _logger.info("serving %s on %s with %s", arguments.model, endpoint, config)
        if arguments.exit_with_parent:
            _on_end_of_input(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        _logger.info("stopping")
    finally:
        await runner.cleanup()
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
    parser.add_argument("--port", type=int, default=0, help="0: a free one (default: %(default)s)")
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
