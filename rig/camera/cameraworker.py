"""The worker of one GoPro: records its stream or on its card, fetches what was recorded there, and keeps it awake."""

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from configs import Settings
from rig.camera.cardfiles import Fetch, Ledger
from rig.camera.finding import usb_serial_at
from rig.camera.goproanswers import UNKNOWN_MODEL, CameraState, RefusedError, added, limits, newest
from rig.camera.opengopro import TROUBLE, GoPro
from rig.camera.streamcapture import QUIET_S, StreamCapture
from rig.camera.vigil import KEEP_ALIVE_S, WATCH_S, Restarter
from rig.errors import ConflictError, DeviceError, EdencarError, UsageError
from rig.recordings import TRASH
from rig.status import TOO_HOT, CameraNow
from rig.workers import Link, StartCapture, StopCapture

LOST_WATCH_S = 1.0
TICK_S = 0.25
WELCOME_S = 3.0  # a worker that was started anew is told to go on recording before that
ORPHAN_S = 5.0  # how long a recording that a dead worker left behind waits for the server to claim it
LOCK_S = 5.0

log = logging.getLogger(__name__)


def camera_worker(link: Link, address: str, settings: Settings) -> None:
    """Watch and drive the camera at `address` until the server says stop; answers StartCapture and StopCapture.

    It reports what it knows of CameraNow. StopCapture is answered with the names of the files, in mode `camera` before
    they are fetched.
    """
    _Worker(address, settings).run(link)


