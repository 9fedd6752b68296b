"""A recording copied to a store when there is WiFi at the depot: taken up where it broke off, deleting nothing.

Whatever is there in full with the right size stays. Checksums and manifest go last: without them the recording does not
count as being there.
"""

import argparse
import base64
import filecmp
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from rig import cli
from rig.cluster import store
from rig.cluster.options import SCHEME
from rig.drive import checksums
from rig.errors import ConflictError, UnreadableError, UsageError
from rig.files import lock_alone, sync_data
from rig.recordings import MANIFEST, OPEN_STATES, Recordings

CHUNK_BYTES = 16 << 20  # what a break of the line costs at most
MOST_PARTS = 1000
LAST = (checksums.NAME, MANIFEST)
NICENESS = 10  # a recording goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What was sent and what was there before."""

    recording: str
    url: str
    files: int
    bytes_sent: int
    files_before: int


def upload(folder: Path, url: str, progress: Callable[[float], None] = lambda share: None) -> Uploaded:
    """Copy a recording's folder to `url/<its name>`.

    Raises ConflictError while it is made or uploaded, UsageError, DeviceError.
    """
    recordings = Recordings(folder.parent)
    if recordings.get(folder.name).state in OPEN_STATES:
        cure = "stop it first, and wait for what comes from the cameras"
        raise ConflictError(f"{folder.name} is still being made", cure=cure)
    if not (folder / checksums.NAME).exists() and not checksums.seal(recordings, folder.name):
        raise ConflictError(f"{folder.name} has other files than a moment ago", cure="upload it when it is complete")
    with (folder / checksums.NAME).open("rb") as seal:
        try:
            lock_alone(seal.fileno())
        except BlockingIOError as error:  # both would add to the same file there
            raise ConflictError(f"{folder.name} is being uploaded already", cure="wait for that") from error
        return _copy(recordings, folder, _target(folder, url), progress)


def _copy(recordings: Recordings, folder: Path, target: str, progress: Callable[[float], None]) -> Uploaded:
    there = store.listing(target)
    sums = checksums.read(folder)
    names = sorted((file.path for file in recordings.files(folder.name)), key=lambda name: (name in LAST, name))
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, done, sent, before = max(1, sum(sizes.values())), 0, 0, 0
    for name in names:
        path, at = folder / name, store.join(target, name)
        if (
            name not in LAST
            and name in there
            and there[name].size == sizes[name]
            and (name in sums or _is_same(path, at, there[name].stamp))
        ):
            before += 1
        else:
            sent += _send(path, at, partial(_tell, progress, done, total))
        done += sizes[name]
        progress(done / total)
    return Uploaded(recording=folder.name, url=target, files=len(names), bytes_sent=sent, files_before=before)


def _target(folder: Path, url: str) -> str:
    """Where the recording goes. Raises UsageError."""
    if not url.strip("/") or (SCHEME.match(url) and not re.match(r"[a-z0-9+]+://[^/]", url)):
        raise UsageError(f"{url!r} is no place for recordings", cure="say for instance s3://bucket/cars/one")
    target = store.join(url, folder.name)
    own = store.local(target)
    if own is not None and own.is_relative_to(folder.resolve()):
        raise UsageError(f"{url} lies in the recording itself", cure="name another place")
    return target


def _is_same(path: Path, url: str, stamp: str) -> bool:
    """Whether a file that is no raw data, and may have been made anew, is there as it is here."""
    own = store.local(url)
    if own is not None:
        return filecmp.cmp(path, own, shallow=False)
    return stamp.strip('"') == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _tell(progress: Callable[[float], None], done: int, total: int, size: int) -> None:
    progress((done + size) / total)


def check(folder: Path, url: str, progress: Callable[[float], None] = lambda share: None) -> None:
    """Read back what was recorded and compare its checksums. Raises UnreadableError."""
    sums = checksums.read(folder)
    target = _target(folder, url)
    for number, (name, known) in enumerate(sorted(sums.items()), start=1):
        digest = hashlib.sha256()
        for chunk in store.chunks(store.join(target, name), CHUNK_BYTES):
            digest.update(chunk)
        if digest.hexdigest() != known:
            raise UnreadableError(f"{target}/{name} is not what was recorded", cure="delete it there, upload again")
        progress(number / len(sums))


# --- one file ---------------------------------------------------------------------------------------------------------


