"""How many samples stand behind a line, in words."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted"]


def counted(counts: Iterable[int]) -> str:
    """The count, or the least and the most where they differ, as over several panels."""
    least, most = min(some := list(counts)), max(some)
    return f"n = {most:,}" if least == most else f"n = {least:,} to {most:,}"
