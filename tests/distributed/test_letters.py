"""Letters that arrive once and in order, whatever is lost or repeated on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairshare_locust.distributed.letters import LetterBox


def test_by_hand() -> None:
    here, there = LetterBox(), LetterBox()
    first, second = here.write("begin", {"t": 1}, 0.0), here.write("phase", {}, 0.1)
    assert first == {"t": 1, "letter": 0}
    assert not there.accept(second)  # the first one is still to come
    assert here.again(0.9) == []
    assert here.again(1.2) == [("begin", first), ("phase", second)]
    assert there.accept(first)
    assert not there.accept(first)
    assert there.accept(second)
    here.heard(there.received)
    assert here.again(9.0) == []
    third = here.write("end", {}, 9.0)
    here.heard(2)  # of before
    assert here.again(11.0) == [("end", third)]


@given(fates=st.lists(st.sampled_from(["arrives", "is lost", "is repeated"]), max_size=80), letters=st.integers(0, 12))
def test_every_letter_arrives_once_and_in_order(fates: list[str], letters: int) -> None:
    here, there = LetterBox(), LetterBox()
    arrived: list[int] = []
    now_s = 0.0
    fate = iter([*fates, *["arrives"] * 200])

    def send(letter: dict[str, int]) -> None:
        for _ in range({"arrives": 1, "is lost": 0, "is repeated": 2}[next(fate)]):
            if there.accept(letter):
                arrived.append(letter["n"])

    for n in range(letters):
        send(here.write("x", {"n": n}, now_s))
        now_s += 0.4
        if next(fate) != "is lost":
            here.heard(there.received)
        for _, letter in here.again(now_s):
            send(letter)
    for _ in range(100):
        now_s += 1.5
        here.heard(there.received)
        for _, letter in here.again(now_s):
            send(letter)
    assert arrived == list(range(letters))
    here.heard(there.received)
    assert here.again(now_s + 10) == []
