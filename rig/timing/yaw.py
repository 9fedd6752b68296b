"""The alarm from the drive itself: does the camera turn when the fixes say the car turns?

The gyro of a camera's file, dated by the camera's clock, is compared with the course of the fixes. Three things make
the course differ from where the car points: the clock being wrong, the antenna being ahead of the rear axle, tyres
slipping in bends. All three are fitted by least squares on the angle. It is a check, never a correction.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rig.arrays import Float64, Int64, Numbers
from rig.clock import NS_PER_S, SIGMAS_IN_99_PERCENT
from rig.footage.video import Video
from rig.gnss.positions import Track, moves
from rig.timing.calibration import telemetries

RTK_FIXED = 4
MIN_RTK_SHARE = 0.7
MIN_SECONDS, MIN_TURNED_RAD = 120.0, math.radians(360.0)  # of driving; four corners
MAX_SECONDS = 1200.0  # 20 minutes give 3 ms: more only costs time
MIN_SPEED_MPS = 3.0  # slower, the course of two fixes is noise
CHORD_S, MAX_CHORD_S = 0.2, 2.0  # the course is taken over at least this, and at most that
GYRO_GAP_S = 0.1
REACH_S, STEP_S, COARSE_S = 5.0, 0.05, 0.8  # how wrong a clock is looked for, in which steps, by chords how far apart
FIX_SIGMA_M, ANGLE_SIGMA_RAD = 0.015, math.radians(0.1)  # of an RTK fix; of a car's and a mount's shaking
WALK_RAD2_PER_S = math.radians(0.04) ** 2  # the angle of a gyro with 0.5 degrees/s of noise at 200 Hz
BLOCK_S, DRIVEN_S = 30.0, 8.0  # the gyro's zero drifts over longer; of each so much must be driving
OUTLIER_RATIO = 3.0
ALARM_MS = 20.0
WIDEST_BAR_MS = 100.0  # a wider one says nothing
WORST_NOISE, COARSE_RAD = 20.0, math.radians(6.0)
ROUNDS = 4
# What is known before looking: nothing of the offset; of the gyro's scale (and of where up is), of the lever arm in m
# and of tyre slip in rad per m/s2 what cars and cameras have. In corners of much the same speed these look alike.
PRIOR, PRIOR_SIGMA = np.array([0.0, 0.0, 1.5, 0.003]), np.array([1e3, 0.01, 1.5, 0.0015])
SECOND_DIFFERENCE = 0.6745 * math.sqrt(6)  # median size of a second difference of noise of one sigma

Verdict = Literal["ok", "alarm", "unknown"]


@dataclass(frozen=True, slots=True)
class Turning:
    """How fast a camera turns about the vertical, either way counted positive; PTS as its clock takes them."""

    pts_ns: Int64
    rate_rad_s: Float64


@dataclass(frozen=True, slots=True)
class DriveCheck:
    """What the drive says of a camera's clock; None is what it cannot say, `why` tells the reason in words.

    `offset_ms` is the clock's UTC minus that of the fixes, receiver's delay included; `bar_ms` is its half-width. The
    lever arm is that of the antenna ahead of the rear axle, slip the angle per sideways acceleration.
    """

    verdict: Verdict
    why: str
    offset_ms: float | None = None
    bar_ms: float | None = None
    lever_arm_m: float | None = None
    slip_rad_per_mps2: float | None = None
    seconds: float = 0.0
    turned_deg: float = 0.0
    rtk_share: float = 0.0


def read_turning(item: Video) -> Turning | None:
    """The turning of a video, by gravity about the vertical, however the camera is mounted; None where none is told."""
    parts = []
    for clip, telemetry in telemetries(item):
        gyro, forces = telemetry.gyro(), telemetry.series("ACCL")
        if gyro is not None and forces is not None:
            up = forces.values.mean(axis=0)
            up /= max(float(np.linalg.norm(up)), 1e-9)
            parts.append((gyro.pts_ns + clip.clock_offset_ns, gyro.values @ up))
    if not parts:
        return None
    pts_ns, rates = zip(*parts, strict=True)
    return Turning(np.concatenate(pts_ns), np.concatenate(rates))


def check_video(item: Video, track: Track, clock: Callable[[Int64], Int64]) -> DriveCheck | None:
    """`check_drive` of a video; None for a stream and for films without a gyro."""
    turning = read_turning(item)
    return None if turning is None else check_drive(turning, track, clock)


def check_drive(gyro: Turning, track: Track, clock: Callable[[Int64], Int64]) -> DriveCheck:
    """Compare a camera's turning, dated by `clock` (PTS to UTC, both ns), with the course of the fixes."""
    utc_ns = clock(gyro.pts_ns)
    if len(track) < 2 or len(utc_ns) < 2 or utc_ns[0] > track.utc_ns[-1] or utc_ns[-1] < track.utc_ns[0]:
        return DriveCheck("unknown", "the file and the fixes are of different times")
    angle = _Angle.of(utc_ns, gyro.rate_rad_s)
    chords, rtk_share = _chords(track, angle)
    chords = _most_turning(chords, angle)
    facts = {"seconds": round(chords.seconds, 1), "rtk_share": round(rtk_share, 3)}
    facts["turned_deg"] = round(math.degrees(chords.turned_rad), 1)
    why = _too_little(chords, rtk_share)
    if why:
        return DriveCheck("unknown", why, **facts)
    return _verdict(_fit(chords, angle), facts)


