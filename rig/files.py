"""Files that survive: written whole or not at all, on the disk when a function returns; and the room that is left.

Also where there is no Linux: `parseVideo.py` and `parsePhotos.py` run on any laptop.
"""

import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

UNSYNCED_SUFFIX = ".tmp"  # of a file that is being written
MOST_COPIED = 1 << 30  # bytes at once

log = logging.getLogger(__name__)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a power cut either the old or the whole new one is there. Raises OSError."""
    temporary = path.with_name(path.name + UNSYNCED_SUFFIX)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_entries(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Have a JSON file remember something by name. Raises OSError."""
    write_atomically(path, json.dumps(dict(sorted(entries.items())), ensure_ascii=False, indent=2).encode() + b"\n")


def read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """What a JSON file remembers by name; nothing when it is damaged, for all of that can be learnt again."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s is not used: %s", path, error)
        return {}
    entries = values.items() if isinstance(values, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def read_lines(path: Path, begin: int = 0) -> tuple[list[bytes], int]:
    """The lines of a growing file from byte `begin` on, without one that is half written; and where they end.

    Raises OSError.
    """
    with path.open("rb") as file:
        file.seek(begin)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return whole.splitlines(), begin + len(whole)


def sync_folder(folder: Path) -> None:
    """Have the disk keep which files a folder holds: without it a new file may be gone after a power cut."""
    if sys.platform == "win32":  # it opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: OSError) -> bool:
    """Whether a disk took no more, for everybody, for this user, or into so large a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def free_bytes(path: Path) -> int:
    """Room on the disk of `path` for a user without privileges."""
    return shutil.disk_usage(path).free


def sync_data(descriptor: int) -> None:
    """Have the disk keep the bytes of an open file. Raises OSError."""
    if sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def lock_alone(descriptor: int) -> None:
    """Hold an open file against other processes, until it is closed. Raises BlockingIOError while another holds it."""
    if sys.platform != "win32":
        import fcntl  # Windows has none, and no lock that leaves a file readable

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def copy_rest(source: IO[bytes], target: IO[bytes], begin: int) -> None:
    """Add to a file, all of it flushed, what another one holds from byte `begin` on. Raises OSError."""
    if sys.platform == "linux":  # by the kernel
        while copied := os.sendfile(target.fileno(), source.fileno(), begin, MOST_COPIED):
            begin += copied
    else:
        source.seek(begin)
        shutil.copyfileobj(source, target)
