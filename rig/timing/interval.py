"""The clock of one film from the bounds of each reading: after the code's light, before that of the next one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.timing.codelog import CodeLog, holder
from rig.timing.qrtime import TICK_NS, TimeCode

MIN_READINGS = 3  # below this one wrong reading cannot be told from a right one

# How a reading may lie outside its bounds, and how probable that is.
BLUR_NS = (0.02 * NS_PER_MS, 0.3 * NS_PER_MS, 1.0 * NS_PER_MS, 3.0 * NS_PER_MS)  # of changes that last 0 to 25 ms
BLUR_SHARES = (0.5, 0.17, 0.17, 0.16)
LATE_SHARES = (0.01, 0.05, 0.2)  # of refreshes that the page missed or drew late: the old code stays
MOST_LATE = 3  # refreshes in a row that a code may stay too long
WRONG_SHARE = 0.004
EVEN_CODES = 10  # fewer say too little of how evenly a page draws
GRID_NS = 0.05 * NS_PER_MS
TAIL = 0.0025  # on each side: the interval holds 99.5 %, the rest of 1 % is for what no model knows
# What codes tell of the screen
MIN_REFRESH_NS, MAX_REFRESH_NS = 5 * NS_PER_MS, 40 * NS_PER_MS  # 200 Hz to 25 Hz
STEPS_HZ = np.arange(50.0, 200.0, 0.02)  # of screens; a lower one would be that of the camera
STEP_SPAN_NS = 4 * NS_PER_S  # within which such a step makes a tenth of a turn
AS_LIKELY = 0.98
FOLLOWING_FRAME_NS = 100 * NS_PER_MS  # within this the sequence digit cannot have gone round


@dataclass(frozen=True, slots=True)
class Observation:
    """A code read in the frame at `pts_ns`, its centre at `row` (0 top, 1 bottom of the picture)."""

    pts_ns: int
    code: TimeCode
    row: float = 0.5
    screen: int = 0  # which of the codes in the picture, when there were several

    @property
    def offset_ns(self) -> int:
        """The time in the code minus the PTS."""
        return self.code.utc_ns - self.pts_ns


@dataclass(frozen=True, slots=True)
class Interval:
    """UTC minus PTS of the middle row, the display's delay left out; its half-width, and how many pictures tell it."""

    offset_ns: float
    half_width_ns: float
    pictures: int


def measure(fresh: Sequence[Observation], delay_ns: Int64, refresh_ns: int, logs: Sequence[CodeLog]) -> Interval:
    """The range that the bounds of all readings leave; `delay_ns` is taken off each reading's offset.

    Strict bounds cover the truth in 72 to 91 % of films only, as a late or half-mixed picture breaks them. So a bound
    is soft by the blur of an exposure, and a broken one has its price: what is left is the range that holds 99.5 %,
    whatever the blur and the share of late refreshes were.
    """
    offsets = np.array([o.offset_ns for o in fresh], dtype=np.int64) - delay_ns
    base = round(float(np.median(offsets)))
    lost, resolution, all_lost = _last_digits(fresh, refresh_ns)
    lower = (offsets - base).astype(np.float64) + lost
    upper = lower + np.array([_lit_ns(o, refresh_ns, logs) for o in fresh], dtype=np.float64)
    grid = np.arange(-2.0 * refresh_ns, 2.5 * refresh_ns, GRID_NS)
    chance = np.full(len(grid), -np.inf)
    for blur, share in zip(BLUR_NS, BLUR_SHARES, strict=True):
        begun = _passed(grid, lower, resolution, blur)
        ended = [_passed(grid, upper + turns * refresh_ns, resolution, blur) for turns in range(MOST_LATE + 1)]
        stays = [before * (1 - after) for before, after in pairwise([begun, *ended])]
        for late in LATE_SHARES:
            seen = sum((1 - late) * late**turns * stay for turns, stay in enumerate(stays))
            chance = np.logaddexp(chance, np.log(share) + np.log(seen + WRONG_SHARE).sum(axis=1))
    mean, half_width = likely_range(grid, chance)
    kept = int(((mean > lower - BLUR_NS[2]) & (mean < upper + resolution + BLUR_NS[2])).sum())
    return Interval(base + mean, half_width + all_lost, kept)