def _too_little(chords: "_Chords", rtk_share: float) -> str:
    if rtk_share < MIN_RTK_SHARE:
        return f"only {rtk_share:.0%} of the fixes are RTK fixed: their course is too coarse"
    if chords.seconds > MAX_CHORD_S * len(chords.from_s):
        return f"the fixes are further apart than {MAX_CHORD_S:.0f} s"
    if chords.noise_rad > COARSE_RAD:
        return f"the course of the fixes is only good to {math.degrees(chords.noise_rad):.0f} degrees"
    if chords.seconds < MIN_SECONDS:
        return f"only {chords.seconds:.0f} s of driving: {MIN_SECONDS:.0f} s are needed"
    if chords.turned_rad < MIN_TURNED_RAD:
        return f"only {math.degrees(chords.turned_rad):.0f} degrees of turning: four corners are needed"
    return ""


def _verdict(fit: "_Fit", facts: dict[str, float]) -> DriveCheck:
    if fit.noise > WORST_NOISE or abs(fit.offset_s) > REACH_S - STEP_S:
        why = f"the camera's turning fits the fixes nowhere within {REACH_S:.0f} s: a wrong time, or another drive"
        return DriveCheck("alarm", why, **facts)
    offset_ms, bar_ms = fit.offset_s * 1000, SIGMAS_IN_99_PERCENT * fit.sigma_s * 1000
    if bar_ms > WIDEST_BAR_MS:
        return DriveCheck("unknown", f"the drive only tells the time within {bar_ms:.0f} ms", **facts)
    is_off = abs(offset_ms) > bar_ms + ALARM_MS
    why = f"the drive says {offset_ms:+.0f} ms, within {bar_ms:.0f} ms"
    return DriveCheck(
        "alarm" if is_off else "ok",
        why,
        offset_ms=round(offset_ms, 1),
        bar_ms=round(bar_ms, 1),
        lever_arm_m=round(float(fit.found[2]), 3),
        slip_rad_per_mps2=round(float(fit.found[3]), 5),
        **facts,
    )


@dataclass(frozen=True, slots=True)
class _Angle:
    """The integrals of the gyro over seconds from `zero_ns`: the angle, and the angle's own, to have means of it."""

    zero_ns: int
    at_s: Float64
    angle: Float64
    area: Float64

    @classmethod
    def of(cls, utc_ns: Int64, rate: Float64) -> "_Angle":
        """Of the longest stretch without a gap."""
        ends = np.flatnonzero(np.diff(utc_ns) > GYRO_GAP_S * NS_PER_S) + 1
        runs = np.split(np.arange(len(utc_ns)), ends)
        run = max(runs, key=len)
        at_s = (utc_ns[run] - utc_ns[run[0]]) / NS_PER_S
        angle = _integral(at_s, rate[run])
        return cls(int(utc_ns[run[0]]), at_s, angle, _integral(at_s, angle))

    def means(self, from_s: Float64, until_s: Float64) -> tuple[Float64, Float64]:
        """Mean angle and mean rate between instants."""
        areas = np.interp(until_s, self.at_s, self.area) - np.interp(from_s, self.at_s, self.area)
        turns = np.interp(until_s, self.at_s, self.angle) - np.interp(from_s, self.at_s, self.angle)
        return areas / (until_s - from_s), turns / (until_s - from_s)


def _integral(at_s: Float64, values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(np.diff(at_s) * (values[1:] + values[:-1]) / 2)])


