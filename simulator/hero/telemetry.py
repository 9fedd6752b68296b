"""What a GoPro writes beside its film: GPMF payloads with exposures, motion and GPS, true to the drive."""

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from simulator.hero.models import TRAITS
from simulator.hero.sensor import EXPOSED_NS, Rate
from simulator.screen import EXPOSURE_NS, READ_OUT_NS
from simulator.world import SECOND_NS, Street

STAMP_START_US = 85_608  # what STMP reads at the first frame of a real file
MOTION_HZ = 200
GYRO_SCALE, ACCELEROMETER_SCALE = 939, 417  # of a real file
GYRO_NOISE, GYRO_BIAS = math.radians(0.5), math.radians(0.3)
ACCELEROMETER_NOISE_MPS2, GRAVITY_MPS2 = 0.3, 9.81
TILT = math.radians(7.0)  # of the camera on its mount, about its side axis
DERIVATIVE_NS = 5_000_000
GPS5_NS, GPS9_NS = 55_000_000, 100_000_000  # between samples: some 18 and exactly 10 a second
GPS_SCALES = (10_000_000, 10_000_000, 1000, 1000, 100)
GPS9_SCALES = (*GPS_SCALES, 1, 1000, 100, 1)
GPS_WANDER_M, METRES_PER_DEGREE = 1.2, 111_195.0
GPS5, GPS9 = "GPS5", "GPS9"
FIX_3D, DOP = 3, 1.54
ARRIVAL_S, ARRIVAL_WANDER_S, ARRIVAL_PERIOD_S = 0.11, 0.06, 9.0  # GPSU minus STMP of a real file: 122 ms peak to peak
FIRST_GPSU_OLD_S = 1.5  # that of a real file is of so long before
YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def item(key: str, kind: str, size: int, count: int, data: bytes) -> bytes:
    """An item of GPMF, filled up to whole words."""
    return struct.pack(">4scBH", key.encode(), kind.encode(), size, count) + data + bytes(-len(data) % 4)


