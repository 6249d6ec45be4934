"""Of a page of metrics, the lines that are wanted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fairshare_locust.telemetry.exposition import read_samples
from tests.telemetry.page import fixture

PAGE = """\
# HELP a_total A counter.
# TYPE a_total counter
a_total{kind="x"} 1
a_total{kind="y, \\"z\\""} 2.5
ab_total 3
b 4e3
"""


def test_a_name_is_wanted_as_a_whole() -> None:
    samples, malformed = read_samples(PAGE, {"a_total", "b"}.__contains__)
    assert [(sample.name, sample.labels, sample.value) for sample in samples] == [
        ("a_total", {"kind": "x"}, 1.0),
        ("a_total", {"kind": 'y, "z"'}, 2.5),
        ("b", {}, 4000.0),
    ]
    assert malformed == []


def test_lines_that_are_none_do_not_spoil_the_others() -> None:
    huge = f"a {'9' * 400}"
    page = f'a 1\na{{le="0.1 2\na\na one\n{huge}\na{{le="0.2"}} 3'
    samples, malformed = read_samples(page, "a".__eq__)
    assert [sample.value for sample in samples] == [1.0, 3.0]
    assert malformed == ['a{le="0.1 2', "a", "a one", huge]


def test_choosing_before_parsing_gives_what_parsing_everything_does() -> None:
    page = fixture("vllm")
    wanted = {"vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_bucket", "process_open_fds"}
    everything = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    samples, _ = read_samples(page, wanted.__contains__)
    assert len(samples) == 1 + 23 + 1
    assert samples == [sample for sample in everything if sample.name in wanted]


@given(st.text(st.sampled_from('a{}="le,\\ 1.e+-#\n\t \r\u20ac'), max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    samples, malformed = read_samples(text, lambda name: name.startswith("a"))
    assert len(samples) + len(malformed) <= text.count("\n") + 1
