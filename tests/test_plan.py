"""Phases of a run."""

from __future__ import annotations

import dataclasses

import pytest

from fairshare_locust.plan import PLANS, Phase, mixed, solo
from fairshare_locust.profile.model import Run
from tests.profile.profiles import MINIMAL, parse, tenant

_PROFILE = dataclasses.replace(
    parse(MINIMAL), tenants=(tenant("chat"), tenant("batch")), run=Run(warmup_s=3, duration_s=30, drain_s=7)
)


def test_mixed_is_all_tenants_at_once() -> None:
    assert mixed(_PROFILE) == (Phase("", ("chat", "batch"), 3, 30, None, 7),)


def test_solo_is_one_after_another() -> None:
    assert solo(_PROFILE) == (
        Phase("solo-chat/", ("chat",), 3, 30, None, 7),
        Phase("solo-batch/", ("batch",), 3, 30, None, 7),
    )


def test_a_number_of_requests_instead_of_a_duration() -> None:
    profile = dataclasses.replace(_PROFILE, run=Run(requests=50))
    assert [(phase.duration_s, phase.requests) for phase in solo(profile)] == [(None, 50)] * 2


def test_plans_are_known_by_name() -> None:
    assert PLANS["mixed"](_PROFILE) == mixed(_PROFILE)
    assert PLANS["solo"](_PROFILE) == solo(_PROFILE)


def test_a_phase_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixed(_PROFILE)[0].prefix = "x"  # type: ignore[misc]
