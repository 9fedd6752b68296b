"""The folders of recordings: manifests, states, files, trash and the room that is left, whatever else lies there."""

import json
import logging
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from rig.clock import NS_PER_S, UtcClock, iso_utc, system_clock
from rig.errors import ConflictError, NoSpaceError, UnknownError, UnreadableError
from rig.files import UNSYNCED_SUFFIX, is_full, sync_folder, write_atomically
from rig.gaps import Gap

MANIFEST = "recording.json"
TRASH = ".trash"
TRASHED = ".trashed"  # in a recording there: since when, UTC in ns
ID_FORMAT = "%Y-%m-%d_%H-%M-%S"
ID = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d{1,4}))?", re.ASCII)

RECORDING = "recording"
FETCHING = "fetching"  # the camera's files are on their way from its card
FINISHED = "finished"
INTERRUPTED = "interrupted"
BROKEN = "broken"  # never written: what a folder with an unreadable manifest is listed as
OPEN_STATES = (RECORDING, FETCHING)
SILENT_S = 60.0  # a server that has not said for so long that it records is gone
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CODES = "codes"  # in a recording: what pages with the time code drew, `<page>.jsonl`
MEDIA = (".ts", ".mp4", ".jpg")
TEXTS = ("id", "mode", "state", "started", "name", "note", "every", "software", "continues")

VIDEO, CAMERA, PHOTOS = "video", "camera", "photos"  # streams kept here; cards; streams, and photos made of them live
MODES = (VIDEO, CAMERA, PHOTOS)
POSITIONS_ONLY = "positions-only"  # what a start may allow: no camera answers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedCamera:
    """A camera of a recording; its files lie in `videos/<folder>`."""

    serial: str
    model: str
    address: str
    folder: str


@dataclass(frozen=True, slots=True)
class RecordedReceiver:
    """The receiver of a recording and how many epochs it logged."""

    port: str | None
    epochs: int = 0


