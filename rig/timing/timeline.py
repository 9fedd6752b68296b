"""From codes read in frames to the camera's clock, by all films of the code in a video.

A frame that shows the code drawn at q was exposed after q's light and before the next code's. So each reading bounds
the camera's offset from both sides; a film of some seconds gives an interval, two films a rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from configs import Settings
from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import NoCalibrationError
from rig.timing import interval, vernier
from rig.timing.cameraclock import WARM_UP_NS, WARM_UP_SPAN_NS, Anchor, CameraClock, combined
from rig.timing.codelog import CodeLog, holder, joined
from rig.timing.interval import BLUR_NS, MIN_READINGS, Interval, Observation
from rig.timing.vernier import Sighting

FILM_GAP_NS = 10 * NS_PER_S  # a longer pause between readings separates two films of the code

SAME_CLOCK_NS = 50 * NS_PER_MS  # codes of one screen differ by less, whatever it missed
MINORITY = 0.1  # of the codes of the fullest group: fewer are damage, not a second clock
LEAST_KEPT = 0.25  # of the codes must agree, else they tell of no clock
SURE_KEPT = 0.8  # a page that misses more refreshes leaves the vernier without its neighbours
MAJORITY = 2.0  # times the codes of the others, before it is believed without a log


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
        inside = self.low_ns <= o.offset_ns <= self.high_ns
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
    def of(settings: Settings, latency_ms: tuple[float, float], *, clock_error_ns: int, page_bound_ns: int) -> "Terms":
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
        display, clock, page = self.display_latency_error_ns, self.clock_error_ns, self.page_bound_ns
        return tuple(one for one in (("display_latency", display), ("clock", clock), ("page", page)) if one[1])


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
    films = _parts(plausible, attrgetter("pts_ns"), FILM_GAP_NS)
    anchors, warnings = _film_anchors(films, terms, logs, sightings)
    if not anchors:
        raise NoCalibrationError(
            f"no time code was found ({len(observations)} codes read, {len(plausible)} of that time)",
            cure="show the page /qrcode to the camera for 3 s at the start, or give --start-utc",
        )
    agreeing, more = _agreeing(anchors, terms)
    return line(agreeing, terms, (*warnings, *more))


def _parts(
    readings: Sequence[Observation], place: Callable[[Observation], int], gap_ns: int
) -> list[list[Observation]]:
    """The readings in the order of their places, parted where two are further apart than a gap."""
    parts: list[list[Observation]] = []
    for reading in sorted(readings, key=place):
        if not parts or place(reading) - place(parts[-1][-1]) > gap_ns:
            parts.append([])
        parts[-1].append(reading)
    return parts


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
    drawn = [group for group in groups if 2 * sum(holder(logs, o.code.utc_ns) is not None for o in group) > len(group)]
    found = [
        anchor
        for group in (drawn or groups)
        if (anchor := _of_group(group, terms, logs, sightings, len(film) - len(group))) is not None
    ]
    found = [anchor for anchor in found if anchor.codes >= MINORITY * max(other.codes for other in found)]
    return _one_clock(found, terms) if found else None


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
        for part in _parts([o for o in film if o.screen == screen], attrgetter("offset_ns"), SAME_CLOCK_NS):
            if len(part) < MIN_READINGS:
                continue
            part.sort(key=attrgetter("pts_ns"))
            # A screen that was lost and found again counts as new; it is the old one when the old one is gone.
            match = next((group for group in groups if _continues(group, part)), None)
            if match is None:
                groups.append(part)
            else:
                match.extend(part)
    return groups


def _continues(group: Sequence[Observation], part: Sequence[Observation]) -> bool:
    pictures = {o.pts_ns for o in group}
    median = float(np.median([o.offset_ns for o in group]))
    return abs(median - float(np.median([o.offset_ns for o in part]))) < SAME_CLOCK_NS and not any(
        o.pts_ns in pictures for o in part
    )


def _of_group(
    group: Sequence[Observation], terms: Terms, logs: Sequence[CodeLog], sightings: Sequence[Sighting], others: int
) -> Anchor | None:
    """The interval of one clock in one film, narrowed by the vernier where that agrees."""
    seen, slow = interval.telling(group), interval.is_slow(group)
    if len({o.code for o in seen}) < MIN_READINGS:
        return None
    refresh_ns = interval.refresh_of(group, terms.refresh_ns)
    first, last = group[0].pts_ns, group[-1].pts_ns
    # Row and latency of the display are constant: they are taken off here, and the vernier leaves them off as well.
    delay = np.array([round((o.row - 0.5) * terms.read_out_ns) for o in seen], dtype=np.int64)
    found = interval.measure(seen, delay, refresh_ns, logs, slow=slow)
    if found.pictures < LEAST_KEPT * len(seen):
        return None  # no clock: the codes run at another speed than the video
    row_error = abs(float(np.mean([o.row - 0.5 for o in seen]))) * terms.read_out_error_ns
    drift = (last - first) / 2 * terms.unknown_rate_ppm * 1e-6
    # Late and unread pictures of one phase may have misled the interval by as much as a change lasts.
    reach = found.half_width_ns + drift + BLUR_NS[-1]
    near = round(found.offset_ns - reach), round(found.offset_ns + reach)
    log = joined(logs, [o.code.utc_ns for o in seen])
    missed = slow or found.pictures < SURE_KEPT * len(seen)
    guessed = missed and log is None  # which codes came before and after is not known of such a page
    instant = None if guessed else _by_vernier(group, sightings, log, refresh_ns, terms.read_out_ns, near)
    best = instant if instant is not None and instant.half_width_ns < found.half_width_ns else found
    middle = (first + last) // 2
    return Anchor(
        pts_ns=middle,
        utc_ns=middle + round(best.offset_ns) + terms.display_latency_ns,
        half_width_ns=round(float(combined(np.array([best.half_width_ns, row_error, drift]))[()])),
        codes=found.pictures,
        rejected=others + len(seen) - found.pictures,
        method="interval" if best is found else "vernier",
        mixed=0 if best is found else best.pictures,
    )


def _by_vernier(
    group: Sequence[Observation],
    sightings: Sequence[Sighting],
    log: CodeLog | None,
    refresh_ns: int,
    read_out_ns: int,
    near: tuple[int, int],
) -> Interval | None:
    """What the pictures of that time and screen say, None unless it lies within `near`."""
    screens, first, last = {o.screen for o in group}, group[0].pts_ns, group[-1].pts_ns
    seen = [sighting for sighting in sightings if first <= sighting.pts_ns <= last and sighting.screen in screens]
    instant = vernier.measure(seen, log, refresh_ns, read_out_ns, near) if seen else None
    return instant if instant is not None and near[0] <= instant.offset_ns <= near[1] else None


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
    warmed = WARM_UP_NS / max(WARM_UP_SPAN_NS, int(pts[-1] - pts[0]))  # another rate later on than between the films
    return CameraClock(
        source="qr",
        offset_ns=base + round(float(offset)),
        rate_ppm=float(rate) * 1e6,
        rate_error_ppm=min((2 * rate_sigma + warmed) * 1e6, terms.unknown_rate_ppm),
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
