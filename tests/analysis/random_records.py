"""Arbitrary records for property tests. Stamps are whole hundredths of a second, so that many coincide."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fairshare_locust.record import OUTCOMES, RequestRecord
from tests.analysis.build import record

__all__ = ["records"]


@st.composite
def one_record(draw: st.DrawFn, index: int) -> RequestRecord:
    """A consistent record of tenant a or b, due in the first 10 s."""
    at = draw(st.integers(0, 1000))
    outcome = draw(st.sampled_from(OUTCOMES))
    values: dict[str, Any] = {
        "outcome": outcome,
        "scheduled_s": at / 100,
        "input_tokens": draw(st.none() | st.integers(0, 50)),
        "requested_output_tokens": draw(st.none() | st.integers(0, 50)),
    }
    if outcome == "shed":
        return record(draw(st.sampled_from("ab")), index, sent_s=None, first_token_s=None, **values)
    sent = at + draw(st.integers(0, 20))
    values["sent_s"] = sent / 100
    if draw(st.booleans()):
        first = sent + draw(st.integers(0, 200))
        gaps = draw(st.lists(st.integers(0, 100), max_size=5))
        values["first_token_s"] = first / 100
        values["gaps_us"] = [gap * 10_000 for gap in gaps]
        values["last_token_s"] = (first + sum(gaps)) / 100
        values["output_tokens"] = draw(st.none() | st.integers(0, 20))
        if draw(st.booleans()):
            values["chunk_tokens"] = draw(st.lists(st.integers(0, 4), min_size=len(gaps) + 1, max_size=len(gaps) + 1))
        end = first + sum(gaps)
    else:
        values["first_token_s"] = None
        end = sent
    values["ended_s"] = (end + draw(st.integers(0, 50))) / 100
    return record(draw(st.sampled_from("ab")), index, **values)


@st.composite
def records(draw: st.DrawFn, min_size: int = 0) -> list[RequestRecord]:
    """Up to a dozen."""
    size = draw(st.integers(min_size, 12))
    return [draw(one_record(index)) for index in range(size)]
