"""The rig as a whole: a worker for each camera and one for the receiver, one recording at a time, and how all is."""

import fcntl
import logging
import os
import re
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import capturePositions
import gopro
from configs import Settings
from rig.camerabook import CameraBook, Delay
from rig.clock import CRYSTAL_PPM, NS_PER_MS, NS_PER_S, UtcClock, iso_utc, system_clock
from rig.drawlog import DrawLogs
from rig.errors import ConflictError, DeviceNotFoundError, EdencarError, NoSpaceError, UnknownError, UsageError
from rig.files import free_bytes
from rig.lookout import Lookout, calibration, figures
from rig.recordings import (
    FETCHING,
    FINISHED,
    INTERRUPTED,
    OPEN_STATES,
    Manifest,
    RecordedCamera,
    RecordedReceiver,
    Recordings,
)
from rig.status import (
    DEGRADED,
    ERROR,
    IDLE,
    RECORDING,
    STARTING,
    STOPPING,
    CameraNow,
    CarStatus,
    Problem,
    ReceiverNow,
    RecordingNow,
    StorageNow,
    TimeNow,
    camera_problems,
    disk_full,
    interruption,
    other_problems,
    receiver_problems,
)
from rig.supervision import Kept
from rig.watch import Picture, Sight, watch_worker
from rig.workers import StartCapture, Target, Worker

MODES = ("video", "camera")  # recorded here as a stream, or on the camera's card and fetched after the stop
POSITIONS_ONLY = "positions-only"

TICK_S = 0.25
FOLLOW_S = 1.0
FIRST_DISCOVERY_S = 5.0  # how long a start waits for the first look for cameras
FORGET_S = 60.0  # an unplugged camera is shown so long
STOP_TIMEOUT_S = 30.0  # a camera closes its file in about 3 s, but may be busy before
FETCH_PATIENCE_S = 60.0  # how long a camera with files on its card may be silent
THREAD_GRACE_S = 2.0
DEAD_S = 15.0  # one look takes less than 2 s
SAVE_AGAIN_S = 10.0
START_ROOM_S = 300  # nothing is started that could not go on for so long
CLOCK_STEP_NS = NS_PER_S
SCRATCH = ".calibration"  # below the output folder: streams that are watched but not kept
DISK_FULL = "the disk is full"
LISTENING = "listening"  # the state of a receiver that sends
STILL_ON_CARD = "files are still on the card: they come when the camera is back"
CAMERA_FIGURES = (
    "battery_percent",
    "card_seconds_left",
    "fps",
    "lost_datagrams",
    "fetched_bytes",
    "fetch_total_bytes",
    "problems",
)
_Item = TypeVar("_Item")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Devices:
    """How cameras are found, and what runs in the workers."""

    discover: Callable[[Sequence[str]], Sequence[gopro.FoundCamera]] = gopro.discover
    camera_worker: Target = gopro.camera_worker
    receiver_worker: Target = capturePositions.receiver_worker
    watch_worker: Target = watch_worker


@dataclass(slots=True)
class _Camera:
    found: gopro.FoundCamera
    kept: Kept
    seen_s: float

    @property
    def status(self) -> gopro.CameraStatus | None:
        status: gopro.CameraStatus | None = self.kept.status
        return status

    @property
    def state(self) -> str:
        status = self.status
        if status is not None:
            return status.state
        return "connecting" if self.kept.worker.alive and not self.kept.trouble else "lost"


