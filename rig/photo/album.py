"""Photos of any camera: what their EXIF says of the time, and by how much that camera's clock was wrong.

A camera's clock is compared with the time code where a photo shows it; else its EXIF must be believed.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, parse_utc
from rig.errors import UnreadableError
from rig.photo import exif, jpeg

SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe"))
SEARCHED_PHOTOS = 60  # at either end of a camera's photos: there the crew shows the code
WIDE_PIXELS = 4_000  # of wider photos a half-size picture is searched
QUARTER_HOUR_NS = 900 * NS_PER_S  # zones are whole multiples of it
ZONE_DOUBT_NS = 120 * NS_PER_S
RATE_SPAN_NS = 600 * NS_PER_S  # codes further apart tell the rate of the camera's clock
UNKNOWN = " 0:"  # all that EXIF has of a time or a zone that the camera does not know
OTHER_CLOCK_NS = 5 * NS_PER_S  # a code so far off what most say was not live


@dataclass(frozen=True, slots=True)
class Snap:
    """A photo by its camera's own clock; where EXIF tells the `zone` `clock_ns` is near UTC.

    `digits` are the sub-seconds as they stand there; `known_error_ms` is that of a time which is UTC already.
    """

    path: Path
    name: str  # below its source
    camera: str
    clock_ns: int
    digits: str
    moment: str  # as in EXIF, without sub-seconds and zone
    zone: str
    gps_ns: int | None = None
    known_error_ms: float | None = None
    is_seen: bool = False  # by an earlier run, which has mended its sub-seconds

    @property
    def resolution_ns(self) -> int:
        """The step of the camera's clock in EXIF."""
        return int(NS_PER_S // 10 ** min(9, len(self.digits)))

    @property
    def middle_ns(self) -> int:
        """The middle of what the camera's clock may have been: EXIF cuts off the rest."""
        return self.clock_ns + self.resolution_ns // 2

    @property
    def camera_time(self) -> str:
        """What the camera's clock said; empty where it is UTC of this program."""
        fraction = f".{self.digits}" if self.digits else ""
        return "" if self.known_error_ms is not None else f"{self.moment}{fraction}{self.zone}"


@dataclass(frozen=True, slots=True)
class Offset:
    """UTC minus a camera's clock over that clock: a straight line, and the half-width of its error at instants."""

    clock_ns: int
    offset_ns: float
    rate: float
    error_ns: float
    rate_error: float  # grows with the distance from what was seen
    seen_ns: tuple[int, int]
    source: str  # code, given or exif

    def utc_ns(self, snap: Snap) -> int:
        """UTC of a photo: in the middle of what EXIF may have cut off by codes, else of what it says."""
        if snap.known_error_ms is not None and self.source != "given":
            return snap.clock_ns
        clock_ns = snap.middle_ns if self.source == "code" else snap.clock_ns
        return clock_ns + round(self.offset_ns + self.rate * (clock_ns - self.clock_ns))

    def error_ms(self, snap: Snap) -> float:
        """Half-width of the error of a photo's time."""
        if snap.known_error_ms is not None and self.source != "given":
            return snap.known_error_ms
        first, last = self.seen_ns
        beyond = max(first - snap.clock_ns, snap.clock_ns - last, 0)
        cut_off_ns = snap.resolution_ns / (2 if self.source == "code" else 1)
        return (self.error_ns + self.rate_error * beyond + cut_off_ns) / NS_PER_MS


def find(source: Path) -> list[Path]:
    """The JPEG files of a folder and those below it, hidden ones left out; a file is itself."""
    if not source.is_dir():
        return [source]
    found = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def read(path: Path, source: Path) -> Snap:
    """What a photo says of itself. Raises UnreadableError where it is damaged or has no time."""
    try:
        block = exif.read_block(jpeg.read_head(path))
        if not jpeg.is_whole(path):
            raise ValueError("its picture is cut off")
        text, digits, zone = _camera_time(block)
        clock_ns = _clock_ns(text, zone)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UnreadableError(f"{path}: {error}") from error
    name = path.relative_to(source) if source.is_dir() else Path(path.name)
    return Snap(
        path=path,
        name=name.as_posix(),
        camera=_camera(block, path),
        clock_ns=clock_ns,
        digits=digits,
        moment=text,
        zone=zone,
        gps_ns=_gps_ns(block),
        known_error_ms=None if block.camera_time else block.time_error_ms,
        is_seen=bool(block.camera_time),
    )


def _camera_time(block: exif.Block) -> tuple[str, str, str]:
    """Date and time, sub-second digits and zone of the camera's own clock."""
    if block.camera_time:  # what it said before this program wrote UTC
        text, zone = block.camera_time, ""
        if text[-6:-5] in ("+", "-"):
            text, zone = text[:-6], text[-6:]
        text, _, digits = text.partition(".")
        return text, digits, zone
    for moment, subsec, offset in (
        (exif.ORIGINAL, exif.ORIGINAL_SUBSEC, exif.ORIGINAL_OFFSET),
        (exif.DIGITIZED, exif.DIGITIZED_SUBSEC, exif.DIGITIZED_OFFSET),
    ):
        text, digits, zone = (block.text("exif", tag) for tag in (moment, subsec, offset))
        if text.strip(UNKNOWN):
            return text, digits if digits.isascii() and digits.isdigit() else "", zone if zone.strip(UNKNOWN) else ""
    raise ValueError("its EXIF has no time")


def _clock_ns(text: str, zone: str) -> int:
    try:
        return parse_utc(text.replace(":", "-", 2) + zone)
    except ValueError as error:
        raise ValueError(f"the time in its EXIF, {text + zone!r}, is none") from error


def _camera(block: exif.Block, path: Path) -> str:
    name = block.text("exif", exif.SERIAL) or block.text("0", exif.MODEL)
    name = name or Path(os.path.normpath(path.absolute())).parent.name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).strip("-") or "camera"


