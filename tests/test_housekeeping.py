"""The trash gives way by age and by need, oldest first; nothing else ever does."""

import errno
import threading
import time
from pathlib import Path

import pytest

from configs import Settings
from rig.clock import NS_PER_S, UtcClock, system_clock
from rig.drive.checksums import NAME
from rig.drive.housekeeping import DAY_S, Housekeeping
from rig.drive.room import WINDOW_S, Room
from rig.errors import NoSpaceError
from rig.files import write_atomically
from rig.recordings import FINISHED, Recordings
from rig.status import StorageNow


def at_day(day: float) -> UtcClock:
    """The receiver's time, so many days after 2026-11-22."""
    return UtcClock(round((1_795_305_600 + day * DAY_S) * NS_PER_S) - time.monotonic_ns(), 0, 1000, "gnss")


@pytest.fixture
def store(tmp_path: Path) -> Recordings:
    store = Recordings(tmp_path)
    for day in range(4):
        store.update(store.create(day * DAY_S * NS_PER_S, "video").id, state=FINISHED)
    return store


def trashed(store: Recordings, count: int) -> list[str]:
    for manifest in store.list()[:count]:
        store.trash(manifest.id)
    return [*store.list_trash()]


def test_the_trash_is_emptied_by_the_receivers_time_only(store: Recordings, tmp_path: Path) -> None:
    keeper = Housekeeping(store, Room(tmp_path, Settings(output=tmp_path)), trash_days=7)
    (first,) = trashed(store, 1)
    keeper.empty_trash(system_clock(), None)
    keeper.empty_trash(at_day(-20_000), None)  # a first stamp, by a receiver that is wrong by decades
    store.restore(first)
    store.trash(first)
    for day in (0, 6.9):
        keeper.empty_trash(at_day(day), None)
        assert [*store.list_trash()] == [first]
    keeper.empty_trash(UtcClock(at_day(400).offset_ns, 0, NS_PER_S, "system"), None)
    assert [*store.list_trash()] == [first]
    keeper.empty_trash(at_day(7.1), None)
    assert [*store.list_trash()] == []
    assert len(store.list()) == 3


def test_the_trash_gives_way_for_a_start_oldest_first(
    store: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Housekeeping(store, Room(tmp_path, Settings(output=tmp_path, reserve_bytes=0)), trash_days=7)
    newest, oldest = trashed(store, 2)
    monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 0 if oldest in store.list_trash() else 1 << 40)
    keeper.make_room(2)
    assert [*store.list_trash()] == [newest]
    monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 0)
    with pytest.raises(NoSpaceError):
        keeper.make_room(2)
    assert [*store.list_trash()] == []
    assert len(store.list()) == 2


def test_a_recording_that_runs_short_gets_one_after_the_other(
    store: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Housekeeping(store, Room(tmp_path, Settings(output=tmp_path, reserve_bytes=0)), trash_days=7)
    newest, _oldest = trashed(store, 2)
    monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 1000)
    keeper.empty_trash(system_clock(), 1)
    assert [*store.list_trash()] == [newest]


def test_the_trash_gives_way_on_a_disk_too_full_to_note_its_age(
    store: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Housekeeping(store, Room(tmp_path, Settings(output=tmp_path, reserve_bytes=0)), trash_days=7)
    newest, _oldest = trashed(store, 2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 0)
    monkeypatch.setattr("rig.recordings.write_atomically", full)
    keeper.empty_trash(at_day(0), 1)
    assert [*store.list_trash()] == [newest]


def test_what_gives_way_gets_no_note_of_its_age_meanwhile(
    store: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trashed(store, 1)
    dropper = threading.Thread(target=store.drop_oldest_trash)

    def write_slowly(path: Path, data: bytes) -> None:
        dropper.start()
        dropper.join(0.5)
        write_atomically(path, data)

    monkeypatch.setattr("rig.recordings.write_atomically", write_slowly)
    store.empty_trash(at_day(0), 1.0)
    dropper.join()
    assert [*(tmp_path / ".trash").iterdir()] == []


def test_what_is_finished_gets_its_checksums_one_by_one(store: Recordings, tmp_path: Path) -> None:
    keeper = Housekeeping(store, Room(tmp_path, Settings(output=tmp_path)), trash_days=7)
    keeper.seal(lambda: False)
    assert not list(tmp_path.glob(f"*/{NAME}"))
    for count in range(1, 5):
        keeper.seal(lambda: True)
        assert len(list(tmp_path.glob(f"*/{NAME}"))) == count
    keeper.seal(lambda: True)


def test_the_room_is_told_by_the_pace_at_which_it_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, now_s, free = Room(tmp_path, Settings(output=tmp_path, reserve_bytes=0)), [1000.0], [80_000_000]
    monkeypatch.setattr("rig.drive.room.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: free[0])
    assert room.left(2) == StorageNow(80_000_000, 53)  # 2 x 6 Mbit/s, as nothing is known yet
    for _ in range(round(WINDOW_S) + 5):
        room.observe(recording=True)
        now_s[0] += 1.0
        free[0] -= 1_000_000
    assert room.left(2).seconds_left == pytest.approx(free[0] / 1e6, rel=0.05)
    room.observe(recording=False)
    assert room.left(1).seconds_left == free[0] * 8 // 6_000_000
