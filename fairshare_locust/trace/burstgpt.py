"""BurstGPT (HPMLL/BurstGPT): CSV with seconds, the model asked for and, in newer files, the session.

`Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`, newer files also `Session ID,Elapsed time`;
requests over the API have no session, and failures 0 response tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairshare_locust.trace.formats import check_columns, columns_of, first_line
from fairshare_locust.trace.rows import Labels, Rows
from fairshare_locust.trace.table import SECONDS, TOKENS, read_table

__all__ = ["read_burstgpt"]

_SESSION = "Session ID"


def read_burstgpt(path: Path) -> Rows:
    """All rows, failures included, by time. Raises WorkloadError."""
    header = columns_of(first_line(path))
    check_columns(path, "burstgpt", header)
    table = read_table(
        path,
        header,
        numbers={"Timestamp": SECONDS, "Request tokens": TOKENS, "Response tokens": TOKENS},
        labels=["Model", _SESSION] if _SESSION in header else ["Model"],
    )
    times_s = table.numbers["Timestamp"]
    none = Labels(np.full(len(times_s), -1, dtype=np.int32), ())
    return Rows(
        times_s=times_s - times_s.min(initial=np.inf),
        input_tokens=table.numbers["Request tokens"],
        output_tokens=table.numbers["Response tokens"],
        models=table.labels["Model"],
        sessions=table.labels.get(_SESSION, none),
    ).in_order()
