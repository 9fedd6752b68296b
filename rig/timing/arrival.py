"""How a camera's clock ran, from when its pictures came: the fastest ones always took the same time on their way."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S, ClockCurve, fit_clock
from rig.footage.transport import PTS_HZ
from rig.footage.video import Video, index_of
from rig.timing.cameraclock import CameraClock

WINDOW_NS = 15 * NS_PER_S
FASTEST_PICTURES = 0.02  # of a window: the plain minimum follows single early ones
MIN_FILLED = 0.3  # of the usual number of pictures in a window
SMOOTHING_NS = 150 * NS_PER_S  # a crystal warms up in ten minutes
MOST_BEND_NS = 8 * NS_PER_MS  # of a crystal in hours: 4 ppm for half an hour
STEP_OVER_BEND = 1.25  # a step in the middle tilts the line and strays from it by four fifths
MIN_SPAN_NS = 120 * NS_PER_S  # below this the drift is smaller than what arrivals tell


@dataclass(frozen=True, slots=True)
class Envelope:
    """The lower edge of a delay that jitters upwards, at some instants; only its changes mean anything."""

    at_ns: Int64
    delay_ns: Float64
    bend_ns: float  # how far it strays from a line, before any smoothing


def envelope(at_ns: Int64, delay_ns: Int64) -> Envelope | None:
    """The delay of the fastest pictures of each 15 s, smoothed by local lines; None when it spans too little."""
    edge = edges(at_ns, delay_ns)
    return None if edge is None else replace(edge, delay_ns=_smoothed(edge.at_ns, edge.delay_ns))


def edges(at_ns: Int64, delay_ns: Int64) -> Envelope | None:
    """The delay of the fastest pictures of each 15 s as it is; None when it spans too little."""
    if len(at_ns) < 2 or int(at_ns[-1]) - int(at_ns[0]) < MIN_SPAN_NS:
        return None
    base = int(np.median(delay_ns))
    window = (at_ns - at_ns[0]) // WINDOW_NS
    groups = np.split(np.arange(len(at_ns)), np.flatnonzero(np.diff(window)) + 1)
    slope = _slope(at_ns, delay_ns - base)
    places, lows = [], []
    usual = float(np.median([len(group) for group in groups]))
    for group in groups:
        if len(group) < MIN_FILLED * usual:
            continue  # the quantile of a few is no edge
        middle = (int(at_ns[group[0]]) + int(at_ns[group[-1]])) // 2
        flat = (delay_ns[group] - base) - slope * (at_ns[group] - middle)
        places.append(middle)
        lows.append(float(np.quantile(flat, FASTEST_PICTURES)))
    since_s, edge = (np.array(places) - places[0]) / NS_PER_S, np.array(lows)
    line = np.polyfit(since_s, edge, min(1, len(edge) - 1))
    return Envelope(np.array(places, dtype=np.int64), edge, float(np.ptp(edge - np.polyval(line, since_s))))


def _slope(at_ns: Int64, delay_ns: Int64) -> float:
    """The whole drift, so that no window's quantile is blurred by it."""
    tenth = max(1, len(at_ns) // 10)
    first, last = (float(np.quantile(part, FASTEST_PICTURES)) for part in (delay_ns[:tenth], delay_ns[-tenth:]))
    return (last - first) / float(at_ns[-tenth:].mean() - at_ns[:tenth].mean())


def _smoothed(at: Int64, lows: Float64) -> Float64:
    """At each place the line through its neighbourhood; it follows a bend and does not lag at the ends."""
    away = (at - at[:, None]).astype(np.float64)
    weight = np.clip(1 - np.abs(away) / SMOOTHING_NS, 0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    mean, level = (weight * away).sum(axis=1), (weight * lows).sum(axis=1)
    spread = (weight * away**2).sum(axis=1) - mean**2
    slope = ((weight * away * lows).sum(axis=1) - mean * level) / np.where(spread > 0, spread, np.inf)
    return np.asarray(level - slope * mean)


def arrivals(item: Video) -> tuple[Int64, Int64]:
    """PTS on the video's clock and CLOCK_MONOTONIC of arrival of all pictures, from the indexes beside a stream."""
    indexes = [(clip, index) for clip in item.clips if (index := index_of(clip)) is not None]
    told = [(index.pts * NS_PER_S // PTS_HZ + clip.clock_offset_ns, index.arrival_ns) for clip, index in indexes]
    pts, came = np.concatenate([np.zeros((2, 0), dtype=np.int64), *told], axis=1)
    order = np.argsort(came, kind="stable")
    return pts[order], came[order]


def receiver_clock(positions: Path, latency_ns: int, latency_error_ns: int) -> ClockCurve | None:
    """UTC over CLOCK_MONOTONIC of a recording, by all epochs of its `positions.csv`; None without enough."""
    import pandas as pd  # loaded only where there is a log to read: it takes half a second

    try:
        table = pd.read_csv(positions, usecols=["utc_ns", "arrival_monotonic_ns"], on_bad_lines="skip").dropna()
        arrived, utc = (table[name].to_numpy(np.int64) for name in ("arrival_monotonic_ns", "utc_ns"))
    except (OSError, ValueError):
        return None
    return fit_clock(arrived, utc, latency_ns, latency_error_ns)


def bent(clock: CameraClock, item: Video, utc: ClockCurve | None, monotonic_error_ppm: float) -> CameraClock:
    """The clock of one film of the code with the drift that the stream's arrivals show; the same when they show none.

    Without a receiver (`utc` None) CLOCK_MONOTONIC is taken for UTC's rate, which it is within `monotonic_error_ppm`.
    """
    pts, came = arrivals(item)
    edge = envelope(pts, (utc.utc_ns(came) if utc else came) - pts)
    if edge is None:
        return clock
    return along(clock, edge, monotonic_error_ppm, None if utc is None else (int(pts[0]), int(pts[-1])))


def along(clock: CameraClock, edge: Envelope, rate_error_ppm: float, span: tuple[int, int] | None) -> CameraClock:
    """The clock of one film of the code, going on as the delay of arrival does; exact in rate within `span`.

    Where that bends or steps more than a crystal can, the way has become another one, or pictures were lost before
    they were given a PTS: nobody knows which, so it is in the bar.
    """
    anchor = clock.anchors[0].pts_ns
    drift = edge.delay_ns - np.interp(anchor, edge.at_ns, edge.delay_ns)
    drift -= (edge.at_ns - anchor) * (clock.rate_ppm * 1e-6)
    own = replace(
        clock,
        source="qr+arrival",
        rate_error_ppm=min(rate_error_ppm, clock.rate_error_ppm),
        curve=tuple((int(x), round(float(y))) for x, y in zip(edge.at_ns, drift, strict=True)),
        curve_span=span,
    )
    if edge.bend_ns <= MOST_BEND_NS:
        return own
    bend_ns = round(STEP_OVER_BEND * edge.bend_ns)
    text = f"its stream came {bend_ns / NS_PER_MS:.0f} ms later at times than at others: a code at the end tells why"
    return replace(own, constants=(*own.constants, ("delay_bend", bend_ns)), warnings=(*own.warnings, text))
