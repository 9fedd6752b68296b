"""What an LED hangs on: a pin of the Pi's header, or a file that switches one; without either, words that say so."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from rig.errors import DeviceNotFoundError

CURE = "run this on a Raspberry Pi with gpiozero and lgpio, as a member of the group gpio (docs/display-latency.md)"


class Pin(Protocol):
    """What can be switched on and off."""

    def set(self, on: bool) -> None:
        """Drive the pin high or low."""


@contextmanager
def opened(where: str) -> Iterator[Pin]:
    """A pin by its BCM number or the path of its file, dark at the end.

    Raises DeviceNotFoundError where there is no such pin, no gpiozero, or nothing that takes what the file is told.
    """
    pin: HeaderPin | FilePin = HeaderPin(int(where)) if where.isdecimal() else FilePin(where)
    try:
        yield pin
    finally:
        pin.close()


class HeaderPin:
    """A pin of the 40-pin header, low until it is set and when it is closed."""

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


class FilePin:
    """A file that is told 1 and 0: an LED of the board (`/sys/class/leds/ACT/brightness`), a pipe to a program."""

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe nobody reads: at once
        except OSError as error:
            raise DeviceNotFoundError(
                f"the LED's file {path} cannot be written ({error.strerror})", cure="see the setting led_pin"
            ) from error

    def set(self, on: bool) -> None:
        """Write 1 or 0. Raises DeviceNotFoundError when nobody takes it any more."""
        try:
            os.write(self._file, b"1\n" if on else b"0\n")
        except OSError as error:
            raise DeviceNotFoundError(f"the LED's file is gone ({error.strerror})", cure="blink again") from error

    def close(self) -> None:
        """Leave the LED dark."""
        with suppress(DeviceNotFoundError):
            self.set(False)
        os.close(self._file)
