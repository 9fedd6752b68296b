"""What a JPEG says of itself: the EXIF and XMP segments, written so that all readers agree, and read back.

The tags are those that ExifTool's validation, Mapillary, Panoramax and OpenDroneMap ask for (docs/photos.md). piexif
leaves 15 faults in each file, pyexiv2 is GPL: hence this.
"""

import html
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rig.clock import EPOCH, NS_PER_MS

PROGRAM = "edenCar"
NAMESPACE = "urn:edencar:photo:1"
END = b"\xff\xd9"
EXIF_HEADER, XMP_HEADER = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
MOST_BYTES = 65_533  # in one segment
HEAD_BYTES = 1 << 16  # the picture begins before, but behind large thumbnails
MOST_ENTRIES = 1_000  # in one directory; more is damage
LARGEST = 2**32 - 1

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
LETTERS = {1: "B", 3: "H", 4: "I", 5: "II", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}

MAKE, MODEL, ORIENTATION = 0x010F, 0x0110, 0x0112
POINTERS = (("exif", "0", 0x8769), ("gps", "0", 0x8825), ("interop", "exif", 0xA005))  # directory, in which, tag
THUMBNAIL_AT, THUMBNAIL_BYTES = 0x0201, 0x0202
MAKER_NOTE, SERIAL, FOCAL_LENGTH, FOCAL_LENGTH_35MM = 0x927C, 0xA431, 0x920A, 0xA405
ORIGINAL, ORIGINAL_SUBSEC, ORIGINAL_OFFSET = 0x9003, 0x9291, 0x9011
DIGITIZED, DIGITIZED_SUBSEC, DIGITIZED_OFFSET = 0x9004, 0x9292, 0x9012
GPS_DATE, GPS_TIME = 0x1D, 0x07
CORRECTED = (2, 4, 5)  # GGA qualities with corrections

Entry = tuple[int, int, bytes]  # kind, count, data in the block's byte order
Directory = dict[int, Entry]

