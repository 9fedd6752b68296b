"""From codes read in frames to the camera's clock: which UTC a frame's PTS means, and how far that may be wrong.

A frame that shows the code drawn at q was exposed after q's light and before the next code's. So each reading bounds
the camera's offset from both sides; a film of some seconds gives an interval, two films a rate. Instants are
mid-exposure of the middle row. The display's latency and the error of the clock behind the code are constants that no
film shows: they are added to the bar, never averaged away.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import NoCalibrationError, UnreadableError
from rig.timing import vernier
from rig.timing.codelog import CodeLog, holder, joined
from rig.timing.qrtime import TimeCode
from rig.timing.vernier import Sighting

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FILM_GAP_NS = 10 * NS_PER_S  # a longer pause between readings separates two films of the code
MIN_READINGS = 3  # below this one wrong reading cannot be told from a right one
MIN_REFRESH_NS, MAX_REFRESH_NS = 5 * NS_PER_MS, 40 * NS_PER_MS  # 200 Hz to 25 Hz
STEPS_HZ = np.arange(50.0, 200.0, 0.02)  # of screens; a lower one would be that of the camera
STEP_SPAN_NS = 4 * NS_PER_S  # within which such a step makes a tenth of a turn
AS_LIKELY = 0.98
FOLLOWING_FRAME_NS = 100 * NS_PER_MS  # within this the sequence digit cannot have gone round
WARM_UP_NS = 2 * NS_PER_MS  # what a warming crystal adds between two films (measured up to 1.7 ms in two hours)
WARM_UP_SPAN_NS = 600 * NS_PER_S

# The interval: how a reading may lie outside its bounds, and how probable that is.
BLUR_NS = (0.3 * NS_PER_MS, 1.0 * NS_PER_MS, 3.0 * NS_PER_MS)  # of changes that last 5 to 25 ms
LATE_SHARES = (0.01, 0.05, 0.2)  # of refreshes that the page missed or drew late: the old code stays
MOST_LATE = 3  # refreshes in a row that a code may stay too long
WRONG_SHARE = 0.004
GRID_NS = 0.05 * NS_PER_MS
UNIFORM_99 = 1.487  # half-width of 99 % of a normal distribution over that of a uniform one of the same sigma
POSSIBLE_PPM = 10_000.0  # of a stored rate; a video that was slowed down is no film of a drive
LARGEST_NS = 1 << 62
TAIL = 0.0025  # on each side: the interval holds 99.5 %, the rest of 1 % is for what no model knows

SAME_CLOCK_NS = 50 * NS_PER_MS  # codes of one screen differ by less, whatever it missed
MINORITY = 0.1  # of the codes of the fullest group: fewer are damage, not a second clock
MAJORITY = 2.0  # times the codes of the others, before it is believed without a log


@dataclass(frozen=True, slots=True)
class Observation:
    """A code read in the frame at `pts_ns`, its centre at `row` (0 top, 1 bottom of the picture)."""

    pts_ns: int
    code: TimeCode
    row: float = 0.5
    screen: int = 0  # which of the codes in the picture, when there were several


@dataclass(frozen=True, slots=True)
class Near:
    """Between which offsets (UTC minus PTS, ns) a video's clock can lie; codes outside are another video's.

    `sure` is such knowledge that a page's log does not outweigh it: the page took its time from a clock that was wrong.
    """

    low_ns: int
    high_ns: int
    sure: bool = False

    def holds(self, o: Observation, logs: Sequence[CodeLog] = ()) -> bool:
        """Whether a code may be of this video."""
        inside = self.low_ns <= o.code.utc_ns - o.pts_ns <= self.high_ns
        return inside or (not self.sure and holder(logs, o.code.utc_ns) is not None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a film cannot show, and what is assumed of it; see the settings of the same names."""

    display_latency_ns: int
    display_latency_error_ns: int
    clock_error_ns: int  # half-width of the error of the clock behind the code
    refresh_ns: int
    read_out_ns: int
    read_out_error_ns: int
    unknown_rate_ppm: float
    max_rate_ppm: float
    page_bound_ns: int = 0  # half-width of the page's idea of that clock, as it measured it

    @staticmethod
    def of(
        settings: Settings, latency_ms: tuple[float, float], *, clock_error_ns: int, page_bound_ns: int = 0
    ) -> "Terms":
        """As the settings have it; the display's latency with its half-width."""
        return Terms(
            display_latency_ns=round(latency_ms[0] * NS_PER_MS),
            display_latency_error_ns=round(latency_ms[1] * NS_PER_MS),
            clock_error_ns=clock_error_ns,
            refresh_ns=round(NS_PER_S / settings.display_refresh_hz),
            read_out_ns=round(settings.read_out_ms * NS_PER_MS),
            read_out_error_ns=round(settings.read_out_error_ms * NS_PER_MS),
            unknown_rate_ppm=settings.unknown_camera_rate_ppm,
            max_rate_ppm=settings.max_camera_rate_ppm,
            page_bound_ns=page_bound_ns,
        )

    @property
    def constants(self) -> tuple[tuple[str, int], ...]:
        """The half-widths of what is the same in every frame, by name."""
        values = {
            "display_latency": self.display_latency_error_ns,
            "clock": self.clock_error_ns,
            "page": self.page_bound_ns,
        }
        return tuple((name, value) for name, value in values.items() if value)