@dataclass(frozen=True, slots=True)
class Alive:
    """An instant at which a recording certainly went on: UTC, CLOCK_MONOTONIC, and which boot that counts from."""

    utc_ns: int
    monotonic_ns: int
    boot: str

    @classmethod
    def now(cls, clock: UtcClock) -> "Alive":
        """This instant."""
        monotonic_ns = time.monotonic_ns()
        return cls(clock.utc_ns(monotonic_ns), monotonic_ns, _boot())

    @property
    def is_of_earlier_boot(self) -> bool:
        """Whether the machine was switched off since."""
        return self.boot != _boot()

    def age_s(self, clock: UtcClock) -> float:
        """How long ago it was, whatever the wall clock did within one boot; since the boot where that is all known."""
        now = Alive.now(clock)
        if self.is_of_earlier_boot:
            return max(now.utc_ns - self.utc_ns, now.monotonic_ns) / NS_PER_S
        return (now.monotonic_ns - self.monotonic_ns) / NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `recording.json` says. `started` and `stopped` are ISO 8601 UTC by `clock`, the best one known.

    `chosen` are the serials that were asked for, none for all; `alive` is written again and again while it runs;
    `continues` is the recording that was interrupted and goes on as this one.
    """

    id: str
    mode: str
    state: str
    started: str
    stopped: str | None = None
    name: str = ""
    note: str = ""
    every: str = ""
    software: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    cameras: tuple[RecordedCamera, ...] = ()
    receiver: RecordedReceiver | None = None
    clock: UtcClock | None = None
    warnings: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    chosen: tuple[str, ...] = ()
    alive: Alive | None = None
    continues: str = ""

    def to_json(self) -> bytes:
        """The text of `recording.json`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2, default=str).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """The manifest in a text; keys of later versions are ignored.

        Raises UnreadableError when it is not a manifest.
        """
        try:
            values = _known(cls, json.loads(data))
            for name, each in (("cameras", RecordedCamera), ("gaps", Gap)):
                values[name] = tuple(each(**_known(each, item)) for item in values.get(name, ()))
            for name in ("warnings", "chosen"):
                values[name] = tuple(map(str, values.get(name, ())))
            values["settings"] = dict(values.get("settings", {}))
            for name, kind in (("receiver", RecordedReceiver), ("clock", UtcClock), ("alive", Alive)):
                values[name] = kind(**_known(kind, values[name])) if values.get(name) else None
            manifest = cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise UnreadableError(f"{MANIFEST} is not a manifest ({error})") from error
        if not all(isinstance(getattr(manifest, name), str) for name in TEXTS):
            raise UnreadableError(f"{MANIFEST} is not a manifest ({', '.join(TEXTS)} must be text)")
        return manifest


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A regular file of a recording; `path` is relative, with slashes."""

    path: str
    size_bytes: int


class Recordings:
    """All recordings below one folder. Safe to use from several threads."""

    def __init__(self, output: Path) -> None:
        self.output = output.resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        self._changing = threading.Lock()

    def create(self, started_utc_ns: int, mode: str, **values: Any) -> Manifest:
        """Make the folder of a new recording, with its manifest in state `recording`.

        Raises NoSpaceError when the disk is full.
        """
        stamp = datetime.fromtimestamp(started_utc_ns // NS_PER_S, UTC).strftime(ID_FORMAT)
        with _disk_full_told(self.output), self._changing:
            folder = self._make_folder(stamp)
            manifest = Manifest(id=folder.name, mode=mode, state=RECORDING, started=iso_utc(started_utc_ns), **values)
            try:
                _write(folder, manifest)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            sync_folder(self.output)
        return manifest

    def folder(self, recording_id: str) -> Path:
        """The folder of a recording. Raises UnknownError for anything that is not the id of one."""
        folder = self.output / recording_id
        if not ID.fullmatch(recording_id) or not _is_folder(folder):
            raise UnknownError(f"there is no recording {recording_id[:60]!r}", cure="see the list of recordings")
        return folder

    def get(self, recording_id: str) -> Manifest:
        """The manifest of a recording; one that cannot be read is replaced by a warning in state `broken`."""
        folder = self.folder(recording_id)
        try:
            return _read(folder)
        except UnreadableError as error:
            return Manifest(
                id=recording_id,
                mode="",
                state=BROKEN,
                started=f"{recording_id[:10]}T{recording_id[11:19].replace('-', ':')}.000Z",
                warnings=(f"{error.message}; the files beside it can still be downloaded",),
            )

    def list(self) -> list[Manifest]:
        """All recordings, the newest first."""
        found = []
        for name in _names(self.output):
            with suppress(UnknownError):  # moved to the trash meanwhile
                found.append(self.get(name))
        return found

    def list_trash(self) -> Sequence[str]:
        """The ids of what can be restored, the newest first."""
        return _names(self.output / TRASH)

    def update(self, recording_id: str, **changes: Any) -> Manifest:
        """Change some entries of a manifest and return the new one.

        Raises UnreadableError rather than write over a manifest that cannot be read.
        """
        with _disk_full_told(self.output), self._changing:
            folder = self.folder(recording_id)
            manifest = replace(_read(folder), **changes)
            _write(folder, manifest)
        return manifest

    def trash(self, recording_id: str) -> None:
        """Move a recording to the trash. Raises ConflictError while it is being recorded or fetched."""
        with self._changing:
            folder = self.folder(recording_id)
            if self.get(recording_id).state in OPEN_STATES:
                raise ConflictError(f"recording {recording_id} is still being made", cure="stop it first")
            (self.output / TRASH).mkdir(exist_ok=True)
            self._move(folder, self.output / TRASH / recording_id)

    def discard(self, recording_id: str) -> None:
        """Remove a recording that never began; one that holds pictures goes to the trash all the same."""
        if any(Path(file.path).suffix.lower() in MEDIA for file in self.files(recording_id)):
            self.update(recording_id, state=INTERRUPTED)
            self.trash(recording_id)
            return
        with self._changing:
            shutil.rmtree(self.folder(recording_id))

    def empty_trash(self, clock: UtcClock, older_than_s: float) -> None:
        """Remove for ever what lies in the trash for so long, and note of what is new there since when.

        By the receiver's time only: another clock may jump by years. Raises OSError.
        """
        for name in reversed(self.list_trash()) if clock.source == "gnss" else ():
            if clock.utc_ns() - self._trashed_ns(name, clock) > older_than_s * NS_PER_S:
                self._remove(name)

    def drop_oldest_trash(self) -> str | None:
        """Remove for ever what was recorded first of all that lies in the trash; None when it is empty."""
        names = self.list_trash()
        return names[-1] if names and self._remove(names[-1]) else None

    def restore(self, recording_id: str) -> Manifest:
        """Take a recording out of the trash. Raises UnknownError when it is not there."""
        with self._changing:
            source = self.output / TRASH / recording_id
            if not ID.fullmatch(recording_id) or not _is_folder(source):
                raise UnknownError(f"recording {recording_id[:60]!r} is not in the trash", cure="see the list of it")
            (source / TRASHED).unlink(missing_ok=True)
            self._move(source, self.output / recording_id)
        return self.get(recording_id)

    def files(self, recording_id: str) -> Sequence[StoredFile]:
        """The regular files of a recording, sorted by path; links and half-written files are left out."""
        found = sorted(_walk(self.folder(recording_id), ""), key=lambda file: file.path)
        self.folder(recording_id)  # it may have moved to the trash meanwhile
        return found

    def file(self, recording_id: str, path: str) -> Path:
        """One regular file of a recording.

        Raises UnknownError for anything else: a link, a folder, a path that leads out of the recording.
        """
        at = self.folder(recording_id)
        parts = PurePosixPath(path).parts
        try:
            for part in parts:
                at = at / part
                if part in ("/", "..") or "\\" in part or stat.S_ISLNK(at.lstat().st_mode):
                    raise FileNotFoundError(path)
            if not parts or not stat.S_ISREG(at.lstat().st_mode):
                raise FileNotFoundError(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise UnknownError(
                f"recording {recording_id} has no file {path[:120]!r}", cure=f"see /api/recordings/{recording_id}"
            ) from error
        return at

    def _trashed_ns(self, name: str, clock: UtcClock) -> int:
        """Since when something lies in the trash: since now when that is not written there yet, and then it is."""
        stamp, now_ns = self.output / TRASH / name / TRASHED, clock.utc_ns()
        with self._changing:  # a file that comes while the folder is removed would keep it
            try:
                return int(stamp.read_bytes())
            except (FileNotFoundError, ValueError):
                if _is_folder(stamp.parent):  # neither restored nor removed meanwhile
                    write_atomically(stamp, str(now_ns).encode())
                return now_ns

    def _remove(self, name: str) -> bool:
        with self._changing:
            folder = self.output / TRASH / name
            if not ID.fullmatch(name) or not _is_folder(folder):  # restored meanwhile
                return False
            log.warning("%s is removed from the trash for ever", name)
            shutil.rmtree(folder)
            sync_folder(folder.parent)
        return True

    def _make_folder(self, stamp: str) -> Path:
        taken = {*_names(self.output), *self.list_trash()}
        number = 1
        while True:
            name = stamp if number == 1 else f"{stamp}-{number}"
            number += 1
            if name in taken:
                continue
            with suppress(FileExistsError):  # something foreign
                (self.output / name).mkdir()
                return self.output / name

    def _move(self, source: Path, target: Path) -> None:
        if target.exists():
            raise ConflictError(f"{target} exists already", cure="move it away by hand")
        source.rename(target)
        sync_folder(source.parent)
        sync_folder(target.parent)


def require_closed(folder: Path) -> None:
    """Raises ConflictError where a server of this machine records into a folder at this moment."""
    with suppress(UnreadableError):
        manifest = _read(folder)
        alive = manifest.alive if manifest.state == RECORDING else None
        if alive and not alive.is_of_earlier_boot and alive.age_s(system_clock()) < SILENT_S:
            raise ConflictError(f"{folder} is being recorded", cure="stop it first, or name another --output")


@contextmanager
def _disk_full_told(folder: Path) -> Iterator[None]:
    """Turn the operating system's "no space" into ours."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(f"the disk of {folder} is full", cure="delete recordings or change the disk") from error
        raise


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _read(folder: Path) -> Manifest:
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise UnreadableError(f"{MANIFEST} cannot be read ({error.strerror})") from error
    # The folder's name is what people and requests call it; a copied folder keeps its old manifest.
    return replace(Manifest.from_json(data), id=folder.name)


def _write(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / MANIFEST, manifest.to_json())


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not on Linux
        return ""


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if ID.fullmatch(entry.name) and _is_folder(Path(entry.path))]
    except OSError:
        return []
    return sorted(names, key=_age_key, reverse=True)


def _age_key(name: str) -> tuple[str, int]:
    match = ID.fullmatch(name)
    assert match
    return match[1], int(match[2] or 1)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)  # not a link to one
    except (OSError, ValueError):
        return False


def _walk(folder: Path, prefix: str) -> Iterator[StoredFile]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:  # while photos are made anew, say
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and not _is_internal(entry.name):
                yield StoredFile(prefix + entry.name, entry.stat(follow_symlinks=False).st_size)


def _is_internal(name: str) -> bool:
    return name.startswith(".") or name.endswith(UNSYNCED_SUFFIX)
