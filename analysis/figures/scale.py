"""Ticks of a logarithmic axis of milliseconds, written as plain numbers."""

from __future__ import annotations

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

__all__ = ["log_ms"]


def log_ms(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade; call after the scale is set to log."""
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())
