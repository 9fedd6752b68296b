"""The pictures of a stream that is still being written: what `stream.StreamRecorder` has put on disk up to now."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rig.files import read_lines
from rig.footage.segments import newest_segment, segment_path
from rig.footage.transport import PACKET_BYTES, SYNC_BYTE, payload_of

CHUNK_BYTES = 348 * PACKET_BYTES
PICTURE_BYTES = 8 << 20  # no picture is larger
COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment's index: a picture that is whole on disk."""

    segment: Path
    pts_90khz: int
    arrival_monotonic_ns: int
    offset: int
    key: bool
    errors: int = 0  # of continuity, up to the next picture


class Tail:
    """Follows `folder/stream-NNN.idx` from the newest segment on; the folder may still be empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0  # of the segment that is read, 0 before the first
        self._read_to = 0

    def poll(self) -> list[Line]:
        """The pictures that have been written since the last call, at first those of the newest segment."""
        if not self._number and self._folder.is_dir():
            self._number = newest_segment(self._folder)
        lines: list[Line] = []
        while self._number:
            # Looked for first: once there is a next segment, nothing is added to this one.
            goes_on = segment_path(self._folder, self._number + 1).with_suffix(".idx").is_file()
            news, self._read_to = read_index(segment_path(self._folder, self._number), self._read_to)
            lines += news
            if not goes_on:
                break
            self._number, self._read_to = self._number + 1, 0
        return lines


def read_index(segment: Path, begin: int = 0) -> tuple[list[Line], int]:
    """The pictures of a segment from byte `begin` of its index on, and where that ends; none while there is none."""
    with suppress(OSError):
        texts, end = read_lines(segment.with_suffix(".idx"), begin)
        return [line for text in texts if (line := _parse(segment, text))], end
    return [], begin


def read_unit(line: Line) -> bytes:
    """The coded picture of a line, as a decoder takes it; empty when the file does not hold it."""
    unit, payload_pid = bytearray(), -1
    descriptor = os.open(line.segment, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for begin in range(line.offset, line.offset + PICTURE_BYTES, CHUNK_BYTES):
            chunk = os.pread(descriptor, CHUNK_BYTES, begin)
            for at in range(0, len(chunk) - PACKET_BYTES + 1, PACKET_BYTES):
                pid, starts, payload = _packet(chunk, at)
                if payload_pid < 0 and starts:
                    payload_pid = pid
                    unit += payload[9 + payload[8] :] if len(payload) > 9 else b""  # without the PES header
                elif pid == payload_pid and starts:
                    return bytes(unit)
                elif pid == payload_pid:
                    unit += payload
            if len(chunk) < CHUNK_BYTES:
                break
    finally:
        os.close(descriptor)
    return bytes(unit)


def _packet(data: bytes, at: int) -> tuple[int, bool, bytes]:
    """PID, whether a picture or table begins here, payload (ISO/IEC 13818-1, 2.4.3.2)."""
    unit = data[at + 1]
    pid = (unit & 0x1F) << 8 | data[at + 2] if data[at] == SYNC_BYTE else -2
    return pid, bool(unit & 0x40), payload_of(data, at)


def _parse(segment: Path, text: bytes) -> Line | None:
    parts = text.split(b",")
    if len(parts) != COLUMNS or not all(part.isdigit() for part in parts):
        return None  # the header, or damage
    pts, arrival_ns, offset, key, errors = map(int, parts)
    return Line(segment, pts, arrival_ns, offset, key == 1, errors)
