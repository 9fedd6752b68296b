"""Datagrams of a stream to segments on disk, `stream-NNN.ts`, with an index line for each picture beside them.

A segment begins with PAT, PMT and a key picture after `segment_s`; also, at once, where the camera's clock (PTS) starts
anew. A line's `continuity_errors` are those since the line before: in its picture, or in what came before it and is
lost. The line is written as soon as the picture's last packet is known to be here.
"""

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from rig.errors import DeviceError, EdencarError, NoSpaceError
from rig.files import is_full, sync_folder
from rig.footage.transport import PACKET_BYTES, PTS_HZ, Picture, Transport, pts_after

INDEX_HEADER = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors\n"
PTS_BACK_S = 0.5  # B-pictures go back by a few frames, a camera that starts anew by more
PTS_PARTED_S = 3.0
_SEGMENT = re.compile(r"stream-(\d{3,})\.(ts|idx)")

log = logging.getLogger(__name__)


class Datagram(NamedTuple):  # a dataclass takes three times as long to make, 700 times a second
    """What came at once."""

    data: bytes
    start: int  # of its packets
    arrival_monotonic_ns: int


class SegmentWriter:
    """Datagrams to segments; used by one thread, but for `sync` and `close`."""

    def __init__(self, folder: Path, segment_s: float) -> None:
        self.transport = Transport()
        self.files: list[Path] = []
        self.problem: EdencarError | None = None
        self.packets_per_datagram = 0
        self.arrivals: deque[int] = deque(maxlen=1024)
        self._folder = folder
        self._segment_ns = round(segment_s * 1e9)
        self._segment: _Segment | None = None
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._last: Picture | None = None
        self._untold: Picture | None = None  # the same until its line has been made
        self._told_errors = 0
        self._held: Datagram | None = None
        self._lock = threading.Lock()

    def take(self, datagram: Datagram) -> None:
        """Add one datagram; one that does not go on where the stream was waits: it may have overtaken the next."""
        held, self._held = self._held, None
        if held is not None:
            if self.transport.has_overtaken(held[:2], datagram[:2]):
                self._add_datagram(datagram)
                self._add_datagram(held)
                return
            self._add_datagram(held)  # something is lost before it
        if self.transport.follows(datagram.data, datagram.start):
            self._add_datagram(datagram)
        else:
            self._held = datagram

    def release(self) -> None:
        """Add a datagram that waited in vain."""
        held, self._held = self._held, None
        if held is not None:
            self._add_datagram(held)

    def _add_datagram(self, datagram: Datagram) -> None:
        data, start = datagram.data, datagram.start
        self.packets_per_datagram = max(self.packets_per_datagram, len(data) // PACKET_BYTES)
        pictures = self.transport.feed(data, start, datagram.arrival_monotonic_ns)
        self._buffer += data[start:] if start else data
        for picture in pictures:
            self._add(picture)
        if self.transport.is_complete:
            self._tell(self.transport.errors)

    def begin_anew(self) -> None:
        """Close the segment: the stream that follows is another one."""
        self.arrivals.clear()
        self._end_stream()
        self.transport.restart()
        self._close_segment()

    def flush(self) -> None:
        """Hand to the kernel what has been taken, but for a picture that may yet have to begin a segment."""
        self._write_up_to(self.transport.position if self.transport.undecided is None else self.transport.undecided)

    def sync(self) -> None:
        """Have the disk keep what the kernel was given; from another thread, as it can take seconds."""
        with self._lock:
            descriptors = [] if self._segment is None else self._segment.duplicate()
        try:
            with self._noting_failure():
                for descriptor in descriptors:
                    os.fdatasync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Write what is left, sync and close."""
        self._end_stream()
        self._close_segment()

    def _end_stream(self) -> None:
        self.release()
        for picture in self.transport.finish():
            self._add(picture)
        self._tell(self.transport.errors)
        self._last = None
        self._write_up_to(self.transport.position)

    def _add(self, picture: Picture) -> None:
        self.arrivals.append(picture.arrival_monotonic_ns)
        self._tell(picture.errors)
        if self._last is None:
            self._told_errors = picture.errors
        if self._must_split(picture):
            self._write_up_to(picture.position)
            self._close_segment()
            self._open_segment(picture.position, self.transport.tables)
        elif self._segment is None:
            self._open_segment(self.transport.position - len(self._buffer), b"")
        if self._segment is not None:
            self._segment.began_ns = self._segment.began_ns or picture.arrival_monotonic_ns
        self._last = self._untold = picture

    def _must_split(self, picture: Picture) -> bool:
        if self._last is None or self._segment is None or not self._segment.began_ns:
            return False
        if picture.key and picture.arrival_monotonic_ns - self._segment.began_ns >= self._segment_ns:
            return True
        step_s = pts_after(picture.pts_90khz, self._last.pts_90khz) / PTS_HZ
        waited_s = (picture.arrival_monotonic_ns - self._last.arrival_monotonic_ns) / 1e9
        return step_s < -PTS_BACK_S or abs(step_s - waited_s) > PTS_PARTED_S

    def _tell(self, errors: int) -> None:
        """Make the newest picture's line, unless that has been done; so many errors were met up to its end."""
        picture, self._untold = self._untold, None
        if picture is not None and self._segment is not None:
            offset = self._segment.offset_of(picture.position)
            arrival_ns, key = picture.arrival_monotonic_ns, int(picture.key)
            told, self._told_errors = self._told_errors, errors
            self._lines.append(f"{picture.pts_90khz},{arrival_ns},{offset},{key},{errors - told}\n")

    def _write_up_to(self, position: int) -> None:
        count = len(self._buffer) - (self.transport.position - position)
        if count > 0 and self._segment is None:
            self._open_segment(self.transport.position - len(self._buffer), b"")
        if self._segment is not None and self.problem is None:
            with self._noting_failure():
                self._segment.write(self._buffer[:count], "".join(self._lines))
        del self._buffer[: max(0, count)]
        self._lines.clear()

    def _open_segment(self, position: int, tables: bytes) -> None:
        if self.problem is not None:
            return
        with self._noting_failure():
            segment = _Segment(self._folder, position, tables)
            self.files.append(segment.path)
            with self._lock:
                self._segment = segment

    def _close_segment(self) -> None:
        with self._lock:
            segment, self._segment = self._segment, None
        if segment is not None:
            with self._noting_failure():
                segment.close()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Note what the disk refuses: from then on nothing is kept."""
        try:
            yield
        except OSError as error:
            log.error("writing to %s failed: %s", self._folder, error)
            self.problem = _explain(error, self._folder)


class _Segment:
    """One pair of files, whose first byte after `tables` lies at `position` of the stream."""

    def __init__(self, folder: Path, position: int, tables: bytes) -> None:
        self.path = segment_path(folder, newest_segment(folder) + 1)
        self.began_ns = 0  # arrival of its first picture, 0 before that
        self._origin = position - len(tables)
        with ExitStack() as undo:
            self._stream = _create(self.path)
            undo.callback(os.close, self._stream)
            self._index = _create(self.path.with_suffix(".idx"))
            undo.callback(os.close, self._index)
            self.write(tables, INDEX_HEADER)
            sync_folder(folder)
            undo.pop_all()

    def offset_of(self, position: int) -> int:
        return position - self._origin

    def write(self, data: bytes | bytearray, lines: str) -> None:
        # In this order: the index never speaks of bytes that a killed process did not write.
        _write_all(self._stream, data)
        _write_all(self._index, lines.encode())

    def duplicate(self) -> list[int]:
        return [os.dup(self._stream), os.dup(self._index)]

    def close(self) -> None:
        try:
            os.fsync(self._stream)
            os.fsync(self._index)
        finally:
            os.close(self._stream)
            os.close(self._index)


def segment_path(folder: Path, number: int) -> Path:
    """The file of the segment with this number, from 1 on; its index is beside it."""
    return folder / f"stream-{number:03d}.ts"


def newest_segment(folder: Path) -> int:
    """The number of the newest segment in a folder, 0 without any. Raises OSError."""
    found = (_SEGMENT.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _explain(error: OSError, folder: Path) -> EdencarError:
    if is_full(error):
        return NoSpaceError(
            f"no room in {folder}: the stream is not kept any more", cure="free some space, start again"
        )
    return DeviceError(f"{folder} cannot be written ({error.strerror})", cure="look at the disk and its cable")
