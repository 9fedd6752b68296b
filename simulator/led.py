"""An LED on a dark board as a camera sees it: switched at known instants, exposed row by row."""

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from simulator.paint import BLACK, GREY, WHITE, Planes
from simulator.screen import EXPOSURE_NS, FULL_ROWS, GAMMA, READ_OUT_NS

BOARD = 72  # its side, in rows of a picture that has FULL_ROWS of them
BOARD_LIGHT = 0.02  # linear
SOFT_EDGE = 1.0  # of the spot, one sigma-like width
HALO_SHARE, HALO_RADIUS = 0.02, 14.0  # light that the lens scatters around it

END = b"end"  # to the thread that listens
EDGES_KEPT = 40  # of the newest: more than an exposure and the way to the camera can hold

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Led:
    """When it was switched (true UTC in ns, on), in order, dark before; where it is, how large and bright.

    `across` and `down` are shares of the picture, `light` is linear, above 1 it saturates the sensor; `sway` is how far
    it moves to each side, in rows of a full picture, as when the board is held in a hand.
    """

    edges: tuple[tuple[int, bool], ...]
    across: float = 0.22
    down: float = 0.46
    diameter: float = 14.0
    light: float = 0.8
    sway: float = 0.0

    def on_share(self, begin_ns: npt.NDArray[np.floating[Any]], length_ns: float, base_utc_ns: int) -> Floats:
        """Part of intervals, which begin so many ns after `base_utc_ns`, in which it was lit."""
        last = base_utc_ns + int(np.max(begin_ns) + length_ns)
        edges = (*self.edges, (max(last, *(utc_ns for utc_ns, _ in self.edges)) + 1, False)) if self.edges else ()
        if not edges:
            return np.zeros(np.shape(begin_ns))
        times = np.array([utc_ns - base_utc_ns for utc_ns, _ in edges], dtype=np.float64)
        states = np.array([on for _, on in edges[:-1]], dtype=np.float64)
        lit = np.concatenate([[0.0], np.cumsum(states * np.diff(times))])
        share = (np.interp(begin_ns + length_ns, times, lit) - np.interp(begin_ns, times, lit)) / length_ns
        return np.asarray(share)

    def draw(self, planes: Planes, utc_ns: int) -> None:
        """Lay the board with the LED over a picture whose middle row has its mid-exposure at `utc_ns`."""
        height, width = planes.y.shape
        unit = height / FULL_ROWS
        side = 2 * round(BOARD * unit / 2)
        moved_x, moved_y = (self.sway * unit * wave for wave in _wander(utc_ns))
        left = 2 * round((self.across * width + moved_x - side / 2) / 2)
        top = 2 * round((self.down * height + moved_y - side / 2) / 2)
        x, y = self.across * width + moved_x - left, self.down * height + moved_y - top
        rows = np.arange(side) + 0.5
        exposed = ((top + rows) / height - 0.5) * READ_OUT_NS - EXPOSURE_NS / 2
        share = self.on_share(exposed, EXPOSURE_NS, utc_ns)
        distance = np.hypot(rows[None, :] - x, rows[:, None] - y) / unit
        spot = 1 / (1 + np.exp((distance - self.diameter / 2) / (SOFT_EDGE / 2)))
        shape = spot + HALO_SHARE * np.exp(-((distance / HALO_RADIUS) ** 2))
        light = np.clip(BOARD_LIGHT + self.light * share[:, None] * shape, 0, 1) ** (1 / GAMMA)
        planes.y[top : top + side, left : left + side] = np.round(BLACK + (WHITE - BLACK) * light)
        for plane in (planes.u, planes.v):
            plane[top // 2 : (top + side) // 2, left // 2 : (left + side) // 2] = GREY


class LedWire:
    """The wire of an LED: a pipe at `path` that is told 1 and 0; `switched` hears of all edges after each one.

    `utc_ns` tells the true time. A context manager; the pipe is gone at its end.
    """

    def __init__(
        self, path: Path, utc_ns: Callable[[], int], switched: Callable[[tuple[tuple[int, bool], ...]], None]
    ) -> None:
        self._path, self._utc_ns, self._switched = path, utc_ns, switched
        self._edges: list[tuple[int, bool]] = []
        self._thread = threading.Thread(target=self._run, name="led", daemon=True)

    def __enter__(self) -> Self:
        os.mkfifo(self._path)
        self._pipe = os.open(self._path, os.O_RDWR)  # not only to read: it never ends when its writer goes
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._pipe, END)
        self._thread.join()
        os.close(self._pipe)
        self._path.unlink()

    def _run(self) -> None:
        while END not in (told := os.read(self._pipe, 64)):
            on = told.rstrip().endswith(b"1")
            if on != (bool(self._edges) and self._edges[-1][1]):
                self._edges.append((self._utc_ns(), on))
                self._switched(tuple(self._edges[-EDGES_KEPT:]))


def _wander(utc_ns: int) -> tuple[float, float]:
    """Where a hand is at an instant, -1 to 1 across and down."""
    time_s = utc_ns % 10**12 / 1e9
    return math.sin(2.9 * time_s + 1), math.sin(2.1 * time_s)
