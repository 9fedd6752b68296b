"""Photos of a recording while it is made: frames of its streams, each with time and place as they are known by then.

It reads what the recorders have put on disk. A frame's time is the arrival of its picture less the delay that its
camera's stream is known to have, or usually has; its place comes from the fixes around it. When the recording is
processed later, the same photos are made anew from all that is known then.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs import Settings
from rig.camera.camerabook import CameraBook
from rig.clock import NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT, GnssClock, UtcClock, best_clock, iso_utc, parse_utc
from rig.errors import NoPositionError
from rig.files import read_lines, write_atomically
from rig.footage import pixels
from rig.footage.decoding import Decoder, PtsClock, early_and_median
from rig.footage.tail import Line, Tail
from rig.footage.transport import PTS_HZ
from rig.gnss.fix import Fix
from rig.gnss.fixfiles import csv_fixes
from rig.gnss.positionlog import CSV_HEADER, CSV_NAME
from rig.gnss.positions import Track
from rig.live.photographer import PhotoStatus
from rig.photo import look, photos
from rig.photo.collection import read_manifest
from rig.photo.locate import Camera, Rule, locate
from rig.photo.photos import Photo
from rig.photo.privacy import PrivacyError
from rig.photo.spacing import Every, Odometer
from rig.photo.tagging import MAKE, cameras_of, finished

POLL_S = 0.2
LOOK_S = 2.0  # between two looks at what else is known: cameras, their delays
BACKLOG_NS = 10 * NS_PER_S  # later than this a photo is given up: the disk or the processor is too slow
PATIENCE_NS = 2 * NS_PER_S  # how long a photo waits for the fix after it
LINES = 400  # pictures of a stream that are remembered
ARRIVALS = 300
FIXES = 1200
OFF_TARGET_NS = 100 * NS_PER_MS  # a frame further from the wanted instant lies beside a gap

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shot:
    """A photo that waits for its place."""

    row: Photo
    jpeg: bytes
    utc_ns: int


class LivePhotos:
    """`run` until it is told to stop; then what has arrived by then becomes photos, too."""

    def __init__(self, recording: Path, every: Every, settings: Settings) -> None:
        self._recording = recording
        self._every = every
        self._settings = settings
        self._fixes = _Fixes(recording / "positions" / CSV_NAME, every, settings)
        self._streams: dict[str, _Stream] = {}
        self._waiting: list[_Shot] = []
        self._album = _Album(recording)
        self._book = CameraBook(settings.output)
        self._look_due_s = 0.0

    @property
    def status(self) -> PhotoStatus:
        """What has come of it."""
        skipped = sum(stream.skipped for stream in [*self._streams.values()])
        return PhotoStatus(self._album.count, skipped)

    def run(self, stopping: threading.Event) -> None:
        """Make photos. Raises NoSpaceError, or OSError of the disk."""
        with ThreadPoolExecutor(4, thread_name_prefix="camera") as pool:
            while True:
                last = stopping.is_set()
                self._look()
                self._fixes.poll()
                clock = self._fixes.clock()
                poll = partial(_Stream.poll, way=self._fixes.wanted, clock=clock)
                shots = pool.map(poll, self._streams.values())
                self._waiting += [shot for found in shots for shot in found]
                self._place(clock, at_once=last)
                if last:
                    break
                stopping.wait(POLL_S)
        self._album.close()

    def _look(self) -> None:
        """Take in cameras that came, and what has been learnt of their delays."""
        if time.monotonic() < self._look_due_s:
            return
        self._look_due_s = time.monotonic() + LOOK_S
        manifest = read_manifest(self._recording)
        cameras = cameras_of(manifest, self._settings)
        self._fixes.known = manifest.clock if manifest else None
        for folder in sorted((self._recording / "videos").glob("*/")):
            stream = self._streams.get(folder.name)
            if stream is None:
                stream = _Stream(folder, self._every, self._settings, self._album.served_ns(folder.name))
                self._streams[folder.name] = stream
            stream.camera = cameras.get(folder.name, stream.camera)
            stream.delay = _delay(self._book, stream.camera.serial, self._settings)

    def _place(self, clock: UtcClock, *, at_once: bool) -> None:
        """Give photos their places and write them, once the fix after them is here or has been waited for."""
        until_ns = max(self._fixes.newest_ns, clock.utc_ns() - PATIENCE_NS)
        ready = [shot for shot in self._waiting if at_once or shot.utc_ns < until_ns]
        if not ready:
            return
        self._waiting = [shot for shot in self._waiting if shot not in ready]
        rows = self._fixes.locate([shot.row for shot in ready])
        self._album.add([row for shot, row in zip(ready, rows, strict=True) if self._write(shot, row)])

    def _write(self, shot: _Shot, row: Photo) -> bool:
        """Write a photo with its tags, unless the privacy command failed on it: then nobody may see it."""
        stream = self._streams[row.camera]
        try:
            self._album.write(row, finished(shot.jpeg, row, stream.camera, self._settings))
        except PrivacyError as error:
            log.warning("%s is left out: %s", row.photo, error)
            stream.skipped += 1
            return False
        return True


class _Fixes:
    """The receiver's log as it grows: the clock, the newest fixes, the instants at which the way asks for photos."""

    def __init__(self, log_file: Path, every: Every, settings: Settings) -> None:
        self.wanted: list[int] | None = [] if every.unit == "m" else None
        self.newest_ns = 0
        self.known: UtcClock | None = None  # from before these fixes
        self._file = log_file
        self._odometer = Odometer(every.step)
        self._settings = settings
        self._fixes: deque[Fix] = deque(maxlen=FIXES)
        self._read_to = 0
        latency_ns = round(settings.receiver_latency_ms * NS_PER_MS)
        self._clock = GnssClock(latency_ns, round(settings.receiver_latency_error_ms * NS_PER_MS))

    def poll(self) -> None:
        """Read what has been written since the last time."""
        with suppress(FileNotFoundError):
            header = [CSV_HEADER.encode()] if self._read_to else []
            lines, self._read_to = read_lines(self._file, self._read_to)
            for fix in csv_fixes(header + lines):
                self._take(fix)

    def clock(self) -> UtcClock:
        """UTC by the receiver where that is better than the operating system's."""
        return best_clock(self._clock.estimate(), self.known and self.known.aged())

    def locate(self, rows: Sequence[Photo]) -> list[Photo]:
        """The rows with their places, as far as fixes are here."""
        try:
            return locate(rows, Track.of_logs([list(self._fixes)]), Rule.of(self._settings))
        except NoPositionError:
            return [replace(row, flags=photos.with_flags(row.flags, ["no-fix-near"])) for row in rows]

    def _take(self, fix: Fix) -> None:
        if fix.utc_ns is None:
            return
        if fix.arrival_monotonic_ns is not None:
            self._clock.observe(fix.arrival_monotonic_ns, fix.utc_ns)
        if fix.latitude is None or fix.longitude is None:
            return
        self._fixes.append(fix)
        self.newest_ns = fix.utc_ns
        if self.wanted is not None:
            self.wanted += self._odometer.feed(fix.utc_ns, fix.latitude, fix.longitude, fix.speed_mps)


