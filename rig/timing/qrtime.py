"""The time code on a screen: what its digits mean, and how it is read from a camera's picture.

Three forms are read: ours (17 digits), ISO 8601 with `Z`, and decimal Unix milliseconds.
Ours is 14 digits of Unix time in 0.1 ms, one digit counting the refreshes, and two check digits: the first 15 mod 97.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import zxingcpp

from rig.arrays import Luma, Numbers
from rig.clock import NS_PER_MS, parse_utc

try:
    from pyzbar import pyzbar
except (ImportError, OSError):  # libzbar is not there, or is damaged
    pyzbar = None

Corners = tuple[tuple[float, float], ...]
_Code = tuple[str, Corners, int | None]  # what a decoder says: text, place, mask

TICK_NS = 100_000  # of our form: 0.1 ms
CHECK_MODULUS = 97
CROP_FACTOR = 1.8  # side of the crop around a code, in sides of the code: room for a hand that moves
FULL_SEARCH_AFTER_MISSES = 15  # half a second: a hiccup of the page or a glare must not end the following
SEARCH_AGAIN_AFTER = 7  # frames: whether a second screen is in the picture; after 5 or 25 it is in the same phase again
PAGE_MASK = 3  # of the codes that our page draws
MIN_FULL_SEARCH_ROWS = 720  # below this the half-size picture loses codes that the whole one holds

_QR_CODE = zxingcpp.barcode_formats_from_str("QRCode")
_OURS = re.compile(r"\d{17}")
_UNIX_MS = re.compile(r"\d{13}")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_GAMMA = np.round(255 * (np.arange(256) / 255) ** 2.2).astype(np.uint8)  # makes the brighter half of a mixture win


@dataclass(frozen=True, slots=True)
class TimeCode:
    """The instant that a code holds: the time stamp of the animation frame in which it was drawn."""

    utc_ns: int
    resolution_ns: int
    sequence: int | None = None  # number of the refresh, mod 10; only in our form


@dataclass(frozen=True, slots=True)
class Reading:
    """A code that was read in a picture, and where: corners as x, y in pixels."""

    code: TimeCode
    corners: Corners  # upper left, upper right, lower right, lower left of the code itself
    mask: int | None = None  # of a version 1, level H code of our form: with its digits it tells all its modules
    screen: int = 0  # number of the code among those that were followed

    @property
    def centre(self) -> tuple[float, float]:
        """The code's middle as x, y in pixels."""
        x, y = np.mean(self.corners, axis=0)
        return float(x), float(y)


def encode(utc_ns: int, sequence: int) -> str:
    """The 17 digits for an instant and the number of the refresh that shows it."""
    digits = f"{utc_ns // TICK_NS:014d}{sequence % 10}"
    return f"{digits}{int(digits) % CHECK_MODULUS:02d}"


def decode(text: str) -> TimeCode | None:
    """The instant in a code's text in any of the three forms; None for anything else or wrong check digits."""
    if _OURS.fullmatch(text):
        if int(text[:15]) % CHECK_MODULUS != int(text[15:]):
            return None
        return TimeCode(int(text[:14]) * TICK_NS, TICK_NS, int(text[14]))
    if _UNIX_MS.fullmatch(text):
        return TimeCode(int(text) * NS_PER_MS, NS_PER_MS)
    if match := _ISO.fullmatch(text):
        with suppress(ValueError):
            fraction = len(match[1] or ".") - 1
            return TimeCode(parse_utc(text), 10 ** (9 - min(fraction, 9)))
    return None


@dataclass(slots=True)
class _Track:
    corners: Corners
    screen: int
    misses: int = 0


