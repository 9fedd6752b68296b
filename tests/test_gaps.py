"""Gaps are found where nothing was kept, to the stamp, and nowhere else."""

import time
from pathlib import Path

import pytest

from rig.clock import NS_PER_MS
from rig.gaps import Pulse

STREAM, RAW = (
    "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors\n",
    "byte_offset,monotonic_ns,realtime_ns\n",
)


def write(file: Path, header: str, *arrivals_ns: int) -> None:
    new = not file.exists()
    with file.open("a") as log:
        log.write(header * new + "".join(f"0,{arrival},0,1,0\n" for arrival in arrivals_ns))


def picture_times(begin_ns: int, count: int) -> list[int]:
    return [begin_ns + number * 33 * NS_PER_MS for number in range(count)]


def test_a_gap_spans_from_the_last_picture_kept_to_the_next_one(tmp_path: Path) -> None:
    pulse, now = Pulse(tmp_path), time.monotonic_ns() + NS_PER_MS
    assert pulse.beat() == []
    first, second = picture_times(now, 60), picture_times(now + 4000 * NS_PER_MS, 20)
    write(tmp_path / "stream-001.idx", STREAM, *first)
    assert pulse.beat() == []
    with (tmp_path / "stream-001.idx").open("a") as log:
        log.write(f"0,{now + 3000 * NS_PER_MS}")  # torn by a kill
    write(tmp_path / "stream-002.idx", STREAM, *second)
    assert pulse.beat() == [(first[-1], second[0])]
    write(tmp_path / "stream-1000.idx", STREAM, second[-1] + 33 * NS_PER_MS)
    assert pulse.beat() == []
    assert pulse.last_ns == second[-1] + 33 * NS_PER_MS


def test_many_gaps_of_a_stream_are_not_its_pace(tmp_path: Path) -> None:
    pulse, now = Pulse(tmp_path), time.monotonic_ns() + NS_PER_MS
    for number in range(20):
        write(tmp_path / f"stream-{number + 1:03d}.idx", STREAM, *picture_times(now + number * 2400 * NS_PER_MS, 30))
    assert [(end - begin) // NS_PER_MS for begin, end in pulse.beat()] == [2400 - 29 * 33] * 19


@pytest.mark.parametrize("rate_hz", [1, 5, 10, 20])
def test_the_pace_of_a_receiver_is_no_gap_but_a_pause_is(tmp_path: Path, rate_hz: int) -> None:
    pulse, now = Pulse(tmp_path, 1.0), time.monotonic_ns() + NS_PER_MS
    epochs = [now + number * 1000 * NS_PER_MS // rate_hz for number in range(30 * rate_hz)]
    sentences = [epoch + part * 7 * NS_PER_MS for epoch in epochs for part in range(3)]
    write(tmp_path / "raw.idx", RAW, *sentences)
    assert pulse.beat() == []
    with (tmp_path / "raw.idx").open("a") as log:
        log.write("17,12\n")  # torn, then continued on a line of its own
    back = sentences[-1] + 3000 * NS_PER_MS
    write(tmp_path / "raw.idx", RAW, back, back + 7 * NS_PER_MS)
    assert pulse.beat() == [(sentences[-1], back)]


def test_a_receiver_slower_than_all_others_does_not_fill_the_manifest(tmp_path: Path) -> None:
    pulse, now = Pulse(tmp_path, 1.0), time.monotonic_ns() + NS_PER_MS
    write(tmp_path / "raw.idx", RAW, *(now + number * 5000 * NS_PER_MS for number in range(100)))
    assert len(pulse.beat()) <= 3


def test_what_was_there_before_is_another_capture(tmp_path: Path) -> None:
    write(tmp_path / "raw.idx", RAW, time.monotonic_ns() - 60_000 * NS_PER_MS)
    pulse = Pulse(tmp_path, 1.0)
    write(tmp_path / "raw.idx", RAW, time.monotonic_ns() + NS_PER_MS)
    assert pulse.beat() == []
    assert pulse.silent_s < 1.0
