"""What can go wrong with a camera, switched on and off while it runs; each fault was seen by users."""

import math
import threading
from collections import UserDict
from collections.abc import Mapping
from types import MappingProxyType

# Name: the value it has when none is given, and what it does.
FAULTS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "log_line_before_status": (1, "so many HTTP answers begin with a line of the camera's log"),
        "webcam_error_once": (1, "so many starts of the webcam answer error 1"),
        "webcam_unavailable": (1, "webcam start answers status 4, error 7: 1 while wired USB control is on, 2 always"),
        "lens_refused": (2, "webcam start answers an error when it is asked for this lens (fov)"),
        "webcam_500": (1, "webcam start, exit and preview answer 500"),
        "preview_409": (1, "the preview answers 409 to start and stop until a reboot"),
        "preview_stuck": (1, "a recording kills the preview, and status 32 stays 1 until it is stopped"),
        "media_list_404": (1, "the media list answers 404 and the count of clips stands still until a reboot"),
        "large_files_bytes": (5e9, "videos are filled up to so many bytes; media info tells sizes modulo 2^32"),
        "chapter_info_404": (1, "media info answers 404 for all but the first chapter"),
        "download_cut_bytes": (65536, "each download ends after so many bytes"),
        "download_mb_per_s": (7, "downloads are so slow"),
        "download_stall_s": (10, "each download stands still for so long after its first 64 KiB"),
        "no_battery": (1, "the camera goes off when wired USB control is switched on"),
        "battery_percent": (0, "status 70"),
        "recording_stops_s": (1500, "a recording ends by itself after so long"),
        "usb_vanishes_s": (5, "the camera is not on the network for so long when a recording begins"),
        "sleeps_s": (5, "the camera goes off so long after the last keep-alive, whatever it does"),
        "overheating": (
            5,
            "status 6; so many s later all work ends, after as many more the camera goes off",
        ),
        "card_status": (1, "status 33, and recordings end: 1 full, 2 removed, 3 format error"),
        "card_errors": (1, "status 111 (too slow) is 1, and 112 counts so many errors"),
        "stale_idle": (1, "the webcam says it is idle, but sends nothing until it was started and stopped once"),
        "clock_offset_s": (3600, "what the camera's clock is wrong by, in addition, until it is set"),
        "clock_drift_ppm": (50, "how much too fast the camera's clock runs, in addition, since it was set"),
        "anti_flicker_50_hz": (1, "somebody sets anti-flicker to 50 Hz: 25 frames a second instead of 30"),
        "udp_loss": (0.01, "share of the datagrams that get lost"),
        "udp_reordering": (0.01, "share of the datagrams that are overtaken by the next"),
        "udp_prefix_bytes": (12, "so many bytes come before the packets of each datagram"),
        "udp_early_s": (1, "webcam start answers so late that the first datagrams come before its answer"),
    }
)
SHARES = frozenset({"udp_loss", "udp_reordering"})
MAY_BE_NEGATIVE = frozenset({"clock_offset_s", "clock_drift_ppm", "card_status"})
HEALED_BY_REBOOT = ("preview_409", "preview_stuck", "media_list_404", "overheating")


class FaultError(ValueError):
    """No such fault, or not a number."""


def parse(text: str) -> tuple[str, float]:
    """`NAME` or `NAME=VALUE` as name and value. Raises FaultError in one clear line."""
    name, equals, value = text.partition("=")
    _require(name)
    return name, check(name, value) if equals else float(FAULTS[name][0])


def check(name: str, value: float | str) -> float:
    """The value as a number. Raises FaultError for an unknown name or what is not a number it takes."""
    _require(name)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    least, most = -math.inf if name in MAY_BE_NEGATIVE else 0, 1 if name in SHARES else math.inf
    if not (math.isfinite(number) and least <= number <= most):
        raise FaultError(f"fault {name} has the value {value!r}; it takes a number ({FAULTS[name][1]})")
    return number


def _require(name: str) -> None:
    if name not in FAULTS:
        raise FaultError(f"unknown fault {name!r}; the camera knows {', '.join(FAULTS)}")


class Faults(UserDict[str, float]):
    """The faults that are on: `faults["udp_loss"] = 0.05`, `del faults["udp_loss"]`. Any thread may do so."""

    def __init__(self, faults: Mapping[str, float]) -> None:
        self._lock = threading.Lock()
        super().__init__(faults)

    def __setitem__(self, name: str, value: float | str) -> None:
        super().__setitem__(name, check(name, value))

    def take(self, name: str) -> bool:
        """Whether a fault that happens so many times happens now."""
        with self._lock:
            left = self.get(name, 0.0)
            if left > 1:
                self[name] = left - 1
            else:
                self.pop(name, None)
            return left > 0

    def heal(self) -> None:
        """End what a reboot ends."""
        for name in HEALED_BY_REBOOT:
            self.pop(name, None)
