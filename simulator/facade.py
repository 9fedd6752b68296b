"""The street as a camera on the roof sees it sideways: one long picture, drawn once, that closes on itself."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

VIEW_HEIGHT_M = 18.0  # what the height of a picture shows
STREET_LENGTH_M = 320.0


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as YUV 4:2:0, BT.709, limited range: what H.264 carries."""

    y: Picture
    u: Picture
    v: Picture


def to_planes(bgr: Picture) -> Planes:
    """Convert 8-bit BGR (even rows and columns) in bands, so that the floating-point copies stay small."""
    rows, columns = bgr.shape[:2]
    planes = Planes(*(np.empty((rows // n, columns // n), np.uint8) for n in (1, 2, 2)))
    for top in range(0, rows, 64):
        band = bgr[top : top + 64]
        small = cv2.resize(band, (columns // 2, band.shape[0] // 2), interpolation=cv2.INTER_AREA)
        planes.y[top : top + 64] = cv2.transform(band, _LUMA)
        chroma = cv2.transform(small, _CHROMA)
        planes.u[top // 2 : top // 2 + 32] = chroma[..., 0]
        planes.v[top // 2 : top // 2 + 32] = chroma[..., 1]
    return planes


def _matrix() -> npt.NDArray[np.float64]:
    """BGR to limited-range YUV, ITU-R BT.709: rows Y, U, V; the last column is the offset."""
    red, blue = 0.2126, 0.0722
    luma = np.array([blue, 1 - red - blue, red])
    u = (np.array([1.0, 0, 0]) - luma) / (2 * (1 - blue))
    v = (np.array([0, 0, 1.0]) - luma) / (2 * (1 - red))
    return np.array([[*luma * 219 / 255, 16], [*u * 224 / 255, 128], [*v * 224 / 255, 128]])


_LUMA, _CHROMA = _matrix()[:1], _matrix()[1:]


def draw_street(height: int, seed: int) -> Planes:
    """The whole street, `height` pixels high; its right end fits its left one."""
    length = 2 * round(STREET_LENGTH_M * height / VIEW_HEIGHT_M / 2)
    canvas = np.full((height, length, 3), (235, 206, 160), np.uint8)
    dice = np.random.default_rng(seed)
    scale = height / VIEW_HEIGHT_M
    for number in range(30):
        left, right = (int(length * n / 30) for n in (number, number + 1))
        color = tuple(int(c) for c in dice.integers(120, 230, 3))
        cv2.rectangle(canvas, (left, int(height * dice.uniform(0.3, 0.5))), (right - 8, int(height * 0.8)), color, -1)
        where = (left + int(scale), int(height * 0.6))
        cv2.putText(canvas, f"RUE {number}", where, cv2.FONT_HERSHEY_DUPLEX, 2, (30, 30, 30), 2, cv2.LINE_AA)
    canvas[int(height * 0.8) :] = (90, 90, 90)
    return to_planes(canvas)
