"""From codes read in frames to the camera's clock: which UTC a frame's PTS means, and how far that may be wrong.

A frame that shows the code drawn at q was exposed after q's light and before the next code's. So each reading bounds
the camera's offset from both sides; a film of some seconds gives an interval, two films a rate. Instants are
mid-exposure of the middle row. The display's latency and the error of the clock behind the code are constants that no
film shows: they are added to the bar, never averaged away.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from rig.errors import NoCalibrationError, UnreadableError
from rig.qrtime import TimeCode

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
FILM_GAP_NS = 10 * SECOND_NS  # a longer pause between readings separates two films of the code
TRIM_SHARE = 0.05  # of the bounds on each side, plus one: late frames of the page and half-mixed codes lie there
MIN_READINGS = 3  # below this one wrong reading cannot be told from a right one
MIN_REFRESH_NS, MAX_REFRESH_NS = 5 * MILLISECOND_NS, 40 * MILLISECOND_NS  # 200 Hz to 25 Hz
FOLLOWING_FRAME_NS = 100 * MILLISECOND_NS  # within this the sequence digit cannot have gone round
WARM_UP_NS = 2 * MILLISECOND_NS  # what a warming crystal adds between two films (measured up to 1.7 ms in two hours)
WARM_UP_SPAN_NS = 600 * SECOND_NS
PLAUSIBLE_NS = 86_400 * SECOND_NS  # a code further from the recording than a day is another day's video


@dataclass(frozen=True, slots=True)
class Observation:
    """A code read in the frame at `pts_ns`, its centre at `row` (0 top, 1 bottom of the picture)."""

    pts_ns: int
    code: TimeCode
    row: float = 0.5


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


@dataclass(frozen=True, slots=True)
class Anchor:
    """One film of the code: at `pts_ns` the camera's clock was `utc_ns`, within `half_width_ns`, constants apart."""

    pts_ns: int
    utc_ns: int
    half_width_ns: int
    codes: int
    rejected: int


@dataclass(frozen=True, slots=True)
class CameraClock:
    """utc = offset + (1 + rate) x PTS, with the half-width of its error at every PTS."""

    source: str  # qr, given
    offset_ns: int
    rate_ppm: float
    rate_error_ppm: float
    constant_error_ns: int
    anchors: tuple[Anchor, ...]
    warnings: tuple[str, ...] = ()

    def utc_ns(self, pts_ns: Int64) -> Int64:
        """UTC of frames, from their PTS."""
        reference = self.anchors[0].pts_ns
        stretch = np.rint((pts_ns - reference) * (self.rate_ppm * 1e-6)).astype(np.int64)
        return np.asarray(self.offset_ns + pts_ns + stretch, dtype=np.int64)

    def error_ns(self, pts_ns: Int64, *, constants: bool = True) -> Int64:
        """Half-width around `utc_ns` that holds the truth; without `constants` only what the films leave open."""
        x = np.array([anchor.pts_ns for anchor in self.anchors])
        widths = np.array([anchor.half_width_ns for anchor in self.anchors])
        away = np.abs(pts_ns[:, None] - x[None, :]).min(axis=1)
        inside = (pts_ns >= x[0]) & (pts_ns <= x[-1])
        drift = np.where(
            inside,
            WARM_UP_NS * np.minimum(1.0, away / WARM_UP_SPAN_NS),
            away * self.rate_error_ppm * 1e-6,
        )
        total = np.interp(pts_ns, x, widths) + drift + (self.constant_error_ns if constants else 0)
        return np.asarray(np.ceil(total), dtype=np.int64)


def calibrate(observations: Sequence[Observation], terms: Terms, recorded_utc_ns: int | None = None) -> CameraClock:
    """The camera's clock from all codes that were read.

    `recorded_utc_ns` is about when the video was made; codes further than a day from it are another video's.
    Raises NoCalibrationError when too few codes agree.
    """
    plausible = [o for o in observations if recorded_utc_ns is None or _near(o, recorded_utc_ns)]
    films = _split(sorted(plausible, key=lambda o: o.pts_ns))
    anchors = tuple(anchor for film in films if (anchor := _anchor(film, terms)) is not None)
    if not anchors:
        raise NoCalibrationError(
            f"no time code was found ({len(observations)} codes read, {len(plausible)} of that day)",
            cure="show the page /qrcode to the camera for 3 s at the start, or give --start-utc",
        )
    agreeing, warnings = _agreeing(anchors, terms)
    return _line(agreeing, terms, warnings)


def given(first_pts_ns: int, utc_ns: int, error_ns: int, unknown_rate_ppm: float) -> CameraClock:
    """The clock of a video whose first frame's UTC is known from elsewhere."""
    anchor = Anchor(first_pts_ns, utc_ns, error_ns, 0, 0)
    return CameraClock("given", utc_ns - first_pts_ns, 0.0, unknown_rate_ppm, 0, (anchor,))


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
        "constant_error_ns": clock.constant_error_ns,
        "codes_read": sum(anchor.codes for anchor in clock.anchors),
        "codes_rejected": sum(anchor.rejected for anchor in clock.anchors),
        "residuals_ms": _milliseconds(_residuals_ns(clock)),
        "anchors": [asdict(anchor) for anchor in clock.anchors],
        "warnings": list(clock.warnings),
    }


