"""Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset): CSV with a date and time for each row.

`TIMESTAMP,ContextTokens,GeneratedTokens`; further columns, as 2025's have, are passed over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fairshare_locust.trace.formats import check_columns, columns_of, first_line
from fairshare_locust.trace.rows import Rows
from fairshare_locust.trace.table import INSTANT, TOKENS, read_table

__all__ = ["read_azure"]


def read_azure(path: Path) -> Rows:
    """All rows, failures included, by time. Raises WorkloadError."""
    header = columns_of(first_line(path))
    check_columns(path, "azure", header)
    table = read_table(path, header, numbers={"TIMESTAMP": INSTANT, "ContextTokens": TOKENS, "GeneratedTokens": TOKENS})
    instants_ns = table.numbers["TIMESTAMP"]
    return Rows(
        # Nanoseconds are subtracted as whole numbers: as floats since 1970 they would be right to 256 ns only.
        times_s=(instants_ns - instants_ns.min(initial=np.iinfo(np.int64).max)) / 1e9,
        input_tokens=table.numbers["ContextTokens"],
        output_tokens=table.numbers["GeneratedTokens"],
    ).in_order()
