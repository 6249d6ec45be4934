"""What the GPU and the engines were doing, sampled beside the load in a process of its own, on the run's clock."""

from fairshare_locust.telemetry.process import Telemetry

__all__ = ["Telemetry"]
