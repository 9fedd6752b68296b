"""How late a stream comes, over hours: what the camera's clock drifts apart from what the delay grows."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs import Settings
from configs import load as load_settings
from measure import charts
from measure.report import Bar, Chart, Said, Table, Verdict, in_words, write_csv, write_report
from measure.session import SAMPLES, add_session_options, read_usage, recorded, usage_content, usage_verdicts
from measure.words import Phrase, phrase
from rig import cli
from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT, ClockCurve
from rig.errors import NoCalibrationError, UnreadableError
from rig.footage.transport import PTS_HZ
from rig.footage.video import Video, index_of, videos_of
from rig.timing import arrival, calibration
from rig.timing.arrival import FASTEST_PICTURES, Envelope
from rig.timing.calibration import Context
from rig.timing.cameraclock import CameraClock, combined

NEAR_CODE_NS = 20 * NS_PER_S  # pictures on both sides of a film of the code that tell the delay there
NONE = np.zeros(0, dtype=np.int64)
BY_CODES = ("qr", "qr+arrival")
TIED_WINDOWS = 3  # the receiver's clock bends over 20 s: so many windows of 15 s share one error
APART_NS = 120 * NS_PER_S  # films nearer than this tell no drift


@dataclass(frozen=True, slots=True)
class Delay:
    """What one stream did; growth and drift are None when no codes at both ends set them apart."""

    camera: str
    hours: float
    pictures: int
    slope_ms_per_h: Bar  # arrival minus PTS: both together
    drift_ppm: Bar | None  # of the camera's clock against UTC; positive: it runs slow
    growth_ms_per_h: Bar | None
    delays_ms: tuple[float, ...]  # by each film of the code, the display's unknown share included
    jitter_p95_ms: float
    lost: int  # gaps in the stream, of a datagram or more each: breaks of continuity

    @property
    def verdict(self) -> Phrase:
        """The answer in a sentence."""
        figures = {"growth": self.growth_ms_per_h, "drift": self.drift_ppm, "slope": self.slope_ms_per_h}
        if self.growth_ms_per_h is None:
            text = (
                "{camera}: arrival moves {slope} ms an hour against the picture's own time; without the code filmed "
                "at both ends nobody can say how much of it is the camera's clock"
            )
        elif self.is_growing:
            text = (
                "{camera}: the delay grows ({growth} ms an hour); the camera's clock is {drift} ppm slow (fast below 0)"
            )
        else:
            text = (
                "{camera}: the delay does not grow measurably ({growth} ms an hour); "
                "the camera's clock is {drift} ppm slow (fast below 0)"
            )
        return phrase(text, camera=self.camera, **figures)

    @property
    def is_growing(self) -> bool:
        """Whether the delay surely becomes longer."""
        return self.growth_ms_per_h is not None and self.growth_ms_per_h.value > self.growth_ms_per_h.error


@dataclass(frozen=True, slots=True)
class Series:
    """The lower edge of arrival minus PTS in each 15 s, from its first value on, and what was lost until then."""

    camera: str
    at_s: Float64
    edge_ms: Float64
    lost: Int64


def measure_recording(folder: Path, settings: Settings) -> list[tuple[Delay, Series]]:
    """The delay of each stream of a recording. Raises UnreadableError when there is none that is long enough."""
    context = Context.of(folder)
    # The receiver's own latency is constant: it moves the delay, not what becomes of it.
    utc = arrival.receiver_clock(context.positions, 0, 0) if context.positions else None
    found = []
    for item in videos_of(folder):
        pts, came = arrival.arrivals(item)
        edge = arrival.edges(pts, (utc.utc_ns(came) if utc else came) - pts)
        if edge is not None:
            found.append(measure_stream(item.camera, pts, came, utc, _clock(item, context, settings), _lost_ns(item)))
    if not found:
        raise UnreadableError(f"{folder} holds no stream of two minutes or more", cure="record longer, in mode video")
    return found


def measure_stream(
    camera: str,
    pts_ns: Int64,
    came_ns: Int64,
    utc: ClockCurve | None,
    clock: CameraClock | None,
    lost_ns: Int64 = NONE,
) -> tuple[Delay, Series]:
    """From pictures' PTS and arrival (CLOCK_MONOTONIC) and, where there are, the receiver's clock and filmed codes.

    `lost_ns` has the PTS of each break of continuity, ascending. Raises UnreadableError for less than two minutes.
    """
    came = utc.utc_ns(came_ns) if utc else came_ns
    delay = came - pts_ns
    edge = arrival.edges(pts_ns, delay)
    if edge is None:
        raise UnreadableError(f"the stream of {camera} is shorter than two minutes", cure="record longer")
    noise_ns = float(np.hypot(_scatter(edge), 0.0 if utc is None else utc.sigma_ns))
    slope = _slope(edge, noise_ns)
    at_codes = [] if clock is None or clock.source not in BY_CODES else _at_codes(pts_ns, delay, clock, noise_ns)
    growth = _growth(at_codes)
    figures = Delay(
        camera=camera,
        hours=(int(pts_ns[-1]) - int(pts_ns[0])) / 3600 / NS_PER_S,
        pictures=len(pts_ns),
        slope_ms_per_h=slope,
        drift_ppm=clock_drift(clock) if clock and growth else None,
        growth_ms_per_h=growth,
        delays_ms=tuple(round(film.delay_ns / NS_PER_MS, 2) for film in at_codes),
        jitter_p95_ms=_jitter_ms(pts_ns, delay, edge),
        lost=len(lost_ns),
    )
    since_s = (edge.at_ns - edge.at_ns[0]) / NS_PER_S
    lost = np.searchsorted(lost_ns, edge.at_ns)
    return figures, Series(camera, since_s, (edge.delay_ns - edge.delay_ns[0]) / NS_PER_MS, lost)


def clock_drift(clock: CameraClock) -> Bar:
    """Rate of a camera's clock in ppm by its first and last film of the code: UTC gained by its own time."""
    first, last = clock.anchors[0], clock.anchors[-1]
    span_ns = last.pts_ns - first.pts_ns
    gained_ns = (last.utc_ns - last.pts_ns) - (first.utc_ns - first.pts_ns)
    error_ns = float(combined(np.array([first.half_width_ns, last.half_width_ns], dtype=np.float64)))
    return Bar(gained_ns / span_ns * 1e6, error_ns / span_ns * 1e6)


