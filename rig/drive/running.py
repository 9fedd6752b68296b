"""The recording that runs: who takes part, what befell it, and its manifest, which is always nearly up to date."""

import logging
import threading
import time
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

from configs import Settings
from rig.camera.fleet import Camera, safe_name
from rig.clock import NS_PER_S, iso_utc
from rig.drive.gear import Gear
from rig.errors import ConflictError, EdencarError
from rig.gaps import Gap
from rig.live.photographer import PhotoStatus, photo_worker
from rig.live.streaming import Streams
from rig.photo.spacing import Every
from rig.recordings import CAMERA, PHOTOS, VIDEO, Alive, Manifest, RecordedCamera, RecordedReceiver, Recordings
from rig.status import TO_BE_NOTED, Problem, RecordingNow
from rig.supervision import Kept
from rig.workers import StartCapture, Worker

SAVE_S = 10.0  # between two manifests when nothing happens: how exactly the moment of a power cut is known
CLOCK_STEP_NS = NS_PER_S
EVENTS = "events.log"

log = logging.getLogger(__name__)


class Running:
    """A recording from its start until its manifest is closed. Safe to use from several threads."""

    def __init__(self, recordings: Recordings, manifest: Manifest, gear: Gear, started_ns: int) -> None:
        self.id, self.name, self.mode, self.every = manifest.id, manifest.name, manifest.mode, manifest.every
        self.photos = PhotoStatus()
        self.folder = recordings.folder(manifest.id)
        self.cameras: dict[str, Camera] = {}
        self.stopped_ns: int | None = None
        self.epochs: int | None = None  # logged, once the receiver has stopped
        self._recordings = recordings
        self._gear = gear
        self._started_ns = started_ns  # CLOCK_MONOTONIC, as all times here
        self._chosen = manifest.chosen  # the cameras that take part whenever they come; none for all
        self._clock = manifest.clock or gear.clock()
        self._folders: dict[str, str] = {}  # below videos/, by serial
        self._warnings: list[str] = []
        self._gaps: list[Gap] = []
        self._said: set[str] = set()  # kinds of problems that the manifest tells of
        self._met: Set[str] = set()  # those met when it was asked last
        self._due_s = 0.0
        self._photographer: Kept | None = None
        self._saving = threading.Lock()
        self._lock = threading.RLock()  # `join` adds, and who keeps the photographer notes, while it is held

    def add(self, camera: Camera) -> StartCapture:
        """Have a camera take part, with its files in a folder of its name; what it is to be told."""
        serial = camera.serial
        names = [safe_name(name) for name in (self._gear.book.label(serial), serial) if name]
        with self._lock:
            self._folders[serial] = next((name for name in names if name not in self._folders.values()), names[-1])
            self.cameras = {**self.cameras, serial: camera}
        folder = self.folder / "videos" / self._folders[serial]
        folder.mkdir(parents=True, exist_ok=True)
        return StartCapture(folder, CAMERA if self.mode == CAMERA else VIDEO)

    def join(self, camera: Camera) -> bool:
        """Have a camera that has come record, too, unless it does so already or shall not; whether it joined."""
        with self._lock:  # a stop either finds it among the cameras, or keeps it out
            unwanted = bool(self._chosen) and camera.serial not in self._chosen
            if self.stopped_ns is not None or camera.serial in self.cameras or unwanted:
                return False
            camera.kept.expect(self.add(camera))
        return True

    def stop(self) -> list[Kept]:
        """From now on nothing is recorded; the workers of all cameras that are to be told so."""
        with self._lock:
            self.stopped_ns = time.monotonic_ns()
            return [camera.kept for camera in self.cameras.values()]

    @property
    def recording(self) -> Set[str]:
        """The serials of the cameras that shall record now."""
        return frozenset() if self.stopped_ns is not None else self.cameras.keys()

    @property
    def streams(self) -> dict[str, Path]:
        """The folders that streams are recorded into now, by serial."""
        if self.mode == CAMERA or self.stopped_ns is not None:
            return {}
        return {serial: self.folder / "videos" / name for serial, name in [*self._folders.items()]}

    def watched(self) -> Streams:
        """Its streams for one who looks at them for a while. Raises ConflictError in mode `camera`."""
        if self.mode == CAMERA:
            raise ConflictError(
                "the cameras record on their cards, there is no stream to be watched",
                cure="the code is read from the files afterwards; or calibrate before or after this recording",
            )

        def check() -> None:
            if not self.streams:
                raise ConflictError("the recording was stopped meanwhile", cure="calibrate again")

        folders = self.streams
        cameras = [(camera, None) for serial, camera in sorted(self.cameras.items()) if serial in folders]
        return Streams(cameras, folders, self.folder, check)

    @property
    def now(self) -> RecordingNow:
        """What the crew must know of it."""
        elapsed_ns = (self.stopped_ns or time.monotonic_ns()) - self._started_ns
        started = iso_utc(self._clock.utc_ns(self._started_ns))
        elapsed_s = round(elapsed_ns / NS_PER_S, 1)
        photos = self.photos.photos if self.mode == PHOTOS else None
        return RecordingNow(self.id, self.name, self.mode, started, elapsed_s, photos)

    def note_problems(self, problems: Iterable[Problem]) -> None:
        """Write down what has gone wrong since the last time; what comes again stands in the manifest once."""
        met = {problem.kind: problem.text for problem in problems if problem.code in TO_BE_NOTED}
        for kind in met.keys() - self._met:
            self.note(met[kind], once=kind)
        self._met = met.keys()

    def note(self, text: str, *, once: str = "") -> None:
        """Write down what went wrong: it is part of the recording; `once` names what the manifest says only once."""
        log.warning("%s", text)
        now_ns = time.monotonic_ns()
        utc = iso_utc(self._clock.utc_ns(now_ns))
        with self._lock:
            if not once or once not in self._said:
                self._warnings.append(f"{utc} {text}")
                self._due_s = 0.0
            self._said.add(once)
        with suppress(OSError), (self.folder / EVENTS).open("a", encoding="utf-8") as file:  # the disk may be full
            file.write(f"{utc} {now_ns} {text}\n")

    def note_gap(self, device: str, from_ns: int, until_ns: int) -> None:
        """Write down between which two arrivals nothing of a device was kept."""
        begin, end = (iso_utc(self._clock.utc_ns(ns)) for ns in (from_ns, until_ns))
        gap = Gap(device, begin, end, round((until_ns - from_ns) / NS_PER_S, 3), from_ns, until_ns)
        with self._lock:
            self._gaps.append(gap)
        self.note(f"{device} kept nothing for {gap.seconds:.1f} s, from {begin} to {end}")

    def tend_photos(self, settings: Settings) -> None:
        """In mode photos, have photos made of the streams, and after the stop of all that has come of them."""
        with self._lock:
            if self._photographer is None:
                if self.mode != PHOTOS or self.stopped_ns is not None:
                    return
                every = Every.parse(self.every or f"{settings.photo_interval_s}s")
                self._photographer = Kept(Worker("photographer", photo_worker, self.folder, every, settings), self.note)
                self._photographer.expect(StartCapture(self.folder, PHOTOS))
            self._photographer.tend()
            self.photos = self._photographer.status or self.photos

    def end_photos(self) -> bool:
        """Have what has arrived become photos, once, after the stop; whether their table, if any, is in order."""
        with self._lock:
            photographer = self._photographer
        if photographer is None:
            return True
        ordered = True
        try:
            photos = photographer.end()
            with self._lock:  # not while an older status is being taken in
                self.photos = photos
        except EdencarError as error:
            self.note(f"not all photos were made: {error}; process the recording")
            ordered = False
        finally:
            photographer.close()
        if self.photos.skipped:
            why = "nothing came then, this machine is too slow, or the privacy command failed"
            self.note(f"{self.photos.skipped} photos were left out: {why}")
        return ordered

    def save_if_due(self) -> None:
        """Bring the manifest up to date when something happened, or after a while. Raises EdencarError, OSError."""
        if self.stopped_ns is None and time.monotonic() >= self._due_s:
            self.save()

    def save(self, **changes: object) -> Manifest:
        """Write down all that is known, with the times by the best clock. Raises EdencarError, OSError."""
        with self._saving:  # else one begun before the stop could be written after the last
            self._due_s = time.monotonic() + SAVE_S
            clock = min(self._gear.clock(), self._clock, key=lambda one: one.sigma_ns)
            moved_ns = clock.utc_ns(self._started_ns) - self._clock.utc_ns(self._started_ns)
            changed, self._clock = self._clock.source != clock.source, clock
            if abs(moved_ns) > CLOCK_STEP_NS and changed:
                self.note(
                    f"the Pi's clock was {-moved_ns / NS_PER_S:+.1f} s wrong at the start: the folder's name is too"
                )
            with self._lock:
                known = {"warnings": tuple(self._warnings), "gaps": tuple(self._gaps), "cameras": self._entries()}
            return self._recordings.update(
                self.id,
                started=iso_utc(clock.utc_ns(self._started_ns)),
                stopped=None if self.stopped_ns is None else iso_utc(clock.utc_ns(self.stopped_ns)),
                alive=Alive.now(clock) if self.stopped_ns is None else None,
                clock=clock,
                receiver=self._recorded_receiver(),
                **known,
                **changes,
            )

    def discard(self) -> None:
        """Take back a start that failed; what cameras have recorded all the same goes to the trash.

        Raises EdencarError, OSError.
        """
        self._recordings.discard(self.id)

    def _entries(self) -> tuple[RecordedCamera, ...]:
        return tuple(
            RecordedCamera(serial, camera.found.model, camera.found.address, self._folders[serial])
            for serial, camera in sorted(self.cameras.items())
        )

    def _recorded_receiver(self) -> RecordedReceiver | None:
        known = self._gear.recorded_receiver()
        return known if known is None or self.epochs is None else RecordedReceiver(known.port, self.epochs)
