"""Files of a camera's card come here: resumed wherever they broke off, whole or not at all, several at a time.

What is still to come of a recording stands in a ledger on disk beside its files, so that another process can go on.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
from urllib3.exceptions import HTTPError

from rig.camera.goproanswers import Media, RefusedError, read_number
from rig.camera.opengopro import RETRY_PAUSE_S, TRIES, TROUBLE, GoPro
from rig.errors import DeviceError, EdencarError, NoSpaceError
from rig.files import free_bytes, sync_folder, write_atomically
from rig.recordings import TRASH

LEDGER = ".fetch.json"
LEDGERS = (f"[!.]*/videos/*/{LEDGER}", f"{TRASH}/*/videos/*/{LEDGER}")
AT_ONCE = 2  # files: one is on its way while the other begins or ends
CHUNK_BYTES = 256 << 10  # (measured: less takes more processor time than curl, more no less)
OVERLAP_BYTES = 2 << 10  # fetched again and compared: is it still the same file?
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

Progress = Callable[[str, int], None]  # name, bytes done; what it raises ends the download

log = logging.getLogger(__name__)


def download(camera: GoPro, media: Media, folder: Path, progress: Progress = lambda *_: None, reserve: int = 0) -> Path:
    """Fetch a file into `folder`, going on with what an earlier call left in `NAME.part`; `reserve` bytes stay free.

    Raises DeviceError when the camera does not send it whole, NoSpaceError.
    """
    target = folder / media.name
    part = folder / f"{media.name}.part"
    if media.size_bytes is not None and target.is_file() and target.stat().st_size == media.size_bytes:
        progress(media.name, media.size_bytes)
        return target
    failures = 0
    while True:
        before = _size(part)
        try:
            _receive_rest(camera, media, part, progress, reserve)
            break
        except RefusedError:
            raise
        except (*TROUBLE, HTTPError) as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures >= TRIES:
                raise DeviceError(f"{camera.address} does not send {media.path}", cure=str(error)) from error
            progress(media.name, _size(part))
            time.sleep(RETRY_PAUSE_S)
    part.replace(target)
    sync_folder(folder)
    return target


def download_all(
    address: str, wanted: Sequence[Media], folder: Path, progress: Progress = lambda *_: None, reserve: int = 0
) -> list[Path]:
    """Fetch several files, some at once; raises what the first that failed did, when the others are done."""

    def bring(media: Media) -> Path:
        with closing(GoPro(address)) as camera:
            return download(camera, media, folder, progress, reserve)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch") as pool:
        return list(pool.map(bring, wanted))


def _receive_rest(camera: GoPro, media: Media, part: Path, progress: Progress, reserve: int) -> None:
    """Fetch what `part` lacks, and a little before it, which must be the same."""
    have = _size(part)
    begin = max(0, have - OVERLAP_BYTES)
    with closing(camera.send(media, begin)) as response:
        if response.status_code == requests.codes.range_not_satisfiable:
            part.unlink(missing_ok=True)
            raise DeviceError(f"{media.path} on {camera.address} is shorter than what was fetched")
        begin = begin if response.status_code == requests.codes.partial_content else 0
        length = read_number(response.headers.get("Content-Length"))
        total = media.size_bytes or 0 if length is None else begin + length
        if media.size_bytes is not None and total < media.size_bytes:
            raise DeviceError(f"{camera.address} offers {total} of {media.size_bytes} bytes of {media.path}")
        if free_bytes(part.parent) < total - have + reserve:
            cure = "free some space: it goes on where it was"
            raise NoSpaceError(f"{part.parent} has no room for {media.name} ({total >> 20} MiB)", cure=cure)
        with part.open("r+b" if begin else "wb") as file:
            _receive(response, file, begin, lambda done: progress(media.name, done))
            if file.tell() < total:
                raise DeviceError(f"only {file.tell()} of {total} bytes came")
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _receive(response: requests.Response, file: BinaryIO, begin: int, progress: Callable[[int], None]) -> None:
    """Write the body at `begin`; where the file has bytes already, they must be the same."""
    file.seek(begin)
    known = file.read() if begin else b""
    file.seek(begin)
    response.raw.enforce_content_length = False  # else the last bytes before a cut would be thrown away
    done = begin
    while chunk := response.raw.read1(CHUNK_BYTES):  # what is here: a camera that stalls keeps nothing from the disk
        if not chunk.startswith(known[: len(chunk)]):
            file.truncate(0)
            raise DeviceError("what was fetched before is not of the same file")
        known = known[len(chunk) :]
        file.write(chunk)
        done += len(chunk)
        progress(done)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A recording on a card: what that held before it (None: it did not say), and what is to be fetched into `folder`
    (None: the recording has not been stopped yet).
    """

    folder: Path
    serial: str
    before: tuple[str, ...] | None
    wanted: tuple[str, ...] | None = None

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.folder / LEDGER

    @property
    def trashed(self) -> bool:
        """Whether its recording is in the trash."""
        return self.folder.parents[2].name == TRASH

    def save(self) -> "Ledger":
        """Bring it to the disk. Raises OSError."""
        content = {"serial": self.serial, "before": self.before, "wanted": self.wanted}
        write_atomically(self.file, json.dumps(content).encode())
        return self

    @classmethod
    def load(cls, folder: Path) -> "Ledger | None":
        """The ledger in a folder; None when there is none, or none that can be read."""
        try:
            content = json.loads((folder / LEDGER).read_bytes())
            before, wanted = (None if item is None else tuple(item) for item in (content["before"], content["wanted"]))
            return cls(folder, content["serial"], before, wanted)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is left alone: %s", folder / LEDGER, error)
            return None

    @classmethod
    def find(cls, output: Path, serial: str) -> "list[Ledger]":
        """All ledgers of a camera's recordings below `output`, those in the trash too."""
        found = [cls.load(path.parent) for pattern in LEDGERS for path in output.glob(pattern)]
        return [ledger for ledger in found if ledger and ledger.serial == serial]