@dataclass(frozen=True, slots=True)
class Anchor:
    """One film of the code: at `pts_ns` the camera's clock was `utc_ns`, within `half_width_ns`, constants apart.

    `method` is interval, vernier, or what else said so; `mixed` counts the pictures that showed two codes.
    """

    pts_ns: int
    utc_ns: int
    half_width_ns: int
    codes: int
    rejected: int
    method: str = "interval"
    mixed: int = 0


@dataclass(frozen=True, slots=True)
class CameraClock:
    """utc = offset + (1 + rate) x PTS + curve(PTS), with the half-width of its error at every PTS.

    `curve` holds (PTS, ns) between which what the line leaves is interpolated; outside it stays as at its ends.
    """

    source: str  # qr, qr+arrival, arrival, gpmf, given
    offset_ns: int
    rate_ppm: float
    rate_error_ppm: float
    constants: tuple[tuple[str, int], ...]
    anchors: tuple[Anchor, ...]
    warnings: tuple[str, ...] = ()
    curve: tuple[tuple[int, int], ...] = ()
    curve_span: tuple[int, int] | None = None  # PTS between which arrivals tell the rate

    def utc_ns(self, pts_ns: Int64) -> Int64:
        """UTC of frames, from their PTS."""
        reference = self.anchors[0].pts_ns
        stretch = np.rint((pts_ns - reference) * (self.rate_ppm * 1e-6)).astype(np.int64)
        if self.curve:
            x, y = np.array(self.curve, dtype=np.int64).T
            stretch = stretch + np.rint(np.interp(pts_ns, x, y)).astype(np.int64)
        return np.asarray(self.offset_ns + pts_ns + stretch, dtype=np.int64)

    def error_ns(self, pts_ns: Int64, *, constants: bool = True) -> Int64:
        """Half-width around `utc_ns` that holds the truth; without `constants` only what the films leave open.

        How far from the middle row the code was held, times the doubt about the read-out, is of the film.
        """
        x = np.array([anchor.pts_ns for anchor in self.anchors])
        widths = np.array([anchor.half_width_ns for anchor in self.anchors])
        terms = [np.interp(pts_ns, x, widths), self._drift_ns(pts_ns, x)]
        if constants:
            terms += [np.full(len(pts_ns), float(value)) for _, value in self.constants]
        return np.asarray(np.ceil(combined(np.array(terms))), dtype=np.int64)

    def _drift_ns(self, pts_ns: Int64, x: Int64) -> Float64:
        """What the crystal may have done since the nearest film."""
        low, high = (int(x[0]), int(x[-1])) if self.curve_span is None else self.curve_span
        away = np.abs(pts_ns[:, None] - x[None, :]).min(axis=1)
        inside = WARM_UP_NS * np.minimum(1.0, away / WARM_UP_SPAN_NS)
        beyond = np.maximum(0, np.maximum(low - pts_ns, pts_ns - high))
        return np.asarray(
            np.where(beyond > 0, 0.0 if self.curve_span is None else WARM_UP_NS, inside)
            + beyond * self.rate_error_ppm * 1e-6
        )


