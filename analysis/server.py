"""What the servers counted in a window, beside what the client saw; whole engines, never one tenant's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from analysis.entry import Basis
from analysis.histogram import Histogram, scrapes
from analysis.latency import Floats, describe
from analysis.requests import Mask
from analysis.telemetry import Metrics, Telemetry, gauge, is_counter
from analysis.tokens import tokens_by_cell
from analysis.window import Window, Windows

__all__ = ["describe_server", "tenants_of"]

_PERCENTILES = ("p50", "p95", "p99")
_QUERIES, _HITS = "prefix_cache_queries_tokens_total", "prefix_cache_hits_tokens_total"


def describe_server(
    telemetry: Telemetry, basis: Basis, windows: Windows, parts: Sequence[tuple[int, int]]
) -> dict[str, Any] | None:
    """`server` of `summary.json`; None where neither a server's `/metrics` nor a record says anything.

    Args:
        windows: their spans are between edges of the token table.
        parts: the measured parts in them, in which the prefix cache should hit as often at the end as at the start.
    """
    window, tenants = windows.measured, _tenants(basis, windows)
    if not telemetry.server and tenants is None:
        return None
    endpoints = {}
    for endpoint, metrics in telemetry.server.items():
        own = _own_requests(basis, endpoint)
        endpoints[endpoint] = _endpoint(metrics, basis, own, window, parts)
        endpoints[endpoint]["unsupported"] = telemetry.unsupported("server_metrics", endpoint)
    return {"endpoints": endpoints, "tenants": tenants}


def _address(url: str) -> tuple[object, ...]:
    """What two ways to write the address of one server have in common; a path that ends in `/v1` means the same."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return (url,)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/").removesuffix("/v1").rstrip("/")


def _own_requests(basis: Basis, endpoint: str) -> Mask:
    """The requests that went to an endpoint: shape (n,)."""
    codes = [code for code, url in enumerate(basis.requests.endpoints) if _address(url) == _address(endpoint)]
    return np.isin(basis.requests.endpoint, codes)


def tenants_of(basis: Basis, endpoint: str) -> list[str]:
    """The tenants whose requests went to an endpoint."""
    return _tenants_of(basis, _own_requests(basis, endpoint))


def _tenants_of(basis: Basis, own: Mask) -> list[str]:
    return [basis.profile.tenants[code].id for code in np.unique(basis.requests.tenant[own]).tolist()]


