"""Tenants as Locust users: a user is a slot that holds one stream at a time.

Waiting happens in `wait_time`, sending in the task, so Locust's stop, stop timeout and user counts keep working.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gevent.event import Event
from locust import User, task
from locust.env import Environment

from fairshare_locust.arrival import REST_AFTER_FAILURE_S, Arrival, ArrivalQueue, RowTimes, arrival_queue, shares
from fairshare_locust.client.client import StreamingClient
from fairshare_locust.client.dialects import DIALECTS, Ask
from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.client.exchange import Exchange
from fairshare_locust.clock import RunClock
from fairshare_locust.live.tally import LoadGauges
from fairshare_locust.parts import PhaseTimes
from fairshare_locust.profile.arrivals import BatchArrival, ClosedArrival
from fairshare_locust.profile.model import Tenant
from fairshare_locust.profile.transform import scaled_arrival
from fairshare_locust.record.record import Outcome
from fairshare_locust.recorder import Recorder, make_record
from fairshare_locust.serving.probe import api_key
from fairshare_locust.serving.server import Server
from fairshare_locust.workload import PromptRequest, PromptSource

__all__ = ["TenantLoad", "TenantUser", "tenant_user_class"]


class TenantUser(User):
    """A slot of a tenant. Its class holds the tenant's load, once a run has been prepared."""

    abstract = True
    tenant_id: ClassVar[str]
    load: ClassVar[TenantLoad | None] = None

    def wait_time(self) -> float:
        """Seconds until this slot's next request is due. Blocks at the gate, and between phases."""
        if self.load is None:
            raise RuntimeError(f"{type(self).__name__} has no load: no run was prepared")
        return self.load.wait_time(self)

    @task
    def send(self) -> None:
        """Send the request that is due."""
        if self.load is not None:
            self.load.send(self)


def tenant_user_class(tenant: Tenant) -> type[TenantUser]:
    """A user class of its own for a tenant: `chat` makes `ChatTenant`."""
    return type(tenant.class_name, (TenantUser,), {"abstract": False, "tenant_id": tenant.id, "__module__": __name__})


class _Slot:
    """A request that a slot has taken and will send when it is due."""

    __slots__ = ("arrival", "exchange", "request")

    def __init__(self, arrival: Arrival, request: PromptRequest, exchange: Exchange) -> None:
        self.arrival = arrival
        self.request = request
        self.exchange = exchange


