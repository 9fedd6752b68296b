"""The tree of GPMF that a GoPro writes beside its video: keys, types, sizes and counts (github.com/gopro/gpmf-parser).

The libraries that read it do not fit: py-gpmf-parser has no aarch64 wheel, telemetry-parser none for Python 3.13 and no
time stamps of payloads, pygpmf and gopro-overlay want an ffmpeg program.
"""

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import av.error
import av.stream
import numpy as np

from rig.arrays import Float64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import UnreadableError

Stream = dict[str, "Item"]  # the items of one STRM

HEADER = struct.Struct(">4sBBH")
NESTED = 0
NUMBERS = {"b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "j": ">i8", "J": ">u8"}
NUMBERS |= {"f": ">f4", "d": ">f8", "q": ">i4", "Q": ">i8"}
FIXED_POINT = {"q": 2.0**16, "Q": 2.0**32}
KINDS = frozenset([NESTED, *map(ord, NUMBERS), *b"cUFG?"])
COLUMNS = {"GPS5": 5, "GPS9": 9, "GYRO": 3, "ACCL": 3, "SHUT": 1}
HANDLER = "MET"  # "GoPro MET", with its length in front of it in real files
RAW_PAYLOAD_NS = 1_001 * NS_PER_MS  # of a GPMF track without its MP4

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


def read_payloads(path: Path) -> list[Payload]:
    """The payloads of a file's GPMF track, none where it has none. Raises UnreadableError."""
    try:
        return [_payload(*packet) for packet in _packets(path)]
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableError(f"{path} cannot be read ({error})") from error


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


def numbers(item: Item, layout: str = "") -> Float64:
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


def scaled(stream: Stream, key: str) -> Float64:
    """The samples of a stream in its units."""
    values = numbers(stream[key], text_of(stream.get("TYPE")))
    if "SCAL" not in stream:
        return values
    scale = numbers(stream["SCAL"]).ravel()
    if len(scale) not in (1, values.shape[1]) or not scale.all():
        raise UnreadableError(f"the scale of GPMF's {key} does not fit")
    return values / scale


def samples(stream: Stream, key: str) -> Float64:
    """The samples of one payload; none where the damage of a card or a cable hit them."""
    try:
        values = scaled(stream, key)
        if values.shape[1] == COLUMNS[key] and np.isfinite(values).all():
            return values
    except UnreadableError as error:
        log.warning("%s of one payload left out: %s", key, error)
    return np.empty((0, COLUMNS[key]))


def number(stream: Stream, key: str) -> float | None:
    """The first number of an item, None where there is none."""
    try:
        value = float(numbers(stream[key])[0, 0])
    except (KeyError, UnreadableError):
        return None
    return value if math.isfinite(value) else None


def text_of(item: Item | None) -> str:
    """The text of an item, empty where there is none."""
    return "" if item is None else item.data.rstrip(b"\0").decode("latin-1")


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
            size = size or end - start  # the last one may leave it open
            if size < 8 or (size > end - start and kind != name.encode()):
                return b""
            if kind == name.encode():
                end = min(end, start + size)
                break
            file.seek(start + size)
    return file.read(end - file.tell())


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