def _endpoint(
    metrics: Metrics, basis: Basis, own: Mask, window: Window, parts: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    often = max(metrics.values(), key=len)
    inside = often.within(window)
    kv_cache = gauge(metrics.get("kv_cache_usage"), window)
    histograms = {
        name.removesuffix("_seconds"): histogram
        for name, scraped in scrapes(metrics)
        if (histogram := scraped.over(window)) is not None
    }
    return {
        "tenants": _tenants_of(basis, own),
        "samples": len(inside),
        "interval_s": inside.interval_s,
        "longest_gap_s": often.longest_gap_s(window),
        "kv_cache_peak": {"value": kv_cache["peak"], "t_s": kv_cache["peak_t_s"]} if kv_cache else None,
        "kv_cache_mean": kv_cache["mean"] if kv_cache else None,
        **{name: gauge(metrics.get(name), window) for name in _REQUESTS},
        "counters_note": _counters_note(metrics, window),
        "preemptions": _growth(metrics, "preemptions_total", window),
        "prefix_cache": _prefix_cache(metrics, window, parts),
        "tokens": _tokens(metrics, basis, own, window),
        "ttft": _ttft(histograms.get("ttft"), basis, own),
        "latency": {name: _distribution(histogram) for name, histogram in histograms.items() if name != "ttft"},
        "queue_share_of_ttft": _ratio(_mean(histograms, "queue"), _mean(histograms, "ttft")),
    }


_REQUESTS = ("requests_running", "requests_waiting", "requests_swapped")


def _growth(metrics: Metrics, name: str, window: Window) -> int | None:
    grown = metrics[name].growth(window) if name in metrics else None
    return None if grown is None else round(grown)


def _counters_note(metrics: Metrics, window: Window) -> str | None:
    """Why what the server counted is undefined; None where it is not, or where there are no counters."""
    counters = [series for name, series in metrics.items() if is_counter(name)]
    if not window or not counters or any(series.stretches(window) for series in counters):
        return None
    gap_s = max(counters, key=len).longest_gap_s(window)
    return f"of {window.length_s:,.1f} s measured, up to {gap_s:,.1f} s on end were not sampled"


def _mean(histograms: Mapping[str, Histogram], name: str) -> float | None:
    return histograms[name].mean if name in histograms else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _halves(span: tuple[int, int]) -> tuple[Window, Window]:
    """The two halves of a span."""
    start, end = span
    middle = (start + end) // 2
    return Window(((start, middle),)), Window(((middle, end),))


def _prefix_cache(metrics: Metrics, window: Window, parts: Sequence[tuple[int, int]]) -> dict[str, Any] | None:
    """Tokens looked up and found, and how much the hit rate changed from the first to the second half of a part."""

    def hit_rate(within: Window) -> float | None:
        return _ratio(_growth(metrics, _HITS, within), _growth(metrics, _QUERIES, within))

    if _QUERIES not in metrics or _HITS not in metrics:
        return None
    rates = [tuple(map(hit_rate, _halves(part))) for part in parts]
    drifts = [abs(second - first) for first, second in rates if first is not None and second is not None]
    return {
        "queries_tokens": _growth(metrics, _QUERIES, window),
        "hits_tokens": _growth(metrics, _HITS, window),
        "hit_rate": hit_rate(window),
        "hit_rate_by_half": [list(pair) for pair in rates],
        "hit_rate_drift": max(drifts, default=None),
    }


def _tokens(metrics: Metrics, basis: Basis, own: Mask, window: Window) -> dict[str, float | None]:
    """Tokens by the server's counters, and by what the client got of it; input counts with the first token."""
    requests = basis.requests
    output = prompt = None
    if own.any() and window:
        edges = np.array(sorted({at for span in window.spans for at in span}), np.int64)
        inside = window.contains(edges[:-1])
        # One endpoint got everything: then the tokens have been counted.
        every = own[requests.got_token].all()
        cells = None if every else tokens_by_cell(requests, np.where(own, 0, -1), 1, edges)
        output = float(basis.table.within(window).sum() if cells is None else cells[0, inside].sum())
        prompt = int(requests.input_tokens[own & window.contains(requests.first_token_ns)].sum())
    return {
        "generation_server": _growth(metrics, "generation_tokens_total", window),
        "generation_client": output,
        "prompt_server": _growth(metrics, "prompt_tokens_total", window),
        "prompt_client": prompt,
    }


def _distribution(histogram: Histogram) -> dict[str, Any]:
    """A histogram of seconds in ms; a percentile is known to be in `(low, high]`, its bucket."""
    buckets = {name: histogram.percentile(name) for name in _PERCENTILES}
    return {
        "count": histogram.count,
        "mean_ms": None if histogram.mean is None else histogram.mean * 1e3,
        **{
            f"{name}_ms": None if bucket is None else [bucket.low * 1e3, bucket.high * 1e3]
            for name, bucket in buckets.items()
        },
    }


def _ttft(histogram: Histogram | None, basis: Basis, own: Mask) -> dict[str, Any] | None:
    """TTFT by the server's histogram and by the client's stamps, of the same requests.

    The server observed those whose first token came between two scrapes, so the client's are the same, by when their
    first token came. TTFT is from when they were sent: what the server can't see is the network and the client.
    """
    if histogram is None:
        return None
    requests = basis.requests
    # The scrapes' spans hold their ends, a window its starts.
    between = Window.union((start + 1, end + 1) for start, end in histogram.spans)
    seen = own & requests.got_token & between.contains(requests.first_token_ns)
    client = describe(basis.latencies["ttft_ms"][seen])
    agrees = {}
    for name in _PERCENTILES:
        value, bucket = client.percentiles[name], histogram.percentile(name)
        agrees[name] = None if value is None or bucket is None else bucket.agrees(value / 1e3)
    judged = [agreed for agreed in agrees.values() if agreed is not None]
    return {
        "server": _distribution(histogram),
        "client": {
            "count": client.count,
            "mean_ms": client.mean,
            **{f"{name}_ms": client.percentiles[name] for name in _PERCENTILES},
        },
        "agrees": all(judged) if judged else None,
        "agrees_by_percentile": agrees,
    }


def _tenants(basis: Basis, windows: Windows) -> dict[str, Any] | None:
    """Queue and compute time of each tenant's requests, where the server tells them with each answer."""
    requests = basis.requests
    if np.isnan(requests.queued_s).all() and np.isnan(requests.computed_s).all():
        return None
    return {
        tenant.id: dict(_told(basis, basis.scheduled([(code, window)])))
        for code, (tenant, window) in enumerate(zip(basis.profile.tenants, windows.tenants, strict=True))
    }


def _told(basis: Basis, chosen: Mask) -> Iterator[tuple[str, dict[str, Any]]]:
    seconds: dict[str, Floats] = {"queue_ms": basis.requests.queued_s, "compute_ms": basis.requests.computed_s}
    for name, values in seconds.items():
        found = describe(values[chosen] * 1e3)
        yield (
            name,
            {
                "count": found.count,
                "mean": found.mean,
                "p50": found.percentiles["p50"],
                "p95": found.percentiles["p95"],
                "certified": {rank: found.certified[rank] for rank in ("p50", "p95")},
            },
        )
