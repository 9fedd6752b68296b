"""What a GoPro wrote beside its video: places, the GPS clock, exposures and turning, from the file's GPMF track.

GPMF is a tree of key, type, size and count (github.com/gopro/gpmf-parser). The libraries that read it do not fit:
py-gpmf-parser has no aarch64 wheel, telemetry-parser none for Python 3.13 and no time stamps of payloads, pygpmf and
gopro-overlay want an ffmpeg program.
"""

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import av
import av.error
import av.stream
import numpy as np
import numpy.typing as npt

from rig.clock import NS_PER_MS, NS_PER_S, iso_utc
from rig.errors import UnreadableError
from rig.gnss.fix import Fix

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Stream = dict[str, "Item"]  # the items of one STRM

HEADER = struct.Struct(">4sBBH")
NESTED = 0
NUMBERS = {"b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "j": ">i8", "J": ">u8"}
NUMBERS |= {"f": ">f4", "d": ">f8", "q": ">i4", "Q": ">i8"}
FIXED_POINT = {"q": 2.0**16, "Q": 2.0**32}
KINDS = frozenset([NESTED, *map(ord, NUMBERS), *b"cUFG?"])
COLUMNS = {"GPS5": 5, "GPS9": 9, "GYRO": 3, "ACCL": 3, "SHUT": 1}
HANDLER = "MET"  # "GoPro MET", with its length in front of it in real files
NO_GPMF = "the file came from a camera's card? streams and copies carry none"

LOCKED = 2  # GPSF: 0 is none, 2 in two and 3 in three dimensions
GPS_QUALITY = 1  # as in GGA: a satellite fix without corrections
SEA_LEVEL = b"MSLV"  # GPSA: altitudes are above mean sea level; else above the ellipsoid (the real MAX file says so)
GPS9_EPOCH_NS = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * NS_PER_S
MOST_DAYS, MOST_SECONDS = 36_525, 86_401  # of GPS9; more is damage
DAY_NS = 86_400 * NS_PER_S
STAMP_REACH_NS = 5 * NS_PER_S  # a stamp further from its packet is damaged
RAW_PAYLOAD_NS = 1_001 * NS_PER_MS  # of a GPMF track without its MP4
USUAL_READ_OUT_MS = 15.0  # top to bottom row, where the file does not say; 20.6 on a MAX
RATE_SIGMA = 25e-6  # what is known of a camera's crystal before looking: 50 ppm are two sigmas
WANDER_S = 10.0  # stamps of places wander that slowly (real file): what lies closer together is one observation
OUTLIER_MADS, OUTLIER_FLOOR_NS = 5.0, 20 * NS_PER_MS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One value of the tree; `data` is what is there of `size` x `count` bytes."""

    kind: int
    size: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """One packet of the track, about a second: when it begins on the file's time line, and its streams."""

    pts_ns: int
    duration_ns: int
    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one sensor, with their PTS in the file; `payload` tells which packet each came in."""

    pts_ns: Integers
    values: Floats
    payload: Integers


@dataclass(frozen=True, slots=True)
class Camera:
    """What the file says of the camera; None where it says nothing. Read-out is from the top to the bottom row."""

    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    read_out_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ClockLine:
    """UTC of the GPS as a straight line over PTS; `scatter_ns` is the usual distance of what the GPS said from it."""

    pts_ns: int
    utc_ns: int
    rate_ppm: float
    rate_sigma_ppm: float
    scatter_ns: int
    pairs: int

    def utc_of(self, pts_ns: Integers) -> Integers:
        """UTC in ns since 1970 of instants of the file's time line."""
        drift = np.rint((pts_ns - self.pts_ns) * (self.rate_ppm * 1e-6)).astype(np.int64)
        return np.asarray(pts_ns - self.pts_ns + self.utc_ns + drift, dtype=np.int64)


def items(data: bytes) -> Iterator[tuple[str, Item]]:
    """The items of one level. What is cut off ends it: a nested item keeps its good part, any other is left out.

    Raises UnreadableError where the bytes are no GPMF.
    """
    at = 0
    while at + HEADER.size <= len(data):
        key, kind, size, count = HEADER.unpack_from(data, at)
        if not any(key):
            return  # filled up with zeros
        if kind not in KINDS or not key.isascii() or not key.decode().isprintable():
            raise UnreadableError(f"broken GPMF at byte {at} of an item")
        at += HEADER.size
        body = data[at : at + size * count]
        if len(body) == size * count or kind == NESTED:
            yield key.decode(), Item(kind, size, count, body)
        at += (size * count + 3) // 4 * 4


def numbers(item: Item, layout: str = "") -> Floats:
    """The numbers of an item, one row for each sample; `layout` is the TYPE of a mixed one.

    Raises UnreadableError when they cannot be numbers.
    """
    kinds = layout if chr(item.kind) == "?" else chr(item.kind)
    if not kinds or any(kind not in NUMBERS for kind in kinds):
        raise UnreadableError(f"GPMF numbers of type {kinds!r}")
    columns = max(1, item.size // np.dtype(NUMBERS[kinds]).itemsize) if len(kinds) == 1 else 1
    row = np.dtype([(f"{at}", NUMBERS[kind]) for at, kind in enumerate(kinds * columns)])
    if row.itemsize != item.size or not item.count:
        raise UnreadableError(f"{item.count} GPMF samples of {item.size} bytes where {row.itemsize} are said")
    table = np.frombuffer(item.data, dtype=row)
    with np.errstate(invalid="ignore"):  # a damaged float may be no number at all
        values = np.column_stack([table[name].astype(np.float64) for name in row.names or ()])
    return values / np.array([FIXED_POINT.get(kind, 1.0) for kind in kinds * columns], dtype=np.float64)


def scaled(stream: Stream, key: str) -> Floats:
    """The samples of a stream in its units."""
    values = numbers(stream[key], _text(stream.get("TYPE")))
    if "SCAL" not in stream:
        return values
    scale = numbers(stream["SCAL"]).ravel()
    if len(scale) not in (1, values.shape[1]) or not scale.all():
        raise UnreadableError(f"the scale of GPMF's {key} does not fit")
    return values / scale


def _samples(stream: Stream, key: str) -> Floats:
    """The samples of one payload; none where the damage of a card or a cable hit them."""
    try:
        values = scaled(stream, key)
        if values.shape[1] == COLUMNS[key] and np.isfinite(values).all():
            return values
    except UnreadableError as error:
        log.warning("%s of one payload left out: %s", key, error)
    return np.empty((0, COLUMNS[key]))


def _number(stream: Stream, key: str) -> float | None:
    """The first number of an item, None where there is none."""
    try:
        value = float(numbers(stream[key])[0, 0])
    except (KeyError, UnreadableError):
        return None
    return value if math.isfinite(value) else None


def _text(item: Item | None) -> str:
    return "" if item is None else item.data.rstrip(b"\0").decode("latin-1")


def _streams(data: bytes) -> Iterator[Stream]:
    for name, device in items(data):
        for key, item in items(device.data) if name == "DEVC" else ():
            if key == "STRM":
                stream = dict(items(item.data))
                if any(wanted in stream for wanted in COLUMNS):
                    yield stream


def _payload(pts_ns: int, duration_ns: int, data: bytes) -> Payload:
    streams: list[Stream] = []
    try:
        for stream in _streams(data):
            streams.append(stream)  # noqa: PERF402 -- what came before the damage is kept
    except UnreadableError as error:
        log.warning("the telemetry at %.1f s is damaged (%s)", pts_ns / NS_PER_S, error)
    return Payload(pts_ns, duration_ns, tuple(streams))


def _packets(path: Path) -> Iterator[tuple[int, int, bytes]]:
    with path.open("rb") as file:
        if file.read(4) == b"DEVC":  # a track that was taken out of its file
            yield from _raw_packets(path.read_bytes())
            return
    with av.open(str(path)) as container:
        tracks = [track for track in container.streams.data if HANDLER in track.metadata.get("handler_name", "")]
        tracks = tracks or list(container.streams.data)
        for track in container.streams:
            if track not in tracks:
                track.discard = av.stream.Discard.all  # else the whole film is read
        # A film that was cut short ends in an error, after all that can be read.
        with suppress(av.error.FFmpegError):
            for packet in container.demux(tracks) if tracks else ():
                data = bytes(packet)
                if data[:4] == b"DEVC" and packet.pts is not None and packet.time_base is not None:
                    tick_ns = packet.time_base * NS_PER_S
                    yield round(packet.pts * tick_ns), round((packet.duration or 0) * tick_ns), data


def _raw_packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    for index, (_, device) in enumerate(items(data)):
        whole = HEADER.pack(b"DEVC", device.kind, device.size, device.count) + device.data
        yield index * RAW_PAYLOAD_NS, RAW_PAYLOAD_NS, whole


class Telemetry:
    """The GPMF track of one file, read once. Raises UnreadableError for a file that has none.

    Stamps tell when a frame begins; this house dates frames by the mid-exposure of their middle row. `clock` and `gyro`
    are on the PTS of frames dated so, `series` is on that of the stamps.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.payloads = [_payload(*packet) for packet in _packets(path)]
        except (OSError, av.error.FFmpegError) as error:
            raise UnreadableError(f"{path} cannot be read ({error})") from error
        if not any(payload.streams for payload in self.payloads):
            raise UnreadableError(f"{path} holds no readable GPMF telemetry", cure=NO_GPMF)
        self._zero_ns = self._stamp_zero_ns()
        self.camera = read_camera(path)
        self._middle_ns = self._frame_middle_ns()

    def series(self, key: str) -> Series | None:
        """All samples of one kind, None when there are none."""
        parts = [(index, stream, rows) for index, stream in self._all(key) if len(rows := _samples(stream, key))]
        if not parts:
            return None
        indices, streams, values = zip(*parts, strict=True)
        counts = np.array([len(rows) for rows in values])
        begins = [self._begin_ns(index, stream) for index, stream in zip(indices, streams, strict=True)]
        follows = np.append(np.diff(indices) == 1, False)
        pts_ns = _spread(np.array(begins), counts, follows, self.payloads[indices[-1]].duration_ns)
        return Series(pts_ns, np.concatenate(values), np.repeat(indices, counts))

    def _all(self, key: str) -> Iterator[tuple[int, Stream]]:
        for index, payload in enumerate(self.payloads):
            stream = next((stream for stream in payload.streams if key in stream), None)
            if stream is not None:
                yield index, stream

    def _stamp_zero_ns(self) -> int | None:
        """What STMP reads at PTS 0: exposures are stamped at the start of their frame. None without stamps."""
        stamps = [(self.payloads[index].pts_ns, _stamp_ns(stream)) for index, stream in self._all("SHUT")]
        zeros = [stamp_ns - pts_ns for pts_ns, stamp_ns in stamps if stamp_ns is not None]
        return round(float(np.median(zeros))) if zeros else None

    def _begin_ns(self, index: int, stream: Stream) -> int:
        pts_ns, stamp_ns = self.payloads[index].pts_ns, _stamp_ns(stream)
        if self._zero_ns is None or stamp_ns is None or abs(stamp_ns - self._zero_ns - pts_ns) > STAMP_REACH_NS:
            return pts_ns
        return stamp_ns - self._zero_ns

    def _frame_middle_ns(self) -> int:
        """From the start of a frame to the mid-exposure of its middle row."""
        exposures = self.series("SHUT")
        exposure_ms = 0.0 if exposures is None else float(np.median(exposures.values)) * 1000
        read_out_ms = self.camera.read_out_ms or USUAL_READ_OUT_MS
        return round((exposure_ms + read_out_ms) / 2 * NS_PER_MS)

    def clock(self) -> list[tuple[int, int]]:
        """(pts_ns, utc_ns) wherever the GPS says the time; what comes first after no fix is never trusted.

        A sample is stamped when it reaches the camera, some 0.1 s after its own time: UTC from here is too early by it.
        """
        return [(pts_ns - self._middle_ns, utc_ns) for pts_ns, utc_ns in self._stamped_clock()]

    def gyro(self) -> Series | None:
        """Turning about the camera's three axes in rad/s, None when there is none."""
        series = self.series("GYRO")
        return None if series is None else replace(series, pts_ns=series.pts_ns - self._middle_ns)

    def _stamped_clock(self) -> list[tuple[int, int]]:
        return self._clock9() or self._clock5()

    def _clock5(self) -> list[tuple[int, int]]:
        series = self.series("GPS5")
        if series is None:
            return []
        first = {int(index): int(at) for index, at in zip(*np.unique(series.payload, return_index=True), strict=True)}
        said = {index: _gpsu_ns(stream) for index, stream in self._all("GPS5") if index in first and _is_locked(stream)}
        pairs = [(int(series.pts_ns[first[index]]), utc_ns) for index, utc_ns in said.items() if index - 1 in said]
        return [(pts_ns, utc_ns) for pts_ns, utc_ns in pairs if utc_ns is not None]

    def _clock9(self) -> list[tuple[int, int]]:
        series = self.series("GPS9")
        if series is None:
            return []
        locked = (series.values[:, 8] >= LOCKED) & _has_date(series.values)
        unlocked = set(series.payload[~locked].tolist())
        trusted = [index > 0 and not {index, index - 1} & unlocked for index in series.payload.tolist()]
        return list(zip(series.pts_ns[trusted].tolist(), _gps9_ns(series.values[trusted]).tolist(), strict=True))

    def fixes(self) -> list[Fix]:
        """One fix for each sample of the GPS, without a position where it had no fix.

        GPS9 says the time of each sample. GPS5 does not: they are on the line through the GPS clock, and without UTC
        where there is no such line.
        """
        gps9 = self.series("GPS9")
        return self._fixes9(gps9) if gps9 is not None else self._fixes5()

    def _fixes9(self, series: Series) -> list[Fix]:
        altitudes = [_text(stream.get("GPSA")).encode() for _, stream in self._all("GPS9")]
        is_sea_level = SEA_LEVEL in altitudes
        return [
            _fix(row, int(utc_ns) if dated else None, row[8] >= LOCKED, float(row[7]), is_sea_level, "gps9")
            for row, utc_ns, dated in zip(series.values, _gps9_ns(series.values), _has_date(series.values), strict=True)
        ]

    def _fixes5(self) -> list[Fix]:
        series = self.series("GPS5")
        if series is None:
            return []
        line = clock_line(self._stamped_clock())
        times = [None] * len(series.pts_ns) if line is None else line.utc_of(series.pts_ns).tolist()
        streams = dict(self._all("GPS5"))
        fixes = []
        for row, utc_ns, payload in zip(series.values, times, series.payload.tolist(), strict=True):
            stream = streams[payload]
            precision = _number(stream, "GPSP")
            dop = None if precision is None else precision / 100
            is_sea_level = _text(stream.get("GPSA")).encode() == SEA_LEVEL
            fixes.append(_fix(row, utc_ns, _is_locked(stream), dop, is_sea_level, "gps5"))
        return fixes


def _stamp_ns(stream: Stream) -> int | None:
    stamp_us = _number(stream, "STMP")
    return None if stamp_us is None else int(stamp_us) * 1000


def _spread(begins_ns: Integers, counts: Integers, follows: npt.NDArray[np.bool_], last_ns: int) -> Integers:
    """PTS of samples that lie evenly between the first of their payload and the first of the next.

    Where no payload `follows` at once, they lie as close as they usually do; those of a single one take `last_ns`.
    """
    steps_ns = np.append(np.diff(begins_ns), last_ns) / counts
    known = steps_ns[follows] if follows.any() else steps_ns
    steps_ns = np.where(follows, steps_ns, np.median(known))
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(begins_ns, counts) + np.rint(within * np.repeat(steps_ns, counts)), dtype=np.int64)


def _is_locked(stream: Stream) -> bool:
    return (_number(stream, "GPSF") or 0) >= LOCKED


def _gpsu_ns(stream: Stream) -> int | None:
    """UTC of a GPSU, `yymmddhhmmss.sss`; None when it is no date."""
    text = _text(stream.get("GPSU"))
    try:
        whole = datetime.strptime(text[:12], "%y%m%d%H%M%S").replace(tzinfo=UTC)
        return int(whole.timestamp()) * NS_PER_S + round(float(text[12:] or 0) * NS_PER_S)
    except ValueError:
        return None


def _has_date(values: Floats) -> npt.NDArray[np.bool_]:
    days, seconds = values[:, 5], values[:, 6]
    return (days >= 0) & (days <= MOST_DAYS) & (seconds >= 0) & (seconds <= MOST_SECONDS)


def _gps9_ns(values: Floats) -> Integers:
    days, milliseconds = values[:, 5].astype(np.int64), np.rint(values[:, 6] * 1000).astype(np.int64)
    return np.asarray(GPS9_EPOCH_NS + days * DAY_NS + milliseconds * NS_PER_MS, dtype=np.int64)


def _fix(row: Floats, utc_ns: int | None, locked: bool, dop: float | None, is_sea_level: bool, source: str) -> Fix:
    """A sample as an epoch. The one DOP that GPMF has stands for the horizontal one, which is never larger."""
    latitude, longitude, altitude_m, speed_mps = (float(value) for value in row[:4])
    utc = None if utc_ns is None else iso_utc(utc_ns)
    if not locked or abs(latitude) > 90 or abs(longitude) > 180:
        return Fix(utc=utc, utc_ns=utc_ns, quality=0, flags=(source,))
    return Fix(
        utc=utc,
        utc_ns=utc_ns,
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude_m if is_sea_level else None,
        ellipsoid_height_m=None if is_sea_level else altitude_m,
        quality=GPS_QUALITY,
        hdop=dop,
        speed_mps=speed_mps,
        flags=(source,),
    )


def clock_line(pairs: Sequence[tuple[int, int]]) -> ClockLine | None:
    """The straight line through what the GPS said, None without pairs.

    The rate is held to what crystals do as long as the pairs, which wander by 0.1 s, say little about it.
    """
    if not pairs:
        return None
    pts, utc = np.array(pairs, dtype=np.int64).T
    offsets = utc - pts
    base = int(np.median(offsets))
    rest = (offsets - base).astype(np.float64)
    kept = np.abs(rest) <= max(OUTLIER_MADS * float(np.median(np.abs(rest))), OUTLIER_FLOOR_NS)
    kept |= ~kept.any()
    middle = int(pts[kept].mean())
    x, y = (pts[kept] - middle).astype(np.float64), rest[kept]
    scatter = max(float(y.std()), NS_PER_MS)
    independent = min(1.0, float(np.ptp(x)) / NS_PER_S / WANDER_S / len(x))
    information = independent * float((x * x).sum()) / scatter**2
    rate = independent * float((x * y).sum()) / scatter**2 / (information + RATE_SIGMA**-2)
    rate_sigma = (information + RATE_SIGMA**-2) ** -0.5
    utc_ns = middle + base + round(float(y.mean()))
    scatter_ns = round(float((y - rate * x).std()))
    return ClockLine(middle, utc_ns, rate * 1e6, rate_sigma * 1e6, scatter_ns, int(kept.sum()))


def read_fixes(path: Path) -> list[Fix]:
    """The fixes of a file's own GPS, in their order. Raises UnreadableError for a file without GPMF."""
    return Telemetry(path).fixes()


def read_clock(path: Path) -> list[tuple[int, int]]:
    """(pts_ns, utc_ns) of the file's own GPS clock as `Telemetry.clock` has them; empty without one.

    Raises UnreadableError for a file without GPMF.
    """
    return Telemetry(path).clock()


def read_camera(path: Path) -> Camera:
    """What the file's header says of the camera. Raises UnreadableError for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            header = read_box(file, ("moov", "udta", "GPMF"))
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({error.strerror})") from error
    found: Stream = {}
    with suppress(UnreadableError):
        for _, device in items(header):
            found |= dict(items(device.data))
    read_out = _number(found, "SROT")
    return Camera(
        model=_text(found.get("MINF")) or None,
        serial=_text(found.get("CASN")) or None,
        firmware=_text(found.get("FMWR")) or None,
        read_out_ms=None if read_out is None else round(read_out, 3),
    )


def read_box(file: BinaryIO, names: Sequence[str]) -> bytes:
    """The content of a box inside boxes of an MP4, empty when it is not there."""
    end = file.seek(0, 2)
    file.seek(0)
    for name in names:
        while True:
            start = file.tell()
            header = file.read(8)
            if len(header) < 8 or start >= end:
                return b""
            size, kind = struct.unpack(">I4s", header)
            if size == 1:
                size = int.from_bytes(file.read(8))
            if kind == name.encode():
                end = start + size if size else end
                break
            if size < 8:
                return b""
            file.seek(start + size)
    return file.read(end - file.tell())