class _Cancelled(Exception):  # noqa: N818 - not an error
    pass


class Fetch(threading.Thread):
    """Brings the files of `ledgers` from the card, however often that takes; removes a ledger when all are here."""

    def __init__(self, address: str, ledgers: Sequence[Ledger], reserve_bytes: int) -> None:
        super().__init__(name=f"fetch from {address}", daemon=True)
        self.total_bytes = 0
        self.problem = ""
        self._done: dict[str, int] = {}
        self._address = address
        self._ledgers = ledgers
        self._reserve_bytes = reserve_bytes
        self._cancelled = threading.Event()

    @property
    def done_bytes(self) -> int:
        """Of the recording that comes now."""
        return sum([*self._done.values()])

    def run(self) -> None:
        """Fetch until all is here, or cancelled."""
        with closing(GoPro(self._address)) as camera:
            with suppress(*TROUBLE):
                camera.turbo(True)
            for ledger in self._ledgers:
                self._fetch_all(camera, ledger)
            with suppress(*TROUBLE):
                camera.turbo(False)

    def cancel(self) -> None:
        """Stop soon; what has come stays."""
        self._cancelled.set()
        self.join()

    def _fetch_all(self, camera: GoPro, ledger: Ledger) -> None:
        pause_s = FIRST_PAUSE_S
        self._done, self.total_bytes = {}, 0
        while ledger.folder.is_dir() and not self._cancelled.is_set():
            try:
                self._fetch_once(camera, ledger)
                ledger.file.unlink(missing_ok=True)
                return
            except _Cancelled:
                return
            except (EdencarError, OSError) as error:
                self.problem = f"fetching from the card: {error}"
                log.warning("%s", self.problem)
            self._cancelled.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _fetch_once(self, camera: GoPro, ledger: Ledger) -> None:
        card = {media.path: media for media in camera.media()}
        wanted = [card[path] for path in ledger.wanted or () if path in card]
        gone = [path for path in ledger.wanted or () if path not in card]
        self.total_bytes = sum(media.size_bytes or 0 for media in wanted)
        self.problem = f"no longer on the card: {', '.join(gone)}" if gone else ""
        download_all(self._address, wanted, ledger.folder, self._note, self._reserve_bytes)

    def _note(self, name: str, done: int) -> None:
        self._done[name] = done
        if self._cancelled.is_set():
            raise _Cancelled