def _gps_ns(block: exif.Block) -> int | None:
    date, parts = block.text("gps", exif.GPS_DATE), block.numbers("gps", exif.GPS_TIME)
    try:
        hours, minutes, seconds = parts
        return parse_utc(f"{date.replace(':', '-')} {hours:02.0f}:{minutes:02.0f}:00") + round(seconds * NS_PER_S)
    except ValueError:
        return None


def with_subseconds(snaps: Sequence[Snap]) -> tuple[list[Snap], list[str]]:
    """The photos in the order of their clocks, sub-seconds added; and which cameras wrote them without leading zeros.

    A camera that writes 45 for 45 ms shows it over its photos: digits of several lengths, none with a leading zero.
    """
    by_camera: dict[str, list[Snap]] = defaultdict(list)
    for snap in snaps:
        by_camera[snap.camera].append(snap)
    mended, warnings = [], []
    for camera, own in by_camera.items():
        said = {snap.digits for snap in own if snap.digits and not snap.is_seen}
        width = max((len(snap.digits) for snap in own), default=0)
        is_unpadded = any(len(text) < width for text in said) and not any(
            text.startswith("0") and len(text) > 1 for text in said
        )
        if is_unpadded:
            warnings.append(f"{camera} writes sub-seconds without leading zeros: mended (45 was 0.{45:0{width}})")
            own = [replace(snap, digits=snap.digits.rjust(width, "0") if snap.digits else "") for snap in own]
        mended += [replace(snap, clock_ns=snap.clock_ns + int(snap.digits.ljust(9, "0")[:9] or 0)) for snap in own]
    return sorted(mended, key=lambda snap: (snap.clock_ns, snap.name)), warnings


def given_offset(snaps: Sequence[Snap], offset_s: float, error_s: float) -> dict[str, Offset]:
    """The offset that somebody gave, for all cameras."""
    offset = Offset(0, offset_s * NS_PER_S, 0.0, error_s * NS_PER_S, 0.0, (0, 1 << 62), "given")
    return {snap.camera: offset for snap in snaps}


def find_offsets(
    snaps: Sequence[Snap], settings: Settings, progress: Callable[[float], None]
) -> tuple[dict[str, Offset], list[str]]:
    """The offset of each camera by the time codes in its photos, else by what EXIF says; and warnings."""
    searched = list(_searched(snaps))
    codes: dict[str, list[tuple[int, int, int]]] = defaultdict(list)  # clock, its resolution, UTC of the code
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (snap, found) in enumerate(zip(searched, pool.map(_codes_ns, searched), strict=True), start=1):
            codes[snap.camera] += [(snap.middle_ns, snap.resolution_ns, utc_ns) for utc_ns in found]
            progress(number / len(searched))
    offsets, warnings = {}, []
    for camera in dict.fromkeys(snap.camera for snap in snaps):
        own = [snap for snap in snaps if snap.camera == camera]
        if codes[camera]:
            offsets[camera], doubts = _by_codes(codes[camera], settings)
        else:
            offsets[camera], doubts = _by_exif(own, settings)
        warnings += [f"{camera}: {doubt}" for doubt in doubts]
    return offsets, warnings


def _searched(snaps: Sequence[Snap]) -> Iterator[Snap]:
    """Those of each camera's photos that may show the code. What has UTC already needs none."""
    for camera in dict.fromkeys(snap.camera for snap in snaps):
        own = [snap for snap in snaps if snap.camera == camera and snap.known_error_ms is None]
        yield from own if len(own) <= 2 * SEARCHED_PHOTOS else [*own[:SEARCHED_PHOTOS], *own[-SEARCHED_PHOTOS:]]


