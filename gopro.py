"""One GoPro on USB: find it, record its stream or on its card, fetch its files; the camera worker and the commands."""

import argparse
import json
import logging
import math
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ifaddr

import configs
from configs import Settings
from rig import cli
from rig.errors import (
    ConflictError,
    DeviceError,
    DeviceNotFoundError,
    EdencarError,
    NoSpaceError,
    UnknownError,
    UnreadableError,
    UsageError,
)
from rig.files import free_bytes, write_atomically
from rig.opengopro import UNKNOWN_MODEL, CameraState, GoPro, Media, added, missing, parse_setting, split_address
from rig.recordings import TRASH
from rig.stream import StreamRecorder
from rig.workers import Link, StartCapture, StopCapture

__all__ = ["CameraStatus", "FoundCamera", "GoPro", "camera_worker", "discover", "main"]

USB_DEVICES = Path("/sys/bus/usb/devices")
USB_VENDOR = "2672"
USB_NET = re.compile(r"(172\.2\d\.1\d\d)\.\d+", re.ASCII)
PROBE_S = (1.0, 2.0)
WEBCAM_PORT = 8554  # to which some cameras send whatever they are told
FIXED_PORT_MODELS = ("HERO9", "HERO10")

KEEP_ALIVE_S = 2.5
WELCOME_S = 3.0  # a worker that was started anew is told to go on recording before that
WATCH_S = 2.0
LOST_WATCH_S = 1.0
TICK_S = 0.25
FIRST_DATAGRAM_S = 3.0
SILENCE_S = 3.0  # without a datagram: the webcam is started anew
QUIET_S = 1.0  # worth a word
STILL_POLLS = 2  # a recording camera that says so often that it does not is started again
STILL_PAUSE_POLLS = 5  # before the next try
ORPHAN_S = 5.0  # how long a recording that a dead worker left behind waits for the server to claim it
LOCK_S = 5.0
LEDGER = ".fetch.json"
LEDGERS = (f"[!.]*/videos/*/{LEDGER}", f"{TRASH}/*/videos/*/{LEDGER}")
FIRST_FETCH_PAUSE_S, LONGEST_FETCH_PAUSE_S = 1.0, 30.0
NO_CAMERA_CURE = "switch it on, choose USB Connection: GoPro Connect in its menu, look at its cable"

_TROUBLE = (DeviceError, DeviceNotFoundError)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answers; `address` is HOST[:PORT], `host_address` this machine's own address towards it."""

    serial: str
    model: str
    address: str
    host_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatus:
    """What a camera worker reports; None where nothing is known.

    `state` is one of idle, streaming, recording, fetching, lost. `capture` is the folder being recorded or fetched
    into, `files` the names of what lies there from this or the last capture, `problems` one sentence each.
    """

    serial: str
    model: str
    address: str
    state: str
    battery_percent: int | None = None
    card_seconds_left: int | None = None
    card_problem: str | None = None
    fps: float | None = None
    lost_datagrams: int = 0
    delay_ms: float | None = None
    fetched_bytes: int = 0
    fetch_total_bytes: int = 0
    capture: Path | None = None
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def discover(addresses: Sequence[str] = (), usb_devices: Path = USB_DEVICES) -> list[FoundCamera]:
    """The cameras that answer: those at `addresses` (HOST[:PORT]), or, when none are given, those on USB."""
    candidates = list(dict.fromkeys(addresses)) or _usb_addresses(usb_devices)
    if not candidates:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(candidates))) as pool:
        found = pool.map(lambda address: _probe(address, usb_devices), candidates)
        return [camera for camera in found if camera is not None]


