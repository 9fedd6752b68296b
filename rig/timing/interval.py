"""The clock of one film from the bounds of each reading: after the code's light, before that of the next one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rig.arrays import Float64, Int64, Mask
from rig.clock import NS_PER_MS, NS_PER_S
from rig.timing.codelog import CodeLog, holder
from rig.timing.qrtime import TICK_NS, TimeCode

MIN_READINGS = 3  # below this one wrong reading cannot be told from a right one

# How a reading may lie outside its bounds, and how probable that is.
BLUR_NS = (0.02 * NS_PER_MS, 0.3 * NS_PER_MS, 1.0 * NS_PER_MS, 3.0 * NS_PER_MS)  # of changes that last 0 to 25 ms
BLUR_SHARES = (0.5, 0.17, 0.17, 0.16)
LATE_SHARES = (0.01, 0.05, 0.2, 0.35, 0.5, 0.7)  # of refreshes that the page missed or drew late: the old code stays
MOST_LATE = 8  # refreshes in a row that a code may stay too long
LATE_CHANCES = np.array([[(1 - late) * late**turns for turns in range(MOST_LATE + 1)] for late in LATE_SHARES])
WRONG_SHARE = 0.004
SLOW_SHARE = 0.4  # of pictures that show the code of the one before: the page is slower than the camera
NEXT_PICTURE_NS = 70 * NS_PER_MS  # within this follows the next picture
STOOD_NS = 10 * NS_PER_S  # longer than any code stands
EVEN_ERROR_NS = 0.15 * NS_PER_MS  # of the line through such times
EVEN_CODES = 10  # fewer say too little of how evenly a page draws
GRID_NS = 0.05 * NS_PER_MS
AT_ONCE = 50  # readings: a page that stays in view for minutes must not fill the memory
TAIL = 0.0025  # on each side: the interval holds 99.5 %, the rest of 1 % is for what no model knows
# What codes tell of the screen
MIN_REFRESH_NS, MAX_REFRESH_NS = 5 * NS_PER_MS, 80 * NS_PER_MS  # 200 Hz to a page that draws each fifth time
STEPS_HZ = np.arange(12.5, 200.0, 0.02)
SCREEN_HZ = 49.5  # no screen is slower; a page may be, if its step is not that of the camera
CAMERA_STEP = 0.02  # how near its frequency is to a multiple or a fraction of the camera's
NOMINAL_STEP = 0.01  # how near it is to the nominal one
STEP_SPAN_NS = 4 * NS_PER_S  # within which an error of STEPS_HZ makes less than a tenth of a turn
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


def is_slow(film: Sequence[Observation]) -> bool:
    """Whether the page draws so seldom, or misses so many refreshes, that most codes are seen more than once."""
    following = [(old, new) for old, new in pairwise(film) if new.pts_ns - old.pts_ns <= NEXT_PICTURE_NS]
    return sum(new.code == old.code for old, new in following) > SLOW_SHARE * max(1, len(following))


def telling(film: Sequence[Observation]) -> list[Observation]:
    """Of the pictures with one code the first; of a slow page the last one as well, which the next code bounds."""
    edges = zip([None, *film[:-1]], film, [*film[1:], None], strict=True)
    slow = is_slow(film)
    return [
        o
        for before, o, after in edges
        if before is None or before.code != o.code or (slow and (after is None or after.code != o.code))
    ]


def measure(
    seen: Sequence[Observation], delay_ns: Int64, refresh_ns: int, logs: Sequence[CodeLog], *, slow: bool = False
) -> Interval:
    """The range that the bounds of all readings leave; `delay_ns` is taken off each reading's offset.

    `seen` is what `telling` chose. Of a `slow` page no refresh is counted on: a code stands until the next one read.

    Strict bounds cover the truth in 72 to 91 % of films only, as a late or half-mixed picture breaks them. So a bound
    is soft by the blur of an exposure, and a broken one has its price: what is left is the range that holds 99.5 %,
    whatever the blur and the share of late refreshes were.
    """
    offsets = np.array([o.offset_ns for o in seen], dtype=np.int64) - delay_ns
    is_first = [True, *(new.code != old.code for old, new in pairwise(seen))]
    base = round(float(np.median(offsets[is_first])))
    cut = _cut_off(seen, refresh_ns)
    lower = (offsets - base).astype(np.float64) + cut.usual
    usual_ns = _stood_ns(seen) if slow else [refresh_ns] * len(seen)
    upper = lower + np.array([_lit_ns(o, lit, logs) for o, lit in zip(seen, usual_ns, strict=True)], dtype=np.float64)
    reach = NEXT_PICTURE_NS if slow else refresh_ns
    grid = np.arange(-2.0 * reach, 2.5 * reach, GRID_NS)
    parts = (slice(first, first + AT_ONCE) for first in range(0, len(seen), AT_ONCE))
    explained = sum(_explained(grid, lower[part], upper[part], cut.doubt[part], refresh_ns) for part in parts)
    chance = np.logaddexp.reduce(explained + np.log(BLUR_SHARES)[:, None, None], axis=(0, 1))
    mean, half_width = likely_range(grid, chance)
    kept = int(((mean > lower - BLUR_NS[2]) & (mean < upper + cut.doubt + BLUR_NS[2])).sum())
    return Interval(base + mean, half_width + cut.shared, kept)


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
    # A page that counts what it draws seems slower wherever it misses a refresh, never faster.
    measured = float(np.quantile(steps, 0.25)) if len(steps) >= MIN_READINGS else _common_step_ns(film, nominal_ns)
    return round(measured) if MIN_REFRESH_NS <= measured <= MAX_REFRESH_NS else nominal_ns


def _explained(grid: Float64, lower: Float64, upper: Float64, doubt: Float64, refresh_ns: int) -> Float64:
    """The logarithms of how well each offset of the grid explains some readings: blurs x shares of late ones x grid."""
    by_blur = []
    for blur in BLUR_NS:
        begun = _passed(grid, lower, doubt, blur)
        ended = [_passed(grid, upper + turns * refresh_ns, doubt, blur) for turns in range(MOST_LATE + 1)]
        stays = np.array([before * (1 - after) for before, after in pairwise([begun, *ended])])
        by_blur.append(np.log(np.einsum("st,tgr->sgr", LATE_CHANCES, stays) + WRONG_SHARE).sum(axis=2))
    return np.array(by_blur)


def _passed(grid: Float64, bound: Float64, doubt: Float64, blur: float) -> Float64:
    """How surely an offset lies above a bound that is known within its code's doubt and an exposure's blur."""
    return np.asarray(np.clip((grid[:, None] - bound + blur) / (2 * blur + doubt), 0, 1))


@dataclass(frozen=True, slots=True)
class _CutOff:
    """By how much codes were drawn later than their digits say, ns: at least so much, up to so much more.

    `shared` is the half-width of what is the same for all. Where all pictures are taken at one moment between two
    refreshes it would count as often as there are pictures, were it a doubt of each.
    """

    usual: Float64
    doubt: Float64
    shared: float


def _cut_off(seen: Sequence[Observation], refresh_ns: int) -> _CutOff:
    """What the last digits cut off; of one code in whole milliseconds nobody knows, evenly spaced ones tell together.

    The one line through all times, moved until each lies between the time in its code and that plus its resolution,
    is when the codes were drawn.
    """
    resolution = np.array([o.code.resolution_ns for o in seen], dtype=np.float64)
    none = np.zeros(len(seen))
    if resolution.max() <= TICK_NS:
        return _CutOff(resolution / 2, none, TICK_NS / 2)
    times = np.array([o.code.utc_ns - seen[0].code.utc_ns for o in seen], dtype=np.float64)
    even = _evenly_spaced(times, refresh_ns)
    least_move, most_move = float((times - even).max()), float((times + resolution - even).min())
    if least_move - most_move > 2 * EVEN_ERROR_NS or len(seen) < EVEN_CODES:
        return _CutOff(none, resolution, 0.0)
    drawn = even + (least_move + most_move) / 2
    return _CutOff(drawn - times, none, max(0.0, most_move - least_move) + EVEN_ERROR_NS)


def _evenly_spaced(times: Float64, refresh_ns: int) -> Float64:
    """The line through times that are multiples of a refresh, which is known too roughly to count a film at once."""
    step, first = float(refresh_ns), 0.0
    for _ in range(2):
        number = np.rint((times - first) / step)
        if not np.ptp(number):
            break
        step, first = np.polyfit(number, times, 1)
    return np.asarray(first + step * number)


def _stood_ns(seen: Sequence[Observation]) -> list[int]:
    """How long each code stood at most: until the next one that was read was drawn, of the last one nobody knows."""
    stood = [STOOD_NS] * len(seen)
    for place in range(len(seen) - 2, -1, -1):
        o, after = seen[place], seen[place + 1]
        stood[place] = stood[place + 1] if after.code == o.code else max(0, after.code.utc_ns - o.code.utc_ns)
    return stood


def _lit_ns(o: Observation, usual_ns: int, logs: Sequence[CodeLog]) -> int:
    """How long a code stood: as the page's log says, else as usual."""
    log = holder(logs, o.code.utc_ns)
    following = log.next_ns(o.code.utc_ns) if log else None
    return following - o.code.utc_ns if following is not None else usual_ns


