"""Messages between master and workers, over Locust's own connection: their names, and what they carry.

Every message names its run, but for the greetings. A connection that breaks loses what is on its way. So what has to
arrive, and in order, is a letter (*, see `letters`), and a worker's files go in parcels (see `parcels`); both are sent
until they have come. The other messages are repeated anyway.

worker → master
    hello         who this is: host, pid, packages, and the profile it was given, if any; until it is welcomed
    ping          sent_s, received_letters; every second
    progress      t_s, phase, idle, exhausted, scheduled, gauges, received_letters; ten times a second
    parcel        kind (requests, texts), offset, data: a piece of its file
    busy          problem: it has not done with another run
    prepared *    problems (none: it is ready), clock
    enlisted *    problem (none: it has its share)
    phase-ended * phase, attainment
    leaving *     why: it will send no more load
    ended *       scheduled, attainment, sizes of its files, health, clock

master → worker
    welcome       the greeting was heard
    pong          sent_s, received_s, replied_s; for each ping
    heard         received_letters; for each letter
    have          kind, received: bytes of its file that the master has; for each parcel
    dismiss       why: it has no part in this run (any more); for whatever it sends then
    prepare *     the task
    enlist *      worker, workers: make this share's loads
    begin *       monotonic_s, unix_s of t = 0, on the master's clocks
    phase *       number, start_s
    end-phase *   number, why
    end *         why
    release *     keep: whether to keep its files; the run is over for it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locust.runners import DistributedRunner

__all__ = ["FILES", "FROM_MASTER", "FROM_WORKER", "PREFIX", "Handler", "listen"]

PREFIX = "fairshare-"
FILES = ("requests", "texts")
"""A worker's files, by kind."""

FROM_WORKER = (
    "hello",
    "ping",
    "progress",
    "parcel",
    "busy",
    "prepared",
    "enlisted",
    "phase-ended",
    "leaving",
    "ended",
)
FROM_MASTER = (
    "welcome",
    "pong",
    "heard",
    "prepare",
    "enlist",
    "begin",
    "phase",
    "end-phase",
    "end",
    "have",
    "release",
    "dismiss",
)

Handler = Callable[[str, dict[str, Any]], None]


def listen(runner: DistributedRunner, names: tuple[str, ...], handler: Handler) -> None:
    """Have `handler` called with the sender's id and the data of each message of these names.

    It is called in the greenlet that reads all messages, one after another, so it must not wait.
    """

    def listener(name: str) -> Callable[..., None]:
        def heard(msg: Any, **_: Any) -> None:
            handler(msg.node_id, {"message": name, **(msg.data or {})})

        return heard

    for name in names:
        runner.register_message(PREFIX + name, listener(name))
