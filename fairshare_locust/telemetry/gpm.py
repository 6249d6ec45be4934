"""GPM: how busy the parts of a GPU, or of a MIG slice, were between two readings (Hopper and later)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["GPM_METRICS", "MIN_WINDOW_S", "Gpm"]

GPM_METRICS = {
    "sm_active_ratio": 2,  # NVML_GPM_METRIC_SM_UTIL
    "sm_occupancy_ratio": 3,  # NVML_GPM_METRIC_SM_OCCUPANCY
    "tensor_active_ratio": 5,  # NVML_GPM_METRIC_ANY_TENSOR_UTIL
    "dram_active_ratio": 10,  # NVML_GPM_METRIC_DRAM_BW_UTIL
}
"""Our name → NVML's number of the metric; the driver gives each in percent, 0 to 100."""

MIN_WINDOW_S = 0.2
"""The driver refreshes these counters about every 100 ms, so two readings must lie further apart than that."""


class Gpm:
    """One GPU, or one GPU instance of it: each reading is over the window since the reading before."""

    def __init__(self, nvml: Any, gpu: Any, gpu_instance: int | None = None) -> None:
        """`nvml` is the module pynvml, `gpu` the handle of the whole GPU, also for a slice. Raises NVMLError."""
        self._nvml = nvml
        self._gpu = gpu
        self._gpu_instance = gpu_instance
        self._earlier: Any = None
        self._spare: Any = nvml.nvmlGpmSampleAlloc()
        self._window_open = False
        self._request = nvml.c_nvmlGpmMetricsGet_t()
        self.wanted = list(GPM_METRICS)

    def read(self) -> Iterator[tuple[str, float, int]]:
        """Yield (metric, ratio, NVML's return code) of each wanted metric; the first reading has none yet.

        A ratio holds only with code 0. Raises NVMLError; the next reading then starts from the last good one.
        """
        nvml = self._nvml
        if not self.wanted:
            return
        self._take()
        if not self._window_open:
            self._window_open = True
            return
        request = self._request
        request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        request.sample1, request.sample2 = self._spare, self._earlier
        request.numMetrics = len(self.wanted)
        for place, metric in enumerate(self.wanted):
            request.metrics[place].metricId = GPM_METRICS[metric]
        nvml.nvmlGpmMetricsGet(request)
        answers = [
            (m, request.metrics[place].value / 100, request.metrics[place].nvmlReturn)
            for place, m in enumerate(self.wanted)
        ]
        yield from answers

    def restart(self) -> None:
        """Begin the next window now. Raises NVMLError; it then begins at the next reading."""
        self._window_open = False
        if self.wanted:
            self._take()
            self._window_open = True

    def _take(self) -> None:
        """The sample before becomes the spare one; both stay as they are if the driver refuses."""
        if self._spare is None:
            self._spare = self._nvml.nvmlGpmSampleAlloc()
        if self._gpu_instance is None:
            self._nvml.nvmlGpmSampleGet(self._gpu, self._spare)
        else:
            self._nvml.nvmlGpmMigSampleGet(self._gpu, self._gpu_instance, self._spare)
        self._earlier, self._spare = self._spare, self._earlier

    def close(self) -> None:
        """Give the driver its memory back; safe to call twice."""
        samples, self._earlier, self._spare = (self._earlier, self._spare), None, None
        for sample in samples:
            if sample is not None:
                self._nvml.nvmlGpmSampleFree(sample)
