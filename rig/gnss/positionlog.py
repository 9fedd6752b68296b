"""The files of one recording's positions: raw bytes, when they came, the table; whole after a kill or power cut."""

import bisect
import errno
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rig.files import read_lines, sync_folder
from rig.gnss.fix import FIX_COLUMNS, Fix, csv_line
from rig.gnss.framing import Framer
from rig.gnss.nmea import Stamp, assemble

CSV_NAME, RAW_NAME, INDEX_NAME = "positions.csv", "raw.nmea", "raw.idx"
CSV_HEADER = ",".join(FIX_COLUMNS) + "\n"
INDEX_HEADER = "byte_offset,monotonic_ns,realtime_ns\n"
RECOVERED_BYTES = 1 << 16  # of the end of raw.nmea, 1.4 s of the fastest line

_INDEX_ROW = re.compile(rb"\d+,\d+,\d+")

Mark = tuple[int, Stamp]  # a byte's offset in the stream and when it came


class PositionLog:
    """The three files of one recording's positions; rows go to the kernel one by one, `sync` brings them to the disk.

    Continues files that are there. Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs = 0
        self.positions = 0
        self._files: dict[str, int] = {}
        self._torn: set[str] = set()
        self._syncing = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for name, header in ((RAW_NAME, ""), (INDEX_NAME, INDEX_HEADER), (CSV_NAME, CSV_HEADER)):
            self._open(name, header)
        self._raw_bytes = os.fstat(self._files[RAW_NAME]).st_size
        for fix in _unwritten(folder):
            self.add_fix(fix)
        self.sync()
        sync_folder(folder)

    def add_bytes(self, data: bytes, marks: Sequence[Mark]) -> None:
        """Keep bytes as they came; the offsets of their marks are within `data`."""
        if marks:
            rows = [f"{self._raw_bytes + offset},{stamp[0]},{stamp[1]}\n" for offset, stamp in marks]
            self._write(INDEX_NAME, "".join(rows).encode())
        self._write(RAW_NAME, data)
        self._raw_bytes += len(data)

    def add_fix(self, fix: Fix) -> None:
        """Keep an epoch."""
        self._write(CSV_NAME, csv_line(fix).encode())
        self.epochs += 1
        self.positions += fix.latitude is not None

    def sync(self) -> None:
        """Bring all to the disk; called from another thread than the one that writes."""
        with self._syncing:
            for number in self._files.values():
                os.fdatasync(number)

    def close(self) -> None:
        """Bring all to the disk and close."""
        with self._syncing:
            for number in self._files.values():
                with suppress(OSError):  # a full disk must not keep the other files from being closed
                    os.fsync(number)
                os.close(number)
            self._files = {}

    def _open(self, name: str, header: str) -> None:
        path = self.folder / name
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._files[name] = number
        size = os.fstat(number).st_size
        if size == 0 and header:
            self._write(name, header.encode())
        elif header and os.pread(number, 1, size - 1) != b"\n":
            self._torn.add(name)  # cut off by a crash: the next row begins on a line of its own

    def _write(self, name: str, data: bytes) -> None:
        line = b"\n" + data if name in self._torn else data
        self._torn.discard(name)
        written = 0
        try:
            written = os.write(self._files[name], line)
        finally:
            if written < len(line) and name != RAW_NAME:
                self._torn.add(name)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Arrivals:
    """The stamps of a raw.idx, by byte offset; none when there is no such file."""

    def __init__(self, index: Path) -> None:
        lines = read_lines(index)[0] if index.exists() else []
        rows = [tuple(map(int, line.split(b","))) for line in lines if _INDEX_ROW.fullmatch(line)]
        self._offsets = [row[0] for row in rows]
        self._stamps = [(row[1], row[2]) for row in rows]

    def at(self, offset: int) -> Stamp | tuple[None, None]:
        """When the byte at this offset came."""
        row = bisect.bisect_right(self._offsets, offset) - 1
        return self._stamps[row] if row >= 0 else (None, None)


def _unwritten(folder: Path) -> list[Fix]:
    """The epochs at the end of raw.nmea that the table lacks because its program was killed."""
    with (folder / RAW_NAME).open("rb") as raw, (folder / CSV_NAME).open("rb") as table:
        begin = max(0, raw.seek(0, os.SEEK_END) - RECOVERED_BYTES)
        raw.seek(begin)
        table.seek(max(len(CSV_HEADER), table.seek(0, os.SEEK_END) - RECOVERED_BYTES))
        rows = [line.split(b",") for line in table if line.endswith(b"\n")]
        fixes = assemble(Framer(begin).feed(raw.read()), Arrivals(folder / INDEX_NAME).at)
    written = {row[0].decode() for row in rows}
    known = [number for number, fix in enumerate(fixes) if fix.utc in written]
    return fixes[known[-1] + 1 :] if known else [] if written else fixes
