"""Prometheus text: what is written is what a parser reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as ReferenceHistogram
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from fairshare_locust.simulator.exposition import Histogram, label_set, metric

_VALUES = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), st.integers(1, 4)))


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_the_lines_of_a_metric() -> None:
    text = metric("gauge", "a:b", "What it is.", [('x="1"', 3), ('x="2"', 0.25)])
    assert text == '# HELP a:b What it is.\n# TYPE a:b gauge\na:b{x="1"} 3\na:b{x="2"} 0.25\n'


def test_the_lines_of_a_histogram() -> None:
    histogram = Histogram((0.5, 1.0))
    histogram.observe(0.5)
    histogram.observe(0.75, times=2)
    assert histogram.exposition("h", "Times.", 'x="1"').splitlines() == [
        "# HELP h Times.",
        "# TYPE h histogram",
        'h_bucket{x="1",le="0.5"} 1',
        'h_bucket{x="1",le="1.0"} 3',
        'h_bucket{x="1",le="+Inf"} 3',
        'h_count{x="1"} 3',
        'h_sum{x="1"} 2.0',
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_value_survives(value: str) -> None:
    (sample,) = samples(metric("counter", "c_total", "Count.", [(label_set(a=value, b="2"), 1)]))
    assert sample.labels == {"a": value, "b": "2"}


@given(_VALUES)
def test_a_histogram_is_what_the_client_library_writes(observations: list[tuple[float, int]]) -> None:
    registry = CollectorRegistry(auto_describe=False)
    reference = ReferenceHistogram("h", "Times.", ["x"], buckets=(1.0, 2.0), registry=registry).labels("1")
    histogram = Histogram((1.0, 2.0))
    for value, times in observations:
        histogram.observe(value, times)
        for _ in range(times):
            reference.observe(value)
    expected = [s for s in samples(generate_latest(registry).decode()) if s.name != "h_created"]
    assert samples(histogram.exposition("h", "Times.", label_set(x="1"))) == expected


@given(_VALUES)
def test_buckets_count_what_is_at_most_their_bound(observations: list[tuple[float, int]]) -> None:
    histogram = Histogram((1.0, 2.0))
    for value, times in observations:
        histogram.observe(value, times)
    values = [value for value, times in observations for _ in range(times)]
    assert histogram.buckets() == [
        ("1.0", sum(value <= 1 for value in values)),
        ("2.0", sum(value <= 2 for value in values)),
        ("+Inf", len(values)),
    ]
    assert histogram.sum == sum(values)
