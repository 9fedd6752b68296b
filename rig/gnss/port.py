"""The receiver's serial port: found by its name or by listening, opened for this program alone, only ever read."""

import errno
import os
import select
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import DeviceError, DeviceNotFoundError, EdencarError
from rig.gnss.framing import Framer

if TYPE_CHECKING:
    from serial import Serial  # opened in the worker only: the server imports this module and needs no serial port

BAUD_RATES = (115_200, 19_200, 9_600, 38_400, 57_600, 4_800, 230_400, 460_800)  # the likely ones first
LISTEN_S = 1.2  # a receiver at 1 Hz is heard in it; a wrong rate gives no valid checksum however long
READ_BYTES = 4096
TAKEN = (errno.EAGAIN, errno.EBUSY)  # locked, or opened for one program alone, by another user's, whom we cannot see
BY_ID = Path("/dev/serial/by-id")
STABLE_NAME = Path("/dev/edencar-gnss")  # of system/udev.rules
NAMES = ("Eos GNSS", "Arrow", STABLE_NAME.name)


@dataclass(frozen=True, slots=True)
class FoundPort:
    """A serial device and the rate at which sentences with right checksums come from it."""

    device: str
    baud: int


def find_port(wanted: str = "auto", baud: int = 0, stopping: Callable[[], bool] = lambda: False) -> FoundPort:
    """The port on which a receiver speaks: `wanted` or, for `auto`, the first of all; baud 0 tries the usual rates.

    A port and a rate that are both given are not listened to.

    Raises DeviceNotFoundError when nothing speaks NMEA, DeviceError when the wanted port cannot be used.
    """
    if wanted != "auto":
        if not Path(wanted).exists():
            raise DeviceNotFoundError(f"there is no port {wanted}", cure="plug the receiver in, or use --port auto")
        return FoundPort(wanted, baud) if baud else _listen_on(wanted, baud, stopping)
    troubles: list[EdencarError] = []
    for device in _candidates():
        try:
            return _listen_on(device, baud, stopping)
        except (DeviceError, DeviceNotFoundError) as error:
            troubles.append(error)
    heard = "; ".join(error.message for error in troubles) or "no serial port is there"
    # Where a port could not be listened to, the receiver may well be on it.
    others = dict.fromkeys(error.cure for error in troubles if isinstance(error, DeviceError))
    raise DeviceNotFoundError(
        f"no GNSS receiver found ({heard})", cure=", or ".join(["plug it in and switch it on", *others])
    )


def open_port(found: FoundPort) -> "Serial":
    """Open a port for this program alone; nothing is ever written to it.

    Raises DeviceError when another program has it (and names that one where it may look), or it cannot be opened.
    """
    import serial  # not where the server imports this module

    device = found.device
    owner = _user_of(device)
    if owner and not os.path.realpath(device).startswith("/dev/pts/"):  # who made a pty keeps it open
        raise DeviceError(f"{device} is in use by {owner}", cure=f"stop {owner}")
    try:
        port = serial.Serial(device, found.baud, timeout=0, exclusive=True)
    except (OSError, termios.error, ValueError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EACCES:
            cure = "add this user to the group dialout"
        elif number in TAKEN:
            cure = f"stop {owner or 'the program that has it: the service is stopped by sudo systemctl stop edencar'}"
        else:
            cure = "unplug it and plug it in again"
        raise DeviceError(f"{device} cannot be opened ({error})", cure=cure) from error
    # FTDI chips hold bytes back for 16 ms otherwise; other kinds do not know the request.
    with suppress(OSError, ValueError, termios.error):
        port.set_low_latency_mode(True)
    return port


def read_port(port: "Serial", *, ready: bool) -> bytes:
    """The bytes that are there. Raises DeviceError when the port has vanished: an error, or `ready` without any."""
    try:
        data = os.read(port.fileno(), READ_BYTES)
    except BlockingIOError:
        return b""
    except OSError as error:
        raise DeviceError(f"{port.port} has vanished ({error.strerror})") from error
    if ready and not data:
        raise DeviceError(f"{port.port} has vanished")
    return data


def silence(device: str, baud: int = 0) -> DeviceNotFoundError:
    """The error of a port on which no receiver speaks, or only rubbish comes at a `baud` that was given."""
    if baud:
        return DeviceNotFoundError(f"nothing on {device} speaks NMEA at {baud} baud", cure="try --baud auto")
    return DeviceNotFoundError(f"nothing on {device} speaks NMEA", cure="is the receiver on, and its NMEA output too?")


def _candidates() -> list[str]:
    """All serial ports, those that call themselves a receiver first, by names that survive a replug."""
    from serial.tools import list_ports  # not where the server imports this module

    links = {
        os.path.realpath(link): str(link) for link in (*BY_ID.glob("*"), *STABLE_NAME.parent.glob(STABLE_NAME.name))
    }
    said = {port.device: f"{port.description} {port.product}" for port in list_ports.comports()}
    names = {links.get(device, device): said.get(device, "") for device in sorted(said.keys() | links.keys())}
    return sorted(names, key=lambda name: not any(word in f"{names[name]} {name}".replace("_", " ") for word in NAMES))


def _listen_on(device: str, baud: int, stopping: Callable[[], bool]) -> FoundPort:
    for found in (FoundPort(device, rate) for rate in ((baud,) if baud else BAUD_RATES)):
        if stopping():
            break
        with open_port(found) as port:
            if _speaks_nmea(port):
                return found
    raise silence(device)


def _speaks_nmea(port: "Serial") -> bool:
    framer = Framer()
    deadline = time.monotonic() + LISTEN_S
    while (left_s := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([port], [], [], left_s)
        if ready and framer.feed(read_port(port, ready=True)):
            return True
    return False


def _user_of(device: str) -> str | None:
    """Name and number of another process that has the device open, as far as this user may see."""
    real = Path(device).resolve()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another user's
            if int(process.name) != os.getpid() and any(link.readlink() == real for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})"
    return None