class _Stream:
    """The stream of one camera: finds the frame nearest to each wanted instant, and decodes no more than it must."""

    def __init__(self, folder: Path, every: Every, settings: Settings, after_ns: int) -> None:
        self.skipped = 0
        self.camera = Camera(folder.name, MAKE)
        self.delay = (0, 0)  # and its half-width, ns
        self._camera = folder.name
        self._quality = settings.jpeg_quality
        self._step_ns = round(every.step * NS_PER_S)
        self._after_ns = after_ns  # no photo up to then: they have been made already
        self._read = 0  # of the instants that the way asks for
        self._tail = Tail(folder)
        self._lines: deque[Line] = deque(maxlen=LINES)
        self._clock = PtsClock()
        self._lags: deque[int] = deque(maxlen=ARRIVALS)  # arrival less PTS
        self._decoder = Decoder()
        self._decoded: Line | None = None

    def poll(self, way: list[int] | None, clock: UtcClock) -> list[_Shot]:
        """The photos whose frames have come; `way` are the instants asked for, None for each step of time."""
        for line in self._tail.poll():
            if self._clock.take(line):  # a stream that was started anew
                self._lines.clear()
                self._lags.clear()
            self._lines.append(line)
            self._lags.append(line.arrival_monotonic_ns - self._clock.ns(line.pts_90khz))
        if len(self._lines) < 2:
            return []
        lines = list(self._lines)
        early_ns, late_ns = early_and_median(self._lags)
        to_utc_ns = early_ns + clock.offset_ns - self.delay[0]
        utc_ns = np.array([self._clock.ns(line.pts_90khz) + to_utc_ns for line in lines], dtype=np.int64)
        error_ms = math.hypot(self.delay[1], late_ns - early_ns, SIGMAS_IN_99_PERCENT * clock.sigma_ns) / NS_PER_MS
        shots = [self._shoot(lines, utc_ns, wanted, error_ms) for wanted in self._due(utc_ns, way)]
        return [shot for shot in shots if shot is not None]

    def _due(self, utc_ns: Any, way: list[int] | None) -> list[int]:
        """The wanted instants that the stream has passed and that have not been served."""
        first_ns, last_ns = max(int(utc_ns[0]), self._after_ns + 1), int(utc_ns[-2])
        if way is None:
            due = list(range(-(-first_ns // self._step_ns) * self._step_ns, last_ns, self._step_ns))
        else:
            due = [wanted for wanted in way[self._read :] if first_ns <= wanted < last_ns]
            self._read += sum(wanted < last_ns for wanted in way[self._read :])
        fresh = [wanted for wanted in due if wanted >= last_ns - BACKLOG_NS]
        self.skipped += len(due) - len(fresh)
        self._after_ns = max([self._after_ns, *due])
        return fresh

    def _shoot(self, lines: list[Line], utc_ns: Any, wanted_ns: int, error_ms: float) -> _Shot | None:
        number = int(np.argmin(np.abs(utc_ns - wanted_ns)))
        if lines[number] is self._decoded:
            return None  # more are wanted than frames come
        frame, spoilt = self._picture(lines, number)
        if frame is None or abs(int(utc_ns[number]) - wanted_ns) > OFF_TARGET_NS:
            self.skipped += 1
            return None
        utc, line = iso_utc(int(utc_ns[number])), lines[number]
        seen = look.judge(pixels.luma(frame), pixels.is_full_range(frame))
        row = Photo(
            photo=photos.path_of(self._camera, utc),
            camera=self._camera,
            utc=utc,
            time_error_ms=error_ms,
            video=line.segment.name,
            pts_s=line.pts_90khz / PTS_HZ,
            sharpness=seen.sharpness,
            luminance=seen.luminance,
            flags=photos.with_flags("live", [*seen.doubts, *["damaged"] * spoilt]),
        )
        jpeg = look.encode_jpeg(pixels.bgr(frame), self._quality)
        return _Shot(row, jpeg, int(utc_ns[number]))

    def _picture(self, lines: list[Line], number: int) -> tuple[Any, bool]:
        """A decoded frame, None where that is not possible; whether something of it, or of those before, was lost."""
        key = next((at for at in range(number, -1, -1) if lines[at].key), None)
        if key is None:
            return None, False
        group = lines[key : number + 1]
        following = next((at + 1 for at, line in enumerate(group[:-1]) if line == self._decoded), 0)
        frame = None
        for line in group[following:]:
            frame = self._decoder.decode(line, anew=line.key)
        self._decoded = lines[number]
        return frame, any(line.errors for line in group)


class _Album:
    """The photos on disk and their table, to which rows are added; in time order once it is closed."""

    def __init__(self, recording: Path) -> None:
        self._recording = recording
        self._rows = photos.read_table(recording) if (recording / photos.TABLE_NAME).exists() else []
        photos.write_table(recording, self._rows)

    @property
    def count(self) -> int:
        """Photos in the table."""
        return len(self._rows)

    def served_ns(self, camera: str) -> int:
        """Up to when a camera's photos have been made; they are not at the very instants that were wanted."""
        return max((parse_utc(row.utc) + OFF_TARGET_NS for row in self._rows if row.camera == camera), default=0)

    def write(self, row: Photo, jpeg: bytes) -> None:
        """Write a photo. Raises OSError."""
        path = self._recording / row.photo
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, jpeg)

    def add(self, rows: Sequence[Photo]) -> None:
        """Add the rows of photos that are written. Raises OSError."""
        photos.append_rows(self._recording, rows)
        self._rows += rows

    def close(self) -> None:
        """Put the rows in order."""
        photos.write_table(self._recording, self._rows)


def _delay(book: CameraBook, serial: str, settings: Settings) -> tuple[int, int]:
    """The delay of a camera's stream, as it was measured or as it usually is, and its half-width, ns."""
    known = book.delay(serial)
    delay_ms, error_ms = settings.arrival_delay_ms, settings.arrival_delay_error_ms
    if known is not None:
        delay_ms = known.delay_ms
        error_ms = math.hypot(SIGMAS_IN_99_PERCENT * known.sigma_ms, settings.arrival_link_error_ms)
    return round(delay_ms * NS_PER_MS), round(error_ms * NS_PER_MS)
