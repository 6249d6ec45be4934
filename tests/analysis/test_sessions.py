"""Conversations."""

from __future__ import annotations

from analysis.sessions import Sessions, sessions
from tests.analysis.build import columns, record


def test_a_tenants_conversations() -> None:
    talks = [
        record("a", 0, session="one", turn=0, phase="warmup"),
        record("a", 0, session="one", turn=1, phase="measure"),  # the same, on both sides of the warm-up's end
        record("a", 1, session="two", turn=0),
        record("a", 2),
        record("b", 0, session="one", turn=0),
    ]
    assert sessions(columns(talks), 2) == (Sessions(2, 1.5), Sessions(1, 1.0))


def test_another_phase_has_other_conversations() -> None:
    talks = [record("a", 0, session="one", turn=0, phase=f"{phase}/measure") for phase in ("solo-a", "all")]
    assert sessions(columns(talks), 1) == (Sessions(2, 1.0),)


def test_without_conversations() -> None:
    assert sessions(columns([record("a")]), 2) == (None, None)
    assert sessions(columns([]), 1) == (None,)
