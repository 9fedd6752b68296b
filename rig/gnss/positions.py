"""A track of fixes from any number of logs: the nearest fix to an instant, and the place between two of them."""

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from rig.arrays import Float64, Int64, Mask, Numbers
from rig.clock import NS_PER_S
from rig.errors import NoPositionError
from rig.gnss.fix import Fix, horizontal_sigma_m, quality_of
from rig.gnss.fixfiles import read_fixes

GAP_INTERVALS = 2.5  # neighbours further apart than so many usual intervals of their log are not joined
STANDING_MPS = 0.5  # below it the course is noise (p50 55 degrees on a real drive): the last heading is held
JUMP_M, JUMP_MPS2 = 0.5, 1.0  # a step is a jump when it strays by JUMP_M + JUMP_MPS2 dt^2 from what the speed says
IMPOSSIBLE_MPS = 100.0  # there and back at such a speed is one damaged fix
RARE_SHARE = 0.1
SANE_SHARE = 0.5  # of fixes that lie on one way: with less nobody knows on which the car was
RUN_EPOCHS = 12  # fewer at another time are damage, more are a receiver that has set its clock
CURVE_ERROR_SHARE = 0.25  # of the way between line and curve, left as error of the curve (Arrow drive, 1 Hz: 0.23)
UNKNOWN_ACCELERATION_MPS2 = 3.0  # of a car in town, where no speeds are known
HEADING_SIGMA_RAD = math.radians(2.0)
EQUATOR_RADIUS_M, ECCENTRICITY_SQUARED = 6_378_137.0, 6.694_379_990_14e-3  # WGS 84


@dataclass(frozen=True, slots=True)
class Places:
    """Interpolated places, one for each instant asked; NaN where `how` is none.

    `heading_deg` is the direction of travel, held while standing; `sigma_m` is horizontal, one sigma, the error of
    the interpolation included; `how` is hermite, linear or none.
    """

    latitude: Float64
    longitude: Float64
    altitude_m: Float64
    heading_deg: Float64
    speed_mps: Float64
    sigma_m: Float64
    how: list[str]


@dataclass(frozen=True, slots=True)
class Track:
    """Fixes with a position, in time order, no time twice; arrays of one length.

    NaN is unknown, -1 for quality and satellites. `sigma_m` is horizontal, one sigma. Neighbours of one `segment`
    may be interpolated: no gap, no change of quality and no jump lies between them.
    """

    utc_ns: Int64
    latitude: Float64
    longitude: Float64
    altitude_m: Float64
    quality: Int64
    satellites: Int64
    hdop: Float64
    sigma_m: Float64
    speed_mps: Float64
    course_deg: Float64
    segment: Int64

    def __len__(self) -> int:
        return len(self.utc_ns)

    @classmethod
    def load(cls, paths: Sequence[Path]) -> "Track":
        """All positions of our CSV files, NMEA logs, GPX files and films with GPMF, merged.

        Raises UnreadableError for a file that is none of these, NoPositionError when no row has a position and a date.
        """
        return cls.of_logs([read_fixes(path) for path in paths], " ".join(map(str, paths)))

    @classmethod
    def of_logs(cls, logs: Sequence[Sequence[Fix]], name: str = "the log") -> "Track":
        """The track of the fixes of several logs, each in the order in which it was written.

        Raises NoPositionError when there is none with a position and a date, or no way leads through most of them.
        """
        settled = [_settle(log) for log in logs]
        fixes = [fix for log in settled for fix in log]
        if not fixes:
            undated = any(fix.latitude is not None for log in logs for fix in log)
            reason = "its positions have no date (no RMC, no ZDA)" if undated else "no row has a position"
            raise NoPositionError(f"no position in {name or 'nothing'}: {reason}")
        intervals = np.concatenate([np.full(len(log), _usual_interval_ns(log)) for log in settled if log])
        return _build(fixes, intervals, name)

    def nearest(self, utc_ns: Int64, max_gap_s: float) -> Int64:
        """Index of the fix nearest in time to each instant, -1 where none is within `max_gap_s`."""
        after = np.clip(np.searchsorted(self.utc_ns, utc_ns), 1, max(1, len(self) - 1))
        before = after - 1
        after = np.minimum(after, len(self) - 1)
        index = np.where(self.utc_ns[after] - utc_ns < utc_ns - self.utc_ns[before], after, before)
        return np.where(np.abs(self.utc_ns[index] - utc_ns) <= max_gap_s * NS_PER_S, index, -1)

    def interpolate(self, utc_ns: Int64, max_gap_s: float, method: str = "hermite") -> Places:
        """The place at each instant between two fixes of one segment that are at most 2 `max_gap_s` apart.

        hermite: a cubic through both, with speed and course as its ends; linear where these are not known.
        """
        if len(self) < 2:
            none = np.full(len(utc_ns), np.nan)
            return Places(none, none, none, none, none, none, ["none"] * len(utc_ns))
        step = self._steps(utc_ns)
        pair = _Pair(self, step, utc_ns)
        joined = (self.segment[step] == self.segment[step + 1]) & (pair.share >= 0) & (pair.share <= 1)
        joined &= pair.seconds <= 2 * max_gap_s
        curved = joined & pair.has_velocities if method == "hermite" else np.zeros_like(joined)
        return pair.places(joined, curved)

    def headings(self) -> Float64:
        """The course at each fix while driving, the last one while standing; before the first drive, that drive's."""
        moving = np.flatnonzero((self.speed_mps >= STANDING_MPS) & np.isfinite(self.course_deg))
        if len(moving) == 0:
            return np.full(len(self), np.nan)
        last = np.searchsorted(moving, np.arange(len(self)), side="right") - 1
        return self.course_deg[moving[np.maximum(last, 0)]]

    def _steps(self, utc_ns: Int64) -> Int64:
        """Index of the fix before each instant; at a fix that ends its segment, of the one before that."""
        step = np.clip(np.searchsorted(self.utc_ns, utc_ns, side="right") - 1, 0, len(self) - 2)
        ends = (self.utc_ns[step] == utc_ns) & (self.segment[step] != self.segment[step + 1]) & (step > 0)
        return np.asarray(step - ends, dtype=np.int64)


