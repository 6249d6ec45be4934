"""`sharing.json` of a run: how the GPU was to be shared, what was read back, and how it was verified."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import orjson

from fairshare_locust.profile.model import Profile
from fairshare_locust.record.run_directory import replace_file
from fairshare_locust.serving.sharing import SharingMode, open_mode

__all__ = ["write_evidence", "write_sharing"]


def write_sharing(profile: Profile, directory: Path) -> None:
    """Write it for servers that are modelled, or run already: as it is modelled, or told."""
    with closing(open_mode(profile, directory)) as mode:
        write_evidence(mode, directory)


def write_evidence(mode: SharingMode, directory: Path) -> None:
    """Write it as the way of sharing tells it now."""
    replace_file(directory / "sharing.json", orjson.dumps(mode.evidence(), option=orjson.OPT_INDENT_2) + b"\n")
