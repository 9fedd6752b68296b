"""What a camera on the car's roof sees: the street going by, the phone with the time code, and a picture's number.

The sensor is read row by row from top to bottom; each row is exposed around its own instant. All brightness is mixed
in linear light. The number at the lower edge tells the truth about a picture through any compression.
"""

import math
from functools import lru_cache
from itertools import pairwise

import av
import cv2
import numpy as np
import numpy.typing as npt

from simulator.facade import VIEW_HEIGHT_M, draw_street
from simulator.paint import Planes, to_planes
from simulator.phone import MODULES, QUIET_MODULES, Drawn, Phone, draw_modules
from simulator.world import SECOND_NS, Street, World

MILLISECOND_NS = 1_000_000
EXPOSURE_NS = 8 * MILLISECOND_NS
READ_OUT_NS = 15 * MILLISECOND_NS  # GoPro HERO3+ 1080p60: 14.3 to 14.8 ms (kalibr's table)

BT709 = 1  # of FFmpeg's AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic
LIMITED_RANGE = 1
BLACK, WHITE, GREY = 16, 235, 128

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Film:
    """The pictures of one camera; `side` is where it looks, `seed` which street it sees. Sizes in pixels, even."""

    def __init__(self, world: World, street: Street, side: str, width: int, height: int, seed: int = 1) -> None:
        if side not in ("left", "right"):
            raise ValueError(f"side is {side!r}: it must be 'left' or 'right'")
        self.width, self.height = width, height
        self._world = world
        self._street = street
        self._ahead = 1 if side == "left" else -1  # seen to the left, the street's end lies to the right
        self._scale = height / VIEW_HEIGHT_M
        self._facade = _close(draw_street(height, seed), width)
        self._length = self._facade.y.shape[1] - width
        self._screen = _Screen(height)
        self._number = _NumberBar(height)

    def picture(self, utc_ns: int, number: int, phone: Phone | None = None) -> av.VideoFrame:
        """The picture whose middle row has its mid-exposure at `utc_ns`, marked with `number` (below 2^24)."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
        planes = Planes(*(_view(plane) for plane in frame.planes))
        self._draw_street(planes, utc_ns)
        if phone is not None and phone.is_shown(utc_ns):
            left, top = self._hand(utc_ns)
            self._screen.draw(planes, left, top, utc_ns, phone)
        self._number.draw(planes, number)
        return frame

    def _draw_street(self, planes: Planes, utc_ns: int) -> None:
        way = self._street.at(utc_ns).distance_m * self._scale * self._ahead
        half = int(way / 2) % (self._length // 2)  # even steps: chroma has half the pixels
        planes.y[:] = self._facade.y[:, 2 * half : 2 * half + self.width]
        planes.u[:] = self._facade.u[:, half : half + self.width // 2]
        planes.v[:] = self._facade.v[:, half : half + self.width // 2]

    def _hand(self, utc_ns: int) -> tuple[int, int]:
        """Where the phone's upper left corner is: a slow sway and a tremor of some pixels."""
        time_s = (utc_ns - self._world.epoch_utc_ns) / SECOND_NS
        sway_x = 5 * math.sin(2.3 * time_s) + 2 * math.sin(7.1 * time_s + 1) + 0.7 * math.sin(53 * time_s)
        sway_y = 4 * math.sin(1.7 * time_s + 2) + 2 * math.sin(8.3 * time_s) + 0.7 * math.sin(47 * time_s + 1)
        unit = self.height / 1080
        left = self.width * 0.54 - self._screen.width / 2 + sway_x * unit
        top = self.height * 0.08 + sway_y * unit
        return 2 * round(left / 2), 2 * round(top / 2)


