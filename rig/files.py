"""Files that survive: written whole or not at all, on the disk when a function returns; and the room that is left."""

import os
from pathlib import Path

UNSYNCED_SUFFIX = ".tmp"  # of a file that is being written


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


def sync_folder(folder: Path) -> None:
    """Have the disk keep which files a folder holds: without it a new file may be gone after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Room on the disk of `path` for a user without privileges."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
