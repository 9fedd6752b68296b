"""What a GoPro wrote beside its video: places, the GPS clock, exposures and turning, from the file's GPMF track."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rig.arrays import Float64, Int64, Mask
from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, iso_utc, parse_utc
from rig.errors import UnreadableError
from rig.gnss.fix import Fix
from rig.gnss.gpmftree import Stream, items, number, read_box, read_payloads, samples, text_of

NO_GPMF = "the file came from a camera's card? streams and copies carry none"

LOCKED = 2  # GPSF: 0 is none, 2 in two and 3 in three dimensions
GPS_QUALITY = 1  # as in GGA: a satellite fix without corrections
SEA_LEVEL = "MSLV"  # GPSA: altitudes are above mean sea level; else above the ellipsoid (the real MAX file says so)
GPS9_EPOCH_NS = parse_utc("2000-01-01T00:00:00Z")
MOST_DAYS, MOST_SECONDS = 36_525, 86_401  # of GPS9; more is damage
STAMP_REACH_NS = 5 * NS_PER_S  # a stamp further from its packet is damaged
USUAL_READ_OUT_MS = 15.0  # top to bottom row, where the file does not say; 20.6 on a MAX
RATE_SIGMA = 25e-6  # what is known of a camera's crystal before looking: 50 ppm are two sigmas
WANDER_S = 10.0  # stamps of places wander that slowly (real file): what lies closer together is one observation
OUTLIER_MADS, OUTLIER_FLOOR_NS = 5.0, 20 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one sensor, with their PTS in the file; `payload` tells which packet each came in."""

    pts_ns: Int64
    values: Float64
    payload: Int64


@dataclass(frozen=True, slots=True)
class Camera:
    """What the file says of the camera; None where it says nothing. Read-out is from the top to the bottom row."""

    model: str | None = None
    serial: str | None = None
    read_out_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ClockLine:
    """UTC of the GPS as a straight line over PTS; `scatter_ns` is the usual distance of what the GPS said from it."""

    pts_ns: int
    utc_ns: int
    rate_ppm: float
    rate_sigma_ppm: float
    scatter_ns: int

    def utc_of(self, pts_ns: Int64) -> Int64:
        """UTC in ns since 1970 of instants of the file's time line."""
        drift = np.rint((pts_ns - self.pts_ns) * (self.rate_ppm * 1e-6)).astype(np.int64)
        return np.asarray(pts_ns - self.pts_ns + self.utc_ns + drift, dtype=np.int64)


class Telemetry:
    """The GPMF track of one file, read once. Raises UnreadableError for a file that has none.

    Stamps tell when a frame begins; this house dates frames by the mid-exposure of their middle row. `clock` and `gyro`
    are on the PTS of frames dated so, `series` is on that of the stamps.
    """

    def __init__(self, path: Path) -> None:
        self.payloads = read_payloads(path)
        if not any(payload.streams for payload in self.payloads):
            raise UnreadableError(f"{path} holds no readable GPMF telemetry", cure=NO_GPMF)
        self._zero_ns = self._stamp_zero_ns()
        self.camera = read_camera(path)
        self._middle_ns = self._frame_middle_ns()

    def series(self, key: str) -> Series | None:
        """All samples of one kind, None when there are none."""
        parts = [(index, stream, rows) for index, stream in self._all(key) if len(rows := samples(stream, key))]
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
        is_sea_level = any(text_of(stream.get("GPSA")) == SEA_LEVEL for _, stream in self._all("GPS9"))
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
            precision = number(stream, "GPSP")
            dop = None if precision is None else precision / 100
            is_sea_level = text_of(stream.get("GPSA")) == SEA_LEVEL
            fixes.append(_fix(row, utc_ns, _is_locked(stream), dop, is_sea_level, "gps5"))
        return fixes


def _stamp_ns(stream: Stream) -> int | None:
    stamp_us = number(stream, "STMP")
    return None if stamp_us is None else int(stamp_us) * 1000


def _spread(begins_ns: Int64, counts: Int64, follows: Mask, last_ns: int) -> Int64:
    """PTS of samples that lie evenly between the first of their payload and the first of the next.

    Where no payload `follows` at once, they lie as close as they usually do; those of a single one take `last_ns`.
    """
    steps_ns = np.append(np.diff(begins_ns), last_ns) / counts
    known = steps_ns[follows] if follows.any() else steps_ns
    steps_ns = np.where(follows, steps_ns, np.median(known))
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(begins_ns, counts) + np.rint(within * np.repeat(steps_ns, counts)), dtype=np.int64)


def _is_locked(stream: Stream) -> bool:
    return (number(stream, "GPSF") or 0) >= LOCKED


def _gpsu_ns(stream: Stream) -> int | None:
    """UTC of a GPSU, `yymmddhhmmss.sss`; None when it is no date."""
    text = text_of(stream.get("GPSU"))
    try:
        whole = datetime.strptime(text[:12], "%y%m%d%H%M%S").replace(tzinfo=UTC)
        fraction_s = float(text[12:] or 0)
    except ValueError:
        return None
    return int(whole.timestamp()) * NS_PER_S + round(fraction_s * NS_PER_S) if 0 <= fraction_s < 1 else None


def _has_date(values: Float64) -> Mask:
    days, seconds = values[:, 5], values[:, 6]
    return (days >= 0) & (days <= MOST_DAYS) & (seconds >= 0) & (seconds <= MOST_SECONDS)


def _gps9_ns(values: Float64) -> Int64:
    days, milliseconds = values[:, 5].astype(np.int64), np.rint(values[:, 6] * 1000).astype(np.int64)
    return np.asarray(GPS9_EPOCH_NS + days * DAY_NS + milliseconds * NS_PER_MS, dtype=np.int64)


def _fix(row: Float64, utc_ns: int | None, locked: bool, dop: float | None, is_sea_level: bool, source: str) -> Fix:
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
    return ClockLine(middle, utc_ns, rate * 1e6, rate_sigma * 1e6, scatter_ns)


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
    read_out = number(found, "SROT")
    return Camera(
        model=text_of(found.get("MINF")) or None,
        serial=text_of(found.get("CASN")) or None,
        read_out_ms=None if read_out is None else round(read_out, 3),
    )
