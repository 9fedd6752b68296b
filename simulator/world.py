"""What is true in the simulation: UTC, each device's own clock, and where the car is.

The drive is a chain of manoeuvres. In each, speed and heading follow a smooth step in time, so both are known exactly
at any instant; positions are their integral over the ellipsoid (WGS 84), by Gauss-Legendre quadrature.
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SECOND_NS = 1_000_000_000
HOUR_S = 3600.0
PARTS_PER_BILLION = 1_000_000_000

WGS84_SEMI_MAJOR_M = 6_378_137.0
WGS84_FLATTENING = 1 / 298.257223563
WGS84_ECCENTRICITY_2 = WGS84_FLATTENING * (2 - WGS84_FLATTENING)

START_LATITUDE = 47.17  # south of Nantes
START_LONGITUDE = -1.27
START_HEADING_DEG = 62.0
GEOID_SEPARATION_M = 47.6  # there: height above the ellipsoid minus altitude
ALTITUDE_M = 32.0
HILLS = ((6.0, 1900.0, 0.4), (1.5, 430.0, 2.1))  # height in m, length in m, phase in rad

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class World:
    """True UTC as a function of this machine's CLOCK_MONOTONIC, which runs `host_rate_ppm` too fast."""

    epoch_utc_ns: int
    epoch_monotonic_ns: int
    host_rate_ppm: float = 0.0

    def utc_ns(self, monotonic_ns: int | None = None) -> int:
        """True UTC at a reading of CLOCK_MONOTONIC (None: now)."""
        reading = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        elapsed = reading - self.epoch_monotonic_ns
        return self.epoch_utc_ns + _divide(elapsed * PARTS_PER_BILLION, self._ticks_per_billion)

    def monotonic_ns(self, utc_ns: int) -> int:
        """What CLOCK_MONOTONIC reads at an instant of true UTC."""
        elapsed = utc_ns - self.epoch_utc_ns
        return self.epoch_monotonic_ns + _divide(elapsed * self._ticks_per_billion, PARTS_PER_BILLION)

    @property
    def _ticks_per_billion(self) -> int:
        return PARTS_PER_BILLION + round(self.host_rate_ppm * 1000)


def _divide(numerator: int, denominator: int) -> int:
    """Quotient of integers, rounded to the nearest: a float would lose nanoseconds within minutes."""
    return (2 * numerator + denominator) // (2 * denominator)


@dataclass(frozen=True, slots=True)
class Crystal:
    """A device's own clock: it reads 0 at `origin_utc_ns`, runs `rate_ppm` too fast there and drifts linearly."""

    rate_ppm: float
    drift_ppm_per_hour: float
    origin_utc_ns: int

    def elapsed_s(self, utc_ns: int) -> float:
        """What the device's clock reads at an instant of true UTC."""
        true_s = (utc_ns - self.origin_utc_ns) / SECOND_NS
        return true_s * (self._rate + self._drift_per_s / 2 * true_s)

    def utc_ns(self, elapsed_s: float) -> int:
        """The instant of true UTC at which the device's clock reads `elapsed_s`."""
        root = math.sqrt(self._rate**2 + 2 * self._drift_per_s * elapsed_s)
        return self.origin_utc_ns + round(2 * elapsed_s / (self._rate + root) * SECOND_NS)

    @property
    def _rate(self) -> float:
        return 1 + self.rate_ppm * 1e-6

    @property
    def _drift_per_s(self) -> float:
        return self.drift_ppm_per_hour * 1e-6 / HOUR_S


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the car's roof is: WGS 84, altitude above mean sea level, heading from true north, way driven."""

    latitude: float
    longitude: float
    altitude_m: float
    heading_deg: float
    speed_mps: float
    distance_m: float


@dataclass(frozen=True, slots=True)
class Poses:
    """The fields of `Pose` as arrays of one length."""

    latitude: Floats
    longitude: Floats
    altitude_m: Floats
    heading_deg: Floats
    speed_mps: Floats
    distance_m: Floats


@dataclass(frozen=True, slots=True)
class Manoeuvre:
    """A smooth change to another speed and by some angle to the right."""

    duration_s: float
    to_speed_mps: float
    turn_deg: float = 0.0


