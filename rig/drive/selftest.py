"""What is missing on the way from each device to a recording, step by step, and how to cure it."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ifaddr

from rig.camera.finding import USB_DEVICES, USB_VENDOR
from rig.camera.streamcapture import WEBCAM_PORT
from rig.status import LITTLE_ROOM_S, OLD_CORRECTIONS_S, CameraNow, CarStatus, ReceiverNow, complaint

DEVICES = Path("/dev")
SERIAL_PORTS = ("serial/by-id/*", "ttyACM*", "ttyUSB*", "ttyAMA*")
LOW_BATTERY, SHORT_CARD_S = 20, 1800
OLD_FIX_S = 3.0

CURES = {
    "cable": "Plug the cable in at both ends; take one that carries data, not only current",
    "connect": "On the camera: Preferences, Connections, USB Connection: GoPro Connect",
    "address": "The camera's network has no address: unplug and replug it; DHCP must be on for USB networks",
    "answers": "Switch the camera off and on; if that does not help take its battery out for a moment",
    "battery": "Charge it, or power it by USB",
    "card": "Put an empty card in, formatted in the camera",
    "stream_port": "Another program holds UDP port 8554: stop it",
    "complaint": "See what it says",
    "port": "Plug the receiver in by USB and switch it on",
    "right": "This user may not read the port: sudo ./edencar install, or add the user to the group dialout",
    "speaks": "Nothing understandable comes: switch NMEA output on and set the port to a usual baud rate",
    "fix": "Wait under open sky; look at the antenna and its cable",
    "corrections": "Look where the corrections come from: base, NTRIP or SBAS",
    "time": "Wait until the receiver has had a position for a few seconds",
    "room": "Delete recordings or change the disk",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One step; `ok` None is: not to be known, because an earlier step fails. `cure` is empty where all is well."""

    code: str
    ok: bool | None
    value: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A device with its steps, in the order in which they depend on each other."""

    kind: str  # camera, receiver, pi
    name: str
    ok: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What this machine sees of the devices: USB cameras by serial with their networks' addresses, serial ports."""

    cameras: Mapping[str, tuple[bool, bool]]  # serial -> it offers a network, that has an address
    ports: Mapping[str, bool]  # name -> may be read
    stream_port_free: bool


def look_around(usb_devices: Path = USB_DEVICES, devices: Path = DEVICES) -> Surroundings:
    """What this machine sees now."""
    addresses = {adapter.name: adapter.ips for adapter in ifaddr.get_adapters()}
    cameras = {}
    for vendor in usb_devices.glob("*/idVendor"):
        if _read(vendor) == USB_VENDOR:
            nets = [net.name for net in vendor.parent.glob("*/net/*")]
            has_address = any(ip.is_IPv4 for net in nets for ip in addresses.get(net, ()))
            cameras[_read(vendor.with_name("serial"))] = (bool(nets), has_address)
    ports = {
        path.name: os.access(path, os.R_OK | os.W_OK) for pattern in SERIAL_PORTS for path in devices.glob(pattern)
    }
    return Surroundings(cameras, ports, _is_free(WEBCAM_PORT))


def examine(status: CarStatus, around: Surroundings) -> list[Device]:
    """All devices: cameras that answer or hang on USB, the receiver, the Pi itself."""
    known = {camera.serial: camera for camera in status.cameras}
    unknown = [serial for serial in around.cameras if serial not in known]
    cameras = [_device("camera", camera.label or camera.serial, _known_camera(camera)) for camera in known.values()]
    cameras += [_device("camera", serial or "GoPro", _mute_camera(*around.cameras[serial])) for serial in unknown]
    if not cameras:
        cameras = [_device("camera", "GoPro", _broken("cable", "connect", "address", "answers"))]
    receiver = _device("receiver", Path(status.receiver.port or "GNSS").name, _receiver(status.receiver, around))
    return [*cameras, receiver, _device("pi", "edenCar", _pi(status, around))]


def _known_camera(camera: CameraNow) -> Iterator[Check]:
    if camera.state == "lost":
        yield _check("answers", False, camera.trouble)
        return
    yield _check("answers", True, camera.model)
    if camera.battery_percent is not None:
        yield _check("battery", camera.battery_percent >= LOW_BATTERY, f"{camera.battery_percent} %")
    if camera.card_problem:
        yield _check("card", False, camera.card_problem)
    elif camera.card_seconds_left is not None:
        yield _check("card", camera.card_seconds_left >= SHORT_CARD_S, _hours(camera.card_seconds_left))
    yield from _complaints(camera.problems)


def _mute_camera(offers_network: bool, has_address: bool) -> Iterator[Check]:
    yield _check("cable", True)
    if not offers_network:
        yield from _broken("connect", "address", "answers")
    elif not has_address:
        yield from (_check("connect", True), *_broken("address", "answers"))
    else:
        yield from (_check("connect", True), _check("address", True), _check("answers", False))


def _receiver(receiver: ReceiverNow, around: Surroundings) -> Iterator[Check]:
    if receiver.state != "listening":
        usable = [name for name, readable in around.ports.items() if readable]
        names = ", ".join(usable or around.ports)
        if not around.ports:
            yield from _broken("port", "speaks", "fix")
        elif not usable:
            yield from (_check("port", True, names), *_broken("right", "speaks", "fix"))
        else:
            yield from (_check("port", True, names), *_broken("speaks", "fix"))
    else:
        fresh = receiver.latitude is not None and (receiver.fix_age_s or 0.0) < OLD_FIX_S
        yield from (_check("speaks", True, f"{receiver.rate_hz or 0:g} Hz"), _check("fix", fresh, receiver.quality))
        if receiver.quality.startswith("RTK") or receiver.quality == "DGNSS":
            age_s = receiver.correction_age_s
            age = "" if age_s is None else f"{age_s:.0f} s"
            yield _check("corrections", age_s is None or age_s <= OLD_CORRECTIONS_S, age)
    yield from _complaints(receiver.problems)


def _pi(status: CarStatus, around: Surroundings) -> Iterator[Check]:
    yield _check("time", status.time.source == "gnss", f"±{status.time.sigma_ms:.0f} ms")
    yield _check("room", status.storage.seconds_left >= LITTLE_ROOM_S, _hours(status.storage.seconds_left))
    if status.recording is None and not status.calibrating:
        yield _check("stream_port", around.stream_port_free)


def _complaints(sentences: Sequence[str]) -> Iterator[Check]:
    """What a device says of itself, under the code of a problem where it is one with a name."""
    for sentence in sentences:
        said = complaint("complaint", sentence, CURES["complaint"])
        yield Check(said.code, False, said.text, said.cure)


def _broken(code: str, *after: str) -> tuple[Check, ...]:
    """A step that fails, and those after it that cannot be known."""
    return (_check(code, False), *(Check(later, None) for later in after))


def _check(code: str, ok: bool, value: str = "") -> Check:
    return Check(code, ok, value, "" if ok else CURES[code])


def _device(kind: str, name: str, checks: Iterator[Check] | Sequence[Check]) -> Device:
    steps = tuple(checks)
    return Device(kind, name, all(step.ok for step in steps), steps)


def _hours(seconds: int) -> str:
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d}"


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