def _common_step_ns(film: Sequence[Observation], nominal_ns: int) -> float:
    """The refresh time of which the times of all codes are multiples; the nominal one where it explains them as well.

    A camera that is in step with the screen sees only each second or third code: then nothing tells which step it is.
    """
    times = np.array([o.code.utc_ns - film[0].code.utc_ns for o in film if o.code.sequence is None], dtype=np.float64)
    if len(times) < MIN_READINGS:
        return nominal_ns
    # Multiples of a step are all in one phase of its frequency: only there the pointers of all point one way.
    turns = times[times <= STEP_SPAN_NS] / NS_PER_S * STEPS_HZ[:, None]
    likeness = np.abs(np.exp(2j * np.pi * turns).mean(axis=1))
    is_likely = likeness > AS_LIKELY * likeness.max()
    is_likely &= (STEPS_HZ >= SCREEN_HZ) | ~_is_of_camera(STEPS_HZ, film)
    slowest_hz = float(STEPS_HZ[np.argmax(is_likely)])  # what are multiples of a step are so of its fractions, too
    is_nominal = np.abs(STEPS_HZ * nominal_ns / NS_PER_S - 1) < NOMINAL_STEP
    if slowest_hz > SCREEN_HZ and is_likely[is_nominal].any():
        return nominal_ns
    return NS_PER_S / slowest_hz


def _is_of_camera(steps_hz: Float64, film: Sequence[Observation]) -> Mask:
    """Which frequencies are multiples or fractions of the frame rate: in those all codes come, whatever the screen."""
    frames_hz = NS_PER_S / float(np.median(np.diff([o.pts_ns for o in film])))
    ratios = np.array([steps_hz / frames_hz, frames_hz / steps_hz])
    return np.asarray((np.abs(ratios - np.rint(ratios)) < CAMERA_STEP).any(axis=0))


def _turns(old: TimeCode, new: TimeCode) -> int:
    """Refreshes between two codes by their sequence digits; 0 when unknown."""
    if old.sequence is None or new.sequence is None:
        return 0
    return (new.sequence - old.sequence) % 10