@dataclass(frozen=True, slots=True)
class _Chords:
    """Straight lines between fixes of a moving car: when, where to (radians, counter-clockwise) and how far."""

    from_s: Float64
    until_s: Float64
    direction: Float64
    length_m: Float64

    @property
    def seconds(self) -> float:
        return float((self.until_s - self.from_s).sum())

    @property
    def turned_rad(self) -> float:
        """Turning by the fixes, without their noise: from second to second."""
        if len(self.from_s) < 2:
            return 0.0
        _, first = np.unique(np.floor(self.from_s / 2), return_index=True)
        steps = np.angle(np.exp(1j * np.diff(self.direction[first])))
        near = np.diff(self.from_s[first]) < 5.0
        return float(np.abs(steps[near & (np.abs(steps) > math.radians(5.0))]).sum())

    @property
    def noise_rad(self) -> float:
        """How much the course jumps about, from one chord to the next."""
        if len(self.from_s) < 3:
            return 0.0
        steps = np.angle(np.exp(1j * np.diff(self.direction)))
        return float(np.median(np.abs(np.diff(steps)))) / SECOND_DIFFERENCE

    def take(self, index: Numbers) -> "_Chords":
        return _Chords(self.from_s[index], self.until_s[index], self.direction[index], self.length_m[index])


def _chords(track: Track, angle: _Angle) -> tuple[_Chords, float]:
    """The chords within the gyro's time and reach, and the share of RTK among the fixes of the drive."""
    at_s = (track.utc_ns - angle.zero_ns) / NS_PER_S
    inside = (at_s > REACH_S) & (at_s < angle.at_s[-1] - REACH_S)
    is_fixed = track.quality == RTK_FIXED
    rtk_share = float(is_fixed[inside].mean()) if inside.any() else 0.0
    first, second = _partners(at_s)
    north_m, east_m, seconds = moves(track, first, second)
    length_m = np.hypot(north_m, east_m)
    good = inside[first] & inside[second] & is_fixed[first] & is_fixed[second]
    good &= (track.segment[first] == track.segment[second]) & (length_m > MIN_SPEED_MPS * seconds)
    chords = _Chords(at_s[first], at_s[second], np.arctan2(north_m, east_m), length_m)
    chords = chords.take(good)
    block = np.floor(chords.from_s / BLOCK_S).astype(int)
    driven_s = np.bincount(block, chords.until_s - chords.from_s)
    return chords.take(driven_s[block] >= DRIVEN_S), rtk_share


def _partners(at_s: Float64) -> tuple[Int64, Int64]:
    """Pairs of fixes at least a chord apart, one after another."""
    stride = max(1, math.ceil(CHORD_S / max(float(np.median(np.diff(at_s))), 1e-3) - 0.1))
    index = np.arange(0, len(at_s), min(stride, len(at_s) - 1))
    return index[:-1], index[1:]


