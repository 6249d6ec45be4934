"""A plain Locust HttpUser that times a streamed chat as tutorials do; the yardstick of `bench.client`.

Writes what it measured to the file named by BENCH_RESULT: one JSON line per request. Waits for no gate and ends
by Locust's own run time.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from typing import Any

from locust import HttpUser, constant, events, task

_NUMBERS = itertools.count()
_RESULTS: list[dict[str, Any]] = []
_LOW, _HIGH = map(int, os.environ.get("BENCH_TOKENS", "128,128").split(","))


class ChatUser(HttpUser):
    """One chat after another."""

    wait_time = constant(0)

    @task
    def chat(self) -> None:
        """Send, read line by line, note when each token came."""
        request_id = f"plain-{next(_NUMBERS):06d}"
        body = {
            "model": "truth",
            "messages": [{"role": "user", "content": "Say something long, please. " * 8}],
            "max_tokens": random.randint(_LOW, _HIGH),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        start = time.perf_counter()
        stamps = []
        with self.client.post(
            "/v1/chat/completions", json=body, stream=True, headers={"X-Request-Id": request_id}, catch_response=True
        ) as response:
            for line in response.iter_lines():
                if not line or not line.startswith(b"data: ") or line == b"data: [DONE]":
                    continue
                event = json.loads(line[6:])
                if event["choices"] and event["choices"][0]["delta"].get("content"):
                    stamps.append(time.perf_counter())
            if stamps:  # one without is missed where the server's own account is compared
                response.success()
                _RESULTS.append({"request_id": request_id, "sent": start, "stamps": stamps})


@events.quitting.add_listener
def _save(**_: object) -> None:
    with open(os.environ["BENCH_RESULT"], "w") as file:
        for result in _RESULTS:
            file.write(json.dumps(result) + "\n")
