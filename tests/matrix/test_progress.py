import pytest

from fairshare_locust.matrix.cells import expand
from fairshare_locust.matrix.progress import TimeLeft, duration
from tests.matrix.experiments import experiment

CELLS = expand(experiment("repeats: 4"))  # 2.5 s each, and 20 s around it


def test_in_real_time_it_is_what_is_planned_until_a_run_tells_better() -> None:
    left = TimeLeft(CELLS, "real", cooldown_s=10)
    assert left.seconds() == 4 * (22.5 + 10)
    left.ended(CELLS[0], 45.0)  # twice as long
    assert left.seconds() == 3 * (45 + 10)


def test_a_run_of_before_takes_no_time_and_tells_nothing() -> None:
    left = TimeLeft(CELLS, "real", cooldown_s=0)
    left.ended(CELLS[0], None)
    assert left.seconds() == 3 * 22.5


def test_in_virtual_time_nothing_is_known_before_the_first() -> None:
    left = TimeLeft(CELLS, "virtual", cooldown_s=0)
    assert left.seconds() is None
    left.ended(CELLS[0], 3.0)
    left.ended(CELLS[1], 1.0)
    assert left.seconds() == pytest.approx(4.0)
    left.again(CELLS[:1])
    assert left.seconds() == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (150, "2 min"), (5340, "89 min"), (12_000, "3 h 20 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