def camera_worker(link: Link, address: str, settings: Settings) -> None:
    """Watch and drive the camera at `address` until the server says stop; answers StartCapture and StopCapture.

    StopCapture is answered with the names of the files, in mode `camera` before they are fetched.
    """
    _Worker(address, settings).run(link)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on one camera and return its exit code."""
    return cli.run(_build_parser(), _run, _say, argv)


# Finding cameras


def camera_address(serial: str) -> str | None:
    """The address that a camera gives itself on USB, by the last three digits of its serial number (Open GoPro)."""
    match = re.search(r"(\d)(\d)(\d)$", serial, re.ASCII)
    return f"172.2{match[1]}.1{match[2]}{match[3]}.51" if match else None


def usb_serial_at(host: str, usb_devices: Path = USB_DEVICES) -> str | None:
    """The serial number of the GoPro on USB whose address is `host`."""
    return next((serial for serial in _usb_serials(usb_devices) if camera_address(serial) == host), None)


def own_address(camera: str) -> str:
    """This machine's own address on the way to the camera at HOST[:PORT]; raises DeviceNotFoundError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(split_address(camera))  # chooses a route, sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise missing(camera) from error


def _usb_addresses(usb_devices: Path) -> list[str]:
    by_serial = [camera_address(serial) for serial in _usb_serials(usb_devices)]
    for address in {address for address in by_serial if address and by_serial.count(address) > 1}:
        log.warning(
            "several cameras have the address %s: their serial numbers end alike, only one can be used", address
        )
    own = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    nets = [f"{match[1]}.51" for match in map(USB_NET.fullmatch, own) if match]
    return list(dict.fromkeys([address for address in by_serial if address] + nets))


def _usb_serials(usb_devices: Path) -> list[str]:
    serials = []
    for vendor in sorted(usb_devices.glob("*/idVendor")):
        with suppress(OSError):  # it has no serial, or was just pulled out
            if vendor.read_text().strip() == USB_VENDOR:
                serials.append(vendor.with_name("serial").read_text().strip())
    return serials


def _probe(address: str, usb_devices: Path) -> FoundCamera | None:
    with closing(GoPro(address, PROBE_S)) as camera:
        try:
            camera.version()
            serial, model = camera.identify()
            serial = serial or usb_serial_at(camera.host, usb_devices) or address
            return FoundCamera(serial, model, address, own_address(address))
        except (DeviceError, DeviceNotFoundError) as error:
            log.info("%s", error)
            return None


# Recording its stream