def combined(half_widths: Float64) -> Float64:
    """The half-width that holds the sum of independent errors in 99 %; terms x places.

    Each term is known to lie within its half-width and no more, so it counts as uniform. Then all of the sum lies
    within the sum of the half-widths, and 99 % of it within 2.58 sigmas, which are 1.487 times the root of the sum of
    their squares (a sum of uniform errors has shorter tails than a normal one): the smaller of both is taken. A large
    term thus adds as it is, and many of one size do not pile up.
    """
    root = UNIFORM_99 * np.sqrt((half_widths**2).sum(axis=0))
    return np.asarray(np.minimum(half_widths.sum(axis=0), root))


def calibrate(
    observations: Sequence[Observation],
    terms: Terms,
    near: Near | None = None,
    *,
    logs: Sequence[CodeLog] = (),
    sightings: Sequence[Sighting] = (),
) -> CameraClock:
    """The camera's clock from all codes that were read.

    `near` tells codes of this video from those of another one; None takes all. `sightings` are the pictures for the
    vernier. Raises NoCalibrationError when too few codes agree, or two clocks were filmed.
    """
    plausible = [o for o in observations if near is None or near.holds(o, logs)]
    films = _split(sorted(plausible, key=lambda o: o.pts_ns))
    anchors, warnings = _film_anchors(films, terms, logs, sightings)
    if not anchors:
        raise NoCalibrationError(
            f"no time code was found ({len(observations)} codes read, {len(plausible)} of that time)",
            cure="show the page /qrcode to the camera for 3 s at the start, or give --start-utc",
        )
    agreeing, more = _agreeing(anchors, terms)
    return line(agreeing, terms, (*warnings, *more))


def given(first_pts_ns: int, utc_ns: int, error_ns: int, unknown_rate_ppm: float, source: str = "given") -> CameraClock:
    """The clock of a video whose first frame's UTC is known from elsewhere."""
    anchor = Anchor(first_pts_ns, utc_ns, error_ns, 0, 0, method=source)
    return CameraClock(source, utc_ns - first_pts_ns, 0.0, unknown_rate_ppm, (), (anchor,))


