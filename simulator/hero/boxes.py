"""What PyAV does not write into an MP4: a track of telemetry, and GoPro's own data about the file."""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TIMESCALE = 1000  # of the telemetry, as in GoPro's files
HANDLER_NAME = b"\x0bGoPro MET  "
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
ENABLED_FLAGS = 0xF
TIMECODE_HANDLER = b"hdlr" + bytes(8) + b"tmcd"
FREE_HEADER = struct.Struct(">I4sQ")  # with a length of 64 bits
UNDEFINED_LANGUAGE = 0x55C4


def box(name: bytes, *content: bytes) -> bytes:
    """A box of ISO 14496-12."""
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), name) + data


def append_telemetry(path: Path, payloads: Sequence[tuple[int, bytes]], about: Mapping[bytes, bytes]) -> range:
    """Add a `gpmd` track of (milliseconds, payload), and boxes of user data, to an MP4 that ends with its `moov`.

    Gives which bytes of the file are the payloads. They lie together behind the film, where a camera weaves them in:
    readers follow the table anyway.
    """
    with path.open("r+b") as file:
        start = _start_of_movie(path)
        file.seek(start)
        movie = dict(_boxes(file.read()))[b"moov"]
        file.seek(start)
        file.write(box(b"mdat", *(data for _, data in payloads)))
        end = file.tell()
        file.write(_movie(movie, payloads, start + 8, about))
    return range(start + 8, end)


def fill_up(path: Path, size: int) -> None:
    """Make a file so large with a box of nothing, which takes no room on a disk that knows sparse files."""
    with path.open("r+b") as file:
        nothing = size - file.seek(0, os.SEEK_END)
        if nothing > 0:
            nothing = max(nothing, FREE_HEADER.size)
            file.write(FREE_HEADER.pack(1, b"free", nothing))
            file.truncate(file.tell() - FREE_HEADER.size + nothing)


def _start_of_movie(path: Path) -> int:
    """Where the last box begins. Lengths of 64 bits occur: films outgrow 4 GB."""
    at = last = 0
    with path.open("rb") as file:
        while len(header := file.read(16)) >= 8:
            last = at
            size = int.from_bytes(header[:4])
            at += int.from_bytes(header[8:]) if size == 1 else size
            file.seek(at)
    return last


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + size]
        at += size


def _movie(movie: bytes, payloads: Sequence[tuple[int, bytes]], first: int, about: Mapping[bytes, bytes]) -> bytes:
    parts = list(_boxes(movie))
    number = sum(name == b"trak" for name, _ in parts) + 1
    header = dict(parts)[b"mvhd"][:-4] + struct.pack(">I", number + 1)  # ends with the number of the next track
    others = [box(name, _renamed(data)) for name, data in parts if name not in (b"mvhd", b"udta")]
    created = header[4:12]
    track = _track(number, created, payloads, first) if payloads else b""
    user_boxes = (box(name, data) for name, data in about.items())
    return box(b"moov", box(b"mvhd", header), *others, track, box(b"udta", *user_boxes))


def _renamed(track: bytes) -> bytes:
    """The track of the time code is named after the film by PyAV, and by GoPro as `GoPro TCD`."""
    if TIMECODE_HANDLER not in track:
        return track
    return track.replace(b"GoPro AVC", b"GoPro TCD").replace(b"GoPro H.265", b"GoPro TCD  ")


def _track(number: int, created: bytes, payloads: Sequence[tuple[int, bytes]], first: int) -> bytes:
    duration = sum(length for length, _ in payloads)
    nothing = bytes(4)
    header = struct.pack(">I8sIII", ENABLED_FLAGS, created, number, 0, duration) + bytes(16) + MATRIX + bytes(8)
    media_header = struct.pack(">I8sIIHH", 0, created, TIMESCALE, duration, UNDEFINED_LANGUAGE, 0)
    handler = nothing + b"mhlrmeta" + bytes(12) + HANDLER_NAME
    base = box(b"gmhd", box(b"gmin", bytes(16)), box(b"gpmd", nothing))
    data = box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", struct.pack(">I", 1))))
    media = box(b"minf", base, data, _table(payloads, first))
    return box(
        b"trak",
        box(b"tkhd", header),
        box(b"mdia", box(b"mdhd", media_header), box(b"hdlr", handler), media),
    )


def _table(payloads: Sequence[tuple[int, bytes]], first: int) -> bytes:
    """Lengths, sizes and places; each payload is a chunk of its own."""
    count = len(payloads)
    sizes = [len(data) for _, data in payloads]
    places = [first + sum(sizes[:index]) for index in range(count)]
    return box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), box(b"gpmd", struct.pack(">IHH", 0, 0, 1))),
        box(b"stts", struct.pack(">II", 0, count), *(struct.pack(">II", 1, length) for length, _ in payloads)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        box(b"stsz", struct.pack(">III", 0, 0, count), *(struct.pack(">I", size) for size in sizes)),
        box(b"co64", struct.pack(">II", 0, count), *(struct.pack(">Q", place) for place in places)),
    )