@dataclass(frozen=True, slots=True)
class _AtCode:
    """The delay while the code was filmed, with its half-width; what is the same in all films is not in it."""

    pts_ns: int
    delay_ns: float
    error_ns: float


def _at_codes(pts_ns: Int64, delay_ns: Int64, clock: CameraClock, noise_ns: float) -> list[_AtCode]:
    found = []
    for film in clock.anchors:
        near = np.abs(pts_ns - film.pts_ns) <= NEAR_CODE_NS
        if near.any():
            # The delay of the fastest pictures against the frame's own UTC, the clock's drift within seconds apart.
            offset_ns = film.utc_ns - film.pts_ns + np.rint((pts_ns[near] - film.pts_ns) * clock.rate_ppm * 1e-6)
            late = float(np.quantile(delay_ns[near] - offset_ns, FASTEST_PICTURES))
            found.append(
                _AtCode(film.pts_ns, late, float(np.hypot(film.half_width_ns, SIGMAS_IN_99_PERCENT * noise_ns)))
            )
    return found


def _growth(films: Sequence[_AtCode]) -> Bar | None:
    """By how many ms an hour the delay grows from the first film of the code to the last; None for films too near."""
    if not films or films[-1].pts_ns - films[0].pts_ns <= APART_NS:
        return None
    first, last = films[0], films[-1]
    hours = (last.pts_ns - first.pts_ns) / 3600 / NS_PER_S
    error_ms = float(combined(np.array([first.error_ns, last.error_ns]))) / NS_PER_MS
    return Bar((last.delay_ns - first.delay_ns) / NS_PER_MS / hours, error_ms / hours)


def _slope(edge: Envelope, noise_ns: float) -> Bar:
    """The slope of a line through the windows, in ms an hour; the receiver's clock ties each to its neighbours."""
    x, y = (edge.at_ns - edge.at_ns[0]) / 3600 / NS_PER_S, (edge.delay_ns - edge.delay_ns[0]) / NS_PER_MS
    away = x - x.mean()
    spread = float((away * away).sum()) / TIED_WINDOWS
    return Bar(float((away * y).sum() / (away * away).sum()), SIGMAS_IN_99_PERCENT * noise_ns / NS_PER_MS / spread**0.5)


