"""Lines that go from file to file, whatever is lost, repeated or swapped on the way."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from fairshare_locust.distributed.parcels import PARCEL_BYTES, Inbox, Outbox, Parcel


def write(path: Path, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def test_lines_arrive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    outbox, inbox = Outbox(path), Inbox()
    assert outbox.next(0.0) is None  # no file yet
    assert outbox.empty
    write(path, b"one\ntwo\nth")
    assert not outbox.empty
    parcel = outbox.next(0.0)
    assert parcel is not None
    assert inbox.take(parcel.offset, parcel.data) == b"one\ntwo\n"
    assert outbox.next(0.0) is None  # half a line stays
    write(path, b"ree\n")
    parcel = outbox.next(0.0)
    assert parcel is not None
    assert inbox.take(parcel.offset, parcel.data) == b"three\n"
    outbox.acknowledge(inbox.received, 0.1)
    assert outbox.empty
    assert outbox.acknowledged == 14


def test_a_line_longer_than_a_parcel_is_sent_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    line = b"x" * (3 * PARCEL_BYTES) + b"\n"
    write(path, line + b"short\n")
    outbox, inbox = Outbox(path), Inbox()
    arrived = b""
    while (parcel := outbox.next(0.0)) is not None:
        arrived += inbox.take(parcel.offset, parcel.data)
    assert arrived == line + b"short\n"


def test_what_was_lost_is_sent_again_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    write(path, b"one\n")
    outbox = Outbox(path)
    lost = outbox.next(10.0)
    assert lost is not None
    assert outbox.next(12.9) is None
    assert outbox.next(13.1) == lost


def test_what_was_lost_is_sent_again_though_more_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    write(path, b"one\n")
    outbox = Outbox(path)
    lost = outbox.next(10.0)
    for second in range(11, 14):
        write(path, b"more\n")
        assert outbox.next(float(second)) is not None
    write(path, b"more\n")
    again = outbox.next(13.1)
    assert again is not None
    assert lost is not None
    assert again.offset == lost.offset == 0


def test_not_everything_is_on_the_way_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    write(path, (b"x" * 1023 + b"\n") * 4096)
    outbox, inbox = Outbox(path), Inbox()
    parcels = []
    while (parcel := outbox.next(0.0)) is not None:
        parcels.append(parcel)
    assert len(parcels) == 32  # 2 of the 4 MiB
    inbox.take(parcels[0].offset, parcels[0].data)
    outbox.acknowledge(inbox.received, 0.0)
    assert outbox.next(0.0) is not None


def test_a_stale_acknowledgement_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    write(path, b"one\ntwo\n")
    outbox = Outbox(path)
    outbox.next(0.0)
    outbox.acknowledge(8, 0.0)
    outbox.acknowledge(4, 0.0)
    assert outbox.acknowledged == 8


@settings(deadline=None)
@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30),
    fates=st.lists(st.sampled_from(["arrives", "is lost", "is repeated", "waits"]), max_size=60),
    seed=st.integers(0, 1000),
)
def test_every_line_arrives_once_and_in_order(lines: list[bytes], fates: list[str], seed: int) -> None:
    content = b"".join(line + b"\n" for line in lines)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        outbox, inbox = Outbox(path), Inbox()
        arrived, waiting, now_s = b"", list[Parcel](), 0.0
        for step, fate in enumerate([*fates, *["arrives"] * 40]):
            now_s += 4 if step >= len(fates) else 1
            write(path, content[step * 7 : step * 7 + 7])
            parcel = outbox.next(now_s)
            if parcel is None:
                continue
            coming = {"arrives": [parcel], "is lost": [], "is repeated": [parcel, parcel], "waits": []}[fate]
            if fate == "waits":
                waiting.append(parcel)
            elif waiting and (seed + step) % 2:
                coming.append(waiting.pop())
            for one in coming:
                arrived += inbox.take(one.offset, one.data)
                outbox.acknowledge(inbox.received, now_s)
        write(path, content[(len(fates) + 40) * 7 :])
        while (parcel := outbox.next(now_s := now_s + 4)) is not None:
            arrived += inbox.take(parcel.offset, parcel.data)
            outbox.acknowledge(inbox.received, now_s)
        assert arrived == content
        assert outbox.empty


def test_what_had_no_room_in_the_file_is_sent_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    write(path, b"one\ntw")
    outbox, inbox = Outbox(path), Inbox()
    first = outbox.next(0.0)
    outbox.tail = b"o\nthree\n"
    second = outbox.next(0.0)
    assert first is not None
    assert second is not None
    assert inbox.take(first.offset, first.data) + inbox.take(second.offset, second.data) == b"one\ntwo\nthree\n"
    assert outbox.size == inbox.received == 14
    outbox.acknowledge(10, 0.0)
    assert outbox.next(10.0) is not None  # the last line again, from memory alone
    outbox.acknowledge(14, 10.0)
    assert outbox.empty
