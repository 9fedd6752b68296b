"""The car with real worker processes; the devices in them do as their address says."""

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from capturePositions import ReceiverStatus
from car import Car, Devices
from configs import Settings
from rig.camera.cameraworker import camera_worker
from rig.camera.cardfiles import LEDGER
from rig.camera.finding import FoundCamera, discover
from rig.camera.opengopro import GoPro
from rig.clock import UtcClock
from rig.drive.checksums import verify
from rig.drive.fetching import Fetches
from rig.errors import ConflictError, DeviceError, DeviceNotFoundError, NoSpaceError, UsageError
from rig.live.photographer import PhotoStatus
from rig.photo.photos import Photo, append_rows, read_table, write_table
from rig.recordings import FETCHING, FINISHED, INTERRUPTED, RECORDING, Manifest, Recordings
from rig.status import CameraNow, CarStatus, StorageNow, TimeNow, other_problems
from rig.workers import Link, StartCapture, StopCapture, Worker
from tests.gopros import make_camera
from tests.machine import PATIENCE_S, wait_for

GNSS_AHEAD_NS = 7_000_000_000
PLENTY_BYTES = 1 << 40


def run_camera(link: Link, address: str, _settings: Settings) -> None:
    """A camera whose address says what it does: `C1`, `C2 refuses`, `C3 lost`, `C4 fetches`, `C5 refuses late`,
    `C6 fails to stop`, `C7 stops late`, `C8 keeps` what is on its card, `C9 vanishes` once it records."""
    serial, _, behaviour = address.partition(" ")
    capture: list[StartCapture] = []

    def start(request: StartCapture) -> None:
        if behaviour == "refuses late":
            wait_for((request.folder / "enough").exists)
        if behaviour.startswith("refuses"):
            raise DeviceError("the card is full", cure="change it")
        (request.folder / f"told-{os.getpid()}").touch()
        if request.mode == "camera":
            (request.folder / LEDGER).touch()
        capture[:] = [request]

    def stop(_request: StopCapture) -> tuple[str, ...]:
        files = [path.name for request in capture for path in request.folder.glob("told-*")]
        if behaviour == "fails to stop":
            raise DeviceError("the camera is too hot", cure="let it cool")
        if capture and behaviour == "stops late":
            wait_for((capture[0].folder / "enough").exists)
        if capture and behaviour not in ("fetches", "keeps"):
            (capture[0].folder / LEDGER).unlink(missing_ok=True)
        capture.clear()
        return tuple(files)

    def status() -> CameraNow:
        gone = behaviour == "lost" or (behaviour == "vanishes" and capture)
        state = "lost" if gone else "streaming" if capture else "idle"
        if behaviour == "fetches" and not capture:
            state = "fetching"
        return CameraNow(serial=serial, model="HERO12 Black", address=address, state=state, battery_percent=80)

    link.serve({StartCapture: start, StopCapture: stop}, status, 0.1)


def run_receiver(link: Link, settings: Settings) -> None:
    """A receiver with a fix, whose time is 7 s ahead of this machine's; `receiver_port` may say `nothing`."""
    there = settings.receiver_port != "nothing"
    epochs = 42 if there else 0
    capture: list[StartCapture] = []

    def stop(_request: StopCapture) -> ReceiverStatus:
        capture.clear()
        return ReceiverStatus(epochs_logged=epochs)

    def status() -> ReceiverStatus:
        now_ns = time.monotonic_ns()
        clock = UtcClock(time.time_ns() - now_ns + GNSS_AHEAD_NS, now_ns, 4_000_000, "gnss")
        if not there:
            return ReceiverStatus()
        return ReceiverStatus(
            port="/dev/ttyACM0", state="listening", quality="RTK fixed", latitude=50.8, longitude=4.3, clock=clock
        )

    link.serve({StartCapture: capture.append, StopCapture: stop}, status, 0.1)


def run_photographer(link: Link, *_work: object) -> None:
    """It has always made all photos."""

    def status(_request: object = None) -> PhotoStatus:
        return PhotoStatus(7)

    link.serve({StartCapture: status, StopCapture: status}, status, 0.1)


