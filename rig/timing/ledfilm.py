"""A film of an LED beside a time code: when its pictures were taken by the LED, and by the code; the difference.

The LED is the place in the picture whose light follows the known pattern. How much of each exposure it was lit gives
the instants of the pictures; exposure and response of the sensor are unknown and fitted with them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from configs import Settings
from rig.arrays import Float32, Float64, Int64, Luma, Numbers
from rig.clock import NS_PER_MS, NS_PER_S, iso_utc
from rig.errors import NoCalibrationError, UnreadableError
from rig.footage import video
from rig.footage.video import Video
from rig.timing import codefilm, timeline
from rig.timing.cameraclock import CameraClock, combined
from rig.timing.codefilm import CodeFilm
from rig.timing.codelog import CodeLog, holder
from rig.timing.interval import likely_range
from rig.timing.led import LatencyResult, LedLog
from rig.timing.timeline import Terms
from rig.timing.vernier import LINEAR_LIGHT

LONGEST_FILM_NS = 60 * NS_PER_S  # what is looked at; the blinking lasts 10 s
BLOCK_ROWS = 135  # of a picture: 8 pixels each at 1080 rows; where the LED is looked for
REACHES = (1, 2, 3)  # blocks on each side of the middle one that are summed: room for an LED that moves
EARLIEST_NS, LATEST_NS = -30 * NS_PER_MS, 220 * NS_PER_MS  # where the latency is looked for
PLAUSIBLE_NS = (0, 150 * NS_PER_MS)  # no light comes before its frame
WIDEST_NS = 4 * NS_PER_MS  # a wider bar is hardly better than what the page itself can tell (8 ms)
SEARCH_STEP_NS = 4 * NS_PER_MS
USUAL_EXPOSURE_NS = 8.0 * NS_PER_MS
MARGIN_NS = 300 * NS_PER_MS  # of darkness before and after the blinking that is used
MIN_SPAN_NS = 4 * NS_PER_S  # below this something else in the picture may follow the pattern by chance
MIN_PICTURES = 60
MIN_LIKENESS = 0.8  # of light and pattern; chance reaches 0.65 with 10^6 places and lags in 4 s
MIN_SIGMA = 0.004  # of the sensor's full linear range, mean of a place: what changes less is noise

# The fit
EXPOSURES_NS = np.geomspace(0.5, 33.0, 22) * NS_PER_MS
CLIPPED_AT = (1.0, 0.5, 0.2, 0.05)  # share of the exposure that saturates the sensor
POWERS = (0.5, 1.0, 1.6)  # by which light and what is taken for it may differ: tone curves are not known
COARSE_NS, COARSE_STEP_NS = 30.0 * NS_PER_MS, 1.0 * NS_PER_MS
FINE = ((4.0 * NS_PER_MS, 0.1 * NS_PER_MS), (0.8 * NS_PER_MS, 0.02 * NS_PER_MS))
FREEDOM = 4.0  # of Student's distribution: single pictures may be far off
LEAST_NOISE = 0.01  # of the LED's light
FLOOR_NS = 300_000  # what rows of one LED, a rate of 100 ppm and the wrong shape of the response leave out

_LIGHT = np.minimum(LINEAR_LIGHT, 1)


@dataclass(frozen=True, slots=True)
class Lit:
    """The LED in a film: UTC minus PTS in its row, and where it is (shares of the picture's width and height)."""

    offset_ns: int
    half_width_ns: int
    across: float
    down: float


@dataclass(frozen=True, slots=True)
class Lights:
    """Mean linear light of the blocks of all pictures: pictures x rows x columns."""

    pts_ns: Int64
    blocks: Float32


def estimate(path: Path, edges: LedLog, settings: Settings, logs: Sequence[CodeLog]) -> LatencyResult:
    """The display latency from a film; of a user agent only where a page's log has the codes.

    Raises what `rig.timing.led.measure` names.
    """
    item = video.find_videos(_newest(path, edges, settings) if path.is_dir() else [path])[-1]
    window = max(item.first_ns, item.last_ns - LONGEST_FILM_NS), item.last_ns
    codes = codefilm.read_windows(item, [window])
    rough = _code_clock(codes, edges, settings, logs, 0.5, vernier=False)
    offset = int(rough.utc_ns(0))
    led_window = edges.edges[0][0] - offset - LATEST_NS, edges.edges[-1][0] - offset - EARLIEST_NS
    lights = _lights(item, (max(window[0], led_window[0] - MARGIN_NS), min(window[1], led_window[1] + MARGIN_NS)))
    led = find(lights, edges, offset)
    return compare(codes, led, (int(lights.pts_ns[0]), int(lights.pts_ns[-1])), edges, settings, logs)


def _newest(folder: Path, edges: LedLog, settings: Settings) -> list[Path]:
    """The segments of a stream that can hold a blinking that has just ended."""
    blinking_ns = edges.edges[-1][0] - edges.edges[0][0] + 2 * NS_PER_S
    count = 1 + math.ceil(blinking_ns / NS_PER_S / settings.segment_s)
    segments = sorted(path for path in folder.iterdir() if path.suffix == video.STREAM_SUFFIX)
    if not segments:
        raise UnreadableError(f"{folder} holds no stream", cure="look at the camera and its cable")
    return segments[-count:]


def compare(
    codes: CodeFilm, led: Lit, span: tuple[int, int], edges: LedLog, settings: Settings, logs: Sequence[CodeLog]
) -> LatencyResult:
    """Code against LED in the middle of `span` (PTS in ns). Raises NoCalibrationError when that is no measurement."""
    clock = _code_clock(codes, edges, settings, logs, led.down, vernier=True)
    middle = np.array([sum(span) // 2], dtype=np.int64)
    utc_ns = int(middle[0]) + led.offset_ns
    latency = utc_ns - int(clock.utc_ns(middle)[0])
    halves = [clock.error_ns(middle, constants=False)[0], led.half_width_ns, *(value for _, value in clock.constants)]
    error = int(combined(np.array(halves, dtype=np.float64)[:, None])[0])
    _require_measurement(latency, error, sum(value for _, value in clock.constants))
    return LatencyResult(
        user_agent=page.user_agent if (page := _page(codes, logs)) else "",
        latency_ms=round(latency / NS_PER_MS, 2),
        error_ms=round(error / NS_PER_MS, 2),
        when=iso_utc(utc_ns),
        codes=sum(anchor.codes for anchor in clock.anchors),
        method=f"led+{clock.anchors[0].method}",
    )


def _require_measurement(latency_ns: int, error_ns: int, clocks_ns: int) -> None:
    """Raise NoCalibrationError for what no phone does or a bar that says nothing, with what to do about it."""
    if not PLAUSIBLE_NS[0] - error_ns <= latency_ns <= PLAUSIBLE_NS[1] + error_ns:
        raise NoCalibrationError(
            f"the code's light would come {latency_ns / NS_PER_MS:.0f} ms after its frame, which no phone does",
            cure="load the page /qrcode again, from the Pi that blinks the LED, and wait until it says its offset",
        )
    if error_ns > WIDEST_NS:
        if clocks_ns > error_ns / 2:
            raise NoCalibrationError(
                f"the page knows the Pi's clock within {clocks_ns / NS_PER_MS:.1f} ms only",
                cure="load the page /qrcode again, nearer to the Pi's antenna, and wait until it says a smaller bound",
            )
        raise NoCalibrationError(
            f"screen and camera keep their phase in this film: it tells the latency within {error_ns / NS_PER_MS:.0f}"
            " ms only",
            cure="film again for 10 s, best at 25 or 50 frames a second (anti-flicker 50 Hz)",
        )


def find(lights: Lights, edges: LedLog, code_offset_ns: int) -> Lit:
    """The LED in the pictures. `code_offset_ns` is UTC minus PTS as the code tells it, early by the latency.

    Raises NoCalibrationError when no place of the picture follows the pattern.
    """
    pts = lights.pts_ns
    if len(pts) < MIN_PICTURES or pts[-1] - pts[0] < MIN_SPAN_NS:
        raise NoCalibrationError(
            f"code and blinking LED were filmed together in {len(pts)} pictures only",
            cure="start the camera, show the page /qrcode of the Pi that blinks the LED, then blink it for 10 s",
        )
    lags = np.arange(EARLIEST_NS, LATEST_NS + 1, SEARCH_STEP_NS)
    shares = _share_lit(edges, pts, (code_offset_ns + lags)[:, None], USUAL_EXPOSURE_NS)
    best = max((_best_place(lights, shares, reach) for reach in REACHES), key=lambda place: place.likeness)
    if best.likeness < MIN_LIKENESS:
        raise _no_led(best.likeness)
    return fit(pts, best.light, edges, code_offset_ns + int(lags[best.lag]), (best.across, best.down))


def fit(pts_ns: Int64, light: Float64, edges: LedLog, near_ns: int, centre: tuple[float, float]) -> Lit:
    """When pictures of an LED of this light (linear, any scale) were taken; `near_ns` is right within 30 ms.

    Raises NoCalibrationError when the light does not follow the pattern.
    """
    film = _Film(pts_ns, light, edges, near_ns)
    offsets = np.arange(-COARSE_NS, COARSE_NS + 1, COARSE_STEP_NS)
    best = film.likeliest(offsets)
    for reach, step in FINE:
        offsets = best.offset_ns + np.arange(-reach, reach + step / 2, step)
        best = film.likeliest(offsets)
    if best.likeness < MIN_LIKENESS:
        raise _no_led(best.likeness)
    mean, half_width = likely_range(offsets, film.log_chance(offsets, best.noise))
    return Lit(
        offset_ns=near_ns + round(mean),
        half_width_ns=round(half_width) + FLOOR_NS,
        across=centre[0],
        down=centre[1],
    )


def _no_led(likeness: float) -> NoCalibrationError:
    return NoCalibrationError(
        f"no LED in the picture follows the pattern of its log (likeness {likeness:.2f}, {MIN_LIKENESS} is needed)",
        cure="film the LED and the phone side by side, camera and both at rest, and take the log of that blinking",
    )


def _code_clock(
    codes: CodeFilm, edges: LedLog, settings: Settings, logs: Sequence[CodeLog], row: float, *, vernier: bool
) -> CameraClock:
    """The camera's clock in a row of the picture, as if the display had no latency."""
    # The clock is that of the middle row: rows count from the LED's, as only the difference of the two matters.
    observations = [replace(o, row=o.row - row + 0.5) for o in codes.observations]
    sightings = [replace(s, row=s.row - row + 0.5) for s in codes.sightings]
    page = _page(codes, logs)
    bound_ns = page.offset_bound_ns if page else 0
    terms = Terms.of(settings, (0.0, 0.0), clock_error_ns=edges.clock_error_ns, page_bound_ns=bound_ns)
    return timeline.calibrate(observations, terms, logs=logs, sightings=sightings if vernier else ())


def _page(codes: CodeFilm, logs: Sequence[CodeLog]) -> CodeLog | None:
    """What the page drew that was filmed."""
    return next((log for o in codes.observations if (log := holder(logs, o.code.utc_ns)) is not None), None)


def _lights(item: Video, window: tuple[int, int]) -> Lights:
    found = [(clock_ns, block_light(luma)) for _, clock_ns, luma in codefilm.pictures(item, [window])]
    pts = np.array([pts_ns for pts_ns, _ in found], dtype=np.int64)
    return Lights(pts, np.array([blocks for _, blocks in found], dtype=np.float32))


def block_light(luma: Luma) -> Float32:
    """Mean linear light of the blocks of one picture, BLOCK_ROWS from top to bottom."""
    rows, columns = luma.shape
    size = round(columns * BLOCK_ROWS / rows), BLOCK_ROWS
    return cast(Float32, cv2.resize(cv2.LUT(luma, _LIGHT), size, interpolation=cv2.INTER_AREA))


@dataclass(frozen=True, slots=True)
class _Place:
    likeness: float
    lag: int
    light: Float64
    across: float
    down: float


def _best_place(lights: Lights, shares: Float64, reach: int) -> _Place:
    """Where in the picture, and at which lag, light and pattern are most alike."""
    side = 2 * reach + 1
    summed = np.array([cv2.blur(picture, (side, side)) for picture in lights.blocks], dtype=np.float32)
    trend = _Trend(lights.pts_ns)
    flat = trend.removed(summed.reshape(len(summed), -1).T)
    flat /= np.maximum(np.linalg.norm(flat, axis=1), MIN_SIGMA * np.sqrt(len(summed)))[:, None]
    model = trend.removed(shares)
    model /= np.maximum(np.linalg.norm(model, axis=1), 1e-9)[:, None]
    likeness = model.astype(np.float32) @ flat.T
    lag, place = np.unravel_index(int(np.argmax(likeness)), likeness.shape)
    rows, columns = summed.shape[1:]
    row, column = divmod(int(place), columns)
    return _Place(
        likeness=float(likeness[lag, place]),
        lag=int(lag),
        light=summed[:, row, column].astype(np.float64),
        across=(column + 0.5) / columns,
        down=(row + 0.5) / rows,
    )


class _Trend:
    """What changes slowly: the daylight, the camera's exposure."""

    def __init__(self, pts_ns: Int64) -> None:
        time = 2 * (pts_ns - pts_ns[0]) / (pts_ns[-1] - pts_ns[0]) - 1
        self._basis = np.linalg.qr(np.stack([time**power for power in range(3)], axis=1))[0]

    def removed(self, values: Numbers) -> Numbers:
        """The values (any axes, the last one pictures) without a parabola in time."""
        basis = self._basis.astype(values.dtype)
        return np.asarray(values - (values @ basis) @ basis.T)


def _share_lit(edges: LedLog, pts_ns: Int64, offset_ns: Numbers, exposure_ns: float | Float64) -> Float64:
    """Part of the pictures' exposures in which the LED was lit; `offset_ns` and the exposure broadcast with them."""
    base = edges.edges[0][0]
    times = np.array([utc_ns - base for utc_ns, _ in edges.edges], dtype=np.float64)
    states = np.array([on for _, on in edges.edges[:-1]], dtype=np.float64)
    lit = np.concatenate([[0.0], np.cumsum(states * np.diff(times))])
    middle = (pts_ns + (offset_ns - base)).astype(np.float64)
    begin, end = middle - exposure_ns / 2, middle + exposure_ns / 2
    return np.asarray((np.interp(end, times, lit) - np.interp(begin, times, lit)) / exposure_ns)


@dataclass(frozen=True, slots=True)
class _Best:
    likeness: float
    offset_ns: float
    noise: float


class _Film:
    """The light of the LED in all pictures, to be explained by offset, exposure and response."""

    def __init__(self, pts_ns: Int64, light: Float64, edges: LedLog, near_ns: int) -> None:
        self._pts, self._edges, self._near = pts_ns, edges, near_ns
        self._trend = _Trend(pts_ns)
        self._seen = self._trend.removed(light)
        self._size = max(float(np.linalg.norm(self._seen)), 1e-12)

    def likeliest(self, offsets: Float64) -> _Best:
        """The offset (ns from the near one), exposure and response that correlate best."""
        best = _Best(-1.0, 0.0, 1.0)
        for model in self._models(offsets):
            scale = np.maximum(np.linalg.norm(model, axis=2), 1e-12)
            likeness = model @ self._seen / scale / self._size
            first, second = np.unravel_index(int(np.argmax(likeness)), likeness.shape)
            if likeness[first, second] > best.likeness:
                gain = likeness[first, second] * self._size / scale[first, second]
                rest = np.abs(self._seen - gain * model[first, second])
                noise = max(1.5 * float(np.median(rest)), LEAST_NOISE * float(gain))
                best = _Best(float(likeness[first, second]), float(offsets[first]), noise)
        return best

    def log_chance(self, offsets: Float64, noise: float) -> Float64:
        """How probable each offset is, whatever exposure and response were; as a logarithm, any constant added."""
        total = np.full(len(offsets), -np.inf)
        for model in self._models(offsets):
            gain = model @ self._seen / np.maximum((model**2).sum(axis=2), 1e-12)
            rest = (self._seen - gain[:, :, None] * model) / noise
            log = -(FREEDOM + 1) / 2 * np.log1p(rest**2 / FREEDOM).sum(axis=2)
            total = np.logaddexp(total, np.logaddexp.reduce(log, axis=1))
        return total

    def _models(self, offsets: Float64) -> Iterator[Float64]:
        """Offsets x exposures x pictures, for each response of the sensor."""
        offset_ns = self._near + np.rint(offsets).astype(np.int64)
        share = _share_lit(self._edges, self._pts, offset_ns[:, None, None], EXPOSURES_NS[None, :, None])
        for limit in CLIPPED_AT:
            clipped = np.minimum(1.0, np.maximum(share, 0.0) / limit)
            for power in POWERS:
                yield self._trend.removed(clipped**power)
