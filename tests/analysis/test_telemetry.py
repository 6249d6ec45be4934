"""Samples of servers and GPUs, read and summed up."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.telemetry import Series, Telemetry, gauge, increments, read_telemetry
from analysis.window import Window
from fairshare_locust.errors import RunDirectoryError
from tests.analysis.build import Sample, sampled, write_samples

HEADER = "t_s,source,endpoint,metric,value\n"


def series(*points: tuple[float, float]) -> Series:
    times = np.array([round(t_s * 1e9) for t_s, _ in points], np.int64)
    return Series(times, np.array([value for _, value in points], np.float64))


def points(some: Series) -> list[tuple[float, float]]:
    return list(zip((some.times_ns / 1e9).tolist(), some.values.tolist(), strict=True))


def read(folder: Path, text: str) -> Telemetry:
    (folder / "server.csv").write_text(text, encoding="utf-8")
    return read_telemetry(folder, None)


def test_each_metric_of_each_subject_is_a_series(tmp_path: Path) -> None:
    samples = [*sampled("GPU-1", "power_w", (0.5, 70), (1.0, 80)), *sampled("GPU-2", "power_w", (0.5, 60))]
    server = sampled("http://a", "kv_cache_usage", (0.1, 0.25))
    found = read_telemetry(write_samples(tmp_path, gpu=samples, server=server), {"state": "complete"})
    assert {key: {name: points(one) for name, one in metrics.items()} for key, metrics in found.gpu.items()} == {
        ("nvml", "GPU-1"): {"power_w": [(0.5, 70.0), (1.0, 80.0)]},
        ("nvml", "GPU-2"): {"power_w": [(0.5, 60.0)]},
    }
    assert points(found.server["http://a"]["kv_cache_usage"]) == [(0.1, 0.25)]
    assert found.info == {"state": "complete"}


def test_rows_of_several_threads_are_put_in_order(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "2,s,e,m,20\n1,s,e,m,10\n3,s,e,m,30\n")
    assert points(found.server["e"]["m"]) == [(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]


@pytest.mark.parametrize("text", ["", HEADER, HEADER[:10]])
def test_a_file_without_samples_is_none(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).server == {}


def test_missing_files_are_no_samples(tmp_path: Path) -> None:
    found = read_telemetry(tmp_path, None)
    assert (found.gpu, found.server, found.info) == ({}, {}, {})


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        ("1,s,e,m,10\n2,s,e,m,2", 1),  # cut inside a number, which would read as another
        ("1,s,e,m,10\n2,s,e", 1),
        ("2,s,e,m\n1,s,e,m,10\n", 1),
        ("2,s,e,m,5,6\n1,s,e,m,10\n", 1),
        ("1,s,e,m,10\n2,s,e,m,abc\n", 1),
        ("1,s,e,m,10\n2,s,e,m,nan\n3,s,e,m,\n,s,e,m,4\n", 3),
        ("1,s,e,m,10\n2,s,e,m,abc\n3,s,e,m,nan\n4,s\n5,s", 4),
    ],
)
def test_what_is_no_sample_is_left_out_and_counted(tmp_path: Path, rows: str, left_out: int) -> None:
    found = read(tmp_path, HEADER + rows)
    assert points(found.server["e"]["m"]) == [(1.0, 10.0)]
    assert found.lines_left_out == {"gpu.csv": 0, "server.csv": left_out}


def test_only_lines_that_are_none_leave_no_series(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + "1,s,e,m,nan\n").server == {}


def test_another_header_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        RunDirectoryError, match=r"server\.csv must begin with the line t_s,source,endpoint,metric,value"
    ):
        read(tmp_path, "t_s,source,device,metric,value\n1,s,e,m,1\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "gpu.csv").mkdir()
    with pytest.raises(RunDirectoryError, match=r"gpu\.csv can't be read: Is a directory"):
        read_telemetry(tmp_path, None)


def test_a_gauge_by_hand() -> None:
    some = series((0.0, 9.0), (1.0, 2.0), (2.0, 4.0), (3.0, 4.0), (4.0, 8.0))
    # The window holds its start, not its end.
    assert gauge(some, Window.of_seconds((1.0, 4.0))) == {"count": 3, "mean": 10 / 3, "peak": 4.0, "peak_t_s": 2.0}
    assert gauge(some, Window.of_seconds((0.0, 1.0), (4.0, 5.0))) == {
        "count": 2,
        "mean": 8.5,
        "peak": 9.0,
        "peak_t_s": 0.0,
    }


def test_without_a_sample_in_the_window_a_gauge_is_undefined() -> None:
    assert gauge(series((0.0, 1.0)), Window.of_seconds((1.0, 2.0))) is None
    assert gauge(series((0.0, 1.0)), Window()) is None
    assert gauge(None, Window.of_seconds((1.0, 2.0))) is None


@given(
    st.dictionaries(st.integers(0, 40), st.integers(-5, 5), max_size=12),
    st.lists(st.integers(0, 42), min_size=2, max_size=4, unique=True).map(sorted),
)
def test_a_gauge_agrees_with_a_slow_reference(samples: dict[int, int], cuts: list[int]) -> None:
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    chosen = [(t, samples[t]) for t in sorted(samples) if any(start <= t < end for start, end in spans)]
    found = gauge(series(*((float(t), float(samples[t])) for t in sorted(samples))), Window.of_seconds(*spans))
    if not chosen:
        assert found is None
        return
    assert found is not None
    peak = max(value for _, value in chosen)
    assert (found["count"], found["peak"]) == (len(chosen), peak)
    assert found["peak_t_s"] == next(t for t, value in chosen if value == peak)
    assert found["mean"] == pytest.approx(sum(value for _, value in chosen) / len(chosen))


@pytest.mark.parametrize(
    ("spans", "grown"),
    [
        (((0.0, 10.0),), 7.0),
        (((2.0, 6.0),), 5.0),  # from the sample at 2 s, to that at 6 s
        (((2.5, 5.5),), 2.0),  # from 10 at 2 s, to 12 at 4 s
        (((0.0, 2.0), (6.0, 8.0)), 2.0),
        (((2.1, 3.9),), None),  # between two samples
        (((8.0, 10.0),), None),
        ((), None),
    ],
)
def test_a_counter_grows_from_sample_to_sample(spans: tuple[tuple[float, float], ...], grown: float | None) -> None:
    counter = series((1.0, 9.0), (2.0, 10.0), (4.0, 12.0), (6.0, 15.0), (8.0, 16.0))
    assert counter.growth(Window.of_seconds(*spans)) == grown


@pytest.mark.parametrize(
    ("last_s", "window_s", "grown"),
    [
        (40, (0.0, 40.0), 40.0),
        (36, (0.0, 40.0), 36.0),  # nine tenths
        (35, (0.0, 40.0), None),
        (8, (0.0, 10.0), 8.0),  # two intervals
        (7, (0.0, 10.0), None),
        (3, (5.0, 9.0), None),
    ],
)
def test_a_counter_that_was_sampled_for_a_part_of_a_window_does_not_tell_its_growth(
    last_s: int, window_s: tuple[float, float], grown: float | None
) -> None:
    counter = series(*((float(t_s), float(t_s)) for t_s in range(last_s + 1)))
    assert counter.growth(Window.of_seconds(window_s)) == grown


def test_what_a_counter_grew_by_long_before_the_window_is_not_the_windows() -> None:
    counter = series(*((float(t_s), float(t_s)) for t_s in (0, 1, 2, *range(14, 31))))
    assert counter.growth(Window.of_seconds((13.0, 30.0))) is None
    assert counter.growth(Window.of_seconds((15.0, 30.0))) == 15.0


@pytest.mark.parametrize(
    ("spans", "gap_s"),
    [
        (((1.0, 4.0),), 1.0),
        (((0.0, 4.0),), 1.0),
        (((1.0, 9.0),), 5.0),  # to the end
        (((-6.0, 4.0),), 7.0),  # from the start
        (((1.0, 4.0), (8.0, 9.0)), 1.0),  # what lies between spans is no gap
        (((6.0, 9.0),), 3.0),
        ((), None),
    ],
)
def test_gaps_reach_to_the_ends_of_the_window(spans: tuple[tuple[float, float], ...], gap_s: float | None) -> None:
    assert series((1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0)).longest_gap_s(Window.of_seconds(*spans)) == gap_s


def test_a_counter_that_fell_a_little_was_misread(tmp_path: Path) -> None:
    rows = "".join(f"{t_s},s,e,n_total,{value}\n" for t_s, value in enumerate((1e9, 1e9 - 1, 1e9 + 5, 1e9 + 9)))
    found = read(tmp_path, HEADER + rows)
    counter = found.server["e"]["n_total"]
    assert points(counter) == [(0.0, 1e9), (2.0, 1e9 + 5), (3.0, 1e9 + 9)]
    assert counter.growth(Window.of_seconds((0.0, 3.0))) == 9.0
    assert found.lines_left_out["server.csv"] == 1


def test_a_gauge_may_fall(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "0,s,e,power_w,100\n1,s,e,power_w,99\n")
    assert points(found.server["e"]["power_w"]) == [(0.0, 100.0), (1.0, 99.0)]
    assert found.lines_left_out["server.csv"] == 0


def test_a_restart_resets_every_counter_of_a_server(tmp_path: Path) -> None:
    # By 2 s the new server has had 3 preemptions, the old one 5; its tokens tell that it is a new one.
    tokens = sampled("e", "generation_tokens_total", (0, 1000), (1, 1100), (2, 30), (3, 90))
    events = sampled("e", "preemptions_total", (0, 4), (1, 5), (2, 3), (3, 4))
    found = read_telemetry(write_samples(tmp_path, server=[*tokens, *events]), None)
    window = Window.of_seconds((0.0, 3.0))
    assert found.server["e"]["generation_tokens_total"].growth(window) == 190.0
    assert found.server["e"]["preemptions_total"].growth(window) == 1.0 + 3.0 + 1.0
    assert found.lines_left_out["server.csv"] == 0


def test_one_sample_of_a_counter_tells_nothing() -> None:
    assert series((1.0, 9.0)).growth(Window.of_seconds((0.0, 2.0))) is None


def test_a_counter_that_was_reset_counts_from_zero() -> None:
    # 100 to 130, then a new server that has counted 5 by the next sample, and 3 more.
    counter = series((0.0, 100.0), (1.0, 130.0), (2.0, 5.0), (3.0, 8.0))
    assert counter.growth(Window.of_seconds((0.0, 4.0))) == 38.0


def test_the_columns_of_a_table_are_reset_together() -> None:
    # The second column has already passed its old value, the first tells that it started anew.
    table = np.array([[5.0, 3.0], [2.0, 4.0], [3.0, 6.0]])
    assert increments(table).tolist() == [[2.0, 4.0], [1.0, 2.0]]


def test_what_the_collector_says_of_a_device() -> None:
    slices = [{"device": "GPU-1/gi2", "name": "MIG 3g.20gb"}]
    info = {
        "sources": [
            {"source": "server_metrics", "subject": "http://a", "unsupported": {"http://a": {"x": "not there"}}},
            {
                "source": "nvml",
                "devices": [{"uuid": "GPU-1", "name": "L4", "slices": slices}],
                "unsupported": {"GPU-1/gi2": {"power_w": "not of a slice"}},
            },
            {"source": "dcgm", "devices": [{"device": "SIM-1", "name": "Simulated GPU", "simulated": True}]},
        ]
    }
    found = Telemetry(info=info)
    assert [found.device(name).get("name") for name in ("GPU-1", "GPU-1/gi2", "SIM-1", "GPU-9")] == [
        "L4",
        "MIG 3g.20gb",
        "Simulated GPU",
        None,
    ]
    assert found.device("SIM-1")["simulated"] is True
    assert found.unsupported("nvml", "GPU-1/gi2") == {"power_w": "not of a slice"}
    assert found.unsupported("dcgm", "GPU-1/gi2") == found.unsupported("nvml", "GPU-1") == {}
    assert found.unsupported("server_metrics", "http://a") == {"x": "not there"}


TIMES = st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True).map(sorted)


@given(TIMES, st.data())
def test_growth_agrees_with_a_slow_reference(times: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 9), min_size=len(times), max_size=len(times)))
    cuts = sorted(data.draw(st.lists(st.integers(0, 42), min_size=2, max_size=4, unique=True)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    counter = series(*zip(map(float, times), map(float, values), strict=True))

    def upto(end: int) -> int:
        """Growth from the first sample to the last at or before the end."""
        total, before = 0, values[0]
        for time, value in zip(times[1:], values[1:], strict=True):
            if time > end:
                break
            total += value - before if value >= before else value
            before = value
        return total

    def told(span: tuple[int, int]) -> bool:
        """Whether a sample other than the first lies in (start, end]."""
        return any(span[0] < time <= span[1] for time in times[1:])

    def off(span: tuple[int, int]) -> int:
        """How far the samples that tell are from the ends of the span."""
        if not told(span):
            return span[1] - span[0]
        return sum(abs(end - max([times[0], *(time for time in times if time <= end)])) for end in span)

    apart = [after - before for before, after in itertools.pairwise(times)]
    allowed = max(
        Fraction(sum(end - start for start, end in spans), 10),
        2 * len(spans) * Fraction(statistics.median(apart)) if apart else 0,
    )
    known = any(map(told, spans)) and sum(map(off, spans)) <= allowed
    expected = sum(upto(end) - upto(start) for start, end in spans) if known else None
    assert counter.growth(Window.of_seconds(*spans)) == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from("xy"), st.sampled_from(["p", "q"]), st.integers(-5, 5)),
        max_size=30,
        unique_by=lambda sample: sample[:3],
    )
)
def test_reading_agrees_with_a_slow_reference(samples: list[tuple[int, str, str, int]]) -> None:
    rows: list[Sample] = [(t / 8, subject, metric, float(value)) for t, subject, metric, value in samples]
    with tempfile.TemporaryDirectory() as folder:
        found = read_telemetry(write_samples(Path(folder), server=rows), None)
    assert sum(len(one) for metrics in found.server.values() for one in metrics.values()) == len(rows)
    for subject, metrics in found.server.items():
        for metric, one in metrics.items():
            own = sorted((Fraction(t), value) for t, of, name, value in rows if (of, name) == (subject, metric))
            assert points(one) == [(float(t), value) for t, value in own]
