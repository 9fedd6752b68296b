"""What an earlier server left open goes on by itself, however long the machine was off and whatever its clock says."""

import errno
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rig.clock import NS_PER_S, UtcClock, system_clock
from rig.drive import resuming
from rig.drive.fetching import Fetches
from rig.drive.resuming import LeftOpen
from rig.photo.photos import Photo, append_rows, read_table, write_table
from rig.recordings import FINISHED, INTERRUPTED, RECORDING, Alive, Recordings
from tests.machine import wait_for
from tests.test_car import GNSS_AHEAD_NS, a_car, codes, told

LONG_S = 1e9  # a boot may lie longer back than any test wants to wait
EARLIER_BOOT = "before the night"


def left_behind(output: Path, ago_s: float, boot: str = EARLIER_BOOT) -> str:
    """A recording of a machine that lost its power so long ago, by the time of the tests' receiver."""
    store = Recordings(output)
    clock = receivers_clock()
    recording = store.create(clock.utc_ns(), "video", name="rue Haute", clock=clock, every="5m", chosen=("C1",))
    alive = Alive(clock.utc_ns() - round(ago_s * NS_PER_S), time.monotonic_ns() + 10**15, boot)
    store.update(recording.id, alive=alive)
    return recording.id


def receivers_clock() -> UtcClock:
    system = system_clock()
    return replace(system, offset_ns=system.offset_ns + GNSS_AHEAD_NS, source="gnss")


def left_open(output: Path, within_s: float) -> LeftOpen:
    store = Recordings(output)
    return LeftOpen(store, Fetches(store), within_s)


def test_a_recording_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    left = left_behind(tmp_path, 120.0)
    with a_car(tmp_path, "C1", "C2", resume_within_s=LONG_S) as (car, _):
        wait_for(lambda: car.status().recording is not None)
        running = car.status().recording
        assert running is not None
        assert (running.id != left, running.name, running.mode) == (True, "rue Haute", "video")
        manifest = car.recordings.get(running.id)
        assert (manifest.continues, manifest.every, manifest.chosen) == (left, "5m", ("C1",))
        wait_for(lambda: "continued" in codes(car.status()))
        assert (car.recordings.get(left).state, car.recordings.get(left).stopped) == (INTERRUPTED, None)
        wait_for(lambda: told(car, running.id, "C1"))  # it may have been found later
        stopped = car.stop()
        assert stopped is not None
        assert (stopped.state, [camera.serial for camera in stopped.cameras]) == (FINISHED, ["C1"])
        assert any(f"goes on after recording {left}" in warning for warning in stopped.warnings)


def test_it_does_so_after_a_clock_that_was_years_ahead_once(tmp_path: Path) -> None:
    store = Recordings(tmp_path)
    store.update(store.create(system_clock().utc_ns() + 10**18, "video").id, state=FINISHED)
    left = left_behind(tmp_path, 120.0)
    with a_car(tmp_path, "C1", resume_within_s=LONG_S) as (car, _):
        wait_for(lambda: car.status().recording is not None)
        running = car.status().recording
        assert running is not None
        assert car.recordings.get(running.id).continues == left


def test_the_photos_of_what_was_interrupted_stand_in_time_order(tmp_path: Path) -> None:
    store = Recordings(tmp_path)
    folder = store.folder(store.create(0, "photos").id)
    rows = [Photo(photo=f"photos/C1/{n}.jpg", camera="C1", utc=f"2026-11-22T14:03:1{n}.000Z") for n in (2, 0, 1)]
    write_table(folder, rows[:1])
    append_rows(folder, rows[1:])
    left_open(tmp_path, LONG_S)
    assert [row.utc for row in read_table(folder)] == sorted(row.utc for row in rows)


def test_one_of_yesterday_does_not(tmp_path: Path) -> None:
    left = left_behind(tmp_path, 86_400.0)
    with a_car(tmp_path, "C1", resume_within_s=3600.0) as (car, _):
        wait_for(lambda: car._left_open.manifest is None)
        assert car.status().recording is None
        assert codes(car.status()) >= {"interrupted"}
        assert car.recordings.get(left).state == INTERRUPTED


def test_one_that_has_no_room_does_not_and_the_crew_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "RESUME_CLOCK_S", LONG_S)
    left = left_behind(tmp_path, 1.0)
    with a_car(tmp_path, "C1", receiver_port="nothing", resume_within_s=LONG_S) as (car, _):
        monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 0)
        monkeypatch.setattr(resuming, "RESUME_CLOCK_S", 0.0)
        wait_for(lambda: car._left_open.manifest is None)
        assert [manifest.id for manifest in car.recordings.list()] == [left]
        assert codes(car.status()) >= {"interrupted"}


def test_one_that_a_full_disk_did_not_let_be_closed_is_closed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_behind(tmp_path, 86_400.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rig.recordings.write_atomically", full)
        rest = left_open(tmp_path, 3600.0)
        rest.close_rest()
        assert (Recordings(tmp_path).get(left).state, len(rest.problems)) == (RECORDING, 1)
    rest.close_rest()
    assert (Recordings(tmp_path).get(left).state, len(rest.problems)) == (INTERRUPTED, 1)
    Recordings(tmp_path).update(left, state=FINISHED)
    rest.close_rest()
    assert Recordings(tmp_path).get(left).state == FINISHED


def test_a_stop_meanwhile_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "RESUME_CLOCK_S", LONG_S)
    left_behind(tmp_path, 1.0)
    with a_car(tmp_path, "C1", receiver_port="nothing", resume_within_s=LONG_S) as (car, _):
        assert car._left_open.manifest is not None  # it still waits for the receiver's time
        assert car.stop() is None
        assert car._left_open.manifest is None


def test_after_a_boot_the_receivers_time_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, 300.0)
    left = left_open(tmp_path, LONG_S)
    assert left.gap_s(system_clock()) is None
    long_s = left.gap_s(receivers_clock())
    assert long_s == pytest.approx(max(300.0, time.monotonic()), abs=30.0)  # nor less than the machine runs
    monkeypatch.setattr(resuming, "RESUME_CLOCK_S", 0.0)  # it did not come: the system's clock has to do
    assert left.gap_s(system_clock()) == pytest.approx(max(300.0, time.monotonic()), abs=60.0)
    assert left.manifest is not None


@pytest.mark.parametrize("years", [-50, 50])
def test_within_a_boot_no_clock_is_asked(tmp_path: Path, years: int) -> None:
    recording_id = left_behind(tmp_path, 0.0)
    now = Alive.now(system_clock())
    Recordings(tmp_path).update(recording_id, alive=replace(now, monotonic_ns=now.monotonic_ns - 60 * NS_PER_S))
    wrong = replace(system_clock(), offset_ns=system_clock().offset_ns + years * 365 * 86_400 * NS_PER_S)
    gap_s = left_open(tmp_path, 600.0).gap_s(wrong)
    assert gap_s == pytest.approx(60.0, abs=30.0)


def test_a_clock_that_is_back_in_1970_makes_no_night_shorter_than_the_uptime(tmp_path: Path) -> None:
    left_behind(tmp_path, 300.0)
    past = replace(receivers_clock(), offset_ns=0)
    gap_s = left_open(tmp_path, LONG_S).gap_s(past)
    assert gap_s == pytest.approx(time.monotonic(), abs=30.0)