@dataclass(slots=True)
class _Running:
    """A recording from its start until its manifest is closed."""

    id: str
    name: str
    mode: str
    folder: Path
    started_ns: int  # CLOCK_MONOTONIC, as all times here
    clock: UtcClock
    joinable: bool  # cameras that come later record too
    cameras: dict[str, _Camera] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)  # below videos/, by serial
    warnings: list[str] = field(default_factory=list)
    stopped_ns: int | None = None
    epochs: int | None = None  # logged, once the receiver has stopped
    due_s: float = 0.0  # when closing its manifest is tried again

    def add(self, camera: _Camera, label: str | None) -> None:
        """Have a camera take part, with its files in a folder of its name, whatever characters that has."""
        serial = camera.found.serial
        self.cameras[serial] = camera
        names = [_safe(name) for name in (label, serial) if name]
        self.folders[serial] = next((name for name in names if name not in self.folders.values()), names[-1])

    def capture(self, camera: _Camera) -> StartCapture:
        folder = self.folder / "videos" / self.folders[camera.found.serial]
        folder.mkdir(parents=True, exist_ok=True)
        return StartCapture(folder, self.mode)

    @property
    def streams(self) -> dict[str, Path]:
        """The folders that streams are recorded into now, by serial."""
        if self.mode != "video" or self.stopped_ns is not None:
            return {}
        return {serial: self.folder / "videos" / name for serial, name in [*self.folders.items()]}

    @property
    def entries(self) -> tuple[RecordedCamera, ...]:
        return tuple(
            RecordedCamera(serial, camera.found.model, camera.found.address, self.folders[serial])
            for serial, camera in sorted(self.cameras.items())
        )


