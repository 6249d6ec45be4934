"""The HTTP side: routes, refusals, and the life of a request from its body to the end of its answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Mapping
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from fairshare_locust import __version__
from fairshare_locust.profile.model import Sharing, SimulatorOptions
from fairshare_locust.simulator.answer import AnswerFailedError, AnswerFormat, StreamedAnswer, WholeAnswer
from fairshare_locust.simulator.blocks import block_names
from fairshare_locust.simulator.device import Device
from fairshare_locust.simulator.engine import Sequence
from fairshare_locust.simulator.faults import Fault, fault_of
from fairshare_locust.simulator.injection import INJECTED_ERROR, Injection, reset_connection
from fairshare_locust.simulator.machine import machine_with
from fairshare_locust.simulator.metrics import SimulatorMetrics
from fairshare_locust.simulator.openai_api import ChatApi, CompletionsApi
from fairshare_locust.simulator.partition import Part
from fairshare_locust.simulator.realtime import RealTimeMachine, RealTimePart, Receiver
from fairshare_locust.simulator.request import TENANT_HEADER, GenerationRequest, RefusalError
from fairshare_locust.simulator.text import Script, Vocabulary, natural_length_tokens, prompt_seed
from fairshare_locust.simulator.tgi_api import TgiApi

__all__ = ["Simulator"]

_MAX_BODY_BYTES = 64 * 2**20
_INLINE_PROMPT_CHARACTERS = 1000  # tokenized at once: a thread costs more than these ~0.3 ms
_GENERATION_PATHS = ("/v1/chat/completions", "/v1/completions", "/generate", "/generate_stream")
_GUARDED = ("/v1/", "/generate")


class _Api(Protocol):
    """One endpoint's way of asking and answering."""

    def parse(self, body: bytes, headers: Mapping[str, str]) -> GenerationRequest: ...

    def max_tokens(self, request: GenerationRequest, prompt_tokens: int) -> int: ...

    def answer_format(self, request: GenerationRequest, prompt_tokens: int) -> AnswerFormat: ...

    def refuse_failed(self, message: str) -> RefusalError: ...


class Simulator:
    """A modelled GPU in real time, and an HTTP server in front of each of its parts. Make it where an event loop runs.

    Attributes:
        device: the GPU, as a monitor sees it.
        apps: aiohttp applications by index of their part. Serve them with `handler_cancellation=True`, or clients that
            leave go unnoticed. The shutdown of one ends what is in flight there with an error.
    """

    def __init__(
        self,
        config: SimulatorOptions,
        parts: Many[Part],
        *,
        model: str,
        vocabulary: Vocabulary,
        sharing: Sharing = "logical",
        seed: int = 0,
        adapters: Many[str] = (),
        api_key: str | None = None,
        faults: Many[Fault] = (),
    ) -> None:
        """It answers to the name `model`, and to those of `adapters`, at the same cost.

        `seed` is that of the jitter. `api_key`: asked for on `/v1/…` and `/generate…`; None: nobody is asked.
        """
        loop = asyncio.get_running_loop()
        machine = machine_with(config, sharing, parts, seed)
        metrics = [SimulatorMetrics(engine, model, index) for index, engine in enumerate(machine.engines)]
        realtime = RealTimeMachine(machine, metrics, loop)
        names = _Names(model, tuple(adapters))
        self.device = Device(machine.engines, realtime.busy_time, loop.time)
        self.apps = tuple(
            _app(_Server(config, names, vocabulary, engine, of_part, faults), config, names, api_key)
            for engine, of_part in zip(realtime.parts, metrics, strict=True)
        )


class _Names(NamedTuple):
    """The names that a server answers to."""

    model: str
    adapters: tuple[str, ...]


def _app(server: _Server, config: SimulatorOptions, names: _Names, api_key: str | None) -> web.Application:
    app = web.Application(
        middlewares=[
            server.count_requests,
            _refusals,
            *([_api_key_check(api_key)] if api_key is not None else []),
        ],
        client_max_size=_MAX_BODY_BYTES,
    )
    app.add_routes(
        [
            web.post("/v1/chat/completions", server.generation(ChatApi(config, *names))),
            web.post("/v1/completions", server.generation(CompletionsApi(config, *names))),
            web.post("/generate", server.generation(TgiApi(config.max_model_len, stream=False))),
            web.post("/generate_stream", server.generation(TgiApi(config.max_model_len, stream=True))),
            web.get("/v1/models", server.models),
            web.get("/health", server.health),
            web.get("/version", server.version),
            web.get("/metrics", server.metrics),
        ]
    )
    app.on_shutdown.append(server.shut_down)
    return app


