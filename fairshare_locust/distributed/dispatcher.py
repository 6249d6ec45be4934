"""TenantDispatcher: puts the slots of every tenant on the workers as the run has dealt them, and never moves one.

Locust's own dispatcher deals users one by one over workers, whatever their class: two tenants of as many slots on two
workers are put on one worker each. It also starts users elsewhere when a worker is lost or comes; here each worker
has its share of the arrivals, and a lost share is told as lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import gevent
from locust import User
from locust.runners import WorkerNode

__all__ = ["TenantDispatcher"]


class TenantDispatcher(Iterator[dict[str, dict[str, int]]]):
    """What Locust's master asks for users' places; `deal` says where they are to be.

    Each step gives the users of every worker, by user class: at first some, in the end all, at the spawn rate.
    """

    dispatch_in_progress = False

    def __init__(
        self,
        deal: Mapping[str, Mapping[str, int]],
        worker_nodes: Sequence[WorkerNode],  # noqa: ARG002 - Locust gives it by name
        user_classes: Sequence[type[User]],
    ) -> None:
        """`deal` is worker id → user class → users; Locust gives the workers and the classes that there are."""
        self._names = sorted(user_class.__name__ for user_class in user_classes)
        self._deal = deal
        self._placed = {worker: dict.fromkeys(self._names, 0) for worker in deal}
        self._order: list[tuple[str, str]] = []
        self._next = 0
        self._spawn_rate = 1.0

    def new_dispatch(
        self,
        target_user_count: int,  # noqa: ARG002
        spawn_rate: float,
        user_classes: list[type[User]] | None = None,  # noqa: ARG002
    ) -> None:
        """Begin; the number and the classes are those of the deal, whatever else is asked for."""
        places = [[(worker, name)] * count for worker, classes in self._deal.items() for name, count in classes.items()]
        turns = zip_longest(*places)
        self._order = [place for turn in turns for place in turn if place is not None]
        self._next = 0
        self._spawn_rate = spawn_rate

    def __next__(self) -> dict[str, dict[str, int]]:
        """The users that are to be there now. Waits as the spawn rate says, raises StopIteration when all are."""
        if self._next >= len(self._order):
            raise StopIteration
        batch = max(1, math.floor(self._spawn_rate))
        if self._next:
            gevent.sleep(batch / self._spawn_rate)
        for worker, name in self._order[self._next : self._next + batch]:
            self._placed[worker][name] += 1
        self._next += batch
        return {worker: dict(classes) for worker, classes in self._placed.items()}

    def get_current_user_count(self) -> int:
        """Users that have been placed."""
        return min(self._next, len(self._order))

    def add_worker(self, worker_node: WorkerNode) -> None:
        """A worker has come: it has no part in what goes on."""

    def remove_worker(self, worker_node: WorkerNode) -> None:
        """A worker has gone: nobody takes its place."""