class _Pair:
    """The two fixes around each instant, in metres and seconds from the first of them."""

    def __init__(self, track: Track, step: Int64, utc_ns: Int64) -> None:
        self.track, self.step = track, step
        self.north_m, self.east_m, self.seconds = moves(track, step, step + 1)
        self.share = (utc_ns - track.utc_ns[step]) / NS_PER_S / self.seconds
        self.velocities = [_velocity(track, step), _velocity(track, step + 1)]
        self.has_velocities = np.isfinite(np.sum([*self.velocities[0], *self.velocities[1]], axis=0))

    def places(self, joined: Mask, curved: Mask) -> Places:
        """The places on the curves, else on the lines, else nowhere."""
        bend_north, bend_east = (self._bend(axis, metres) for axis, metres in enumerate((self.north_m, self.east_m)))
        bend_m = np.hypot(bend_north, bend_east)
        guess_m = UNKNOWN_ACCELERATION_MPS2 / 2 * self.share * (1 - self.share) * self.seconds**2
        error_m = np.where(curved, CURVE_ERROR_SHARE * bend_m, np.where(np.isfinite(bend_m), bend_m, guess_m))
        north_m = self.share * self.north_m + np.where(curved, bend_north, 0)
        east_m = self.share * self.east_m + np.where(curved, bend_east, 0)
        track, unknown = self.track, np.where(joined, 0.0, np.nan)
        north_scale, east_scale = _metres_per_degree(track.latitude[self.step])
        return Places(
            latitude=track.latitude[self.step] + north_m / north_scale + unknown,
            longitude=_turn(track.longitude[self.step] + east_m / east_scale) + unknown,
            altitude_m=self._between(track.altitude_m) + unknown,
            heading_deg=self._heading() + unknown,
            speed_mps=self._between(track.speed_mps) + unknown,
            sigma_m=np.hypot(self._between(track.sigma_m), error_m) + unknown,
            how=np.where(curved, "hermite", np.where(joined, "linear", "none")).tolist(),
        )

    def _bend(self, axis: int, metres: Float64) -> Float64:
        """How far the cubic Hermite curve lies from the straight line."""
        u, first, second = self.share, self.velocities[0][axis], self.velocities[1][axis]
        inwards = u * (1 - u) ** 2 * (first * self.seconds - metres)
        return inwards - u**2 * (1 - u) * (second * self.seconds - metres)

    def _between(self, values: Float64) -> Float64:
        return (1 - self.share) * values[self.step] + self.share * values[self.step + 1]

    def _heading(self) -> Float64:
        radians = np.radians(self.track.headings())
        east, north = self._between(np.sin(radians)), self._between(np.cos(radians))
        return np.degrees(np.arctan2(east, north)) % 360


def lever_arm(places: Places, arm_m: Sequence[float]) -> Places:
    """The camera's places from the antenna's: `arm_m` is camera minus antenna, forward, right and up.

    Where no heading is known the place stays, and its sigma grows by the arm.
    """
    forward_m, right_m, up_m = arm_m
    length_m = math.hypot(forward_m, right_m)
    heading = np.radians(places.heading_deg)
    known = np.isfinite(heading)
    sin, cos = np.where(known, np.sin(heading), 0), np.where(known, np.cos(heading), 0)
    north_scale, east_scale = _metres_per_degree(places.latitude)
    return replace(
        places,
        latitude=places.latitude + (forward_m * cos - right_m * sin) / north_scale,
        longitude=_turn(places.longitude + (forward_m * sin + right_m * cos) / east_scale),
        altitude_m=places.altitude_m + up_m,
        sigma_m=np.hypot(places.sigma_m, np.where(known, HEADING_SIGMA_RAD, 1.0) * length_m),
    )


