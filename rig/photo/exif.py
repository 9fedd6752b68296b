"""What a photo says of itself: EXIF and XMP, written so that all readers agree, and read back.

The tags are those that ExifTool's validation, Mapillary, Panoramax and OpenDroneMap ask for (docs/photos.md). piexif
leaves 15 faults in each file, pyexiv2 is GPL: hence this.
"""

import html
import re
from dataclasses import dataclass
from datetime import timedelta

from rig.clock import EPOCH, NS_PER_MS
from rig.photo.jpeg import APP1, EXIF_HEADER, MOST_BYTES, XMP_HEADER, segment, segments, with_segments
from rig.photo.tiff import BYTE, MAKER_NOTE, UNDEFINED, Directory, Tiff, text

PROGRAM = "edenCar"
NAMESPACE = "urn:edencar:photo:1"

MAKE, MODEL, ORIENTATION = 0x010F, 0x0110, 0x0112
SERIAL = 0xA431
ORIGINAL, ORIGINAL_SUBSEC, ORIGINAL_OFFSET = 0x9003, 0x9291, 0x9011
DIGITIZED, DIGITIZED_SUBSEC, DIGITIZED_OFFSET = 0x9004, 0x9292, 0x9012
GPS_DATE, GPS_TIME = 0x1D, 0x07
CORRECTED = (2, 4, 5)  # GGA qualities with corrections