def nested(key: str, *items: bytes) -> bytes:
    """An item that holds others; what is longer than 64 KB counts in words."""
    data = b"".join(items)
    size = 1 if len(data) < 1 << 16 else 4
    return item(key, "\0", size, len(data) // size, data)


def text(key: str, content: str) -> bytes:
    """A text, of which GPMF knows only Latin letters."""
    data = content.encode("latin-1")
    return item(key, "c", len(data), 1, data)


def numbers(key: str, kind: str, *values: float) -> bytes:
    """Numbers of one type: `l`, `L`, `s`, `S`, `f` or `J`, as GPMF calls them."""
    packed = struct.pack(">" + {"J": "Q", "S": "H", "s": "h"}.get(kind, kind) * len(values), *values)
    return item(key, kind, len(packed) // len(values), len(values), packed)


@dataclass(frozen=True, slots=True)
class Maker:
    """Which camera writes the file."""

    model: str
    serial: str
    firmware: str
    side: str
    has_gps_on: bool = True

    @property
    def gps(self) -> tuple[str, ...]:
        """How it writes where it is."""
        return TRAITS[self.model].gps if self.has_gps_on else ()

    @property
    def name(self) -> str:
        """As GPMF has it: `Hero11 Black`."""
        return self.model.replace("HERO", "Hero")

    def user_data(self, hilights_ms: Sequence[int]) -> Mapping[bytes, bytes]:
        """The boxes about a video in its `udta`."""
        identity = hashlib.sha256(self.serial.encode()).digest()
        return {
            b"FIRM": self.firmware.encode() + b"\0",
            b"CAME": identity[:16],
            b"MUID": identity,
            b"HMMT": struct.pack(f">{1 + len(hilights_ms)}I", len(hilights_ms), *hilights_ms),
            b"GPMF": self.about(),
        }

    def about(self) -> bytes:
        """The settings of the file, for its header."""
        return nested(
            "DEVC",
            numbers("DVID", "L", 1),
            text("DVNM", "Global Settings"),
            item("VERS", "B", 1, 3, bytes((8, 2, 1))),
            text("FMWR", self.firmware),
            text("CASN", self.serial),
            text("MINF", self.name),
            numbers("SROT", "f", READ_OUT_NS / 1e6),
        )


class Track:
    """The telemetry of one chapter, in payloads of about a second."""

    def __init__(self, telemetry: "Telemetry", rate: Rate) -> None:
        self._telemetry, self._rate = telemetry, rate
        self._starts: list[int] = []
        self._frames = 0
        self._payloads: list[tuple[int, bytes]] = []

    def add(self, middle_utc_ns: int) -> None:
        """A frame, by the mid-exposure of its middle row."""
        start_utc_ns = middle_utc_ns - EXPOSED_NS
        if len(self._starts) == round(self._rate.per_second):
            self._write(start_utc_ns)
        self._starts.append(start_utc_ns)

    def close(self) -> list[tuple[int, bytes]]:
        """The payloads, each with its length in ms."""
        if self._starts:
            self._write(self._starts[-1] + round(self._rate.at_s(1) * SECOND_NS))
        return self._payloads

    def _write(self, until_utc_ns: int) -> None:
        from_ms = round(self._rate.at_s(self._frames) * 1000)
        self._frames += len(self._starts)
        data = self._telemetry.payload(np.array(self._starts, dtype=np.int64), until_utc_ns)
        self._payloads.append((round(self._rate.at_s(self._frames) * 1000) - from_ms, data))
        self._starts = []


class Telemetry:
    """The payloads of one recording, one after another; stamps and counts go on from chapter to chapter."""

    def __init__(self, maker: Maker, street: Street, rate: Rate, begin_utc_ns: int) -> None:
        self._maker, self._street, self._rate = maker, street, rate
        self._dice = np.random.default_rng(begin_utc_ns % (1 << 32))
        self._bias = self._dice.normal(0.0, GYRO_BIAS, 3)
        self._phases = self._dice.uniform(0.0, 2 * math.pi, 2)
        self._frames = self._motions = self._places = 0
        self._epoch = self._first_epoch = -(-begin_utc_ns // self._interval_ns)

    @property
    def _interval_ns(self) -> int:
        return GPS9_NS if GPS9 in self._maker.gps else GPS5_NS

    def payload(self, starts_utc_ns: Integers, until_utc_ns: int) -> bytes:
        """The payload of the frames that begin at these instants; the next one begins at `until_utc_ns`."""
        from_s = self._rate.at_s(self._frames)
        self._frames += len(starts_utc_ns)
        span = _Span(from_s, self._rate.at_s(self._frames), int(starts_utc_ns[0]), until_utc_ns)
        device = (numbers("DVID", "L", 1), text("DVNM", self._maker.name))
        return nested("DEVC", *device, *self._motion(span), self._exposures(span, len(starts_utc_ns)), self._gps(span))

    def _exposures(self, span: "_Span", frames: int) -> bytes:
        head = _head("Exposure time (shutter speed)", span.from_s, self._frames)
        return nested("STRM", *head, text("SIUN", "s"), numbers("SHUT", "f", *[EXPOSURE_NS / SECOND_NS] * frames))

    def _motion(self, span: "_Span") -> tuple[bytes, bytes]:
        times_s = np.arange(self._motions, math.ceil(span.until_s * MOTION_HZ)) / MOTION_HZ
        self._motions += len(times_s)
        turning, forces = self._inertia(span.utc_ns(times_s))
        turning += self._bias + self._dice.normal(0.0, GYRO_NOISE, turning.shape)
        forces += self._dice.normal(0.0, ACCELEROMETER_NOISE_MPS2, forces.shape)
        at_s = float(times_s[0]) if len(times_s) else span.from_s
        return (
            self._axes("ACCL", "Accelerometer", "m/s\xb2", ACCELEROMETER_SCALE, at_s, forces),
            self._axes("GYRO", "Gyroscope", "rad/s", GYRO_SCALE, at_s, turning),
        )

    def _inertia(self, utc_ns: Integers) -> tuple[Floats, Floats]:
        """Turning in rad/s and specific force in m/s2 in the camera's axes z (ahead of the lens), x (left), y (up)."""
        before, after = (self._street.at_many(utc_ns + shift) for shift in (-DERIVATIVE_NS, DERIVATIVE_NS))
        seconds = 2 * DERIVATIVE_NS / SECOND_NS
        speed = (before.speed_mps + after.speed_mps) / 2
        to_the_right = np.radians((after.heading_deg - before.heading_deg + 180) % 360 - 180) / seconds
        ahead = (after.speed_mps - before.speed_mps) / seconds
        looks_right = 1.0 if self._maker.side == "right" else -1.0
        level = looks_right * speed * to_the_right, looks_right * ahead
        nothing = np.zeros_like(speed)
        return _tilted(nothing, nothing, -to_the_right), _tilted(*level, nothing + GRAVITY_MPS2)

    def _axes(self, key: str, name: str, unit: str, scale: int, at_s: float, values: Floats) -> bytes:
        whole = np.clip(np.rint(values * scale), -32768, 32767).astype(">i2")
        head = (*_head(name, at_s, self._motions), text("ORIN", "ZXY"), text("SIUN", unit), numbers("SCAL", "s", scale))
        return nested("STRM", *head, item(key, "s", 6, len(whole), whole.tobytes()))

    def _gps(self, span: "_Span") -> bytes:
        """The samples that arrive within the span; each is of an instant some 0.1 s before."""
        epochs = []
        while self._maker.gps and self._arrival_ns(self._epoch) < span.until_utc_ns:
            epochs.append(self._epoch)
            self._epoch += 1
        if not epochs:
            return b""
        self._places += len(epochs)
        utc_ns = np.array(epochs, dtype=np.int64) * self._interval_ns
        at_s = span.seconds(self._arrival_ns(epochs[0]))
        samples = self._samples(utc_ns)
        writers = {GPS5: self._gps5, GPS9: self._gps9}
        return b"".join(writers[kind](at_s, utc_ns, samples) for kind in self._maker.gps)

    def _arrival_ns(self, epoch: int) -> int:
        utc_ns = epoch * self._interval_ns
        since_s = (epoch - self._first_epoch) * self._interval_ns / SECOND_NS
        wander_s = ARRIVAL_WANDER_S * math.sin(2 * math.pi * since_s / ARRIVAL_PERIOD_S)
        return utc_ns + round((ARRIVAL_S + wander_s) * SECOND_NS)

    def _samples(self, utc_ns: Integers) -> Floats:
        poses = self._street.at_many(utc_ns)
        slow = 2 * math.pi * (utc_ns % (100 * SECOND_NS)) / (100 * SECOND_NS)
        wander_deg = GPS_WANDER_M / METRES_PER_DEGREE * np.sin(slow[:, None] + self._phases)
        latitude = poses.latitude + wander_deg[:, 0]
        longitude = poses.longitude + wander_deg[:, 1] / np.cos(np.radians(poses.latitude))
        return np.column_stack([latitude, longitude, poses.altitude_m, poses.speed_mps, poses.speed_mps])

    def _gps5(self, at_s: float, utc_ns: Integers, samples: Floats) -> bytes:
        first = int(utc_ns[0]) - (round(FIRST_GPSU_OLD_S * SECOND_NS) if self._places == len(utc_ns) else 0)
        moment = datetime.fromtimestamp(first // SECOND_NS, UTC)
        said = f"{moment:%y%m%d%H%M%S}.{first % SECOND_NS // 1_000_000:03d}"
        whole = np.rint(samples * GPS_SCALES).astype(">i4")
        return nested(
            "STRM",
            *_head("GPS (Lat., Long., Alt., 2D speed, 3D speed)", at_s, self._places),
            numbers("GPSF", "L", FIX_3D),
            item("GPSU", "U", 16, 1, said.encode()),
            numbers("GPSP", "S", round(DOP * 100)),
            text("GPSA", "MSLV"),
            numbers("SCAL", "l", *GPS_SCALES),
            item("GPS5", "l", 20, len(whole), whole.tobytes()),
        )

    def _gps9(self, at_s: float, utc_ns: Integers, samples: Floats) -> bytes:
        since_ns = utc_ns - int(YEAR_2000.timestamp()) * SECOND_NS
        days, rest_ns = np.divmod(since_ns, 86_400 * SECOND_NS)
        quality = np.tile([DOP, FIX_3D], (len(utc_ns), 1))
        rows = np.rint(np.column_stack([samples, days, rest_ns / SECOND_NS, quality]) * GPS9_SCALES).astype(np.int64)
        packed = b"".join(struct.pack(">7i2H", *row) for row in rows.tolist())
        return nested(
            "STRM",
            *_head("GPS (Lat., Long., Alt., 2D, 3D, days, secs, DOP, fix)", at_s, self._places),
            text("GPSA", "MSLV"),
            text("TYPE", "lllllllSS"),
            numbers("SCAL", "l", *GPS9_SCALES),
            item("GPS9", "?", 32, len(rows), packed),
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """The time of one payload by the camera's clock and in UTC; a crystal is straight within a second."""

    from_s: float
    until_s: float
    from_utc_ns: int
    until_utc_ns: int

    def utc_ns(self, seconds: Floats) -> Integers:
        share = (seconds - self.from_s) / (self.until_s - self.from_s)
        return self.from_utc_ns + np.rint(share * (self.until_utc_ns - self.from_utc_ns)).astype(np.int64)

    def seconds(self, utc_ns: int) -> float:
        share = (utc_ns - self.from_utc_ns) / (self.until_utc_ns - self.from_utc_ns)
        return self.from_s + share * (self.until_s - self.from_s)


def _head(name: str, at_s: float, samples: int) -> tuple[bytes, ...]:
    """Stamp of the first sample, count of all samples so far, name."""
    stamp = numbers("STMP", "J", STAMP_START_US + round(at_s * 1e6))
    return stamp, numbers("TSMP", "L", samples), text("STNM", name)


def _tilted(ahead: Floats, left: Floats, up: Floats) -> Floats:
    """Level axes as those of a camera that looks down a little."""
    sin, cos = math.sin(TILT), math.cos(TILT)
    return np.column_stack([ahead * cos - up * sin, left, ahead * sin + up * cos])
