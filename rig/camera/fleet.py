"""The cameras that are there: found, named, chosen, told things all at once, forgotten when they stay away."""

import logging
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rig.camera.finding import FoundCamera
from rig.errors import DeviceNotFoundError, EdencarError, UnknownError
from rig.supervision import Kept

FIRST_LOOK_S = 5.0  # how long a start waits for the first look for cameras
FORGET_S = 60.0  # an unplugged camera is shown so long
LOST = "lost"
_Item = TypeVar("_Item")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Camera:
    """A camera with its worker."""

    found: FoundCamera
    kept: Kept
    seen_s: float

    @property
    def serial(self) -> str:
        return self.found.serial

    @property
    def status(self) -> Any:
        """What the worker reports, a CameraNow; None when nothing is known."""
        return self.kept.status

    @property
    def state(self) -> str:
        """As the worker says, or connecting."""
        status = self.status
        if status is not None:
            return str(status.state)
        return "connecting" if self.kept.worker.alive and not self.kept.trouble else LOST


class Fleet:
    """All cameras, by serial. Safe to use from several threads.

    `discover` looks for cameras, `keep` makes the worker of one that is new, `move` is told of one that was lost and
    is back at another address.
    """

    def __init__(
        self,
        discover: Callable[[], Iterable[FoundCamera]],
        keep: Callable[[FoundCamera], Kept],
        move: Callable[[FoundCamera, Kept], None],
    ) -> None:
        self._discover = discover
        self._keep = keep
        self._move = move
        self._cameras: dict[str, Camera] = {}
        self._looked = threading.Event()
        self._closed = False
        self._lock = threading.Lock()

    def look(self, needed: Callable[[str], bool]) -> None:
        """Look for cameras once; one that is `needed` is never forgotten."""
        try:
            found = self._discover()
        finally:
            self._looked.set()
        for one in found:
            self._adopt(one)
        for camera in self.listed():
            gone = camera.state == LOST and time.monotonic() - camera.seen_s > FORGET_S
            if gone and not needed(camera.serial):
                with self._lock:
                    del self._cameras[camera.serial]
                camera.kept.close()

    @property
    def looked(self) -> bool:
        """Whether a first look has been taken."""
        return self._looked.is_set()

    def listed(self) -> list[Camera]:
        """All cameras, by serial."""
        with self._lock:
            return [self._cameras[serial] for serial in sorted(self._cameras)]

    def get(self, serial: str) -> Camera:
        """One camera. Raises UnknownError."""
        camera = self._cameras.get(serial)
        if camera is None:
            raise UnknownError(f"there is no camera {serial[:40]!r}", cure="see /api/cameras")
        return camera

    def choose(self, serials: Sequence[str] | None, *, none_will_do: bool = False, instead: str = "") -> list[Camera]:
        """The named cameras, or all that answer. Raises DeviceNotFoundError when one, or any, is missing.

        `instead` is what can be done without cameras.
        """
        self._looked.wait(FIRST_LOOK_S)
        present = {camera.serial: camera for camera in self.listed() if camera.state != LOST}
        wanted = list(present) if serials is None else list(dict.fromkeys(serials))
        missing = [serial for serial in wanted if serial not in present]
        if missing:
            raise DeviceNotFoundError(f"camera {missing[0][:40]} does not answer", cure="check its USB cable")
        if not wanted and not none_will_do:
            cure = ", or ".join(filter(None, ["switch them on and check the USB cables", instead]))
            raise DeviceNotFoundError("no camera answers", cure=cure)
        return [present[serial] for serial in wanted]

    def close(self) -> None:
        """End all workers; no camera is taken on any more."""
        with self._lock:
            self._closed = True
        at_once(lambda camera: camera.kept.close(), self.listed())

    def _adopt(self, found: FoundCamera) -> None:
        known = self._cameras.get(found.serial)
        if known:
            known.seen_s = time.monotonic()
            if known.state == LOST and known.found.address != found.address:
                known.found = found
                self._move(found, known.kept)
            return
        log.info("camera %s (%s) at %s", found.serial, found.model, found.address)
        with self._lock:
            if not self._closed:
                self._cameras[found.serial] = Camera(found, self._keep(found), time.monotonic())


def at_once(function: Callable[[_Item], object], items: Sequence[_Item]) -> list[object]:
    """Call a function for all items in parallel; what it returned for each, or the EdencarError it raised."""

    def outcome(item: _Item) -> object:
        try:
            return function(item)
        except EdencarError as error:
            return error

    with ThreadPoolExecutor(max(1, len(items)), thread_name_prefix="at once") as threads:
        return list(threads.map(outcome, items))


def safe_name(name: str) -> str:
    """The name of a folder, whatever characters a camera's name has; é becomes e."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9_-]", "_", plain)[:40] or "camera"