@dataclass
class Street:
    """What there is to be discovered."""

    cameras: list[str] = field(default_factory=list)
    looks: int = 0

    def discover(self, _addresses: Sequence[str]) -> list[FoundCamera]:
        self.looks += 1
        return [FoundCamera(address.split(" ")[0], "HERO12 Black", address, "127.0.0.1") for address in self.cameras]


@contextmanager
def room_enough() -> Iterator[None]:
    """Whatever others write meanwhile onto the disk of the tests, a car sees that there is room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rig.drive.room.free_bytes", lambda _path: PLENTY_BYTES)
        yield


@contextmanager
def a_car(output: Path, *cameras: str, **settings: Any) -> Iterator[tuple[Car, Street]]:
    street = Street(list(cameras))
    quick = replace(
        Settings(output=output, discover_interval_s=0.1, reserve_bytes=1 << 20, stop_wait_s=1.0), **settings
    )
    devices = Devices(street.discover, run_camera, run_receiver)
    with room_enough(), Car(quick, devices) as car:
        wait_for(lambda: len(car.status().cameras) == len(cameras))
        wait_for(lambda: all(camera.state != "connecting" for camera in car.status().cameras))
        wait_for(lambda: car.status().time.source == "gnss" or quick.receiver_port == "nothing")
        yield car, street


def has_met(thread: threading.Thread) -> bool:
    """Whether a thread that stops the car has seen what runs."""
    frame = sys._current_frames().get(thread.ident or 0)
    return any("met" in called.f_locals for called, _ in traceback.walk_stack(frame)) if frame else False


def codes(status: CarStatus) -> set[str]:
    return {problem.code for problem in status.problems}


def told(car: Car, recording_id: str, serial: str) -> list[Path]:
    return list(car.recordings.folder(recording_id).glob(f"videos/{serial}/told-*"))


def pid_of(told_file: Path) -> int:
    return int(told_file.name.removeprefix("told-"))


def test_a_recording_from_start_to_stop(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", "C2") as (car, _):
        assert car.status().state == "idle"
        manifest, new = car.start(name="rue Haute", every="5m")
        assert (manifest.state, manifest.name, manifest.every, new) == (RECORDING, "rue Haute", "5m", True)
        status = car.status()
        assert (status.state, codes(status)) == ("recording", set())
        assert status.recording is not None
        assert status.recording.id == manifest.id
        assert [camera.state for camera in status.cameras] == ["streaming", "streaming"]
        folder = car.recordings.folder(manifest.id)
        assert sorted(path.name for path in folder.iterdir()) == ["positions", "recording.json", "videos"]
        stopped = car.stop()
        assert stopped is not None
        assert (stopped.id, stopped.state, stopped.warnings) == (manifest.id, FINISHED, ())
        assert [camera.folder for camera in stopped.cameras] == ["C1", "C2"]
        assert stopped.receiver is not None
        assert stopped.receiver.epochs == 42
        assert stopped.clock is not None
        assert stopped.clock.source == "gnss"
        assert stopped.software.startswith("edencar ")
        assert stopped.settings["photo_interval_s"] == 0.5
        assert car.stop() is None
        assert (car.status().state, car.status().recording) == ("idle", None)


def test_two_starts_at_once_make_one_recording(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        together = threading.Barrier(6)
        results: list[tuple[str, bool]] = []

        def start() -> None:
            together.wait()
            manifest, new = car.start()
            results.append((manifest.id, new))

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({recording_id for recording_id, _ in results}) == 1
        assert sorted(new for _, new in results) == [False] * 5 + [True]
        assert len(car.recordings.list()) == 1
        with pytest.raises(ConflictError, match="mode video"):
            car.start("camera")


def test_start_is_refused_for_a_reason(tmp_path: Path) -> None:
    with a_car(tmp_path, "C2 refuses") as (car, street):
        with pytest.raises(DeviceError, match="card is full"):
            car.start()
        assert car.recordings.list() == []
        assert car.status().state == "idle"
        with pytest.raises(DeviceNotFoundError, match="C9"):
            car.start(cameras=["C9"])
        with pytest.raises(UsageError):
            car.start("slides")
        with pytest.raises(UsageError):
            car.start(allow="everything")
        street.cameras.append("C1")
        wait_for(lambda: len(car.status().cameras) == 2)
        manifest, _ = car.start()  # one is enough, and the crew is told of the other
        assert "camera C2 did not start: the card is full: change it" in manifest.warnings[0]
        status = car.status()
        assert status.state == "degraded"
        assert codes(status) == {"camera_not_recording"}


def test_photos_are_made_of_the_recording_that_runs_not_of_one_that_did_not_start(tmp_path: Path) -> None:
    with a_car(tmp_path, "C5 refuses late", receiver_port="nothing") as (car, street):
        refused: list[DeviceError] = []

        def start() -> None:
            try:
                car.start("photos")
            except DeviceError as error:
                refused.append(error)

        starting = threading.Thread(target=start)
        starting.start()
        wait_for(lambda: [*tmp_path.glob("*/videos/C5")])
        ticks = car._tended_s + 3 * 0.25
        wait_for(lambda: car._tended_s > ticks)  # the supervision has seen it
        next(tmp_path.glob("*/videos/C5")).joinpath("enough").touch()
        starting.join()
        assert refused
        street.cameras[:] = ["C1"]
        wait_for(lambda: any(camera.serial == "C1" and camera.state == "idle" for camera in car.status().cameras))
        manifest, _ = car.start("photos", cameras=["C1"])
        wait_for(lambda: [*car.recordings.folder(manifest.id).glob("photos.csv")])
        car.stop()


def test_without_a_camera_positions_alone_must_be_allowed(tmp_path: Path) -> None:
    with a_car(tmp_path, "C3 lost") as (car, _):
        with pytest.raises(DeviceNotFoundError, match="no camera"):
            car.start()
        manifest, new = car.start(allow="positions-only")
        assert new
        assert car.recordings.get(manifest.id).cameras == ()


def test_positions_only_without_a_receiver_says_so(tmp_path: Path) -> None:
    with a_car(tmp_path, receiver_port="nothing") as (car, _):
        manifest, _ = car.start(allow="positions-only")
        assert "neither a camera nor a receiver answers" in " ".join(manifest.warnings)
        assert car.status().state == "degraded"
        stopped = car.stop()
        assert stopped is not None
        assert "no position was logged" in stopped.warnings[-1]


def test_nothing_starts_without_room(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", reserve_bytes=1 << 60) as (car, _):
        with pytest.raises(NoSpaceError):
            car.start()
        assert car.status().storage.seconds_left == 0
        assert "little_room" in codes(car.status())


@pytest.mark.parametrize(
    ("minutes", "level"), [(30, None), (29.9, "warning"), (10, "warning"), (9.9, "error"), (0, "error")]
)
def test_the_crew_is_warned_from_thirty_minutes_on(minutes: float, level: str | None) -> None:
    storage = StorageNow(bytes_free=1 << 30, seconds_left=round(60 * minutes))
    problems = [*other_problems(TimeNow(utc="", source="gnss", sigma_ms=1.0), storage, ())]
    assert [(problem.code, problem.level) for problem in problems] == ([("little_room", level)] if level else [])


def fail(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_fails_ends_the_recording_which_is_closed_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car.SAVE_AGAIN_S", 0.1)
    with a_car(tmp_path, "C1") as (car, _):
        manifest, _ = car.start()
        with monkeypatch.context() as broken:
            broken.setattr("rig.recordings.write_atomically", fail)
            car._note("something is to be written down")
            wait_for(lambda: "disk_failed" in codes(car.status()))
            wait_for(lambda: car.status().state == "idle")
            assert car.recordings.get(manifest.id).state == RECORDING
            time.sleep(0.5)  # it is tried again and again
        wait_for(lambda: car.recordings.get(manifest.id).state == FINISHED)
        assert any("cannot be written" in warning for warning in car.recordings.get(manifest.id).warnings)
        assert car.start()[1]


def test_files_on_a_card_are_awaited_also_when_the_disk_failed_at_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car.SAVE_AGAIN_S", 0.1)
    with a_car(tmp_path, "C8 keeps", stop_wait_s=0.0) as (car, _):
        manifest, _ = car.start("camera")
        with monkeypatch.context() as broken:
            broken.setattr("rig.recordings.write_atomically", fail)
            with pytest.raises(OSError, match="Input/output"):
                car.stop()
        wait_for(lambda: car.recordings.get(manifest.id).state != RECORDING)
        assert car.recordings.get(manifest.id).state == FETCHING


def test_a_start_that_a_full_disk_ends_is_taken_back_once_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car.SAVE_AGAIN_S", 0.1)
    with a_car(tmp_path, "C1") as (car, _), monkeypatch.context() as broken:
        create = car.recordings.create

        def fill(*args: Any, **values: Any) -> Manifest:
            manifest = create(*args, **values)
            (car.recordings.folder(manifest.id) / "stream-001.ts").touch()  # pictures come until it is full
            broken.setattr("rig.recordings.write_atomically", fail)
            return manifest

        broken.setattr(car.recordings, "create", fill)
        with pytest.raises(OSError, match="Input/output"):
            car.start()
        (begun,) = car.recordings.list()
        assert begun.state == RECORDING
        broken.undo()
        wait_for(lambda: not car.recordings.list())
        assert car.recordings.restore(begun.id).state == INTERRUPTED


def test_a_server_whose_disk_fails_ends_all_the_same(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        manifest, _ = car.start()
        pid = pid_of(told(car, manifest.id, "C1")[0])
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr("rig.recordings.write_atomically", fail)
            car.close()
        assert not Path(f"/proc/{pid}").exists()
    with a_car(tmp_path) as (again, _):
        wait_for(lambda: again.recordings.get(manifest.id).state == INTERRUPTED)


def test_a_manifest_begun_before_the_stop_is_not_written_over_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car.BOOKS_S", 1e6)  # nothing else writes it
    with a_car(tmp_path, "C1") as (car, _):
        manifest, _ = car.start()
        running: Any = car._running
        began, go_on, update = threading.Event(), threading.Event(), car.recordings.update

        def hesitate(*args: Any, **changes: Any) -> Manifest:
            if not began.is_set():
                began.set()
                go_on.wait(PATIENCE_S)
            return update(*args, **changes)

        monkeypatch.setattr(car.recordings, "update", hesitate)
        running._due_s = 0.0
        books, stop = threading.Thread(target=running.save_if_due), threading.Thread(target=car.stop)
        books.start()
        began.wait(PATIENCE_S)
        stop.start()
        stop.join(2.0)
        go_on.set()
        for thread in (books, stop):
            thread.join()
        written = car.recordings.get(manifest.id)
        assert (written.state, written.stopped is None, written.alive) == (FINISHED, False, None)


def test_a_camera_that_fails_to_stop_is_named_in_the_recording(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", "C6 fails to stop") as (car, _):
        car.start()
        stopped = car.stop()
        assert stopped is not None
        assert stopped.state == FINISHED
        (warning,) = stopped.warnings
        assert warning.endswith("camera C6 did not stop in order: the camera is too hot: let it cool")


def test_while_a_recording_is_stopped_no_other_starts(tmp_path: Path) -> None:
    with a_car(tmp_path, "C7 stops late") as (car, _):
        manifest, _ = car.start()
        stopped: list[object] = []
        stopping = threading.Thread(target=lambda: stopped.append(car.stop()))
        stopping.start()
        wait_for(lambda: car.status().state == "stopping")
        with pytest.raises(ConflictError, match="being stopped"):
            car.start()
        with pytest.raises(ConflictError, match="the car is stopping"):
            car.calibrate(1.0)
        other = threading.Thread(target=lambda: stopped.append(car.stop()))
        other.start()
        wait_for(lambda: has_met(other))
        (car.recordings.folder(manifest.id) / "videos" / "C7" / "enough").touch()
        for thread in (stopping, other):
            thread.join()
        assert stopped == [car.recordings.get(manifest.id)] * 2  # what two phones stop, both get
        assert car.recordings.get(manifest.id).state == FINISHED
        assert car.stop() is None


def test_a_calibration_that_cannot_be_says_why(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        car.start("camera")
        with pytest.raises(ConflictError, match="on their cards, there is no stream"):
            car.calibrate(60.0)
        car.stop()
        car.start("video")
        refused: list[ConflictError] = []

        def calibrate() -> None:
            try:
                car.calibrate(60.0)
            except ConflictError as error:
                refused.append(error)

        calibrating = threading.Thread(target=calibrate)
        calibrating.start()
        wait_for(lambda: car.status().calibrating)
        assert car.stop() is not None
        calibrating.join()
        assert [error.message for error in refused] == ["the recording was stopped meanwhile"]


def test_a_photographer_that_dies_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.supervision.REVIVAL_S", 0.1)
    monkeypatch.setattr("car.SAVE_AGAIN_S", 0.1)
    with a_car(tmp_path, "C1") as (car, _):
        car.start("photos")
        running: Any = car._running
        wait_for(lambda: running._photographer)
        photographer = running._photographer
        photographer.tend = lambda: None  # nobody starts it again
        os.kill(photographer.worker.pid, signal.SIGKILL)
        photographer.worker.join()
        rows = [Photo(photo=f"photos/C1/{n}.jpg", camera="C1", utc=f"2026-11-22T14:03:1{n}.000Z") for n in (2, 0, 1)]
        write_table(running.folder, rows[:1])
        append_rows(running.folder, rows[1:])  # as they come of two cameras
        with monkeypatch.context() as broken:
            broken.setattr("rig.photo.photos.write_table", fail)  # the disk is full, say
            stopped = car.stop()
        assert stopped is not None
        assert stopped.state == FINISHED
        wait_for(lambda: [row.utc for row in read_table(running.folder)] == sorted(row.utc for row in rows))
        assert any("not all photos were made" in warning for warning in stopped.warnings)


def test_a_photographer_that_dies_during_the_stop_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rig.drive.running.photo_worker", run_photographer)
    with a_car(tmp_path, "C7 stops late") as (car, _):
        manifest, _ = car.start("photos")
        running: Any = car._running
        wait_for(lambda: running._photographer)
        photographer = running._photographer
        stopping = threading.Thread(target=car.stop)
        stopping.start()
        wait_for(lambda: running.stopped_ns)
        os.kill(photographer.worker.pid, signal.SIGKILL)
        photographer.worker.join()
        (running.folder / "videos" / "C7" / "enough").touch()
        stopping.join()
        assert running.photos == PhotoStatus(7)
        assert not any("not all photos" in warning for warning in car.recordings.get(manifest.id).warnings)
        assert not photographer.worker.alive


def test_what_was_stopped_just_before_the_end_has_its_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("car.BOOKS_S", 1e6)  # nothing else writes them
    with a_car(tmp_path, "C1") as (car, _):
        recording, _ = car.start()
        car.stop()
    assert verify(Recordings(tmp_path), recording.id).good


def test_a_server_that_ends_starts_nothing(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        car.close()
        with pytest.raises(ConflictError, match="ending"):
            car.start()


def test_a_full_disk_ends_the_recording_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        manifest, _ = car.start()
        monkeypatch.setattr("rig.drive.room.free_bytes", lambda _path: 0)
        wait_for(lambda: car.recordings.get(manifest.id).state == FINISHED)
        wait_for(lambda: car.status().state == "idle")
        assert "the disk is full" in car.recordings.get(manifest.id).warnings[-1]
        monkeypatch.undo()
        (problem,) = (problem for problem in car.status().problems if problem.code == "disk_full")
        assert (problem.level, problem.subject) == ("error", manifest.id)
        car.start()
        assert "disk_full" not in codes(car.status())


def test_a_killed_worker_goes_on_with_the_same_recording(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", "C2") as (car, _):
        manifest, _ = car.start()
        os.kill(pid_of(told(car, manifest.id, "C1")[0]), signal.SIGKILL)
        wait_for(lambda: car.status().state == "degraded")
        wait_for(lambda: len(told(car, manifest.id, "C1")) == 2)
        wait_for(lambda: car.status().state == "recording")
        stopped = car.stop()
        assert stopped is not None
        assert stopped.state == FINISHED
        assert "camera C1 ended (it was killed)" in stopped.warnings[0]
        assert "camera C1 records again" in stopped.warnings[1]
        assert len(told(car, manifest.id, "C2")) == 1
        events = (car.recordings.folder(manifest.id) / "events.log").read_text().splitlines()
        assert len(events) == 2
        assert events[0].split(" ", 2)[2] == "camera C1 ended (it was killed)"


def test_a_camera_that_comes_late_joins(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, street):
        manifest, _ = car.start()
        street.cameras.append("../C5")
        wait_for(lambda: told(car, manifest.id, "___C5"))
        stopped = car.stop()
        assert stopped is not None
        assert [(camera.serial, camera.folder) for camera in stopped.cameras] == [("../C5", "___C5"), ("C1", "C1")]


def test_a_camera_that_comes_back_at_another_address_goes_on(tmp_path: Path) -> None:
    with a_car(tmp_path, "C9 vanishes") as (car, street):
        manifest, _ = car.start()
        wait_for(lambda: "camera_lost" in codes(car.status()))
        street.cameras = ["C9"]
        wait_for(lambda: car.status().state == "recording")
        assert len(told(car, manifest.id, "C9")) == 2
        stopped = car.stop()
        assert stopped is not None
        assert [camera.address for camera in stopped.cameras] == ["C9"]
        assert [warning.partition(" ")[2] for warning in stopped.warnings] == [
            "camera C9 is at C9 now",
            "camera C9 records again",
        ]


def test_chosen_cameras_stay_alone(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", "C2") as (car, street):
        manifest, _ = car.start(cameras=["C2"])
        looks = street.looks
        wait_for(lambda: street.looks > looks + 5)
        assert told(car, manifest.id, "C2")
        assert not told(car, manifest.id, "C1")


def test_files_on_the_card_are_waited_for_then_followed(tmp_path: Path) -> None:
    with a_car(tmp_path, "C4 fetches", stop_wait_s=0.2) as (car, _):
        car.start("camera")
        stopped = car.stop()
        assert stopped is not None
        assert stopped.state == FETCHING
        assert "fetching" in codes(car.status())
        with pytest.raises(ConflictError):
            car.recordings.trash(stopped.id)
        (car.recordings.folder(stopped.id) / "videos" / "C4" / LEDGER).unlink()
        wait_for(lambda: car.recordings.get(stopped.id).state == FINISHED)
        wait_for(lambda: "fetching" not in codes(car.status()))


def test_a_server_that_ends_waits_for_no_files(tmp_path: Path) -> None:
    with a_car(tmp_path, "C8 keeps", stop_wait_s=10 * PATIENCE_S) as (car, _):
        manifest, _ = car.start("camera")
        stopping = threading.Thread(target=car.stop, daemon=True)
        stopping.start()
        wait_for(lambda: car.status().state == "stopping")
        closing = threading.Thread(target=car.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        stopping.join(PATIENCE_S)
        assert car.recordings.get(manifest.id).state == INTERRUPTED  # until a camera brings them


def test_a_recording_whose_files_came_while_the_disk_failed_is_finished_later(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    waiting = recordings.create(0, "camera").id
    recordings.update(waiting, state=FETCHING)
    ledger = recordings.folder(waiting) / "videos" / "C1" / LEDGER
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    fetches = Fetches(recordings)
    fetches.add(waiting)
    ledger.unlink()
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr("rig.recordings.write_atomically", fail)
        fetches.follow(set())
        assert fetches.ids == [waiting]
    fetches.follow(set())
    assert (fetches.ids, recordings.get(waiting).state) == ([], FINISHED)


def test_files_that_no_server_waited_for_are_found_again(tmp_path: Path) -> None:
    with a_car(tmp_path, "C4 fetches", stop_wait_s=0.0) as (car, _):
        car.start("camera")
        stopped = car.stop()
    assert stopped is not None
    assert Recordings(tmp_path).get(stopped.id).state == INTERRUPTED
    with a_car(tmp_path, "C4 fetches") as (car, _):
        wait_for(lambda: car.recordings.get(stopped.id).state == FETCHING)
        (car.recordings.folder(stopped.id) / "videos" / "C4" / LEDGER).unlink()
        wait_for(lambda: car.recordings.get(stopped.id).state == FINISHED)
        assert car.recordings.get(stopped.id).warnings == (), "they came: nothing is on the card any more"


def test_what_a_dead_server_left_open_is_closed(tmp_path: Path) -> None:
    left = Recordings(tmp_path).create(0, "video").id
    (tmp_path / "2026-01-01_00-00-00").mkdir()  # without a manifest
    with a_car(tmp_path) as (car, _):
        assert car.recordings.get(left).state == INTERRUPTED
        assert "server ended" in car.recordings.get(left).warnings[0]
    (tmp_path / "2026-01-01_00-00-00").rmdir()
    with a_car(tmp_path, "C1") as (car, _):  # nor does another server forget it before the next start
        (problem,) = (problem for problem in car.status().problems if problem.code == "interrupted")
        assert (problem.level, problem.subject) == ("error", left)
        assert left in problem.text
        car.start()
        assert "interrupted" not in codes(car.status())


def recording_of_a_dead_server(output: Path, address: str) -> str:
    """A recording on the card of a camera, which goes on."""
    left = Recordings(output).create(0, "camera").id
    folder = output / left / "videos" / "C1"
    folder.mkdir(parents=True)
    worker = Worker("camera", camera_worker, address, Settings(output=output))
    worker.start()
    worker.ask(StartCapture(folder, "camera"), 20.0)
    time.sleep(0.7)  # a camera needs a moment for its first picture
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.stop()
    return left


def records(address: str) -> bool:
    with closing(GoPro(address)) as client:
        return client.state().encoding


@contextmanager
def a_car_with(output: Path, address: str) -> Iterator[Car]:
    settings = Settings(output=output, cameras=(address,), reserve_bytes=1 << 20)
    with Car(settings, Devices(discover, camera_worker, run_receiver)) as car:
        wait_for(lambda: [camera.state for camera in car.status().cameras] == ["recording"])
        yield car


def test_what_a_dead_server_left_on_a_card_may_go_to_the_trash(tmp_path: Path) -> None:
    with make_camera() as camera:
        left = recording_of_a_dead_server(tmp_path, camera.address)
        with a_car_with(tmp_path, camera.address) as car:
            assert "interrupted" in codes(car.status())
            car.recordings.trash(left)
            for mode in ("camera", "video"):
                manifest, _ = car.start(mode)
                time.sleep(0.7)
                assert car.stop() is not None
                assert car.recordings.get(manifest.id).state == FINISHED
            assert list(car.recordings.list_trash()) == [left]
            assert not records(camera.address)
            car.restore(left)
            wait_for(lambda: car.recordings.get(left).state == FINISHED)
            assert len(list(tmp_path.glob(f"{left}/videos/*/*.MP4"))) == 1


def test_stop_ends_what_a_dead_server_left_on_a_card(tmp_path: Path) -> None:
    with make_camera() as camera:
        left = recording_of_a_dead_server(tmp_path, camera.address)
        with a_car_with(tmp_path, camera.address) as car:
            assert car.stop() is None
            assert not records(camera.address)
            wait_for(lambda: car.recordings.get(left).state == FINISHED)


def test_closing_stops_the_recording_and_all_workers(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        manifest, _ = car.start()
        pid = pid_of(told(car, manifest.id, "C1")[0])
    assert Recordings(tmp_path).get(manifest.id).state == FINISHED
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConflictError):
        car.start()
    car.close()


def test_one_server_a_folder(tmp_path: Path) -> None:
    with a_car(tmp_path), pytest.raises(ConflictError, match="another edenCar"):
        Car(Settings(output=tmp_path))
    with a_car(tmp_path):
        pass


def test_the_receiver_tells_the_time_and_a_dead_one_leaves_it_for_a_while(tmp_path: Path) -> None:
    with a_car(tmp_path) as (car, _):
        assert car.clock().utc_ns() - time.time_ns() == pytest.approx(GNSS_AHEAD_NS, abs=50_000_000)
        assert car.clock().sigma_ns < 10_000_000
        worker = car.gear.receiver.worker
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(PATIENCE_S)
        assert car.clock().source == "gnss"


def test_without_a_receiver_the_time_is_the_systems_and_the_crew_is_told(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1", receiver_port="nothing") as (car, _):
        assert car.clock().source == "system"
        assert {"no_receiver", "time_unsure"} <= codes(car.status())
        car.start()
        assert car.status().state == "degraded"


def test_a_clock_that_was_wrong_at_the_start_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        right, monkeypatched = car.gear.clock, UtcClock(-time.monotonic_ns(), 0, 10**9, "system")
        monkeypatch.setattr(car.gear, "clock", lambda: monkeypatched)
        manifest, _ = car.start()
        assert manifest.id.startswith("1970-01-01")
        monkeypatch.setattr(car.gear, "clock", right)
        stopped = car.stop()
        assert stopped is not None
        assert stopped.id == manifest.id
        assert stopped.started[:10] == stopped.stopped[:10] != "1970-01-01" if stopped.stopped else False
        assert any("wrong at the start" in warning for warning in stopped.warnings)
