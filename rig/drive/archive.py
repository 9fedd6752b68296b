"""All files of a recording as one ZIP whose every byte is known beforehand but the checksums: sized and resumable.

Stored, never deflated: videos and photos are compressed already. ZIP64 throughout (APPNOTE.TXT 6.3.10, 4.3 and 4.5.3).
"""

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

CHUNK = 256 << 10
VERSION = 45  # needed to extract: ZIP64
FLAGS = 1 << 3 | 1 << 11  # the checksum follows the data; names are UTF-8
MADE_BY_UNIX = 3 << 8 | VERSION
REGULAR_644 = 0o100644 << 16
ZIP64, FULL = 1, 0xFFFFFFFF
LOCAL, DESCRIPTOR = struct.Struct("<IHHHHHIIIHHHHQQ"), struct.Struct("<IIQQ")
CENTRAL, END = struct.Struct("<IHHHHHHIIIHHHHHIIHHQQQ"), struct.Struct("<IQHHIIQQQQIIQIIHHHHIIH")
MOST_CHECKSUMS = 100_000

_checksums: dict[tuple[Path, int, int], int] = {}
_keeping = threading.Lock()


@dataclass(frozen=True, slots=True)
class Member:
    """A file as it was when the archive was planned."""

    name: bytes
    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, name: str, path: Path) -> "Member":
        """A file under a name. Raises OSError."""
        known = path.lstat()
        return cls(name.encode("utf-8", "surrogateescape"), path, known.st_size, known.st_mtime_ns)

    def read(self, begin: int) -> Iterator[bytes]:
        """The bytes from `begin` on; the checksum is remembered when these are all. Raises OSError."""
        checksum, left = 0, self.size - begin
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            file.seek(begin)
            while left:
                data = file.read(min(CHUNK, left))
                if not data:
                    raise OSError(f"{self.path.name} became shorter")
                left -= len(data)
                checksum = zlib.crc32(data, checksum)
                yield data
        if begin == 0:
            with _keeping:
                if len(_checksums) >= MOST_CHECKSUMS:
                    _checksums.clear()
                _checksums[self.path, self.size, self.mtime_ns] = checksum

    @property
    def checksum(self) -> int:
        """CRC-32; the file is read only when it has not been since it changed."""
        key = (self.path, self.size, self.mtime_ns)
        if key not in _checksums:
            for _ in self.read(0):
                pass
        return _checksums[key]

    @property
    def dos_time(self) -> tuple[int, int]:
        """Time and date of the last change in UTC, as ZIP has them, from 1980 on in steps of 2 s."""
        at = datetime.fromtimestamp(self.mtime_ns // 10**9, UTC)
        if at.year < 1980:
            return 0, 33
        return at.hour << 11 | at.minute << 5 | at.second // 2, min(at.year, 2107) - 1980 << 9 | at.month << 5 | at.day


class Archive:
    """A ZIP that is made while it is read, from any byte on; the same files give the same bytes."""

    def __init__(self, files: Iterable[tuple[str, Path]]) -> None:
        self.members = [Member.of(name, path) for name, path in files]
        self._parts = list(self._plan())
        self.size = sum(size for size, _ in self._parts)

    @property
    def etag(self) -> str:
        """Changes with the name, size or time of any file."""
        known = repr([(member.name, member.size, member.mtime_ns) for member in self.members])
        return hashlib.sha256(known.encode()).hexdigest()[:32]

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` up to but not including `end`; files before it are not read. Raises OSError."""
        at = 0
        for size, make in self._parts:
            if at >= end:
                break
            if at + size > begin:
                skipped = max(0, begin - at)
                yield from _limited(make(skipped), end - at - skipped)
            at += size

    def _plan(self) -> Iterator[tuple[int, Callable[[int], Iterable[bytes]]]]:
        """The lengths of all parts, and what makes them from a byte on."""
        offsets, at = [], 0
        for member in self.members:
            offsets.append(at)
            parts = (
                (LOCAL.size + len(member.name), _late(_local, member)),
                (member.size, member.read),
                (DESCRIPTOR.size, _late(_descriptor, member)),
            )
            yield from parts
            at += sum(size for size, _ in parts)
        directory = sum(CENTRAL.size + len(member.name) for member in self.members)
        for member, offset in zip(self.members, offsets, strict=True):
            yield CENTRAL.size + len(member.name), _late(_central, member, offset)
        yield END.size, _late(_end, self.members, at, directory)


def _late(make: Callable[..., bytes], *args: object) -> Callable[[int], Iterable[bytes]]:
    return lambda begin: (make(*args)[begin:],)


def _limited(chunks: Iterable[bytes], left: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def _local(member: Member) -> bytes:
    head = (0x04034B50, VERSION, FLAGS, 0, *member.dos_time, 0, FULL, FULL, len(member.name), 20)
    # The sizes stand between the name and the data, the name between the fixed part and them.
    fixed = LOCAL.pack(*head, ZIP64, 16, member.size, member.size)
    return fixed[:30] + member.name + fixed[30:]


def _descriptor(member: Member) -> bytes:
    return DESCRIPTOR.pack(0x08074B50, member.checksum, member.size, member.size)


def _central(member: Member, offset: int) -> bytes:
    head = (0x02014B50, MADE_BY_UNIX, VERSION, FLAGS, 0, *member.dos_time, member.checksum, FULL, FULL)
    more = (len(member.name), 28, 0, 0, 0, REGULAR_644, FULL)
    fixed = CENTRAL.pack(*head, *more, ZIP64, 24, member.size, member.size, offset)
    return fixed[:46] + member.name + fixed[46:]


def _end(members: Sequence[Member], at: int, directory: int) -> bytes:
    count = len(members)
    end64 = (0x06064B50, 44, MADE_BY_UNIX, VERSION, 0, 0, count, count, directory, at)
    locator = (0x07064B50, 0, at + directory, 1)
    few = min(count, 0xFFFF)
    return END.pack(*end64, *locator, 0x06054B50, 0, 0, few, few, FULL, FULL, 0)
