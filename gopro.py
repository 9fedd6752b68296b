"""One GoPro: find it, control it, record its stream or its card, fetch its files; the camera worker and its commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import Settings
from rig.workers import Link

USB_DEVICES = Path("/sys/bus/usb/devices")


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
    raise NotImplementedError


def camera_worker(link: Link, address: str, settings: Settings) -> None:
    """Watch and drive one camera until the server says stop; answers StartCapture and StopCapture."""
    raise NotImplementedError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on one camera and return its exit code."""
    raise NotImplementedError


if __name__ == "__main__":
    raise SystemExit(main())
