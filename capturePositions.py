"""One GNSS receiver on a serial port: found, read, logged; the server's receiver worker and a command."""

import argparse
import errno
import logging
import os
import select
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs import Settings, load
from rig.chrony import ChronyFeed
from rig.cli import run
from rig.clock import NS_PER_MS, NS_PER_S, GnssClock, UtcClock
from rig.errors import (
    ConflictError,
    DeviceError,
    DeviceNotFoundError,
    EdencarError,
    NoSpaceError,
    UnreadableError,
    UsageError,
)
from rig.files import write_atomically
from rig.nmea import Epochs, Fix, Framer, Sentence, csv_line, horizontal_sigma_m, quality_of
from rig.positionlog import CSV_HEADER, CSV_NAME, INDEX_HEADER, INDEX_NAME, RAW_NAME, Arrivals, Mark, PositionLog, Stamp
from rig.workers import Link, StartCapture, StopCapture

if TYPE_CHECKING:
    from serial import Serial  # opened in the worker only: the server imports this module and needs no serial port

BAUD_RATES = (115_200, 19_200, 9_600, 38_400, 57_600, 4_800, 230_400, 460_800)  # the likely ones first
LISTEN_S = 1.2  # a receiver at 1 Hz is heard in it; a wrong rate gives no valid checksum however long
RETRY_S = 1.0
LOST_NS = 10 * NS_PER_S  # of silence: the port, or its rate, is not the receiver's any more
GATHER_S = 0.03  # bytes that trickle in are read together; their time was taken before
BURST_GAP_NS = 5 * NS_PER_MS  # a pause that makes the next byte the first of a burst
READ_BYTES = 4096
SILENCE_S = 0.25  # closes an epoch
INTERPRET_S = 0.5  # bytes are kept at once and understood together: a processor that wakes up is slow at first
BITS_A_BYTE = 10
SILENT_NS = 3 * NS_PER_S  # then the crew should know
RATE_WINDOW_NS = 5 * NS_PER_S
FIX_STALE_NS = 2 * NS_PER_S
DRAIN_S = 1.0  # how long a stop waits for the epoch that is just coming in
CHRONY_GATE_NS = 50 * NS_PER_MS  # an epoch that comes later has stalled on its way, or is damaged
STABLE_NAME = "edencar-gnss"  # of system/60-edencar.rules
NAMES = ("Eos GNSS", "Arrow", STABLE_NAME)
QUALITY_WORDS = {0: "none", 2: "DGNSS", 4: "RTK fixed", 5: "RTK float", 9: "DGNSS"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """How the receiver is now; None is what it did not say. `quality` is in words, `state` is searching, listening
    or lost, `sigma_m` is horizontal, one sigma."""

    port: str | None = None
    state: str = "searching"
    quality: str = "none"
    fix_age_s: float | None = None
    correction_age_s: float | None = None
    satellites: int | None = None
    hdop: float | None = None
    sigma_m: float | None = None
    rate_hz: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    speed_mps: float | None = None
    clock: UtcClock | None = None
    epochs_logged: int = 0
    capture: Path | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundPort:
    """A serial device and the rate at which sentences with right checksums come from it."""

    device: str
    baud: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSummary:
    """What a capture or a replay has written."""

    source: str
    baud: int | None
    folder: Path
    epochs: int
    positions: int
    sentences: int
    bad_checksums: int
    skipped_bytes: int


def find_port(wanted: str = "auto", baud: int = 0, stopping: Callable[[], bool] = lambda: False) -> FoundPort:
    """The port on which a receiver speaks: `wanted` or, for `auto`, the first of all; baud 0 tries the usual rates.

    A port and a rate that are both given are not listened to.

    Raises DeviceNotFoundError when nothing speaks NMEA, DeviceError when the wanted port cannot be used.
    """
    if wanted != "auto":
        if not Path(wanted).exists():
            raise DeviceNotFoundError(f"there is no port {wanted}", cure="plug the receiver in, or use --port auto")
        return FoundPort(wanted, baud) if baud else _listen_on(wanted, baud, stopping)
    troubles = []
    for device in _candidates():
        try:
            return _listen_on(device, baud, stopping)
        except (DeviceError, DeviceNotFoundError) as error:
            troubles.append(error.message)
    heard = "; ".join(troubles) or "no serial port is there"
    raise DeviceNotFoundError(f"no GNSS receiver found ({heard})", cure="plug it in and switch it on")


def _candidates() -> list[str]:
    """All serial ports, those that call themselves a receiver first, by names that survive a replug."""
    from serial.tools import list_ports  # not where the server imports this module

    stable = [*Path("/dev/serial/by-id").glob("*"), *Path("/dev").glob(STABLE_NAME)]
    links = {os.path.realpath(link): str(link) for link in stable}
    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    names = [links.get(port.device, port.device) for port in ports]
    said = {name: f"{port.description} {port.product} {name}" for port, name in zip(ports, names, strict=True)}
    return sorted(names, key=lambda name: not any(word in said[name] for word in NAMES))


def _listen_on(device: str, baud: int, stopping: Callable[[], bool]) -> FoundPort:
    for rate in (baud,) if baud else BAUD_RATES:
        if stopping():
            break
        with open_port(device, rate) as port:
            if _speaks_nmea(port):
                return FoundPort(device, rate)
    raise _silence(device)


def _silence(device: str) -> DeviceNotFoundError:
    return DeviceNotFoundError(f"nothing on {device} speaks NMEA", cure="is the receiver on, and its NMEA output too?")


def _speaks_nmea(port: "Serial") -> bool:
    framer = Framer()
    deadline = time.monotonic() + LISTEN_S
    while (left_s := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([port], [], [], left_s)
        if ready and framer.feed(_read(port)):
            return True
    return False


def open_port(device: str, baud: int) -> "Serial":
    """Open a port for this program alone; nothing is ever written to it.

    Raises DeviceError when another program has it (and names that one where it may look), or it cannot be opened.
    """
    import serial  # not where the server imports this module

    owner = _user_of(device)
    if owner and not os.path.realpath(device).startswith("/dev/pts/"):  # who made a pty keeps it open
        raise DeviceError(f"{device} is in use by {owner}", cure="stop that program")
    try:
        port = serial.Serial(device, baud, timeout=0, exclusive=True)
    except (OSError, termios.error) as error:
        if getattr(error, "errno", None) == errno.EACCES:
            cure = "add this user to the group dialout"
        else:
            cure = f"stop {owner}" if owner else "unplug it and plug it in again"
        raise DeviceError(f"{device} cannot be opened ({error})", cure=cure) from error
    # FTDI chips hold bytes back for 16 ms otherwise; other kinds do not know the request.
    with suppress(OSError, ValueError, termios.error):
        port.set_low_latency_mode(True)
    return port


def _user_of(device: str) -> str | None:
    """Name and number of another process that has the device open, as far as this user may see."""
    real = Path(device).resolve()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if int(process.name) != os.getpid() and any(link.readlink() == real for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})"
    return None


def _read(port: "Serial") -> bytes:
    """The bytes that are there. Raises DeviceError when the port has vanished."""
    try:
        data = os.read(port.fileno(), READ_BYTES)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise DeviceError(f"{port.port} has vanished ({error.strerror})") from error
    if not data:  # ready, yet nothing to read: its other end is gone
        raise DeviceError(f"{port.port} has vanished")
    return data


def _marks(data: bytes, stamp: Stamp, took_ns: int, byte_ns: int) -> list[Mark]:
    """When the sentences in bytes from the middle of a burst began: as long before their end as the line takes."""
    marks = []
    at = data.find(b"$")
    while at >= 0:
        later_ns = max(0, took_ns - (len(data) - at) * byte_ns)
        marks.append((at, (stamp[0] + later_ns, stamp[1] + later_ns)))
        at = data.find(b"$", at + 1)
    return marks


def _not_writable(folder: Path, error: OSError) -> EdencarError:
    kind = NoSpaceError if error.errno == errno.ENOSPC else DeviceError
    return kind(f"{folder} cannot be written ({error.strerror})", cure="look at the disk, or name another folder")


class Receiver:
    """Keeps the receiver's port open and reads it in a thread, logs between `start_log` and `stop_log`.

    The port is looked for again each second when it is not there or has vanished. `found` saves the first search.
    """

    def __init__(
        self,
        wanted: str = "auto",
        baud: int = 0,
        *,
        clock: GnssClock | None = None,
        chrony: ChronyFeed | None = None,
        sync_interval_s: float = 1.0,
        found: FoundPort | None = None,
    ) -> None:
        self.framer = Framer()
        self._wanted, self._baud, self._found = wanted, baud, found
        self._clock = GnssClock() if clock is None else clock
        self._chrony = chrony
        self._sync_interval_s = sync_interval_s
        self._stopping = threading.Event()
        self._changing = threading.Lock()  # whatever more than one thread reads or changes
        self._log: PositionLog | None = None
        self._closed = threading.Event()
        self._state, self._trouble, self._disk_trouble = "searching", "", ""
        self._epochs = Epochs()
        self._marks: deque[Mark] = deque(maxlen=512)
        self._unread: list[tuple[bytes, bool, list[Mark]]] = []
        self._interpreted_ns = 0
        self._heard_ns = self._connected_ns = 0
        self._fix: Fix | None = None
        self._placed_ns: int | None = None
        self._arrivals: deque[int] = deque()
        self._read_ns = 0
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

        Raises ConflictError while another folder is logged to, DeviceError when the files cannot be made.
        """
        with self._changing:
            if self._log is not None and self._log.folder == folder:
                return
            if self._log is not None:
                raise ConflictError(f"positions are being logged to {self._log.folder}", cure="stop that first")
            try:
                self._log = PositionLog(folder)
            except OSError as error:
                raise _not_writable(folder, error) from error
            self._disk_trouble = ""

    def stop_log(self) -> PositionLog | None:
        """End the log; all that came before is on disk when this returns."""
        with self._changing:
            self._interpret()
            if self._epochs.is_complete:
                self._keep(self._epochs.flush())
            wait = self._log is not None and self._epochs.is_open and self._state == "listening"
            self._closed.clear()
        if wait:
            self._closed.wait(DRAIN_S)  # half an epoch would lose its speed
        with self._changing:
            ended, self._log = self._log, None
            if ended is not None:
                ended.close()
            return ended

    def status(self) -> ReceiverStatus:
        """How things are now."""
        now_ns = time.monotonic_ns()
        with self._changing:
            fresh = self._placed_ns is not None and now_ns - self._placed_ns < FIX_STALE_NS
            fix = self._fix if fresh and self._fix else Fix()
            quality = quality_of(fix)
            return ReceiverStatus(
                port=self._found.device if self._found else None,
                state=self._state,
                quality=QUALITY_WORDS.get(quality, "single"),
                fix_age_s=None if self._placed_ns is None else (now_ns - self._placed_ns) / NS_PER_S,
                correction_age_s=fix.diff_age_s,
                satellites=self._fix.satellites if self._fix else None,
                hdop=fix.hdop,
                sigma_m=horizontal_sigma_m(fix),
                rate_hz=self._rate_hz(now_ns),
                latitude=fix.latitude,
                longitude=fix.longitude,
                speed_mps=fix.speed_mps,
                clock=self._clock.estimate(now_ns),
                epochs_logged=self._log.epochs if self._log else 0,
                capture=self._log.folder if self._log else None,
                problems=tuple(self._problems(now_ns)),
            )

    def _rate_hz(self, now_ns: int) -> float | None:
        arrivals = [arrival for arrival in self._arrivals if now_ns - arrival < RATE_WINDOW_NS]
        if len(arrivals) < 2:
            return None
        return round((len(arrivals) - 1) * NS_PER_S / (arrivals[-1] - arrivals[0]), 2)

    def _problems(self, now_ns: int) -> Iterator[str]:
        if self._state != "listening":
            yield self._trouble or "looking for the receiver"
        elif now_ns - self._heard_ns > SILENT_NS:
            yield f"nothing comes from the receiver on {self._found.device if self._found else 'its port'}"
        elif self._fix is not None and self._fix.utc_ns is None and self._fix.utc is not None:
            yield "the receiver sends no date: switch its RMC or ZDA sentences on"
        if self._disk_trouble:
            yield self._disk_trouble

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
            found = find_port(self._wanted, self._baud, self._stopping.is_set)
        with open_port(found.device, found.baud) as port:
            log.info("receiver on %s at %d baud", found.device, found.baud)
            with self._changing:
                self._found, self._state = found, "listening"
                self._heard_ns = self._connected_ns = time.monotonic_ns()
                self.framer.drop_half()
                self._read_ns = 0
            self._listen(port)

    def _lose(self, error: Exception) -> None:
        with self._changing:
            if self._state == "listening":
                log.warning("%s", error)
                self._interpret()
                self._keep(self._epochs.flush())
                self._epochs.mark("replug")
                self._state = "lost"
            self._trouble = str(error)

    def _listen(self, port: "Serial") -> None:
        poll = select.poll()
        poll.register(port.fileno(), select.POLLIN)
        byte_ns = BITS_A_BYTE * NS_PER_S // port.baudrate
        while not self._stopping.is_set():
            if not poll.poll(SILENCE_S * 1000):
                self._rest()
                continue
            stamp = (time.monotonic_ns(), time.time_ns())
            data = _read(port)
            if not data.endswith(b"\n"):  # more is under way
                time.sleep(GATHER_S)
                data += _read(port)
            with self._changing:
                self._take(data, stamp, byte_ns)

    def _rest(self) -> None:
        """Nothing has come for a while: what is open will not be continued."""
        with self._changing:
            self._interpret()
            self._keep(self._epochs.flush())
            self._closed.set()
        patience_ns = LOST_NS if self._heard_ns > self._connected_ns else SILENT_NS  # another device may have its name
        if self._found and not self._baud and time.monotonic_ns() - self._heard_ns > patience_ns:
            device, self._found = self._found.device, None
            raise DeviceError(f"nothing comes from {device} any more", cure="is the receiver on?")

    def _take(self, data: bytes, stamp: Stamp, byte_ns: int) -> None:
        """Keep bytes of which the first came at `stamp`; twice a second, understand what has been kept."""
        begins = stamp[0] - self._read_ns > BURST_GAP_NS
        self._read_ns = time.monotonic_ns()
        marks = [(0, stamp)] if begins else _marks(data, stamp, self._read_ns - stamp[0], byte_ns)
        self._write(lambda log: log.add_bytes(data, marks))
        self._unread.append((data, begins, marks))
        if self._read_ns - self._interpreted_ns > INTERPRET_S * NS_PER_S:
            self._interpret()

    def _interpret(self) -> None:
        self._interpreted_ns = self._read_ns
        for data, begins, marks in self._unread:
            if begins and self._epochs.is_complete:
                self._keep(self._epochs.flush())  # what comes now is not of that epoch, whether it says a time or not
            self._marks += [(self.framer.received_bytes + offset, stamp) for offset, stamp in marks]
            for sentence in self.framer.feed(data):
                arrival = self._arrival(sentence)
                self._heard_ns = arrival[0]
                self._keep(self._epochs.feed(sentence, *arrival))
        self._unread.clear()

    def _arrival(self, sentence: Sentence) -> Stamp:
        """When a sentence's beginning came."""
        return next((stamp for offset, stamp in reversed(self._marks) if offset <= sentence.offset), self._marks[0][1])

    def _keep(self, fixes: Sequence[Fix]) -> None:
        for fix in fixes:
            self._learn(fix)
            self._write(lambda log, fix=fix: log.add_fix(fix))  # type: ignore[misc]
            self._closed.set()

    def _learn(self, fix: Fix) -> None:
        self._fix = fix
        arrival_ns = fix.arrival_monotonic_ns or 0
        self._arrivals.append(arrival_ns)
        while arrival_ns - self._arrivals[0] > RATE_WINDOW_NS:
            self._arrivals.popleft()
        if fix.latitude is not None:
            self._placed_ns = arrival_ns
            if fix.utc_ns is not None and "leap" not in fix.flags:
                self._clock.observe(arrival_ns, fix.utc_ns)
                self._tell_chrony(fix.utc_ns, fix.arrival_utc_ns or 0, arrival_ns)

    def _tell_chrony(self, utc_ns: int, realtime_ns: int, arrival_ns: int) -> None:
        clock = self._clock.estimate(arrival_ns) if self._chrony else None
        if self._chrony and clock and abs(clock.utc_ns(arrival_ns) - utc_ns) < CHRONY_GATE_NS:
            self._chrony.send(realtime_ns, utc_ns + self._clock.latency_ns)

    def _write(self, action: Callable[[PositionLog], None]) -> None:
        if self._log is None:
            return
        try:
            action(self._log)
        except OSError as error:  # reading goes on: the disk may have room again
            self._disk_trouble = f"positions cannot be written ({error.strerror})"

    def _sync_often(self) -> None:
        while not self._stopping.wait(self._sync_interval_s):
            with self._changing:
                self._interpret()
                log_now = self._log
            try:
                if log_now is not None:
                    log_now.sync()
            except OSError as error:
                self._disk_trouble = f"positions cannot be brought to the disk ({error.strerror})"


def receiver_worker(link: Link, settings: Settings) -> None:
    """The receiver's process: always reads, logs between StartCapture and StopCapture, reports ReceiverStatus."""
    clock = GnssClock(
        round(settings.receiver_latency_ms * NS_PER_MS), round(settings.receiver_latency_error_ms * NS_PER_MS)
    )
    receiver = Receiver(
        settings.receiver_port,
        settings.receiver_baud,
        clock=clock,
        chrony=ChronyFeed(settings.chrony_socket) if settings.chrony_socket else None,
        sync_interval_s=settings.sync_interval_s,
    )

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


def capture_positions(
    port: str, folder: Path, duration_s: float | None = None, baud: int = 0, sync_interval_s: float = 1.0
) -> CaptureSummary:
    """Log a receiver into `folder` for so many seconds, or until Ctrl-C.

    Raises DeviceNotFoundError, DeviceError (also when the receiver is away at the end), NoSpaceError.
    """
    found = find_port(port, baud)
    receiver = Receiver(port, baud, found=found, sync_interval_s=sync_interval_s)
    receiver.start_log(folder)
    receiver.start()
    try:
        threading.Event().wait(duration_s)
    finally:  # Ctrl-C comes out here too
        status = receiver.status()
        ended = receiver.stop_log()
        receiver.stop()
    if ended is None or status.state == "lost":
        raise DeviceError(f"the receiver on {found.device} has vanished", cure=f"what it said is in {folder}")
    if not receiver.framer.good:
        raise _silence(found.device)
    return _summary(found.device, found.baud, folder, (ended.epochs, ended.positions), receiver.framer)


def replay(source: Path, folder: Path) -> CaptureSummary:
    """Make the three files from an NMEA log, with the arrival times of its index when one lies beside it.

    A second run replaces them. Raises UnreadableError when no sentence in it has a right checksum.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{source} cannot be read ({error.strerror})") from error
    framer, epochs = Framer(), Epochs()
    index = source.with_suffix(".idx")
    arrivals = Arrivals(index)
    fixes = [fix for sentence in framer.feed(data) for fix in epochs.feed(sentence, *arrivals.at(sentence.offset))]
    fixes += epochs.flush()
    if not framer.good:
        raise UnreadableError(f"{source} holds no NMEA sentence with a right checksum", cure="is it an NMEA log?")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    write_atomically(folder / CSV_NAME, (CSV_HEADER + "".join(map(csv_line, fixes))).encode())
    if source.resolve() != (folder / RAW_NAME).resolve():
        write_atomically(folder / INDEX_NAME, index.read_bytes() if index.exists() else INDEX_HEADER.encode())
        write_atomically(folder / RAW_NAME, data)
    counts = (len(fixes), sum(fix.latitude is not None for fix in fixes))
    return _summary(str(source), None, folder, counts, framer)


def _summary(source: str, baud: int | None, folder: Path, counts: tuple[int, int], framer: Framer) -> CaptureSummary:
    return CaptureSummary(
        source=source,
        baud=baud,
        folder=folder,
        epochs=counts[0],
        positions=counts[1],
        sentences=framer.good,
        bad_checksums=framer.bad,
        skipped_bytes=framer.skipped_bytes,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `--help` and docs/receiver.md."""
    parser = argparse.ArgumentParser(
        prog="capturePositions.py", description="Log a GNSS receiver's positions, or turn an NMEA log into a table."
    )
    parser.add_argument("--port", metavar="auto|DEVICE|FILE", help="auto: by name, then by listening; FILE: NMEA log")
    parser.add_argument("--baud", metavar="auto|N", help="rate of the line; auto: the usual ones are tried")
    parser.add_argument("--output", type=Path, default=Path("positions"), metavar="DIR", help="folder (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="default: until Ctrl-C")
    return run(parser, _capture_or_replay, _say, argv)


def _capture_or_replay(options: argparse.Namespace) -> CaptureSummary:
    settings = load()
    port = options.port or settings.receiver_port
    if options.duration is not None and not 0 < options.duration < threading.TIMEOUT_MAX:
        raise UsageError(f"--duration {options.duration:g} is not a number of seconds above 0")
    if port != "auto" and Path(port).exists() and not Path(port).is_char_device():
        return replay(Path(port), options.output)
    baud = settings.receiver_baud if options.baud is None else _baud(options.baud)
    return capture_positions(port, options.output, options.duration, baud, settings.sync_interval_s)


def _baud(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--baud {text!r} is neither auto nor a rate such as 115200")
    return int(text)


def _say(summary: CaptureSummary) -> str:
    return (
        f"{summary.epochs} epochs, {summary.positions} with a position, from {summary.source} in {summary.folder}; "
        f"{summary.sentences} sentences, {summary.bad_checksums} with a wrong checksum"
    )


if __name__ == "__main__":
    raise SystemExit(main())