class CodeReader:
    """Reads the time codes from one picture after the other of one camera, following each once it was found."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._since_search = 0
        self._screens = 0

    @property
    def following(self) -> bool:
        """Whether a code was seen lately."""
        return bool(self._tracks)

    def read(self, luma: Luma) -> Reading | None:
        """The code in a picture (rows x columns, 8 bits), None where there is none."""
        return next(iter(self.read_all(luma)), None)

    def read_all(self, luma: Luma) -> list[Reading]:
        """All codes in a picture. While one is followed, others are looked for once in a while only."""
        found = [reading for track in self._tracks if (reading := _follow(luma, track)) is not None]
        self._tracks = [track for track in self._tracks if track.misses < FULL_SEARCH_AFTER_MISSES]
        self._since_search += 1
        if not self._tracks or self._since_search >= SEARCH_AGAIN_AFTER:
            self._since_search = 0
            found += [self._take(reading) for reading in _search(luma, self._is_new)]
        return found

    def _take(self, reading: Reading) -> Reading:
        self._screens += 1
        self._tracks.append(_Track(reading.corners, self._screens))
        return replace(reading, screen=self._screens)

    def _is_new(self, reading: Reading) -> bool:
        boxes = [np.array(track.corners) for track in self._tracks]
        return not any(
            (box.min(axis=0) < reading.centre).all() and (box.max(axis=0) > reading.centre).all() for box in boxes
        )


def _search(luma: Luma, is_wanted: Callable[[Reading], bool]) -> list[Reading]:
    """The wanted codes of the first attempt that shows any: the followed ones show in each."""
    for scale, attempt in _searched(luma):
        if found := [code for code in _time_codes(_zxing(attempt), scale, (0, 0)) if is_wanted(code)]:
            return found
    return []


def _searched(luma: Luma) -> Iterator[tuple[float, Numbers]]:
    """What of a picture is searched, cheapest first, and by how much it was enlarged."""
    if luma.shape[0] >= MIN_FULL_SEARCH_ROWS:
        half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        yield 0.5, half
        yield 0.5, cv2.LUT(half, _GAMMA)
    yield 1.0, luma


def _follow(luma: Luma, track: _Track) -> Reading | None:
    crop, corner = crop_around(luma, track.corners)
    for scale, codes in _attempts(crop):
        if found := _time_codes(codes, scale, corner):
            track.corners, track.misses = found[0].corners, 0
            return replace(found[0], screen=track.screen)
    track.misses += 1
    return None


def _attempts(crop: Luma) -> Iterator[tuple[float, list[_Code]]]:
    """The cascade, cheapest first: by how much a crop was enlarged, and what was read then."""
    yield 1.0, _zxing(crop)
    yield 1.0, _zxing(cv2.LUT(crop, _GAMMA))
    doubled = cv2.resize(crop, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    yield 2.0, _zxing(cv2.LUT(doubled, _GAMMA))
    yield 1.0, _zxing(cv2.createCLAHE(4.0, (4, 4)).apply(crop))
    yield 2.0, _zxing(cv2.addWeighted(doubled, 2.5, cv2.GaussianBlur(doubled, (0, 0), 3), -1.5, 0))  # unsharp mask
    yield 1.0, _zbar(crop)


def _time_codes(codes: Sequence[_Code], scale: float, corner: tuple[int, int]) -> list[Reading]:
    """Those of the codes that hold a time, where they lie in the picture of which a part was read, so much enlarged."""
    found = []
    for text, corners, mask in codes:
        if time := decode(text):
            places = tuple((x / scale + corner[0], y / scale + corner[1]) for x, y in corners)
            found.append(Reading(time, places, None if time.sequence is None else mask))
    return found


def crop_around(luma: Luma, corners: Corners) -> tuple[Luma, tuple[int, int]]:
    """The part of a picture around a code, and its upper left corner as x, y."""
    points = np.array(corners)
    centre = points.mean(axis=0)
    reach = CROP_FACTOR / 2 * float(np.ptp(points, axis=0).max())
    left, top = (max(0, int(middle - reach)) for middle in centre)
    right, bottom = (int(middle + reach) + 1 for middle in centre)
    return np.ascontiguousarray(luma[top:bottom, left:right]), (left, top)


def _zxing(luma: Numbers) -> list[_Code]:
    found = zxingcpp.read_barcodes(luma, formats=_QR_CODE, try_rotate=False, try_downscale=False, try_invert=False)
    return [(code.text, _corners(code.position), _mask(code)) for code in found]


def _mask(code: Any) -> int | None:
    """The mask of a code of our kind; zxing-cpp before 3 does not tell it, the page draws with one."""
    extra = getattr(code, "extra", None)
    if not isinstance(extra, dict):
        return PAGE_MASK
    is_ours = (extra.get("Version"), extra.get("ECLevel")) == ("1", "H")
    return int(extra["DataMask"]) if is_ours and "DataMask" in extra else None


def _corners(position: Any) -> Corners:
    points = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return tuple((float(point.x), float(point.y)) for point in points)


def _zbar(luma: Luma) -> list[_Code]:
    """zbar's reading, better under glare and at oblique angles; nothing where libzbar is not installed."""
    if pyzbar is None:
        return []
    # Without `symbols` zbar finds bar codes in noise.
    found = pyzbar.decode(luma, symbols=[pyzbar.ZBarSymbol.QRCODE])
    return [(code.data.decode("ascii", "replace"), tuple((p.x, p.y) for p in code.polygon), None) for code in found]