def from_json(values: dict[str, Any]) -> CameraClock:
    """The clock that `to_json` described. Raises UnreadableError for anything else."""
    try:
        return CameraClock(
            source=str(values["source"]),
            offset_ns=int(values["offset_ns"]),
            rate_ppm=float(values["rate_ppm"]),
            rate_error_ppm=float(values["rate_error_ppm"]),
            constant_error_ns=int(values["constant_error_ns"]),
            anchors=tuple(Anchor(**anchor) for anchor in values["anchors"]),
            warnings=tuple(values["warnings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(
            f"the calibration is not one of ours ({error!r})", cure="leave out --calibration"
        ) from error


def _near(observation: Observation, utc_ns: int) -> bool:
    return abs(observation.code.utc_ns - utc_ns) <= PLAUSIBLE_NS


def _split(observations: Sequence[Observation]) -> list[list[Observation]]:
    films: list[list[Observation]] = []
    for observation in observations:
        if not films or observation.pts_ns - films[-1][-1].pts_ns > FILM_GAP_NS:
            films.append([])
        films[-1].append(observation)
    return films


def _anchor(film: Sequence[Observation], terms: Terms) -> Anchor | None:
    """The trimmed interval of one film: it covers the truth in 99 % of films, where strict bounds do in 72 to 91 %."""
    refresh_ns = _refresh_ns(film, terms.refresh_ns)
    fresh = [film[0], *(new for old, new in pairwise(film) if new.code != old.code)]
    pts = np.array([o.pts_ns for o in fresh], dtype=np.int64)
    row_delay = np.array([round((o.row - 0.5) * terms.read_out_ns) for o in fresh], dtype=np.int64)
    light = np.array([o.code.utc_ns for o in fresh], dtype=np.int64) + terms.display_latency_ns - row_delay - pts
    resolution = np.array([o.code.resolution_ns for o in fresh], dtype=np.int64)
    kept = np.abs(light - int(np.median(light))) <= 2 * refresh_ns
    if kept.sum() < MIN_READINGS:
        return None
    lower, upper = light[kept], (light + resolution + refresh_ns)[kept]
    low, high, slack = _trimmed(lower, upper)
    row_error = float(np.abs(np.array([o.row for o in fresh]) - 0.5)[kept].mean()) * terms.read_out_error_ns
    drift = (int(pts[-1]) - int(pts[0])) / 2 * terms.unknown_rate_ppm * 1e-6
    middle = (int(pts[0]) + int(pts[-1])) // 2
    return Anchor(
        pts_ns=middle,
        utc_ns=middle + (low + high) // 2,
        half_width_ns=round(abs(high - low) / 2 + slack + row_error + drift),
        codes=int(kept.sum()),
        rejected=len(fresh) - int(kept.sum()),
    )


def _refresh_ns(film: Sequence[Observation], nominal_ns: int) -> int:
    """The screen's refresh time as the codes themselves tell it; the nominal one when they do not."""
    steps = [
        (new.code.utc_ns - old.code.utc_ns) / turns
        for old, new in pairwise(film)
        if new.pts_ns - old.pts_ns <= FOLLOWING_FRAME_NS and (turns := _turns(old.code, new.code))
    ]
    measured = float(np.median(steps)) if len(steps) >= MIN_READINGS else 0.0
    return round(measured) if MIN_REFRESH_NS <= measured <= MAX_REFRESH_NS else nominal_ns


def _turns(old: TimeCode, new: TimeCode) -> int:
    """Refreshes between two codes by their sequence digits; 0 when unknown."""
    if old.sequence is None or new.sequence is None:
        return 0
    return (new.sequence - old.sequence) % 10


def _trimmed(lower: Int64, upper: Int64) -> tuple[int, int, float]:
    """The bounds left when the most demanding ones on each side are dropped, and how far chance may move them.

    The next as many bounds lie within some three standard errors of the ones that are kept: that distance is the slack
    when the bounds meet, as they do where exposures blur the instant of change.
    """
    drop = min(int(TRIM_SHARE * len(lower)) + 1, (len(lower) - 1) // 2)
    further = min(2 * drop, len(lower) - 1)
    demanding_first = np.sort(lower)[::-1]
    low, high = int(demanding_first[drop]), int(np.sort(upper)[drop])
    slack = (low - int(demanding_first[further]) + int(np.sort(upper)[further]) - high) / 2
    return low, high, slack


def _agreeing(anchors: tuple[Anchor, ...], terms: Terms) -> tuple[tuple[Anchor, ...], tuple[str, ...]]:
    """The films that can be of one clock with the fullest one, and a warning for each other film."""
    fullest = max(anchors, key=lambda anchor: anchor.codes)
    agreeing = tuple(anchor for anchor in anchors if _agree(anchor, fullest, terms))
    warnings = tuple(
        f"the film of the code at {anchor.pts_ns / SECOND_NS:.1f} s shows another clock and was left out"
        for anchor in anchors
        if anchor not in agreeing
    )
    return agreeing, warnings


def _agree(one: Anchor, other: Anchor, terms: Terms) -> bool:
    drift = abs(one.pts_ns - other.pts_ns) * terms.max_rate_ppm * 1e-6
    difference = abs((one.utc_ns - one.pts_ns) - (other.utc_ns - other.pts_ns))
    return difference <= drift + one.half_width_ns + other.half_width_ns + WARM_UP_NS


def _line(anchors: tuple[Anchor, ...], terms: Terms, warnings: tuple[str, ...]) -> CameraClock:
    """A straight line through the films, held to the rates that crystals have.

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
        constant_error_ns=terms.display_latency_error_ns + terms.clock_error_ns,
        anchors=anchors,
        warnings=warnings,
    )


def _residuals_ns(clock: CameraClock) -> Float64:
    pts = np.array([anchor.pts_ns for anchor in clock.anchors], dtype=np.int64)
    utc = np.array([anchor.utc_ns for anchor in clock.anchors], dtype=np.int64)
    return np.asarray(utc - clock.utc_ns(pts), dtype=np.float64)


def _milliseconds(values_ns: npt.NDArray[Any]) -> list[float]:
    return [round(float(value) / MILLISECOND_NS, 3) for value in values_ns]
