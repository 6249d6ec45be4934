"""A stand-in for NVIDIA's driver library: real pynvml on top, answers from a script beneath. See nvml.c."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["ONE_GPU", "Stub", "build", "why_not_built"]

_SOURCE = Path(__file__).with_name("nvml.c")

ONE_GPU = """\
devices 1
driver 580.95.05
name Stub-H100
utilization_gpu 83
utilization_memory 41
memory_total 85899345920
memory_reserved 536870912
memory_used 21474836480
power_mw 312500
energy_mj 7000000 7156250
temperature 64
clock.1 1755
clock.2 2619
reasons_supported 511
reasons 4
pcie_tx 2048
pcie_rx 512
processes 4001:1073741824 4002:2147483648
process_sm 4001:30:5 4001:50:6 4002:10:5
gpm 1
gpm.2 62.5
gpm.3 25
gpm.5 12.5
gpm.10 40
"""
"""A GPU that supports everything, in units of the driver."""


def why_not_built() -> str | None:
    """Why the stub can't be built here, if it can't."""
    return None if shutil.which("gcc") else "gcc is not installed, and the stub of the driver library is in C"


def build(folder: Path) -> None:
    """Compile the stub as `libnvidia-ml.so.1` into a folder."""
    library = folder / "libnvidia-ml.so.1"
    options = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *options, "-o", str(library), str(_SOURCE)], check=True)


class Stub:
    """The library in a folder, and the script that it follows.

    Attributes:
        environment: for the processes that shall meet the stub; the loader reads it when they start.
    """

    def __init__(self, library_folder: Path, folder: Path) -> None:
        self._script = folder / "nvml-script.txt"
        path = os.pathsep.join(filter(None, [str(library_folder), os.environ.get("LD_LIBRARY_PATH")]))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": path, "FAIRSHARE_NVML_STUB": str(self._script)}
        self.script(ONE_GPU)

    def script(self, *parts: str) -> None:
        """Follow this script from the next call on; of a key that stands there twice, the later line counts."""
        fresh = self._script.with_suffix(".new")
        fresh.write_text("\n".join(parts) + "\n")
        fresh.replace(self._script)

    @property
    def left_at_shutdown(self) -> list[int]:
        """For each time that a process shut the library down: the GPM samples that it had not given back."""
        mark = self._script.with_name(self._script.name + ".shutdown")
        return [int(line) for line in mark.read_text().splitlines()] if mark.exists() else []
