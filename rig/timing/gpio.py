"""What an LED hangs on: a pin of the Pi's header, or a file that switches one; without either, words that say so."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any

from rig.errors import DeviceNotFoundError

CURE = "run this on a Raspberry Pi with gpiozero and lgpio, as a member of the group gpio (docs/display-latency.md)"

Switch = Callable[[bool], None]  # on, or off


def opened(where: str) -> AbstractContextManager[Switch]:
    """What switches a pin by its BCM number, or by the path of its file; dark at the end.

    Raises DeviceNotFoundError where there is no such pin, no gpiozero, or nothing that takes what the file is told; the
    switch raises it when nobody takes it any more.
    """
    return _header_pin(int(where)) if where.isdecimal() else _led_file(where)


@contextmanager
def _header_pin(number: int) -> Iterator[Switch]:
    """A pin of the 40-pin header, low until it is set and when it is closed."""
    try:
        gpiozero: Any = importlib.import_module("gpiozero")  # here: only a Pi has it
    except ImportError as error:
        raise DeviceNotFoundError("this machine has no GPIO pins that can be used", cure=CURE) from error
    try:
        device = gpiozero.DigitalOutputDevice(number)
    except Exception as error:  # gpiozero's own tree, or that of the library below it, which varies
        raise DeviceNotFoundError(f"GPIO {number} cannot be opened ({error})", cure=CURE) from error
    with closing(device):
        yield lambda on: device.on() if on else device.off()


@contextmanager
def _led_file(path: str) -> Iterator[Switch]:
    """A file that is told 1 and 0: an LED of the board (`/sys/class/leds/ACT/brightness`), a pipe to a program."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe nobody reads: at once
    except OSError as error:
        raise DeviceNotFoundError(
            f"the LED's file {path} cannot be written ({error.strerror})", cure="see the setting led_pin"
        ) from error

    def switch(on: bool) -> None:
        try:
            os.write(file, b"1\n" if on else b"0\n")
        except OSError as error:
            raise DeviceNotFoundError(f"the LED's file is gone ({error.strerror})", cure="blink again") from error

    try:
        yield switch
    finally:
        with suppress(DeviceNotFoundError):
            switch(False)
        os.close(file)