def likely_range(grid: Float64, log_chance: Float64) -> tuple[float, float]:
    """Mean and half-width of the range that holds 99.5 % of what is so probable at each place of a grid."""
    weights = np.exp(log_chance - log_chance.max())
    weights /= weights.sum()
    mean = float((weights * grid).sum())
    low, high = np.interp([TAIL, 1 - TAIL], np.cumsum(weights), grid)
    return mean, max(mean - float(low), float(high) - mean)


def refresh_of(film: Sequence[Observation], nominal_ns: int) -> int:
    """The screen's refresh time as the codes themselves tell it; the nominal one when they do not."""
    steps = [
        (new.code.utc_ns - old.code.utc_ns) / turns
        for old, new in pairwise(film)
        if new.pts_ns - old.pts_ns <= FOLLOWING_FRAME_NS and (turns := _turns(old.code, new.code))
    ]
    measured = float(np.median(steps)) if len(steps) >= MIN_READINGS else _common_step_ns(film, nominal_ns)
    return round(measured) if MIN_REFRESH_NS <= measured <= MAX_REFRESH_NS else nominal_ns


def _passed(grid: Float64, bound: Float64, resolution: Float64, blur: float) -> Float64:
    """How surely an offset lies above a bound that is known within the code's last digit and an exposure's blur."""
    return np.asarray(np.clip((grid[:, None] - bound + blur) / (2 * blur + resolution), 0, 1))


def _last_digits(fresh: Sequence[Observation], refresh_ns: int) -> tuple[Float64, Float64, float]:
    """What the last digits cut off of the codes' times, in ns: at best, how much more for each, and how far all may be.

    Of one code that says whole milliseconds nobody knows it. A screen's refreshes are evenly spaced, so many codes do
    tell. Where all pictures are taken at one moment between two refreshes each doubt would count as often as there are
    pictures, so what is the same for all is no doubt of each.
    """
    resolution = np.array([o.code.resolution_ns for o in fresh], dtype=np.float64)
    if resolution.max() <= TICK_NS:
        return resolution / 2, np.zeros(len(fresh)), TICK_NS / 2
    times = np.array([o.code.utc_ns - fresh[0].code.utc_ns for o in fresh], dtype=np.float64)
    even = _evenly_spaced(times, refresh_ns)
    low, high = float((times - even).max()), float((times + resolution - even).min())
    if low > high or len(fresh) < EVEN_CODES:
        return np.zeros(len(fresh)), resolution, 0.0
    return even + (low + high) / 2 - times, np.zeros(len(fresh)), high - low


def _evenly_spaced(times: Float64, refresh_ns: int) -> Float64:
    """The line through times that are multiples of a refresh, which is known too roughly to count a film at once."""
    step, first = float(refresh_ns), 0.0
    for _ in range(2):
        number = np.rint((times - first) / step)
        if not np.ptp(number):
            break
        step, first = np.polyfit(number, times, 1)
    return np.asarray(first + step * number)


def _lit_ns(o: Observation, refresh_ns: int, logs: Sequence[CodeLog]) -> int:
    """How long a code stood: as the page's log says, else one refresh."""
    log = holder(logs, o.code.utc_ns)
    following = log.next_ns(o.code.utc_ns) if log else None
    return following - o.code.utc_ns if following is not None else refresh_ns


def _common_step_ns(film: Sequence[Observation], nominal_ns: int) -> float:
    """The refresh time of which the times of all codes are multiples; the nominal one where it explains them as well.

    A camera that is in step with the screen sees only each second or third code: then nothing tells which step it is.
    """
    times = np.array([o.code.utc_ns - film[0].code.utc_ns for o in film if o.code.sequence is None], dtype=np.float64)
    if len(times) < MIN_READINGS:
        return nominal_ns
    turns = times[times <= STEP_SPAN_NS] / NS_PER_S * STEPS_HZ[:, None]
    is_likely = (likeness := np.abs(np.exp(2j * np.pi * turns).mean(axis=1))) > AS_LIKELY * likeness.max()
    if is_likely[np.abs(STEPS_HZ * nominal_ns / NS_PER_S - 1) < 0.01].any():
        return nominal_ns
    return float(NS_PER_S / STEPS_HZ[np.argmax(is_likely)])


def _turns(old: TimeCode, new: TimeCode) -> int:
    """Refreshes between two codes by their sequence digits; 0 when unknown."""
    if old.sequence is None or new.sequence is None:
        return 0
    return (new.sequence - old.sequence) % 10