class Car:
    """Owns all workers from its creation until `close`. Safe to use from several threads.

    Raises ConflictError when another process serves the same folder.
    """

    def __init__(self, settings: Settings, devices: Devices | None = None) -> None:
        self.recordings = Recordings(settings.output)
        # Workers find again what they left behind by the same path.
        self._settings = settings = replace(settings, output=self.recordings.output)
        self._devices = devices or Devices()
        self._lock_file = _take(self.recordings.output)
        self._changing = threading.Lock()  # held while a recording is started or stopped: one at a time
        self._members = threading.Lock()  # guards which cameras there are and which of them record
        self._phase = IDLE
        self._running: _Running | None = None
        self._unsaved: list[_Running] = []
        self._ended_early: list[Problem] = []  # what befell recordings, until the next start
        self._fetches: dict[str, float] = {}  # recordings with files on the cards, and since when none is coming
        self._cameras: dict[str, _Camera] = {}
        self._gnss: UtcClock | None = None
        self._book = CameraBook(self.recordings.output)
        self._draw_logs = DrawLogs()
        self._lookout = Lookout(settings, self.clock, self._note_delay, self._devices.watch_worker)
        self._calibrating = threading.Lock()
        self._scratch: dict[str, Path] = {}  # streams that are only watched, by serial
        self._impatient = 0  # starts that wait for a calibration to give way
        self._tended_s = time.monotonic()
        self._discovered = threading.Event()
        self._closing = threading.Event()
        self._close_interrupted()
        shutil.rmtree(self.recordings.output / SCRATCH, ignore_errors=True)
        self._receiver = Kept(Worker("receiver", self._devices.receiver_worker, settings), self._note)
        self._threads = [
            threading.Thread(target=self._repeat, args=(task, pause_s), name=task.__name__, daemon=True)
            for task, pause_s in (
                (self._discover, settings.discover_interval_s),
                (self._tend, TICK_S),
                (self._follow_files, FOLLOW_S),
                (self._look_out, TICK_S),
            )
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Car":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(
        self,
        mode: str = "video",
        name: str = "",
        cameras: Sequence[str] | None = None,
        allow: str = "",
        every: str = "",
    ) -> tuple[Manifest, bool]:
        """Start a recording with the named cameras, or with all; returns it and whether it is a new one.

        `every` is remembered as the photo interval of this recording. Raises UsageError, ConflictError (one is being
        stopped, or runs in another mode), DeviceNotFoundError (unless `allow` is positions-only), NoSpaceError, or what
        all cameras raised.
        """
        if mode not in MODES:
            raise UsageError(f"there is no mode {mode[:40]!r}", cure=f"use {' or '.join(MODES)}")
        if allow not in ("", POSITIONS_ONLY):
            raise UsageError(f"{allow[:40]!r} cannot be allowed", cure=f"use {POSITIONS_ONLY}, or leave it out")
        if self._phase == STOPPING:
            raise ConflictError("the last recording is being stopped", cure="try again in a few seconds")
        with self._first_in_line(), self._changing:
            if self._closing.is_set():
                raise ConflictError("the server is ending", cure="start it again")
            if self._running:
                return self._again(self._running, mode), False
            self._phase = STARTING
            try:
                return self._start(mode, name, cameras, allow, every), True
            finally:
                self._phase = IDLE

    def stop(self, reason: str = "") -> Manifest | None:
        """Stop the recording that runs and return it when all is on disk; None when none runs.

        In mode `camera` it waits up to `stop_wait_s` for the files, else the recording is returned in state `fetching`.
        """
        if self._calibrating.locked() and self._running is None:
            return None
        with self._changing:
            if self._running is None:
                self._stop_strays()
            return self._stop(reason, self._settings.stop_wait_s)

    def calibrate(self, seconds: float) -> list[dict[str, Any]]:
        """Watch the streams of all cameras for the time code; what each shows, see rig.watch.Sight.

        Without a recording the streams are started for it and nothing is kept; a start meanwhile goes first. Raises
        ConflictError when there are no streams to be watched, DeviceNotFoundError, NoSpaceError.
        """
        if not self._calibrating.acquire(blocking=False):
            raise ConflictError("a calibration runs already", cure="wait for it")
        try:
            if self._phase != IDLE:
                raise ConflictError(f"the car is {self._phase}", cure="try again in a few seconds")
            running = self._running
            if running is not None:
                return self._calibrate_running(running, seconds)
            with self._changing:
                if self._running is not None or self._closing.is_set():
                    raise ConflictError("a recording was started meanwhile", cure="calibrate again: that may run on")
                return self._calibrate_idle(seconds)
        finally:
            self._calibrating.release()

    def picture(self, serial: str) -> Picture | None:
        """The newest picture of a camera's stream, None when there is none yet. Raises UnknownError."""
        self._known(serial)
        return self._lookout.picture(serial)

    def streams(self, serial: str) -> bool:
        """Whether there is a stream of this camera that can be watched."""
        return serial in self._streams

    def name_camera(self, serial: str, label: str) -> CameraNow:
        """Give a camera a name, or take it away (empty); the next recording has it as the name of a folder.

        Raises UnknownError, or ConflictError when another camera is called so.
        """
        camera = self._known(serial)
        self._book.set_label(serial, " ".join(label.split()))
        return self._camera_now(camera, self._running)

    def note_codes(self, page: str, post: Mapping[str, Any]) -> None:
        """Take what a page with the time code says that it drew; the streams are watched for it meanwhile."""
        self._lookout.want_codes(post.get("offset_bound_ms"))
        running = self._running
        self._draw_logs.add(page, post, running.folder if running and running.stopped_ns is None else None)

    def clock(self) -> UtcClock:
        """UTC by the receiver as long as it is better than the operating system's idea of it."""
        status: capturePositions.ReceiverStatus | None = self._receiver.status
        if status is not None and status.clock is not None:
            self._gnss = status.clock
        system, gnss = system_clock(), self._gnss
        if gnss is None:
            return system
        age_ns = max(0, time.monotonic_ns() - gnss.at_monotonic_ns)
        grown = replace(gnss, sigma_ns=gnss.sigma_ns + age_ns * CRYSTAL_PPM // 1_000_000)
        return grown if grown.sigma_ns < system.sigma_ns else system

    def status(self) -> CarStatus:
        """How all is now."""
        running = self._running
        listed = self._listed()
        cameras = tuple(self._camera_now(camera, running) for camera in listed)
        receiver = _receiver_now(self._receiver.status or capturePositions.ReceiverStatus())
        clock = self.clock()
        time_now = TimeNow(iso_utc(clock.utc_ns()), clock.source, round(clock.sigma_ns / NS_PER_MS, 3))
        storage = self._storage(len(cameras))
        problems = (
            *camera_problems(cameras, running is not None),
            *receiver_problems(receiver, running is not None),
            *other_problems(time_now, storage, [*self._fetches]),
            *self._ended_early,
        )
        return CarStatus(
            state=self._state(running, problems),
            calibrating=self._calibrating.locked(),
            recording=_recording_now(running) if running else None,
            cameras=cameras,
            receiver=receiver,
            time=time_now,
            storage=storage,
            problems=problems,
        )

    @property
    def alive(self) -> bool:
        """Whether the supervision runs."""
        return time.monotonic() - self._tended_s < DEAD_S

    def close(self) -> None:
        """Stop the recording, end all workers, let go of the folder. Files still on a camera's card stay there."""
        with self._first_in_line(), self._changing:
            if self._closing.is_set():
                return
            self._stop("the server ended", 0.0)
            self._closing.set()
        for thread in self._threads:
            thread.join(THREAD_GRACE_S)
        for recording_id in self._fetches:
            self._close_fetch(recording_id)
        self._lookout.close()
        _at_once(Kept.close, [self._receiver, *(camera.kept for camera in self._cameras.values())])
        os.close(self._lock_file)

    @contextmanager
    def _first_in_line(self) -> Iterator[None]:
        """Have a calibration that only watches give way."""
        with self._members:
            self._impatient += 1
        try:
            yield
        finally:
            with self._members:
                self._impatient -= 1

    def _again(self, running: _Running, mode: str) -> Manifest:
        if mode != running.mode:
            raise ConflictError(f"a recording runs in mode {running.mode}", cure="stop it first")
        return self.recordings.get(running.id)

    def _start(self, mode: str, name: str, serials: Sequence[str] | None, allow: str, every: str) -> Manifest:
        chosen = self._choose(serials, allow)
        self._check_room(len(chosen))
        clock, started_ns = self.clock(), time.monotonic_ns()
        manifest = self.recordings.create(
            clock.utc_ns(started_ns),
            mode,
            name=name,
            every=every,
            clock=clock,
            software=software(),
            settings=asdict(self._settings),
        )
        folder = self.recordings.folder(manifest.id)
        running = _Running(manifest.id, name, mode, folder, started_ns, clock, joinable=serials is None)
        with self._members:
            for camera in chosen:
                running.add(camera, self._book.label(camera.found.serial))
            self._running = running
        try:
            failures = self._begin(running, chosen)
            if chosen and len(failures) == len(chosen) and allow != POSITIONS_ONLY:
                raise failures[0]
            if len(failures) == len(chosen) and not self._receives:
                self._note("neither a camera nor a receiver answers: nothing is recorded until one does")
            manifest = self._save(running)
            self._ended_early = []
            return manifest
        except Exception:
            self._give_up(running)
            raise

    def _choose(self, serials: Sequence[str] | None, allow: str) -> list[_Camera]:
        self._discovered.wait(FIRST_DISCOVERY_S)
        present = {camera.found.serial: camera for camera in self._listed() if camera.state != "lost"}
        wanted = list(present) if serials is None else list(dict.fromkeys(serials))
        missing = [serial for serial in wanted if serial not in present]
        if missing:
            raise DeviceNotFoundError(f"camera {missing[0][:40]} does not answer", cure="check its USB cable")
        if not wanted and allow != POSITIONS_ONLY:
            raise DeviceNotFoundError(
                "no camera answers", cure=f"switch them on and check the USB cables, or allow {POSITIONS_ONLY}"
            )
        return [present[serial] for serial in wanted]

    @property
    def _receives(self) -> bool:
        status: capturePositions.ReceiverStatus | None = self._receiver.status
        return status is not None and status.state == LISTENING

    def _check_room(self, cameras: int) -> None:
        if self._storage(cameras).seconds_left < START_ROOM_S:
            raise NoSpaceError(
                f"less than {START_ROOM_S // 60} minutes of recording fit on the disk of {self.recordings.output}",
                cure="delete recordings or change the disk",
            )

    def _begin(self, running: _Running, chosen: Sequence[_Camera]) -> list[EdencarError]:
        """Start all devices at once and return how cameras failed; those are told again by the supervision."""
        positions = running.folder / "positions"
        positions.mkdir(exist_ok=True)
        captures = [(camera.kept, running.capture(camera)) for camera in chosen]
        captures.append((self._receiver, StartCapture(positions, running.mode)))
        results = _at_once(lambda pair: pair[0].begin(pair[1]), captures)
        for (kept, _), error in zip(captures, results, strict=True):
            if isinstance(error, EdencarError):
                self._note(f"{kept.worker.name} did not start: {error}")
        return [error for error in results[:-1] if isinstance(error, EdencarError)]

    def _give_up(self, running: _Running) -> None:
        """Undo a start that failed; whatever has been recorded is in the trash."""
        try:
            _at_once(lambda kept: kept.end(STOP_TIMEOUT_S), self._detach(running))
            self._save(running, state=INTERRUPTED)
            self.recordings.trash(running.id)
        finally:
            self._running = None

    def _stop_strays(self) -> None:
        """Stop cameras that still record for an earlier server."""
        strays = [camera.kept for camera in self._listed() if camera.state == RECORDING]
        for error in _at_once(lambda kept: kept.end(STOP_TIMEOUT_S), strays):
            if isinstance(error, EdencarError):
                log.warning("%s", error)

    def restore(self, recording_id: str) -> Manifest:
        """Take a recording out of the trash, and have its files fetched that are still on the cards.

        Raises UnknownError, ConflictError.
        """
        manifest = self.recordings.restore(recording_id)
        if manifest.mode == "camera" and _on_cards(self.recordings.folder(recording_id)):
            self._fetches[recording_id] = time.monotonic() - FETCH_PATIENCE_S
        return manifest

    def _stop(self, reason: str, wait_s: float) -> Manifest | None:
        running = self._running
        if running is None:
            return None
        self._phase = STOPPING
        try:
            if reason:
                self._note(f"stopped: {reason}")
            if reason == DISK_FULL:
                self._ended_early.append(disk_full(running.id))
            self._end(running)
            state = self._await_files(running, wait_s)
            manifest = self._save(running, state=state)
            if state == FETCHING:
                self._fetches[running.id] = time.monotonic()
            return manifest
        except (EdencarError, OSError):
            self._unsaved.append(running)  # its manifest is closed as soon as that is possible
            raise
        finally:
            self._running = None
            self._phase = IDLE

    def _end(self, running: _Running) -> None:
        kept = self._detach(running)
        answers = _at_once(lambda one: one.end(STOP_TIMEOUT_S), kept)
        for one, answer in zip(kept, answers, strict=True):
            if isinstance(answer, EdencarError):
                self._note(f"{one.worker.name} did not stop in order: {answer}")
            elif isinstance(answer, capturePositions.ReceiverStatus):
                running.epochs = answer.epochs_logged
                if not running.epochs:
                    self._note("no position was logged: the receiver said nothing")

    def _detach(self, running: _Running) -> list[Kept]:
        with self._members:
            running.stopped_ns = time.monotonic_ns()
            return [self._receiver, *(camera.kept for camera in running.cameras.values())]

    def _await_files(self, running: _Running, wait_s: float) -> str:
        deadline_s = time.monotonic() + wait_s
        while _on_cards(running.folder) and time.monotonic() < deadline_s:
            self._closing.wait(0.1)
        return FETCHING if _on_cards(running.folder) else FINISHED

    def _save(self, running: _Running, **changes: object) -> Manifest:
        """Write down all that is known, with the times by the best clock."""
        clock = min(self.clock(), running.clock, key=lambda one: one.sigma_ns)
        moved_ns = clock.utc_ns(running.started_ns) - running.clock.utc_ns(running.started_ns)
        if abs(moved_ns) > CLOCK_STEP_NS and running.clock.source != clock.source:
            self._note(f"the Pi's clock was {-moved_ns / NS_PER_S:+.1f} s wrong at the start: the folder's name is too")
        running.clock = clock
        return self.recordings.update(
            running.id,
            started=iso_utc(clock.utc_ns(running.started_ns)),
            stopped=None if running.stopped_ns is None else iso_utc(clock.utc_ns(running.stopped_ns)),
            clock=clock,
            cameras=running.entries,
            receiver=self._recorded_receiver(running),
            warnings=tuple(running.warnings),
            **changes,
        )

    def _recorded_receiver(self, running: _Running) -> RecordedReceiver | None:
        status: capturePositions.ReceiverStatus | None = self._receiver.status
        if status is None:
            return None
        return RecordedReceiver(status.port, status.epochs_logged if running.epochs is None else running.epochs)

    def _note(self, text: str) -> None:
        """Write a sentence into the recording that runs: what went wrong is part of it."""
        log.warning("%s", text)
        running = self._running
        if running is None:
            return
        now_ns = time.monotonic_ns()
        utc = iso_utc(running.clock.utc_ns(now_ns))
        running.warnings.append(f"{utc} {text}")
        with suppress(OSError, EdencarError):  # a full disk must not stop the supervision
            with (running.folder / "events.log").open("a", encoding="utf-8") as file:
                file.write(f"{utc} {now_ns} {text}\n")
            self.recordings.update(running.id, warnings=tuple(running.warnings))

    def _close_interrupted(self) -> None:
        """Close what an earlier server left open, and look out for files that it left on the cards."""
        for age, manifest in enumerate(self.recordings.list()):
            with suppress(EdencarError, OSError):
                told_by = OPEN_STATES if age else (*OPEN_STATES, INTERRUPTED)  # the newest even by a later server
                if manifest.stopped is None and manifest.state in told_by:
                    self._ended_early.append(interruption(manifest.id))
                if manifest.state in OPEN_STATES:
                    warnings = (*manifest.warnings, f"the server ended while this was in state {manifest.state}")
                    self.recordings.update(manifest.id, state=INTERRUPTED, warnings=warnings)
                if manifest.mode == "camera" and _on_cards(self.recordings.folder(manifest.id)):
                    self._fetches[manifest.id] = time.monotonic() - FETCH_PATIENCE_S

    def _repeat(self, task: Callable[[], None], pause_s: float) -> None:
        while not self._closing.is_set():
            try:
                task()
            except Exception:
                log.exception("%s failed", task.__name__)
            self._closing.wait(pause_s)

    def _discover(self) -> None:
        try:
            found = self._devices.discover(self._settings.cameras)
        finally:
            self._discovered.set()
        for camera in found:
            self._adopt(camera)
        self._forget()

    def _adopt(self, found: gopro.FoundCamera) -> None:
        if self._closing.is_set():
            return
        known = self._cameras.get(found.serial)
        if known:
            known.seen_s = time.monotonic()
            return
        log.info("camera %s (%s) at %s", found.serial, found.model, found.address)
        worker = Worker(f"camera {found.serial}", self._devices.camera_worker, found.address, self._settings)
        camera = _Camera(found, Kept(worker, self._note), time.monotonic())
        with self._members:
            self._cameras[found.serial] = camera

    def _join_late(self) -> None:
        """Have cameras record that came, or came back, after the start."""
        running = self._running
        if running is None or not running.joinable or self._phase != IDLE:
            return
        for camera in self._listed():
            serial = camera.found.serial
            with self._members:
                joins = serial not in running.cameras and running.stopped_ns is None and camera.state != "lost"
                if joins:
                    running.add(camera, self._book.label(serial))
                    camera.kept.expect(running.capture(camera))
            if joins:
                self._note(f"camera {serial} joined")

    def _forget(self) -> None:
        running = self._running
        for camera in self._listed():
            gone = camera.state == "lost" and time.monotonic() - camera.seen_s > FORGET_S
            if gone and not (running and camera.found.serial in running.cameras):
                with self._members:
                    del self._cameras[camera.found.serial]
                camera.kept.close()

    def _tend(self) -> None:
        self._tended_s = time.monotonic()
        for kept in (self._receiver, *(camera.kept for camera in self._listed())):
            kept.tend()
        self._join_late()
        if self._running and self._phase == IDLE and free_bytes(self.recordings.output) < self._settings.reserve_bytes:
            threading.Thread(target=self.stop, args=(DISK_FULL,), name="full disk", daemon=True).start()

    def _look_out(self) -> None:
        self._lookout.tend(self._streams)

    @property
    def _streams(self) -> dict[str, Path]:
        running = self._running
        return running.streams if running else {**self._scratch}

    def _calibrate_running(self, running: _Running, seconds: float) -> list[dict[str, Any]]:
        if running.mode != "video":
            raise ConflictError(
                "the cameras record on their cards, there is no stream to be watched",
                cure="the code is read from the files afterwards; or calibrate before or after this recording",
            )

        def check() -> None:
            if not running.streams:
                raise ConflictError("the recording was stopped meanwhile", cure="calibrate again")

        cameras = [camera for camera in self._listed() if camera.found.serial in running.streams]
        return self._watch_codes([(camera, None) for camera in cameras], seconds, check)

    def _calibrate_idle(self, seconds: float) -> list[dict[str, Any]]:
        chosen = self._choose(None, "")
        self._check_room(len(chosen))
        folders = {camera.found.serial: self._scratch_folder(camera) for camera in chosen}
        try:
            begin = [(camera.kept, StartCapture(folders[camera.found.serial], "video")) for camera in chosen]
            outcomes = _at_once(lambda pair: pair[0].begin(pair[1]), begin)
            failures = [one if isinstance(one, EdencarError) else None for one in outcomes]
            if failures[0] is not None and all(failures):
                raise failures[0]
            self._scratch = folders
            return self._watch_codes(list(zip(chosen, failures, strict=True)), seconds, self._give_way)
        finally:
            self._scratch = {}
            _at_once(lambda camera: camera.kept.end(STOP_TIMEOUT_S), chosen)
            shutil.rmtree(self.recordings.output / SCRATCH, ignore_errors=True)

    def _scratch_folder(self, camera: _Camera) -> Path:
        folder = self.recordings.output / SCRATCH / _safe(camera.found.serial)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _give_way(self) -> None:
        if self._impatient:
            raise ConflictError("a recording was started meanwhile", cure="calibrate again: that works during it, too")

    def _watch_codes(
        self, cameras: Sequence[tuple[_Camera, EdencarError | None]], seconds: float, check: Callable[[], None]
    ) -> list[dict[str, Any]]:
        """What codes the streams show; with each camera comes why it does not stream."""
        streaming = [camera.found.serial for camera, failure in cameras if failure is None]
        seen = self._lookout.watch(streaming, seconds, check, self._closing)
        return [
            {
                "serial": camera.found.serial,
                "label": self._book.label(camera.found.serial),
                **figures(seen.get(camera.found.serial), failure),
            }
            for camera, failure in cameras
        ]

    def _follow_files(self) -> None:
        for running in [one for one in self._unsaved if time.monotonic() >= one.due_s]:
            running.due_s = time.monotonic() + SAVE_AGAIN_S  # should it fail again
            self._save(running, state=FINISHED)
            if _on_cards(running.folder):
                self._fetches[running.id] = time.monotonic()
            self._unsaved.remove(running)
        coming = {camera.found.serial for camera in self._listed() if camera.state == "fetching"}
        for recording_id in [*self._fetches]:
            try:
                self._follow(recording_id, coming)
            except UnknownError:  # in the trash
                del self._fetches[recording_id]

    def _follow(self, recording_id: str, coming: Set[str]) -> None:
        """A recording is `fetching` while files come, `interrupted` while they do not, `finished` when all are here."""
        waiting = _on_cards(self.recordings.folder(recording_id))
        cameras = self.recordings.get(recording_id).cameras
        if not waiting:
            self.recordings.update(recording_id, state=FINISHED)
            del self._fetches[recording_id]
        elif waiting & {camera.folder for camera in cameras if camera.serial in coming}:
            self._fetches[recording_id] = time.monotonic()
            if self.recordings.get(recording_id).state != FETCHING:
                self.recordings.update(recording_id, state=FETCHING)
        elif time.monotonic() - self._fetches[recording_id] > FETCH_PATIENCE_S:
            self._close_fetch(recording_id)

    def _close_fetch(self, recording_id: str) -> None:
        with suppress(EdencarError, OSError):
            manifest = self.recordings.get(recording_id)
            if manifest.state == FETCHING:
                warnings = dict.fromkeys((*manifest.warnings, STILL_ON_CARD))
                self.recordings.update(recording_id, state=INTERRUPTED, warnings=tuple(warnings))

    def _note_delay(self, serial: str, sight: Sight) -> None:
        if sight.delay_ms is not None and sight.delay_sigma_ms is not None:
            measured = iso_utc(self.clock().utc_ns())
            self._book.set_delay(serial, Delay(sight.delay_ms, sight.delay_sigma_ms, sight.codes, measured))

    def _known(self, serial: str) -> _Camera:
        camera = self._cameras.get(serial)
        if camera is None:
            raise UnknownError(f"there is no camera {serial[:40]!r}", cure="see /api/cameras")
        return camera

    def _camera_now(self, camera: _Camera, running: _Running | None) -> CameraNow:
        found, status, kept = camera.found, camera.status, camera.kept
        records = running is not None and running.stopped_ns is None and found.serial in running.cameras
        waits = records and not kept.told and camera.state != "lost"
        known = {} if status is None else {name: getattr(status, name) for name in CAMERA_FIGURES}
        sight, stored = self._lookout.sight(found.serial), self._book.delay(found.serial)
        measured_ms = None if sight is None else sight.delay_ms
        return CameraNow(
            serial=found.serial,
            label=self._book.label(found.serial),
            model=found.model,
            address=found.address,
            state="starting" if waits else camera.state,
            delay_ms=stored.delay_ms if measured_ms is None and stored else measured_ms,
            calibration=calibration(sight),
            records=records,
            trouble=kept.trouble if waits or camera.state == "lost" else "",
            **known,
        )

    def _listed(self) -> list[_Camera]:
        with self._members:
            return [self._cameras[serial] for serial in sorted(self._cameras)]

    def _storage(self, cameras: int) -> StorageNow:
        free = free_bytes(self.recordings.output)
        bytes_per_s = max(1, cameras) * self._settings.camera_bit_rate_mbps * 1e6 / 8
        return StorageNow(free, max(0, int((free - self._settings.reserve_bytes) / bytes_per_s)))

    def _state(self, running: _Running | None, problems: Iterable[Problem]) -> str:
        if self._phase != IDLE:
            return self._phase
        if running is None:
            return IDLE
        return DEGRADED if any(problem.level == ERROR for problem in problems) else RECORDING


def software() -> str:
    """Name and version."""
    project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']} {project['version']}"


def _take(output: Path) -> int:
    """Lock a folder of recordings until the descriptor is closed, at the latest when this process ends."""
    descriptor = os.open(output / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(f"another edenCar serves {output}", cure="stop it, or name another folder") from error
    return descriptor


def _at_once(function: Callable[[_Item], object], items: Sequence[_Item]) -> list[object]:
    """Call a function for all items in parallel; what it returned for each, or the EdencarError it raised."""

    def outcome(item: _Item) -> object:
        try:
            return function(item)
        except EdencarError as error:
            return error

    with ThreadPoolExecutor(max(1, len(items)), thread_name_prefix="at once") as threads:
        return list(threads.map(outcome, items))


def _on_cards(folder: Path) -> set[str]:
    """The cameras' folders of a recording for which files are still on the card."""
    return {ledger.parent.name for ledger in folder.glob(f"videos/*/{gopro.LEDGER}")}


def _recording_now(running: _Running) -> RecordingNow:
    until_ns = running.stopped_ns or time.monotonic_ns()
    return RecordingNow(
        running.id,
        running.name,
        running.mode,
        iso_utc(running.clock.utc_ns(running.started_ns)),
        round((until_ns - running.started_ns) / NS_PER_S, 1),
    )


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:40] or "camera"


def _receiver_now(status: capturePositions.ReceiverStatus) -> ReceiverNow:
    return ReceiverNow(**{item.name: getattr(status, item.name) for item in fields(ReceiverNow)})
