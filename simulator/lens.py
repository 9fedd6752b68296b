"""The lenses that a GoPro computes from its one glass, and how a flat chart straight before it looks through each."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from simulator.paint import GREY, Picture, Planes

CHART = Path(__file__).resolve().parent.parent / "web" / "chart.png"
CHART_PX_PER_M = 10_000
WALL = 150  # luma of what the chart hangs on
SOFTNESS_PX = 0.6  # one sigma: glass, sensor and sharpening of a GoPro at its best


@dataclass(frozen=True, slots=True)
class Lens:
    """One field of view: across the picture in degrees (GoPro's figures for 16:9, rounded), and its projection.

    `stretch` presses the middle together so that the edges, drawn out, fill the width (SuperView).
    """

    name: str
    across_deg: float
    is_straight: bool  # straight lines stay straight; else equal angles are equal lengths
    stretch: float = 0.0


WEBCAM_LENSES = {  # by the parameter `fov` of webcam/start
    0: Lens("wide", 118.0, is_straight=False),
    2: Lens("narrow", 73.0, is_straight=True),
    3: Lens("superview", 121.0, is_straight=False, stretch=0.25),
    4: Lens("linear", 92.0, is_straight=True),
}


def focal_px(lens: Lens, width: int) -> float:
    """Pixels a radian in the middle of a picture, the mean of across and down: what a chart there tells of a lens."""
    half = math.radians(lens.across_deg / 2)
    even = width / 2 / (math.tan(half) if lens.is_straight else half)
    return even / math.sqrt(1 + lens.stretch)


@lru_cache(maxsize=8)
def view_chart(lens: Lens, width: int, height: int, distance_m: float) -> Planes:
    """A picture of the chart at a distance, its middle in the picture's."""
    chart = cv2.imread(str(CHART), cv2.IMREAD_GRAYSCALE)
    assert chart is not None
    rows, columns = np.indices((height, width), dtype=np.float64)
    across, down = (2 * columns - width + 1) / width, (2 * rows - height + 1) / width
    across = across * (1 + lens.stretch) - lens.stretch * across**3
    spread_m = _spread(lens, np.hypot(across, down)) * distance_m
    scale = focal_px(lens, width) / (CHART_PX_PER_M * distance_m)  # picture's pixels for one of the chart's
    # Shrunk softly first: taking single pixels of a fine chart would alias.
    soft = cv2.GaussianBlur(chart, (0, 0), max(SOFTNESS_PX / scale, 0.1))
    place_x = across * spread_m * CHART_PX_PER_M + (chart.shape[1] - 1) / 2
    place_y = down * spread_m * CHART_PX_PER_M + (chart.shape[0] - 1) / 2
    seen = cv2.remap(
        soft,
        place_x.astype(np.float32),
        place_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(WALL,),
    )
    grey: Picture = np.full((height // 2, width // 2), GREY, np.uint8)
    limited: Picture = (16 + seen.astype(np.float32) * (219 / 255)).round().astype(np.uint8)
    return Planes(limited, grey, grey)


def _spread(lens: Lens, radius: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Metres on a plane a metre away for each half width from the middle."""
    half = math.radians(lens.across_deg / 2)
    if lens.is_straight:
        return np.full(radius.shape, math.tan(half))
    angle = np.minimum(radius * half, math.radians(89))
    return np.tan(angle) / np.maximum(radius, 1e-9)