_OURS = re.compile(rb"<rdf:Description rdf:about='' xmlns:edenCar=[^>]*/>\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTags:
    """What is written into a photo. Degrees of WGS 84, metres, m/s; None where nothing is known.

    `heading_deg` is where the car drives, `direction_deg` where the camera looks; `sigma_m` is horizontal, one sigma;
    `quality` as in GGA; `camera_time` is what the camera's own clock said, where that was not UTC; `privacy` the
    command that made faces and plates unreadable.
    """

    utc_ns: int
    width: int
    height: int
    time_error_ms: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    heading_deg: float | None = None
    direction_deg: float | None = None
    speed_mps: float | None = None
    hdop: float | None = None
    sigma_m: float | None = None
    sigma_alt_m: float | None = None
    satellites: int | None = None
    quality: int | None = None
    make: str = ""
    model: str = ""
    serial: str = ""
    focal_length_mm: float | None = None
    focal_length_35mm: int | None = None
    camera_time: str = ""
    privacy: str = ""


@dataclass(slots=True)
class Block:
    """The EXIF of a JPEG: its directories `0` (the picture), `1` (the thumbnail), `exif`, `gps`, `interop`; its XMP."""

    order: str = "<"
    directories: dict[str, Directory] = field(default_factory=dict)
    thumbnail: bytes = b""
    maker_note_at: int = 0  # it may hold offsets of its own, so it stays where it was
    xmp: bytes = b""

    def text(self, directory: str, tag: int) -> str:
        """A tag's text, empty when it is not there."""
        _, _, data = self.directories.get(directory, {}).get(tag, (ASCII, 0, b""))
        return data.partition(b"\0")[0].decode("utf-8", errors="replace").strip()

    def numbers(self, directory: str, tag: int) -> tuple[float, ...]:
        """A tag's numbers, none when it is not there; a rational without denominator is NaN."""
        kind, count, data = self.directories.get(directory, {}).get(tag, (ASCII, 0, b""))
        if kind not in LETTERS:
            return ()
        values = struct.unpack(self.order + LETTERS[kind] * count, data)
        if len(LETTERS[kind]) == 1:
            return values
        return tuple(up / down if down else math.nan for up, down in zip(values[::2], values[1::2], strict=True))

    @property
    def is_ours(self) -> bool:
        """Whether the tags were written by this program: their time is UTC."""
        return _OURS.search(self.xmp) is not None

    @property
    def camera_time(self) -> str:
        """What the camera's own clock had said before this program wrote UTC, `YYYY:MM:DD HH:MM:SS[.fff][+HH:MM]`."""
        return self._own("CameraTime")

    @property
    def privacy(self) -> str:
        """The command that made faces and plates unreadable, empty where none did."""
        return self._own("Privacy")

    @property
    def time_error_ms(self) -> float | None:
        """Half-width of the error of the time that this program wrote."""
        text = self._own("TimeErrorMs")
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None

    def _own(self, name: str) -> str:
        match = re.search(f" edenCar:{name}=(\"[^\"]*\"|'[^']*')".encode(), self.xmp)
        return html.unescape(match[1][1:-1].decode(errors="replace")) if match else ""


def without_pictures(block: Block) -> Block:
    """The block without anything that may show the picture, small or in a camera's own way, once it was changed."""
    directories = {name: dict(entries) for name, entries in block.directories.items() if name != "1"}
    directories.get("exif", {}).pop(MAKER_NOTE, None)
    return Block(block.order, directories)


def app_segments(tags: PhotoTags, kept: Block | None = None) -> bytes:
    """The two APP1 segments, EXIF and XMP, for a JPEG; `kept` is what it says already and goes on saying.

    Raises ValueError when they hold more than JPEG allows.
    """
    block = kept or Block()
    _fill(block, tags)
    data = _tiff(block)
    if len(data) > MOST_BYTES - len(EXIF_HEADER):
        block.thumbnail, block.directories["1"] = b"", {}
        data = _tiff(block)
    return _segment(EXIF_HEADER + data) + _segment(XMP_HEADER + _xmp(tags, block.xmp))


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    """The JPEG with these segments instead of its own EXIF and XMP; its pixels are untouched.

    Raises ValueError for anything else than a JPEG.
    """
    parts = [jpeg[:2]]
    placed, end = False, 2
    for marker, begin, end, body in _segments(jpeg):
        if not placed and marker != 0xE0:  # JFIF wants to be first
            parts.append(segments)
            placed = True
        if marker == 0xDA:
            parts.append(jpeg[begin:])
        elif not (marker == 0xE1 and body.startswith((EXIF_HEADER, XMP_HEADER))):
            parts.append(jpeg[begin:end])
    return b"".join(parts)


def read_head(path: Path) -> bytes:
    """The beginning of a JPEG file, with all that stands before its picture's data: the functions here need no more.

    Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        with suppress(ValueError):
            for marker, _, _, _ in _segments(head):
                if marker == 0xDA:
                    return head
        return head + file.read()


def has_end(jpeg: bytes) -> bool:
    """Whether the picture's data has its end, unlike that of a file that was cut off. Raises ValueError as size_of."""
    *_, (_, _, data_at, _) = _segments(jpeg)
    return jpeg.rfind(END, data_at) >= 0


def is_whole(path: Path) -> bool:
    """Whether a JPEG file has all of its picture; others' bytes may follow. Raises OSError, ValueError."""
    with path.open("rb") as file:
        file.seek(-len(END), os.SEEK_END)
        return file.read() == END or has_end(path.read_bytes())


def read_block(jpeg: bytes) -> Block:
    """The EXIF and XMP of a JPEG, empty where it has none. Raises ValueError where it is damaged or no JPEG."""
    block = Block()
    for marker, _, _, body in _segments(jpeg):
        if marker == 0xE1 and body.startswith(EXIF_HEADER) and not block.directories:
            block = _read_tiff(body[len(EXIF_HEADER) :], block.xmp)
        elif marker == 0xE1 and body.startswith(XMP_HEADER):
            block.xmp = body[len(XMP_HEADER) :]
    return block


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a JPEG as it is stored. Raises ValueError for anything else."""
    for marker, _, _, body in _segments(jpeg):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", body, 1)
            return width, height
    raise ValueError("it has no picture")


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Marker, begin, end and body of each segment up to the picture's data."""
    if jpeg[:2] != b"\xff\xd8":
        raise ValueError("it is no JPEG")
    at = 2
    while at + 4 <= len(jpeg):
        if jpeg[at] != 0xFF:
            raise ValueError(f"its segments are damaged at byte {at}")
        marker = jpeg[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        if end < at + 4 or end > len(jpeg):
            break
        yield marker, at, end, jpeg[at + 4 : end]
        if marker == 0xDA:
            return
        at = end
    raise ValueError("it is cut off before its picture")


def _segment(body: bytes) -> bytes:
    if len(body) > MOST_BYTES:
        raise ValueError("its EXIF or XMP is longer than a JPEG's segment")
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body


def _text(text: str) -> Entry:
    data = text.encode() + b"\0"
    return ASCII, len(data), data


class _Maker:
    """Makes entries in a byte order."""

    def __init__(self, order: str) -> None:
        self.order = order

    def short(self, value: int) -> Entry:
        return SHORT, 1, struct.pack(self.order + "H", value)

    def long(self, value: int) -> Entry:
        return LONG, 1, struct.pack(self.order + "I", value)

    def fractions(self, *pairs: tuple[float, int]) -> Entry:
        """Rationals: each value with the denominator that it is rounded to."""
        whole: list[int] = []
        for value, down in pairs:
            whole += (min(LARGEST, round(value * down)), down)
        return RATIONAL, len(pairs), struct.pack(self.order + "I" * len(whole), *whole)


def _fill(block: Block, tags: PhotoTags) -> None:
    """Put the tags into a block: what we know replaces what is there, what a reader needs is added."""
    make = _Maker(block.order)
    has_place = tags.latitude is not None and tags.longitude is not None
    if has_place:
        block.directories["gps"] = _gps(tags, make)
    elif block.is_ours:  # of an earlier run that knew a place
        block.directories.pop("gps", None)
    picture = block.directories.setdefault("0", {})
    needed = {
        ORIENTATION: make.short(1),
        0x011A: make.fractions((72, 1)),
        0x011B: make.fractions((72, 1)),
        0x0128: make.short(2),
        0x0213: make.short(1),
    }
    named = {tag: _text(text) for tag, text in ((MAKE, tags.make), (MODEL, tags.model)) if text}
    block.directories["0"] = needed | picture | named
    block.directories["exif"] = _exif(block.directories.get("exif", {}), tags, make)


def _exif(known: Directory, tags: PhotoTags, make: _Maker) -> Directory:
    needed = {0x9101: (UNDEFINED, 4, b"\1\2\3\0"), 0xA000: (UNDEFINED, 4, b"0100"), 0xA001: make.short(1)}
    day, clock, fraction = _moment(tags.utc_ns)
    entries = {**needed, **known}
    entries |= {0x9000: (UNDEFINED, 4, b"0232"), 0xA002: make.long(tags.width), 0xA003: make.long(tags.height)}
    for moment, subsec, offset in (
        (ORIGINAL, ORIGINAL_SUBSEC, ORIGINAL_OFFSET),
        (DIGITIZED, DIGITIZED_SUBSEC, DIGITIZED_OFFSET),
    ):
        entries[moment] = _text(f"{day} {clock}")
        entries[subsec] = _text(fraction)
        entries[offset] = _text("+00:00")
    if tags.serial:
        entries[SERIAL] = _text(tags.serial)
    if tags.focal_length_mm:
        entries[FOCAL_LENGTH] = make.fractions((tags.focal_length_mm, 100))
    if tags.focal_length_35mm:
        entries[FOCAL_LENGTH_35MM] = make.short(tags.focal_length_35mm)
    return entries


def _moment(utc_ns: int) -> tuple[str, str, str]:
    """Date, time of day and three digits, to the nearest millisecond as everywhere."""
    moment = EPOCH + timedelta(milliseconds=(utc_ns + NS_PER_MS // 2) // NS_PER_MS)
    return f"{moment:%Y:%m:%d}", f"{moment:%H:%M:%S}", f"{moment.microsecond // 1000:03d}"


def _gps(tags: PhotoTags, make: _Maker) -> Directory:
    day, clock, fraction = _moment(tags.utc_ns)
    hours, minutes, seconds = clock.split(":")
    assert tags.latitude is not None
    assert tags.longitude is not None
    corrected = tags.quality in CORRECTED
    entries = {
        0x00: (BYTE, 4, b"\2\3\0\0"),
        0x01: _text("S" if tags.latitude < 0 else "N"),
        0x02: make.fractions(*_degrees(abs(tags.latitude))),
        0x03: _text("W" if tags.longitude < 0 else "E"),
        0x04: make.fractions(*_degrees(abs(tags.longitude))),
        GPS_TIME: make.fractions((int(hours), 1), (int(minutes), 1), (float(f"{seconds}.{fraction}"), 1000)),
        0x09: _text("A"),
        0x0A: _text("2" if tags.altitude_m is None else "3"),
        0x12: _text("WGS-84"),
        GPS_DATE: _text(day),
        0x1E: make.short(int(corrected)),
    }
    if tags.altitude_m is not None:
        entries[0x05] = (BYTE, 1, b"\1" if tags.altitude_m < 0 else b"\0")
        entries[0x06] = make.fractions((abs(tags.altitude_m), 1000))
    if tags.satellites is not None:
        entries[0x08] = _text(str(tags.satellites))
    if tags.speed_mps is not None:
        entries |= {0x0C: _text("K"), 0x0D: make.fractions((tags.speed_mps * 3.6, 1000))}
    for reference, tag, degrees in ((0x0E, 0x0F, tags.heading_deg), (0x10, 0x11, tags.direction_deg)):
        if degrees is not None:
            entries |= {reference: _text("T"), tag: make.fractions((round(degrees, 2) % 360, 100))}
    for tag, value, down in ((0x0B, tags.hdop, 100), (0x1F, tags.sigma_m, 10_000)):
        if value is not None:
            entries[tag] = make.fractions((value, down))
    return entries


def _degrees(value: float) -> tuple[tuple[float, int], ...]:
    """Degrees, minutes and seconds; the seconds to 3 micrometres."""
    ticks = round(value * 3600 * 10_000_000)  # whole before it is cut up: never 60 seconds
    minutes, rest = divmod(ticks, 60 * 10_000_000)
    return (minutes // 60, 1), (minutes % 60, 1), (rest / 10_000_000, 10_000_000)


def _xmp(tags: PhotoTags, known: bytes) -> bytes:
    """The XMP packet: known ones keep what they say and get one description more."""
    error = "" if tags.time_error_ms is None else f"{tags.time_error_ms:.3f}"
    own = {"Software": PROGRAM, "TimeErrorMs": error, "CameraTime": tags.camera_time, "Privacy": tags.privacy}
    words = [f"edenCar:{name}='{html.escape(value)}'" for name, value in own.items() if value]
    if tags.latitude is not None:
        for name, sigma_m in (("GPSXYAccuracy", tags.sigma_m), ("GPSZAccuracy", tags.sigma_alt_m)):
            if sigma_m is not None:
                words.append(f"Camera:{name}='{sigma_m:.4f}'")
    spaces = f"xmlns:edenCar='{NAMESPACE}' xmlns:Camera='http://pix4d.com/camera/1.0/'"
    ours = f"<rdf:Description rdf:about='' {spaces} {' '.join(words)}/>\n".encode()
    others = _OURS.sub(b"", known)
    before, end, after = others.rpartition(b"</rdf:RDF>")
    if end:
        return before + ours + end + after
    return b"".join(
        (
            b"<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>\n<x:xmpmeta xmlns:x='adobe:ns:meta/'>\n"
            b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>\n",
            ours,
            b"</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end='r'?>",
        )
    )


def _tiff(block: Block) -> bytes:
    """The block as TIFF: its directories one after the other, each with its values behind it, all at even offsets."""
    make = _Maker(block.order)
    found = {name: dict(block.directories.get(name, {})) for name in ("0", "exif", "interop", "gps", "1")}
    for name, parent, tag in POINTERS:
        found[parent].pop(tag, None)
        if found[name]:
            found[parent][tag] = make.long(0)
    if block.thumbnail:
        found["1"] |= {THUMBNAIL_AT: make.long(0), THUMBNAIL_BYTES: make.long(len(block.thumbnail))}
    note = found["exif"].get(MAKER_NOTE, (0, 0, b""))[2] if block.maker_note_at else b""
    at = _even(block.maker_note_at + len(note)) if note else 8
    places: dict[str, int] = {}
    for name, directory in found.items():
        if directory:
            places[name] = at
            fixed = MAKER_NOTE if note and name == "exif" else None
            sizes = [len(data) for tag, (_, _, data) in directory.items() if len(data) > 4 and tag != fixed]
            at += 6 + 12 * len(directory) + sum([size + size % 2 for size in sizes])
    for name, parent, tag in POINTERS:
        if name in places:
            found[parent][tag] = make.long(places[name])
    if block.thumbnail:
        found["1"][THUMBNAIL_AT] = make.long(at)
    head = (b"II*\0" if block.order == "<" else b"MM\0*") + struct.pack(block.order + "I", places["0"])
    if note:
        head = head.ljust(block.maker_note_at, b"\0") + note
        head = head.ljust(_even(len(head)), b"\0")
    parts = [head]
    for name, place in places.items():
        following = places.get("1", 0) if name == "0" else 0
        parts.append(_directory(found[name], place, following, block, note if name == "exif" else b""))
    return b"".join(parts) + block.thumbnail


def _even(number: int) -> int:
    return number + number % 2


def _directory(entries: Directory, place: int, following: int, block: Block, note: bytes) -> bytes:
    at = place + 6 + 12 * len(entries)
    pack, pack_place = struct.Struct(block.order + "HHI4s").pack, struct.Struct(block.order + "I").pack
    rows, values = [struct.pack(block.order + "H", len(entries))], []
    for tag, (kind, count, data) in sorted(entries.items()):
        if len(data) <= 4:
            rows.append(pack(tag, kind, count, data))
        elif note and tag == MAKER_NOTE:
            rows.append(pack(tag, kind, count, pack_place(block.maker_note_at)))
        else:
            rows.append(pack(tag, kind, count, pack_place(at)))
            values.append(data if len(data) % 2 == 0 else data + b"\0")
            at += _even(len(data))
    return b"".join((*rows, struct.pack(block.order + "I", following), *values))


def _read_tiff(data: bytes, xmp: bytes) -> Block:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], "")
    if not order or len(data) < 8:
        raise ValueError("its EXIF is damaged")
    block = Block(order, xmp=xmp)
    block.directories["0"], following, _ = _read_directory(data, order, struct.unpack_from(order + "I", data, 4)[0])
    for name, parent, tag in POINTERS:
        for place in block.numbers(parent, tag)[:1]:
            block.directories[name], _, places = _read_directory(data, order, int(place))
            block.maker_note_at = places.get(MAKER_NOTE, 0) if name == "exif" else block.maker_note_at
    if following:
        block.directories["1"], _, _ = _read_directory(data, order, following)
        where, size = (block.numbers("1", tag) for tag in (THUMBNAIL_AT, THUMBNAIL_BYTES))
        if where and size:
            block.thumbnail = data[int(where[0]) : int(where[0] + size[0])]
    return block


def _read_directory(data: bytes, order: str, at: int) -> tuple[Directory, int, dict[int, int]]:
    """The entries of a directory, where the next one is, and where values lie that are not in their entries."""
    if at + 2 > len(data):
        raise ValueError("its EXIF is damaged: a directory lies outside")
    (count,) = struct.unpack_from(order + "H", data, at)
    if count > MOST_ENTRIES or at + 2 + 12 * count > len(data):
        raise ValueError("its EXIF is damaged: a directory is cut off")
    entries: Directory = {}
    places: dict[int, int] = {}
    end = at + 2 + 12 * count
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", data[at + 2 : end]):
        size = SIZES.get(kind, 0) * number
        if 0 < size <= 4:
            entries[tag] = kind, number, value[:size]
        elif size:
            (place,) = struct.unpack(order + "I", value)
            places[tag] = place
            if size <= len(data) - place:
                entries[tag] = kind, number, data[place : place + size]
    following = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
    return entries, following, places