class TenantLoad:
    """A tenant's load in this process, number `worker` of `workers`: its queue, its clients, every arrival's account.

    `scheduled` counts arrivals that were due; each of them ends in exactly one record.
    """

    def __init__(
        self,
        tenant: Tenant,
        seed: int,
        prompts: PromptSource,
        times: RowTimes | None,
        servers: Sequence[Server],
        recorder: Recorder,
        clock: RunClock,
        environment: Environment,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self.tenant = tenant
        self.scheduled = 0
        self.sent = 0
        self._seed = seed
        self._prompts = prompts
        self._times = times
        self._recorder = recorder
        self._clock = clock
        self._worker = worker
        self._workers = workers
        self._servers = servers
        self._dialect = DIALECTS[tenant.api]
        self._secret = api_key(tenant)
        self._clients = [
            StreamingClient(
                Endpoint.parse(s.endpoint),
                self._dialect,
                tenant.timeouts,
                {**tenant.headers, **dict(s.headers)},
                self._secret,
            )
            for s in servers
        ]
        self._on_first_token = _listener(environment, "first_token", tenant.id)
        self._on_token = _listener(environment, "token", tenant.id)
        self._queue: ArrivalQueue | None = None
        self._part_of: Callable[[float], str] = lambda _: ""
        self._gate = Event()  # set when slots should ask again; then a new one takes its place
        self._slots = 0  # how many may ask in this phase; the others wait
        self._prefix = ""
        self._numbers: dict[TenantUser, int] = {}
        # What follows an answer in its conversation; the slot that had the answer keeps it.
        self._next_turns: dict[TenantUser, tuple[Arrival, PromptRequest]] = {}
        self._served: set[TenantUser] = set()  # slots that have had a request in this phase
        self._held: dict[TenantUser, _Slot] = {}
        self._in_flight: dict[Exchange, Arrival] = {}
        self._backed_off: dict[TenantUser, float] = {}  # until when a slot of a closed loop rests

    # --- phases

    def begin(self, times: PhaseTimes, part_of: Callable[[float], str]) -> ArrivalQueue | None:
        """Open the gate for a phase; `part_of` names the part of it that holds a time.

        Returns the phase's queue; None if this process has no share of the tenant's load in it.
        """
        arrival = scaled_arrival(self.tenant.arrival, times.phase.load)
        share = shares(self.tenant.id, arrival, self._workers)[self._worker]
        self._queue = None
        if share.slots:
            self._queue = arrival_queue(
                arrival, self._seed, self.tenant.id, times.window, times=self._times, share=share
            )
            self._queue.on_release = self._open_gate
        self._slots = share.slots
        self._prefix = times.phase.prefix
        self._part_of = part_of
        self._served.clear()
        self._next_turns.clear()
        self._open_gate()
        return self._queue

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, Event()
        gate.set()

    def cut(self, end_s: float) -> None:
        """Nothing is due from `end_s` on. What was taken for later is given back, unsent and unrecorded."""
        if self._queue is None:
            return
        self._queue.cut(end_s)
        for user, slot in list(self._held.items()):
            if slot.arrival.due_s >= end_s:
                del self._held[user]
                self.scheduled -= 1

    def end(self, why: str) -> None:
        """The phase is over: what was due and not sent is cancelled, what is in flight is told to stop."""
        if self._queue is None:
            return
        now_s = self._clock.now_s()
        for slot in list(self._held.values()):
            self._unsent(slot.arrival, slot.request, "cancelled", why, now_s)
        self._held.clear()
        for arrival in self._queue.untaken():
            self.scheduled += 1
            request = self._prompts.request(arrival.index)
            self._unsent(arrival, request, "cancelled", f"{why}; no slot was free", max(now_s, arrival.due_s))
        self._queue = None
        for exchange in list(self._in_flight):
            exchange.abort("cancelled", why)

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """Requests that a slot has taken and not sent."""
        return len(self._held)

    def gauges(self) -> LoadGauges:
        """The load of this moment."""
        now_s = self._clock.now_s()
        waiting = sum(slot.arrival.due_s <= now_s for slot in self._held.values())
        asked = self.scheduled - (len(self._held) - waiting)
        return LoadGauges(self._slots, len(self._in_flight), waiting, asked, self.sent)

    # --- slots

    def wait_time(self, user: TenantUser) -> float:
        """Take the next request for a slot; seconds until it is due. Blocks while there is none."""
        while True:
            gate = self._gate
            slot = self._take(user)
            if slot is not None:
                self._held[user] = slot
                return max(0.0, slot.arrival.due_s - self._clock.now_s())
            gate.wait()

    def _take(self, user: TenantUser) -> _Slot | None:
        if self._numbers.setdefault(user, len(self._numbers)) >= self._slots:
            return None
        if user in self._next_turns:
            turn, request = self._next_turns.pop(user)
            if self._queue is not None and self._queue.admits(turn.due_s):
                self.scheduled += 1
                return _Slot(turn, request, self._exchange(turn, request))
        while self._queue is not None:
            free_s = max(self._clock.now_s(), self._backed_off.get(user, 0.0))
            arrival = self._queue.take(free_s, first=user not in self._served)
            if arrival is None:
                return None
            self.scheduled += 1
            self._served.add(user)
            request = self._prompts.request(arrival.index)
            if not arrival.shed:
                return _Slot(arrival, request, self._exchange(arrival, request))
            self._unsent(arrival, request, "shed", "no slot was free when it was due", arrival.due_s)
        return None

    def _exchange(self, arrival: Arrival, request: PromptRequest) -> Exchange:
        place = arrival.index % len(self._servers)
        server = self._servers[place]
        ask = Ask(
            server.model,
            request.messages,
            request.prompt,
            request.output_tokens,
            self.tenant.sampling,
            server.family,
            priority=self.tenant.priority,
            cache_salt=self.tenant.cache_salt,
            adapter=self.tenant.model,
        )
        exchange = self._clients[place].exchange(self._dialect.body(ask), self._request_id(arrival, request))
        exchange.on_first_token = self._on_first_token
        exchange.on_token = self._on_token
        return exchange

    def send(self, user: TenantUser) -> None:
        """Send the slot's request and record how it went, also when this greenlet is killed on the way."""
        slot = self._held.pop(user, None)
        if slot is None:
            return
        exchange, clock = slot.exchange, self._clock.as_it_is()
        self._in_flight[exchange] = slot.arrival
        self.sent += 1
        try:
            self._clients[slot.arrival.index % len(self._clients)].send(exchange)
        finally:
            exchange.cancel("the run ended first")
            del self._in_flight[exchange]
            part_of, prefix = self._part_of, self._prefix
            self._recorder.later(
                lambda: self._record(slot.arrival, slot.request, (exchange, clock), None, part_of, prefix)
            )
            self._backed_off[user] = self._back_off(exchange)
            if slot.request.turn is not None and exchange.outcome == "ok":
                self._continue(user, slot)

    def _continue(self, user: TenantUser, slot: _Slot) -> None:
        """An answer came: its conversation goes on, if there is a next turn. One that failed ends it."""
        transcript = slot.exchange.transcript
        tokens = transcript.output_tokens if transcript.output_tokens is not None else transcript.chunks
        turn = self._prompts.follow_up(slot.arrival.index, slot.request, transcript.answer, tokens)
        if turn is not None:
            ended_s = self._clock.of(slot.exchange.ended_at) or self._clock.now_s()
            self._next_turns[user] = (Arrival(slot.arrival.index, ended_s + turn.think_s), turn.request)

    def _back_off(self, exchange: Exchange) -> float:
        """Until when a closed loop's slot rests after a failure that came at once, as from a server that is gone.

        Without it such a loop would spin, and fill the disk with records of nothing.
        """
        if exchange.outcome == "ok" or not isinstance(self.tenant.arrival, ClosedArrival | BatchArrival):
            return 0.0
        sent_s = self._clock.of(exchange.sent_at) or 0.0
        return sent_s + REST_AFTER_FAILURE_S

    def close(self) -> None:
        """Close the connections that are idle."""
        for client in self._clients:
            client.close()

    # --- records

    def _request_id(self, arrival: Arrival, request: PromptRequest, prefix: str | None = None) -> str:
        turn = "" if request.turn is None else f".{request.turn}"
        return f"{self._id(arrival, self._prefix if prefix is None else prefix)}{turn}"

    def _id(self, arrival: Arrival, prefix: str) -> str:
        return f"{prefix}{self.tenant.id}-{arrival.index:06d}"

    def _unsent(self, arrival: Arrival, request: PromptRequest, outcome: Outcome, why: str, ended_s: float) -> None:
        self._record(arrival, request, None, (outcome, why, ended_s), self._part_of, self._prefix)

    def _record(
        self,
        arrival: Arrival,
        request: PromptRequest,
        sent: tuple[Exchange, RunClock] | None,
        unsent: tuple[Outcome, str, float] | None,
        part_of: Callable[[float], str],
        prefix: str,
    ) -> None:
        server = self._servers[arrival.index % len(self._servers)]
        record = make_record(
            tenant=self.tenant,
            phase=part_of(arrival.due_s),
            worker=self._worker,
            index=arrival.index,
            request_id=self._request_id(arrival, request, prefix),
            scheduled_s=arrival.due_s,
            sent=sent,
            unsent=unsent,
            request=request,
            endpoint=server.endpoint,
            model=server.model,
            session=None if request.turn is None else self._id(arrival, prefix),
            secret=self._secret,
        )
        self._recorder.finished(record, None if sent is None else sent[0], self.tenant)


def _listener(environment: Environment, event: str, tenant_id: str) -> Callable[[Exchange, float], None] | None:
    """Fires an event hook of ours, if anybody listens; a call for every token is dear."""
    hook: Any = getattr(environment.events, event, None)
    if hook is None or not hook._handlers:
        return None

    def fire(exchange: Exchange, stamp: float) -> None:
        hook.fire(tenant=tenant_id, sent_at=exchange.sent_at, stamp=stamp)

    return fire