class _Server:
    """The handlers of one part and what they share, over the `engine` that does the work."""

    def __init__(
        self,
        config: SimulatorOptions,
        names: _Names,
        vocabulary: Vocabulary,
        engine: RealTimePart,
        metrics: SimulatorMetrics,
        faults: Many[Fault],
    ) -> None:
        self._config = config
        self._model, self._adapters = names
        self._vocabulary = vocabulary
        self._engine = engine
        self._metrics = metrics
        self._faults = faults
        self._numbered = 0  # requests that a fault might have struck
        self._created_s = int(time.time())
        self._loop = asyncio.get_running_loop()
        self._started_s = self._loop.time()
        self._tokenizer_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def generation(self, api: _Api) -> Handler:
        """A handler that answers generation requests of one API."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            arrived_s = self._loop.time()
            asked = api.parse(body, request.headers)
            prompt_tokens, blocks = await self._read_prompt(asked)
            max_tokens = api.max_tokens(asked, prompt_tokens)
            tenant = request.headers.get(TENANT_HEADER, "").encode(errors="replace").decode()
            scripts, sequences = [], []
            for choice in range(asked.choices):
                script, stop_after_tokens = self._script(asked, choice, max_tokens)
                scripts.append(script)
                sequences.append(
                    Sequence(
                        prompt_tokens,
                        max_tokens,
                        stop_after_tokens,
                        asked.priority,
                        tenant=tenant,
                        blocks=blocks,
                    )
                )
            answer_format = api.answer_format(asked, prompt_tokens)
            fault = self._fault_of(request, arrived_s)
            try:
                if asked.stream:
                    return await self._stream(request, answer_format, sequences, scripts, arrived_s, fault)
                return await self._answer(request, answer_format, sequences, scripts, arrived_s, fault)
            except AnswerFailedError as error:
                raise api.refuse_failed(str(error)) from error
            finally:
                # The client went away; those that have ended are left alone.
                for sequence in sequences:
                    self._engine.cancel(sequence)

        return handle

    async def _stream(
        self,
        request: web.Request,
        answer_format: AnswerFormat,
        sequences: list[Sequence],
        scripts: list[Script],
        arrived_s: float,
        fault: Fault | None,
    ) -> web.StreamResponse:
        if request.version < HttpVersion11:
            raise RefusalError(505, "Streaming needs HTTP/1.1")
        tokens = sum(map(_length_tokens, sequences))
        if fault is not None and fault.kind == "error" and tokens == 1:
            raise AnswerFailedError(INJECTED_ERROR)  # there is no middle
        injection: Injection | None = None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            if request.transport is None:
                raise ConnectionResetError("the client went away")
            answer = StreamedAnswer(request.transport, answer_format, scripts)
            receivers: Many[Receiver] = answer.receivers
            if fault is not None:
                injection = Injection(fault, receivers, tokens, request.transport, self._loop)
                receivers = injection.receivers
            self._engine.submit(list(zip(sequences, receivers, strict=True)), arrived_s)
            await answer.wait()
            await response.write_eof()
        except ConnectionError:
            pass  # gone before it could be noticed; aiohttp drops the connection when it ends the response
        finally:
            if injection is not None:
                injection.close()
        return response

    async def _answer(
        self,
        request: web.Request,
        answer_format: AnswerFormat,
        sequences: list[Sequence],
        scripts: list[Script],
        arrived_s: float,
        fault: Fault | None,
    ) -> web.StreamResponse:
        if fault is not None and fault.kind == "error":
            raise AnswerFailedError(INJECTED_ERROR)
        answer = WholeAnswer(scripts)
        self._engine.submit(list(zip(sequences, answer.receivers, strict=True)), arrived_s)
        response = _json_response(answer_format.whole(await answer.wait()))
        if fault is None:
            return response
        if fault.kind == "slow":
            await asyncio.sleep(fault.for_s * sum(sequence.generated_tokens for sequence in sequences))
            return response
        return await _interrupted(request, response, fault)

    def _fault_of(self, request: web.Request, arrived_s: float) -> Fault | None:
        if not self._faults:
            return None
        self._numbered += 1
        request_id = request.headers.get("X-Request-Id", f"number {self._numbered}")
        fault = fault_of(self._faults, request_id, arrived_s - self._started_s)
        if fault is not None:
            self._metrics.faults[fault.kind] += 1
        return fault

    def _script(self, asked: GenerationRequest, choice: int, max_tokens: int) -> tuple[Script, int | None]:
        """What a choice says, and the tokens after which it ends by itself, if it does."""
        prompt = "\n".join(asked.texts) if asked.token_ids is None else asked.token_ids
        seed = prompt_seed(prompt, choice)
        script = Script(self._vocabulary, seed % len(self._vocabulary.words))
        natural_tokens = None if asked.ignore_eos else max(asked.min_tokens, natural_length_tokens(seed))
        if asked.stop:
            most_tokens = max_tokens if natural_tokens is None else min(max_tokens, natural_tokens)
            script.end_at(asked.stop, most_tokens, asked.min_tokens, include=asked.include_stop)
        return script, natural_tokens if script.stop_after_tokens is None else script.stop_after_tokens

    async def _read_prompt(self, asked: GenerationRequest) -> tuple[int, tuple[int, ...]]:
        """How many tokens a prompt has, and what its full blocks are called in the prefix cache."""
        if sum(map(len, asked.texts)) <= _INLINE_PROMPT_CHARACTERS:
            return self._tokenize(asked)
        return await self._loop.run_in_executor(self._tokenizer_thread, self._tokenize, asked)

    def _tokenize(self, asked: GenerationRequest) -> tuple[int, tuple[int, ...]]:
        if asked.token_ids is not None:
            tokens: Many[int] = asked.token_ids
        else:
            # What the template adds stands before the first message, and is the same for all.
            tokens = [-1] * asked.extra_prompt_tokens
            for text in self._vocabulary.token_ids(asked.texts, special_tokens=asked.special_tokens):
                tokens += text
        if not self._config.prefix_caching:
            return len(tokens), ()
        return len(tokens), block_names((asked.cache_salt, asked.model), tokens)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The model, and its adapters as vLLM lists them: with a parent and without a length."""
        about = {"object": "model", "created": self._created_s, "owned_by": "fairshare-simulator"}
        length = self._config.max_model_len
        base = {"id": self._model, **about, "root": self._model, "parent": None, "max_model_len": length}
        adapters = [
            {"id": name, **about, "root": name, "parent": self._model, "max_model_len": None} for name in self._adapters
        ]
        return _json_response({"object": "list", "data": [base, *adapters]})

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Status 200, no body."""
        return web.Response()

    async def version(self, _request: web.Request) -> web.StreamResponse:
        """The package's version."""
        return _json_response({"version": __version__})

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """Prometheus text."""
        return web.Response(body=self._metrics.exposition().encode(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @web.middleware
    async def count_requests(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count generation requests, before anything can refuse them."""
        if request.method == "POST" and request.path in _GENERATION_PATHS:
            self._metrics.requests_received += 1
        return await handler(request)

    async def shut_down(self, _app: web.Application) -> None:
        """End what is in flight."""
        self._engine.close("The simulator is shutting down.")
        self._tokenizer_thread.shutdown(wait=False, cancel_futures=True)


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write refusals, and aiohttp's own errors, as the real servers do."""
    try:
        return await handler(request)
    except RefusalError as refusal:
        if isinstance(refusal.body, str):
            return web.Response(status=refusal.status, text=refusal.body)
        return _json_response(refusal.body, refusal.status)
    except web.HTTPException as error:
        return _json_response({"detail": error.reason}, error.status)


def _api_key_check(api_key: str) -> Middleware:
    expected = f"Bearer {api_key}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if request.path.startswith(_GUARDED) and not hmac.compare_digest(given, expected):
            return _json_response({"error": "Unauthorized"}, 401)
        return await handler(request)

    return check


def _length_tokens(sequence: Sequence) -> int:
    """How long an answer will be."""
    natural_tokens = sequence.stop_after_tokens
    return sequence.max_tokens if natural_tokens is None else min(sequence.max_tokens, natural_tokens)


async def _interrupted(request: web.Request, whole: web.Response, fault: Fault) -> web.StreamResponse:
    """Send an answer in one piece that stalls in its middle, or ends there."""
    body = whole.body
    assert isinstance(body, bytes)
    response = web.StreamResponse(status=whole.status, headers={"Content-Type": whole.headers["Content-Type"]})
    response.content_length = len(body)
    try:
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if fault.kind == "reset" and request.transport is not None:
            reset_connection(request.transport)
            return response
        await asyncio.sleep(fault.for_s)
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone
    return response


def _json_response(body: object, status: int = 200) -> web.Response:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(status=status, body=data, headers={"Content-Type": "application/json"})
