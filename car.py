"""The rig as a whole: one recording at a time, what runs by itself meanwhile and between two, and how all is."""

import logging
import os
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from configs import Settings
from rig.camera.fleet import LOST, Camera, at_once
from rig.clock import NS_PER_MS, UtcClock, iso_utc
from rig.drive.fetching import Fetches, on_cards
from rig.drive.gear import LISTENING, Devices, Gear
from rig.drive.housekeeping import Housekeeping
from rig.drive.power import machine_problems
from rig.drive.resuming import LeftOpen
from rig.drive.room import STOP_S, Room
from rig.drive.running import Running
from rig.errors import ConflictError, EdencarError, NoSpaceError, UnknownError, UsageError
from rig.files import lock_alone
from rig.gnss.receiver import ReceiverStatus
from rig.live.drawlog import DrawLogs
from rig.live.streaming import Streams, measure_latency, passing_streams, watch_codes
from rig.photo.photos import put_in_order
from rig.photo.spacing import Every
from rig.recordings import (
    FETCHING,
    FINISHED,
    MODES,
    PHOTOS,
    POSITIONS_ONLY,
    RECORDING,
    VIDEO,
    Manifest,
    Recordings,
)
from rig.status import (
    DEGRADED,
    ERROR,
    IDLE,
    STARTING,
    STOPPING,
    CarStatus,
    Problem,
    TimeNow,
    camera_problems,
    continuation,
    disk_failed,
    disk_full,
    other_problems,
    receiver_problems,
)
from rig.timing.gpio import opened
from rig.timing.led import LatencyResult
from rig.workers import StartCapture

TICK_S = 0.25
BOOKS_S = 1.0
THREAD_GRACE_S = 2.0
LAST_SEAL_S = 1.0  # at the end: a short recording gets its checksums, a long one when the server is there again
DEAD_S = 15.0  # one look takes less than 2 s
SAVE_AGAIN_S = 10.0
SCRATCH = ".calibration"  # below the output folder: streams that are watched but not kept
DISK_FULL = "the disk is full"
__all__ = ["SCRATCH", "Car", "Devices", "software"]

log = logging.getLogger(__name__)


