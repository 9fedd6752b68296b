"""Files that a request brings, into a recording."""

import secrets
from pathlib import Path

from flask import request

from rig.clock import iso_utc
from rig.errors import NoSpaceError, UnknownError, UnreadableError, UsageError
from rig.files import free_bytes

UPLOAD_BYTES = 256 << 20  # a day of NMEA at 10 Hz
UPLOAD_FILES = 10
UPLOAD_SUFFIXES = (".csv", ".nmea", ".txt", ".log", ".gpx", ".mp4")
UPLOADS = "positions/uploads"


def save_uploads(recording: Path, reserve_bytes: int, utc_ns: int) -> list[Path]:
    """Store the files of a multipart body below a recording, under names of our own; their paths.

    Raises UsageError, UnreadableError for an empty file, NoSpaceError when less than `reserve_bytes` would be left,
    UnknownError when the recording has moved away, or OSError; what was stored by then is removed again.
    """
    if free_bytes(recording) < 2 * (request.content_length or 0) + reserve_bytes:  # the form is kept, then its files
        raise NoSpaceError("the disk has no room for this", cure="delete recordings")
    uploads = [upload for _, upload in request.files.items(multi=True) if upload.filename]  # curl names them alike
    if not uploads:
        raise UsageError("no file was sent", cure="send it as multipart/form-data, e.g. curl -F positions=@log.nmea")
    suffixes = [Path(upload.filename or "").suffix.lower() for upload in uploads]
    for suffix in suffixes:
        if suffix not in UPLOAD_SUFFIXES:
            raise UsageError(f"{suffix[:20]!r} files hold no positions", cure=f"send {', '.join(UPLOAD_SUFFIXES)}")
    folder = recording / UPLOADS
    stamp = iso_utc(utc_ns).replace(":", "").replace("-", "")
    paths = [folder / f"{stamp}-{secrets.token_hex(3)}{suffix}" for suffix in suffixes]
    try:
        for made in (folder.parent, folder):  # not the recording: it may have moved to the trash while this came
            made.mkdir(exist_ok=True)
        for upload, path in zip(uploads, paths, strict=True):
            upload.save(path)
            if path.stat().st_size == 0:
                raise UnreadableError("the file is empty", cure="send one with positions")
    except FileNotFoundError as error:
        raise UnknownError(f"recording {recording.name} is not there any more", cure="restore it first") from error
    except (OSError, UnreadableError):
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths
