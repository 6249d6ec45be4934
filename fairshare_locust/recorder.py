"""Recorder: turns what happened to an arrival into its one record, its line in the file and Locust's events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import orjson
from gevent.event import Event
from locust.env import Environment

from fairshare_locust.client.exchange import Exchange
from fairshare_locust.client.pacer import pacer
from fairshare_locust.clock import RunClock
from fairshare_locust.profile.model import Tenant
from fairshare_locust.record import RecordStore, RequestRecord
from fairshare_locust.record.record import Outcome, tpot_ms
from fairshare_locust.workload import PromptRequest

__all__ = ["Recorder", "RequestFailed", "make_record", "tpot_ms"]

_log = logging.getLogger(__name__)


class RequestFailed(Exception):  # noqa: N818 - it is Locust's failure message, not an error of ours
    """What Locust shows for a request that did not end well."""


class Recorder:
    """Makes records while the run goes on. Every arrival comes here exactly once.

    `on_record` is told of each record.

    Attributes:
        open: records may still come.
    """

    def __init__(
        self,
        store: RecordStore,
        environment: Environment,
        clock: RunClock,
        on_record: Callable[[RequestRecord, Tenant], None],
    ) -> None:
        self._store = store
        self._environment = environment
        self._clock = clock
        self._on_record = on_record
        self.open = True
        self._later: deque[Callable[[], None]] = deque()
        self._something = Event()
        self._greenlet = gevent.spawn(self._work_off)

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

    def close(self) -> None:
        """Make every record, and stop."""
        self.open = False
        self._greenlet.kill()
        self.settle()

    def _make(self, make_record: Callable[[], None]) -> None:
        try:
            make_record()
        except Exception:  # one record is lost, and the run will say so; the others are not
            _log.exception("a record could not be made")

    def finished(self, record: RequestRecord, exchange: Exchange | None, tenant: Tenant) -> None:
        """Take in a request that has come to its end; `exchange` is None if it was never sent."""
        self._store.append(record.to_json())
        self._on_record(record, tenant)
        if exchange is not None and record.tokens_from == "chunks":
            text = "".join(exchange.transcript.texts)
            self._store.append_texts(orjson.dumps({"request_id": record.request_id, "text": text}) + b"\n")
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


def make_record(
    *,
    tenant: Tenant,
    phase: str,
    worker: int,
    index: int,
    request_id: str,
    scheduled_s: float,
    sent: tuple[Exchange, RunClock] | None,
    unsent: tuple[Outcome, str, float] | None,
    request: PromptRequest | None,
    endpoint: str,
    model: str,
    session: str | None,
    secret: str | None,
) -> RequestRecord:
    """The record of an arrival: of its exchange, by the clock it was sent by, or of `unsent`, if it never was.

    `unsent` is outcome, why, and when on the run clock.
    """
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
    if sent is None:
        assert unsent is not None
        outcome, why, ended_s = unsent
        return RequestRecord(
            **common,
            outcome=outcome,
            error=why,
            ended_s=round(ended_s, 6),
            input_tokens=None if request is None else request.input_tokens,
        )
    exchange, clock = sent
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