def moves(track: Track, first: slice | Int64, second: slice | Int64) -> tuple[Float64, Float64, Float64]:
    """Metres north, metres east and seconds between two selections of the fixes."""
    north_scale, east_scale = _metres_per_degree(track.latitude[first])
    north_m = (track.latitude[second] - track.latitude[first]) * north_scale
    east_m = _turn(track.longitude[second] - track.longitude[first]) * east_scale
    return north_m, east_m, (track.utc_ns[second] - track.utc_ns[first]) / NS_PER_S


def _settle(log: Sequence[Fix]) -> list[Fix]:
    """The fixes of one log with a position and a time, in time order, without those at times the receiver took back.

    A receiver that sets its clock back contradicts what it said of the same time before: the later word counts, if
    it goes on for a while. A few fixes at another time are damage that the checksum did not see.
    """
    kept: list[Fix] = []
    for run in filter(None, _runs(log)):
        agreed = bisect.bisect_left(kept, _time(run[0]), key=_time)
        if len(run) >= min(RUN_EPOCHS, len(kept) - agreed + 1):
            del kept[agreed:]
        kept += [fix for fix in run if not kept or _time(fix) > _time(kept[-1])]
    return kept


def _runs(log: Sequence[Fix]) -> Iterator[list[Fix]]:
    """Parts of a log in which the time goes forward in the usual steps."""
    often = sum("conflict" in fix.flags for fix in log) > RARE_SHARE * len(log)  # a receiver that rounds one of the two
    doubtful = {"leap"} if often else {"leap", "conflict"}
    dated = [fix for fix in log if fix.utc_ns is not None and _is_place(fix) and doubtful.isdisjoint(fix.flags)]
    steps_ns = np.diff([_time(fix) for fix in dated])
    ends = np.flatnonzero((steps_ns <= 0) | (steps_ns > GAP_INTERVALS * _usual_interval_ns(dated))) + 1
    for start, end in pairwise([0, *ends.tolist(), len(dated)]):
        yield dated[start:end]


def _is_place(fix: Fix) -> bool:
    if fix.latitude is None or fix.longitude is None:
        return False
    nowhere = fix.latitude == 0 and fix.longitude == 0  # what programs write that know no fix
    return abs(fix.latitude) <= 90 and abs(fix.longitude) <= 180 and not nowhere


def _time(fix: Fix) -> int:
    return fix.utc_ns or 0


def _usual_interval_ns(log: Sequence[Fix]) -> float:
    steps_ns = np.diff([_time(fix) for fix in log])
    forward_ns = steps_ns[steps_ns > 0]
    return float(np.median(forward_ns)) if len(forward_ns) else 0.0


def _build(fixes: Sequence[Fix], intervals_ns: Float64, name: str) -> Track:
    times = np.array([_time(fix) for fix in fixes], dtype=np.int64)
    _, order = np.unique(times, return_index=True)  # sorts, and keeps the first of each time
    track = Track(
        utc_ns=times,
        latitude=_floats(fix.latitude for fix in fixes),
        longitude=_floats(fix.longitude for fix in fixes),
        altitude_m=_floats(fix.altitude_m for fix in fixes),
        quality=np.array([quality_of(fix) for fix in fixes], dtype=np.int64),
        satellites=np.array([-1 if fix.satellites is None else fix.satellites for fix in fixes], dtype=np.int64),
        hdop=_floats(fix.hdop for fix in fixes),
        sigma_m=_floats(horizontal_sigma_m(fix) for fix in fixes),
        speed_mps=_floats(fix.speed_mps for fix in fixes),
        course_deg=_floats(fix.course_deg for fix in fixes),
        segment=np.zeros(len(fixes), dtype=np.int64),
    )
    track, intervals_ns = _take(track, order), intervals_ns[order]
    for strays in (_strays, _excursions):
        sane = ~strays(track)
        if np.mean(sane) < SANE_SHARE:
            raise NoPositionError(
                f"no position in {name}: its fixes take turns between places far apart, as of two receivers in one log",
                cure="give the log of one receiver, or each one's in a file of its own",
            )
        track, intervals_ns = _take(track, sane), intervals_ns[sane]
    if len(track) < 2:
        return track
    gaps = np.diff(track.utc_ns) > GAP_INTERVALS * np.maximum(intervals_ns[1:], intervals_ns[:-1])
    breaks = gaps | (np.diff(track.quality) != 0) | _jumps(track)
    return _with_motion(replace(track, segment=np.concatenate([[0], np.cumsum(breaks)])))