def _view(plane: av.video.plane.VideoPlane) -> Bytes:
    rows: Bytes = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _close(planes: Planes, width: int) -> Planes:
    """Repeat the beginning after the end, so that every view of `width` is one slice."""
    y, u, v = planes.y, planes.u, planes.v
    return Planes(np.hstack([y, y[:, :width]]), np.hstack([u, u[:, : width // 2]]), np.hstack([v, v[:, : width // 2]]))


# --- the phone -------------------------------------------------------------------------------------------------------

CODE_SHARE = 280 / 1080  # side of the code in heights of the picture
SCREEN_ASPECT = 2.05
BEZEL_SHARE = 14 / 1080
DEFOCUS_MODULES = 0.05
GAMMA = 2.2
LIT_BLACK, LIT_WHITE = 0.012, 0.86  # linear light of the screen's dark and light modules
LIGHT_STEPS = 4096
_levels = np.linspace(0, 1, LIGHT_STEPS) ** (1 / GAMMA)
LUMA_OF_LIGHT: Bytes = np.round(BLACK + (WHITE - BLACK) * _levels).astype(np.uint8)


class _Screen:
    """The phone as the camera sees it, upright, the code in the middle of its white page."""

    def __init__(self, height: int) -> None:
        self._picture_height = height
        self._code = round(CODE_SHARE * height)
        inner_width = round(self._code * (MODULES + 2 * QUIET_MODULES) / MODULES)
        self._inner_height = round(inner_width * SCREEN_ASPECT)
        self._bezel = round(BEZEL_SHARE * height)
        self.width = 2 * round(inner_width / 2 + self._bezel)
        self._body = self._draw_body(2 * round(self._inner_height / 2 + self._bezel))
        self._spread = _spread(self._code)
        self._pattern = lru_cache(maxsize=8)(self._render)

    def _draw_body(self, height: int) -> Planes:
        body = np.full((height, self.width, 3), (28, 26, 25), np.uint8)
        page = (self._bezel, self._bezel, self.width - 2 * self._bezel, height - 2 * self._bezel)
        white = round(255 * LIT_WHITE ** (1 / GAMMA))
        cv2.rectangle(body, page, (white, white, white), -1)
        return to_planes(body)

    def draw(self, planes: Planes, left: int, top: int, utc_ns: int, phone: Phone) -> None:
        """Lay the phone over the picture; the code's rows show what was lit while each was exposed."""
        _lay(planes.y, self._body.y, left, top)
        _lay(planes.u, self._body.u, left // 2, top // 2)
        _lay(planes.v, self._body.v, left // 2, top // 2)
        margin_x = (self.width - self._code) // 2
        margin_y = (self._body.y.shape[0] - self._code) // 2
        light = self._light(top + margin_y, margin_y - self._bezel, utc_ns, phone)
        index = np.multiply(light, LIGHT_STEPS - 1).astype(np.uint16)
        _lay(planes.y, LUMA_OF_LIGHT[index], left + margin_x, top + margin_y)

    def _light(self, picture_row: int, screen_row: int, utc_ns: int, phone: Phone) -> Floats:
        """Linear light of the code, each row the mean over its exposure."""
        rows = np.arange(self._code) + 0.5
        middle = ((picture_row + rows) / self._picture_height - 0.5) * READ_OUT_NS
        scan = (screen_row + rows) / self._inner_height * phone.scan_out_ms * MILLISECOND_NS
        begin = middle - EXPOSURE_NS / 2 - scan  # as seen from the screen's top row
        light = np.zeros((self._code, self._code), np.float32)
        for drawn in phone.lit(utc_ns + int(begin.min()) - 1, utc_ns + int(begin.max()) + EXPOSURE_NS + 1):
            share = _share(begin, drawn, utc_ns)
            if share.any():
                light += share[:, None] * self._pattern(drawn.payload)
        return light

    def _render(self, payload: str) -> Floats:
        dark = self._spread @ draw_modules(payload).astype(np.float32) @ self._spread.T
        pattern: Floats = LIT_WHITE - (LIT_WHITE - LIT_BLACK) * dark
        return pattern


def _share(begin: npt.NDArray[np.float64], drawn: Drawn, utc_ns: int) -> Floats:
    """Part of each row's exposure (from `begin` after `utc_ns`) in which this code was lit."""
    lit = np.minimum(begin + EXPOSURE_NS, drawn.dark_utc_ns - utc_ns) - np.maximum(begin, drawn.light_utc_ns - utc_ns)
    return np.clip(lit / EXPOSURE_NS, 0, 1).astype(np.float32)


def _spread(pixels: int) -> Floats:
    """How much of each module a pixel sees, slightly out of focus: pixels x modules."""
    fine = 16
    samples = (np.arange(pixels * fine) + 0.5) * MODULES / (pixels * fine)
    distance = samples[:, None] - np.arange(MODULES)
    erf = np.vectorize(math.erf)
    width = DEFOCUS_MODULES * math.sqrt(2)
    seen = (erf(distance / width) - erf((distance - 1) / width)) / 2
    coverage: Floats = seen.reshape(pixels, fine, MODULES).mean(1).astype(np.float32)
    return coverage


def _lay(plane: Bytes, patch: Bytes, left: int, top: int) -> None:
    plane[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


# --- the number ------------------------------------------------------------------------------------------------------

BLOCKS_PER_HEIGHT = 67.5  # 16 pixels at 1080 rows
NUMBER_BITS = 24
CHECK_BITS = 8
GUARD_BEFORE, GUARD_AFTER = (0, 1), (1, 0)
BLOCKS = len(GUARD_BEFORE) + NUMBER_BITS + CHECK_BITS + len(GUARD_AFTER)
FIRST_COLUMN, FIRST_ROW = 2, 66  # in blocks
DARKEST_LIGHT, LIGHTEST_DARK = 165, 90  # between them a block says nothing
MAX_DEVIATION = 32  # of the pixels in the middle of a block
CRC_POLYNOMIAL, CRC_START = 0x07, 0xA5


class _NumberBar:
    """A row of black and white blocks at the lower edge that holds 24 bits and their checksum."""

    def __init__(self, height: int) -> None:
        self._edges = _block_edges(height)
        self._rows = _block_rows(height)

    def draw(self, planes: Planes, number: int) -> None:
        levels = np.where(_to_bits(number), WHITE, BLACK).astype(np.uint8)
        top, bottom = self._rows
        left, right = int(self._edges[0]), int(self._edges[-1])
        planes.y[top:bottom, left:right] = np.repeat(levels, np.diff(self._edges))
        for chroma in (planes.u, planes.v):
            chroma[top // 2 : (bottom + 1) // 2, left // 2 : (right + 1) // 2] = GREY


def read_number(luma: Bytes) -> int | None:
    """The number in a picture's luma plane (or grey picture) of any height; None where none is beyond doubt."""
    height, width = luma.shape
    edges = _block_edges(height)
    if edges[-1] > width or height < BLOCKS_PER_HEIGHT * 4:
        return None
    top, bottom = _block_rows(height)
    inset = (bottom - top) // 4
    bits = []
    for left, right in pairwise(edges):
        block = luma[top + inset : bottom - inset, left + inset : right - inset]
        mean = float(block.mean())
        if LIGHTEST_DARK < mean < DARKEST_LIGHT or float(block.std()) > MAX_DEVIATION:
            return None
        bits.append(mean >= DARKEST_LIGHT)
    return _from_bits(bits)


def _block_edges(height: int) -> npt.NDArray[np.int64]:
    side = height / BLOCKS_PER_HEIGHT
    return np.round((FIRST_COLUMN + np.arange(BLOCKS + 1)) * side).astype(np.int64)


def _block_rows(height: int) -> tuple[int, int]:
    side = height / BLOCKS_PER_HEIGHT
    return round(FIRST_ROW * side), round((FIRST_ROW + 1) * side)


def _to_bits(number: int) -> list[bool]:
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"picture number {number} does not fit {NUMBER_BITS} bits")
    word = number << CHECK_BITS | _checksum(number)
    bits = [bool(word >> place & 1) for place in reversed(range(NUMBER_BITS + CHECK_BITS))]
    return [*map(bool, GUARD_BEFORE), *bits, *map(bool, GUARD_AFTER)]


def _from_bits(bits: list[bool]) -> int | None:
    number = 0
    for bit in bits[len(GUARD_BEFORE) : len(GUARD_BEFORE) + NUMBER_BITS]:
        number = number << 1 | bit
    return number if _to_bits(number) == bits else None


def _checksum(number: int) -> int:
    """CRC-8 of the three bytes; it starts so that no uniform row of blocks is valid."""
    crc = CRC_START
    for byte in number.to_bytes(NUMBER_BITS // 8, "big"):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (CRC_POLYNOMIAL if crc & 0x80 else 0)) & 0xFF
    return crc
