"""How engines share a card: figures worked out by hand, and what holds for any steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.simulator.costs import Work
from fairshare_locust.simulator.gpu import Concurrent, Gpu, Independent, TimeSlice

Begin = tuple[float, int, Work]  # when, whose, what


def ends(gpu: Gpu, *begins: Begin) -> list[tuple[float, int]]:
    """The ends of all these steps, each in its time: who has several begins the next at the end of the one before."""
    later = sorted(begins, key=lambda begin: begin[:2])
    running: set[int] = set()
    found: list[tuple[float, int]] = []
    while later or running:
        end = gpu.next_end()
        now_s = found[-1][0] if found else 0.0
        able = [begin for begin in later if begin[1] not in running]
        begin = min(able, key=lambda begin: max(begin[0], now_s), default=None)
        if begin is not None and (end is None or max(begin[0], now_s) <= end[0]):
            later.remove(begin)
            running.add(begin[1])
            gpu.begin(begin[1], begin[2], max(begin[0], now_s))
        else:
            assert end is not None
            gpu.end(end[1], end[0])
            running.remove(end[1])
            found.append(end)
    return found


def rounded(found: list[tuple[float, int]]) -> list[tuple[float, int]]:
    return [(round(end_s, 9), engine) for end_s, engine in found]


def host(seconds: float) -> Work:
    return Work(seconds, 0, 0, 0)


def reads(seconds: float, host_s: float = 0) -> Work:
    return Work(host_s, seconds, 0, 0)


def computes(seconds: float, host_s: float = 0) -> Work:
    return Work(host_s, 0, seconds, 0)


# --- independent


def test_independent_steps_last_as_long_as_alone() -> None:
    work = Work(1, 4, 2, 3)  # 1 + max(4, 2) + 3
    assert ends(Independent(), (0, 0, work), (0, 1, work), (2, 2, computes(1))) == [(3, 2), (8, 0), (8, 1)]


# --- time-slicing


def test_two_take_turns_and_pay_for_each_change() -> None:
    # Ready at 1. 0: 1-3; 1: 3.5-5.5; 0: 6-8; 1: 8.5-9.5, over; 0: 10-11, over.
    assert ends(TimeSlice(2, 0.5), (0, 0, reads(5, 1)), (0, 1, computes(3, 1))) == [(9.5, 1), (11, 0)]


def test_one_alone_pays_nothing_however_long_it_runs() -> None:
    steps = [(0.0, 3, Work(1, 5, 2, 4))] * 3
    assert ends(TimeSlice(2, 0.5), *steps) == [(10, 3), (20, 3), (30, 3)]


def test_the_hosts_part_of_one_runs_beside_the_gpus_of_another() -> None:
    # 0 computes 1-3 while 1 is on the host until 3; then the switch, then 1 computes 3.5-5.5; 0 is back at 4, on
    # the host until 5, and computes 6-8.
    found = ends(TimeSlice(2, 0.5), (0, 0, reads(2, 1)), (0, 0, reads(2, 2)), (0, 1, reads(2, 3)))
    assert found == [(3, 0), (5.5, 1), (8, 0)]


def test_who_comes_when_the_quantum_is_used_up_is_next_at_once() -> None:
    # 1 is ready at 5 and computes 5.5-6.5; 0 has 5 left from 7 on.
    assert ends(TimeSlice(2, 0.5), (0, 0, reads(10)), (4, 1, reads(1, 1))) == [(6.5, 1), (12, 0)]


def test_who_comes_before_waits_for_the_end_of_the_quantum() -> None:
    # 1 is ready at 1 and computes 2.5-3.5; 0 has 8 left from 4 on.
    assert ends(TimeSlice(2, 0.5), (0, 0, reads(10)), (0, 1, reads(1, 1))) == [(3.5, 1), (12, 0)]


def test_who_comes_to_an_idle_gpu_pays_if_another_had_it_last() -> None:
    found = ends(TimeSlice(2, 0.5), (0, 0, reads(1)), (5, 1, reads(1)), (10, 1, reads(1)))
    assert found == [(1, 0), (6.5, 1), (11, 1)]


def test_three_take_turns_in_the_order_in_which_they_came() -> None:
    # 2: 0-2, 0: 2-4, 1: 4-6, 2: 6-7 over, 0: 7-8 over, 1: 8-9 over
    found = ends(TimeSlice(2, 0), (0, 2, reads(3)), (0.5, 0, reads(3)), (1, 1, reads(3)))
    assert found == [(7, 2), (8, 0), (9, 1)]


def test_what_rounding_leaves_of_a_step_is_no_turn() -> None:
    # Six turns of 2 ms, whatever 0.006 - 0.002 - 0.002 - 0.002 is.
    found = ends(TimeSlice(0.002, 0.0005), (1e6, 0, reads(0.006)), (1e6, 1, reads(0.006)))
    assert [engine for _, engine in found] == [0, 1]
    assert [end_s - 1e6 for end_s, _ in found] == pytest.approx([0.012, 0.0145], abs=1e-8)


def test_a_step_without_work_for_the_gpu_needs_no_turn() -> None:
    assert ends(TimeSlice(2, 0.5), (0, 1, host(3)), (0, 0, reads(4)), (0, 2, host(3))) == [(3, 1), (3, 2), (4, 0)]


def test_a_step_that_begins_changes_what_was_foreseen() -> None:
    gpu = TimeSlice(2, 0.5)
    gpu.begin(0, reads(3), 0.0)
    assert gpu.next_end() == (3, 0)
    gpu.begin(1, reads(1), 1.0)
    assert gpu.next_end() == (3.5, 1)
    gpu.end(1, 3.5)
    assert gpu.next_end() == (5, 0)


def test_an_end_that_is_not_the_next_is_refused() -> None:
    gpu = TimeSlice(2, 0.5)
    gpu.begin(0, reads(3), 0.0)
    with pytest.raises(RuntimeError, match=r"end of engine 0 at 2.0 s; next is \(3.0, 0\)"):
        gpu.end(0, 2.0)


# --- concurrently


def test_two_that_read_halve_the_bandwidth() -> None:
    found = ends(Concurrent([1, 1], 0), (0, 0, Work(1, 3, 0, 1)), (0, 1, Work(1, 3, 0, 1)))
    assert found == [(9, 0), (9, 1)]


def test_one_that_computes_and_one_that_reads_do_not_disturb_each_other() -> None:
    assert ends(Concurrent([1, 1], 0), (0, 0, computes(4)), (0, 1, reads(6))) == [(4, 0), (6, 1)]


def test_both_lose_a_little_while_they_are_together() -> None:
    # At 0.8 until 5, when 4 of 6 are read; the last 2 at full speed.
    found = ends(Concurrent([1, 1], 0.2), (0, 0, computes(4)), (0, 1, reads(6)))
    assert rounded(found) == [(5, 0), (7, 1)]


def test_nothing_is_lost_while_the_other_is_on_the_host() -> None:
    assert ends(Concurrent([1, 1], 0.2), (0, 0, reads(4)), (0, 1, reads(2, 4))) == [(4, 0), (6, 1)]


def test_half_of_the_sms_and_all_of_them() -> None:
    # 0 needs all of the bandwidth and half of the SMs, 1 all SMs: 1.5 of them, so both are at 2/3. 1 is through at
    # 4.5, 0 has 1 left then.
    found = ends(Concurrent([1, 1], 0), (0, 0, Work(0, 4, 2, 0)), (0, 1, computes(3)))
    assert rounded(found) == [(4.5, 1), (5.5, 0)]


def test_the_segments_of_a_step_are_slowed_one_by_one() -> None:
    # 0: host until 1, weights and half of the SMs 1-3, KV cache. 1 reads from the beginning: alone until 1, then half:
    # 0's weights take until 5, its KV 2 from 5 on; 1 has 4 - 1 - 2 = 1 left at 5, so until 7; 0 has 1 left, until 8.
    found = ends(Concurrent([1, 1], 0), (0, 0, Work(1, 2, 1, 2)), (0, 1, reads(4)))
    assert found == [(7, 1), (8, 0)]


@pytest.mark.parametrize(
    ("work", "alone_s"),
    [
        (computes(3), 12),
        (Work(1, 4, 2, 3), 1 + 8 + 3),
        (Work(1, 4, 1, 3), 1 + 4 + 3),  # a quarter of the SMs is all that it needs
    ],
)
def test_a_cap_makes_computing_longer_also_alone(work: Work, alone_s: float) -> None:
    assert ends(Concurrent([0.25], 0.1), (0, 0, work)) == [(alone_s, 0)]


def test_caps_that_come_to_the_whole_keep_everyone_apart() -> None:
    assert ends(Concurrent([0.25, 0.75], 0), (0, 0, computes(1)), (0, 1, computes(3))) == [(4, 0), (4, 1)]


def test_caps_that_come_to_more_are_shared_in_proportion() -> None:
    # 5 s each at 0.8 of the SMs; together 1.6, so 8 s.
    assert ends(Concurrent([0.8, 0.8], 0), (0, 0, computes(4)), (0, 1, computes(4))) == [(8, 0), (8, 1)]


def test_a_step_with_no_part_at_all_ends_at_once() -> None:
    for gpu in (Independent(), TimeSlice(2, 0.5), Concurrent([1], 0)):
        assert ends(gpu, (2, 0, host(0))) == [(2, 0)]


# --- whatever the steps are

_parts = st.integers(0, 6)
_works = st.builds(Work, st.integers(0, 3), _parts, _parts, _parts)
_begins = st.lists(st.tuples(st.integers(0, 12), _works), min_size=1, max_size=4)
_caps = st.lists(st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1)]), min_size=4, max_size=4)


def fluid_ends(begins: Sequence[tuple[int, Work]], caps: Sequence[Fraction], loss: Fraction) -> Mapping[int, Fraction]:
    """The fluid in exact fractions, from the formula, event by event; no work is lost, and nothing is had twice."""
    left: dict[int, list[list[Fraction]]] = {}  # by engine, of each segment: seconds, bandwidth and SMs to be had
    got = {engine: [Fraction(0), Fraction(0)] for engine in range(len(begins))}
    found: dict[int, Fraction] = {}
    now = Fraction(0)
    to_begin = {engine: Fraction(at) for engine, (at, _) in enumerate(begins)}
    while to_begin or left:
        for engine in [engine for engine, at in to_begin.items() if at == now]:
            del to_begin[engine]
            work = begins[engine][1]
            alone = max(Fraction(work.weights_s), Fraction(work.compute_s) / caps[engine])
            segments = [[Fraction(work.host_s), Fraction(0), Fraction(0)]]
            segments.append([alone, Fraction(work.weights_s), Fraction(work.compute_s)])
            segments.append([Fraction(work.kv_s), Fraction(work.kv_s), Fraction(0)])
            left[engine] = [segment for segment in segments if segment[0]]
        for engine in [engine for engine, segments in left.items() if not segments]:
            found[engine] = now
            del left[engine]
        shares = {e: (s[0][1] / s[0][0], s[0][2] / s[0][0]) for e, s in left.items()}
        memory, compute = (sum((share[i] for share in shares.values()), Fraction(0)) for i in (0, 1))
        together = sum(any(share) for share in shares.values()) > 1
        paces = {}
        for engine, (m, c) in shares.items():
            pace = 1 / max(Fraction(1), memory if m else Fraction(0), compute if c else Fraction(0))
            paces[engine] = pace * (1 - loss) if together and (m or c) else pace
        for i in (0, 1):
            assert sum((paces[engine] * share[i] for engine, share in shares.items()), Fraction(0)) <= 1
        steps = [segments[0][0] / paces[engine] for engine, segments in left.items()]
        steps += [at - now for at in to_begin.values()]
        if not steps:
            continue
        step = min(steps)
        for engine, segments in left.items():
            done = paces[engine] * step
            for i in (0, 1):
                got[engine][i] += done * shares[engine][i]
                segments[0][i + 1] -= done * shares[engine][i]
            segments[0][0] -= done
            if not segments[0][0]:
                del segments[0]
        now += step
    for engine, (_, work) in enumerate(begins):
        assert got[engine] == [work.weights_s + work.kv_s, work.compute_s]
    return found


@given(begins=_begins, caps=_caps, loss=st.sampled_from([Fraction(0), Fraction(1, 4)]))
def test_the_fluid_is_exact_and_conserves_work(
    begins: list[tuple[int, Work]], caps: list[Fraction], loss: Fraction
) -> None:
    found = ends(
        Concurrent([float(cap) for cap in caps], float(loss)),
        *((at, engine, work) for engine, (at, work) in enumerate(begins)),
    )
    assert [end_s for end_s, _ in found] == sorted(end_s for end_s, _ in found)
    for engine, end in fluid_ends(begins, caps, loss).items():
        [end_s] = [end_s for end_s, who in found if who == engine]
        assert end_s == pytest.approx(float(end), rel=1e-9)
        at, work = begins[engine]
        assert end_s >= at + work.alone_s - 1e-9


@given(begins=_begins, quantum=st.sampled_from([0.25, 1.0, 3.0, 100.0]), switch=st.sampled_from([0.0, 0.5]))
def test_turns_conserve_work(begins: list[tuple[int, Work]], quantum: float, switch: float) -> None:
    found = ends(TimeSlice(quantum, switch), *((at, engine, work) for engine, (at, work) in enumerate(begins)))
    assert sorted(engine for _, engine in found) == list(range(len(begins)))
    for end_s, engine in found:
        at, work = begins[engine]
        assert end_s >= at + work.alone_s
        # One at a time: what is through by then has had the GPU for as long as it needs.
        through = [begins[who][1] for other_s, who in found if other_s <= end_s]
        assert end_s >= sum(work.alone_s - work.host_s for work in through)
    if not switch:
        # Without switches the GPU works whenever there is something to do, whoever's it is.
        ready = sorted((at + work.host_s, work.alone_s - work.host_s) for at, work in begins)
        free_s = 0.0
        for ready_s, gpu_s in ready:
            free_s = max(free_s, ready_s) + gpu_s if gpu_s else free_s
        assert max((s for s, who in found if begins[who][1].alone_s > begins[who][1].host_s), default=0.0) == free_s


@given(works=st.lists(_works, min_size=1, max_size=6), quantum=st.sampled_from([0.25, 1.0]))
def test_one_alone_takes_its_time_in_any_way(works: list[Work], quantum: float) -> None:
    begins = [(0.0, 0, work) for work in works]
    end_s = 0.0
    alone = [(end_s := end_s + work.alone_s, 0) for work in works]
    for gpu in (Independent(), TimeSlice(quantum, 0.5), Concurrent([1], 0.25)):
        assert ends(gpu, *begins) == alone
