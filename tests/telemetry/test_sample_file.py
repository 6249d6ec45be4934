"""Samples become lines of CSV, also around a full disk."""

from __future__ import annotations

import csv
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairshare_locust.telemetry import sample_file
from fairshare_locust.telemetry.sample_file import SampleFile


@pytest.fixture
def room() -> Iterator[None]:
    """Gives back what a test takes from files; without it the limit would hold for all tests after it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def _limit(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_the_lines(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "gpu.csv", "device")
    file.append(0.25, "nvml", "GPU-a", "power_w", 71.5)
    file.flush()
    file.append(12.3456784, "dcgm", 'odd, "device"', "energy_j_total", 123456789.125)
    file.append(12.5, "nvml", "GPU-a", "memory_used_bytes", float(20 * 2**30))
    file.close()
    assert file.path.read_text() == (
        "t_s,source,device,metric,value\n"
        "0.250000,nvml,GPU-a,power_w,71.5\n"
        '12.345678,dcgm,"odd, ""device""",energy_j_total,123456789.125\n'
        "12.500000,nvml,GPU-a,memory_used_bytes,21474836480\n"
    )
    assert file.rows == 3
    with open(file.path, newline="") as lines:
        assert [row["device"] for row in csv.DictReader(lines)] == ["GPU-a", 'odd, "device"', "GPU-a"]


def test_no_row_no_file(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "server.csv", "endpoint")
    file.flush()
    file.close()
    assert not file.path.exists()


def test_what_is_flushed_can_be_read(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "server.csv", "endpoint")
    file.append(1.0, "server_metrics", "http://a", "requests_running", 2)
    assert not file.path.exists()
    file.flush()
    assert file.path.read_text().splitlines()[1] == "1.000000,server_metrics,http://a,requests_running,2"
    file.close()


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path, room: None) -> None:
    file = SampleFile(tmp_path / "gpu.csv", "device")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    for t_s, limit_bytes in ((1, 40), (2, 40), (3, 70)):
        file.append(t_s, "nvml", "GPU-a", "power_w", t_s)
        _limit(limit_bytes)
        with pytest.raises(OSError, match="File too large"):
            file.flush()
        _limit(before)
        assert file.path.stat().st_size == limit_bytes
    file.append(4, "nvml", "GPU-a", "power_w", 4)
    file.close()
    assert file.path.read_text().splitlines() == [
        "t_s,source,device,metric,value",
        *(f"{t_s}.000000,nvml,GPU-a,power_w,{t_s}" for t_s in (1, 2, 3, 4)),
    ]
    assert file.rows_lost == 0


@pytest.mark.parametrize(("room_bytes", "in_the_file"), [(0, 0), (40, 0), (70, 1), (90, 1)])
def test_what_a_full_disk_does_not_take_at_the_end_is_lost(
    tmp_path: Path, room: None, room_bytes: int, in_the_file: int
) -> None:
    file = SampleFile(tmp_path / "gpu.csv", "device")  # 31 bytes of names, then 30 bytes a row
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    for t_s in (1, 2):
        file.append(t_s, "nvml", "GPU-a", "power_w", t_s)
    _limit(room_bytes)
    with pytest.raises(OSError, match="File too large"):
        file.flush()
    file.append(3, "nvml", "GPU-a", "power_w", 3)
    with pytest.raises(OSError, match="File too large"):
        file.close()
    _limit(before)
    assert (file.rows, file.rows_lost) == (in_the_file, 3 - in_the_file)


def test_a_folder_that_stays_away_loses_everything(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "gone" / "gpu.csv", "device")
    file.append(0, "nvml", "GPU-a", "power_w", 1)
    with pytest.raises(FileNotFoundError):
        file.close()
    assert (file.rows, file.rows_lost) == (0, 1)


def test_a_disk_that_stays_full_takes_no_more_than_so_much_memory(
    tmp_path: Path, room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_file, "_MOST_PENDING_BYTES", 100)
    file = SampleFile(tmp_path / "gpu.csv", "device")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    _limit(0)
    for t_s in range(10):
        file.append(t_s, "nvml", "GPU-a", "power_w", 1)
        with pytest.raises(OSError, match="File too large"):
            file.flush()
    _limit(before)
    file.flush()
    file.append(10, "nvml", "GPU-a", "power_w", 1)
    file.close()
    times = [line.partition(".")[0] for line in file.path.read_text().splitlines()[1:]]
    # The first line is on its way to the file; each further one has 32 bytes, and the fourth of them passes 100.
    assert times == ["0", "1", "2", "3", "4", "10"]
    assert (file.rows, file.rows_lost) == (6, 5)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    file = SampleFile(tmp_path / "gone" / "gpu.csv", "device")
    file.append(0, "nvml", "GPU-a", "power_w", 1)
    with pytest.raises(FileNotFoundError):
        file.flush()
    (tmp_path / "gone").mkdir()
    file.close()
    assert len(file.path.read_text().splitlines()) == 2
