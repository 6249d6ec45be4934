"""mixed.py on a host whose clocks are ahead of everybody else's, and run a little faster."""

from __future__ import annotations

import os
import time

_SKEW_S = float(os.environ["TEST_CLOCK_SKEW_S"])
_GAIN = 20e-6
_monotonic, _time = time.monotonic, time.time
_start_s = _monotonic()


def _gained_s() -> float:
    return _SKEW_S + _GAIN * (_monotonic() - _start_s)


time.monotonic = lambda: _monotonic() + _gained_s()
time.time = lambda: _time() + _gained_s()

from fairshare_locust import register  # noqa: E402 - it has to meet these clocks

register(globals())