def _send(path: Path, url: str, tell: Callable[[int], None]) -> int:
    """Copy a file in pieces, without those that an earlier try has sent; how many bytes went."""
    target, place = store.opened(url)
    size = path.stat().st_size
    if size > CHUNK_BYTES and hasattr(target, "call_s3"):
        return _send_parts(path, target, place, url, tell)
    if size > CHUNK_BYTES and (own := store.local(url)):
        return _append(path, own, tell)
    store.put(path, url)
    return size


def _send_parts(path: Path, target: Any, place: str, url: str, tell: Callable[[int], None]) -> int:
    """S3's multipart upload: the object is there when all parts are."""
    bucket, _, key = place.partition("/")
    where = {"Bucket": bucket, "Key": key}
    upload_id, there = _begun(target, where, url)
    parts, sent = [], 0
    for number, data in enumerate(_pieces(path), start=1):
        digest = hashlib.md5(data, usedforsecurity=False)
        tag = f'"{digest.hexdigest()}"'
        if there.get(number) != tag:
            more = {"PartNumber": number, "UploadId": upload_id, "Body": data}
            more["ContentMD5"] = base64.b64encode(digest.digest()).decode()
            tag = store.tried(url, partial(target.call_s3, "upload_part", **where, **more))["ETag"]
            sent += len(data)
        parts.append({"PartNumber": number, "ETag": tag})
        tell(min(path.stat().st_size, number * _piece_bytes(path)))
    all_parts = {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
    store.tried(url, partial(target.call_s3, "complete_multipart_upload", **where, **all_parts))
    return sent


def _begun(target: Any, where: Mapping[str, str], url: str) -> tuple[str, dict[int, str]]:
    """The newest upload of this object that was not completed, and the tags of its parts; else a new one."""
    listed = store.tried(
        url, partial(target.call_s3, "list_multipart_uploads", Bucket=where["Bucket"], Prefix=where["Key"])
    )
    known = [one for one in listed.get("Uploads", ()) if one["Key"] == where["Key"]]
    if not known:
        made = store.tried(url, partial(target.call_s3, "create_multipart_upload", **where))
        return made["UploadId"], {}
    upload_id = max(known, key=lambda one: one["Initiated"])["UploadId"]
    parts = store.tried(url, partial(target.call_s3, "list_parts", **where, UploadId=upload_id))
    return upload_id, {one["PartNumber"]: one["ETag"] for one in parts.get("Parts", ())}


def _piece_bytes(path: Path) -> int:
    """Such that S3 lists all parts at once."""
    return max(CHUNK_BYTES, -(-path.stat().st_size // MOST_PARTS))


def _pieces(path: Path) -> Iterator[bytes]:
    size = _piece_bytes(path)
    with path.open("rb") as file:
        while data := file.read(size):
            yield data


def _append(path: Path, target: Path, tell: Callable[[int], None]) -> int:
    """Into a folder: on from where an earlier try has stopped, as far as that is the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = target.with_name(target.name + store.PART_SUFFIX)
    try:
        with path.open("rb") as file, begun.open("a+b") as part:
            kept = _same(file, part)
            part.truncate(kept)
            while data := file.read(CHUNK_BYTES):
                part.write(data)
                tell(file.tell())
            part.flush()
            sync_data(part.fileno())
        begun.replace(target)
    except OSError as error:
        raise store.failed(str(target), error) from error
    return path.stat().st_size - kept


def _same(file: IO[bytes], part: IO[bytes]) -> int:
    """How many bytes both begin with, in whole pieces; both stand there."""
    part.seek(0)
    kept = 0
    while (data := part.read(CHUNK_BYTES)) and data == file.read(len(data)):
        kept += len(data)
    file.seek(kept)
    part.seek(kept)
    return kept


# --- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar upload`."""
    parser = argparse.ArgumentParser(prog="edencar upload", description=__doc__)
    parser.add_argument("recording", help="its folder, or its name in the folder of all recordings")
    parser.add_argument("url", help="where it goes: s3://bucket/cars/one, or a folder")
    parser.add_argument("--check", action="store_true", help="read all back afterwards and compare the checksums")

    def body(options: argparse.Namespace) -> Uploaded:
        folder = checksums.named(options.recording)
        with suppress(OSError):
            os.nice(NICENESS)
        found = upload(folder, options.url, cli.Progress("sending"))
        if options.check:
            check(folder, options.url, cli.Progress("checking"))
        return found

    return cli.run(parser, body, _say, argv)


def _say(done: Uploaded) -> str:
    before = f", {done.files_before} were there before" if done.files_before else ""
    return f"{done.recording}: {done.files} files in {done.url}, {done.bytes_sent / 1e6:.1f} MB sent{before}"


if __name__ == "__main__":
    raise SystemExit(main())
