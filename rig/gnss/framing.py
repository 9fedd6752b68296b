"""Bytes of a GNSS receiver -> checked NMEA 0183 sentences."""

import re
from functools import reduce
from operator import xor
from typing import NamedTuple

LONGEST_BODY = 250  # NMEA says 79; real receivers reach 120

_FRAME = re.compile(rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]{1,%d})\*([0-9A-Fa-f]{2})" % LONGEST_BODY)
_UNFINISHED = re.compile(rb"\$[\x20-\x23\x25-\x29\x2b-\x7e]{0,%d}(\*[0-9A-Fa-f]?)?" % LONGEST_BODY)


def _shape(*patterns: str) -> re.Pattern[str]:
    """What the fields of a sentence look like from the first one on; each may be empty, the last ones missing."""
    following = "$|,"
    for pattern in reversed(patterns):
        following = f"$|,(?:{pattern})?(?:{following})"
    return re.compile(following.removeprefix("$|"), re.ASCII)


_CLOCK = r"\d{6}(?:\.\d{0,9})?"
_DATE = r"[\d-]{6}"  # 2208-1 after a week rollover is no damage
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_COUNT = r"\d{1,4}"
_LETTER = "[A-Za-z]"
_LATLON = (r"\d{4}(?:\.\d*)?", "[NS]", r"\d{5}(?:\.\d*)?", "[EW]")
# Of every three damages that the checksum misses, these find two; what is read needs no other check of its form.
_SHAPES = {
    "GGA": _shape(_CLOCK, *_LATLON, r"\d", _COUNT, _NUMBER, _NUMBER, _LETTER, _NUMBER, _LETTER, _NUMBER),
    "RMC": _shape(_CLOCK, _LETTER, *_LATLON, _NUMBER, _NUMBER, _DATE),
    "GNS": _shape(_CLOCK, *_LATLON, "[A-Z]+", _COUNT, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
    "GLL": _shape(*_LATLON, _CLOCK, _LETTER),
    "GST": _shape(_CLOCK, *[_NUMBER] * 7),
    "VTG": _shape(_NUMBER, _LETTER, _NUMBER, _LETTER, _NUMBER),
    "GSA": _shape(*["[^,]+"] * 14, *[_NUMBER] * 3),
    "ZDA": _shape(_CLOCK, *[_COUNT] * 3),
    "HDT": _shape(_NUMBER),
    "THS": _shape(_NUMBER),
    "GSV": _shape(*[_COUNT] * 3),
}

Fields = tuple[str, ...]


class Sentence(NamedTuple):
    """One sentence with a right checksum; `offset` is where its `$` was in the stream."""

    talker: str
    kind: str
    fields: Fields
    offset: int


class Framer:
    """Finds the sentences in a stream that may hold anything: noise, binary messages, halves, any line end.

    `offset` is how many bytes of the stream came before.
    """

    def __init__(self, offset: int = 0) -> None:
        self.good = 0
        self.bad = 0
        self.skipped_bytes = 0
        self._tail = b""
        self._tail_offset = offset

    @property
    def received_bytes(self) -> int:
        """The offset of the byte that comes next."""
        return self._tail_offset + len(self._tail)

    def drop_half(self) -> None:
        """Forget a sentence that is not complete: the line was cut."""
        self._skip(self._tail)
        self._tail, self._tail_offset = b"", self.received_bytes

    def feed(self, data: bytes) -> list[Sentence]:
        """The sentences that `data` completes. Proprietary ones are counted as good and left out."""
        data = self._tail + data
        sentences = []
        end = 0
        for match in _FRAME.finditer(data):
            self._skip(data[end : match.start()])
            end = match.end()
            text = match[1].decode("ascii")
            shape = _SHAPES.get(text[2:5])
            if reduce(xor, match[1]) != int(match[2], 16) or (shape and text[5:6] == "," and not shape.match(text, 5)):
                self.bad += 1
                continue
            self.good += 1
            header, *values = text.split(",")
            if _is_standard(header):
                offset = self._tail_offset + match.start()
                sentences.append(Sentence(header[:2], header[2:], tuple(values), offset))
        start = _unfinished(data, end)
        self._skip(data[end:start])
        self._tail, self._tail_offset = data[start:], self._tail_offset + start
        return sentences

    def _skip(self, data: bytes) -> None:
        self.skipped_bytes += len(data.strip(b"\r\n"))


def _is_standard(header: str) -> bool:
    """Talker and kind in five capitals; P begins proprietary ones: Garmin's PGRMC is no RMC."""
    return len(header) == 5 and header[0] != "P" and header.isalpha() and header.isupper()


def _unfinished(data: bytes, end: int) -> int:
    """Where a sentence begins that later bytes may complete."""
    start = data.find(b"$", max(end, data.rfind(b"$")))
    return start if start >= 0 and _UNFINISHED.fullmatch(data, start) else len(data)
