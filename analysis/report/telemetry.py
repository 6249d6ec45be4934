"""What the servers and the GPUs did, as lines and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.metrics import METRICS
from analysis.report.numbers import UNDEFINED, count, number, percentile, share, stamp
from fairshare_locust.telemetry.nvml import THROTTLE_REASONS

__all__ = [
    "device_name",
    "gpu_figures",
    "gpu_lines",
    "gpu_rows",
    "process_title",
    "server_figures",
    "server_lines",
    "server_rows",
    "unsupported",
]

GIB = 2.0**30
_UUID_LETTERS = 12  # "GPU-" and eight that tell boards apart
_FROM = {"counter": "the energy counter", "power": "power over time"}
_GPU_SOURCES = ("nvml", "dcgm", "agent")

Row = tuple[str, str, str, str]
"""Label, formula, mean, and peak with its time."""


def quantity(name: str, value: float | None) -> str:
    """A value of a metric with its unit: shares in per cent, bytes in GiB."""
    unit = METRICS[name].unit if name in METRICS else ""
    if value is None:
        return UNDEFINED
    if name.endswith("_ratio") or unit == "ratio":
        return share(value)
    if unit == "bytes":
        return f"{number(value / GIB)} GiB"
    if unit == "bytes/s":
        return f"{number(value / 1e6)} MB/s"
    return f"{number(value)} {unit}".rstrip()


def device_name(device: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> str:
    """Its name, whether it is simulated, and who sampled it if that was not the driver on this host.

    Args:
        devices: all that there are; among boards of one model, the name tells which it is.
    """
    board, _, part = device["device"].partition("/")
    names = [device["name"] or device["device"]]
    namesakes = {one["device"].partition("/")[0] for one in devices if one["name"] == device["name"]}
    if device["name"] and len(namesakes) > 1:
        names.append(board[:_UUID_LETTERS])
    if device["name"] and part.startswith("gi"):
        names.append(part)
    marks = [
        *(["simulated"] if device["simulated"] else []),
        *([device["source"]] if device["source"] != "nvml" else []),
    ]
    return " ".join([*names, *([f"({', '.join(marks)})"] if marks else [])])


def process_title(process: Mapping[str, Any]) -> str:
    """Which GPU a process is on, and the tenants of its server; of one that serves nobody here, its name."""
    if process["endpoint"] is None:
        return f"process {process['name']}"
    return f"process {process['device']}: {', '.join(process['tenants']) or 'no tenant'} ({process['endpoint']})"


def server_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """Each server in a line or two; one that says why there is none."""
    server = content["server"]
    if server is None or not server["endpoints"]:
        yield f"server metrics: none; {_why_none(content, ('server_metrics',))}"
    for endpoint, entry in server["endpoints"].items() if server else ():
        yield f"server {endpoint}, all its tenants: {', '.join(_of_server(entry)) or 'no sample in the window'}"
        if entry["counters_note"] is not None:
            yield f"  its counts are undefined: {entry['counters_note']}"
        ttft = entry["ttft"]
        if ttft and ttft["server"]["count"]:
            yield f"  {_ttft(ttft)}"
    for tenant, told in (server["tenants"] or {}).items() if server else ():
        if told["queue_ms"]["count"] or told["compute_ms"]["count"]:
            yield f"{tenant}, by the engine: {'; '.join(_told(told))}"


def _of_server(entry: Mapping[str, Any]) -> Iterator[str]:
    peak, cache = entry["kv_cache_peak"], entry["prefix_cache"]
    if peak:
        yield f"KV cache peak {share(peak['value'])} at {stamp(peak['t_s'])} s, mean {share(entry['kv_cache_mean'])}"
    for name in ("requests_running", "requests_waiting"):
        if entry[name]:
            yield f"{METRICS[name].label} peak {count(entry[name]['peak'])} at {stamp(entry[name]['peak_t_s'])} s"
    if entry["preemptions"] is not None:
        yield f"{count(entry['preemptions'])} preemptions"
    if cache and cache["hit_rate"] is not None:
        yield f"prefix-cache hit rate {share(cache['hit_rate'])}"


def _ttft(ttft: Mapping[str, Any]) -> str:
    server, client = ttft["server"], ttft["client"]
    words = {True: "; they agree", False: "; they differ by more than a bucket", None: ""}[ttft["agrees"]]
    return (
        f"TTFT by the server: {_distribution(server)}; by the client, over the same time: "
        f"mean {number(client['mean_ms'])} ms, "
        f"p95 {number(client['p95_ms'])} ms (n = {count(client['count'])}){words}"
    )


def _told(told: Mapping[str, Any]) -> Iterator[str]:
    for name, latency in told.items():
        if latency["count"]:
            yield (
                f"{METRICS[name].label} p50 {percentile(latency, 'p50')} ms, p95 {percentile(latency, 'p95')} ms "
                f"(n = {count(latency['count'])})"
            )


def gpu_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """Each GPU in a line, and the energy per token; one line that says why there is none."""
    gpu = content["gpu"]
    if gpu is None:
        yield f"GPU: none sampled; {_why_none(content, _GPU_SOURCES)}"
        return
    for device in gpu["devices"]:
        yield f"GPU {device_name(device, gpu['devices'])}: {', '.join(_of_device(device)) or 'no sample in the window'}"
    if gpu["joules_per_output_token"] is not None:
        told = " and ".join(_FROM[source] for source in gpu["energy_from"])
        own, every = len(gpu["energy_of"]), gpu["boards"]
        boards = f" of {own} GPU{'s' if own > 1 else ''}{f', of {every} sampled' if every > own else ''}"
        boards = boards if every > 1 else ""
        simulated = ", simulated" if gpu["simulated"] else ""
        yield (
            f"energy{boards}: {number(gpu['joules_per_output_token'])} J per output token "
            f"({number(gpu['energy_j'])} J, from {told}{simulated})"
        )
    else:
        yield f"energy per output token: undefined, {gpu['energy_note']}"


def _of_device(device: Mapping[str, Any]) -> Iterator[str]:
    metrics = device["metrics"]
    for name in ("gpu_utilization_ratio", "sm_active_ratio", "power_w"):
        if name in metrics:
            one = metrics[name]
            yield (
                f"{METRICS[name].label.removeprefix('GPU ')} mean {quantity(name, one['mean'])}, "
                f"peak {quantity(name, one['peak'])} at {stamp(one['peak_t_s'])} s"
            )
    if "memory_used_bytes" in metrics:
        there_is = metrics.get("memory_total_bytes")
        of = f" of {quantity('memory_total_bytes', there_is['peak'])}" if there_is else ""
        yield f"memory peak {quantity('memory_used_bytes', metrics['memory_used_bytes']['peak'])}{of}"
    for reason, held in device["throttle"].items():
        if held:
            yield f"throttled in {share(held)} of samples: {_throttle(reason)}"


def _throttle(reason: str) -> str:
    """What held the clocks down, in words."""
    _, words = THROTTLE_REASONS.get(f"throttle_{reason}", (0, reason.replace("_", " ")))
    return words


def _why_none(content: Mapping[str, Any], kinds: tuple[str, ...]) -> str:
    telemetry = content["sources"]["telemetry"]
    if "sources" not in telemetry:
        return "the run has no record of telemetry"
    if not telemetry["asked_for"]["gpu" if kinds == _GPU_SOURCES else "server"]:
        return "the profile asks for none"
    sources = [source for source in telemetry["sources"] if source["source"] in kinds]
    problems = [problem for source in sources for problem in source.get("problems") or []]
    if sources:
        return "; ".join(problems) or "no sample was taken"
    if telemetry.get("state") == "lost":
        return "telemetry ended before it could tell; see the run's notes"
    servers = content["run"]["servers"]
    if kinds == _GPU_SOURCES and servers:
        simulated = all(server.get("simulated") for server in servers)
        return "the servers are simulated" if simulated else "the servers run elsewhere; give dcgm_url or agent_url"
    return "nothing was asked"


def gpu_rows(device: Mapping[str, Any]) -> list[Row]:
    """Each metric of a device, or of a process on one, as it stands in a table."""
    return [_row(name, one) for name, one in device["metrics"].items()]


def server_rows(entry: Mapping[str, Any]) -> list[Row]:
    """Each figure of an endpoint as it stands in a table."""
    rows: list[Row] = []
    if entry["kv_cache_peak"]:
        peak = {"peak": entry["kv_cache_peak"]["value"], "peak_t_s": entry["kv_cache_peak"]["t_s"]}
        rows.append(_row("kv_cache_usage", {"mean": entry["kv_cache_mean"], **peak}))
    rows += [
        _row(name, entry[name])
        for name in ("requests_running", "requests_waiting", "requests_swapped")
        if entry[name] is not None
    ]
    return rows


def server_figures(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is one figure for the whole window: label and value."""
    tokens, cache, queue = entry["tokens"], entry["prefix_cache"], entry["queue_share_of_ttft"]
    figures = [
        ("preemptions", count(entry["preemptions"])),
        (
            "output tokens, server / client",
            f"{count(tokens['generation_server'])} / {count(tokens['generation_client'])}",
        ),
        ("prompt tokens, server / client", f"{count(tokens['prompt_server'])} / {count(tokens['prompt_client'])}"),
    ]
    if cache:
        looked_up = count(cache["queries_tokens"])
        figures.append(("prefix-cache hit rate", f"{share(cache['hit_rate'])} of {looked_up} tokens looked up"))
    if entry["ttft"]:
        figures.append(("TTFT", _ttft(entry["ttft"])))
    for name, one in entry["latency"].items():
        figures.append((f"{name}, by the server", _distribution(one)))
    if queue is not None:
        figures.append(("mean time in the queue / mean TTFT", share(queue)))
    return figures


