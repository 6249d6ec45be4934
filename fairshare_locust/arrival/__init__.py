"""WHEN requests are due: schedules and queues, pure functions of seed, tenant and elapsed time."""

from fairshare_locust.arrival.queue import Arrival, ArrivalQueue, Window, arrival_queue
from fairshare_locust.arrival.schedule import Schedule, count_before, open_schedule

__all__ = ["Arrival", "ArrivalQueue", "Schedule", "Window", "arrival_queue", "count_before", "open_schedule"]
