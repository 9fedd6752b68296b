"""The devices on the car: a worker for each that is kept going, the best clock, and how all of them are."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from configs import Settings
from rig.camera.camerabook import CameraBook, Delay
from rig.camera.cameraworker import camera_worker
from rig.camera.finding import FoundCamera, discover
from rig.camera.fleet import LOST, Camera, Fleet, at_once
from rig.clock import UtcClock, best_clock, iso_utc
from rig.gnss.receiver import ReceiverStatus, receiver_worker
from rig.live.lookout import Lookout, calibration
from rig.live.watch import Picture, Sight, watch_worker
from rig.recordings import RecordedReceiver
from rig.status import CameraNow, ReceiverNow
from rig.supervision import Kept
from rig.workers import Target, Worker

SLOWEST_RECEIVER_S = 1.0
LISTENING = "listening"  # the state of a receiver that sends


@dataclass(frozen=True, slots=True)
class Devices:
    """How cameras are found, and what runs in the workers."""

    discover: Callable[[Sequence[str]], Sequence[FoundCamera]] = discover
    camera_worker: Target = camera_worker
    receiver_worker: Target = receiver_worker
    watch_worker: Target = watch_worker


class Gear:
    """Owns all workers from its creation until `close`. `tend` is called by one thread, the rest from any.

    `note` is told in one sentence what befalls a device during a recording, `note_gap` between which two arrivals
    nothing of it was kept, `on_end` that a worker has ended.
    """

    def __init__(
        self,
        settings: Settings,
        devices: Devices,
        note: Callable[[str], None],
        note_gap: Callable[[str, int, int], None],
        on_end: Callable[[], None],
    ) -> None:
        self._settings, self._devices = settings, devices
        self._note, self._note_gap, self._on_end = note, note_gap, on_end
        self._gnss: UtcClock | None = None
        self.book = CameraBook(settings.output)
        self.lookout = Lookout(settings, self.clock, self._note_delay, devices.watch_worker)
        self.fleet = Fleet(lambda: devices.discover(settings.cameras), self._keep_camera, self._move_camera)
        receiver = Worker("receiver", devices.receiver_worker, settings)
        self.receiver = self._keep(
            receiver, lambda status: status.state == LISTENING and bool(status.rate_hz), SLOWEST_RECEIVER_S
        )

    def tend(self) -> None:
        """Start again, replace and tell again the workers that need it."""
        for kept in (self.receiver, *(camera.kept for camera in self.fleet.listed())):
            kept.tend()

    def close(self) -> None:
        """End all workers."""
        self.lookout.close()
        at_once(lambda close: close(), [self.receiver.close, self.fleet.close])

    def clock(self) -> UtcClock:
        """UTC by the receiver as long as it is better than the operating system's idea of it."""
        status = self._receiver_status
        self._gnss = (status and status.clock) or self._gnss
        return best_clock(self._gnss and self._gnss.aged())

    @property
    def receiver_now(self) -> ReceiverNow:
        """How the receiver is."""
        status = self._receiver_status or ReceiverStatus()
        return ReceiverNow(**{item.name: getattr(status, item.name) for item in fields(ReceiverNow)})

    def recorded_receiver(self) -> RecordedReceiver | None:
        """The receiver as manifests have it."""
        status = self._receiver_status
        return None if status is None else RecordedReceiver(status.port, status.epochs_logged)

    def cameras_now(self, recording: Set[str]) -> tuple[CameraNow, ...]:
        """How the cameras are; those of these serials are part of the recording that runs."""
        return tuple(self._camera_now(camera, camera.serial in recording) for camera in self.fleet.listed())

    def picture(self, serial: str) -> Picture | None:
        """The newest picture of a camera's stream, None when there is none yet. Raises UnknownError."""
        self.fleet.get(serial)
        return self.lookout.picture(serial)

    def name_camera(self, serial: str, label: str) -> None:
        """Give a camera a name, or take it away (empty); the next recording has it as the name of a folder.

        Raises UnknownError, or ConflictError when another camera is called so.
        """
        self.fleet.get(serial)
        self.book.set_label(serial, " ".join(label.split()))

    @property
    def _receiver_status(self) -> ReceiverStatus | None:
        status: ReceiverStatus | None = self.receiver.status
        return status

    def _keep_camera(self, found: FoundCamera) -> Kept:
        worker = Worker(f"camera {found.serial}", self._devices.camera_worker, found.address, self._settings)
        return self._keep(worker, lambda status: status.state == "streaming" and bool(status.fps))

    def _move_camera(self, found: FoundCamera, kept: Kept) -> None:
        self._note(f"camera {found.serial} is at {found.address} now")
        kept.move(found.address, self._settings)

    def _keep(self, worker: Worker, flows: Callable[[Any], bool], usual_s: float = 0.0) -> Kept:
        worker.on_end = self._on_end
        return Kept(worker, self._note, self._note_gap, flows, usual_s)

    def _note_delay(self, serial: str, sight: Sight) -> None:
        if sight.delay_ms is not None and sight.delay_sigma_ms is not None:
            measured = iso_utc(self.clock().utc_ns())
            self.book.set_delay(serial, Delay(sight.delay_ms, sight.delay_sigma_ms, sight.codes, measured))

    def _camera_now(self, camera: Camera, records: bool) -> CameraNow:
        found, kept = camera.found, camera.kept
        waits = records and not kept.told and camera.state != LOST
        sight, stored = self.lookout.sight(camera.serial), self.book.delay(camera.serial)
        measured_ms = None if sight is None else sight.delay_ms
        return replace(
            camera.status or CameraNow(serial="", model="", address="", state=""),
            serial=camera.serial,
            label=self.book.label(camera.serial),
            model=found.model,
            address=found.address,
            state="starting" if waits else camera.state,
            delay_ms=stored.delay_ms if measured_ms is None and stored else measured_ms,
            calibration=sight and calibration(sight),
            records=records,
            trouble=kept.trouble if waits or camera.state == LOST else "",
        )
