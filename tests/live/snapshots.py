"""A snapshot as the live view gives it, with figures that follow from `second`."""

from __future__ import annotations

from typing import Any

TENANTS = ("chat", "batch")


def figures(tokens_per_s: float | None, ttft_ms: float | None) -> dict[str, Any]:
    """Figures of one span; None: nothing has ended."""
    some = ttft_ms is not None
    return {
        "asked_per_s": 2.0,
        "offered_per_s": 2.0,
        "requests_per_s": 1.5 if some else None,
        "output_tokens_per_s": tokens_per_s,
        "ttft_ms": {"count": 15 if some else 0, "p50": ttft_ms and ttft_ms / 2, "p99": ttft_ms},
        "tpot_ms": {"p50": 31.25 if some else None},
        "e2e_ms": {"p50": 900.0 if some else None, "p99": 2500.0 if some else None},
        "slo_attainment": 0.9375 if some else None,
        "failed": {"timeout": 2, "shed": 1} if some else {},
        "completed": 15 if some else 0,
    }


def snapshot(
    second: int = 60, run: str = "20260101T000000Z-demo", tenants: tuple[str, ...] = TENANTS
) -> dict[str, Any]:
    """A run of `tenants` that is `second` seconds old; the last tenant has finished nothing."""
    seconds = [float(at) for at in range(1, second + 1)]
    last = len(tenants) - 1

    def tokens(index: int, at: float) -> float:
        return 100.0 * (index + 1) + 10 * (at % 7)

    entries = [
        {
            "id": name,
            "weight": 1.0,
            "color_index": index,
            "streams": 8,
            "in_flight": 3 + index,
            "waiting": index,
            "window": figures(None if index == last else tokens(index, second), None if index == last else 250.0),
            "whole": figures(None if index == last else 120.0, None if index == last else 400.0),
        }
        for index, name in enumerate(tenants)
    ]
    return {
        "t_s": float(second),
        "state": "running",
        "phase": "measure",
        "run": run,
        "simulated": True,
        "tenants": entries,
        "total": {
            "streams": 16,
            "in_flight": 7,
            "waiting": 1,
            "window": figures(110.0, 250.0),
            "whole": figures(120.0, 400.0),
        },
        "fairness": {"jain_throughput": 0.8123, "max_min_ratio": None},
        "health": {"event_loop_lag_ms_p99": 2.34, "cpu_share_p95": 0.256},
        "telemetry": {
            "kv_cache_usage": 0.42,
            "requests_waiting": 5,
            "gpu": {"GPU-0": {"gpu_utilization_ratio": 0.97, "power_w": 212.0, "memory_used_bytes": 17.0 * 2**30}},
        },
        "series": {
            "t_s": seconds,
            "tenants": {
                name: {
                    "output_tokens_per_s": [tokens(index, at) for at in seconds],
                    "ttft_p99_ms": [None if at % 20 < 3 else 80.0 * 3**index * (1 + at % 5) for at in seconds],
                }
                for index, name in enumerate(tenants)
            },
            "jain_throughput": [0.8 + 0.002 * (at % 50) for at in seconds],
            "kv_cache_usage": [min(1.0, at / 100) for at in seconds],
            "gpu_utilization_ratio": [None for _ in seconds],
        },
        "notes": ["server metrics: the engine has no queue figure"],
    }
