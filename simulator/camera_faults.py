"""What can go wrong with a camera, switched on and off while it runs; each fault was seen by users."""

import math
import threading
from collections import UserDict
from collections.abc import Mapping
from types import MappingProxyType

# Name: the value it has when none is given, and what it does.
FAULTS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "log_line_before_status": (1.0, "so many HTTP answers begin with a line of the camera's log"),
        "webcam_error_once": (1.0, "so many starts of the webcam answer error 1"),
        "webcam_500": (1.0, "webcam start, exit and preview answer 500"),
        "media_list_404": (1.0, "the media list answers 404"),
        "udp_loss": (0.01, "share of the datagrams that get lost"),
        "download_cut_bytes": (65536.0, "each download ends after so many bytes"),
        "clock_offset_s": (3600.0, "what the camera's clock is wrong by, in addition"),
        "card_status": (1.0, "status 33: 1 full, 2 removed, 3 format error"),
        "battery_percent": (0.0, "status 70"),
        "overheating": (1.0, "status 6"),
    }
)
MAY_BE_NEGATIVE = frozenset({"clock_offset_s", "card_status"})


class FaultError(ValueError):
    """No such fault, or not a number."""


def parse(text: str) -> tuple[str, float]:
    """`NAME` or `NAME=VALUE` as name and value. Raises FaultError in one clear line."""
    name, equals, value = text.partition("=")
    _require(name)
    return name, check(name, value) if equals else FAULTS[name][0]


def check(name: str, value: float | str) -> float:
    """The value as a number. Raises FaultError for an unknown name or what is not a number it takes."""
    _require(name)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (number < 0 and name not in MAY_BE_NEGATIVE):
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
            if left > 0:
                self[name] = left - 1
            return left > 0
