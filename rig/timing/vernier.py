"""The instant of a code's change from how much of the new code a picture already holds: ten times finer than reading.

While the screen changes, a picture mixes two codes: the share of the new one says when, within the exposure, the change
came. All modules of all pictures of a film are explained at once by five numbers: the offset of the camera's clock, the
exposure, its shape in time being a box, and how the instant moves over the code (rows of sensor and screen come one
after the other). A film without enough mixed pictures says nothing here, nor one of codes in another form than ours:
neither their mask nor the digits of the next one are known, and the interval stands.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import segno

from rig.arrays import Float32, Float64, Luma, Mask, Uint8
from rig.clock import NS_PER_MS, SIGMAS_IN_99_PERCENT
from rig.timing.codelog import CodeLog
from rig.timing.interval import Interval
from rig.timing.qrtime import TICK_NS, Corners, TimeCode, encode

MODULES = 21
PIXELS_PER_MODULE = 5
DIGITS = 17
GROUP_BITS = (10, 10, 10, 10, 10, 7)  # numeric mode: three digits in ten bits, the last two in seven
GAMMA = 2.2
BLACK, WHITE = 16.0, 235.0  # luma of limited range; a full-range picture only shifts what is normalised anyway
LINEAR_LIGHT = (np.clip((np.arange(256) - BLACK) / (WHITE - BLACK), 0, None) ** GAMMA).astype(np.float32)  # by luma
MIN_MIXED = 5  # pictures; below this the interval stands
MIXED_SHARE = 0.06  # a picture with less of either code is not called mixed
MOST_UNREAD = 0.25  # of the pictures, for other reasons than a mixture
MAX_PICTURES = 250  # of one film; more add nothing to 0.1 ms
MIN_LIKENESS = 0.6  # correlation of a picture's modules with the code that was read in it
TRUNCATION = 0.25  # of full brightness: modules further from the model are glare, fingers, edges
EXPOSURES_MS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0)  # where the search begins
MAX_SEARCH_STEPS = 40
TONE_ERROR = 0.2  # of the exposure, for a share at either end: between tone curves of 1.8 and 2.6
PRIOR_NS = np.array([100.0, 20.0, 10.0, 10.0]) * NS_PER_MS  # of the numbers that are fitted
FLOOR_NS = 300_000  # what a box-shaped exposure leaves out: 0.15 ms in rendered films, more on a real screen


@dataclass(frozen=True, slots=True)
class Sighting:
    """A picture of a code: what its modules looked like, and what was read in it; None where nothing could be."""

    pts_ns: int
    code: TimeCode | None
    mask: int
    light: Float32  # of the 21 x 21 modules: linear, arbitrary scale
    row: float  # of the code's centre, 0 top and 1 bottom of the picture
    screen: int = 0


def light_of(luma: Luma, corners: Corners | Float64) -> Float32 | None:
    """How bright the modules of the code between these corners (x, y in pixels) are; None where it is cut off."""
    size = MODULES * PIXELS_PER_MODULE
    places = np.array(corners, dtype=np.float32)
    if places.min() < 0 or (places.max(axis=0) >= luma.shape[::-1]).any():
        return None
    square = np.array([(0, 0), (size, 0), (size, size), (0, size)], dtype=np.float32)
    # Pixel centres lie at whole numbers for OpenCV, edges for the corners.
    warp = cv2.getPerspectiveTransform(square - 0.5, places - 0.5)
    flat = cv2.warpPerspective(luma, warp, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    light = LINEAR_LIGHT[flat].reshape(MODULES, PIXELS_PER_MODULE, MODULES, PIXELS_PER_MODULE)
    return np.asarray(light[:, 1:-1, :, 1:-1].mean(axis=(1, 3)), dtype=np.float32)


def modules(payloads: Sequence[str], mask: int) -> Uint8:
    """The 21 x 21 modules (1 is dark) of version 1, level H codes of 17 digits, for each of the payloads.

    Every module is the exclusive or of some bits of the digits, as Reed-Solomon code and mask are linear: so the codes
    of single bits, drawn by segno once, make all others.
    """
    plain, ways = _basis(mask)
    bits = np.array([_bits(payload) for payload in payloads], dtype=np.uint8)
    drawn = (bits.astype(np.float32) @ ways.astype(np.float32)).astype(np.uint16) % 2
    return (drawn.astype(np.uint8) ^ plain).reshape(-1, MODULES, MODULES)


@lru_cache(maxsize=8)
def _basis(mask: int) -> tuple[Uint8, Uint8]:
    plain = _draw("0" * DIGITS, mask)
    ways = []
    for group, bits in enumerate(GROUP_BITS):
        width = 2 if bits == GROUP_BITS[-1] else 3
        for bit in reversed(range(bits)):
            digits = "0" * 3 * group + f"{1 << bit:0{width}d}"
            ways.append(_draw(digits.ljust(DIGITS, "0"), mask) ^ plain)
    return plain, np.array(ways)


def _draw(payload: str, mask: int) -> Uint8:
    code = segno.make_qr(payload, error="h", version=1, mode="numeric", mask=mask, boost_error=False)
    return np.array(code.matrix, dtype=np.uint8).ravel()


def _bits(payload: str) -> list[int]:
    groups = [int(payload[3 * index : 3 * index + 3]) for index in range(len(GROUP_BITS))]
    return [group >> bit & 1 for group, width in zip(groups, GROUP_BITS, strict=True) for bit in reversed(range(width))]


@dataclass(frozen=True, slots=True)
class _Film:
    """The pictures of a film, each with three successive codes of which it may hold parts; times from `base_ns`."""

    base_ns: int
    pts_ns: Float64
    row_delay_ns: Float64
    codes_ns: Float64  # pictures x 3
    bright: Float32  # pictures x 3 x 441: how the codes look, 1 bright
    seen: Float32  # pictures x 441: how the pictures look, 1 bright


def measure(
    sightings: Sequence[Sighting], log: CodeLog | None, refresh_ns: float, read_out_ns: int, near: tuple[int, int]
) -> Interval | None:
    """What the mixed pictures of one film tell within `near` (lowest and highest offset, ns); None without enough."""
    step = max(1, math.ceil(len(sightings) / MAX_PICTURES))
    film = _film(sightings[::step], log, refresh_ns, read_out_ns, near)
    if film is None:
        return None
    low, high = (float(bound - film.base_ns) for bound in near)
    found = _refined(film, _searched(film, low, high))
    if log is None and _is_partial(sightings, float(found[1]), refresh_ns):
        return None
    share = _shares(film, found)
    mixed = np.asarray(_is_mixed(share).any(axis=1), dtype=np.bool_)
    if mixed.sum() < MIN_MIXED:
        return None
    # A tone curve that is not known shifts shares of one side all alike, and the instant with them.
    lean = TONE_ERROR * float(found[1]) * abs(float(np.nanmean(np.where(_is_mixed(share), share, np.nan))) - 0.5)
    return Interval(
        offset_ns=film.base_ns + round(float(found[0])),
        half_width_ns=round(FLOOR_NS + lean + _spread_ns(film, found, mixed)),
        pictures=int(mixed.sum()),
    )


def _is_partial(sightings: Sequence[Sighting], exposure_ns: float, refresh_ns: float) -> bool:
    """Whether more pictures were not read than such an exposure mixes: without a log only the others are used here."""
    unread = sum(sighting.code is None for sighting in sightings) / len(sightings)
    return unread > MOST_UNREAD + exposure_ns / refresh_ns


def _film(
    sightings: Sequence[Sighting], log: CodeLog | None, refresh_ns: float, read_out_ns: int, near: tuple[int, int]
) -> _Film | None:
    base = (near[0] + near[1]) // 2
    rows = []
    for sighting in sightings:
        triple = _from_log(sighting, log, base) if log else _inferred(sighting, refresh_ns)
        if triple is None:
            continue
        times, bright = triple
        seen = _normalised(sighting.light.ravel(), bright)
        if seen is not None:
            rows.append((sighting, times, bright, seen))
    if len(rows) < MIN_MIXED:
        return None
    return _Film(
        base_ns=base,
        pts_ns=np.array([sighting.pts_ns - rows[0][0].pts_ns for sighting, *_ in rows], dtype=np.float64),
        row_delay_ns=np.array([(sighting.row - 0.5) * read_out_ns for sighting, *_ in rows]),
        codes_ns=np.array([[time - base - rows[0][0].pts_ns for time in times] for _, times, _, _ in rows], np.float64),
        bright=np.array([bright for _, _, bright, _ in rows]),
        seen=np.array([seen for *_, seen in rows]),
    )


def _from_log(sighting: Sighting, log: CodeLog, offset_ns: int) -> tuple[list[int], Float32] | None:
    """The code that was on the screen, the one before and the one after, as the page says that it drew them."""
    if sighting.code is not None:
        number = log.number(sighting.code.utc_ns)
    else:
        number = int(np.searchsorted(log.utc_ns, sighting.pts_ns + offset_ns)) - 1
    if number is None or not 0 < number < len(log.utc_ns) - 1:
        return None
    around = slice(number - 1, number + 2)
    times, sequence = log.utc_ns[around].tolist(), log.sequence[around].tolist()
    return times, _bright([encode(*drawn) for drawn in zip(times, sequence, strict=True)], sighting.mask)


def _inferred(sighting: Sighting, refresh_ns: float) -> tuple[list[int], Float32] | None:
    """The same without a log: of all codes that may have come a refresh or two away, those that explain the picture."""
    code, mask = sighting.code, sighting.mask
    if code is None:
        return None
    read = _bright([encode(code.utc_ns, code.sequence or 0)], mask)[0]
    seen = _normalised(sighting.light.ravel(), np.array([read]))
    if seen is None:
        return None
    times, looks = [code.utc_ns], [read]
    for way in (-1, 1):
        places = [
            (round((code.utc_ns + way * turns * refresh_ns) / TICK_NS) + ticks, steps)
            for turns, steps in ((1, 1), (2, 1), (2, 2))
            for ticks in (-1, 0, 1)
        ]
        payloads = [encode(tick * TICK_NS, (code.sequence or 0) + way * steps) for tick, steps in places]
        candidates = _bright(payloads, mask)
        difference = candidates - read
        gain = np.clip(difference @ (seen - read), 0, None) ** 2 / (difference**2).sum(axis=1)
        best = int(np.argmax(gain))
        times.insert(0 if way < 0 else 2, places[best][0] * TICK_NS)
        looks.insert(0 if way < 0 else 2, candidates[best])
    return times, np.array(looks)


def _bright(payloads: Sequence[str], mask: int) -> Float32:
    return (1 - modules(payloads, mask).reshape(len(payloads), -1)).astype(np.float32)


def _normalised(light: Float32, bright: Float32) -> Float32 | None:
    """The picture's modules with 0 for dark and 1 for bright, by the modules that are the same in all the codes."""
    always_bright, always_dark = bright.min(axis=0) > 0.5, bright.max(axis=0) < 0.5
    dark = float(np.median(light[always_dark]))
    span = float(np.median(light[always_bright])) - dark
    if span <= 0:
        return None
    seen = np.asarray((light - dark) / span, dtype=np.float32)
    likeness = np.corrcoef(np.clip(seen, -1, 2), bright[len(bright) // 2])[0, 1]
    return seen if likeness >= MIN_LIKENESS else None


# Module coordinates from the code's centre, 1 is its side: how far the instant has moved is linear in them.
_ACROSS, _DOWN = ((np.indices((MODULES, MODULES))[::-1].reshape(2, -1) + 0.5) / MODULES - 0.5).astype(np.float64)


def _rest(film: _Film, found: Float64) -> Float32:
    """The pictures minus what the model makes of them; `found` is offset, exposure, slopes across and down, in ns."""
    offset, exposure, across, down = found
    share = _change(film, offset, exposure, across * _ACROSS + down * _DOWN)
    model = film.bright[:, 0] + sum(
        share[:, step] * (film.bright[:, step + 1] - film.bright[:, step]) for step in range(2)
    )
    return np.asarray(film.seen - model, dtype=np.float32)


def _change(film: _Film, offset: float, exposure: float, slope: Float64) -> Float32:
    """For each picture and each of the two changes: the share of the exposure that came after it, by module."""
    middle = film.pts_ns + offset + film.row_delay_ns
    since = (middle[:, None] - film.codes_ns[:, 1:]).astype(np.float32)
    share = 0.5 + (since[:, :, None] + slope.astype(np.float32)) / max(exposure, 1.0)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float32)


def _shares(film: _Film, found: Float64) -> Float32:
    return np.asarray(_change(film, float(found[0]), float(found[1]), np.zeros(1))[:, :, 0])


def _is_mixed(share: Float32) -> Mask:
    return np.asarray(np.minimum(share, 1 - share) > MIXED_SHARE, dtype=np.bool_)


def _cost(film: _Film, found: Float64) -> float:
    return float(np.minimum(_rest(film, found) ** 2, TRUNCATION**2).sum())


def _searched(film: _Film, low: float, high: float) -> Float64:
    """The best of a coarse grid of offsets and exposures."""
    steps = int(min(MAX_SEARCH_STEPS, max(5, (high - low) / (0.5 * NS_PER_MS))))
    starts = [
        np.array([offset, exposure * NS_PER_MS, 0.0, 0.0])
        for offset in np.linspace(low, high, steps)
        for exposure in EXPOSURES_MS
    ]
    step = max(1, len(film.pts_ns) // 40)
    few = _Film(film.base_ns, *(getattr(film, name)[::step] for name in _Film.__slots__[1:]))
    return min(starts, key=lambda start: _cost(few, start))


def _slopes(film: _Film, found: Float64) -> tuple[Float32, Float32]:
    """What the model leaves, and how that changes with each of the numbers: numbers x pictures x modules, by ns."""
    rest = _rest(film, found)
    steps = np.diag(np.array([0.02, 0.05, 0.05, 0.05]) * NS_PER_MS)
    return rest, np.array([(_rest(film, found + step) - rest) / step.max() for step in steps])


def _refined(film: _Film, found: Float64) -> Float64:
    """Gauss-Newton with the modules that the model does not explain left out."""
    cost, damping = _cost(film, found), 1e-3
    for _ in range(25):
        rest, slopes = _slopes(film, found)
        weight = (np.abs(rest) < TRUNCATION).astype(np.float32)
        slopes = (slopes * weight).reshape(len(found), -1)
        normal = slopes @ slopes.T
        normal += np.diag(np.diag(normal) * damping + 1e-24)
        move = np.linalg.solve(normal, -slopes @ (rest * weight).ravel())
        tried = found + np.clip(move, -2 * NS_PER_MS, 2 * NS_PER_MS)
        tried[1] = np.clip(tried[1], 0.2 * NS_PER_MS, 40 * NS_PER_MS)
        cheaper = _cost(film, tried)
        if cheaper < cost:
            is_done = np.abs(tried[0] - found[0]) < 1e3
            found, cost, damping = tried, cheaper, damping / 5
            if is_done:
                break
        else:
            damping *= 10
    return found


def _spread_ns(film: _Film, found: Float64, mixed: Mask) -> float:
    """99 % of how far the offset may be off, from how much single mixed pictures disagree about all that was fitted.

    Where camera and screen are in step all pictures hold the same share: then offset and exposure are not told apart.
    """
    rest, slopes = _slopes(film, found)
    weight = np.abs(rest) < TRUNCATION
    each = np.einsum("kpm,pm->pk", slopes, rest * weight)[mixed]
    force = np.einsum("kpm,lpm,pm->kl", slopes, slopes, weight)
    inverse = np.linalg.pinv(force + np.diag(1.0 / PRIOR_NS**2))
    variance = inverse @ (each.T @ each) @ inverse
    return SIGMAS_IN_99_PERCENT * float(np.sqrt(variance[0, 0] * len(each) / max(1, len(each) - len(found))))