def _most_turning(chords: _Chords, angle: _Angle) -> _Chords:
    """The part of a long drive that says most."""
    parts = max(1, math.ceil(float(angle.at_s[-1]) / MAX_SECONDS))
    part = np.floor(chords.from_s / (angle.at_s[-1] + 1) * parts).astype(int)
    return max((chords.take(part == at) for at in range(parts)), key=lambda some: some.turned_rad)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Offset with its sigma; `found` are its last step, scale, lever arm and slip; `noise` should be near 1."""

    offset_s: float
    sigma_s: float
    found: Float64
    noise: float


def _fit(chords: _Chords, angle: _Angle) -> _Fit:
    """Coarsely by looking at all offsets and both senses of turning, then by Gauss and Newton without outliers."""
    every = max(1, int(COARSE_S * len(chords.from_s) / chords.seconds))
    few = _Problem(chords.take(np.arange(len(chords.from_s)) % every == 0), angle)
    offsets = np.arange(-REACH_S, REACH_S + STEP_S / 2, STEP_S).tolist()
    _, offset_s, sense = min((few.misfit(at_s, sense), at_s, sense) for sense in (1.0, -1.0) for at_s in offsets)
    problem = _Problem(chords, angle)
    problem = _Problem(problem.usual(offset_s, sense), angle)
    fit = problem.solve(offset_s, sense)
    for _ in range(ROUNDS):
        if abs(fit.offset_s) > REACH_S:
            break
        fit = problem.solve(fit.offset_s, sense)
    return fit


class _Problem:
    """Direction of each chord = turned angle + what offset, scale, lever arm and slip do to it, block by block.

    In each block the angle begins anew and the gyro has a zero of its own. What is left is made white before it is
    squared: the error of the gyro's angle adds up, that of two neighbouring chords, which share a fix, cancels.
    """

    def __init__(self, chords: _Chords, angle: _Angle) -> None:
        block = np.floor(chords.from_s / BLOCK_S)
        self.blocks = [np.flatnonzero(block == at) for at in np.unique(block)]
        self.chords, self._angle = chords, angle
        self._speed = chords.length_m / (chords.until_s - chords.from_s)
        self._whiteners = [_whitener(chords.take(index)) for index in self.blocks]

    def _equations(self, offset_s: float, sense: float) -> list[Float64]:
        """White, by block: the columns of offset, scale, lever arm, slip; last the angles to explain."""
        angle, rate = self._angle.means(self.chords.from_s + offset_s, self.chords.until_s + offset_s)
        angle, rate = sense * angle, sense * rate
        rest = np.unwrap(self.chords.direction - angle)
        table = np.column_stack([rate, angle, rate / self._speed, -rate * self._speed, rest])
        return [white @ table[index] for index, white in zip(self.blocks, self._whiteners, strict=True)]

    def misfit(self, offset_s: float, sense: float) -> float:
        """Mean square of what is left with lever arm and slip fitted."""
        table = np.concatenate(self._equations(offset_s, sense))
        columns, rest = table[:, 2:4], table[:, 4]
        return float(np.mean((rest - columns @ np.linalg.lstsq(columns, rest, rcond=None)[0]) ** 2))

    def usual(self, offset_s: float, sense: float) -> _Chords:
        """The chords of blocks that fit about as well as most: in others a hand was at the camera, or fixes jumped."""
        tables = self._equations(offset_s, sense)
        found = self.solve(offset_s, sense).found
        left = np.array([np.sqrt(np.mean((table[:, 4] - table[:, :4] @ found) ** 2)) for table in tables])
        good = np.flatnonzero(left <= OUTLIER_RATIO * np.median(left))
        return self.chords.take(np.concatenate([self.blocks[at] for at in good]))

    def solve(self, offset_s: float, sense: float) -> _Fit:
        """A step of the offset, and how sure it is."""
        tables = self._equations(offset_s, sense)
        table = np.concatenate(tables)
        columns, rest = table[:, :4], table[:, 4]
        noise = _noise(tables, np.asarray(np.linalg.lstsq(columns, rest, rcond=None)[0], dtype=np.float64))
        inverse = np.linalg.inv(columns.T @ columns / noise + np.diag(PRIOR_SIGMA**-2))
        found = inverse @ (columns.T @ rest / noise + PRIOR * PRIOR_SIGMA**-2)
        return _Fit(offset_s + float(found[0]), math.sqrt(inverse[0, 0]), found, math.sqrt(noise))


def _noise(tables: Sequence[Float64], found: Float64) -> float:
    """Variance of what should have variance 1, as single chords tell it, or blocks, if these disagree more."""
    left = [table[:, 4] - table[:, :4] @ found for table in tables]
    pulls = np.array([table[:, :4].T @ rest for table, rest in zip(tables, left, strict=True)])
    columns = np.concatenate(tables)[:, :4]
    spread = np.trace(np.linalg.pinv(columns.T @ columns) @ pulls.T @ pulls) / len(found)
    by_block = float(spread) * len(tables) / max(len(tables) - len(found), 1)
    return max(float(np.mean(np.concatenate(left) ** 2)), by_block, 1e-9)


def _whitener(chords: _Chords) -> Float64:
    """What makes the errors of a block's angles white, without their level and their slope."""
    at_s = chords.from_s - chords.from_s[0]
    covariance = WALK_RAD2_PER_S * np.minimum.outer(at_s, at_s) + np.diag(
        ANGLE_SIGMA_RAD**2 + 2 * (FIX_SIGMA_M / chords.length_m) ** 2
    )
    shared = np.flatnonzero(chords.until_s[:-1] == chords.from_s[1:])
    common = FIX_SIGMA_M**2 / (chords.length_m[shared] * chords.length_m[shared + 1])
    covariance[shared, shared + 1] -= common
    covariance[shared + 1, shared] -= common
    white = np.linalg.inv(np.linalg.cholesky(covariance))
    drift = np.linalg.qr(white @ np.column_stack([np.ones_like(at_s), at_s]))[0]
    return np.asarray(white - drift @ (drift.T @ white))
