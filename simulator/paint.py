"""Drawing in metres with smooth edges, and the way from BGR to the planes of a video picture."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Color = tuple[float, float, float]  # BGR, 0 to 255
Point = tuple[float, float]
Points = npt.NDArray[np.float64]  # (points, 2)

BLACK, WHITE, GREY = 16, 235, 128  # luma of black and white, chroma of both, in limited range
SUBPIXEL_BITS = 4
BAND_ROWS = 64
CORNERS = 40  # of the polygon that stands for an ellipse
RIM_M = 0.05  # of a sign
FONT = cv2.FONT_HERSHEY_DUPLEX
FONT_HAS_ACCENTS = int(cv2.__version__.split(".")[0]) >= 5


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as YUV 4:2:0, BT.709, limited range: what H.264 carries."""

    y: Picture
    u: Picture
    v: Picture


@dataclass(frozen=True, slots=True)
class SignColors:
    """Background, rim and letters of a sign."""

    face: Color
    rim: Color
    ink: Color


def to_planes(bgr: Picture) -> Planes:
    """Convert 8-bit BGR (even rows and columns) in bands, so that the copies on the way stay small."""
    rows, columns = bgr.shape[:2]
    planes = Planes(*(np.empty((rows // n, columns // n), np.uint8) for n in (1, 2, 2)))
    for top in range(0, rows, BAND_ROWS):
        band = bgr[top : top + BAND_ROWS]
        chroma = cv2.transform(cv2.resize(band, (columns // 2, len(band) // 2), interpolation=cv2.INTER_AREA), _CHROMA)
        half = slice(top // 2, top // 2 + BAND_ROWS // 2)
        planes.y[top : top + BAND_ROWS] = cv2.transform(band, _LUMA)
        planes.u[half], planes.v[half] = chroma[..., 0], chroma[..., 1]
    return planes


def _matrix() -> npt.NDArray[np.float64]:
    """BGR to limited-range YUV, ITU-R BT.709: rows Y, U, V; the last column is the offset."""
    red, blue = 0.2126, 0.0722
    luma = np.array([blue, 1 - red - blue, red])
    u = (np.array([1.0, 0, 0]) - luma) / (2 * (1 - blue))
    v = (np.array([0, 0, 1.0]) - luma) / (2 * (1 - red))
    return np.array([[*luma * 219 / 255, 16], [*u * 224 / 255, 128], [*v * 224 / 255, 128]])


_LUMA, _CHROMA = _matrix()[:1], _matrix()[1:]
_TURNS = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
_CIRCLE: Points = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)


def rgb(text: str) -> Color:
    """A colour from its usual hexadecimal form."""
    red, green, blue = bytes.fromhex(text)
    return blue, green, red


@lru_cache(1000)
def _text_size(words: str, size: float, thickness: int) -> tuple[int, int]:
    """Columns and rows; OpenCV takes longer to measure a word than to draw it."""
    (columns, rows), _ = cv2.getTextSize(words, FONT, size, thickness)
    return columns, rows


def shade(color: Color, factor: float) -> Color:
    """A colour in other light."""
    blue, green, red = (min(255.0, part * factor) for part in color)
    return blue, green, red


class Brush:
    """Draws on a BGR canvas: x from its left edge, y up from `foot_row`, both in metres."""

    def __init__(self, canvas: Picture, pixels_per_metre: float, foot_row: float) -> None:
        self.canvas = canvas
        self._scale = pixels_per_metre
        self._foot = foot_row

    def polygon(self, points: Sequence[Point] | Points, color: Color) -> None:
        """A filled polygon."""
        pixels = np.array(points) * (self._scale, -self._scale) + (0, self._foot) - 0.5
        fixed = np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], color, cv2.LINE_AA, SUBPIXEL_BITS)

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        """A filled rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], color)

    def frame(self, left: float, bottom: float, right: float, top: float, width: float, color: Color) -> None:
        """The outline of a rectangle, inside it."""
        for edge in (left, right - width):
            self.box(edge, bottom, edge + width, top, color)
        for edge in (bottom, top - width):
            self.box(left, edge, right, edge + width, color)

    def disc(self, x: float, y: float, radius: float, color: Color, flat: float = 1.0) -> None:
        """A filled ellipse, `flat` times as high as wide."""
        self.polygon(_CIRCLE * (radius, flat * radius) + (x, y), color)

    def text(self, words: str, x: float, y: float, height: float, width: float, color: Color) -> None:
        """Words centred on a point: capitals `height` high, smaller where they would be wider than `width`."""
        if not FONT_HAS_ACCENTS:
            words = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
        columns, rows = _text_size(words, 10.0, 1)
        size = 10 * min(height * self._scale / rows, width * self._scale / columns)
        thickness = max(1, round(1.4 * size))
        columns, rows = _text_size(words, size, thickness)
        corner = round(x * self._scale - columns / 2), round(self._foot - y * self._scale + rows / 2)
        cv2.putText(self.canvas, words, corner, FONT, size, color, thickness, cv2.LINE_AA)

    def sign(self, words: str, x: float, y: float, width: float, height: float, colors: SignColors) -> None:
        """A sign centred on a point; `/` separates its lines."""
        left, right, bottom, top = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        self.box(left, bottom, right, top, colors.face)
        self.frame(left, bottom, right, top, RIM_M, colors.rim)
        lines = words.split("/")
        step = (height - 3 * RIM_M) / len(lines)
        for index, line in enumerate(lines):
            middle = top - 1.5 * RIM_M - step * (index + 0.5)
            self.text(line, x, middle, 0.64 * step, width - 4 * RIM_M, colors.ink)