def _codes_ns(snap: Snap) -> list[int]:
    import cv2  # only where pixels are looked at: tags alone need neither it nor the readers of codes

    from rig.timing.qrtime import CodeReader

    luma = cv2.imread(str(snap.path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if luma is None:
        return []
    if luma.shape[1] >= WIDE_PIXELS:
        luma = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    picture = np.asarray(luma, dtype=np.uint8)
    return [reading.code.utc_ns for reading in CodeReader().read_all(picture)]


def _by_codes(codes: Sequence[tuple[int, int, int]], settings: Settings) -> tuple[Offset, list[str]]:
    """A line through what each code allows: it was lit from its latency on, for one refresh of the screen."""
    clock_ns, resolution_ns, code_ns = (np.array(column, dtype=np.int64) for column in zip(*codes, strict=True))
    refresh_ns = NS_PER_S / settings.display_refresh_hz
    half_ns = (refresh_ns + resolution_ns) / 2
    middle_ns = code_ns - clock_ns + settings.display_latency_ms * NS_PER_MS + refresh_ns / 2
    live = np.abs(middle_ns - np.median(middle_ns)) <= OTHER_CLOCK_NS
    doubts = [] if live.all() else [f"{np.count_nonzero(~live)} codes of another time were left out"]
    clock_ns, half_ns, middle_ns = clock_ns[live], half_ns[live], middle_ns[live]
    since_s = (clock_ns - clock_ns[0]) / NS_PER_S
    rate_ns_s, rate_error = 0.0, settings.unknown_camera_rate_ppm * 1e-6
    if np.ptp(clock_ns) >= RATE_SPAN_NS:
        rate_ns_s = float(np.polyfit(since_s, middle_ns - middle_ns[0], 1)[0])
        rate_error = float(half_ns.max() * 2 / np.ptp(clock_ns))
    rest_ns = middle_ns - middle_ns[0] - rate_ns_s * since_s
    low, high = float(np.max(rest_ns - half_ns)), float(np.min(rest_ns + half_ns))
    # Rows are exposed one after the other, and the code was held anywhere in the picture.
    constant_ms = settings.display_latency_error_ms + settings.read_out_ms / 2
    error_ns = abs(high - low) / 2 + constant_ms * NS_PER_MS
    return Offset(
        clock_ns=int(clock_ns[0]),
        offset_ns=float(middle_ns[0]) + (low + high) / 2,
        rate=rate_ns_s / NS_PER_S,
        error_ns=error_ns,
        rate_error=rate_error,
        seen_ns=(int(clock_ns.min()), int(clock_ns.max())),
        source="code",
    ), doubts


def _by_exif(snaps: Sequence[Snap], settings: Settings) -> tuple[Offset, list[str]]:
    """The zone that EXIF names, else the one in which the photos' own GPS time lies, else UTC."""
    offset = partial(Offset, 0, rate=0.0, rate_error=0.0, seen_ns=(0, 1 << 62), source="exif")
    error_ns = settings.camera_clock_error_s * NS_PER_S
    if all(snap.zone for snap in snaps):
        doubts = [] if all(snap.known_error_ms is not None for snap in snaps) else [_UNCHECKED.format("")]
        return offset(0.0, error_ns=error_ns), doubts
    ahead = [snap.gps_ns - snap.clock_ns for snap in snaps if snap.gps_ns is not None]
    if ahead:
        middle_ns = float(np.median(ahead))
        zone_ns = round(middle_ns / QUARTER_HOUR_NS) * QUARTER_HOUR_NS
        if abs(middle_ns - zone_ns) < ZONE_DOUBT_NS:
            return offset(float(zone_ns), error_ns=error_ns), [_UNCHECKED.format(", its zone by its own GPS")]
    return offset(0.0, error_ns=error_ns), [_UNCHECKED.format(", taken as UTC as EXIF names no zone")]


_UNCHECKED = "no photo shows the time code: its clock is believed{}; --camera-offset would correct it"


def names_of(snaps: Iterable[Snap]) -> dict[Path, str]:
    """What each photo shall be called among its camera's: as it is, with its folder in front where two are alike."""
    taken: dict[tuple[str, str], Path] = {}
    names: dict[Path, str] = {}
    for snap in snaps:
        *folders, own = Path(snap.name).parts
        prefix = "-".join(folders)
        numbered = (f"{number}-{prefix or number}-{own}" for number in count(3))
        names[snap.path] = next(
            name
            for name in chain((own, f"{prefix or 2}-{own}"), numbered)
            if taken.setdefault((snap.camera, name.lower()), snap.path) == snap.path
        )
    return names