class _StreamCapture:
    """The webcam stream into `folder`; `watch` is called by one thread, `halt` from any."""

    mode, state = "video", "streaming"

    def __init__(self, camera: GoPro, model: str, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._camera = camera
        self._settings = settings
        self._ports = _choose_ports(model)
        self._recorders: list[StreamRecorder] = []
        self._ordered_ns = 0
        self._problem = ""
        self._taken: DeviceError | None = None
        self._ended = False
        self._changing = threading.Lock()

    def start(self) -> None:
        """Returns when the first datagram is here. Raises DeviceError when none comes."""
        try:
            for port in self._ports:
                if self._begin(port):
                    return
            if self._taken is not None and not self._recorders:
                raise self._taken
            cure = "let UDP through to this machine, plug the camera in again"
            raise DeviceError(f"{self._camera.address} says that it streams, but nothing arrives", cure=cure)
        except EdencarError:
            self.halt()
            self.dismiss()
            raise

    def watch(self, state: CameraState | None) -> None:
        """Have a camera that fell silent start anew."""
        if self._ended or min(self.silent_s, (time.monotonic_ns() - self._ordered_ns) / 1e9) < SILENCE_S:
            return
        log.warning("%s sends nothing any more and is started again", self._camera.address)
        try:
            recorder = self._recorders[-1]
            if own_address(self._camera.address) != recorder.host_address:
                self._listen(recorder.port)
            self._order()
            self._problem = ""
        except _TROUBLE as error:
            self._problem = str(error)
        if self._ended:
            self.dismiss()

    def halt(self) -> tuple[str, ...]:
        """Have what came up to now on disk; returns the names of the segments."""
        with self._changing:
            self._ended = True
        for recorder in self._recorders:
            recorder.stop()
        return self.files

    def dismiss(self) -> None:
        """Tell the camera to stop sending, as far as it still listens."""
        with suppress(*_TROUBLE):
            self._camera.stop_webcam()

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path.name for recorder in self._recorders for path in recorder.segments)

    @property
    def silent_s(self) -> float:
        """Seconds since the last datagram, or since the camera was told to send."""
        last_ns = self._recorders[-1].counters().last_arrival_monotonic_ns or self._ordered_ns
        return (time.monotonic_ns() - last_ns) / 1e9

    @property
    def fps(self) -> float:
        return round(self._recorders[-1].counters().fps, 2)

    @property
    def lost_datagrams(self) -> int:
        return sum(recorder.counters().lost_datagrams for recorder in self._recorders)

    @property
    def problems(self) -> list[str]:
        problems = [str(problem) for problem in self._recorders[-1].problems]
        if self.silent_s > QUIET_S:
            problems.append(f"no picture has come for {self.silent_s:.0f} s")
        return problems + [self._problem] * bool(self._problem)

    def _begin(self, port: int) -> bool:
        try:
            self._listen(port)
        except DeviceError as error:
            self._taken = error
            return False
        self._order()
        self._taken = None
        deadline_s = time.monotonic() + FIRST_DATAGRAM_S
        while time.monotonic() < deadline_s:
            if (self._recorders[-1].counters().last_arrival_monotonic_ns or 0) > self._ordered_ns:
                return True
            time.sleep(0.02)
        return False

    def _listen(self, port: int) -> None:
        """Bind a port of our own address on the camera's net; raises DeviceError when another one has it."""
        host, settings = own_address(self._camera.address), self._settings
        with self._changing:
            if self._recorders:
                self._recorders[-1].stop()
            if not self._ended:
                recorder = StreamRecorder(
                    self.folder,
                    host,
                    port,
                    segment_s=settings.segment_s,
                    buffer_bytes=settings.receive_buffer_bytes,
                    sync_interval_s=settings.sync_interval_s,
                )
                self._recorders.append(recorder)

    def _order(self) -> None:
        resolution, lens = self._settings.webcam_resolution, self._settings.webcam_lens
        try:
            self._camera.start_webcam(self._recorders[-1].port, resolution, lens, self._prepare)
        finally:
            self._ordered_ns = time.monotonic_ns()

    def _prepare(self) -> None:
        """Just before the camera begins to send: only what comes from now on belongs to the recording."""
        with self._changing:
            if self._ended:
                return
            recorder = self._recorders[-1]
            recorder.split()
            if not recorder.started:
                recorder.start()


def _choose_ports(model: str) -> tuple[int, int]:
    """The UDP ports to try; 0 is any that is free, of which the camera is told."""
    if model.startswith(FIXED_PORT_MODELS):
        return (WEBCAM_PORT, WEBCAM_PORT)
    return (WEBCAM_PORT, 0) if model == UNKNOWN_MODEL else (0, WEBCAM_PORT)


