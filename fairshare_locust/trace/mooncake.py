"""Mooncake (kvcache-ai/Mooncake, FAST '25): JSONL with milliseconds and the prefix blocks of each prompt.

`{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, …]}`; prompts with equal
leading hash ids begin with the same blocks of 512 tokens. `hash_ids` may be left out, other keys are passed over.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from fairshare_locust.trace.formats import (
    MOST_TOKENS,
    REQUIRED,
    TOKENS_ALLOWED,
    check_columns,
    columns_of,
    first_line,
    fitting_format,
)
from fairshare_locust.trace.problems import Problems, found
from fairshare_locust.trace.rows import Blocks, Rows

__all__ = ["read_mooncake"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_MS = 1e15
_LARGEST_ID = 2**63 - 1


def read_mooncake(path: Path) -> Rows:
    """All rows, failures included, by time. Raises WorkloadError."""
    columns = columns_of(first_line(path))
    if fitting_format(columns) not in (None, "mooncake"):
        check_columns(path, "mooncake", columns)  # says which format would fit
    times_ms, lengths, outputs, ends, ids = array("d"), array("i"), array("i"), array("q"), array("q")
    problems = Problems(path)
    with path.open("rb") as file:
        for number, content in enumerate(file, start=1):
            if number == 1:
                content = content.removeprefix(_BYTE_ORDER_MARK)
            if not content.strip():
                continue
            try:
                row = orjson.loads(content)
                time_ms, length, output = row["timestamp"], row["input_length"], row["output_length"]
                hash_ids = row.get("hash_ids", [])
                if (
                    type(length) is int
                    and type(output) is int
                    and type(time_ms) in (int, float)
                    and 0 <= length <= MOST_TOKENS
                    and 0 <= output <= MOST_TOKENS
                    and 0 <= time_ms <= _MOST_MS
                    and type(hash_ids) is list
                    and set(map(type, hash_ids)) <= {int}
                ):
                    ids.extend(hash_ids)
                    times_ms.append(time_ms)
                    lengths.append(length)
                    outputs.append(output)
                    ends.append(len(ids))
                    continue
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                pass
            del ids[ends[-1] if ends else 0 :]
            problems.add(number, _fault(content))
    problems.refuse()
    times = np.asarray(times_ms)
    stops = np.asarray(ends)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), stops])[:-1]
    return Rows(
        times_s=(times - times.min(initial=math.inf)) / 1000,
        input_tokens=np.asarray(lengths),
        output_tokens=np.asarray(outputs),
        blocks=Blocks(np.asarray(ids), starts, stops),
    ).in_order()


def _fault(content: bytes) -> str:
    """What is wrong with a line that is no row."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start} of the line)"
    try:
        row: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return f"found {type(row).__name__}; must be an object with {', '.join(REQUIRED['mooncake'])} and hash_ids"
    missing = [key for key in REQUIRED["mooncake"] if key not in row]
    if missing:
        return f"{', '.join(missing)}: missing; a row has {', '.join(REQUIRED['mooncake'])} and hash_ids"
    time_ms = row["timestamp"]
    if type(time_ms) not in (int, float) or not 0 <= time_ms <= _MOST_MS:
        return f"timestamp: {found(time_ms, 'milliseconds, 0 or more')}"
    for key in ("input_length", "output_length"):
        if type(row[key]) is not int or not 0 <= row[key] <= MOST_TOKENS:
            return f"{key}: {found(row[key], TOKENS_ALLOWED)}"
    return f"hash_ids: {found(row['hash_ids'], f'a list of whole numbers, each at most {_LARGEST_ID}')}"
