"""Loading a profile's traces: the cut, failures left out, and each tenant's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.errors import WorkloadError
from fairshare_locust.profile import parse_profile
from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.traces import AssignByShare, Trace
from fairshare_locust.trace import TraceRows, load_traces, read_trace
from fairshare_locust.trace.load import cut_trace
from fairshare_locust.trace.rows import Rows

_SAMPLES = Path(__file__).resolve().parents[2] / "profiles/traces"

_BURST = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
100,s1,1,ChatGPT,10,0,10,Conversation log
110,s1,1,ChatGPT,20,2,22,Conversation log
120,,1,GPT-4,30,3,33,API log
120,s2,1,Ada,40,4,44,Conversation log
130,,1,GPT-4,50,0,50,API log
140,s2,1,GPT-4,60,6,66,Conversation log
"""


def profile(folder: Path, traces: str, tenants: str = "chat big") -> Profile:
    listed = "".join(
        f"""
  - id: {tenant}
    arrival: {{process: trace, trace: burst}}
    workload: {{source: trace, trace: burst}}
"""
        for tenant in tenants.split()
    )
    text = f"name: x\nseed: 7\nrun: {{duration_s: 1}}\nmodel: {{name: m}}\ntraces:\n{traces}\ntenants:{listed}"
    return parse_profile(text, source="profile.yaml", folder=folder)


def load(folder: Path, options: str = "", tenants: str = "chat big") -> TraceRows:
    """The trace above, cut and assigned as the options say."""
    (folder / "burst.csv").write_text(_BURST)
    trace = f"  - {{name: burst, path: burst.csv, format: burstgpt{options and f', {options}'}}}"
    return load_traces(profile(folder, trace, tenants))["burst"]


def test_without_assignment_each_tenant_sends_every_row_with_an_answer(tmp_path: Path) -> None:
    trace = load(tmp_path)
    assert trace.failures == 2
    assert len(trace) == 4
    for tenant in ("chat", "big"):
        rows = trace.of_tenant(tenant)
        assert rows.times_s.tolist() == [10, 20, 20, 40]
        assert rows.input_tokens.tolist() == [20, 30, 40, 60]
        assert rows.output_tokens.tolist() == [2, 3, 4, 6]
        assert rows.hash_blocks(0) == ()


def test_a_cut_takes_its_first_second_and_not_its_last(tmp_path: Path) -> None:
    trace = load(tmp_path, "from_s: 20, to_s: 40")
    rows = trace.of_tenant("chat")
    assert rows.times_s.tolist() == [0, 0]
    assert rows.input_tokens.tolist() == [30, 40]
    assert trace.failures == 1


def test_a_cut_without_rows_tells_the_span(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        load(tmp_path, "from_s: 41")
    assert str(caught.value) == (
        f"traces.burst: no row with an answer in [41, end) s of {tmp_path / 'burst.csv'}, which spans 0 to 40 s "
        "with 6 rows; choose from_s and to_s inside of that"
    )


def test_a_cut_with_failures_alone_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"no row with an answer in \[30, 31\) s"):
        load(tmp_path, "from_s: 30, to_s: 31")


def test_rows_by_model(tmp_path: Path) -> None:
    trace = load(tmp_path, "assign: {by: model, models: {ChatGPT: chat, GPT-4: big}}")
    assert trace.of_tenant("chat").input_tokens.tolist() == [20]
    assert trace.of_tenant("big").input_tokens.tolist() == [30, 60]


def test_a_model_that_nobody_asked_for(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        load(tmp_path, "assign: {by: model, models: {chatgpt: chat, GPT-4: big}}")
    assert str(caught.value).startswith("traces.burst: no row falls to tenant 'chat', of 4 in [0, end) s of ")
    assert str(caught.value).endswith("; the models asked for there: Ada, ChatGPT, GPT-4")


def test_a_share_too_small_for_a_row(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"no row falls to tenant 'big', of 4 .*; give it a larger share, or cut"):
        load(tmp_path, "assign: {by: share, shares: {chat: 1, big: 0.000000001}}")


def test_a_tenant_that_the_trace_is_not_assigned_to(tmp_path: Path) -> None:
    trace = load(tmp_path, "assign: {by: model, models: {GPT-4: big}}", tenants="big")
    with pytest.raises(WorkloadError, match=r"traces\.burst: assigns no row to tenant 'chat'; it has rows for big"):
        trace.of_tenant("chat")


def test_two_cuts_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "burst.csv").write_text(_BURST)
    loaded = load_traces(
        profile(
            tmp_path,
            "  - {name: burst, path: burst.csv, format: burstgpt, to_s: 20}\n"
            "  - {name: later, path: burst.csv, format: burstgpt, from_s: 15}",
        )
    )
    assert list(loaded) == ["burst", "later"]
    assert loaded["burst"].of_tenant("chat").times_s.tolist() == [10]
    assert loaded["later"].of_tenant("chat").times_s.tolist() == [5, 5, 25]


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(path: Path, trace_format: str) -> Rows:
        read.append(path.name)
        return read_trace(path, trace_format)

    monkeypatch.setattr("fairshare_locust.trace.load.read_trace", counted)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(_BURST)
    paths = {"burst": "a.csv", "again": "a.csv", "other": "b.csv"}
    traces = "\n".join(f"  - {{name: {name}, path: {path}, format: burstgpt}}" for name, path in paths.items())
    load_traces(profile(tmp_path, traces))
    assert read == ["a.csv", "b.csv"]


def test_blocks_follow_their_rows_into_a_cut() -> None:
    path = _SAMPLES / "mooncake_sample.jsonl"
    rows = read_trace(path, "mooncake")
    trace = Trace(
        name="moon", path=path, format="mooncake", from_s=20, assign=AssignByShare(shares={"chat": 1, "big": 1})
    )
    cut = cut_trace(trace, rows, seed=3)
    assert rows.blocks is not None
    recorded = {round(float(at), 3): rows.blocks.of(i) for i, at in enumerate(rows.times_s)}
    for tenant in ("chat", "big"):
        own = cut.of_tenant(tenant)
        assert len(own) > 5
        for i, at in enumerate(own.times_s):
            assert own.hash_blocks(i) == recorded[round(float(at) + 20, 3)]


@given(st.floats(0, 40), st.floats(1, 40), st.integers(0, 100))
def test_every_row_of_a_cut_is_one_tenants_and_the_same_ones_in_any_cut(
    from_s: float, length_s: float, seed: int
) -> None:
    path = _SAMPLES / "azure_sample.csv"
    rows = read_trace(path, "azure")
    assign = AssignByShare(shares={"chat": 1, "big": 2})
    whole = cut_trace(Trace(name="t", path=path, format="azure", assign=assign), rows, seed)
    try:
        part = cut_trace(
            Trace(name="t", path=path, format="azure", assign=assign, from_s=from_s, to_s=from_s + length_s), rows, seed
        )
    except WorkloadError:
        return  # too short for a row of each
    times = []
    for tenant in ("chat", "big"):
        own = part.of_tenant(tenant).times_s + from_s
        everything = whole.of_tenant(tenant).times_s
        expected = everything[(everything >= from_s) & (everything < from_s + length_s)]
        np.testing.assert_allclose(own, expected, atol=1e-9)
        times += own.tolist()
    assert len(times) == len(part)
