"""Photos get their tags, several at a time: in copies or in place, each file whole or as it was.

A command of the user's own may see each of them before; where it fails, the photo stays out of the results.
"""

import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from configs import Settings
from rig.camera.camerabook import CameraBook
from rig.files import UNSYNCED_SUFFIX, copy_rest, sync_data, sync_folder
from rig.offspring import leave, serve
from rig.photo import exif
from rig.photo.collection import read_manifest
from rig.photo.jpeg import read_head, size_of
from rig.photo.locate import Camera, tags_of
from rig.photo.photos import Photo
from rig.photo.privacy import PrivacyError, make_private
from rig.recordings import Manifest

MAKE = "GoPro"  # of all cameras that a recording knows
PRIVATE = "done"  # what the tags of a photo say that the privacy command has seen
WITHHELD = "photos-withheld"  # where photos lie of which the privacy command failed
WRITERS = 8  # the disk confirms that many files at once, 3.5 times as fast as one by one
CHUNK = 64  # photos between two reports of progress, and what a process takes at once
MANY = 256  # photos that are worth processes: a fork takes some milliseconds
PROCESSES = 4

Outcome = tuple[bool, str]  # whether a photo may be shown, and what went wrong


@dataclass(frozen=True, slots=True)
class Item:
    """A photo, the file that it is made of, and what its own camera's clock had said."""

    row: Photo
    source: Path
    camera_time: str = ""


def tag_all(
    items: Sequence[Item], output: Path, settings: Settings, progress: Callable[[float], None]
) -> tuple[list[Photo], list[str]]:
    """Write the tags into all photos; the rows of those that may be shown, and why others are not or have no tags."""
    cameras = cameras_of(read_manifest(output), settings)
    tag = partial(_tag, output=output, settings=settings, cameras=cameras)
    rows, failed = [], []
    for folder in {(output / item.row.photo).parent for item in items}:
        folder.mkdir(parents=True, exist_ok=True)
    for number, (item, (shown, why)) in enumerate(zip(items, _outcomes(items, tag), strict=True), start=1):
        rows += [item.row] if shown else []
        failed += [why] if why else []
        if number % CHUNK == 0:
            progress(number / len(items))
    for folder in {(output / row.photo).parent for row in rows}:
        sync_folder(folder)
    return rows, failed


def _outcomes(items: Sequence[Item], tag: Callable[[Item], Outcome]) -> Iterator[Outcome]:
    """What comes of each photo, in their order. Raises OSError."""
    # Threads wait for each other at Python's lock: processes take half the time. A fork is there at once, but of a
    # process with threads it may stand still for ever.
    forks = sys.platform == "linux" and len(items) >= MANY and threading.active_count() == 1
    pool: Executor = (
        ProcessPoolExecutor(PROCESSES, get_context("fork"), serve, (os.getpid(),))
        if forks
        else ThreadPoolExecutor(WRITERS)
    )
    try:
        yield from pool.map(tag, items, chunksize=CHUNK)
    except BrokenExecutor as error:
        raise OSError(errno.ENOMEM, "a process was killed, say for want of memory") from error
    finally:
        leave(pool)


def cameras_of(manifest: Manifest | None, settings: Settings) -> dict[str, Camera]:
    """The cameras of a recording by their folders, with the names that the crew gave them."""
    book = CameraBook(settings.output)
    return {
        one.folder: Camera(book.label(one.serial) or one.folder, MAKE, one.model, one.serial)
        for one in (manifest.cameras if manifest else ())
    }


def finished(jpeg: bytes, row: Photo, camera: Camera, settings: Settings) -> bytes:
    """A new photo as it is kept: the privacy command has seen it, its tags are in it. Raises PrivacyError."""
    jpeg = make_private(jpeg, settings.privacy_command, settings.privacy_timeout_s)
    privacy = PRIVATE if settings.privacy_command else ""
    return exif.with_tags(jpeg, tags_of(row, size_of(jpeg), camera, settings.camera_directions, privacy=privacy))


def _tag(item: Item, output: Path, settings: Settings, cameras: Mapping[str, Camera]) -> Outcome:
    """Write one photo with its tags."""
    try:
        head = read_head(item.source)
        try:
            block = exif.read_block(head)
        except ValueError:  # its EXIF is damaged, its picture need not be
            block = exif.Block()
        picture, privacy = head, block.privacy
        if settings.privacy_command and not privacy:
            picture = make_private(item.source.read_bytes(), settings.privacy_command, settings.privacy_timeout_s)
            privacy = PRIVATE
            block = exif.without_pictures(block)
        camera = cameras.get(item.row.camera, Camera(item.row.camera))
        own = {"camera_time": item.camera_time or block.camera_time, "privacy": privacy}
        tags = tags_of(item.row, size_of(picture), camera, settings.camera_directions, **own)
        tagged = exif.with_tags(picture, tags, block)
    except PrivacyError as error:
        _withhold(item, output)
        return False, f"{item.source} is left out: {error}"
    except FileNotFoundError:
        return True, ""  # told once for all
    except ValueError as error:
        return True, f"{item.source}: {error}; it gets no tags"
    target = output / item.row.photo
    if tagged != head or os.path.normpath(target) != os.path.normpath(item.source):
        _write(target, tagged, item.source, len(head) if picture is head else None)
    return True, ""


def _withhold(item: Item, output: Path) -> None:
    """Out of the results; a photo of the table is put aside, another camera's original stays where it is."""
    place = output / item.row.photo
    if place == item.source and place.exists():
        aside = output / WITHHELD / item.row.camera / place.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        place.replace(aside)


def _write(path: Path, data: bytes, like: Path, rest_at: int | None) -> None:
    """A whole file or the old one, also after a power cut; its folder is synced when all are written.

    From `rest_at` on the rest of the file `like` follows.
    """
    path = path.resolve() if path.is_symlink() else path
    temporary = path.with_name(path.name + UNSYNCED_SUFFIX)
    try:
        with temporary.open("wb") as file, like.open("rb") as original:  # buffered: a full disk takes a part, silently
            temporary.chmod(stat.S_IMODE(os.fstat(original.fileno()).st_mode))
            file.write(data)
            file.flush()
            if rest_at is not None:
                copy_rest(original, file, rest_at)
                file.flush()
            sync_data(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