def _distribution(one: Mapping[str, Any]) -> str:
    if not one["count"]:
        return "no request"
    low, high = one["p95_ms"]
    return f"mean {number(one['mean_ms'])} ms, p95 {number(low)} to {number(high)} ms (n = {count(one['count'])})"


def gpu_figures(device: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is one figure for the whole window: label and value."""
    figures = []
    if device["energy_j"] is not None:
        covered = (
            "" if device["energy_covered_ratio"] >= 0.995 else f"; sampled for {share(device['energy_covered_ratio'])}"
        )
        figures.append(("energy", f"{number(device['energy_j'])} J, from {_FROM[device['energy_from']]}{covered}"))
    elif device["energy_covered_ratio"]:
        figures.append(("energy", f"undefined: sampled for only {share(device['energy_covered_ratio'])} of the window"))
    for reason, held in device["throttle"].items():
        figures.append((f"throttled: {_throttle(reason)}", f"{share(held)} of samples"))
    return figures


def _row(name: str, one: Mapping[str, Any]) -> Row:
    metric = METRICS.get(name)
    label, formula = (metric.label, metric.formula) if metric else (name.replace("_", " "), "")
    return label, formula, quantity(name, one["mean"]), f"{quantity(name, one['peak'])} at {stamp(one['peak_t_s'])} s"


def unsupported(device: Mapping[str, Any]) -> list[str]:
    """What has no samples, by the reason why, in words."""
    by_reason: dict[str, list[str]] = {}
    for name, why in device["unsupported"].items():
        by_reason.setdefault(why, []).append(METRICS[name].label if name in METRICS else name.replace("_", " "))
    return [f"{', '.join(names)}: {why}" for why, names in by_reason.items()]