class _CardCapture:
    """A video on the camera's card, to be fetched into `folder` afterwards."""

    mode, state = "camera", "recording"
    fps: float | None = None
    lost_datagrams = 0

    def __init__(self, camera: GoPro, serial: str, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._camera = camera
        self._serial = serial
        self._settings = settings
        self._ledger = Ledger.load(folder)
        self._seen: CameraState | None = None
        self._restarter = Restarter(camera)

    def start(self) -> None:
        """Returns when the camera records. Raises DeviceError when it does not."""
        fresh = self._ledger is None
        if self._ledger and self._ledger.wanted is None and self._camera.state().encoding:
            return  # a worker before us began it, or its network was away for long
        self._camera.take_control(self._settings.camera_settings)
        self._ledger = self._ledger or Ledger(self.folder, self._serial, self._list())
        self._ledger = replace(self._ledger, wanted=None).save()
        try:
            self._camera.start_recording()
        except RefusedError:
            if fresh:
                self._ledger.file.unlink()
            raise

    def _list(self) -> tuple[str, ...] | None:
        """What the card holds, if it says so: a recording need not wait for that."""
        try:
            return tuple(media.path for media in self._camera.media())
        except RefusedError as refusal:
            self.problems = [str(refusal)]
            return None

    def watch(self, state: CameraState) -> None:
        """Start a camera again that stopped by itself."""
        if state is self._seen:
            return
        self._seen = state
        problem = self._restarter.watch(state)
        self.problems = [problem] if problem else self.problems

    def finish(self) -> Ledger:
        """Stop it, wait until its file is closed, and note what is to be fetched."""
        ledger = self._ledger
        if ledger is None:
            raise DeviceError(f"{self.folder} was moved away while its video was being stopped", cure="try again")
        self._camera.stop_recording()
        card = self._camera.media()
        wanted = newest(card) if ledger.before is None else added(ledger.before, card)
        return replace(ledger, wanted=tuple(media.path for media in wanted)).save()


class _Worker:
    """One camera: a thread that watches it, the requests of the server, and perhaps a thread that fetches."""

    def __init__(self, address: str, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._camera = GoPro(address)
        self._serial: str | None = None
        self._model = UNKNOWN_MODEL
        self._state: CameraState | None = None  # while it answers
        self._lost = ""  # why: it was asked and did not answer
        self._problem = ""
        self._capture: StreamCapture | _CardCapture | None = None
        self._ledgers: list[Ledger] = []
        self._looked_ns: list[int] = []  # when the folders that hold them had changed, at the last look
        self._claim_by_s = 0.0
        self._welcome_at_s: float | None = None
        self._fetch: Fetch | None = None
        self._control = threading.RLock()  # whoever holds it may tell the camera what to do
        self._ending = threading.Event()

    def run(self, link: Link) -> None:
        watcher = threading.Thread(target=self._watch, name=f"watch {self._address}", daemon=True)
        watcher.start()
        try:
            link.serve({StartCapture: self._start, StopCapture: self._stop}, self._report)
        finally:
            self._ending.set()
            with suppress(EdencarError):
                self._stop(StopCapture())
            self._pause_fetch()
            watcher.join(LOCK_S)

    # What the server asks

    def _start(self, request: StartCapture) -> None:
        with self._control:
            running = self._capture
            if running is not None:
                if (running.folder, running.mode) == (request.folder, request.mode):
                    return
                raise ConflictError(f"{self._address} records into {running.folder} already", cure="stop that first")
            if self._serial is None:
                self._know()
            self._pause_fetch()
            self._look_for_ledgers()
            self._finish_orphans(request.folder)
            capture = self._new_capture(request)
            self._looked_ns = []  # it may leave a ledger even when it fails
            capture.start()
            self._ledgers = [ledger for ledger in self._ledgers if ledger.folder != request.folder]
            self._capture, self._problem = capture, ""

    def _stop(self, request: StopCapture) -> tuple[str, ...]:
        capture = self._capture
        if isinstance(capture, StreamCapture):
            return self._stop_stream(capture)
        with self._control:
            if capture is not None:
                self._capture = None
                return self._finish(capture)
            self._look_for_ledgers()
            return self._finish_orphans()

    def _report(self) -> CameraNow:
        capture, known = self._capture, self._state
        fetch = None if capture else self._fetch
        return CameraNow(
            serial=self._serial or self._address,
            model=self._model,
            address=self._address,
            state=self._name_state(capture, known),
            battery_percent=known.battery_percent if known else None,
            card_seconds_left=known.card_seconds_left if known else None,
            card_problem=known.card_problem if known else None,
            fps=capture.fps if capture else None,
            lost_datagrams=capture.lost_datagrams if capture else 0,
            fetched_bytes=fetch.done_bytes if fetch else 0,
            fetch_total_bytes=fetch.total_bytes if fetch else 0,
            problems=self._name_problems(capture, known),
        )

    def _name_state(self, capture: StreamCapture | _CardCapture | None, known: CameraState | None) -> str:
        if known is None and not (isinstance(capture, StreamCapture) and capture.silent_s < QUIET_S):
            return "lost" if self._lost else "connecting"
        if capture is not None:
            return capture.state
        if known is not None and known.encoding and self._orphans():
            return _CardCapture.state
        return "fetching" if self._ready() else "idle"

    def _name_problems(
        self, capture: StreamCapture | _CardCapture | None, known: CameraState | None
    ) -> tuple[str, ...]:
        hot = TOO_HOT if known and known.hot else ""
        problems = [self._lost or hot, *(capture.problems if capture else ())]
        problems += [self._problem, self._fetch.problem if self._fetch else ""]
        return tuple(dict.fromkeys(filter(None, problems)))

    # What it does by itself

    def _watch(self) -> None:
        poll_due_s = keep_due_s = 0.0
        while True:
            try:
                if time.monotonic() >= poll_due_s:
                    self._poll()
                    poll_due_s = time.monotonic() + (WATCH_S if self._state else LOST_WATCH_S)
                self._look_after()
                if self._state and time.monotonic() >= keep_due_s:
                    keep_due_s = time.monotonic() + KEEP_ALIVE_S
                    self._camera.keep_alive()
            except TROUBLE as error:
                log.info("%s", error)
            except Exception:  # a camera must not be left alone because of one defect
                log.exception("watching %s failed", self._address)
            if self._ending.wait(TICK_S):
                return

    def _poll(self) -> None:
        try:
            state = self._camera.state()
            if self._state is None:  # it is new, or back
                with self._control:
                    self._know()
                    self._welcome_at_s = time.monotonic() + WELCOME_S
            self._state, self._lost = state, ""
        except TROUBLE as error:
            if self._state:
                log.warning("%s", error)
            self._state, self._lost = None, str(error)

    def _know(self) -> None:
        """Learn which camera this is, and what an earlier worker left to be done with it.

        Raises DeviceError when it is another one than before: what it sends would be taken for the first one's.
        """
        told, model = self._camera.identify()
        if self._serial is not None:
            if told and told != self._serial != self._address:  # a busy one may tell nothing
                raise DeviceError(f"another camera ({told}) is at {self._address}", cure=f"look for {self._serial}")
            return
        self._serial, self._model = told or usb_serial_at(self._camera.host) or self._address, model
        for limit in limits(self._model):
            log.info("%s at %s: %s", self._model, self._address, limit)
        self._look_for_ledgers()
        self._claim_by_s = time.monotonic() + ORPHAN_S

    def _look_for_ledgers(self) -> None:
        """Learn what is left to be done; recordings may have come into the trash or out of it since the last look."""
        output = self._settings.output
        changed_ns = [folder.stat().st_mtime_ns for folder in (output, output / TRASH) if folder.is_dir()]
        if self._serial is not None and changed_ns != self._looked_ns:
            self._looked_ns = changed_ns
            self._ledgers = Ledger.find(output, self._serial)

    def _look_after(self) -> None:
        if not self._state or not self._control.acquire(blocking=False):
            return
        try:
            if self._capture is not None:
                self._capture.watch(self._state)
            else:
                self._work_off()
        finally:
            self._control.release()

    def _work_off(self) -> None:
        """Finish recordings that nobody claimed, set up a camera that is new, fetch what has been recorded."""
        now_s = time.monotonic()
        self._look_for_ledgers()
        if now_s >= self._claim_by_s:
            self._finish_orphans()
        if self._welcome_at_s is not None and now_s >= self._welcome_at_s and not self._orphans():
            self._welcome_at_s = None
            self._camera.take_control(self._settings.camera_settings)
        ready = self._ready()
        if ready and (self._fetch is None or not self._fetch.is_alive()) and not self._ending.is_set():
            self._fetch = Fetch(self._address, ready, self._settings.reserve_bytes)
            self._fetch.start()

    def _ready(self) -> list[Ledger]:
        """What can be fetched now; a recording in the trash waits until it is restored."""
        known = [ledger for ledger in self._ledgers if ledger.wanted is not None and not ledger.trashed]
        return [ledger for ledger in known if ledger.file.exists()]

    def _orphans(self) -> list[Ledger]:
        return [ledger for ledger in self._ledgers if ledger.wanted is None]

    def _new_capture(self, request: StartCapture) -> StreamCapture | _CardCapture:
        if request.mode == StreamCapture.mode:
            return StreamCapture(self._camera, self._model, request.folder, self._settings)
        if request.mode == _CardCapture.mode:
            return _CardCapture(self._camera, str(self._serial), request.folder, self._settings)
        raise UsageError(f"a camera knows no mode {request.mode!r}", cure="choose video or camera")

    def _stop_stream(self, capture: StreamCapture) -> tuple[str, ...]:
        files = capture.halt()  # first of all: what the camera does afterwards does not matter
        if self._control.acquire(timeout=LOCK_S):  # else the watcher, which holds it, dismisses the camera
            try:
                capture.dismiss()
            finally:
                self._control.release()
        self._capture = None
        return files

    def _finish_orphans(self, besides: Path | None = None) -> tuple[str, ...]:
        """Stop what an earlier worker began; the files of the last one. It may lie in the trash: its files are noted,
        lest those of the next recording be taken for them when it is restored.
        """
        files: tuple[str, ...] = ()
        for ledger in self._orphans():
            if ledger.folder != besides:
                files = self._finish(_CardCapture(self._camera, ledger.serial, ledger.folder, self._settings))
        return files

    def _finish(self, capture: _CardCapture) -> tuple[str, ...]:
        """Stop a recording on the card and have it fetched; when that fails now, it is done later."""
        others = [ledger for ledger in self._ledgers if ledger.folder != capture.folder]
        try:
            ledger = capture.finish()
        except OSError as error:  # the camera's, or the disk's
            left = Ledger.load(capture.folder)
            self._ledgers = [*others, left] if left else others
            self._problem = f"the video on {self._address} could not be stopped ({error})"
            raise DeviceError(self._problem, cure="that is done, and it is fetched, as soon as it answers") from error
        self._ledgers, self._problem = [*others, ledger], ""
        return tuple(Path(path).name for path in ledger.wanted or ())

    def _pause_fetch(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            self._fetch = None