# The first minute: a town, with a stop and two turns.
TOWN = (
    Manoeuvre(2.0, 0.0),
    Manoeuvre(8.0, 13.4),
    Manoeuvre(5.0, 13.0, 9.0),
    Manoeuvre(5.0, 5.5),
    Manoeuvre(5.0, 6.0, 88.0),
    Manoeuvre(5.0, 11.5),
    Manoeuvre(4.0, 11.0, -6.0),
    Manoeuvre(6.5, 0.0),
    Manoeuvre(4.5, 0.0),
    Manoeuvre(5.0, 6.0),
    Manoeuvre(5.0, 6.0, -90.0),
    Manoeuvre(5.0, 12.5),
)
MAX_LONGITUDINAL_MPS2 = 2.6
MAX_LATERAL_MPS2 = 2.5
STEEPEST = 1.5  # slope of the smooth step in its middle

KNOT_S = 0.5  # quadrature interval: a turn of 90 degrees takes ten of them
NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)
FIRST_PLAN_S = 1800.0


class Street:
    """An endless drive that begins at `start_utc_ns`, from standstill; the car stands there before.

    Picklable; the same seed and start give the same drive in every process.
    """

    def __init__(self, seed: int = 1, start_utc_ns: int = 0) -> None:
        self.seed = seed
        self.start_utc_ns = start_utc_ns
        self._plan = _Plan(seed, FIRST_PLAN_S)

    def __reduce__(self) -> tuple[object, ...]:
        return Street, (self.seed, self.start_utc_ns)

    def at(self, utc_ns: int) -> Pose:
        """Where the car is at an instant of true UTC."""
        poses = self.at_many(np.array([utc_ns], dtype=np.int64))
        return Pose(*(float(getattr(poses, name)[0]) for name in Pose.__slots__))

    def at_many(self, utc_ns: npt.ArrayLike) -> Poses:
        """Where the car is at many instants of true UTC (integers, any order)."""
        elapsed_ns = np.asarray(utc_ns, dtype=np.int64) - self.start_utc_ns
        elapsed_s = np.maximum(elapsed_ns, 0) / SECOND_NS
        plan = self._plan
        needed_s = float(elapsed_s.max(initial=0.0))
        if needed_s >= plan.duration_s:
            plan = self._plan = _Plan(self.seed, 2 * needed_s)
        return plan.at(elapsed_s)


