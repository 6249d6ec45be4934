"""The modelled GPU under the names, types, units and labels of NVIDIA's DCGM exporter.

What the model does not have (temperature, clocks, PCIe traffic, occupancy) is not there. A step is taken to keep
the whole device busy, so its engine and its SMs are active for the same share of the time.
"""

from __future__ import annotations

import uuid
from typing import Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from fairshare_locust.simulator.device import Device, Reading
from fairshare_locust.simulator.exposition import label_set, metric

__all__ = ["create_exporter", "exposition"]


def create_exporter(device: Device) -> web.Application:
    """The exporter as an aiohttp application: `GET /metrics`."""
    name = f"SIM-{uuid.uuid4()}"

    async def metrics(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=exposition(device.read(), name).encode(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    return app


def exposition(reading: Reading, device_uuid: str) -> str:
    """The device in Prometheus text; the exporter's counter ends without `_total`."""
    labels = label_set(gpu="0", UUID=device_uuid, modelName="Simulated GPU")
    used_mib = round(reading.memory_used_mib)
    total_mib = round(reading.memory_used_mib + reading.memory_free_mib)
    share = round(reading.busy_share, 6)
    energy_mj = round(1000 * reading.energy_j)
    metrics: list[tuple[Literal["gauge", "counter"], str, str, float]] = [
        ("gauge", "DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", round(100 * reading.busy_share)),
        ("gauge", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", share),
        ("gauge", "DCGM_FI_PROF_SM_ACTIVE", "The ratio of cycles an SM has at least 1 warp assigned.", share),
        ("gauge", "DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", used_mib),
        ("gauge", "DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", total_mib - used_mib),
        ("gauge", "DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", round(reading.power_w, 3)),
        ("counter", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy consumption since boot (in mJ).", energy_mj),
    ]
    return "".join(metric(kind, name, text, [(labels, value)]) for kind, name, text, value in metrics)
