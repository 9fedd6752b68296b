"""What a camera on the car's roof sees: the street going by, the phone with the time code, and a picture's number.

The number at the lower edge says which picture it is, through any compression, so that its true time can be looked up.
"""

import math
from itertools import pairwise

import av
import numpy as np
import numpy.typing as npt

from simulator.facade import VIEW_HEIGHT_M, draw_street
from simulator.lamp import Lamp
from simulator.led import Led
from simulator.paint import BLACK, GREY, WHITE, Picture, Planes
from simulator.phone import Phone
from simulator.screen import FULL_ROWS, Screen
from simulator.world import SECOND_NS, Street, World

BT709 = 1  # of FFmpeg's AVColorSpace
LIMITED_RANGE = 1  # of FFmpeg's AVColorRange


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
        self._screen = Screen(height)
        self._number = _NumberBar(height)

    def picture(
        self,
        utc_ns: int,
        number: int,
        phone: Phone | None = None,
        led: Led | None = None,
        still: Planes | None = None,
        lamp: Lamp | None = None,
    ) -> av.VideoFrame:
        """The picture whose middle row has its mid-exposure at `utc_ns`, marked with `number` (below 2^24).

        `still` is what stands before the camera instead of the street.
        """
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
        planes = Planes(*(_view(plane) for plane in frame.planes))
        if still is None:
            self._draw_street(planes, utc_ns)
        else:
            planes.y[:], planes.u[:], planes.v[:] = still.y, still.u, still.v
        if phone is not None and phone.is_shown(utc_ns):
            self._screen.draw(planes, *self._sway(utc_ns), utc_ns, phone)
        if led is not None:
            led.draw(planes, utc_ns)
        if lamp is not None:
            lamp.draw(planes, utc_ns)
        self._number.draw(planes, number)
        return frame

    def _draw_street(self, planes: Planes, utc_ns: int) -> None:
        way = self._street.at(utc_ns).distance_m * self._scale * self._ahead
        half = int(way / 2) % (self._length // 2)  # even steps: chroma has half the pixels
        planes.y[:] = self._facade.y[:, 2 * half : 2 * half + self.width]
        planes.u[:] = self._facade.u[:, half : half + self.width // 2]
        planes.v[:] = self._facade.v[:, half : half + self.width // 2]

    def _sway(self, utc_ns: int) -> tuple[int, int]:
        """How far the hand has moved: a slow sway and a tremor of some pixels, even for the sake of chroma."""
        time_s = (utc_ns - self._world.epoch_utc_ns) / SECOND_NS
        x = 5 * math.sin(2.3 * time_s) + 2 * math.sin(7.1 * time_s + 1) + 0.7 * math.sin(53 * time_s)
        y = 4 * math.sin(1.7 * time_s + 2) + 2 * math.sin(8.3 * time_s) + 0.7 * math.sin(47 * time_s + 1)
        unit = self.height / FULL_ROWS
        return 2 * round(x * unit / 2), 2 * round(y * unit / 2)


def _view(plane: av.video.plane.VideoPlane) -> Picture:
    rows: Picture = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _close(planes: Planes, width: int) -> Planes:
    """Repeat the beginning after the end, so that every view of `width` is one slice."""
    y, u, v = planes.y, planes.u, planes.v
    return Planes(np.hstack([y, y[:, :width]]), np.hstack([u, u[:, : width // 2]]), np.hstack([v, v[:, : width // 2]]))


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


def read_number(luma: Picture) -> int | None:
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
