"""How far apart photos are, in seconds or in metres of the way."""

import math
import re
from dataclasses import dataclass

from rig.errors import UsageError
from rig.gnss.fix import METRES_PER_DEGREE

STANDING_MPS = 0.3  # below it the receiver's noise is no way

_EVERY = re.compile(r"(\d+(?:\.\d+)?)(s|m)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Every:
    """How far apart the photos are: `step` seconds, or metres along the track."""

    step: float
    unit: str = "s"

    @staticmethod
    def parse(text: str) -> "Every":
        """`0.5s`, `5m`, or a number of seconds. Raises UsageError for anything else."""
        match = _EVERY.fullmatch(text.strip())
        if not match or float(match[1]) <= 0:
            raise UsageError(f"--every {text!r} is no interval", cure="say for instance 0.5s or 5m")
        return Every(float(match[1]), match[2] or "s")


class Odometer:
    """The instants at which a car has driven each multiple of `step_m`, fix by fix."""

    def __init__(self, step_m: float) -> None:
        self._step_m = step_m
        self._way_m = 0.0
        self._last: tuple[int, float, float] | None = None

    def feed(self, utc_ns: int, latitude: float, longitude: float, speed_mps: float | None) -> list[int]:
        """Take the next fix; UTC of the multiples since the one before. The first fix is one, standing none."""
        last, self._last = self._last, (utc_ns, latitude, longitude)
        if last is None:
            return [utc_ns]
        north_m = (latitude - last[1]) * METRES_PER_DEGREE
        east_m = (longitude - last[2]) * METRES_PER_DEGREE * math.cos(math.radians(latitude))
        driven_m = math.hypot(north_m, east_m)
        if utc_ns <= last[0] or driven_m == 0 or (speed_mps is not None and speed_mps < STANDING_MPS):
            return []
        begin_m, self._way_m = self._way_m, self._way_m + driven_m
        first, end = math.floor(begin_m / self._step_m) + 1, math.floor(self._way_m / self._step_m) + 1
        shares = [(number * self._step_m - begin_m) / driven_m for number in range(first, end)]
        return [last[0] + round(share * (utc_ns - last[0])) for share in shares]
