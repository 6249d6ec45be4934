"""The verdict on a run whose report nobody needs: its numbers alone, which takes a fraction of the time.

`python -m fairshare_locust.matrix.verdict RUN`
"""

from __future__ import annotations

import sys
from pathlib import Path

from fairshare_locust.cell import note_verdict
from fairshare_locust.errors import FairshareError
from fairshare_locust.record import RunDirectory
from fairshare_locust.record.run_directory import replace_file

__all__ = ["write_verdict"]


def write_verdict(path: Path, *, figures: bool) -> None:
    """Analyse a run: write `analysis/summary.json` and note the verdict; with `figures` its whole report.

    Raises RunDirectoryError when the run can't be read, OSError when it can't be written.
    """
    if figures:
        from analysis import report_run

        summary = report_run(path)
    else:
        from analysis.load import load_run  # numpy and pyarrow load here
        from analysis.summary import summarise

        summary = summarise(load_run(path))
        file = path / "analysis" / "summary.json"
        file.parent.mkdir(exist_ok=True)
        replace_file(file, summary.to_json())
    note_verdict(RunDirectory(path), summary.content["verdict"]["status"])


if __name__ == "__main__":
    try:
        write_verdict(Path(sys.argv[1]), figures=False)
    except (FairshareError, OSError) as error:
        sys.exit(f"fairshare: {error}")