def _scatter(edge: Envelope) -> float:
    """One sigma of a window's edge, in ns: from its neighbours on both sides, so that no drift is in it."""
    strays = edge.delay_ns[1:-1] - (edge.delay_ns[2:] + edge.delay_ns[:-2]) / 2
    return float(np.sqrt(np.mean(strays**2) / 1.5)) if len(strays) else 0.0


def _jitter_ms(pts_ns: Int64, delay_ns: Int64, edge: Envelope) -> float:
    """How much later than the fastest pictures 95 % of all come."""
    rest = (delay_ns - delay_ns[0]) - np.interp(pts_ns, edge.at_ns, edge.delay_ns)
    return float(np.quantile(rest, 0.95) - np.quantile(rest, FASTEST_PICTURES)) / NS_PER_MS


def _clock(item: Video, context: Context, settings: Settings) -> CameraClock | None:
    try:
        return calibration.camera_clock(item, context, settings)
    except NoCalibrationError:
        return None


def _lost_ns(item: Video) -> Int64:
    pts_ns = [NONE]
    for clip in item.clips:
        index = index_of(clip)
        if index is not None:
            at_ns = index.pts * NS_PER_S // PTS_HZ + clip.clock_offset_ns
            pts_ns.append(np.repeat(at_ns, index.continuity_errors))
    return np.sort(np.concatenate(pts_ns))


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar measure delay`."""
    parser = argparse.ArgumentParser(
        prog="edencar measure delay",
        description="Follow how late each stream comes, over hours, and tell the camera's clock from a growing delay.",
    )
    add_session_options(parser)
    return cli.run(parser, _run, in_words, argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings()
    folder, output = recorded(options, settings, "delay")
    found = measure_recording(folder, settings)
    usage = read_usage(output / SAMPLES)
    _write_series(output / "delay.csv", [series for _, series in found])
    figures = [figures for figures, _ in found]
    verdicts = [Verdict(item.verdict, not item.is_growing) for item in figures]
    verdicts += [
        Verdict(
            phrase("{camera}: {lost} gaps in the stream (of a datagram or more)", camera=item.camera, lost=item.lost),
            not item.lost,
        )
        for item in figures
    ]
    verdicts += usage_verdicts(usage, 3600 * figures[0].hours)
    told = write_report(
        output,
        "How late the stream comes",
        phrase(
            "recording {recording}, {hours:.2f} h; every window is 15 s, bars hold 99 %",
            recording=folder.name,
            hours=figures[0].hours,
        ),
        verdicts,
        [Table.of(figures, COLUMNS), *_charts([series for _, series in found]), *usage_content(output / SAMPLES)],
    )
    return told | {
        "recording": str(folder),
        "cameras": [asdict(item) for item in figures],
        "processes": [asdict(item) for item in usage],
    }


def _write_series(path: Path, found: Sequence[Series]) -> None:
    rows = (
        (item.camera, round(at, 1), round(edge, 4), lost)
        for item in found
        for at, edge, lost in zip(item.at_s.tolist(), item.edge_ms.tolist(), item.lost.tolist(), strict=True)
    )
    write_csv(path, ("camera", "since_s", "edge_ms", "lost"), rows)


COLUMNS: Mapping[str, Callable[[Delay], Said]] = {
    "camera": lambda item: item.camera,
    "arrival - PTS ms/h": lambda item: str(item.slope_ms_per_h),
    "clock slow by ppm": lambda item: str(item.drift_ppm or "unknown"),
    "delay grows ms/h": lambda item: str(item.growth_ms_per_h or "unknown"),
    "delay ms at codes": lambda item: " ".join(f"{value:.1f}" for value in item.delays_ms) or "no codes",
    "jitter p95 ms": lambda item: f"{item.jitter_p95_ms:.1f}",
}


def _charts(found: Sequence[Series]) -> Iterator[Chart]:
    edges = [charts.Series(item.camera, item.at_s / 60, item.edge_ms) for item in found]
    yield Chart("Arrival minus the picture's own time, fastest pictures", "minutes", "ms", edges)
    if any(item.lost.any() for item in found):
        lost = [charts.Series(item.camera, item.at_s / 60, item.lost.astype(np.float64)) for item in found]
        yield Chart("Gaps in the stream so far", "minutes", "gaps", lost)