def _floats(values: Iterator[float | None]) -> Float64:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _take(track: Track, index: Numbers) -> Track:
    return Track(*(getattr(track, name)[index] for name in Track.__slots__))


def _strays(track: Track) -> Mask:
    """Single fixes far off their neighbours: damage that the checksum did not see."""
    strays = np.zeros(len(track), dtype=np.bool_)
    if len(track) > 2:
        north_m, east_m, seconds = moves(track, slice(None, -1), slice(1, None))
        fast = np.hypot(north_m, east_m) > IMPOSSIBLE_MPS * seconds
        north_m, east_m, seconds = moves(track, slice(None, -2), slice(2, None))
        strays[1:-1] = fast[:-1] & fast[1:] & (np.hypot(north_m, east_m) < IMPOSSIBLE_MPS * seconds)
        strays[[0, -1]] = fast[0] and not fast[1], fast[-1] and not fast[-2]
    return strays


def _excursions(track: Track) -> Mask:
    """Single fixes that jump away and back again, while the way past them is smooth."""
    away = np.zeros(len(track), dtype=np.bool_)
    if len(track) > 4:
        jumps = _jumps(track)
        for number in np.flatnonzero(jumps[:-1] & jumps[1:]) + 1:
            around = _take(track, np.array([n for n in range(number - 2, number + 3) if n != number]) % len(track))
            away[number] = 2 <= number < len(track) - 2 and not _jumps(around)[1] and not away[number - 1]
    return away


def _jumps(track: Track) -> Mask:
    """Steps that the speeds at both ends do not explain; without speeds, those that differ from both next to them."""
    north_m, east_m, seconds = moves(track, slice(None, -1), slice(1, None))
    north_mps, east_mps = _velocity(track, np.arange(len(track)))
    by_speed = [
        np.abs(metres - (mps[1:] + mps[:-1]) / 2 * seconds)
        for metres, mps in ((north_m, north_mps), (east_m, east_mps))
    ]
    astray_m, turning_mps2 = np.hypot(*by_speed), np.full(len(seconds), JUMP_MPS2)
    if len(track) > 2:
        change = np.hypot(np.diff(north_m / seconds), np.diff(east_m / seconds))
        either = np.fmin(np.append(change, np.nan), np.insert(change, 0, np.nan)) * seconds
        known = np.isfinite(astray_m)
        astray_m = np.where(known, astray_m, either)
        turning_mps2[~known] = UNKNOWN_ACCELERATION_MPS2  # of steps alone, a curve looks like a small jump
    return np.nan_to_num(astray_m) > JUMP_M + turning_mps2 * seconds**2


def _with_motion(track: Track) -> Track:
    """Speed and course from the positions on both sides, where the receiver said none."""
    lacking = np.isnan(track.speed_mps)
    without_course = lacking | (np.isnan(track.course_deg) & (track.speed_mps >= STANDING_MPS))
    if not without_course.any():
        return track
    index = np.arange(len(track))
    before = np.where(np.insert(np.diff(track.segment), 0, 1) == 0, index - 1, index)
    after = np.where(np.append(np.diff(track.segment), 1) == 0, index + 1, index)
    north_m, east_m, seconds = moves(track, before, after)
    seconds = np.where(after > before, seconds, np.nan)
    courses = np.where(after > before, np.degrees(np.arctan2(east_m, north_m)) % 360, np.nan)
    return replace(
        track,
        speed_mps=np.where(lacking, np.hypot(north_m, east_m) / seconds, track.speed_mps),
        course_deg=np.where(without_course, courses, track.course_deg),
    )


def _velocity(track: Track, index: Int64) -> tuple[Float64, Float64]:
    """m/s to the north and to the east; a receiver that stands says no course."""
    speed = track.speed_mps[index]
    course = np.where(speed < STANDING_MPS, np.nan_to_num(track.course_deg[index]), track.course_deg[index])
    radians = np.radians(course)
    return speed * np.cos(radians), speed * np.sin(radians)


def _metres_per_degree(latitude: Float64) -> tuple[Float64, Float64]:
    """Length of a degree of latitude and of longitude on the ellipsoid."""
    radians = np.radians(latitude)
    root = np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(radians) ** 2)
    north = EQUATOR_RADIUS_M * (1 - ECCENTRICITY_SQUARED) / root**3
    east = EQUATOR_RADIUS_M / root * np.maximum(np.cos(radians), 1e-9)  # a pole has no east
    return np.radians(1) * north, np.radians(1) * east


def _turn(degrees: Float64) -> Float64:
    """Within half a turn of zero, across the date line too."""
    return np.where(np.abs(degrees) <= 180, degrees, (degrees + 180) % 360 - 180)
