"""WHEN requests are due: schedules and queues, pure functions of seed, tenant and elapsed time."""

from fairshare_locust.arrival.duration import Durations, draw_durations
from fairshare_locust.arrival.queue import Arrival, ArrivalQueue, Window, arrival_queue, batch_worker
from fairshare_locust.arrival.schedule import Schedule, count_before, open_schedule
from fairshare_locust.arrival.trace import RowTimes

__all__ = [
    "Arrival",
    "ArrivalQueue",
    "Durations",
    "RowTimes",
    "Schedule",
    "Window",
    "arrival_queue",
    "batch_worker",
    "count_before",
    "draw_durations",
    "open_schedule",
]
