"""A camera's picture sensor: frames at the pace of the camera's own crystal, and the truth about each."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import av

from simulator.film import Film
from simulator.lamp import Lamp
from simulator.led import Led
from simulator.lens import WEBCAM_LENSES, Lens, view_chart
from simulator.paint import Planes
from simulator.phone import Phone
from simulator.world import Crystal, Street, World

CLOCK_HZ = 90_000  # of MPEG time stamps
SECOND_NS = 1_000_000_000
EXPOSED_NS = 11_500_000  # from a frame's instant to the end of its last row: half of 8 ms exposure and 15 ms read-out
TRUTH_HEADER = "number,stream,pts_90khz,utc_ns\n"


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames per second as an exact fraction, and the time base in which a frame is a whole number of ticks."""

    numerator: int
    denominator: int

    @property
    def timescale(self) -> int:
        """90 kHz wherever a frame is a whole number of such ticks."""
        return CLOCK_HZ if CLOCK_HZ * self.denominator % self.numerator == 0 else self.numerator

    @property
    def ticks(self) -> int:
        """Length of a frame in 1 / `timescale`."""
        return self.timescale * self.denominator // self.numerator

    @property
    def per_second(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.numerator, self.denominator)

    def at_s(self, index: int) -> float:
        """Seconds from the first frame to another, by the camera's crystal."""
        return index * self.denominator / self.numerator


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of a picture in pixels."""

    width: int
    height: int

    @staticmethod
    def of_height(height: int) -> "Size":
        """16:9, both even."""
        return Size(round(height * 16 / 9 / 2) * 2, height)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame: its number within the camera, its index within the stream, its instant and its picture."""

    number: int
    index: int
    utc_ns: int
    picture: av.VideoFrame


class Shutter:
    """Open until it is closed, which any thread may do."""

    def __init__(self) -> None:
        self.closed_at_ns: int | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """Let no frame begin after now (CLOCK_MONOTONIC)."""
        if self.closed_at_ns is None:
            self.closed_at_ns = time.monotonic_ns()
            self._closed.set()

    def wait_until(self, monotonic_ns: int) -> bool:
        """Wait for an instant; False when the shutter was closed before it (then without waiting)."""
        while (left_ns := monotonic_ns - time.monotonic_ns()) > 0 and not self._closed.is_set():
            self._closed.wait(left_ns / SECOND_NS)
        return self.closed_at_ns is None or monotonic_ns <= self.closed_at_ns


class Truth:
    """`frames-<serial>.csv`: when each frame of each stream was really taken."""

    def __init__(self, folder: Path | None, serial: str) -> None:
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"frames-{serial}.csv").open("a", encoding="ascii", buffering=1)
            if self._file.tell() == 0:
                self._file.write(TRUTH_HEADER)

    def add(self, number: int, stream: str, pts_90khz: int, utc_ns: int) -> None:
        """One line, on its way to the file at once."""
        with self._lock:
            if self._file is not None:
                self._file.write(f"{number},{stream},{pts_90khz},{utc_ns}\n")

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None


class Sensor:
    """Takes the pictures of all streams of one camera. `phone`, `led`, `lamp` and `lens` may be changed at any time.

    `chart_m` is how far the chart is that stands before the camera; None: it sees the street, and all lenses are alike.
    """

    def __init__(self, world: World, street: Street, side: str, crystal: Crystal, seed: int, truth: Truth) -> None:
        self.world = world
        self.truth = truth
        self.street, self.side = street, side
        self.phone: Phone | None = None
        self.led: Led | None = None
        self.lamp: Lamp | None = None
        self.lens: Lens = WEBCAM_LENSES[0]
        self.chart_m: float | None = None
        self._crystal, self._seed = crystal, seed
        self._films: dict[Size, Film] = {}
        self._loading = threading.Lock()
        self._numbers = itertools.count(1)

    def load(self, size: Size) -> Film:
        """The film in that size; drawing its street takes a moment the first time."""
        with self._loading:
            if size not in self._films:
                self._films[size] = Film(self.world, self.street, self.side, size.width, size.height, self._seed)
            return self._films[size]

    def expose(
        self, rate: Rate, size: Size, shutter: Shutter, delay_s: float, patience_s: float | None = None
    ) -> Iterator[Exposure]:
        """Frames from `delay_s` from now, each as soon as it is exposed, until the shutter closes.

        When drawing cannot keep up: frames that are `patience_s` old are left out; None leaves out none.
        """
        film = self.load(size)
        first_s = self._crystal.elapsed_s(self.world.utc_ns()) + delay_s
        for index in itertools.count():
            utc_ns = self._crystal.utc_ns(first_s + rate.at_s(index))
            exposed_ns = self.world.monotonic_ns(utc_ns + EXPOSED_NS)
            if not shutter.wait_until(exposed_ns):
                return
            if patience_s is None or time.monotonic_ns() - exposed_ns < patience_s * SECOND_NS:
                number = next(self._numbers)
                picture = film.picture(utc_ns, number, self.phone, self.led, self._still(size), self.lamp)
                yield Exposure(number, index, utc_ns, picture)

    def _still(self, size: Size) -> Planes | None:
        return None if self.chart_m is None else view_chart(self.lens, size.width, size.height, self.chart_m)