class _Plan:
    """The drive from its start to at least `duration_s`, tabulated; immutable, so threads may share it."""

    def __init__(self, seed: int, duration_s: float) -> None:
        self._set_manoeuvres(_manoeuvres(seed, duration_s))
        self._set_knots()

    def _set_manoeuvres(self, chain: list[Manoeuvre]) -> None:
        self._length_s = np.array([part.duration_s for part in chain])
        ends_s = np.cumsum(self._length_s)
        self._begin_s = ends_s - self._length_s
        self.duration_s = float(ends_s[-1])
        to_speed = np.array([part.to_speed_mps for part in chain])
        self._speed = np.concatenate([[0.0], to_speed[:-1]])
        self._gain = to_speed - self._speed
        self._turn = np.radians([part.turn_deg for part in chain])
        self._heading = math.radians(START_HEADING_DEG) + np.cumsum(self._turn) - self._turn
        way = self._length_s * (self._speed + self._gain / 2)
        self._way = np.cumsum(way) - way

    def _set_knots(self) -> None:
        self._knots_s = np.unique(np.concatenate([np.arange(0, self.duration_s, KNOT_S), self._begin_s]))
        until_s = np.append(self._knots_s[1:], self.duration_s)
        north, east = self._displacement(self._knots_s, until_s)
        height = self._altitude(self._motion(self._knots_s)[2]) + GEOID_SEPARATION_M
        latitude = np.full_like(north, math.radians(START_LATITUDE))
        for _ in range(4):  # the radii depend on the latitude, weakly: each round gains four digits
            steps = north / (_meridian_radius(latitude) + height)
            latitude = math.radians(START_LATITUDE) + np.cumsum(steps) - steps / 2
        self._latitude = latitude - steps / 2
        steps = east / _parallel_radius(latitude, height)
        self._longitude = math.radians(START_LONGITUDE) + np.cumsum(steps) - steps

    def at(self, elapsed_s: Floats) -> Poses:
        """Poses at seconds after the start, all within the plan."""
        speed, heading, way = self._motion(elapsed_s)
        altitude = self._altitude(way)
        knot = np.searchsorted(self._knots_s, elapsed_s, side="right") - 1
        north, east = self._displacement(self._knots_s[knot], elapsed_s)
        height = altitude + GEOID_SEPARATION_M
        climb = north / (_meridian_radius(self._latitude[knot]) + height)
        halfway = self._latitude[knot] + climb / 2
        longitude = self._longitude[knot] + east / _parallel_radius(halfway, height)
        latitude = self._latitude[knot] + climb
        return Poses(np.degrees(latitude), np.degrees(longitude), altitude, np.degrees(heading) % 360, speed, way)

    def _motion(self, elapsed_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Speed in m/s, heading in radians and way in metres."""
        part = np.searchsorted(self._begin_s, elapsed_s, side="right") - 1
        share = (elapsed_s - self._begin_s[part]) / self._length_s[part]
        step = share**2 * (3 - 2 * share)
        step_integral = share**3 * (1 - share / 2)
        speed = self._speed[part] + self._gain[part] * step
        heading = self._heading[part] + self._turn[part] * step
        way = self._way[part] + self._length_s[part] * (self._speed[part] * share + self._gain[part] * step_integral)
        return speed, heading, way

    def _displacement(self, from_s: Floats, until_s: Floats) -> tuple[Floats, Floats]:
        """Metres to the north and to the east between two instants within one manoeuvre."""
        half = (until_s - from_s)[..., None] / 2
        speed, heading, _ = self._motion(from_s[..., None] + half * (1 + NODES))
        weights = half * WEIGHTS
        return (speed * np.cos(heading) * weights).sum(-1), (speed * np.sin(heading) * weights).sum(-1)

    @staticmethod
    def _altitude(way_m: Floats) -> Floats:
        altitude = np.full_like(way_m, ALTITUDE_M)
        for height, length, phase in HILLS:
            altitude += height * np.sin(2 * np.pi * way_m / length + phase)
        return altitude


def _meridian_radius(latitude_rad: Floats) -> Any:
    return WGS84_SEMI_MAJOR_M * (1 - WGS84_ECCENTRICITY_2) / _squash(latitude_rad) ** 1.5


def _parallel_radius(latitude_rad: Floats, height_m: Floats) -> Any:
    return (WGS84_SEMI_MAJOR_M / np.sqrt(_squash(latitude_rad)) + height_m) * np.cos(latitude_rad)


def _squash(latitude_rad: Floats) -> Any:
    return 1 - WGS84_ECCENTRICITY_2 * np.sin(latitude_rad) ** 2


def _manoeuvres(seed: int, duration_s: float) -> list[Manoeuvre]:
    """The chain of manoeuvres; a longer one of the same seed begins with the shorter one."""
    dice = random.Random(seed)
    chain = list(TOWN)
    planned_s = sum(part.duration_s for part in chain)
    while planned_s <= duration_s:
        leg = list(_leg(dice, chain[-1].to_speed_mps))
        chain += leg
        planned_s += sum(part.duration_s for part in leg)
    return chain


def _leg(dice: random.Random, speed_mps: float) -> Iterator[Manoeuvre]:
    """Some hundred metres of a town's street or of a country road, and what ends it."""
    limit = dice.choice((8.3, 13.9, 13.9, 13.9, 19.4, 22.2, 25.0))
    for _ in range(dice.randint(2, 5)):
        cruise = limit * dice.uniform(0.85, 1.0)
        yield _manoeuvre(dice, speed_mps, cruise, dice.uniform(-25, 25) if dice.random() < 0.6 else 0.0)
        speed_mps = cruise
    if dice.random() < 0.35:
        yield _manoeuvre(dice, speed_mps, 0.0, 0.0)
        yield Manoeuvre(dice.uniform(2.0, 12.0), 0.0)
        speed_mps = 0.0
    corner = dice.uniform(5.0, 6.5)
    yield _manoeuvre(dice, speed_mps, corner, 0.0)
    yield _manoeuvre(dice, corner, corner, dice.choice((-90.0, 90.0)) + dice.uniform(-8, 8))


def _manoeuvre(dice: random.Random, from_mps: float, to_mps: float, turn_deg: float) -> Manoeuvre:
    """A manoeuvre that takes as long as comfort asks for, and then some."""
    braking_s = STEEPEST * abs(to_mps - from_mps) / MAX_LONGITUDINAL_MPS2
    turning_s = STEEPEST * math.radians(abs(turn_deg)) * max(from_mps, to_mps) / MAX_LATERAL_MPS2
    shortest_s = max(braking_s, turning_s, 3.0)
    return Manoeuvre(shortest_s * dice.uniform(1.0, 1.6), to_mps, turn_deg)
