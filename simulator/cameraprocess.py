"""A camera of the car in a process of its own: started, told things, ended."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from simulator.camera import Camera

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_S, ANSWER_S, STOP_S = 60.0, 10.0, 5.0
NICENESS = -10
AUTOGROUP = Path("/proc/self/autogroup")

_spawn = multiprocessing.get_context("spawn")


class CarError(RuntimeError):
    """A part of the car does not do what it was asked for."""


class CameraProcess:
    """The car's end of one camera; `options` are those of Camera, with its serial number and model."""

    def __init__(self, label: str, **options: Any) -> None:
        self.label, self.options = label, options
        self.address = ""
        self._asking = threading.Lock()
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_be_camera, args=(theirs, options), name=f"camera {label}", daemon=True)
        self._process.start()
        theirs.close()

    @property
    def serial(self) -> str:
        """Its serial number."""
        return str(self.options["serial"])

    def describe(self) -> dict[str, Any]:
        """Label, serial, model and address."""
        return {"label": self.label, "serial": self.serial, "model": self.options["model"], "address": self.address}

    def wait_ready(self) -> None:
        """Wait for its address. Raises CarError when the process ends before."""
        self.address = str(self._receive(START_S))

    def tell(self, act: Callable[..., Any], *values: object) -> Any:
        """What a module's function, called there with the Camera and these values, returns.

        Raises CarError when the process is gone or stuck.
        """
        with self._asking:
            try:
                self._connection.send((act, values))
            except OSError as error:
                raise CarError(f"the {self.label} camera's process is gone") from error
            return self._receive(ANSWER_S)

    def stop(self) -> None:
        """End the process: in order, else by force."""
        self._connection.close()
        self._process.join(STOP_S)
        for end in (self._process.terminate, self._process.kill):
            if self._process.exitcode is None:
                end()
                self._process.join(STOP_S)

    def _receive(self, timeout_s: float) -> Any:
        try:
            if self._connection.poll(timeout_s):
                return self._connection.recv()
        except (EOFError, OSError) as error:
            raise CarError(f"the {self.label} camera's process ended") from error
        raise CarError(f"the {self.label} camera did not answer within {timeout_s:.0f} s")


def go_first() -> None:
    """Real devices have processors of their own: what else runs here shall not make the simulated ones late."""
    with suppress(OSError):  # only root may
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        if os.getsid(0) == os.getpid():
            # Linux shares the processor out to sessions first (autogroup), then among the processes of each.
            AUTOGROUP.write_text(str(NICENESS))


def _be_camera(connection: Connection, options: dict[str, Any]) -> None:
    """The life of a camera's process: until the car's end of the pipe is closed."""
    _end_with_parent()
    go_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the car ends its cameras
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # in order: the card is a folder to be removed
    with Camera(**options) as camera, suppress(EOFError, ConnectionError):
        connection.send(camera.address)
        while True:
            act, values = connection.recv()
            connection.send(act(camera, *values))


def _end_with_parent() -> None:
    """Have the kernel end this process when the car dies, even by SIGKILL (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
