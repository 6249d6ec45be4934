"""Where Locust's users are put, and when."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import locust, gevent
from fairshare_locust.distributed.dispatcher import TenantDispatcher

class A(locust.User): pass
class B(locust.User): pass

waits = []
gevent.sleep = waits.append
deal = {"one": {"A": 3, "B": 0}, "two": {"A": 2, "B": 1}}
dispatcher = TenantDispatcher(deal, worker_nodes=[], user_classes=[B, A])
dispatcher.new_dispatch(6, 100)
assert list(dispatcher) == [deal], "all at once"
assert waits == []
assert dispatcher.get_current_user_count() == 6

dispatcher = TenantDispatcher(deal, worker_nodes=[], user_classes=[B, A])
dispatcher.new_dispatch(6, 2.5)
steps = list(dispatcher)
assert [sum(sum(classes.values()) for classes in step.values()) for step in steps] == [2, 4, 6]
assert steps[0] == {"one": {"A": 1, "B": 0}, "two": {"A": 1, "B": 0}}, "in turns"
assert steps[-1] == deal
assert waits == [2 / 2.5, 2 / 2.5]

dispatcher.add_worker(None)
dispatcher.remove_worker(None)
assert list(dispatcher) == [], "nobody is moved"

dispatcher = TenantDispatcher(deal, worker_nodes=[], user_classes=[B, A])
dispatcher.new_dispatch(6, 0.5)
next(dispatcher)
assert dispatcher.get_current_user_count() == 1
"""


def test_slots_are_put_where_they_are_dealt() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