class Car:
    """Owns all workers from its creation until `close`. Safe to use from several threads.

    What it records now (`_running`) and what is being done to that (`_phase`) changes only while `_changing` is held,
    and is read by all. Five tasks run by themselves, each again and again in a thread of its own.

    Raises ConflictError when another process serves the same folder.
    """

    def __init__(self, settings: Settings, devices: Devices | None = None) -> None:
        self.recordings = Recordings(settings.output)
        # Workers find again what they left behind by the same path.
        self._settings = settings = replace(settings, output=self.recordings.output)
        self._lock_file = _take(self.recordings.output)
        self._changing = threading.Lock()  # held while a recording is started or stopped: one at a time
        self._pressing = threading.Lock()  # taken before it by whom a calibration, or a wait for files, gives way to
        self._phase = IDLE
        self._running: Running | None = None
        self._unsaved: list[Callable[[], object]] = []  # what ends recordings, and the disk did not take yet
        self._save_again_s = 0.0
        self._draw_logs = DrawLogs()
        self._room = Room(self.recordings.output, settings)
        self._housekeeping = Housekeeping(self.recordings, self._room, settings.trash_days)
        self._fetches = Fetches(self.recordings)
        self._calibrating = threading.Lock()
        self._scratch: Mapping[str, Path] = {}  # streams that are only watched, by serial
        self._tended_s = time.monotonic()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._left_open = LeftOpen(self.recordings, self._fetches, settings.resume_within_s)
        self._ended_early = self._left_open.problems  # what befell recordings, until the next start
        shutil.rmtree(self.recordings.output / SCRATCH, ignore_errors=True)
        self.gear = Gear(settings, devices or Devices(), self._note, self._note_gap, self._wake.set)
        self._threads = [
            threading.Thread(target=self._repeat, args=(task, pause_s), name=task.__name__, daemon=True)
            for task, pause_s in (
                (self._discover, settings.discover_interval_s),
                (self._tend, 0.0),
                (self._keep_books, BOOKS_S),
                (self._look_out, TICK_S),
                (self._seal, BOOKS_S),
            )
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Car":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # Recording

    def start(
        self,
        mode: str = VIDEO,
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
        if every and mode == PHOTOS:
            Every.parse(every)
        if allow not in ("", POSITIONS_ONLY):
            raise UsageError(f"{allow[:40]!r} cannot be allowed", cure=f"use {POSITIONS_ONLY}, or leave it out")
        if self._phase == STOPPING:
            raise ConflictError("the last recording is being stopped", cure="try again in a few seconds")
        with self._pressing, self._changing:
            if self._closing.is_set():
                raise ConflictError("the server is ending", cure="start it again")
            if self._running:
                if mode != self._running.mode:
                    raise ConflictError(f"a recording runs in mode {self._running.mode}", cure="stop it first")
                return self.recordings.get(self._running.id), False
            chosen = self.gear.fleet.choose(
                cameras, none_will_do=allow == POSITIONS_ONLY, instead=f"allow {POSITIONS_ONLY}"
            )
            values = {"mode": mode, "name": name, "every": every, "chosen": tuple(cameras or ())}
            return self._start(chosen, values, none_will_do=allow == POSITIONS_ONLY), True

    def stop(self, reason: str = "") -> Manifest | None:
        """Stop the recording that runs and return it when all is on disk; None when none runs.

        In mode `camera` it waits up to `stop_wait_s` for the files, else the recording is returned in state `fetching`.
        """
        self._left_open.forget()
        if self._calibrating.locked() and self._running is None:
            return None
        met = self._running
        with self._changing:
            if met is not None and self._running is not met:  # another phone's stop was under way
                with suppress(UnknownError):  # or a start that failed
                    return self.recordings.get(met.id)
            elif self._running is None:
                self._stop_strays()
            return self._stop(reason, self._settings.stop_wait_s)

    def change(self, recording_id: str, **changes: str) -> Manifest:
        """Give a recording another name or note. Raises UnknownError, UnreadableError."""
        manifest = self.recordings.update(recording_id, **changes)
        running = self._running
        if running and running.id == recording_id:
            running.name = manifest.name
        return manifest

    def restore(self, recording_id: str) -> Manifest:
        """Take a recording out of the trash, and have its files fetched that are still on the cards.

        Raises UnknownError, ConflictError.
        """
        manifest = self.recordings.restore(recording_id)
        self._fetches.add(recording_id, known=False)
        return manifest

    def close(self) -> None:
        """Stop the recording, end all workers, let go of the folder. Files still on a camera's card stay there."""
        with self._pressing, self._changing:
            if self._closing.is_set():
                return
            try:
                self._stop("the server ended", 0.0)
            except (EdencarError, OSError):
                log.exception("the recording is not closed in order")
            self._closing.set()
            self._wake.set()
        for thread in self._threads:
            thread.join(THREAD_GRACE_S)
        self._fetches.close()
        self.gear.close()
        seal_until_s = time.monotonic() + LAST_SEAL_S
        self._housekeeping.seal(lambda: time.monotonic() < seal_until_s)
        os.close(self._lock_file)

    # The streams

    def calibrate(self, seconds: float) -> list[dict[str, Any]]:
        """Watch the streams of all cameras for the time code; what each shows, see rig.live.watch.Sight.

        Without a recording the streams are started for it and nothing is kept; a start meanwhile goes first. Raises
        ConflictError when there are no streams to be watched, DeviceNotFoundError, NoSpaceError.
        """
        with self._streaming() as streams:
            return watch_codes(streams, seconds, self.gear.lookout, self.gear.book)

    def measure_latency(self, seconds: float, user_agent: str) -> LatencyResult:
        """Blink the LED while the cameras film it beside a phone with the code; its display latency, which is kept.

        `user_agent` is that of the page when empty. As with `calibrate`, which it excludes, streams are started where
        none run. Raises DeviceNotFoundError without an LED too, NoCalibrationError when no film tells the latency.
        """
        with opened(self._settings.led_pin):
            pass  # before any camera is started for it
        with self._streaming() as streams:
            return measure_latency(streams, seconds, user_agent, self._settings, self.clock(), self._draw_logs)

    def streams(self, serial: str) -> bool:
        """Whether there is a stream of this camera that can be watched."""
        return serial in self._streams

    def note_codes(self, page: str, post: Mapping[str, Any]) -> None:
        """Take what a page with the time code says that it drew; the streams are watched for it meanwhile."""
        self.gear.lookout.want_codes(post.get("offset_bound_ms"), post.get("user_agent"))
        running = self._running
        post = {**post, "pi_offset_ns": self.clock().offset_ns}  # what the page calls UTC
        self._draw_logs.add(page, post, running.folder if running and running.stopped_ns is None else None)

    # How all is

    def clock(self) -> UtcClock:
        """UTC by the receiver as long as it is better than the operating system's idea of it."""
        return self.gear.clock()

    def status(self) -> CarStatus:
        """How all is now."""
        running = self._running
        cameras = self.gear.cameras_now(running.recording if running else frozenset())
        receiver = self.gear.receiver_now
        clock = self.clock()
        time_now = TimeNow(iso_utc(clock.utc_ns()), clock.source, round(clock.sigma_ns / NS_PER_MS, 3))
        storage = self._room.left(len(cameras))
        problems = (
            *camera_problems(cameras, running is not None),
            *receiver_problems(receiver, running is not None),
            *other_problems(time_now, storage, self._fetches.ids),
            *machine_problems(),
            *(problem for problem in self._ended_early if (self.recordings.output / problem.subject).is_dir()),
        )
        return CarStatus(
            state=self._state(running, problems),
            calibrating=self._calibrating.locked(),
            recording=running.now if running else None,
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

    # Starting and stopping

    def _start(self, chosen: Sequence[Camera], values: Mapping[str, Any], *, none_will_do: bool) -> Manifest:
        self._phase = STARTING
        try:
            self._housekeeping.make_room(len(chosen))
            clock, started_ns = self.clock(), time.monotonic_ns()
            given = {**values, "clock": clock, "software": software(), "settings": asdict(self._settings)}
            manifest = self.recordings.create(clock.utc_ns(started_ns), **given)
            running = Running(self.recordings, manifest, self.gear, started_ns)
            try:
                self._begin(running, chosen, none_will_do=none_will_do)
                manifest = running.save()
            except Exception:
                at_once(lambda kept: kept.end(), [self.gear.receiver, *running.stop()])
                self._running = None
                self._save_or_later(running.discard)
                raise
            self._left_open.forget()
            self._ended_early = []
            return manifest
        finally:
            self._phase = IDLE

    def _begin(self, running: Running, chosen: Sequence[Camera], *, none_will_do: bool) -> None:
        """Start all devices at once; those that fail are told again by the supervision, as long as one records."""
        positions = running.folder / "positions"
        positions.mkdir(exist_ok=True)
        captures = [(camera.kept, running.add(camera)) for camera in chosen]
        self._running = running
        captures.append((self.gear.receiver, StartCapture(positions, running.mode)))
        results = at_once(lambda pair: pair[0].begin(pair[1]), captures)
        for (kept, _), error in zip(captures, results, strict=True):
            if isinstance(error, EdencarError):
                self._note(f"{kept.worker.name} did not start: {error}")
        failures = [error for error in results[:-1] if isinstance(error, EdencarError)]
        if len(failures) < len(chosen):
            return
        if chosen and not none_will_do:
            raise failures[0]
        if self.gear.receiver_now.state != LISTENING:
            self._note("neither a camera nor a receiver answers: nothing is recorded until one does")

    def _stop_strays(self) -> None:
        """Stop cameras that still record for an earlier server."""
        strays = [camera.kept for camera in self.gear.fleet.listed() if camera.state == RECORDING]
        for error in at_once(lambda kept: kept.end(), strays):
            if isinstance(error, EdencarError):
                log.warning("%s", error)

    def _stop(self, reason: str, wait_s: float) -> Manifest | None:
        running = self._running
        if running is None:
            return None
        self._phase = STOPPING
        try:
            if reason:
                self._note(f"stopped: {reason}")
            self._end(running)
            deadline_s = time.monotonic() + wait_s
            while on_cards(running.folder) and time.monotonic() < deadline_s and not self._pressing.locked():
                time.sleep(TICK_S)
            return self._save_stopped(running)
        except (EdencarError, OSError):
            self._unsaved.append(partial(self._save_stopped, running))
            raise
        finally:
            self._running = None
            self._phase = IDLE

    def _end(self, running: Running) -> None:
        kept = [self.gear.receiver, *running.stop()]
        answers = at_once(lambda one: one.end(), kept)
        for one, answer in zip(kept, answers, strict=True):
            if isinstance(answer, EdencarError):
                self._note(f"{one.worker.name} did not stop in order: {answer}")
            elif isinstance(answer, ReceiverStatus):
                running.epochs = answer.epochs_logged
                if not running.epochs:
                    self._note("no position was logged: the receiver said nothing")
        if not running.end_photos():
            self._save_or_later(partial(put_in_order, running.folder))

    def _save_stopped(self, running: Running) -> Manifest:
        manifest = running.save(state=FETCHING if on_cards(running.folder) else FINISHED)
        self._fetches.add(running.id)
        return manifest

    def _stop_by_itself(self, reason: str, problem: Callable[[str], Problem]) -> None:
        running = self._running
        if running is None or self._phase != IDLE:
            return
        self._ended_early.append(problem(running.id))
        try:
            self.stop(reason)
        except (EdencarError, OSError) as error:
            log.error("%s is not closed in order yet: %s", running.id, error)

    # What runs by itself

    def _repeat(self, task: Callable[[], None], pause_s: float) -> None:
        while not self._closing.is_set():
            try:
                task()
            except Exception:
                log.exception("%s failed", task.__name__)
            self._closing.wait(pause_s)

    def _discover(self) -> None:
        running = self._running
        self.gear.fleet.look(lambda serial: running is not None and serial in running.cameras)

    def _tend(self) -> None:
        self._tended_s = time.monotonic()
        self._wake.clear()
        self.gear.tend()
        if (running := self._running) and self._phase != STARTING:  # which may yet fail
            self._join_late(running)
            running.tend_photos(self._settings)
        self._wake.wait(TICK_S)

    def _join_late(self, running: Running) -> None:
        """Have cameras record that came, or came back, after the start."""
        for camera in self.gear.fleet.listed():
            if camera.state != LOST and running.join(camera):
                self._note(f"camera {camera.serial} joined")

    def _keep_books(self) -> None:
        running = self._running
        self._room.observe(recording=running is not None)
        if running is None:
            self._resume()
        else:
            self._watch_over(running)
        self._save_closed()
        self._left_open.close_rest()
        self._fetches.follow({camera.serial for camera in self.gear.fleet.listed() if camera.state == "fetching"})
        self._housekeeping.empty_trash(self.clock(), None if running is None else len(running.cameras))

    def _watch_over(self, running: Running) -> None:
        running.note_problems(self.status().problems)
        if self._room.left(len(running.cameras)).seconds_left <= STOP_S:
            self._stop_by_itself(DISK_FULL, disk_full)
            return
        try:
            running.save_if_due()
        except NoSpaceError:
            self._stop_by_itself(DISK_FULL, disk_full)
        except (EdencarError, OSError) as error:
            log.error("the manifest of %s cannot be written: %s", running.id, error)
            self._stop_by_itself("the disk cannot be written", disk_failed)

    def _save_closed(self) -> None:
        if time.monotonic() >= self._save_again_s:
            for save in [*self._unsaved]:
                self._unsaved.remove(save)
                self._save_or_later(save)

    def _save_or_later(self, save: Callable[[], object]) -> None:
        """Do what ends a recording, again and again as long as the disk does not take it."""
        try:
            with suppress(UnknownError):  # moved away by hand
                save()
        except (EdencarError, OSError):
            self._unsaved.append(save)
            self._save_again_s = time.monotonic() + SAVE_AGAIN_S

    def _seal(self) -> None:
        self._housekeeping.seal(lambda: self._phase == IDLE and self._running is None and not self._closing.is_set())

    # After a crash

    def _resume(self) -> None:
        """Go on with what an earlier server left open, as a new recording, when that is not too long ago."""
        if not self.gear.fleet.looked:
            return
        left, gap_s = self._left_open.manifest, self._left_open.gap_s(self.clock())
        if left is not None and gap_s is not None:
            self._go_on(left, gap_s)

    def _go_on(self, left: Manifest, gap_s: float) -> None:
        with self._pressing, self._changing:
            if self._left_open.manifest is not left or self._running or self._closing.is_set():  # a crew was quicker
                return
            self._left_open.forget()
            present = [camera for camera in self.gear.fleet.listed() if camera.state != LOST]
            chosen = [camera for camera in present if not left.chosen or camera.serial in left.chosen]
            values = {name: getattr(left, name) for name in ("mode", "name", "every", "chosen")}
            try:
                manifest = self._start(chosen, {**values, "continues": left.id}, none_will_do=True)
            except (EdencarError, OSError) as error:
                log.error("%s does not go on: %s", left.id, error)
                return
            self._note(f"goes on after recording {left.id}, which was interrupted about {gap_s:.0f} s before")
            self._ended_early = [continuation(left.id, manifest.id)]

    # Streams that are watched

    def _look_out(self) -> None:
        self.gear.lookout.tend(self._streams)

    @property
    def _streams(self) -> Mapping[str, Path]:
        running = self._running
        return running.streams if running else self._scratch

    @contextmanager
    def _streaming(self) -> Iterator[Streams]:
        """Streams for one who looks at them for a while: those of the recording, else some that are not kept."""
        if not self._calibrating.acquire(blocking=False):
            raise ConflictError("a calibration runs already", cure="wait for it")
        try:
            if self._phase != IDLE:
                raise ConflictError(f"the car is {self._phase}", cure="try again in a few seconds")
            if running := self._running:
                yield running.watched()
                return
            with self._changing:
                if self._running is not None or self._closing.is_set():
                    raise ConflictError("a recording was started meanwhile", cure="calibrate again: that may run on")
                with self._passing_streams() as streams:
                    yield streams
        finally:
            self._calibrating.release()

    @contextmanager
    def _passing_streams(self) -> Iterator[Streams]:
        """Streams that are started for a while, as far as nobody starts a recording meanwhile."""

        def check() -> None:
            if self._pressing.locked():
                cure = "calibrate again: that works during it, too"
                raise ConflictError("a recording was started meanwhile", cure=cure)

        chosen = self.gear.fleet.choose(None)
        self._room.require(len(chosen))
        with passing_streams(chosen, self.recordings.output / SCRATCH, check) as streams:
            try:
                self._scratch = streams.folders
                yield streams
            finally:
                self._scratch = {}

    # Helpers

    def _note(self, text: str) -> None:
        if (running := self._running) is not None:
            running.note(text)
        else:
            log.warning("%s", text)

    def _note_gap(self, device: str, from_ns: int, until_ns: int) -> None:
        if (running := self._running) is not None:
            running.note_gap(device, from_ns, until_ns)

    def _state(self, running: Running | None, problems: Iterable[Problem]) -> str:
        if self._phase != IDLE or running is None:
            return self._phase
        return DEGRADED if any(problem.level == ERROR for problem in problems) else RECORDING


@cache
def software() -> str:
    """Name and version."""
    project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']} {project['version']}"


def _take(output: Path) -> int:
    """Lock a folder of recordings until the descriptor is closed, at the latest when this process ends."""
    descriptor = os.open(output / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        lock_alone(descriptor)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(f"another edenCar serves {output}", cure="stop it, or name another folder") from error
    return descriptor
