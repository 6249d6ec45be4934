"""The HTTP side: routes, refusals, and the life of a request from its body to the end of its answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Mapping
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from fairshare_locust import __version__
from fairshare_locust.profile.model import SimulatorOptions
from fairshare_locust.simulator.answer import AnswerFailedError, AnswerFormat, StreamedAnswer, WholeAnswer
from fairshare_locust.simulator.device import Device
from fairshare_locust.simulator.engine import Engine, Sequence
from fairshare_locust.simulator.metrics import SimulatorMetrics
from fairshare_locust.simulator.openai_api import ChatApi, CompletionsApi
from fairshare_locust.simulator.realtime import RealTimeEngine
from fairshare_locust.simulator.request import GenerationRequest, RefusalError
from fairshare_locust.simulator.text import Vocabulary, natural_length_tokens, prompt_seed
from fairshare_locust.simulator.tgi_api import TgiApi

__all__ = ["DEVICE", "create_app"]

DEVICE = web.AppKey("DEVICE", Device)
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


def create_app(
    config: SimulatorOptions,
    *,
    model: str,
    vocabulary: Vocabulary,
    adapters: Many[str] = (),
    api_key: str | None = None,
) -> web.Application:
    """The server as an aiohttp application; call it where an event loop runs.

    It answers to the name `model`, and to those of `adapters`, at the same cost. Under `DEVICE` it holds the GPU.

    Serve it with `handler_cancellation=True`, or clients that leave go unnoticed. Its shutdown ends what is
    in flight with an error. `api_key`: asked for on `/v1/…` and `/generate…`; None: nobody is asked.
    """
    server = _Server(config, model, adapters, vocabulary)
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
            web.post("/v1/chat/completions", server.generation(ChatApi(config, model, adapters))),
            web.post("/v1/completions", server.generation(CompletionsApi(config, model, adapters))),
            web.post("/generate", server.generation(TgiApi(config.max_model_len, stream=False))),
            web.post("/generate_stream", server.generation(TgiApi(config.max_model_len, stream=True))),
            web.get("/v1/models", server.models),
            web.get("/health", server.health),
            web.get("/version", server.version),
            web.get("/metrics", server.metrics),
        ]
    )
    app[DEVICE] = server.device
    app.on_shutdown.append(server.shut_down)
    return app


class _Server:
    """The handlers and what they share, over the `device` that does the work."""

    def __init__(self, config: SimulatorOptions, model: str, adapters: Many[str], vocabulary: Vocabulary) -> None:
        self._config = config
        self._model = model
        self._adapters = adapters
        self._vocabulary = vocabulary
        self._created_s = int(time.time())
        self._loop = asyncio.get_running_loop()
        engine = Engine(config)
        self._metrics = SimulatorMetrics(engine, model)
        self._engine = RealTimeEngine(engine, self._metrics, self._loop)
        self.device = Device(engine, self._engine.busy_time, self._loop.time)
        self._tokenizer_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def generation(self, api: _Api) -> Handler:
        """A handler that answers generation requests of one API."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            arrived_s = self._loop.time()
            asked = api.parse(body, request.headers)
            prompt_tokens = await self._count_prompt_tokens(asked)
            max_tokens = api.max_tokens(asked, prompt_tokens)
            seeds = [_seed(asked, choice) for choice in range(asked.choices)]
            sequences = [
                Sequence(
                    prompt_tokens,
                    max_tokens,
                    None if asked.ignore_eos else max(asked.min_tokens, natural_length_tokens(seed)),
                    asked.priority,
                )
                for seed in seeds
            ]
            starts = [seed % len(self._vocabulary.words) for seed in seeds]
            answer_format = api.answer_format(asked, prompt_tokens)
            try:
                if asked.stream:
                    return await self._stream(request, answer_format, sequences, starts, arrived_s)
                return await self._answer(answer_format, sequences, starts, arrived_s)
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
        starts: list[int],
        arrived_s: float,
    ) -> web.StreamResponse:
        if request.version < HttpVersion11:
            raise RefusalError(505, "Streaming needs HTTP/1.1")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            if request.transport is None:
                raise ConnectionResetError("the client went away")
            answer = StreamedAnswer(request.transport, answer_format, self._vocabulary, starts)
            self._engine.submit(list(zip(sequences, answer.receivers, strict=True)), arrived_s)
            await answer.wait()
            await response.write_eof()
        except ConnectionError:
            pass  # gone before it could be noticed; aiohttp drops the connection when it ends the response
        return response

    async def _answer(
        self,
        answer_format: AnswerFormat,
        sequences: list[Sequence],
        starts: list[int],
        arrived_s: float,
    ) -> web.StreamResponse:
        answer = WholeAnswer(self._vocabulary, starts)
        self._engine.submit(list(zip(sequences, answer.receivers, strict=True)), arrived_s)
        return _json_response(answer_format.whole(await answer.wait()))

    async def _count_prompt_tokens(self, asked: GenerationRequest) -> int:
        if asked.token_ids is not None:
            return len(asked.token_ids)

        def count() -> int:
            counts = self._vocabulary.count_tokens(asked.texts, special_tokens=asked.special_tokens)
            return sum(counts) + asked.extra_prompt_tokens

        if sum(map(len, asked.texts)) <= _INLINE_PROMPT_CHARACTERS:
            return count()
        return await self._loop.run_in_executor(self._tokenizer_thread, count)

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


def _seed(asked: GenerationRequest, choice: int) -> int:
    prompt = "\n".join(asked.texts) if asked.token_ids is None else asked.token_ids
    return prompt_seed(prompt, choice)


def _json_response(body: object, status: int = 200) -> web.Response:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(status=status, body=data, headers={"Content-Type": "application/json"})
