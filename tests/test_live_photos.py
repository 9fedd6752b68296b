"""Photos made while a car drives: of the simulated car, whose truth says when each frame was taken and where."""

import csv
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from car import Car
from configs import Settings
from rig.clock import NS_PER_S, parse_utc, system_clock
from rig.errors import UsageError
from rig.live.livephotos import LivePhotos, _Shot
from rig.photo import exif
from rig.photo.locate import Camera
from rig.photo.photos import COLUMNS, Photo, append_rows, read_table, write_table
from rig.photo.spacing import Every, Odometer
from simulator.film import read_number
from simulator.stage import simulated_car
from tests.machine import wait_for

DRIVE_S = 8.0


@dataclass
class Drive:
    """A car that drives, and what is true of its pictures."""

    car: Car
    truth: Path

    def utc_ns(self, serial: str) -> dict[int, int]:
        """When each frame of a camera was taken, by its number."""
        with (self.truth / f"frames-{serial}.csv").open(newline="") as file:
            return {int(row["number"]): int(row["utc_ns"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    scratch = tmp_path_factory.mktemp("drive")
    with (scratch / "log").open("w") as log, simulated_car(2, 360, scratch, log) as devices:
        settings = Settings(
            output=scratch / "output",
            cameras=tuple(camera["address"] for camera in devices["cameras"]),
            receiver_port=devices["receiver"],
        )
        with Car(settings) as car:
            wait_for(lambda: [camera.state for camera in car.status().cameras] == ["idle"] * 2, 30.0)
            wait_for(lambda: car.status().time.source == "gnss", 30.0)
            yield Drive(car, scratch / "truth")


def take(drive: Drive, every: str, seconds: float = DRIVE_S) -> tuple[Path, list[Photo]]:
    manifest, _ = drive.car.start("photos", every=every)
    folder = drive.car.recordings.folder(manifest.id)
    try:
        time.sleep(seconds)
        wait_for(lambda: (now := drive.car.status().recording) and now.mode == "photos" and now.photos)
        rows_then = read_table(folder)  # they come while it runs
    finally:
        drive.car.stop()
    rows = read_table(folder)
    assert len(rows) >= len(rows_then)
    assert [row.utc for row in rows] == sorted(row.utc for row in rows)
    return folder, rows


def test_photos_come_while_the_car_drives_with_time_and_place(drive: Drive) -> None:
    folder, rows = take(drive, "0.5s")
    serials = {
        entry["folder"]: entry["serial"] for entry in json.loads((folder / "recording.json").read_text())["cameras"]
    }
    assert {row.camera for row in rows} == set(serials)
    assert len(rows) >= 2 * (DRIVE_S - 3) * 2
    for camera, serial in serials.items():
        truth = drive.utc_ns(serial)
        mine = [row for row in rows if row.camera == camera]
        for row in mine:
            picture = cv2.imread(str(folder / row.photo))
            assert picture is not None
            number = read_number(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8))
            assert number is not None
            error_ms = abs(parse_utc(row.utc) - truth[number]) / 1e6
            assert row.time_error_ms is not None
            assert error_ms <= row.time_error_ms
            off_ms = (parse_utc(row.utc) / 1e6 + 250) % 500 - 250
            assert abs(off_ms) < 25, "photos of all cameras are of the same instants"
    placed = [row for row in rows if row.interpolation != "none"]
    assert len(placed) > 0.8 * len(rows)
    block = exif.read_block((folder / placed[0].photo).read_bytes())
    assert block.is_ours
    assert block.directories["gps"]


def test_photos_by_distance_are_that_far_apart(drive: Drive) -> None:
    _, rows = take(drive, "5m")
    first = [row for row in rows if row.camera == rows[0].camera]
    assert len(first) >= 3
    north = np.diff([row.interpolated_latitude or row.latitude or 0.0 for row in first]) * 111_195
    shrink = np.cos(np.radians(first[0].latitude or 0.0))
    east = np.diff([row.interpolated_longitude or row.longitude or 0.0 for row in first]) * 111_195 * shrink
    assert np.hypot(north, east) == pytest.approx(5.0, abs=1.5)


def test_no_frame_becomes_two_photos(drive: Drive) -> None:
    folder, rows = take(drive, "0.01s", 4.0)
    assert len({row.photo for row in rows}) == len(rows) == len(list(folder.glob("photos/*/*.jpg")))


def test_a_killed_photographer_goes_on_and_doubles_nothing(drive: Drive) -> None:
    manifest, _ = drive.car.start("photos", every="0.5s")
    folder = drive.car.recordings.folder(manifest.id)
    wait_for(lambda: (folder / "photos.csv").exists() and len(read_table(folder)) > 3, 30.0)
    running: Any = drive.car._running
    os.kill(running._photographer.worker.pid, signal.SIGKILL)
    count = len(read_table(folder))
    wait_for(lambda: len(read_table(folder)) > count + 3, 30.0)
    drive.car.stop()
    rows = read_table(folder)
    assert len({row.photo for row in rows}) == len(rows) == len(list(folder.glob("photos/*/*.jpg")))
    instants = [round(parse_utc(row.utc) / 5e8) for row in rows if row.camera == rows[0].camera]
    assert instants == sorted(set(instants))
    assert "photographer" in (folder / "events.log").read_text()


def test_an_interval_that_is_none_is_refused(drive: Drive) -> None:
    with pytest.raises(UsageError, match="no interval"):
        drive.car.start("photos", every="often")
    assert drive.car.status().recording is None


# Its parts


def test_odometer_tells_each_multiple_once() -> None:
    odometer, found = Odometer(4.9), []
    for second in range(31):  # 10 m/s for 10 s, 10 s standing, 10 m/s
        way_m = 10.0 * (min(second, 10) + max(0, second - 20))
        speed = 0.0 if 10 < second <= 20 else 10.0
        found += odometer.feed(second * NS_PER_S, 50.0 + way_m / 111_195.0, 4.0, speed)
    ways = np.arange(0, 200, 4.9)
    assert [instant / 1e9 for instant in found] == pytest.approx(ways / 10 + 10 * (ways > 100), abs=1e-3)


def test_every_is_seconds_or_metres() -> None:
    assert (Every.parse("0.5s"), Every.parse("2"), Every.parse("5m")) == (Every(0.5), Every(2.0), Every(5.0, "m"))
    for text in ("", "0s", "-1s", "1h", "m", "1e9m", "nan"):
        with pytest.raises(UsageError):
            Every.parse(text)


def test_rows_are_added_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    rows = [Photo(photo=f"photos/left/{n}.jpg", camera="left", utc=f"2026-11-22T14:03:1{n}.000Z") for n in range(3)]
    write_table(tmp_path, rows[:1])
    append_rows(tmp_path, rows[1:])
    assert read_table(tmp_path) == rows
    table = tmp_path / "photos.csv"
    table.write_bytes(table.read_bytes()[:-20])
    assert read_table(tmp_path) == rows[:2]
    assert table.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_photo_on_which_the_privacy_command_failed_is_never_on_disk(tmp_path: Path) -> None:
    for command, kept in ((("false",), False), (("true",), True)):
        folder = tmp_path / command[0]
        (folder / "photos" / "left").mkdir(parents=True)
        live = LivePhotos(folder, Every(1.0, "s"), Settings(output=tmp_path, privacy_command=command))
        stream = SimpleNamespace(camera=Camera("left"), skipped=0)
        live._streams["left"] = cast(Any, stream)
        jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
        row = Photo(photo="photos/left/one.jpg", camera="left", utc="2026-11-22T14:03:12.345Z")
        live._waiting = [_Shot(row, jpeg, 0)]
        live._place(system_clock(), at_once=True)
        assert (folder / row.photo).exists() is kept
        assert [photo.photo for photo in read_table(folder)] == [row.photo] * kept
        assert (live.status.photos, live.status.skipped) == (kept, not kept)
