"""What a shutter does: a video in chapters, or a photo, written on the card."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.hero.boxes import append_telemetry, fill_up
from simulator.hero.encoder import Mp4
from simulator.hero.media import CHAPTERED_VIDEO, PHOTO, VIDEO, Card, MediaFile, write_jpeg
from simulator.hero.rtc import Rtc, as_datetime
from simulator.hero.sensor import SECOND_NS, Exposure, Rate, Sensor, Shutter, Size
from simulator.hero.telemetry import Maker, Telemetry, Track

SHUTTER_DELAY_S = 0.132  # from the command to the first frame, one user's measurement (OpenGoPro issue 212)
ENCODING_AFTER_STOP_S = 0.2
CLOSING_S = 0.3  # at least; while the camera is busy with closing the file
PHOTO_ENCODING_S = 0.6  # GoPro's SDK waits for ever when it never sees it
DAY_S = 86_400
FIRST_WITH_DROP_FRAME = 12  # HERO10 counts on, HERO12 leaves numbers out (github.com/gopro/labs/issues/1284)


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """How a video is recorded. Older models write local time where UTC belongs (OpenGoPro issue 585)."""

    size: Size
    rate: Rate
    bit_rate: int
    chapter_bytes: int
    dates_are_utc: bool
    filled_up_to_bytes: int
    maker: Maker


class Capture(ABC):
    """One press of the shutter, in a thread of its own."""

    def __init__(self, sensor: Sensor, card: Card, rtc: Rtc) -> None:
        self.shutter = Shutter()
        self._sensor, self._card, self._rtc = sensor, card, rtc
        self._number = card.begin()
        self._began_monotonic_ns = time.monotonic_ns()
        self._began_utc_ns = sensor.world.utc_ns(self._began_monotonic_ns)
        self._thread = threading.Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)

    def start(self) -> None:
        """Begin a moment from now."""
        self._thread.start()

    def stop(self) -> None:
        """Close the shutter; the file is closed a little later."""
        self.shutter.close()

    def join(self) -> None:
        """Wait until the file is closed."""
        self._thread.join()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command."""
        return (time.monotonic_ns() - self._began_monotonic_ns) / SECOND_NS

    @property
    def is_encoding(self) -> bool:
        """Status 10: it lasts a little longer than the command to stop."""
        return self._since_closed_s < ENCODING_AFTER_STOP_S

    @property
    def is_busy(self) -> bool:
        """Status 8: whether the file is being closed."""
        settled = self._since_closed_s >= ENCODING_AFTER_STOP_S + CLOSING_S and not self._thread.is_alive()
        return not settled and not self.is_encoding

    @property
    def _since_closed_s(self) -> float:
        closed_ns = self.shutter.closed_at_ns
        return -1.0 if closed_ns is None else (time.monotonic_ns() - closed_ns) / SECOND_NS

    @abstractmethod
    def _run(self) -> None: ...


class Photo(Capture):
    """A single photo; its shutter closes by itself."""

    def __init__(self, sensor: Sensor, card: Card, rtc: Rtc, size: Size, rate: Rate) -> None:
        super().__init__(sensor, card, rtc)
        self._size, self._rate = size, rate

    def _run(self) -> None:
        shot = next(self._sensor.expose(self._rate, self._size, self.shutter, SHUTTER_DELAY_S), None)
        if shot is not None:
            self._store(shot)
        self.shutter.wait_until(self._began_monotonic_ns + round(PHOTO_ENCODING_S * SECOND_NS))
        self.shutter.close()

    def _store(self, shot: Exposure) -> None:
        directory, name = self._card.place(self._number, None)
        data = write_jpeg(shot.picture.to_ndarray(format="bgr24"))
        self._card.on_disk(directory, name).write_bytes(data)
        self._sensor.truth.add(shot.number, name, 0, shot.utc_ns)
        created_s = self._rtc.local_s(shot.utc_ns)
        self._card.add(MediaFile(directory, name, PHOTO, created_s, self._size, len(data)))


class Video(Capture):
    """A video until the shutter is closed, with a new file whenever one is full."""

    def __init__(self, sensor: Sensor, card: Card, rtc: Rtc, plan: VideoPlan) -> None:
        super().__init__(sensor, card, rtc)
        self._plan = plan
        self._created_local_s = rtc.local_s(self._began_utc_ns)
        self._created_utc_s = rtc.utc_s(self._began_utc_ns) if plan.dates_are_utc else self._created_local_s
        self._hilights_ms: list[int] = []
        self._frames = 0
        self._telemetry = Telemetry(plan.maker, sensor.street, plan.rate, self._began_utc_ns)

    def mark(self) -> None:
        """A hilight, now."""
        self._hilights_ms.append(round(self.elapsed_s * 1000))

    def _run(self) -> None:
        shots = self._sensor.expose(self._plan.rate, self._plan.size, self.shutter, SHUTTER_DELAY_S)
        shot = next(shots, None)
        chapter = 1
        while shot is not None:
            shot = self._write_chapter(chapter, shot, shots)
            chapter += 1

    def _write_chapter(self, chapter: int, shot: Exposure | None, shots: Iterator[Exposure]) -> Exposure | None:
        """Write one file; the frame that begins the next one, None when the shutter is closed."""
        plan = self._plan
        directory, name = self._card.place(self._number, chapter)
        path = self._card.on_disk(directory, name)
        created = as_datetime(self._created_utc_s).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        track = Track(self._telemetry, plan.rate)
        with Mp4(path, plan.size, plan.rate, plan.bit_rate, created, self._timecode()) as file:
            while shot is not None and not (file.next_is_key and file.bytes_written >= plan.chapter_bytes):
                self._sensor.truth.add(shot.number, name, file.add(shot.picture), shot.utc_ns)
                track.add(shot.utc_ns)
                shot = next(shots, None)
        append_telemetry(path, track.close(), plan.maker.about())
        fill_up(path, plan.filled_up_to_bytes)
        self._frames += file.frames
        content = VIDEO if chapter == 1 and shot is None else CHAPTERED_VIDEO
        self._card.add(
            MediaFile(
                directory,
                name,
                content,
                self._created_local_s,
                plan.size,
                path.stat().st_size,
                plan.rate,
                file.frames,
                self._hilights_ms,
            )
        )
        return shot

    def _timecode(self) -> str:
        """Of the next frame: counted from midnight by the camera's clock, in local time."""
        rate = self._plan.rate
        since_midnight = round(self._created_local_s % DAY_S * rate.per_second) + self._frames
        return timecode(since_midnight, rate, self._plan.maker.generation >= FIRST_WITH_DROP_FRAME)


def timecode(frame: int, rate: Rate, may_drop: bool) -> str:
    """SMPTE 12M of a number of frames since midnight; drop-frame skips numbers where 30 or 60 are a little less."""
    nominal = round(rate.per_second)
    drops = may_drop and rate.denominator != 1 and nominal % 30 == 0
    skipped = nominal // 15 if drops else 0  # of the first numbers of each minute, but not of each tenth
    per_minute, per_ten = 60 * nominal - skipped, 600 * nominal - 9 * skipped
    tens, rest = divmod(frame, per_ten)
    frame += skipped * (9 * tens + max(0, (rest - skipped) // per_minute))
    seconds, frames = divmod(frame, nominal)
    minutes, hours = seconds // 60 % 60, seconds // 3600 % 24
    return f"{hours:02d}:{minutes:02d}:{seconds % 60:02d}{';' if drops else ':'}{frames:02d}"
