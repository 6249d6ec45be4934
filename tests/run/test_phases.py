"""Whole runs of conversations, batches, several phases and tenants that come and go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from threading import Thread

import orjson
import pytest

from fairshare_locust.record import RequestRecord
from tests.run.conftest import QUICK, UNSAMPLED, FinishedRun, LocustProcess, profile_text

StartLocust = Callable[..., LocustProcess]

TALK = f"""
name: talk
seed: 5
run: {{warmup_s: 0.5, duration_s: 2.5, drain_s: 5, fairness_window_s: 1}}
model: {{name: simulated}}
deployment: {QUICK}
tenants:
  - id: talk
    arrival: {{process: poisson, rate_per_s: 5, max_in_flight: 32}}
    workload: {{source: conversation, turns: 3, system_tokens: 7, input_tokens: 20, output_tokens: 6, think_s: 0.1}}
  - id: lots
    arrival: {{process: batch, size: 4, think_s: 0.1, active_s: [[1, 2]]}}
    workload: {{source: synthetic, input_tokens: 30, output_tokens: {{distribution: uniform, low: 2, high: 20}}}}
"""


def by_session(records: list[RequestRecord]) -> dict[str, list[RequestRecord]]:
    sessions: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in records:
        if record.session is not None:
            sessions[record.session].append(record)
    return {session: sorted(turns, key=lambda turn: turn.turn or 0) for session, turns in sessions.items()}


def test_conversations_and_batches(start_locust: StartLocust) -> None:
    run = start_locust(TALK, "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    ids = [record.request_id for record in run.records]
    assert len(set(ids)) == len(ids)
    assert {record.outcome for record in run.records} == {"ok"}
    assert run.simulator_counter("fairshare_simulator_requests_received_total") == len(run.records)

    sessions = by_session(run.records)
    assert any(len(turns) == 3 for turns in sessions.values())
    for session, turns in sessions.items():
        assert [turn.turn for turn in turns] == list(range(len(turns)))
        assert [turn.request_id for turn in turns] == [f"{session}.{i}" for i in range(len(turns))]
        # The server counts 7 + 20 tokens, and 6 + 20 more in each turn: it was sent all that had been said.
        assert [turn.input_tokens for turn in turns] == [27 + 26 * i for i in range(len(turns))]
        for before, after in pairwise(turns):
            assert before.ended_s is not None
            assert after.scheduled_s == pytest.approx(before.ended_s + 0.1, abs=2e-6)

    lots = sorted((r for r in run.records if r.tenant == "lots"), key=lambda r: r.index)
    batches = [lots[i : i + 4] for i in range(0, len(lots), 4)]
    assert len(batches) > 1
    for i, batch in enumerate(batches):
        assert {record.scheduled_s for record in batch} == {batch[0].scheduled_s}
        assert 1 <= batch[0].scheduled_s < 2
        if i:
            last_ended_s = max(record.ended_s or 0 for record in batches[i - 1])
            assert batch[0].scheduled_s >= last_ended_s + 0.1 - 2e-6

    parts = [(part["name"], part["tenants"]) for part in run.run["phases"] if part["measured"]]
    assert parts == [("measure-1", ["talk"]), ("measure-2", ["talk", "lots"]), ("measure-3", ["talk"])]
    assert {r.phase for r in lots} == {"measure-2"}


class Storyteller:
    """A chat server whose answers are all different; it refuses every request that holds one of its own words."""

    def __init__(self, refuses: str) -> None:
        self.asked: list[list[dict[str, str]]] = []
        told = count()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b'{"data": [{"id": "story", "owned_by": "vllm"}]}', "application/json")

            def do_POST(self) -> None:
                messages = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
                asked.append(messages)
                if refuses in messages[-2 % len(messages)]["content"]:
                    self.send_error(503)
                    return
                text = orjson.dumps({"choices": [{"index": 0, "delta": {"content": f"answer {next(told)}."}}]})
                end = b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
                usage = b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}'
                events = b"".join(b"data: " + data + b"\n\n" for data in (text, end, usage, b"[DONE]"))
                self._answer(events, "text/event-stream")

            def _answer(self, body: bytes, content_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)

    def __enter__(self) -> Storyteller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


def test_turns_carry_the_real_answers_and_a_failed_one_is_the_last(start_locust: StartLocust) -> None:
    """The answer number 5 is refused when it comes back: its conversation ends there, with a record."""
    with Storyteller(refuses="answer 5.") as server:
        arguments = ("--host", server.url, "--fairshare-no-report")
        run = start_locust(TALK.replace("max_in_flight: 32", "max_in_flight: 1"), *arguments).finish()
    conversations = [messages for messages in server.asked if messages[0]["role"] == "system"]
    answers: dict[str, list[str]] = defaultdict(list)
    for messages in conversations:
        assert [m["role"] for m in messages] == ["system", "user", *["assistant", "user"] * ((len(messages) - 2) // 2)]
        opening = messages[1]["content"]
        carried = [m["content"] for m in messages if m["role"] == "assistant"]
        # One slot: each turn comes right after the answer to the one before it, and carries it.
        assert carried[:-1] == answers[opening]
        answers[opening] = carried
    told = [answer for carried in answers.values() for answer in carried]
    assert len(told) > 4
    assert len(set(told)) == len(told)
    sessions = by_session(run.records)
    assert len(conversations) == sum(map(len, sessions.values()))
    refused = [turns for turns in sessions.values() if turns[-1].outcome == "http_error"]
    assert [[turn.outcome for turn in turns[:-1]] for turns in refused] == [["ok"] * (len(refused[0]) - 1)]
    assert refused[0][-1].status == 503


def test_interference_is_paired_by_index(start_locust: StartLocust) -> None:
    """The schedule and the requests of a tenant are the same alone, in a pair and with all."""
    text = profile_text(bound="duration_s: 1", sampled=False)
    run = start_locust(text, "--fairshare-no-report", locustfile="interference.py").finish()
    assert run.code == 0, run.output
    starts_s: dict[str, float] = {}
    for part in run.run["phases"]:
        starts_s.setdefault(part["name"].rpartition("/")[0], part["start_s"])
    pairs = ["chat+steady", "chat+batch", "steady+batch"]
    assert list(starts_s) == ["solo-chat", "solo-steady", "solo-batch", *pairs, "all"]
    asked: dict[str, dict[int, tuple[object, ...]]] = defaultdict(dict)
    for record in run.records:
        phase = record.phase.rpartition("/")[0]
        assert record.request_id == f"{phase}/{record.tenant}-{record.index:06d}"
        if record.tenant == "chat":
            due_s = round(record.scheduled_s - starts_s[phase], 4)
            asked[phase][record.index] = (record.prompt_sha, record.requested_output_tokens, due_s)
    assert asked.keys() == {"solo-chat", "chat+steady", "chat+batch", "all"}
    assert len(asked["all"]) > 5
    assert all(requests == asked["solo-chat"] for requests in asked.values())
    assert len({record.request_id for record in run.records}) == len(run.records)
    assert run.summary["sources"]["locust_agrees"] is True
    assert run.summary["window"]["phases"] == ["all/measure"]


SWEEP = f"""
name: sweep
{UNSAMPLED}run: {{warmup_s: 0, duration_s: 1, drain_s: 5, fairness_window_s: 1}}
model: {{name: simulated}}
deployment: {QUICK}
tenants:
  - id: a
    arrival: {{process: closed, concurrency: 2}}
    workload: {{source: synthetic, input_tokens: 10, output_tokens: 8}}
    slo: {{e2e_ms: 60000}}
  - id: b
    arrival: {{process: constant, rate_per_s: 8, max_in_flight: 8}}
    workload: {{source: synthetic, input_tokens: 10, output_tokens: 8}}
    slo: {{e2e_ms: {{limit}}}}
