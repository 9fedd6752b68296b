"""An LED on a dark board as a camera sees it: switched at known instants, exposed row by row."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.paint import BLACK, GREY, WHITE, Planes
from simulator.screen import EXPOSURE_NS, FULL_ROWS, GAMMA, READ_OUT_NS

BOARD = 72  # its side, in rows of a picture that has FULL_ROWS of them
BOARD_LIGHT = 0.02  # linear
SOFT_EDGE = 1.0  # of the spot, one sigma-like width
HALO_SHARE, HALO_RADIUS = 0.02, 14.0  # light that the lens scatters around it

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
        times = np.array([utc_ns - base_utc_ns for utc_ns, _ in self.edges], dtype=np.float64)
        states = np.array([on for _, on in self.edges[:-1]], dtype=np.float64)
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


def _wander(utc_ns: int) -> tuple[float, float]:
    """Where a hand is at an instant, -1 to 1 across and down."""
    time_s = utc_ns % 10**12 / 1e9
    return math.sin(2.9 * time_s + 1), math.sin(2.1 * time_s)
