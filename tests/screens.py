"""Films of one or more screens with the time code, drawn plainly: a room of its own beside the simulator's phone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from simulator.phone import Phone, draw_modules

WIDTH, HEIGHT = 640, 360
CLOCK_HZ = 90_000
EXPOSURE_NS = 8_000_000
MODULE_PX = 6
QUIET = 4
DARK, BRIGHT = 0.02, 0.9  # linear light
Light = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shown:
    """A screen at a place of the picture (left, top of its quiet zone), whose codes come from a phone."""

    phone: Phone
    left: int
    top: int
    payload: Callable[[str], str] = str  # what is drawn instead of the phone's own digits
    sway_px: float = 0.0

    def draw(self, picture: Light, utc_ns: int) -> None:
        """Lay the codes that were lit in the exposure around an instant over the picture, each by its share."""
        begin, end = utc_ns - EXPOSURE_NS // 2, utc_ns + EXPOSURE_NS // 2
        light = np.zeros((29 * MODULE_PX, 29 * MODULE_PX))
        for code in self.phone.lit(begin, end):
            share = (min(end, code.dark_utc_ns) - max(begin, code.light_utc_ns)) / EXPOSURE_NS
            light += max(share, 0.0) * _light(self.payload(code.payload))
        seconds = utc_ns / 1e9 % 1000
        x = self.left + round(self.sway_px * np.sin(9 * seconds))
        y = self.top + round(self.sway_px * np.sin(7 * seconds))
        picture[y : y + len(light), x : x + len(light)] = light


def _light(payload: str) -> Light:
    modules = np.pad(draw_modules(payload), QUIET)
    pixels = np.kron(np.where(modules, DARK, BRIGHT), np.ones((MODULE_PX, MODULE_PX)))
    return np.asarray(pixels, dtype=np.float64)


def write_screens(
    path: Path,
    screens: Sequence[Shown],
    begin_ns: int,
    *,
    seconds: float = 3.0,
    fps: float = 25.0,
    spoil: Callable[[Light, int], None] = lambda picture, number: None,
    metadata: dict[str, str] | None = None,
    first_pts_s: float = 0.0,
) -> None:
    """Write H.264; the picture at PTS t was taken at `begin_ns` + t. `spoil` changes a picture's linear light."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.options = {"preset": "ultrafast", "g": "15", "bf": "0", "crf": "20"}
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        for number in range(round(seconds * fps)):
            tick = round((first_pts_s + number / fps) * CLOCK_HZ)
            picture = np.full((HEIGHT, WIDTH), 0.15)
            for screen in screens:
                screen.draw(picture, begin_ns + tick * 1_000_000_000 // CLOCK_HZ)
            spoil(picture, number)
            container.mux(stream.encode(_frame(picture, tick)))
        container.mux(stream.encode(None))


def _frame(light: Light, tick: int) -> av.VideoFrame:
    luma = np.round(16 + 219 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    grey = np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(np.vstack([luma, grey]), format="yuv420p")
    frame.pts, frame.time_base = tick, Fraction(1, CLOCK_HZ)
    return frame
