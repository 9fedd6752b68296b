"""One output pin of the Pi's header; everywhere else there is none, and that is said in words."""

import importlib
from types import TracebackType
from typing import Any, Protocol

from rig.errors import DeviceNotFoundError

CURE = "run this on a Raspberry Pi with gpiozero and lgpio, as a member of the group gpio (docs/display-latency.md)"


class Pin(Protocol):
    """What can be switched on and off."""

    def set(self, on: bool) -> None:
        """Drive the pin high or low."""


class HeaderPin:
    """A pin of the 40-pin header by its BCM number, low until it is set and when it is closed.

    Raises DeviceNotFoundError where there is no such pin or no gpiozero.
    """

    def __init__(self, number: int) -> None:
        try:
            gpiozero: Any = importlib.import_module("gpiozero")  # here: only a Pi has it
        except ImportError as error:
            raise DeviceNotFoundError("this machine has no GPIO pins that can be used", cure=CURE) from error
        try:
            self._device = gpiozero.DigitalOutputDevice(number)
        except Exception as error:  # gpiozero's own tree, or that of the library below it, which varies
            raise DeviceNotFoundError(f"GPIO {number} cannot be opened ({error})", cure=CURE) from error

    def set(self, on: bool) -> None:
        """Drive the pin high or low."""
        if on:
            self._device.on()
        else:
            self._device.off()

    def close(self) -> None:
        """Leave the pin low and free for others."""
        self._device.close()

    def __enter__(self) -> "HeaderPin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
