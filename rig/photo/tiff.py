"""The directories of tags inside EXIF, which is a TIFF file without a picture: read, changed, and written again."""

import math
import struct
from dataclasses import dataclass, field
from typing import Self

MOST_ENTRIES = 1_000  # in one directory; more is damage
LARGEST = 2**32 - 1
HEADS = {"<": b"II*\0", ">": b"MM\0*"}  # by byte order
HEAD_BYTES = 8

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
LETTERS = {1: "B", 3: "H", 4: "I", 5: "II", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}

POINTERS = (("exif", "0", 0x8769), ("gps", "0", 0x8825), ("interop", "exif", 0xA005))  # directory, in which, tag
THUMBNAIL_AT, THUMBNAIL_BYTES = 0x0201, 0x0202
MAKER_NOTE = 0x927C

Entry = tuple[int, int, bytes]  # kind, count, data in the block's byte order
Directory = dict[int, Entry]


def text(value: str) -> Entry:
    """An entry that says a text."""
    data = value.encode() + b"\0"
    return ASCII, len(data), data


@dataclass(slots=True)
class Tiff:
    """The directories `0` (the picture), `1` (the thumbnail), `exif`, `gps`, `interop`, in one byte order."""

    order: str = "<"
    directories: dict[str, Directory] = field(default_factory=dict)
    thumbnail: bytes = b""
    maker_note_at: int = 0  # it may hold offsets of its own, so it stays where it was

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

    def short(self, value: int) -> Entry:
        """An entry that says a number of 16 bits."""
        return SHORT, 1, struct.pack(self.order + "H", value)

    def long(self, value: int) -> Entry:
        """An entry that says a number of 32 bits."""
        return LONG, 1, struct.pack(self.order + "I", value)

    def fractions(self, *pairs: tuple[float, int]) -> Entry:
        """An entry of rationals: each value with the denominator that it is rounded to."""
        whole: list[int] = []
        for value, down in pairs:
            whole += (min(LARGEST, round(value * down)), down)
        return RATIONAL, len(pairs), struct.pack(self.order + "I" * len(whole), *whole)

    def written(self) -> bytes:
        """All as TIFF: what is pointed to stands before what points to it, so that each place is known in time."""
        found = {name: dict(self.directories.get(name, {})) for name in ("0", "exif", "interop", "gps", "1")}
        data = bytearray(HEAD_BYTES)
        if self.maker_note_at >= HEAD_BYTES and MAKER_NOTE in found["exif"]:
            kind, count, note = found["exif"][MAKER_NOTE]
            data = bytearray(self.maker_note_at) + _even(note)
            found["exif"][MAKER_NOTE] = kind, count, self.long(self.maker_note_at)[2]
        if self.thumbnail:
            found["1"] |= {THUMBNAIL_AT: self.long(len(data)), THUMBNAIL_BYTES: self.long(len(self.thumbnail))}
            data += _even(self.thumbnail)
        for name, parent, tag in reversed(POINTERS):
            found[parent].pop(tag, None)
            if found[name]:
                found[parent][tag] = self.long(len(data))
                data += self._directory(found[name], len(data))
        following = len(data) if found["1"] else 0
        if following:
            data += self._directory(found["1"], following)
        data[:HEAD_BYTES] = HEADS[self.order] + struct.pack(self.order + "I", len(data))
        return bytes(data) + self._directory(found["0"], len(data), following)

    def _directory(self, entries: Directory, place: int, following: int = 0) -> bytes:
        """A directory for that place with its longer values behind it, all at even offsets."""
        at = place + 6 + 12 * len(entries)
        pack, pack_place = struct.Struct(self.order + "HHI4s").pack, struct.Struct(self.order + "I").pack
        rows, values = [struct.pack(self.order + "H", len(entries))], []
        for tag, (kind, count, data) in sorted(entries.items()):
            if len(data) > 4:
                values.append(_even(data))
                data = pack_place(at)
                at += len(values[-1])
            rows.append(pack(tag, kind, count, data))
        return b"".join((*rows, pack_place(following), *values))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """What some bytes hold. Raises ValueError where they are damaged."""
        order = next((order for order, head in HEADS.items() if data.startswith(head)), "")
        if not order or len(data) < HEAD_BYTES:
            raise ValueError("its EXIF is damaged")
        found = cls(order)
        (first,) = struct.unpack_from(order + "I", data, 4)
        found.directories["0"], following, _ = _read_directory(data, order, first)
        for name, parent, tag in POINTERS:
            for place in found.numbers(parent, tag)[:1]:
                found.directories[name], _, places = _read_directory(data, order, int(place))
                if name == "exif":
                    found.maker_note_at = places.get(MAKER_NOTE, 0)
        if following:
            found.directories["1"], _, _ = _read_directory(data, order, following)
            where, size = (found.numbers("1", tag) for tag in (THUMBNAIL_AT, THUMBNAIL_BYTES))
            if where and size:
                found.thumbnail = data[int(where[0]) : int(where[0] + size[0])]
        return found


def _even(data: bytes) -> bytes:
    return data + b"\0" if len(data) % 2 else data


def _read_directory(data: bytes, order: str, at: int) -> tuple[Directory, int, dict[int, int]]:
    """The entries of a directory, where the next one is, and where values lie that are not in their entries."""
    if at + 2 > len(data):
        raise ValueError("its EXIF is damaged: a directory lies outside")
    (count,) = struct.unpack_from(order + "H", data, at)
    end = at + 2 + 12 * count
    if count > MOST_ENTRIES or end > len(data):
        raise ValueError("its EXIF is damaged: a directory is cut off")
    entries: Directory = {}
    places: dict[int, int] = {}
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", data[at + 2 : end]):
        size = SIZES.get(kind, 0) * number
        if 0 < size <= 4:
            entries[tag] = kind, number, value[:size]
        elif size:
            (place,) = struct.unpack(order + "I", value)
            if size <= len(data) - place:
                entries[tag] = kind, number, data[place : place + size]
                places[tag] = place
    following = struct.unpack_from(order + "I", data, end)[0] if end + 4 <= len(data) else 0
    return entries, following, places
