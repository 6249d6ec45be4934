"""LiveView: the live figures as one plain JSON object, from which every page, line and table is drawn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairshare_locust.live.tally import WINDOW_S, Cell, LiveTally, LoadGauges
from fairshare_locust.profile.model import Profile

__all__ = ["LiveView", "RunStatus"]

_MOST_POINTS = 900
# A sample of telemetry that is older says nothing of now.
_STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where the run is.

    Attributes:
        state: `running`, `complete` or `interrupted`.
        phase: the part of the plan that goes on, as records name it; None before the first.
        phase_start_s: when it began, on the run clock.
        run: name of the run directory; None while there is none.
        notes: what the user was told.
    """

    state: str
    phase: str | None = None
    phase_start_s: float | None = None
    run: str | None = None
    simulated: bool = False
    notes: Sequence[str] = ()


class LiveView:
    """Puts tally, gauges, telemetry and health together, once a second.

    Requests count by when they ended, tokens with their request: what is in flight does not show before its end. A
    rate is over the last 10 whole seconds of the run clock, or over those since t = 0. Latencies are to 1 %.

    Args:
        tally: counts the requests that end.
        status: where the run is.
        loads: each tenant's load now, by tenant id.
        telemetry_latest: the newest samples, as `Telemetry.latest`.
        health: of this process, as `HealthSampler.summary`; None before there is any.
        settling_s: how late reports of other load processes come; the last seconds wait so long for them.
        pause: called every millisecond or so of work, to let the event loop of a load process go on.
    """

    def __init__(
        self,
        profile: Profile,
        tally: LiveTally,
        status: Callable[[], RunStatus],
        loads: Callable[[], Mapping[str, LoadGauges]],
        telemetry_latest: Callable[[], Mapping[str, Any]],
        health: Callable[[], Mapping[str, Any] | None],
        *,
        settling_s: float = 0.0,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._tenants = profile.tenants
        self._tally = tally
        self._status = status
        self._loads = loads
        self._telemetry_latest = telemetry_latest
        self._health = health
        self._settling_s = settling_s
        self._pause = pause
        self._sent: deque[tuple[float, Mapping[str, LoadGauges]]] = deque([(0.0, {})])
        self._series = _Series([tenant.id for tenant in profile.tenants])
        self._ended = False
        self._figures: dict[str, Any] = self._take(0.0)

    def tick(self, now_s: float) -> None:
        """A second has passed: take the figures of now. Nothing more happens once it has ended."""
        if self._ended or now_s <= self._figures["t_s"]:
            return
        figures = self._take(now_s)
        if self._ended or now_s <= self._figures["t_s"]:
            return  # it ended in one of the pauses
        self._figures = figures
        self._series.append(figures)

    def end(self, now_s: float) -> None:
        """The run is over and every record is in: the figures of now stay."""
        if not self._ended and now_s <= self._figures["t_s"]:
            self._figures = self._take(self._figures["t_s"])
        self.tick(now_s)
        self._ended = True

    def snapshot(self) -> dict[str, Any]:
        """Everything as of the last tick, for JSON; not to be changed by the caller.

        Undefined is None. `window`, `phase` and `whole` of a tenant and of `total` have the same keys; `phase` counts
        the requests scheduled in the phase that goes on.
        """
        status = self._status()
        return {
            "state": status.state,
            "phase": status.phase,
            "run": status.run,
            "simulated": status.simulated,
            **self._figures,
            "series": self._series.columns(),
            "notes": list(status.notes),
        }

    # --- figures

    def _take(self, now_s: float) -> dict[str, Any]:
        status = self._status()
        loads = self._loads()
        end_s = math.floor(max(0.0, now_s - self._settling_s))
        spans = _Spans(now_s, end_s, None if status.phase_start_s is None else now_s - status.phase_start_s)
        before_s, before = self._remember(now_s, loads)
        since_s = now_s - before_s
        tenants: list[dict[str, Any]] = []
        cells: list[tuple[Cell, Cell, Cell]] = []
        for index, tenant in enumerate(self._tenants):
            load, then = loads.get(tenant.id, LoadGauges()), before.get(tenant.id, LoadGauges())
            phase = Cell() if status.phase is None else self._tally.phase(tenant.id, status.phase)
            cells.append((self._tally.window(tenant.id, end_s), phase, self._tally.whole(tenant.id)))
            tenants.append(
                {
                    "id": tenant.id,
                    "weight": tenant.weight,
                    "color_index": index,
                    **_figures(cells[-1], load, then, spans, since_s),
                }
            )
            self._pause()
        load, then = sum(loads.values(), LoadGauges()), sum(before.values(), LoadGauges())
        total = _figures((self._sum(cells, 0), self._sum(cells, 1), self._sum(cells, 2)), load, then, spans, since_s)
        there = [_takes_part(entry) for entry in tenants]
        return {
            "t_s": round(now_s, 3),
            "tenants": tenants,
            "total": total,
            "fairness": _fairness([entry for entry, part in zip(tenants, there, strict=True) if part]),
            "health": _health(self._health()),
            "telemetry": _telemetry(self._telemetry_latest(), now_s),
        }

    def _sum(self, cells: Sequence[tuple[Cell, Cell, Cell]], place: int) -> Cell:
        """One of the three cells of all tenants together."""
        total = Cell.sum(of_tenant[place] for of_tenant in cells)
        self._pause()
        return total

    def _remember(self, now_s: float, loads: Mapping[str, LoadGauges]) -> tuple[float, Mapping[str, LoadGauges]]:
        """Keep these gauges; those of about `WINDOW_S` ago, with their time."""
        if now_s > self._sent[-1][0]:
            self._sent.append((now_s, dict(loads)))
        while len(self._sent) > 1 and self._sent[1][0] <= now_s - WINDOW_S:
            self._sent.popleft()
        return self._sent[0]


@dataclass(frozen=True, slots=True)
class _Spans:
    """Seconds since t = 0, up to which the window goes, and since the phase began."""

    whole_s: float
    window_end_s: int
    phase_s: float | None

    @property
    def window_s(self) -> int:
        return min(WINDOW_S, self.window_end_s)


def _figures(
    cells: tuple[Cell, Cell, Cell], load: LoadGauges, then: LoadGauges, spans: _Spans, since_s: float
) -> dict[str, Any]:
    """The figures of a tenant, or of all; `cells` are those of window, phase and whole run."""
    window, phase, whole = cells
    return {
        "streams": load.streams,
        "in_flight": load.in_flight,
        "waiting": load.waiting,
        "window": _latencies_and_rates(
            window,
            spans.window_s,
            _per_s(load.asked - then.asked, since_s),
            _per_s(load.sent - then.sent, since_s),
        ),
        "phase": _latencies_and_rates(phase, spans.phase_s, None, None),
        "whole": _latencies_and_rates(
            whole, spans.whole_s, _per_s(load.asked, spans.whole_s), _per_s(load.sent, spans.whole_s)
        ),
    }


def _latencies_and_rates(
    cell: Cell, span_s: float | None, asked_per_s: float | None, offered_per_s: float | None
) -> dict[str, Any]:
    ttft_ms, ttft_sent_ms, e2e_ms = (
        dict(zip(("p50", "p99"), map(_rounded, histogram.percentiles(50, 99)), strict=True))
        for histogram in (cell.ttft_ms, cell.ttft_sent_ms, cell.e2e_ms)
    )
    return {
        "asked_per_s": asked_per_s,
        "offered_per_s": offered_per_s,
        "requests_per_s": _per_s(cell.completed, span_s),
        "output_tokens_per_s": _per_s(cell.output_tokens, span_s),
        "ttft_ms": {"count": cell.ttft_ms.count, **ttft_ms},
        "ttft_sent_ms": {"count": cell.ttft_sent_ms.count, **ttft_sent_ms},
        "tpot_ms": {"count": cell.tpot_ms.count, "p50": _rounded(cell.tpot_ms.percentile(50))},
        "e2e_ms": {"count": cell.e2e_ms.count, **e2e_ms},
        "slo_attainment": cell.slo_met / cell.slo_judged if cell.slo_judged else None,
        "failed": dict(cell.failed),
        "completed": cell.completed,
    }


def _takes_part(entry: Mapping[str, Any]) -> bool:
    """Whether a tenant asked for anything in the window: one that is idle is not treated unfairly."""
    window = entry["window"]
    ended = window["completed"] + sum(window["failed"].values())
    return bool(ended or entry["in_flight"] or entry["waiting"] or window["asked_per_s"])


def _fairness(tenants: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Jain's index `(Σ y)² / (n Σ y²)` (Jain, Chiu, Hawe 1984) and max/min, of tokens/s over weight in the window."""
    shares = [(entry["window"]["output_tokens_per_s"] or 0.0) / entry["weight"] for entry in tenants]
    largest = max(shares, default=0.0)
    if largest <= 0:
        return {"jain_throughput": None, "max_min_ratio": None}
    smallest = min(shares)
    scaled = [share / largest for share in shares]  # squares can't overflow
    return {
        "jain_throughput": sum(scaled) ** 2 / (len(scaled) * sum(share * share for share in scaled)),
        "max_min_ratio": largest / smallest if smallest > 0 else None,
    }


def _health(summary: Mapping[str, Any] | None) -> dict[str, float | None]:
    if summary is None:
        return {"event_loop_lag_ms_p99": None, "event_loop_lag_ms_max": None, "cpu_share_p95": None}
    lag, cpu = summary["event_loop_lag_ms"], summary["cpu_share"]
    return {"event_loop_lag_ms_p99": lag["p99"], "event_loop_lag_ms_max": lag["max"], "cpu_share_p95": cpu["p95"]}


def _telemetry(latest: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """The fullest engine's cache, waiting requests of all engines, each GPU; what is stale is left out."""

    def fresh(kind: str) -> dict[str, dict[str, float]]:
        return {
            of: dict(values)
            for of, values in latest.get(kind, {}).items()
            if values.get("t_s", now_s) >= now_s - _STALE_S
        }

    servers, gpus = fresh("server"), fresh("gpu")

    def of_servers(metric: str) -> list[float]:
        return [values[metric] for values in servers.values() if metric in values]

    waiting, running = of_servers("requests_waiting"), of_servers("requests_running")
    return {
        "kv_cache_usage": max(of_servers("kv_cache_usage"), default=None),
        "requests_waiting": sum(waiting) if waiting else None,
        "requests_running": sum(running) if running else None,
        "gpu": gpus,
    }


class _Series:
    """One point a tick; when there are too many, every other one is dropped, and from then on not taken."""

    def __init__(self, tenant_ids: Sequence[str]) -> None:
        self._every = 1
        self._ticks = 0
        self._t_s: list[float] = []
        self._tokens: dict[str, list[float | None]] = {tenant_id: [] for tenant_id in tenant_ids}
        self._ttft: dict[str, list[float | None]] = {tenant_id: [] for tenant_id in tenant_ids}
        self._run: dict[str, list[float | None]] = {
            name: [] for name in ("jain_throughput", "kv_cache_usage", "gpu_utilization_ratio")
        }

    def append(self, figures: Mapping[str, Any]) -> None:
        """Take in the figures of a tick."""
        self._ticks += 1
        if (self._ticks - 1) % self._every:
            return
        self._t_s.append(figures["t_s"])
        for entry in figures["tenants"]:
            self._tokens[entry["id"]].append(_rounded(entry["window"]["output_tokens_per_s"]))
            self._ttft[entry["id"]].append(entry["window"]["ttft_ms"]["p99"])
        telemetry = figures["telemetry"]
        busy = [gpu["gpu_utilization_ratio"] for gpu in telemetry["gpu"].values() if "gpu_utilization_ratio" in gpu]
        self._run["jain_throughput"].append(_rounded(figures["fairness"]["jain_throughput"], 4))
        self._run["kv_cache_usage"].append(_rounded(telemetry["kv_cache_usage"], 4))
        self._run["gpu_utilization_ratio"].append(_rounded(max(busy, default=None), 4))
        if len(self._t_s) > _MOST_POINTS:
            self._every *= 2
            del self._t_s[1::2]
            for column in (*self._tokens.values(), *self._ttft.values(), *self._run.values()):
                del column[1::2]

    def columns(self) -> dict[str, Any]:
        """As the snapshot has it, as of now."""
        return {
            "t_s": list(self._t_s),
            "tenants": {
                tenant_id: {"output_tokens_per_s": list(tokens), "ttft_p99_ms": list(self._ttft[tenant_id])}
                for tenant_id, tokens in self._tokens.items()
            },
            **{name: list(column) for name, column in self._run.items()},
        }


def _per_s(count: float, span_s: float | None) -> float | None:
    return count / span_s if span_s is not None and span_s > 0 else None


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
