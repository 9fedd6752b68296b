"""What a shutter does: a video in chapters, a photo, or a series of them, written on the card."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from simulator.hero.boxes import append_telemetry, fill_up
from simulator.hero.encoder import H264, Mp4
from simulator.hero.exif import Shot, with_tags
from simulator.hero.media import (
    CHAPTERED_VIDEO,
    LAPSE_PHOTO,
    LAPSE_VIDEO,
    PHOTO,
    THUMBNAIL,
    VIDEO,
    Card,
    MediaFile,
    Names,
    write_jpeg,
)
from simulator.hero.models import TRAITS
from simulator.hero.rtc import Rtc, as_datetime
from simulator.hero.sensor import SECOND_NS, Exposure, Rate, Sensor, Shutter, Size
from simulator.hero.telemetry import Maker, Telemetry, Track

SHUTTER_DELAY_S = 0.132  # from the command to the first frame, one user's measurement (OpenGoPro issue 212)
ENCODING_AFTER_STOP_S = 0.2
CLOSING_S = 0.3  # at least; while the camera is busy with closing the file
PHOTO_ENCODING_S = 0.6  # GoPro's SDK waits for ever when it never sees it
DAY_S = 86_400
SMALL_BIT_RATE, SMALL_STEP = 500_000, 4  # of the LRV: every fourth pixel


@dataclass(frozen=True, slots=True)
class Plan:
    """How is recorded. `interval` is the rate of a time lapse, which is shown at `rate`."""

    maker: Maker
    size: Size
    rate: Rate
    bit_rate: int
    chapter_bytes: int
    filled_up_to_bytes: int = 0
    interval: Rate | None = None
    codec: str = H264

    @property
    def exposures(self) -> Rate:
        """Pictures per second of real time."""
        return self.interval or self.rate


class Capture(ABC):
    """One press of the shutter, in a thread of its own."""

    def __init__(self, sensor: Sensor, card: Card, rtc: Rtc, plan: Plan) -> None:
        self.shutter = Shutter()
        self._sensor, self._card, self._rtc, self._plan = sensor, card, rtc, plan
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

    def _shots(self) -> Iterator[Exposure]:
        return self._sensor.expose(self._plan.exposures, self._plan.size, self.shutter, SHUTTER_DELAY_S)

    def _store_photo(self, shot: Exposure, names: Names, content: int, group: int | None = None) -> None:
        plan, local_ns = self._plan, self._rtc.local_ns(shot.utc_ns)
        place = self._sensor.street.at(shot.utc_ns) if plan.maker.gps else None
        about = Shot(local_ns, shot.utc_ns, place, names.path, plan.size.width, plan.size.height)
        data, gpmf = with_tags(write_jpeg(shot.picture.to_ndarray(format="bgr24")), about, plan.maker)
        self._card.on_disk(names).write_bytes(data)
        self._sensor.truth.add(shot.number, names.file, 0, shot.utc_ns)
        created_s = local_ns // SECOND_NS
        self._card.add(MediaFile(names, content, created_s, plan.size, len(data), group=group, telemetry=gpmf))

    @abstractmethod
    def _run(self) -> None: ...


class Photo(Capture):
    """A single photo; its shutter closes by itself."""

    def _run(self) -> None:
        shot = next(self._shots(), None)
        if shot is not None:
            self._store_photo(shot, self._card.next_photo(), PHOTO)
        self.shutter.wait_until(self._began_monotonic_ns + round(PHOTO_ENCODING_S * SECOND_NS))
        self.shutter.close()


class PhotoLapse(Capture):
    """A photo each interval until the shutter is closed: one group of files."""

    def _run(self) -> None:
        group = self._card.next_group()
        for shot in self._shots():
            self._store_photo(shot, self._card.next_photo(group), LAPSE_PHOTO, group)


class Video(Capture):
    """A video until the shutter is closed, with a new file whenever one is full."""

    def __init__(self, sensor: Sensor, card: Card, rtc: Rtc, plan: Plan) -> None:
        super().__init__(sensor, card, rtc, plan)
        self._traits = TRAITS[plan.maker.model]
        self._number = card.next_number()
        self._created_local_s = rtc.local_s(self._began_utc_ns)
        self._created_utc_s = rtc.utc_s(self._began_utc_ns) if self._traits.writes_utc else self._created_local_s
        self._hilights_ms: list[int] = []
        self._frames = 0
        self._telemetry = Telemetry(plan.maker, sensor.street, plan.rate, self._began_utc_ns)

    @property
    def hilights_ms(self) -> tuple[int, ...]:
        """From the beginning."""
        return tuple(self._hilights_ms)

    def mark(self) -> None:
        """A hilight, now."""
        self._hilights_ms.append(round(self.elapsed_s * 1000))

    def _run(self) -> None:
        shots = self._shots()
        shot = next(shots, None)
        chapter = 1
        while shot is not None:
            shot = self._write_chapter(chapter, shot, shots)
            chapter += 1

    def _write_chapter(self, chapter: int, shot: Exposure | None, shots: Iterator[Exposure]) -> Exposure | None:
        """Write one chapter and what belongs to it; the frame that begins the next, None when the shutter is closed."""
        assert shot is not None
        plan = self._plan
        names = self._card.video(self._traits.file_letter, chapter, self._number)
        path, small_path = self._card.on_disk(names), self._card.on_disk(names.low_resolution)
        self._card.on_disk(names.thumbnail).write_bytes(_thumbnail(shot))
        track = Track(self._telemetry, plan.rate)
        with ExitStack() as files:
            file = files.enter_context(self._open(path, plan.size, plan.bit_rate, plan.codec))
            small = files.enter_context(self._open(small_path, _smaller(plan.size), SMALL_BIT_RATE, H264))
            while shot is not None and not (file.next_is_key and file.bytes_written >= plan.chapter_bytes):
                self._sensor.truth.add(shot.number, names.file, file.add(shot.picture), shot.utc_ns)
                small.add(_shrink(shot))
                track.add(shot.utc_ns)
                shot = next(shots, None)
        self._frames += file.frames
        payloads = track.close() if plan.interval is None else []
        telemetry = append_telemetry(path, payloads, plan.maker.user_data(self._hilights_ms))
        fill_up(path, plan.filled_up_to_bytes)
        whole = VIDEO if plan.interval is None else LAPSE_VIDEO
        media = MediaFile(
            names,
            whole if chapter == 1 and shot is None else CHAPTERED_VIDEO,
            self._created_local_s,
            plan.size,
            path.stat().st_size,
            rate=plan.rate,
            frames=file.frames,
            low_resolution_bytes=small_path.stat().st_size,
            telemetry=telemetry,
            hilights_ms=self._hilights_ms,
        )
        self._card.add(media)
        return shot

    def _open(self, path: Path, size: Size, bit_rate: int, codec: str) -> Mp4:
        created = as_datetime(self._created_utc_s).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        return Mp4(path, size, self._plan.rate, bit_rate, created, self._timecode(), codec)

    def _timecode(self) -> str:
        """Of the next frame: counted from midnight by the camera's clock, in local time."""
        rate = self._plan.rate
        since_midnight = round(self._created_local_s % DAY_S * rate.per_second) + self._frames
        return timecode(since_midnight, rate, self._traits.drops_frames)


def _smaller(size: Size) -> Size:
    return Size(size.width // SMALL_STEP // 2 * 2, size.height // SMALL_STEP // 2 * 2)


def _shrink(shot: Exposure) -> av.VideoFrame:
    """Every fourth pixel of each plane: coarse, but it costs next to nothing."""
    picture = shot.picture
    size = _smaller(Size(picture.width, picture.height))
    small = av.VideoFrame(size.width, size.height, "yuv420p")
    small.colorspace, small.color_range = picture.colorspace, picture.color_range
    for plane, source in zip(small.planes, picture.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        full = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)
        rows[:] = full[::SMALL_STEP, : source.width : SMALL_STEP][: plane.height, : plane.width]
    return small


def _thumbnail(shot: Exposure) -> bytes:
    image = _shrink(shot).to_ndarray(format="bgr24")
    return write_jpeg(cv2.resize(image, (THUMBNAIL.width, THUMBNAIL.height), interpolation=cv2.INTER_AREA))


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