def to_json(clock: CameraClock, first_pts_ns: int, last_pts_ns: int) -> dict[str, Any]:
    """What `calibration.json` says of one camera."""
    pts = np.array([first_pts_ns, (first_pts_ns + last_pts_ns) // 2, last_pts_ns], dtype=np.int64)
    places = ("start", "middle", "end")
    return {
        "source": clock.source,
        "offset_ns": clock.offset_ns,
        "rate_ppm": clock.rate_ppm,
        "rate_error_ppm": clock.rate_error_ppm,
        "error_ms": dict(zip(places, _milliseconds(clock.error_ns(pts)), strict=True)),
        "error_ms_without_constants": dict(
            zip(places, _milliseconds(clock.error_ns(pts, constants=False)), strict=True)
        ),
        "constants_ns": dict(clock.constants),
        "codes_read": sum(anchor.codes for anchor in clock.anchors),
        "codes_rejected": sum(anchor.rejected for anchor in clock.anchors),
        "residuals_ms": _milliseconds(_residuals_ns(clock)),
        "anchors": [asdict(anchor) for anchor in clock.anchors],
        "warnings": list(clock.warnings),
        "curve_ns": [list(point) for point in clock.curve],
        "curve_span_ns": None if clock.curve_span is None else list(clock.curve_span),
    }


def from_json(values: dict[str, Any]) -> CameraClock:
    """The clock that `to_json` described. Raises UnreadableError for anything else."""
    try:
        clock = CameraClock(
            source=str(values["source"]),
            offset_ns=int(values["offset_ns"]),
            rate_ppm=float(values["rate_ppm"]),
            rate_error_ppm=float(values["rate_error_ppm"]),
            constants=tuple((str(name), int(value)) for name, value in values["constants_ns"].items()),
            anchors=tuple(Anchor(**anchor) for anchor in values["anchors"]),
            warnings=tuple(values["warnings"]),
            curve=tuple((int(x), int(y)) for x, y in values["curve_ns"]),
            curve_span=None if values["curve_span_ns"] is None else _pair(*values["curve_span_ns"]),
        )
        _check(clock)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnreadableError(
            f"the calibration is not one of ours ({error!r})", cure="leave out --calibration"
        ) from error
    return clock


def _check(clock: CameraClock) -> None:
    """Raise ValueError for what no clock can be."""
    instants = [clock.offset_ns, *(clock.curve_span or ()), *(value for point in clock.curve for value in point)]
    instants += [value for anchor in clock.anchors for value in (anchor.pts_ns, anchor.utc_ns)]
    widths = [anchor.half_width_ns for anchor in clock.anchors] + [value for _, value in clock.constants]
    if not clock.anchors or any(old.pts_ns > new.pts_ns for old, new in pairwise(clock.anchors)):
        raise ValueError("no film of the code, or not in order")
    if not (abs(clock.rate_ppm) <= POSSIBLE_PPM and 0 <= clock.rate_error_ppm <= POSSIBLE_PPM):
        raise ValueError("an impossible rate")
    if not all(abs(instant) < LARGEST_NS for instant in instants) or not all(0 <= one < LARGEST_NS for one in widths):
        raise ValueError("an impossible time")


def _pair(low: int, high: int) -> tuple[int, int]:
    return int(low), int(high)


def _split(observations: Sequence[Observation]) -> list[list[Observation]]:
    films: list[list[Observation]] = []
    for observation in observations:
        if not films or observation.pts_ns - films[-1][-1].pts_ns > FILM_GAP_NS:
            films.append([])
        films[-1].append(observation)
    return films


def _film_anchors(
    films: Sequence[Sequence[Observation]], terms: Terms, logs: Sequence[CodeLog], sightings: Sequence[Sighting]
) -> tuple[tuple[Anchor, ...], tuple[str, ...]]:
    """An anchor of each film in which one clock was seen, and what is wrong with the others."""
    anchors, failures = [], []
    for film in films:
        try:
            anchor = _anchor(film, terms, logs, sightings)
        except NoCalibrationError as error:
            failures.append(error)
            continue
        if anchor is not None:
            anchors.append(anchor)
    if failures and not anchors:
        raise failures[0]
    return tuple(anchors), tuple(failure.message for failure in failures)


def _anchor(
    film: Sequence[Observation], terms: Terms, logs: Sequence[CodeLog], sightings: Sequence[Sighting]
) -> Anchor | None:
    """What one film says: of the clocks in it the one that a page's log knows, else the only one."""
    groups = _clocks_in(film)
    drawn = [group for group in groups if 2 * sum(_is_drawn(o, logs) for o in group) > len(group)]
    found = [
        anchor
        for group in (drawn or groups)
        if (anchor := _of_group(group, terms, logs, sightings, len(film) - len(group))) is not None
    ]
    found = [anchor for anchor in found if anchor.codes >= MINORITY * max(other.codes for other in found)]
    return _one_clock(found, terms) if found else None


def _is_drawn(o: Observation, logs: Sequence[CodeLog]) -> bool:
    return holder(logs, o.code.utc_ns) is not None


def _one_clock(found: Sequence[Anchor], terms: Terms) -> Anchor:
    """Screens of one clock differ by their latencies: then what holds them all. Raises NoCalibrationError."""
    fullest = max(found, key=lambda anchor: anchor.codes)
    offsets = [anchor.utc_ns - anchor.pts_ns for anchor in found]
    spread = max(offsets) - min(offsets)
    widest = max(anchor.half_width_ns for anchor in found)
    if spread > 2 * terms.display_latency_error_ns + 2 * widest:
        raise NoCalibrationError(
            f"two clocks were filmed at {fullest.pts_ns / NS_PER_S:.1f} s, {spread / NS_PER_S:.3f} s apart",
            cure="film one screen with the page /qrcode of this car alone, or give --start-utc",
        )
    if len(found) == 1:
        return fullest
    middle = (max(offsets) + min(offsets)) // 2
    return replace(fullest, utc_ns=fullest.pts_ns + middle, half_width_ns=spread // 2 + widest)


def _clocks_in(film: Sequence[Observation]) -> list[list[Observation]]:
    """The readings by screen and offset: one group for each clock that was filmed, single wrong readings left out."""
    groups: list[list[Observation]] = []
    for screen in dict.fromkeys(o.screen for o in film):
        for part in _dense([o for o in film if o.screen == screen]):
            # A screen that was lost and found again counts as new; it is the old one when the old one is gone.
            match = next((group for group in groups if _continues(group, part)), None)
            if match is None:
                groups.append(part)
            else:
                match.extend(part)
    return groups


def _dense(film: Sequence[Observation]) -> list[list[Observation]]:
    ordered = sorted(film, key=_offset_ns)
    parts = [[ordered[0]]]
    for before, after in pairwise(ordered):
        if _offset_ns(after) - _offset_ns(before) > SAME_CLOCK_NS:
            parts.append([])
        parts[-1].append(after)
    return [sorted(part, key=lambda o: o.pts_ns) for part in parts if len(part) >= MIN_READINGS]


def _offset_ns(o: Observation) -> int:
    return o.code.utc_ns - o.pts_ns


def _continues(group: Sequence[Observation], part: Sequence[Observation]) -> bool:
    pictures = {o.pts_ns for o in group}
    median = float(np.median([_offset_ns(o) for o in group]))
    return abs(median - float(np.median([_offset_ns(o) for o in part]))) < SAME_CLOCK_NS and not any(
        o.pts_ns in pictures for o in part
    )


def _of_group(
    group: Sequence[Observation], terms: Terms, logs: Sequence[CodeLog], sightings: Sequence[Sighting], others: int
) -> Anchor | None:
    """The interval of one clock in one film, narrowed by the vernier where that agrees."""
    fresh = [group[0], *(new for old, new in pairwise(group) if new.code != old.code)]
    if len(fresh) < MIN_READINGS:
        return None
    refresh_ns = _refresh_ns(group, terms.refresh_ns)
    first, last = group[0].pts_ns, group[-1].pts_ns
    # Row and latency of the display are constant: they are taken off here, and the vernier leaves them off as well.
    delay = np.array([round((o.row - 0.5) * terms.read_out_ns) for o in fresh], dtype=np.int64)
    offset, half_width, kept = _interval(fresh, delay, refresh_ns, logs)
    row_error = abs(float(np.mean([o.row - 0.5 for o in fresh]))) * terms.read_out_error_ns
    drift = (last - first) / 2 * terms.unknown_rate_ppm * 1e-6
    method, mixed = "interval", 0
    log = joined(logs, [o.code.utc_ns for o in fresh])
    # Late and unread pictures of one phase may have misled the interval by as much as a change lasts.
    reach = half_width + drift + BLUR_NS[-1]
    screens = {o.screen for o in group}
    seen = [sighting for sighting in sightings if first <= sighting.pts_ns <= last and sighting.screen in screens]
    near = round(offset - reach), round(offset + reach)
    instant = vernier.measure(seen, log, refresh_ns, terms.read_out_ns, near) if seen else None
    if instant is not None and near[0] <= instant.offset_ns <= near[1] and instant.half_width_ns < half_width:
        offset, half_width = instant.offset_ns, instant.half_width_ns
        method, mixed = "vernier", instant.mixed
    middle = (first + last) // 2
    return Anchor(
        pts_ns=middle,
        utc_ns=middle + round(offset) + terms.display_latency_ns,
        half_width_ns=round(float(combined(np.array([half_width, row_error, drift]))[()])),
        codes=kept,
        rejected=others + len(fresh) - kept,
        method=method,
        mixed=mixed,
    )


def _interval(
    fresh: Sequence[Observation], delay_ns: Int64, refresh_ns: int, logs: Sequence[CodeLog]
) -> tuple[float, float, int]:
    """UTC minus PTS and its half-width from the bounds of all readings, and how many readings lie within theirs.

    Strict bounds cover the truth in 72 to 91 % of films only, as a late or half-mixed picture breaks them. So a bound
    is soft by the blur of an exposure, and a broken one has its price: what is left is the range that holds 99.5 %,
    whatever the blur and the share of late refreshes were.
    """
    offsets = np.array([_offset_ns(o) for o in fresh], dtype=np.int64) - delay_ns
    base = round(float(np.median(offsets)))
    lower = (offsets - base).astype(np.float64)
    resolution = np.array([o.code.resolution_ns for o in fresh], dtype=np.float64)
    upper = lower + np.array([_lit_ns(o, refresh_ns, logs) for o in fresh], dtype=np.float64)
    grid = np.arange(-2.0 * refresh_ns, 2.5 * refresh_ns, GRID_NS)
    chance = np.full(len(grid), -np.inf)
    for blur in BLUR_NS:
        begun = _passed(grid, lower, resolution, blur)
        ended = [_passed(grid, upper + turns * refresh_ns, resolution, blur) for turns in range(MOST_LATE + 1)]
        stays = [before * (1 - after) for before, after in pairwise([begun, *ended])]
        for late in LATE_SHARES:
            seen = sum((1 - late) * late**turns * stay for turns, stay in enumerate(stays))
            chance = np.logaddexp(chance, np.log(seen + WRONG_SHARE).sum(axis=1))
    weights = np.exp(chance - chance.max())
    weights /= weights.sum()
    mean = float((weights * grid).sum())
    low, high = np.interp([TAIL, 1 - TAIL], np.cumsum(weights), grid)
    kept = int(((mean > lower - BLUR_NS[1]) & (mean < upper + resolution + BLUR_NS[1])).sum())
    return base + mean, max(mean - float(low), float(high) - mean), kept


def _passed(grid: Float64, bound: Float64, resolution: Float64, blur: float) -> Float64:
    """How surely an offset lies above a bound that is known within the code's last digit and an exposure's blur."""
    return np.asarray(np.clip((grid[:, None] - bound + blur) / (2 * blur + resolution), 0, 1))


def _lit_ns(o: Observation, refresh_ns: int, logs: Sequence[CodeLog]) -> int:
    """How long a code stood: as the page's log says, else one refresh."""
    log = holder(logs, o.code.utc_ns)
    following = log.next_ns(o.code.utc_ns) if log else None
    return following - o.code.utc_ns if following is not None else refresh_ns


def _refresh_ns(film: Sequence[Observation], nominal_ns: int) -> int:
    """The screen's refresh time as the codes themselves tell it; the nominal one when they do not."""
    steps = [
        (new.code.utc_ns - old.code.utc_ns) / turns
        for old, new in pairwise(film)
        if new.pts_ns - old.pts_ns <= FOLLOWING_FRAME_NS and (turns := _turns(old.code, new.code))
    ]
    measured = float(np.median(steps)) if len(steps) >= MIN_READINGS else _common_step_ns(film, nominal_ns)
    return round(measured) if MIN_REFRESH_NS <= measured <= MAX_REFRESH_NS else nominal_ns


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


def _agreeing(anchors: tuple[Anchor, ...], terms: Terms) -> tuple[tuple[Anchor, ...], tuple[str, ...]]:
    """The films that can be of one clock with the fullest one, and a warning for each other film.

    Raises NoCalibrationError when the others are nearly as full: then nobody knows which clock is the right one.
    """
    fullest = max(anchors, key=lambda anchor: anchor.codes)
    agreeing = tuple(anchor for anchor in anchors if _agree(anchor, fullest, terms))
    others = sum(anchor.codes for anchor in anchors if anchor not in agreeing)
    if MAJORITY * others > sum(anchor.codes for anchor in agreeing):
        raise NoCalibrationError(
            "two clocks were filmed, at different times, and nothing says which one is right",
            cure="film one screen with the page /qrcode of this car alone, or give --start-utc",
        )
    warnings = tuple(
        f"the film of the code at {anchor.pts_ns / NS_PER_S:.1f} s shows another clock and was left out"
        for anchor in anchors
        if anchor not in agreeing
    )
    return agreeing, warnings


def _agree(one: Anchor, other: Anchor, terms: Terms) -> bool:
    drift = abs(one.pts_ns - other.pts_ns) * terms.max_rate_ppm * 1e-6
    difference = abs((one.utc_ns - one.pts_ns) - (other.utc_ns - other.pts_ns))
    return difference <= drift + one.half_width_ns + other.half_width_ns + WARM_UP_NS


def line(anchors: tuple[Anchor, ...], terms: Terms, warnings: tuple[str, ...] = ()) -> CameraClock:
    """A straight line through the films, held to the rates that crystals have; three or more bend it.

    Films that lie close together say little about the rate; there the prior (half the unknown rate is one sigma)
    decides, and the films together narrow the offset.
    """
    pts = np.array([anchor.pts_ns for anchor in anchors], dtype=np.int64)
    offsets = np.array([anchor.utc_ns - anchor.pts_ns for anchor in anchors], dtype=np.int64)
    weights = 1.0 / np.array([max(anchor.half_width_ns, 1) / 2 for anchor in anchors]) ** 2
    base = int(offsets[0])
    x, y = (pts - pts[0]).astype(float), (offsets - base).astype(float)
    prior = 1.0 / (terms.unknown_rate_ppm / 2 * 1e-6) ** 2
    normal = np.array([[weights.sum(), (weights * x).sum()], [(weights * x).sum(), (weights * x * x).sum() + prior]])
    offset, rate = np.linalg.solve(normal, np.array([(weights * y).sum(), (weights * x * y).sum()]))
    rate_sigma = float(np.sqrt(np.linalg.inv(normal)[1, 1]))
    return CameraClock(
        source="qr",
        offset_ns=base + round(float(offset)),
        rate_ppm=float(rate) * 1e6,
        rate_error_ppm=min(2 * rate_sigma * 1e6, terms.unknown_rate_ppm),
        constants=terms.constants,
        anchors=anchors,
        warnings=warnings,
        curve=_bends(pts, y - offset - rate * x, weights),
    )


def _bends(pts: Int64, rest: Float64, weights: Float64) -> tuple[tuple[int, int], ...]:
    """What the line leaves, at three or more places that are far enough apart for a crystal to have changed."""
    place = np.cumsum(np.concatenate([[0], np.diff(pts) > WARM_UP_SPAN_NS]))
    if place[-1] < 2:
        return ()
    total = np.bincount(place, weights)
    away = np.bincount(place, weights * (pts - pts[0])) / total
    mean = np.bincount(place, weights * rest) / total
    return tuple((int(pts[0]) + round(float(x)), round(float(y))) for x, y in zip(away, mean, strict=True))


def _residuals_ns(clock: CameraClock) -> Float64:
    pts = np.array([anchor.pts_ns for anchor in clock.anchors], dtype=np.int64)
    utc = np.array([anchor.utc_ns for anchor in clock.anchors], dtype=np.int64)
    return np.asarray(utc - clock.utc_ns(pts), dtype=np.float64)


def _milliseconds(values_ns: npt.NDArray[Any]) -> list[float]:
    return [round(float(value) / NS_PER_MS, 3) for value in values_ns]