_OURS = re.compile(rb"<rdf:Description rdf:about='' xmlns:edenCar=[^>]*/>\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTags:
    """What is written into a photo. Degrees of WGS 84, metres, m/s; None where nothing is known.

    `heading_deg` is where the car drives, `direction_deg` where the camera looks; `sigma_m` is horizontal, one sigma;
    `quality` as in GGA; `camera_time` is what the camera's own clock said, where that was not UTC; `privacy` a word
    when the user's command has seen it.
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
    satellites: int | None = None
    quality: int | None = None
    make: str = ""
    model: str = ""
    serial: str = ""
    camera_time: str = ""
    privacy: str = ""


@dataclass(slots=True)
class Block(Tiff):
    """The EXIF of a JPEG, and its XMP."""

    xmp: bytes = b""

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
        """What says that the user's privacy command has seen the photo, empty where none has."""
        return self._own("Privacy")

    @property
    def time_error_ms(self) -> float | None:
        """Half-width of the error of the time that this program wrote."""
        said = self._own("TimeErrorMs")
        return float(said) if re.fullmatch(r"\d+(\.\d+)?", said) else None

    def _own(self, name: str) -> str:
        match = re.search(f" edenCar:{name}=(\"[^\"]*\"|'[^']*')".encode(), self.xmp)
        return html.unescape(match[1][1:-1].decode(errors="replace")) if match else ""


def without_pictures(block: Block) -> Block:
    """The block without anything that may show the picture, small or in a camera's own way, once it was changed."""
    directories = {name: dict(entries) for name, entries in block.directories.items() if name != "1"}
    directories.get("exif", {}).pop(MAKER_NOTE, None)
    return Block(block.order, directories)


def with_tags(jpeg: bytes, tags: PhotoTags, kept: Block | None = None) -> bytes:
    """The JPEG with these tags instead of its own; `kept` is what it says already and goes on saying.

    Raises ValueError for anything else than a JPEG, and for more than its segments hold.
    """
    block = kept or Block()
    _fill(block, tags)
    data = block.written()
    if len(data) > MOST_BYTES - len(EXIF_HEADER):
        block.thumbnail, block.directories["1"] = b"", {}
        data = block.written()
    return with_segments(jpeg, segment(EXIF_HEADER + data) + segment(XMP_HEADER + _xmp(tags, block.xmp)))


def read_block(jpeg: bytes) -> Block:
    """The EXIF and XMP of a JPEG, empty where it has none. Raises ValueError where it is damaged or no JPEG."""
    block, xmp = Block(), b""
    for marker, _, _, body in segments(jpeg):
        if marker == APP1 and body.startswith(EXIF_HEADER) and not block.directories:
            block = Block.read(body[len(EXIF_HEADER) :])
        elif marker == APP1 and body.startswith(XMP_HEADER):
            xmp = body[len(XMP_HEADER) :]
    block.xmp = xmp
    return block


def _fill(block: Block, tags: PhotoTags) -> None:
    """Put the tags into a block: what we know replaces what is there, what a reader needs is added."""
    if tags.latitude is not None and tags.longitude is not None:
        block.directories["gps"] = _gps(tags, tags.latitude, tags.longitude, block)
    elif block.is_ours:  # of an earlier run that knew a place
        block.directories.pop("gps", None)
    picture = block.directories.setdefault("0", {})
    needed = {
        ORIENTATION: block.short(1),
        0x011A: block.fractions((72, 1)),  # XResolution, YResolution
        0x011B: block.fractions((72, 1)),
        0x0128: block.short(2),  # ResolutionUnit: inches
        0x0213: block.short(1),  # YCbCrPositioning: centred
    }
    named = {tag: text(name) for tag, name in ((MAKE, tags.make), (MODEL, tags.model)) if name}
    block.directories["0"] = needed | picture | named
    block.directories["exif"] = _exif(block.directories.get("exif", {}), tags, block)


def _exif(known: Directory, tags: PhotoTags, block: Block) -> Directory:
    needed = {0x9101: (UNDEFINED, 4, b"\1\2\3\0"), 0xA000: (UNDEFINED, 4, b"0100"), 0xA001: block.short(1)}
    day, clock, fraction = _moment(tags.utc_ns)
    entries = {**needed, **known}
    entries |= {0x9000: (UNDEFINED, 4, b"0232"), 0xA002: block.long(tags.width), 0xA003: block.long(tags.height)}
    for moment, subsec, offset in (
        (ORIGINAL, ORIGINAL_SUBSEC, ORIGINAL_OFFSET),
        (DIGITIZED, DIGITIZED_SUBSEC, DIGITIZED_OFFSET),
    ):
        entries[moment] = text(f"{day} {clock}")
        entries[subsec] = text(fraction)
        entries[offset] = text("+00:00")
    if tags.serial:
        entries[SERIAL] = text(tags.serial)
    return entries


def _moment(utc_ns: int) -> tuple[str, str, str]:
    """Date, time of day and three digits, to the nearest millisecond as everywhere."""
    moment = EPOCH + timedelta(milliseconds=(utc_ns + NS_PER_MS // 2) // NS_PER_MS)
    return f"{moment:%Y:%m:%d}", f"{moment:%H:%M:%S}", f"{moment.microsecond // 1000:03d}"


def _gps(tags: PhotoTags, latitude: float, longitude: float, block: Block) -> Directory:
    day, clock, fraction = _moment(tags.utc_ns)
    hours, minutes, seconds = clock.split(":")
    corrected = tags.quality in CORRECTED
    entries = {
        0x00: (BYTE, 4, b"\2\3\0\0"),
        0x01: text("S" if latitude < 0 else "N"),
        0x02: block.fractions(*_degrees(abs(latitude))),
        0x03: text("W" if longitude < 0 else "E"),
        0x04: block.fractions(*_degrees(abs(longitude))),
        GPS_TIME: block.fractions((int(hours), 1), (int(minutes), 1), (float(f"{seconds}.{fraction}"), 1000)),
        0x09: text("A"),
        0x0A: text("2" if tags.altitude_m is None else "3"),
        0x12: text("WGS-84"),
        GPS_DATE: text(day),
        0x1E: block.short(int(corrected)),
    }
    if tags.altitude_m is not None:
        entries[0x05] = (BYTE, 1, b"\1" if tags.altitude_m < 0 else b"\0")
        entries[0x06] = block.fractions((abs(tags.altitude_m), 1000))
    if tags.satellites is not None:
        entries[0x08] = text(str(tags.satellites))
    if tags.speed_mps is not None:
        entries |= {0x0C: text("K"), 0x0D: block.fractions((tags.speed_mps * 3.6, 1000))}
    for reference, tag, degrees in ((0x0E, 0x0F, tags.heading_deg), (0x10, 0x11, tags.direction_deg)):
        if degrees is not None:
            entries |= {reference: text("T"), tag: block.fractions((round(degrees, 2) % 360, 100))}
    for tag, value, down in ((0x0B, tags.hdop, 100), (0x1F, tags.sigma_m, 10_000)):
        if value is not None:
            entries[tag] = block.fractions((value, down))
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
    if tags.latitude is not None and tags.sigma_m is not None:
        words.append(f"Camera:GPSXYAccuracy='{tags.sigma_m:.4f}'")
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
