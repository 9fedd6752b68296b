"""What a GoPro says about a photo in the file itself: EXIF, and GPMF in a segment of its own."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from simulator.hero.sensor import SECOND_NS
from simulator.hero.telemetry import Maker
from simulator.screen import EXPOSURE_NS
from simulator.world import Pose

APP1, APP6 = 0xE1, 0xE6
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 7, 10
ITEM_BYTES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, SIGNED_RATIONAL: 8}
EXIF_POINTER, GPS_POINTER = 0x8769, 0x8825
ARCSECOND_PARTS = 10_000

Value = str | bytes | int | Fraction | tuple[int, ...] | tuple[Fraction, ...]
Entry = tuple[int, int, Value]


@dataclass(frozen=True, slots=True)
class Shot:
    """A photo: by the camera's clock, where its GPS was (None without), and the file's name on the card."""

    local_ns: int
    utc_ns: int
    place: Pose | None
    path: str
    width: int
    height: int


def with_tags(jpeg: bytes, shot: Shot, maker: Maker) -> tuple[bytes, range]:
    """The JPEG with EXIF and GPMF segments instead of its JFIF one, and which of its bytes are the GPMF."""
    after_jfif = 4 + int.from_bytes(jpeg[4:6])
    gpmf = maker.about()
    head = jpeg[:2] + _segment(APP1, b"Exif\0\0" + _tiff(shot, maker)) + _segment(APP6, b"GoPro\0" + gpmf)
    return head + jpeg[after_jfif:], range(len(head) - len(gpmf), len(head))


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _tiff(shot: Shot, maker: Maker) -> bytes:
    date = f"{datetime.fromtimestamp(shot.local_ns // SECOND_NS, UTC):%Y:%m:%d %H:%M:%S}"
    # Without leading zeros: as some of GoPro's cameras write it, and readers take 45 for 450 ms.
    fraction = str(shot.local_ns % SECOND_NS // 1_000_000)
    gps = [] if shot.place is None else _gps(shot.place, shot.utc_ns)
    image: list[Entry] = [
        (0x010E, ASCII, f"DCIM\\{shot.path}".replace("/", "\\")),
        (0x010F, ASCII, "GoPro"),
        (0x0110, ASCII, maker.model),
        (0x0112, SHORT, 1),
        (0x011A, RATIONAL, Fraction(72)),
        (0x011B, RATIONAL, Fraction(72)),
        (0x0128, SHORT, 2),
        (0x0131, ASCII, maker.firmware),
        (0x0132, ASCII, date),
        (0x0213, SHORT, 1),
    ]
    exposure: list[Entry] = [
        (0x829A, RATIONAL, Fraction(EXPOSURE_NS, SECOND_NS)),
        (0x829D, RATIONAL, Fraction(5, 2)),
        (0x8822, SHORT, 2),
        (0x8827, SHORT, 100),
        (0x9000, UNDEFINED, b"0231"),
        (0x9003, ASCII, date),
        (0x9004, ASCII, date),
        (0x9101, UNDEFINED, bytes((1, 2, 3, 0))),
        (0x9204, SIGNED_RATIONAL, Fraction(0)),
        (0x9209, SHORT, 0),
        (0x920A, RATIONAL, Fraction(3)),
        (0x9290, ASCII, fraction),
        (0x9291, ASCII, fraction),
        (0x9292, ASCII, fraction),
        (0xA000, UNDEFINED, b"0100"),
        (0xA001, SHORT, 1),
        (0xA002, LONG, shot.width),
        (0xA003, LONG, shot.height),
        (0xA405, SHORT, 15),
        (0xA431, ASCII, maker.serial),
    ]
    return _directories(image, exposure, gps)


def _gps(place: Pose, utc_ns: int) -> list[Entry]:
    moment = datetime.fromtimestamp(utc_ns // SECOND_NS, UTC)
    return [
        (0, BYTE, (2, 3, 0, 0)),
        (1, ASCII, "N" if place.latitude >= 0 else "S"),
        (2, RATIONAL, _sexagesimal(place.latitude)),
        (3, ASCII, "E" if place.longitude >= 0 else "W"),
        (4, RATIONAL, _sexagesimal(place.longitude)),
        (5, BYTE, int(place.altitude_m < 0)),
        (6, RATIONAL, Fraction(round(abs(place.altitude_m) * 1000), 1000)),
        (7, RATIONAL, (Fraction(moment.hour), Fraction(moment.minute), Fraction(moment.second))),
        (0x1D, ASCII, f"{moment:%Y:%m:%d}"),
    ]


def _sexagesimal(degrees: float) -> tuple[Fraction, Fraction, Fraction]:
    seconds = round(abs(degrees) * 3600 * ARCSECOND_PARTS)
    minutes, rest = divmod(seconds, 60 * ARCSECOND_PARTS)
    return Fraction(minutes // 60), Fraction(minutes % 60), Fraction(rest, ARCSECOND_PARTS)


def _directories(image: list[Entry], exposure: list[Entry], gps: list[Entry]) -> bytes:
    """A big-endian TIFF (TIFF 6.0, section 2): the main directory and those that it points to."""

    def main(exposure_at: int, gps_at: int) -> bytes:
        pointers: list[Entry] = [(EXIF_POINTER, LONG, exposure_at), (GPS_POINTER, LONG, gps_at)]
        return _directory(image + pointers[: 2 if gps else 1], len(header))

    header = struct.pack(">2sHI", b"MM", 42, 8)
    exposure_at = len(header) + len(main(0, 0))
    gps_at = exposure_at + len(_directory(exposure, exposure_at))
    others = _directory(exposure, exposure_at) + (_directory(gps, gps_at) if gps else b"")
    return header + main(exposure_at, gps_at) + others


def _directory(entries: list[Entry], at: int) -> bytes:
    table, values = b"", b""
    values_at = at + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        data = _pack(kind, value)
        head = struct.pack(">HHI", tag, kind, len(data) // ITEM_BYTES[kind])
        if len(data) <= 4:
            table += head + data.ljust(4, b"\0")
        else:
            table += head + struct.pack(">I", values_at + len(values))
            values += data + bytes(len(data) % 2)
    return struct.pack(">H", len(entries)) + table + bytes(4) + values


def _pack(kind: int, value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode("ascii") + b"\0"
    if isinstance(value, bytes):
        return value
    items: list[int | Fraction] = [value] if isinstance(value, (int, Fraction)) else [*value]
    if kind in (RATIONAL, SIGNED_RATIONAL):
        return b"".join(struct.pack(">ii", *Fraction(item).as_integer_ratio()) for item in items)
    return struct.pack(">" + {BYTE: "B", SHORT: "H", LONG: "I"}[kind] * len(items), *(int(item) for item in items))
