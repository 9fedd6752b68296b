"""The server's own application on a free port, with a car whose devices do as they are told; recordings to look at."""

import math
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask
from waitress.server import TcpWSGIServer

import server
from car import Car
from configs import Settings
from jobs import Jobs, Task
from rig.clock import NS_PER_S, iso_utc
from rig.gnss.fix import Fix, csv_line
from rig.gnss.positionlog import CSV_HEADER
from rig.photo.photos import Photo, write_table
from rig.recordings import FINISHED, Recordings
from rig.workers import Link
from tests.test_car import a_car

NOON_NS = 1_795_348_800 * 10**9  # 2026-11-22T12:00:00Z
LATITUDE, LONGITUDE = 47.17, -1.27
M_PER_DEG = 111_195.0


@dataclass(frozen=True, slots=True)
class Site:
    """A server that runs in this process."""

    app: Flask
    car: Car
    port: int
    server: TcpWSGIServer

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of a page."""
        return f"http://{host}:{self.port}{path}"


@contextmanager
def a_site(output: Path, *cameras: str, work: Any = None, **settings: Any) -> Iterator[Site]:
    """Serve a car with these cameras (see tests.test_car.run_camera)."""
    with a_car(output, *cameras, **settings) as (car, _):
        quick = replace(Settings(output=output), **settings)
        with Jobs(quick, car.recordings, car.clock, work) as jobs:
            app = server.create_app(car, jobs, quick)
            listener = socket.create_server(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
            served = server.serve_app(app, listener)
            thread = threading.Thread(target=served.run, daemon=True)
            thread.start()
            try:
                yield Site(app, car, port, served)
            finally:
                server.close_app(app)
                served.task_dispatcher.shutdown()
                # Waitress ends its loop when nothing is left to be watched.
                served.asyncore.close_all(vars(served)["_map"])
                thread.join(10)


def add_recording(
    output: Path, number: int = 0, seconds: int = 60, rate_hz: int = 10, jpeg: bytes = b"", **more: Any
) -> str:
    """A finished recording of a drive with bends, with a photo each half second where a picture is given."""
    started_ns = NOON_NS - number * 3600 * NS_PER_S
    recordings = Recordings(output)
    recording = recordings.create(started_ns, "video", name=f"drive {number}", clock=None, software="test")
    stopped = iso_utc(started_ns + seconds * NS_PER_S)
    recordings.update(recording.id, state=FINISHED, stopped=stopped, **more)
    folder = recordings.folder(recording.id)
    (folder / "positions").mkdir()
    fixes = [_fix(started_ns, at / rate_hz) for at in range(seconds * rate_hz)]
    (folder / "positions" / "positions.csv").write_text(CSV_HEADER + "".join(map(csv_line, fixes)))
    if jpeg:
        _add_photos(folder, jpeg, fixes[:: max(1, rate_hz // 2)])
    return recording.id


def add_many_photos(output: Path, count: int, jpeg: bytes) -> str:
    """A recording whose table names so many photos; all are the same file."""
    recording_id = add_recording(output, 0, seconds=600)
    folder = Recordings(output).folder(recording_id)
    (folder / "photos" / "left").mkdir(parents=True)
    (folder / "photos" / "left" / "one.jpg").write_bytes(jpeg)
    fixes = (_fix(NOON_NS, at * 600 / count) for at in range(count))
    write_table(folder, [_photo(fix, "photos/left/one.jpg", at) for at, fix in enumerate(fixes)])
    return recording_id


def busy_job(link: Link, _task: Task, _settings: Any) -> None:
    """Takes all of a core, politely, until it is cancelled."""
    os.nice(10)
    while not link.stopping:
        np.linalg.svd(np.random.default_rng(1).normal(size=(120, 120)))
        link.report(0.5)
        link.check()


def _fix(started_ns: int, at_s: float) -> Fix:
    angle = at_s / 40
    north, east = 300 * math.sin(angle) * (1 + 0.3 * math.sin(3 * angle)), 420 * math.cos(angle)
    floats = 20 < at_s % 60 < 27
    return Fix(
        utc=iso_utc(started_ns + round(at_s * NS_PER_S)),
        utc_ns=started_ns + round(at_s * NS_PER_S),
        date_source="rmc",
        latitude=LATITUDE + north / M_PER_DEG,
        longitude=LONGITUDE + east / M_PER_DEG / math.cos(math.radians(LATITUDE)),
        altitude_m=35.0,
        quality=5 if floats else 4,
        satellites=21,
        hdop=0.6,
        sigma_lat_m=0.25 if floats else 0.01,
        sigma_lon_m=0.25 if floats else 0.01,
        speed_mps=9.0 + 4 * math.sin(at_s / 5),
        course_deg=(at_s * 6) % 360,
    )


def _add_photos(folder: Path, jpeg: bytes, fixes: Sequence[Fix]) -> None:
    rows = []
    for number, fix in enumerate(fixes):
        camera = "left" if number % 2 else "right"
        name = f"photos/{camera}/{(fix.utc or '').replace(':', '').replace('-', '').replace('.', '')}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg)
        rows.append(_photo(fix, name, number))
    write_table(folder, rows)


def _photo(fix: Fix, name: str, number: int) -> Photo:
    return Photo(
        photo=name,
        camera="left" if number % 2 else "right",
        utc=fix.utc or "",
        time_error_ms=3.9 + number % 7 / 10,
        video="stream-001.ts",
        pts_s=number / 2,
        frame=number * 15,
        fix_utc=fix.utc or "",
        fix_dt_ms=number % 50 - 25.0,
        latitude=fix.latitude,
        longitude=fix.longitude,
        quality=fix.quality,
        satellites=fix.satellites,
        fix_sigma_m=0.01,
        interpolation="hermite",
        interpolated_latitude=fix.latitude,
        interpolated_longitude=fix.longitude,
        heading_deg=fix.course_deg,
        speed_mps=fix.speed_mps,
        position_sigma_m=0.014 if fix.quality == 4 else 0.3,
        sharpness=400.0 + number % 90,
        luminance=120.0,
    )
