"""Recorder: turns what happened to an arrival into its one record, its line in the file and Locust's events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gevent
import orjson
from gevent.event import Event
from locust.env import Environment

from fairshare_locust.client.exchange import Exchange
from fairshare_locust.client.pacer import pacer
from fairshare_locust.clock import RunClock
from fairshare_locust.profile.model import Tenant
from fairshare_locust.record import RecordWriter, RequestRecord, RunDirectory
from fairshare_locust.record.record import Outcome
from fairshare_locust.record.run_directory import replace_lines
from fairshare_locust.workload import PromptRequest, Tokenizer

__all__ = ["Recorder", "RequestFailed", "make_record", "tpot_ms"]

_log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 0.5


class RequestFailed(Exception):  # noqa: N818 - it is Locust's failure message, not an error of ours
    """What Locust shows for a request that did not end well."""


class Recorder:
    """Writes records while the run goes on. Every arrival comes here exactly once."""

    def __init__(self, directory: RunDirectory, environment: Environment, clock: RunClock) -> None:
        self._directory = directory
        self._environment = environment
        self._clock = clock
        self._requests = RecordWriter(directory.requests)
        self._texts: RecordWriter | None = None
        self._disk_trouble = False
        self.on_record: Callable[[RequestRecord, Tenant], None] | None = None
        self._later: deque[Callable[[], None]] = deque()
        self._something = Event()
        self._greenlets = [gevent.spawn(self._flush_regularly), gevent.spawn(self._work_off)]

    def later(self, make_record: Callable[[], None]) -> None:
        """Call this soon, when the event loop has time: the greenlet that has just finished can send again at once."""
        self._later.append(make_record)
        self._something.set()

    def _work_off(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            while self._later:
                self._make(self._later.popleft())
                pacer().pause()

    def settle(self) -> None:
        """Make every record that was put off."""
        while self._later:
            self._make(self._later.popleft())

    def _make(self, make_record: Callable[[], None]) -> None:
        try:
            make_record()
        except Exception:  # one record is lost, and the run will say so; the others are not
            _log.exception("a record could not be made")

    def finished(self, record: RequestRecord, exchange: Exchange | None, tenant: Tenant) -> None:
        """Take in a request that has come to its end; `exchange` is None if it was never sent."""
        self._requests.append(record.to_json())
        if self.on_record is not None:
            self.on_record(record, tenant)
        if exchange is not None and record.tokens_from == "chunks":
            self._save_text(record, "".join(exchange.transcript.texts))
        self._tell_locust(record, exchange, tenant)

    def _tell_locust(self, record: RequestRecord, exchange: Exchange | None, tenant: Tenant) -> None:
        sent_s = record.sent_s
        last_s = record.last_token_s if record.outcome == "ok" else record.ended_s
        if last_s is None:
            last_s = record.ended_s
        response_ms = None if sent_s is None or last_s is None else (last_s - sent_s) * 1000
        failure = None if record.outcome == "ok" else RequestFailed(f"{record.outcome}: {record.error}")
        self._environment.events.request.fire(
            request_type=tenant.api,
            name=tenant.id,
            response_time=response_ms,
            response_length=sum(map(len, exchange.transcript.pieces)) if exchange is not None else 0,
            exception=failure,
            context={"tenant": tenant.id, "request_id": record.request_id, "phase": record.phase},
            start_time=self._clock.unix_s + (record.scheduled_s if sent_s is None else sent_s),
            url=record.endpoint,
        )
        # Rows of their own that do not enter Locust's Aggregated, as further `request` events would.
        entries: Any = self._environment.stats.entries
        if record.first_token_s is not None and sent_s is not None:
            entries[(tenant.id, "TTFT")].log((record.first_token_s - sent_s) * 1000, 0)
            per_token_ms = tpot_ms(record)
            if per_token_ms is not None:
                entries[(tenant.id, "TPOT")].log(per_token_ms, 0)
        response: Any = getattr(self._environment.events, "response", None)
        if response is not None:
            response.fire(record=record)

    # --- files

    def _save_text(self, record: RequestRecord, text: str) -> None:
        if self._texts is None:
            self._texts = RecordWriter(self._directory.texts)
        self._texts.append(orjson.dumps({"request_id": record.request_id, "text": text}) + b"\n")

    def _flush_regularly(self) -> None:
        while True:
            gevent.sleep(_FLUSH_EVERY_S)
            self.flush()

    def flush(self) -> bool:
        """Write what is pending; False, told once, while the disk does not take it."""
        try:
            self._requests.flush()
            if self._texts is not None:
                self._texts.flush()
        except OSError as error:
            if not self._disk_trouble:
                self._disk_trouble = True
                _log.error("%s can't be written (%s); records are kept in memory", self._requests.path, error.strerror)
            return False
        if self._disk_trouble:
            self._disk_trouble = False
            _log.warning("%s can be written again; nothing was lost", self._requests.path)
        return True

    def close(self) -> bytes:
        """Stop, write everything; returns what of the records could not be written (nothing if all went well)."""
        gevent.killall(self._greenlets)
        self.settle()
        if not self.flush():
            return self._requests.unwritten
        self._requests.close()
        if self._texts is not None:
            self._texts.close()
        return b""

    def count_saved_texts(self, tokenizer: Tokenizer) -> None:
        """Count the tokens of answers that came without usage, and put the counts into their records."""
        if self._texts is None:
            return
        texts: dict[str, str] = {}
        with open(self._directory.texts, "rb") as lines:
            for line in lines:
                saved = orjson.loads(line)
                texts[saved["request_id"]] = saved["text"]
        counts = dict(zip(texts, tokenizer.counts(list(texts.values())), strict=True))
        replace_lines(self._directory.requests, lambda line: _with_count(line, counts))
        self._directory.texts.unlink()


def make_record(
    *,
    tenant: Tenant,
    phase: str,
    worker: int,
    index: int,
    request_id: str,
    scheduled_s: float,
    clock: RunClock,
    exchange: Exchange | None,
    unsent: tuple[Outcome, str, float] | None,
    request: PromptRequest | None,
    endpoint: str,
    model: str,
    session: str | None,
    secret: str | None,
) -> RequestRecord:
    """The record of an arrival: of its exchange, or, if it was never sent, of `unsent` (outcome, why, ended_s)."""
    common: dict[str, Any] = {
        "request_id": request_id,
        "tenant": tenant.id,
        "phase": phase,
        "worker": worker,
        "index": index,
        "scheduled_s": round(scheduled_s, 6),
        "requested_output_tokens": None if request is None else request.output_tokens,
        "endpoint": endpoint,
        "api": tenant.api,
        "model": model,
        "session": session,
        "turn": None if request is None else request.turn,
        "prompt_sha": None if request is None else request.sha,
    }
    if exchange is None:
        assert unsent is not None
        outcome, why, ended_s = unsent
        return RequestRecord(
            **common,
            outcome=outcome,
            error=why,
            ended_s=round(ended_s, 6),
            input_tokens=None if request is None else request.input_tokens,
        )
    transcript = exchange.transcript
    error = exchange.error
    if error is not None and secret:
        error = error.replace(secret, "***")
    output_tokens = transcript.output_tokens
    counted = output_tokens is not None and transcript.chunks > 0
    input_tokens = transcript.input_tokens
    if input_tokens is None and request is not None:
        input_tokens = request.input_tokens
    assert exchange.outcome is not None
    return RequestRecord(
        **common,
        sent_s=clock.of(exchange.sent_at),
        headers_s=clock.of(exchange.headers_at),
        first_token_s=clock.of(transcript.first_token_at),
        last_token_s=clock.of(transcript.last_token_at),
        ended_s=clock.of(exchange.ended_at),
        outcome=exchange.outcome,
        status=exchange.status,
        error=error,
        finish_reason=transcript.finish_reason,
        input_tokens=input_tokens,
        output_tokens=output_tokens if counted else (transcript.chunks or None),
        tokens_from="usage" if counted else ("chunks" if transcript.chunks else None),
        chunk_gap_us=transcript.gap_us if transcript.chunks else None,
        chunk_tokens=transcript.chunk_tokens if transcript.chunks else None,
        engine=transcript.engine,
    )


def tpot_ms(record: RequestRecord) -> float | None:
    """Time per output token after the first chunk; None where it does not apply."""
    if record.first_token_s is None or record.last_token_s is None or not record.chunk_gap_us:
        return None
    first_chunk = record.chunk_tokens[0] if record.chunk_tokens else 1
    after = (record.output_tokens or 0) - first_chunk
    return (record.last_token_s - record.first_token_s) * 1000 / after if after > 0 else None


def _with_count(line: bytes, counts: Mapping[str, int]) -> bytes:
    record = RequestRecord.from_json(line)
    count = counts.get(record.request_id)
    if count is None or record.tokens_from != "chunks":
        return line
    return replace(record, output_tokens=count, tokens_from="tokenizer").to_json()
