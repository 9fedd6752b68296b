"""A phone in a hand as a camera sees it, its screen lit row by row while the camera's sensor is exposed row by row.

Old and new code are mixed in linear light, for each row of the sensor by how long it saw either of them.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simulator.paint import BLACK, WHITE, Brush, Color, Picture, Planes, Point, rgb, shade, to_planes
from simulator.phone import MILLISECOND_NS, MODULES, QUIET_MODULES, Drawn, Phone, draw_modules

EXPOSURE_NS = 8 * MILLISECOND_NS
READ_OUT_NS = 15 * MILLISECOND_NS  # GoPro HERO3+ 1080p60: 14.3 to 14.8 ms (kalibr's table of rolling shutters)

# Sizes in rows of a picture that has 1080 of them.
FULL_ROWS = 1080
CODE = 280.0
PAGE_WIDTH = CODE * (MODULES + 2 * QUIET_MODULES) / MODULES
PAGE_HEIGHT = 2.05 * PAGE_WIDTH
BEZEL = 14.0
ROUNDING = 34.0
HAND = 120.0  # what is seen of it on either side
PHONE_TOP = 90.0
SWAY_ROOM = 20.0

GAMMA = 2.2
DARK_LIGHT, BRIGHT_LIGHT = 0.012, 0.86  # linear light of the screen's dark and bright modules
LIGHT_STEPS = 4096
DEFOCUS_MODULES = 0.05  # standard deviation
SAMPLES_PER_PIXEL = 16

BODY, SKIN, SLEEVE, PAGE_TEXT = rgb("1d1e20"), rgb("d9a583"), rgb("2f4258"), rgb("8b9096")

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def _luma_of_light() -> Picture:
    light = np.linspace(0, 1, LIGHT_STEPS) ** (1 / GAMMA)
    return np.round(BLACK + (WHITE - BLACK) * light).astype(np.uint8)


LUMA_OF_LIGHT = _luma_of_light()


class Screen:
    """A phone with the code's page, for pictures of `height` rows; drawn once, but for the code."""

    def __init__(self, height: int) -> None:
        unit = height / FULL_ROWS
        self._height = height
        self._code = round(CODE * unit)
        self._page_top = (BEZEL + PAGE_HEIGHT / 2) * unit - self._code / 2  # from the page's upper edge to the code's
        self._page_height = PAGE_HEIGHT * unit
        self._picture, self._mask = _draw_handset(height)
        self._corner = round((self._picture.y.shape[1] - self._code) / 2), round(self._page_top)
        self._seen = _modules_seen(self._code)
        self._pattern = lru_cache(maxsize=8)(self._draw_pattern)

    def draw(self, planes: Planes, x: int, y: int, utc_ns: int, phone: Phone) -> None:
        """Lay the phone over a picture, shifted by even `x` and `y` from the middle, at its place in the hand.

        `utc_ns` is the mid-exposure of the picture's middle row.
        """
        left = (planes.y.shape[1] - self._picture.y.shape[1]) // 4 * 2 + x
        top = round(PHONE_TOP / FULL_ROWS * self._height / 2) * 2 + y
        _lay(planes.y, self._picture.y, self._mask, left, top)
        for plane, patch in ((planes.u, self._picture.u), (planes.v, self._picture.v)):
            _lay(plane, patch, self._mask[::2, ::2], left // 2, top // 2)
        column, row = left + self._corner[0], top + self._corner[1]
        light = self._light(row, utc_ns, phone)
        steps = np.multiply(light, LIGHT_STEPS - 1).astype(np.uint16)
        planes.y[row : row + self._code, column : column + self._code] = LUMA_OF_LIGHT[steps]

    def _light(self, first_row: int, utc_ns: int, phone: Phone) -> Floats:
        """Linear light of the code whose upper edge is in a row of the picture, each row's mean over its exposure."""
        rows = np.arange(self._code) + 0.5
        exposed = ((first_row + rows) / self._height - 0.5) * READ_OUT_NS - EXPOSURE_NS / 2
        bezel = BEZEL / FULL_ROWS * self._height
        scanned = (self._corner[1] - bezel + rows) / self._page_height * phone.scan_out_ms * MILLISECOND_NS
        begin = exposed - scanned  # as if all were in the screen's top row
        light = np.zeros((self._code, self._code), np.float32)
        for code in phone.lit(utc_ns + math.floor(begin.min()), utc_ns + math.ceil(begin.max() + EXPOSURE_NS)):
            light += _share(begin, code, utc_ns)[:, None] * self._pattern(code.payload)
        return light

    def _draw_pattern(self, payload: str) -> Floats:
        dark = self._seen @ draw_modules(payload).astype(np.float32) @ self._seen.T
        pattern: Floats = BRIGHT_LIGHT - (BRIGHT_LIGHT - DARK_LIGHT) * dark
        return pattern


def _share(begin: Doubles, code: Drawn, utc_ns: int) -> Floats:
    """Part of each row's exposure, beginning so many ns after `utc_ns`, in which a code was lit."""
    lit = np.minimum(begin + EXPOSURE_NS, code.dark_utc_ns - utc_ns) - np.maximum(begin, code.light_utc_ns - utc_ns)
    return np.clip(lit / EXPOSURE_NS, 0, 1).astype(np.float32)


def _modules_seen(pixels: int) -> Floats:
    """How much of each module a pixel sees, slightly out of focus: pixels x modules."""
    places = (np.arange(pixels * SAMPLES_PER_PIXEL) + 0.5) * MODULES / (pixels * SAMPLES_PER_PIXEL)
    beyond_edge = (places[:, None] - np.arange(MODULES + 1)) / (DEFOCUS_MODULES * math.sqrt(2))
    passed = np.vectorize(math.erf)(beyond_edge) / 2
    seen: Floats = (passed[:, :-1] - passed[:, 1:]).reshape(pixels, SAMPLES_PER_PIXEL, MODULES).mean(1)
    return seen.astype(np.float32)


def _lay(plane: Picture, patch: Picture, mask: npt.NDArray[np.bool_], left: int, top: int) -> None:
    rows = min(patch.shape[0], plane.shape[0] - top)
    target = plane[top : top + rows, left : left + patch.shape[1]]
    np.copyto(target, patch[:rows], where=mask[:rows])


# --- how it looks ----------------------------------------------------------------------------------------------------


def _draw_handset(height: int) -> tuple[Planes, npt.NDArray[np.bool_]]:
    """Phone and hand, and which pixels they cover."""
    unit = height / FULL_ROWS
    columns = 2 * round((PAGE_WIDTH / 2 + BEZEL + HAND) * unit)
    rows = 2 * round((FULL_ROWS - PHONE_TOP + SWAY_ROOM) * unit / 2)
    layers = []
    for background in (0, 255):
        brush = Brush(np.full((rows, columns, 3), background, np.uint8), unit, 0.0)
        _draw_all(brush, columns / unit / 2)
        layers.append(brush.canvas)
    mask = (layers[0] == layers[1]).all(axis=2)
    return to_planes(layers[0]), mask


def _draw_all(brush: Brush, middle: float) -> None:
    """Units are rows of a full picture, y upwards from the phone's upper edge."""
    left, right = middle - PAGE_WIDTH / 2 - BEZEL, middle + PAGE_WIDTH / 2 + BEZEL
    bottom = -PAGE_HEIGHT - 2 * BEZEL
    _palm(brush, middle, right, bottom)
    _rounded(brush, (left - 3, bottom - 3), (right + 3, 3), ROUNDING + 3, rgb("6d7278"))
    _rounded(brush, (left, bottom), (right, 0), ROUNDING, BODY)
    bright = 255 * BRIGHT_LIGHT ** (1 / GAMMA)
    page = (bright, bright, bright)
    _rounded(brush, (left + BEZEL, bottom + BEZEL), (right - BEZEL, -BEZEL), ROUNDING - BEZEL, page)
    brush.text("edenCar", middle, -BEZEL - 80, 34, 200, PAGE_TEXT)
    brush.text("UTC", middle, bottom + BEZEL + 110, 26, 200, PAGE_TEXT)
    brush.box(middle - 50, bottom + BEZEL + 14, middle + 50, bottom + BEZEL + 19, PAGE_TEXT)
    _fingers(brush, left, right, bottom)


def _palm(brush: Brush, middle: float, right: float, bottom: float) -> None:
    dark = shade(SKIN, 0.86)
    _capsule(brush, (right - 95, bottom + 170), (middle + 50, bottom - 260), 145, dark)
    _capsule(brush, (middle + 10, bottom - 330), (middle + 60, bottom - 330), 190, SLEEVE)


def _fingers(brush: Brush, left: float, right: float, bottom: float) -> None:
    for index in range(4):
        y = bottom + 190 + 74 * index
        _capsule(brush, (left - 40, y - 12), (left - 4, y), 34, shade(SKIN, 0.8))
        _capsule(brush, (left - 38, y - 10), (left - 6, y), 30, SKIN)
    for radius, color in ((50, shade(SKIN, 0.8)), (46, SKIN)):
        _capsule(brush, (right + 34, bottom - 10), (right + 16, bottom + 330), radius, color)
    _capsule(brush, (right + 6, bottom + 336), (right + 10, bottom + 352), 22, rgb("ecc7b0"))


def _rounded(brush: Brush, low: Point, high: Point, radius: float, color: Color) -> None:
    brush.box(low[0] + radius, low[1], high[0] - radius, high[1], color)
    brush.box(low[0], low[1] + radius, high[0], high[1] - radius, color)
    for x in (low[0] + radius, high[0] - radius):
        for y in (low[1] + radius, high[1] - radius):
            brush.disc(x, y, radius, color)


def _capsule(brush: Brush, begin: Point, end: Point, radius: float, color: Color) -> None:
    """A thick line with round ends."""
    length = math.dist(begin, end)
    across_x, across_y = (begin[1] - end[1]) * radius / length, (end[0] - begin[0]) * radius / length
    corners = [(x + s * across_x, y + s * across_y) for (x, y), s in ((begin, 1), (end, 1), (end, -1), (begin, -1))]
    brush.polygon(corners, color)
    for x, y in (begin, end):
        brush.disc(x, y, radius, color)
