"""Flights: the requests under way on a modelled machine, from their sending to their record."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from fairshare_locust.client.dialects.dialect import error_message
from fairshare_locust.errors import ServingError
from fairshare_locust.profile.model import Api, Profile, SimulatorOptions, Tenant
from fairshare_locust.record import RequestRecord
from fairshare_locust.record.record import Outcome
from fairshare_locust.simulator.engine import FinishReason, Sequence
from fairshare_locust.simulator.machine import Machine, StepEnd
from fairshare_locust.simulator.openai_api import ChatApi, CompletionsApi
from fairshare_locust.simulator.prompts import BlockNames, TenantPrompts
from fairshare_locust.simulator.request import TENANT_HEADER, GenerationRequest, RefusalError
from fairshare_locust.simulator.slots import Flight, Held, TenantSlots
from fairshare_locust.simulator.tgi_api import TgiApi
from fairshare_locust.simulator.token_times import TokenTimes
from fairshare_locust.workload import PromptSource, load_tokenizer

__all__ = ["Flights"]

_REASON_CHARACTERS = 500  # of a refusal, as the client keeps them


class Flights:
    """Sends requests to a machine, follows their tokens, and makes a record of each, sent or not.

    There is no network: a request reaches its engine when it is sent, the answer's head comes at once, and a token when
    the step that gave it ends.
    """

    def __init__(
        self,
        profile: Profile,
        machine: Machine,
        part_of: Mapping[str, int],
        endpoints: Mapping[str, str],
        prompts: Mapping[str, PromptSource],
        on_record: Callable[[TenantSlots, RequestRecord], None],
    ) -> None:
        """`part_of` and `endpoints` say where each tenant's requests go, by its id; `on_record` is told of each."""
        options = profile.deployment.simulator
        self._machine = machine
        self._part_of = part_of
        self._endpoints = endpoints
        self._on_record = on_record
        self._options = options
        self._model = profile.model.name
        self._times = [TokenTimes() for _ in set(part_of.values())]
        names = BlockNames(wanted=options.prefix_caching)
        tokenizer = load_tokenizer(profile.model.tokenizer)
        self._prompts = {
            tenant.id: TenantPrompts(tenant, prompts[tenant.id], options, self._model, names, tokenizer)
            for tenant in profile.tenants
        }
        self._names = {tenant.id: _name(tenant) for tenant in profile.tenants}
        self._apis = _apis(options, self._model, [tenant.model for tenant in profile.tenants if tenant.model])
        self._flights: dict[Sequence, Flight] = {}
        self._deadlines: list[tuple[float, int, Flight]] = []
        self._sent = 0
        self.phase_of: Callable[[float], str] = lambda _: ""
        self.prefix = ""

    def __len__(self) -> int:
        """Requests sent and not ended."""
        return len(self._flights)

    @property
    def next_s(self) -> float:
        """When something happens next to one of them."""
        step_s = self._machine.next_s()
        while self._deadlines and self._deadlines[0][2].sequence not in self._flights:
            heapq.heappop(self._deadlines)
        return min(step_s, self._deadlines[0][0]) if self._deadlines else step_s

    # --- sending

    def send(self, slots: TenantSlots, slot: int, held: Held, now_s: float) -> None:
        """A slot's request goes to its tenant's engine, or is refused there."""
        tenant, request = slots.tenant, held.request
        prompts = self._prompts[tenant.id]
        tokens = prompts.tokens(held.arrival.index, request)
        sha = request.sha
        blocks = prompts.blocks(held.arrival.index, request, tokens, sha, held.before)
        part = self._part_of[tenant.id]
        flight = Flight(slots, slot, held, sha, tokens, blocks, part, now_s)
        refusal = self._refusal(tenant.api, tokens, request.output_tokens)
        if refusal is None:
            sequence = Sequence(
                prompt_tokens=tokens,
                max_tokens=request.output_tokens,
                stop_after_tokens=prompts.stop_after_tokens(request),
                priority=(tenant.priority or 0) if tenant.api != "tgi" else 0,
                tenant=self._names[tenant.id],
                blocks=blocks,
            )
            try:
                self._machine.submit(part, (sequence,), now_s)
            except ServingError as error:
                refusal = (400, str(error))
            else:
                flight.sequence = sequence
                self._flights[sequence] = flight
                timeouts = tenant.timeouts
                self._expect(flight, now_s + min(timeouts.first_token_s, timeouts.total_s))
        if refusal is not None:
            status, why = refusal
            self._record_sent(flight, "http_error", f"HTTP {status}: {why}", now_s, status=status)
            slots.ended(flight, "http_error", 0, now_s)

    def _refusal(self, api: Api, prompt_tokens: int, output_tokens: int) -> tuple[int, str] | None:
        """Status and reason, in the server's words, for what does not fit into the context."""
        if 1 <= prompt_tokens <= self._options.max_model_len - output_tokens:
            return None
        try:
            self._apis[api].max_tokens(GenerationRequest(max_tokens=output_tokens), prompt_tokens)
        except RefusalError as refusal:
            body = refusal.body
            why = body if isinstance(body, str) else error_message(body["error"])
            return refusal.status, " ".join(why.split())[:_REASON_CHARACTERS]
        return None

    def _expect(self, flight: Flight, by_s: float) -> None:
        self._sent += 1
        heapq.heappush(self._deadlines, (by_s, self._sent, flight))

    # --- what comes back

    def advance(self, now_s: float) -> None:
        """Time has come to `now_s`, no further than `next_s`: a step ends or, if none does now, timeouts run out."""
        if self._machine.next_s() <= now_s:
            self._step_ended(self._machine.end_next())
            return
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, _, flight = heapq.heappop(self._deadlines)
            if flight.sequence in self._flights:
                self._look_at_deadline(flight, now_s)

    def _step_ended(self, end: StepEnd) -> None:
        flights, step = self._flights, end.step
        number = self._times[end.part].add(end.time_s)
        for sequence in step.preempted:
            flight = flights.get(sequence)
            if flight is not None and flight.begun >= 0:
                flight.stretches.append((flight.begun, number - 1))
                flight.begun = -1
        for sequence in step.admitted:
            flight = flights.get(sequence)
            if flight is not None and flight.scheduled_s is None:
                flight.scheduled_s = end.start_s
        for sequence, _ in step.prefills:
            flight = flights.get(sequence)
            if flight is not None and flight.begun < 0 and sequence.generated_tokens > flight.counted:
                flight.begun = number
        for emission in end.emissions:
            if emission[1] is not None:
                self._finish(flights.pop(emission[0]), number, emission[1], end.time_s)

    def _finish(self, flight: Flight, number: int, reason: FinishReason, now_s: float) -> None:
        flight.stretches.append((flight.begun, number))
        assert flight.sequence is not None
        tokens = flight.sequence.generated_tokens
        if flight.counted != tokens:
            raise RuntimeError(f"{tokens} tokens came in {flight.counted} steps: one should come in each")
        self._record_sent(flight, "ok", None, now_s, finish_reason=reason)
        flight.slots.ended(flight, "ok", tokens, now_s)

    def _look_at_deadline(self, flight: Flight, now_s: float) -> None:
        """Whether a timeout has really run out: tokens may have come since it was reckoned with."""
        timeouts = flight.slots.tenant.timeouts
        total_s = flight.sent_s + timeouts.total_s
        last_s = self._last_token_s(flight)
        if last_s is None:
            due_s, why = (
                flight.sent_s + timeouts.first_token_s,
                f"first_token_s: no token within {timeouts.first_token_s:g} s",
            )
        else:
            due_s, why = (
                last_s + timeouts.between_tokens_s,
                f"between_tokens_s: no token for {timeouts.between_tokens_s:g} s",
            )
        if now_s >= total_s:
            why = f"total_s: not finished within {timeouts.total_s:g} s"
        elif now_s < due_s:
            self._expect(flight, min(due_s, total_s))
            return
        self._abort(flight, "timeout", why, now_s)

    def _last_token_s(self, flight: Flight) -> float | None:
        times = self._times[flight.part]
        if flight.begun >= 0:
            return times.at_s(times.last)
        return times.at_s(flight.stretches[-1][1]) if flight.stretches else None

    def abort_all(self, why: str, now_s: float) -> None:
        """Cancel whatever is under way."""
        for flight in list(self._flights.values()):
            self._abort(flight, "cancelled", why, now_s)

    def _abort(self, flight: Flight, outcome: Outcome, why: str, now_s: float) -> None:
        assert flight.sequence is not None
        del self._flights[flight.sequence]
        self._machine.cancel(flight.part, flight.sequence)
        if flight.begun >= 0:
            flight.stretches.append((flight.begun, self._times[flight.part].last))
        self._record_sent(flight, outcome, why, now_s)
        flight.slots.ended(flight, outcome, flight.counted, now_s)

    # --- records

    def _record_sent(
        self,
        flight: Flight,
        outcome: Outcome,
        error: str | None,
        ended_s: float,
        *,
        status: int = 200,
        finish_reason: FinishReason | None = None,
    ) -> None:
        sent_s = round(flight.sent_s, 6)
        more: dict[str, Any] = {}
        if flight.stretches:
            times, tenant = self._times[flight.part], flight.slots.tenant
            first_s, last_s = times.at_s(flight.stretches[0][0]), times.at_s(flight.stretches[-1][1])
            gaps_us = times.between_us(flight.stretches)
            tells_each = tenant.api == "tgi" or tenant.sampling.continuous_usage
            more = {
                "first_token_s": first_s,
                "last_token_s": last_s,
                "output_tokens": len(gaps_us) + 1,
                "tokens_from": "usage",
                "chunk_gap_us": gaps_us,
                "chunk_tokens": [1] * (len(gaps_us) + 1) if tells_each else None,
            }
            if outcome == "ok" and tenant.api != "tgi" and self._options.per_request_metrics:
                scheduled_s = flight.sent_s if flight.scheduled_s is None else flight.scheduled_s
                more["engine"] = {
                    "queued_s": round(scheduled_s - flight.sent_s, 6),
                    "prefill_s": round(first_s - scheduled_s, 6),
                    "decode_s": round(last_s - first_s, 6),
                }
        # The text of a later turn lacks the answers before it: its digest would be of another prompt.
        sha = flight.sha if flight.held.before is None else None
        self._record(
            flight.slots,
            flight.held,
            sha,
            sent_s=sent_s,
            headers_s=sent_s,
            ended_s=round(ended_s, 6),
            outcome=outcome,
            status=status,
            error=error,
            finish_reason=finish_reason,
            input_tokens=flight.prompt_tokens,
            **more,
        )

    def record_unsent(self, slots: TenantSlots, held: Held, outcome: Outcome, why: str, ended_s: float) -> None:
        """The record of a request that is not sent."""
        sha = held.request.sha if held.before is None else None
        tokens = held.request.input_tokens
        ended_s = round(ended_s, 6)
        self._record(slots, held, sha, outcome=outcome, error=why, ended_s=ended_s, input_tokens=tokens)

    def _record(self, slots: TenantSlots, held: Held, sha: str | None, **values: Any) -> None:
        tenant, arrival, turn = slots.tenant, held.arrival, held.request.turn
        name = f"{self.prefix}{tenant.id}-{arrival.index:06d}"
        record = RequestRecord(
            request_id=name if turn is None else f"{name}.{turn}",
            tenant=tenant.id,
            phase=self.phase_of(arrival.due_s),
            worker=0,
            index=arrival.index,
            scheduled_s=round(arrival.due_s, 6),
            requested_output_tokens=held.request.output_tokens,
            endpoint=self._endpoints[tenant.id],
            api=tenant.api,
            model=tenant.model or self._model,
            session=None if turn is None else name,
            turn=turn,
            prompt_sha=sha,
            **values,
        )
        self._on_record(slots, record)


def _name(tenant: Tenant) -> str:
    """What a server takes the tenant for: its id, unless its own headers say something else."""
    told = {name.lower(): value for name, value in tenant.headers.items()}
    return told.get(TENANT_HEADER.lower(), tenant.id)


def _apis(
    options: SimulatorOptions, model: str, adapters: list[str]
) -> Mapping[Api, ChatApi | CompletionsApi | TgiApi]:
    return {
        "openai_chat": ChatApi(options, model, adapters),
        "openai_completions": CompletionsApi(options, model, adapters),
        "tgi": TgiApi(options.max_model_len, stream=True),
    }
