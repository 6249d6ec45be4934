"""WHEN requests are due: schedules and queues, pure functions of seed, tenant and elapsed time."""

from fairshare_locust.arrival.duration import Durations, draw_durations
from fairshare_locust.arrival.queue import (
    REST_AFTER_FAILURE_S,
    Arrival,
    ArrivalQueue,
    Window,
    arrival_queue,
    first_exhausted_s,
)
from fairshare_locust.arrival.schedule import Schedule, count_before, open_schedule
from fairshare_locust.arrival.share import Share, shares
from fairshare_locust.arrival.trace import RowTimes

__all__ = [
    "REST_AFTER_FAILURE_S",
    "Arrival",
    "ArrivalQueue",
    "Durations",
    "RowTimes",
    "Schedule",
    "Share",
    "Window",
    "arrival_queue",
    "count_before",
    "draw_durations",
    "first_exhausted_s",
    "open_schedule",
    "shares",
]
