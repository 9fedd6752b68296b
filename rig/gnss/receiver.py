"""One GNSS receiver: its port kept open, its bytes kept and understood, how it is; the server's worker of it."""

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, GnssClock, UtcClock, rate_hz
from rig.errors import ConflictError, DeviceError, EdencarError, NoSpaceError
from rig.files import is_full
from rig.gnss.chrony import tell_chrony
from rig.gnss.fix import Fix, horizontal_sigma_m, quality_of
from rig.gnss.framing import Framer, Sentence
from rig.gnss.nmea import Epochs, Stamp
from rig.gnss.port import FoundPort, find_port, open_port, read_port
from rig.gnss.positionlog import Mark, PositionLog
from rig.gnss.sentences import Sky, heading_of
from rig.status import FEW_POSITIONS, NO_DATE, NO_LOG, OLD_DATE, SILENT_RECEIVER, ReceiverNow
from rig.workers import Link, StartCapture, StopCapture

if TYPE_CHECKING:
    from serial import Serial

RETRY_S = 1.0
LOST_NS = 10 * NS_PER_S  # of silence: the port, or its rate, is not the receiver's any more
GATHER_S = 0.03  # bytes that trickle in are read together; their time was taken before
LONG_READ_NS = 40 * NS_PER_MS
BURST_GAP_NS = 5 * NS_PER_MS  # a pause that makes the next byte the first of a burst
SILENCE_S = 0.25  # closes an epoch
INTERPRET_NS = NS_PER_S // 2  # bytes that come without a pause are understood together: cold caches cost most of it
PAUSE_S = 0.06  # after which they are understood at once; the bursts of 10 Hz leave about 80 ms
BITS_A_BYTE = 10
SILENT_NS = 3 * NS_PER_S  # then the crew should know
RATE_WINDOW_NS = 5 * NS_PER_S
RATE_KNOWN_NS = 3 * NS_PER_S  # of epochs tell a slow receiver from one that has just begun
SLOW_SHARE = 0.9  # of the rate that was asked for
FIX_STALE_NS = 2 * NS_PER_S
DRAIN_S = 1.0  # how long a stop waits for the epoch that is just coming in
CHRONY_GATE_NS = 50 * NS_PER_MS  # an epoch that comes later has stalled on its way, or is damaged
QUALITY_WORDS = {0: "none", 2: "DGNSS", 4: "RTK fixed", 5: "RTK float", 9: "DGNSS"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus(ReceiverNow):
    """What the worker reports: how the receiver is, the clock that it gives, and what has been logged, and where."""

    clock: UtcClock | None = None
    epochs_logged: int = 0
    capture: Path | None = None


class Receiver:
    """Keeps the receiver's port open and reads it in a thread, logs between `start_log` and `stop_log`.

    The port is looked for again each second when it is not there or has vanished. `found` saves the first search.
    """

    def __init__(self, settings: Settings, found: FoundPort | None = None) -> None:
        self.framer = Framer()
        self.disk_failed = threading.Event()
        self.disk_error: OSError | None = None
        self._settings, self._found = settings, found
        latency_ms = (settings.receiver_latency_ms, settings.receiver_latency_error_ms)
        self._clock = GnssClock(*(round(milliseconds * NS_PER_MS) for milliseconds in latency_ms))
        self._stopping = threading.Event()
        self._changing = threading.Lock()  # whatever more than one thread reads or changes
        self._log: PositionLog | None = None
        self._closed = threading.Event()
        self._state, self._trouble = "searching", ""
        self._epochs = Epochs()
        self._marks: deque[Mark] = deque(maxlen=512)
        self._unread: list[tuple[bytes, bool, list[Mark]]] = []
        self._half = False  # whether what came last ended within a line
        self._read_ns = self._interpreted_ns = self._heard_ns = self._connected_ns = 0
        self._fix = Fix()
        self._placed_ns: int | None = None
        self._arrivals: deque[int] = deque(maxlen=512)  # more than any receiver sends in RATE_WINDOW_NS
        self._sky = Sky()
        self._heading: tuple[int, float | None] = (0, None)
        self._threads = [
            threading.Thread(target=target, name=f"receiver {name}", daemon=True)
            for name, target in (("reader", self._run), ("sync", self._sync_often))
        ]

    def start(self) -> None:
        """Begin to look for the port and to read it."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; `stop_log` comes before it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def start_log(self, folder: Path) -> None:
        """Log into `folder` from now on; nothing changes when that is so already.

        Raises ConflictError while another folder is logged to, DeviceError or NoSpaceError when the files cannot be
        made.
        """
        with self._changing:
            if self._log is not None and self._log.folder == folder:
                return
            if self._log is not None:
                raise ConflictError(f"positions are being logged to {self._log.folder}", cure="stop that first")
            try:
                self._log = PositionLog(folder)
            except OSError as error:
                raise not_writable(folder, error) from error
            self.disk_error = None
            self.disk_failed.clear()

    def stop_log(self) -> PositionLog | None:
        """End the log; all that came before is on disk when this returns."""
        with self._changing:
            self._close_epoch(half_too=False)
            wait = self._log is not None and self._epochs.is_open and self._state == "listening"
            self._closed.clear()
        if wait:
            self._closed.wait(DRAIN_S)  # half an epoch would lose its speed
        with self._changing:
            self._close_epoch(half_too=self._log is not None)  # the table ends where raw.nmea ends
            ended, self._log = self._log, None
            if ended is not None:
                ended.close()
            return ended

    def status(self) -> ReceiverStatus:
        """How things are now."""
        now_ns = time.monotonic_ns()
        with self._changing:
            age_ns = None if self._placed_ns is None else now_ns - self._placed_ns
            fix = self._fix if age_ns is not None and age_ns < FIX_STALE_NS else Fix()
            in_view, cn0_dbhz = self._sky.view(now_ns)
            heading_ns, heading_deg = self._heading
            return ReceiverStatus(
                port=self._found.device if self._found else None,
                state=self._state,
                quality=QUALITY_WORDS.get(quality_of(fix), "single"),
                fix_age_s=None if age_ns is None else age_ns / NS_PER_S,
                correction_age_s=fix.diff_age_s,
                satellites=self._fix.satellites,
                satellites_in_view=in_view,
                cn0_dbhz=cn0_dbhz,
                hdop=fix.hdop,
                sigma_m=horizontal_sigma_m(fix),
                rate_hz=rate_hz(self._arrivals, now_ns - RATE_WINDOW_NS),
                rate_asked_hz=self._settings.receiver_rate_hz,
                latitude=fix.latitude,
                longitude=fix.longitude,
                speed_mps=fix.speed_mps,
                heading_deg=heading_deg if now_ns - heading_ns < FIX_STALE_NS else None,
                clock=self._clock.estimate(now_ns),
                epochs_logged=self._log.epochs if self._log else 0,
                capture=self._log.folder if self._log else None,
                problems=tuple(self._problems(now_ns)),
            )

    def _problems(self, now_ns: int) -> Iterator[str]:
        asked_hz = self._settings.receiver_rate_hz
        comes_hz = rate_hz(self._arrivals, now_ns - RATE_WINDOW_NS, RATE_KNOWN_NS)
        if self._state != "listening":
            yield from filter(None, [self._trouble])
        elif now_ns - self._heard_ns > SILENT_NS:
            where = self._found.device if self._found else "its port"
            yield f"{SILENT_RECEIVER} on {where}: look at its cable, switch it off and on"
        elif self._fix.utc_ns is None and self._fix.utc is not None:
            yield f"{NO_DATE}: switch its RMC or ZDA sentences on"
        elif "old-date" in self._fix.flags and self._fix.utc is not None:
            yield f"{OLD_DATE} ({self._fix.utc[:10]}): its clock is not set, or its firmware is too old"
        if self._state == "listening" and comes_hz is not None and comes_hz < SLOW_SHARE * asked_hz:
            yield f"{FEW_POSITIONS}, {comes_hz:g} a second, not {asked_hz:g}: set its rate in Eos Utility"
        if self.disk_error is not None:
            yield f"{NO_LOG} ({self.disk_error.strerror}): look at the disk and its cable"

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._connect()
            except Exception as error:  # even a defect must not end the reading for good
                if not isinstance(error, EdencarError | OSError):
                    log.exception("reading the receiver failed")
                self._lose(error)
                self._stopping.wait(RETRY_S)

    def _connect(self) -> None:
        """Find the port, where it was if possible, and read it until it vanishes."""
        found = self._found
        if found is None or not Path(found.device).exists():
            found = find_port(self._settings.receiver_port, self._settings.receiver_baud, self._stopping.is_set)
        with open_port(found) as port:
            log.info("receiver on %s at %d baud", found.device, found.baud)
            with self._changing:
                self._found, self._state = found, "listening"
                self._heard_ns = self._connected_ns = time.monotonic_ns()
                self.framer.drop_half()
                self._read_ns, self._half = 0, False
            self._listen(port)

    def _lose(self, error: Exception) -> None:
        with self._changing:
            if self._state == "listening":
                log.warning("%s", error)
                self._close_epoch()
                self._epochs.mark("replug")
                self._arrivals.clear()
                self._state = "lost"
            self._trouble = str(error)

    def _listen(self, port: "Serial") -> None:
        poll = select.poll()
        poll.register(port.fileno(), select.POLLIN)
        byte_ns = BITS_A_BYTE * NS_PER_S // port.baudrate
        while not self._stopping.is_set():
            if not poll.poll((PAUSE_S if self._unread else SILENCE_S) * 1000):
                self._pause() if self._unread else self._rest()
                continue
            stamp = (time.monotonic_ns(), time.time_ns())
            data = read_port(port, ready=True)
            if not data.endswith(b"\n"):  # more is under way
                time.sleep(GATHER_S)
                data += read_port(port, ready=False)
            with self._changing:
                self._take(data, stamp, byte_ns)

    def _pause(self) -> None:
        """A burst is over: its row belongs into the table before anything can happen to this process."""
        with self._changing:
            self._close_epoch(half_too=False)

    def _rest(self) -> None:
        """Nothing has come for a while: what is open will not be continued."""
        with self._changing:
            self._close_epoch()
            self._closed.set()
        patience_ns = LOST_NS if self._heard_ns > self._connected_ns else SILENT_NS  # another device may have its name
        searches = not self._settings.receiver_baud
        if self._found and searches and time.monotonic_ns() - self._heard_ns > patience_ns:
            device, self._found = self._found.device, None
            raise DeviceError(f"nothing comes from {device} any more", cure="is the receiver on?")

    def _take(self, data: bytes, stamp: Stamp, byte_ns: int) -> None:
        """Keep bytes of which the first came at `stamp`; where no pause comes, understand them twice a second."""
        begins = stamp[0] - self._read_ns > BURST_GAP_NS and (data.startswith(b"$") or not self._half)
        self._read_ns, self._half = time.monotonic_ns(), not data.endswith(b"\n")
        marks = _marks(data, stamp, self._read_ns - stamp[0], byte_ns, begins)
        with self._bearing_the_disk():
            if self._log is not None:
                self._log.add_bytes(data, marks)
        self._unread.append((data, begins, marks))
        if self._read_ns - self._interpreted_ns > INTERPRET_NS:
            self._interpret()

    def _close_epoch(self, *, half_too: bool = True) -> None:
        """Understand what has come, and make a row of the open epoch, of half a one only if `half_too`."""
        self._interpret()
        if half_too or self._epochs.is_complete:
            self._keep(self._epochs.flush())

    def _interpret(self) -> None:
        self._interpreted_ns = self._read_ns
        for data, begins, marks in self._unread:
            if begins and self._epochs.is_complete:
                self._keep(self._epochs.flush())  # what comes now is not of that epoch, whether it says a time or not
            self._marks += [(self.framer.received_bytes + offset, stamp) for offset, stamp in marks]
            for sentence in self.framer.feed(data):
                self._hear(sentence)
        self._unread.clear()

    def _hear(self, sentence: Sentence) -> None:
        stamps = (stamp for offset, stamp in reversed(self._marks) if offset <= sentence.offset)
        arrival_ns, arrival_utc_ns = next(stamps, self._marks[0][1])  # when its beginning came
        self._heard_ns = arrival_ns
        if sentence.kind == "GSV":
            self._sky.feed(sentence, arrival_ns)
        elif sentence.kind in ("HDT", "THS"):
            self._heading = (arrival_ns, heading_of(sentence))
        else:
            self._keep(self._epochs.feed(sentence, arrival_ns, arrival_utc_ns))

    def _keep(self, fixes: Sequence[Fix]) -> None:
        for fix in fixes:
            self._learn(fix)
            with self._bearing_the_disk():
                if self._log is not None:
                    self._log.add_fix(fix)
            self._closed.set()

    def _learn(self, fix: Fix) -> None:
        self._fix = fix
        arrival_ns = fix.arrival_monotonic_ns or 0
        self._arrivals.append(arrival_ns)
        if fix.latitude is not None:
            self._placed_ns = arrival_ns
            if fix.utc_ns is not None and "leap" not in fix.flags:
                self._clock.observe(arrival_ns, fix.utc_ns)
                self._tell_chrony(fix.utc_ns, fix.arrival_utc_ns or 0, arrival_ns)

    def _tell_chrony(self, utc_ns: int, realtime_ns: int, arrival_ns: int) -> None:
        path = self._settings.chrony_socket
        clock = self._clock.estimate(arrival_ns) if path else None
        if clock and abs(clock.utc_ns(arrival_ns) - utc_ns) < CHRONY_GATE_NS:
            tell_chrony(path, realtime_ns, utc_ns + self._clock.latency_ns)

    @contextmanager
    def _bearing_the_disk(self) -> Iterator[None]:
        """Note when the disk refuses; reading goes on: it may have room again."""
        try:
            yield
        except OSError as error:
            self.disk_error = error
            self.disk_failed.set()

    def _sync_often(self) -> None:
        while not self._stopping.wait(self._settings.sync_interval_s):
            with self._changing:
                self._interpret()
                log_now = self._log
            with self._bearing_the_disk():
                if log_now is not None:
                    log_now.sync()


def receiver_worker(link: Link, settings: Settings) -> None:
    """The receiver's process: always reads, logs between StartCapture and StopCapture, reports ReceiverStatus."""
    receiver = Receiver(settings)

    def start(request: StartCapture) -> ReceiverStatus:
        receiver.start_log(request.folder)
        return receiver.status()

    def stop(request: StopCapture) -> ReceiverStatus:
        status = receiver.status()
        ended = receiver.stop_log()
        return replace(status, epochs_logged=ended.epochs if ended else 0)

    receiver.start()
    try:
        link.serve({StartCapture: start, StopCapture: stop}, receiver.status)
    finally:
        receiver.stop_log()
        receiver.stop()


def not_writable(folder: Path, error: OSError) -> EdencarError:
    """The error of a folder whose disk is full, or fails."""
    kind = NoSpaceError if is_full(error) else DeviceError
    return kind(f"{folder} cannot be written ({error.strerror})", cure="look at the disk, or name another folder")


def _marks(data: bytes, stamp: Stamp, took_ns: int, byte_ns: int, begins: bool) -> list[Mark]:
    """When the sentences in bytes began: those of a burst when its first byte came, others as long before the end as
    the line takes. More bytes, or more time, than one burst has: the machine was busy, and the next one began too."""
    marks = [(0, stamp)] if begins else []
    one = begins and len(data) * byte_ns < took_ns < LONG_READ_NS
    at = -1 if one else data.find(b"$", len(marks))
    while at >= 0:
        later_ns = max(0, took_ns - (len(data) - at) * byte_ns)
        if later_ns or not begins:
            marks.append((at, (stamp[0] + later_ns, stamp[1] + later_ns)))
        at = data.find(b"$", at + 1)
    return marks
