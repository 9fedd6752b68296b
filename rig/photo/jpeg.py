"""A JPEG as segments: those that describe the picture put in or taken out, its size, whether all of it is there."""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

BEGIN, END = b"\xff\xd8", b"\xff\xd9"
APP0, APP1, PICTURE = 0xE0, 0xE1, 0xDA  # markers: JFIF, what describes the picture, its data
NO_FRAMES = (0xC4, 0xC8, 0xCC)  # between the markers of frames, which tell the picture's size
EXIF_HEADER, XMP_HEADER = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
MOST_BYTES = 65_533  # in one segment
HEAD_BYTES = 1 << 16  # the picture begins before, but behind large thumbnails

Segment = tuple[int, int, int, bytes]  # marker, begin, end, body


def segments(jpeg: bytes) -> Iterator[Segment]:
    """Each segment up to the picture's data. Raises ValueError where it is damaged or no JPEG."""
    if jpeg[:2] != BEGIN:
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
        if marker == PICTURE:
            return
        at = end
    raise ValueError("it is cut off before its picture")


def segment(body: bytes) -> bytes:
    """A segment that describes the picture. Raises ValueError when its body is longer than JPEG allows."""
    if len(body) > MOST_BYTES:
        raise ValueError("its EXIF or XMP is longer than a JPEG's segment")
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body


def with_segments(jpeg: bytes, described: bytes) -> bytes:
    """The JPEG with these segments instead of its own EXIF and XMP; its pixels are untouched.

    Raises ValueError for anything else than a JPEG.
    """
    parts = [jpeg[:2]]
    placed = False
    for marker, begin, end, body in segments(jpeg):
        if not placed and marker != APP0:  # JFIF wants to be first
            parts.append(described)
            placed = True
        if marker == PICTURE:
            parts.append(jpeg[begin:])
        elif not (marker == APP1 and body.startswith((EXIF_HEADER, XMP_HEADER))):
            parts.append(jpeg[begin:end])
    return b"".join(parts)


def read_head(path: Path) -> bytes:
    """The beginning of a JPEG file, with all that stands before its picture's data: all but `has_end` need no more.

    Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        with suppress(ValueError):
            for _ in segments(head):
                pass
            return head
        return head + file.read()


def has_end(jpeg: bytes) -> bool:
    """Whether the picture's data has its end, unlike that of a file that was cut off. Raises ValueError as size_of."""
    *_, (_, _, data_at, _) = segments(jpeg)
    return jpeg.rfind(END, data_at) >= 0


def is_whole(path: Path) -> bool:
    """Whether a JPEG file has all of its picture; others' bytes may follow. Raises OSError, ValueError."""
    with path.open("rb") as file:
        file.seek(-len(END), os.SEEK_END)
        return file.read() == END or has_end(path.read_bytes())


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a JPEG as it is stored. Raises ValueError for anything else."""
    for marker, _, _, body in segments(jpeg):
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAMES:
            height, width = struct.unpack_from(">HH", body, 1)
            return width, height
    raise ValueError("it has no picture")