phases:
  - {{name: half, load: 0.5, stop_if_slo_breaks: true}}
  - {{name: twice, load: 2, stop_if_slo_breaks: true}}
  - {{name: thrice, load: 3, duration_s: 0.5}}
"""


def in_flight_at_most(records: list[RequestRecord]) -> int:
    edges = [(r.sent_s, 1) for r in records if r.sent_s is not None]
    edges += [(r.ended_s, -1) for r in records if r.ended_s is not None]
    most = now = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def test_a_load_for_each_phase(start_locust: StartLocust) -> None:
    run = start_locust(SWEEP.replace("{limit}", "60000"), "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    assert [part["load"] for part in run.run["phases"] if part["measured"]] == [0.5, 2, 3]
    due = dict.fromkeys(("half", "twice", "thrice"), 0)
    for record in run.records:
        due[record.phase.split("/")[0]] += record.tenant == "b"
    assert due == {"half": 4, "twice": 16, "thrice": 12}  # 4/s and 16/s for 1 s, 24/s for 0.5 s
    for name, streams in (("half", 1), ("twice", 4), ("thrice", 6)):
        assert in_flight_at_most([r for r in run.records if r.tenant == "a" and r.phase.startswith(name)]) == streams


def test_an_slo_that_breaks_ends_a_sweep(start_locust: StartLocust) -> None:
    """Eight tokens take at least 16 ms of steps, so that no request meets 1 ms."""
    run = start_locust(SWEEP.replace("{limit}", "1"), "--fairshare-no-report").finish()
    assert run.code == 0, run.output
    assert [part["name"] for part in run.run["phases"]] == ["half/measure", "half/drain"]
    [note] = [note for note in run.run["notes"] if "SLO" in note]
    assert note.startswith("half: tenant 'b': 0 of 4 requests met its SLO (0.0%, wanted 95.0%)")
    assert run.run["state"] == "complete"


def test_sessions_that_the_run_cuts_off(start_locust: StartLocust) -> None:
    """A drain too short: turns in flight are cancelled, and no turn is left without its record."""
    slow = TALK.replace("step_base_ms: 2", "step_base_ms: 150").replace("drain_s: 5", "drain_s: 0.3")
    run = start_locust(slow, "--fairshare-no-report").finish()
    assert_session_counts(run)
    assert "cancelled" in {record.outcome for record in run.records}


def assert_session_counts(run: FinishedRun) -> None:
    """As many records as were asked; a conversation goes on after an answer alone."""
    assert {tenant: entry["scheduled"] for tenant, entry in run.run["asked"].items()} == {
        tenant: sum(record.tenant == tenant for record in run.records) for tenant in ("talk", "lots")
    }
    for turns in by_session(run.records).values():
        assert [turn.turn for turn in turns] == list(range(len(turns)))
        assert all(turn.outcome == "ok" for turn in turns[:-1])
