"""Which GoPros are there: by their serial numbers on USB, our own addresses or mDNS, or at addresses that are given."""

import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import ifaddr

from rig.camera.opengopro import TROUBLE, GoPro, missing, split_address

USB_DEVICES = Path("/sys/bus/usb/devices")
USB_VENDOR = "2672"
USB_NET = re.compile(r"(172\.2\d\.1\d\d)\.\d+", re.ASCII)
SERVICE = "_gopro-web._tcp.local."
MDNS_S = 1.0  # a camera answers within 0.1 s, or not at all (a HERO13 with firmware 1.10)
PROBE_S = (1.0, 2.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answers; `address` is HOST[:PORT], `host_address` this machine's own address towards it."""

    serial: str
    model: str
    address: str
    host_address: str


def discover(addresses: Sequence[str] = (), usb_devices: Path = USB_DEVICES) -> list[FoundCamera]:
    """The cameras that answer: those at `addresses` (HOST[:PORT]); when none are given those on USB, else by mDNS."""
    if addresses:
        return _probe_all({item: usb_serial_at(split_address(item)[0], usb_devices) or "" for item in addresses})
    return _probe_all(_on_usb(usb_devices)) or _probe_all(_announced())


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


def _on_usb(usb_devices: Path) -> dict[str, str]:
    """The addresses of cameras by their serial numbers, then those of nets like a camera's, with an empty one."""
    serials = [(address, serial) for serial in _usb_serials(usb_devices) if (address := camera_address(serial))]
    found = dict(reversed(serials))
    if len(found) < len(serials):
        log.warning("several cameras' serial numbers end alike (%s): only one of them can be used", serials)
    own = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    nets = {f"{match[1]}.51": "" for match in map(USB_NET.fullmatch, own) if match}
    return nets | found


def _usb_serials(usb_devices: Path) -> list[str]:
    serials = []
    for vendor in sorted(usb_devices.glob("*/idVendor")):
        with suppress(OSError):  # it has no serial, or was just pulled out
            if vendor.read_text().strip() == USB_VENDOR:
                serials.append(vendor.with_name("serial").read_text().strip())
    return serials


def _announced() -> dict[str, str]:
    """The addresses of cameras that say by mDNS that they are there, with their serial numbers."""
    from zeroconf import IPVersion, ServiceBrowser, Zeroconf  # takes 0.1 s, and most cars never need it

    names: set[str] = set()
    try:
        with Zeroconf(ip_version=IPVersion.V4Only) as network:
            ServiceBrowser(network, SERVICE, [lambda name, **_: names.add(name)])
            time.sleep(MDNS_S)
            infos = [network.get_service_info(SERVICE, name, round(MDNS_S * 1000)) for name in sorted(names)]
    except OSError as error:  # no network at all
        log.info("mDNS: %s", error)
        return {}
    found = [(address, info) for info in infos if info for address in info.parsed_addresses()[:1]]
    return {f"{address}:{info.port}": info.name.partition(".")[0] for address, info in found}


def _probe_all(serials: Mapping[str, str]) -> list[FoundCamera]:
    """The cameras that answer at these addresses; the serial numbers (empty: unknown) are for those that tell none."""
    with ThreadPoolExecutor(16) as pool:
        return [camera for camera in pool.map(_probe, serials, serials.values()) if camera is not None]


def _probe(address: str, known_serial: str) -> FoundCamera | None:
    with closing(GoPro(address, PROBE_S)) as camera:
        try:
            camera.version()
            serial, model = camera.identify()
            return FoundCamera(serial or known_serial or address, model, address, own_address(address))
        except TROUBLE as error:
            log.info("%s", error)
            return None
