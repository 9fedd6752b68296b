"""A camera's clock: which UTC a frame's PTS means, how far that may be wrong, and how `calibration.json` has it.

Instants are mid-exposure of the middle row. What no film shows (the display's latency, the error of the clock behind
the code) is constant: it is added to the bar, never averaged away.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import UnreadableError

UNIFORM_99 = 1.487  # half-width of 99 % of a normal distribution over that of a uniform one of the same sigma
WARM_UP_NS = 2 * NS_PER_MS  # what a warming crystal adds between two films (measured up to 1.7 ms in two hours)
WARM_UP_SPAN_NS = 600 * NS_PER_S
POSSIBLE_PPM = 10_000.0  # of a stored rate; a video that was slowed down is no film of a drive
LARGEST_NS = 1 << 62


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

    def utc_ns(self, pts_ns: Int64 | int) -> Int64:
        """UTC of frames, or of one, from their PTS."""
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
        warmed = WARM_UP_NS * np.minimum(1.0, away / WARM_UP_SPAN_NS)
        beyond = np.maximum(0, np.maximum(low - pts_ns, pts_ns - high))
        return np.asarray(warmed + beyond * self.rate_error_ppm * 1e-6)


def combined(half_widths: Float64) -> Float64:
    """The half-width that holds the sum of independent errors in 99 %; terms x places.

    Each term is known to lie within its half-width and no more, so it counts as uniform. Then all of the sum lies
    within the sum of the half-widths, and 99 % of it within 2.58 sigmas, which are 1.487 times the root of the sum of
    their squares (a sum of uniform errors has shorter tails than a normal one): the smaller of both is taken. A large
    term thus adds as it is, and many of one size do not pile up.
    """
    root = UNIFORM_99 * np.sqrt((half_widths**2).sum(axis=0))
    return np.asarray(np.minimum(half_widths.sum(axis=0), root))


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
        "residuals_ms": _milliseconds(anchor.utc_ns - clock.utc_ns(anchor.pts_ns) for anchor in clock.anchors),
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
            curve_span=None if (span := values["curve_span_ns"]) is None else (int(span[0]), int(span[1])),
        )
        _check(clock)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
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


def _milliseconds(values_ns: Iterable[Any]) -> list[float]:
    return [round(float(value) / NS_PER_MS, 3) for value in values_ns]