# Recording on its card


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the card held before a recording and what is to be fetched from it into `folder` (None: not stopped yet).

    It lies on disk beside the files, so that another process can go on.
    """

    folder: Path
    serial: str
    before: tuple[str, ...]
    wanted: tuple[str, ...] | None = None

    @property
    def file(self) -> Path:
        return self.folder / LEDGER

    @property
    def trashed(self) -> bool:
        return self.folder.parents[2].name == TRASH

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(Path(path).name for path in self.wanted or ())

    def save(self) -> "_Ledger":
        content = {"serial": self.serial, "before": self.before, "wanted": self.wanted}
        write_atomically(self.file, json.dumps(content).encode())
        return self

    @classmethod
    def load(cls, folder: Path) -> "_Ledger | None":
        try:
            content = json.loads((folder / LEDGER).read_bytes())
            wanted = content["wanted"]
            return cls(folder, content["serial"], tuple(content["before"]), None if wanted is None else tuple(wanted))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is left alone: %s", folder / LEDGER, error)
            return None


class _CardCapture:
    """A video on the camera's card, to be fetched into `folder` afterwards."""

    mode, state = "camera", "recording"
    fps: float | None = None
    lost_datagrams = 0
    files: tuple[str, ...] = ()

    def __init__(self, camera: GoPro, serial: str, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._camera = camera
        self._serial = serial
        self._settings = settings
        self._ledger = _Ledger.load(folder)
        self._seen: CameraState | None = None
        self._still = 0
        self._problem = ""

    @property
    def problems(self) -> list[str]:
        return [self._problem] * bool(self._problem)

    def start(self) -> None:
        """Returns when the camera records. Raises DeviceError when it does not."""
        if self._ledger and self._ledger.wanted is None and self._camera.state().encoding:
            return  # a worker before us began it
        self._camera.leave_webcam()
        self._camera.take_control(self._settings.camera_settings)
        before = self._ledger.before if self._ledger else tuple(media.path for media in self._camera.media())
        fresh = self._ledger is None
        self._ledger = _Ledger(self.folder, self._serial, before).save()
        try:
            self._camera.start_recording()
        except EdencarError:
            if fresh:
                self._ledger.file.unlink()
            raise

    def watch(self, state: CameraState | None) -> None:
        """Start a camera again that stopped by itself: some do, after half an hour or when they are hot."""
        if state is None or state is self._seen:
            return
        self._seen = state
        self._still = 0 if state.encoding else self._still + 1
        if self._still < STILL_POLLS:
            return
        self._problem = "the camera stopped recording by itself and was started again"
        self._still = 0
        try:
            self._camera.start_recording()
        except _TROUBLE as error:
            self._problem = f"the camera stopped recording by itself and does not start again: {error}"
            self._still = -STILL_PAUSE_POLLS

    def finish(self) -> _Ledger:
        """Stop it, wait until its file is closed, and note what is to be fetched."""
        ledger = self._ledger
        if ledger is None:
            raise DeviceError(f"{self.folder} was moved away while its video was being stopped", cure="try again")
        self._camera.stop_recording()
        wanted = added(ledger.before, self._camera.media())
        return replace(ledger, wanted=tuple(media.path for media in wanted)).save()


class _Cancelled(Exception):  # noqa: N818 - not an error
    pass


class _Fetch(threading.Thread):
    """Brings the files of `ledgers` from the card, however often that takes; removes a ledger when all are here."""

    def __init__(self, address: str, ledgers: Sequence[_Ledger], reserve_bytes: int) -> None:
        super().__init__(name=f"fetch from {address}", daemon=True)
        self.folder = ledgers[0].folder
        self.files: tuple[str, ...] = ()
        self.done_bytes = self.total_bytes = 0
        self.problem = ""
        self._base_bytes = 0
        self._address = address
        self._ledgers = ledgers
        self._reserve_bytes = reserve_bytes
        self._cancelled = threading.Event()

    def run(self) -> None:
        with closing(GoPro(self._address)) as camera:
            with suppress(*_TROUBLE):
                camera.turbo(True)
            for ledger in self._ledgers:
                self._fetch_all(camera, ledger)
            with suppress(*_TROUBLE):
                camera.turbo(False)

    def cancel(self) -> None:
        """Stop soon; what has come stays."""
        self._cancelled.set()
        self.join()

    def _fetch_all(self, camera: GoPro, ledger: _Ledger) -> None:
        pause_s = FIRST_FETCH_PAUSE_S
        self.folder, self.files, self.done_bytes, self.total_bytes = ledger.folder, (), 0, 0
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
            pause_s = min(2 * pause_s, LONGEST_FETCH_PAUSE_S)

    def _fetch_once(self, camera: GoPro, ledger: _Ledger) -> None:
        card = {media.path: media for media in camera.media()}
        wanted = [card[path] for path in ledger.wanted or () if path in card]
        gone = [path for path in ledger.wanted or () if path not in card]
        self.total_bytes = sum(media.size_bytes or 0 for media in wanted)
        self.problem = f"no longer on the card: {', '.join(gone)}" if gone else ""
        self._base_bytes, self.files = 0, ()
        for media in wanted:
            self._require_room(ledger.folder, media)
            path = camera.download(media, ledger.folder, self._note)
            self._note(path.stat().st_size, 0)
            self._base_bytes = self.done_bytes
            self.files = (*self.files, media.name)

    def _require_room(self, folder: Path, media: Media) -> None:
        here = sum(path.stat().st_size for path in folder.glob(f"{media.name}*"))
        if free_bytes(folder) < (media.size_bytes or 0) - here + self._reserve_bytes:
            raise NoSpaceError(f"{folder} has no room for {media.name}", cure="free some space, then it goes on")

    def _note(self, done: int, total: int) -> None:
        self.done_bytes = self._base_bytes + done
        if self._cancelled.is_set():
            raise _Cancelled


# The worker


class _Worker:
    """One camera: a thread that watches it, the requests of the server, and perhaps a thread that fetches."""

    def __init__(self, address: str, settings: Settings) -> None:
        self._address = address
        self._settings = settings
        self._camera = GoPro(address)
        self._serial: str | None = None
        self._model = UNKNOWN_MODEL
        self._state: CameraState | None = None
        self._answering = False
        self._problem = ""
        self._capture: _StreamCapture | _CardCapture | None = None
        self._files: tuple[str, ...] = ()
        self._ledgers: list[_Ledger] = []
        self._looked_ns: list[int] = []  # when the folders that hold them had changed, at the last look
        self._claim_by_s = 0.0
        self._welcome_at_s: float | None = None
        self._fetch: _Fetch | None = None
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
            self._know()
            self._pause_fetch()
            self._look_for_ledgers()
            self._finish_orphans(request.folder)
            capture = self._new_capture(request)
            capture.start()
            self._ledgers = [ledger for ledger in self._ledgers if ledger.folder != request.folder]
            self._capture, self._problem, self._files = capture, "", ()

    def _stop(self, request: StopCapture) -> tuple[str, ...]:
        capture = self._capture
        if isinstance(capture, _StreamCapture):
            return self._stop_stream(capture)
        with self._control:
            if capture is not None:
                self._capture = None
                return self._finish(capture)
            self._look_for_ledgers()
            return self._finish_orphans()

    def _report(self) -> CameraStatus:
        capture, fetch, ready = self._capture, self._fetch, self._ready()
        known = self._state if self._answering else None
        return CameraStatus(
            serial=self._serial or self._address,
            model=self._model,
            address=self._address,
            state=self._name_state(capture),
            battery_percent=known.battery_percent if known else None,
            card_seconds_left=known.card_seconds_left if known else None,
            card_problem=known.card_problem if known else None,
            fps=capture.fps if capture else None,
            lost_datagrams=capture.lost_datagrams if capture else 0,
            fetched_bytes=fetch.done_bytes if fetch and not capture else 0,
            fetch_total_bytes=fetch.total_bytes if fetch and not capture else 0,
            capture=capture.folder if capture else ready[0].folder if ready else None,
            files=capture.files if capture else fetch.files if fetch else self._files,
            problems=self._name_problems(capture),
        )

    def _name_state(self, capture: _StreamCapture | _CardCapture | None) -> str:
        if not self._answering and not (isinstance(capture, _StreamCapture) and capture.silent_s < QUIET_S):
            return "lost"
        if capture is not None:
            return capture.state
        if self._orphans() and self._state is not None and self._state.encoding:
            return _CardCapture.state
        return "fetching" if self._ready() else "idle"

    def _name_problems(self, capture: _StreamCapture | _CardCapture | None) -> tuple[str, ...]:
        problems = capture.problems if capture else []
        if not self._answering:
            problems = [str(missing(self._address)), *problems]
        elif self._state is not None and self._state.hot:
            problems = ["the camera is too hot: give it shade and air", *problems]
        more = [self._problem, self._fetch.problem if self._fetch else ""]
        return tuple(dict.fromkeys(problem for problem in [*problems, *more] if problem))

    # What it does by itself

    def _watch(self) -> None:
        poll_due_s = keep_due_s = 0.0
        while True:
            try:
                if time.monotonic() >= poll_due_s:
                    self._poll()
                    poll_due_s = time.monotonic() + (WATCH_S if self._answering else LOST_WATCH_S)
                self._look_after()
                if self._answering and time.monotonic() >= keep_due_s:
                    keep_due_s = time.monotonic() + KEEP_ALIVE_S
                    self._camera.keep_alive()
            except _TROUBLE as error:
                log.info("%s", error)
            except Exception:  # a camera must not be left alone because of one defect
                log.exception("watching %s failed", self._address)
            if self._ending.wait(TICK_S):
                return

    def _poll(self) -> None:
        try:
            self._state = self._camera.state()
            if not self._answering:
                self._welcome()
            self._answering = True
        except _TROUBLE as error:
            if self._answering:
                log.warning("%s", error)
            self._answering = False

    def _welcome(self) -> None:
        """A camera that is new, or back."""
        with self._control:
            self._know()
            self._welcome_at_s = time.monotonic() + WELCOME_S

    def _know(self) -> None:
        """Learn which camera this is, and what an earlier worker left to be done with it."""
        if self._serial is not None:
            return
        serial, self._model = self._camera.identify()
        self._serial = serial or usb_serial_at(self._camera.host) or self._address
        self._look_for_ledgers()
        self._claim_by_s = time.monotonic() + ORPHAN_S

    def _look_for_ledgers(self) -> None:
        """Learn what is left to be done; recordings may have come into the trash or out of it since the last look."""
        output = self._settings.output
        changed_ns = [folder.stat().st_mtime_ns for folder in (output, output / TRASH) if folder.is_dir()]
        if self._serial is None or changed_ns == self._looked_ns:
            return
        self._looked_ns = changed_ns
        found = [_Ledger.load(path.parent) for pattern in LEDGERS for path in output.glob(pattern)]
        self._ledgers = [ledger for ledger in found if ledger and ledger.serial == self._serial]

    def _look_after(self) -> None:
        if not self._answering or not self._control.acquire(blocking=False):
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
            self._camera.leave_webcam()
            self._camera.take_control(self._settings.camera_settings)
        ready = self._ready()
        if ready and (self._fetch is None or not self._fetch.is_alive()) and not self._ending.is_set():
            self._fetch = _Fetch(self._address, ready, self._settings.reserve_bytes)
            self._fetch.start()

    def _ready(self) -> list[_Ledger]:
        """What can be fetched now; a recording in the trash waits until it is restored."""
        known = [ledger for ledger in self._ledgers if ledger.wanted is not None and not ledger.trashed]
        return [ledger for ledger in known if ledger.file.exists()]

    def _orphans(self) -> list[_Ledger]:
        return [ledger for ledger in self._ledgers if ledger.wanted is None]

    def _new_capture(self, request: StartCapture) -> _StreamCapture | _CardCapture:
        if request.mode == _StreamCapture.mode:
            return _StreamCapture(self._camera, self._model, request.folder, self._settings)
        if request.mode == _CardCapture.mode:
            return _CardCapture(self._camera, str(self._serial), request.folder, self._settings)
        raise UsageError(f"a camera knows no mode {request.mode!r}", cure="choose video or camera")

    def _stop_stream(self, capture: _StreamCapture) -> tuple[str, ...]:
        self._files = capture.halt()  # first of all: what the camera does afterwards does not matter
        if self._control.acquire(timeout=LOCK_S):  # else the watcher, which holds it, dismisses the camera
            try:
                capture.dismiss()
            finally:
                self._control.release()
        self._capture = None
        return self._files

    def _finish_orphans(self, besides: Path | None = None) -> tuple[str, ...]:
        """Stop what an earlier worker began; the files of the last one. It may lie in the trash: its files are noted,
        lest those of the next recording be taken for them when it is restored.
        """
        orphans = [ledger for ledger in self._orphans() if ledger.folder != besides]
        for ledger in orphans:
            self._files = self._finish(_CardCapture(self._camera, ledger.serial, ledger.folder, self._settings))
        return self._files if orphans else ()

    def _finish(self, capture: _CardCapture) -> tuple[str, ...]:
        """Stop a recording on the card and have it fetched; when that fails now, it is done later."""
        others = [ledger for ledger in self._ledgers if ledger.folder != capture.folder]
        try:
            ledger = capture.finish()
        except OSError as error:  # the camera's, or the disk's
            left = _Ledger.load(capture.folder)
            self._ledgers = [*others, left] if left else others
            self._problem = f"the video on {self._address} could not be stopped ({error})"
            raise DeviceError(self._problem, cure="that is done, and it is fetched, as soon as it answers") from error
        self._ledgers, self._problem = [*others, ledger], ""
        return ledger.names

    def _pause_fetch(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            self._fetch = None


# The commands


def _build_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--address", metavar="HOST[:PORT]", help="the camera, when it is not found by itself")
    common.add_argument("--serial", help="which one, when several are found")
    # Also known before the verb; there they have their defaults.
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    common.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more")
    parser = argparse.ArgumentParser(prog="gopro.py", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (_, text) in VERBS.items():
        verb = verbs.add_parser(name, parents=[common], help=text, description=text)
        if name in ("record", "stream"):
            verb.add_argument("--seconds", type=float, help="how long; until Ctrl-C when not given")
        if name in ("stream", "download"):
            verb.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to; here by default")
        if name in ("settings", "download"):
            what = "ID=OPTION" if name == "settings" else "NAME"
            verb.add_argument("items", nargs="*", metavar=what, help="all when none is given")
    return parser


def _run(options: argparse.Namespace) -> Mapping[str, Any]:
    seconds = getattr(options, "seconds", None)
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--seconds {seconds:g} is no length of time", cure="give a number above 0")
    if hasattr(options, "output"):
        _require_writable(options.output)
    return VERBS[options.verb][0](options, configs.load())


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror})"
        raise UnreadableError(why, cure="name another folder with --output") from error


Verb = Callable[[argparse.Namespace, Settings], Mapping[str, Any]]


def _on_camera(do: Callable[[GoPro, argparse.Namespace, Settings], Mapping[str, Any]]) -> Verb:
    def run(options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
        with closing(GoPro(_choose(options, settings))) as camera:
            return do(camera, options, settings)

    return run


def _choose(options: argparse.Namespace, settings: Settings) -> str:
    if options.address and not options.serial:
        return str(options.address)
    found = _find(options, settings)
    if len(found) > 1:
        names = ", ".join(f"{camera.serial} ({camera.model})" for camera in found)
        raise UsageError(f"several cameras answer: {names}", cure="choose one with --serial")
    return found[0].address


def _find(options: argparse.Namespace, settings: Settings) -> list[FoundCamera]:
    found = discover([options.address] if options.address else settings.cameras)
    found = [camera for camera in found if options.serial in (None, camera.serial)]
    if not found:
        which = f" with the serial number {options.serial}" if options.serial else ""
        where = f" at {options.address}" if options.address else ""
        raise DeviceNotFoundError(f"no GoPro{which} answers{where}", cure=NO_CAMERA_CURE)
    return found


def _list_cameras(options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    return {"cameras": [asdict(camera) for camera in _find(options, settings)]}


def _show_status(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    serial, model = camera.identify()
    state, webcam = camera.state(), camera.webcam_status()
    return {
        "serial": serial or usb_serial_at(camera.host) or camera.address,
        "model": model,
        "address": camera.address,
        "state": "recording" if state.encoding else "streaming" if webcam in (2, 3) else "idle",
        "busy": state.busy,
        "battery_percent": state.battery_percent,
        "card_seconds_left": state.card_seconds_left,
        "card_problem": state.card_problem,
        "hot": state.hot,
    }


def _set_settings(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    pairs = list(map(parse_setting, options.items))
    if pairs:
        camera.take_control(settings.camera_settings)  # most settings need Pro mode
    for setting, option in pairs:
        camera.set(setting, option)
    return {"settings": {str(key): value for key, value in sorted(camera.state().settings.items())}}


def _record(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    def film() -> None:
        camera.start_recording()
        try:
            _wait(camera, options.seconds)
        finally:
            camera.stop_recording()

    return _capture_on_card(camera, settings, film)


def _take_photo(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    return _capture_on_card(camera, settings, camera.take_photo)


def _capture_on_card(camera: GoPro, settings: Settings, capture: Callable[[], None]) -> Mapping[str, Any]:
    camera.leave_webcam()
    camera.take_control(settings.camera_settings)
    before = [media.path for media in camera.media()]
    capture()
    return {"files": [asdict(media) | {"path": media.path} for media in added(before, camera.media())]}


def _stream(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    capture = _StreamCapture(camera, camera.identify()[1], options.output, settings)
    capture.start()
    try:
        _wait(camera, options.seconds, lambda: capture.watch(None))
    finally:
        capture.halt()
        capture.dismiss()
    result = {"files": [str(options.output / name) for name in capture.files], "problems": capture.problems}
    return result | {"fps": capture.fps, "lost_datagrams": capture.lost_datagrams}


def _list_media(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    return {"files": [asdict(media) | {"path": media.path} for media in camera.media()]}


def _download(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    card = camera.media()
    chosen = [media for media in card if not options.items or {media.name, media.path} & set(options.items)]
    for name in options.items:
        if not any(name in (media.name, media.path) for media in card):
            raise UnknownError(f"{name} is not on the card of {camera.address}", cure="gopro.py media lists its files")
    return {"files": [str(camera.download(media, options.output, _Meter(media.name))) for media in chosen]}


def _set_clock(camera: GoPro, options: argparse.Namespace, settings: Settings) -> Mapping[str, Any]:
    camera.set_clock()
    return {"address": camera.address, "clock": "UTC"}


class _Meter:
    """Says on stderr how far a download is, once per percent."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._percent = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(1, total)
        if percent != self._percent and sys.stderr.isatty():
            print(f"\r{self._name} {percent:3} %", end="\n" if done >= total else "", file=sys.stderr, flush=True)
        self._percent = percent


def _wait(camera: GoPro, seconds: float | None, watch: Callable[[], None] = lambda: None) -> None:
    """Let time pass, keeping the camera awake; Ctrl-C is the way to end when no time was given."""
    began_s = kept_s = time.monotonic()
    try:
        while seconds is None or time.monotonic() - began_s < seconds:
            watch()
            if time.monotonic() - kept_s >= KEEP_ALIVE_S:
                kept_s = time.monotonic()
                with suppress(*_TROUBLE):
                    camera.keep_alive()
            time.sleep(TICK_S if seconds is None else max(0.0, min(TICK_S, began_s + seconds - time.monotonic())))
    except KeyboardInterrupt:
        if seconds is not None:
            raise


VERBS: dict[str, tuple[Verb, str]] = {
    "discover": (_list_cameras, "find the cameras that answer"),
    "status": (_on_camera(_show_status), "how one camera is"),
    "settings": (_on_camera(_set_settings), "list its settings, or set some"),
    "record": (_on_camera(_record), "record a video on its card"),
    "stream": (_on_camera(_stream), "record its webcam stream here"),
    "photo": (_on_camera(_take_photo), "take a photo on its card"),
    "media": (_on_camera(_list_media), "list the files on its card"),
    "download": (_on_camera(_download), "fetch files from its card"),
    "set-clock": (_on_camera(_set_clock), "set its clock to UTC"),
}


def _say(result: Mapping[str, Any]) -> str:
    if "cameras" in result:
        return "\n".join(f"{item['serial']}  {item['model']}  {item['address']}" for item in result["cameras"])
    lines = []
    for key, value in result.items():
        if key == "files":
            lines += [f"{item['path']}  {item['size_bytes']}" if isinstance(item, dict) else item for item in value]
        elif isinstance(value, dict):
            lines += [f"{name}={item}" for name, item in value.items()]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
