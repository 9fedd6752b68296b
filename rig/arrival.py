"""How a camera's clock ran, from when its pictures came: the fastest ones always took the same time on their way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from rig.timeline import CameraClock
from rig.video import MPEG_TS_CLOCK_HZ, Video

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SECOND_NS = 1_000_000_000
WINDOW_NS = 15 * SECOND_NS
FASTEST_PICTURES = 0.02  # of a window: the plain minimum follows single early ones
EARLIEST_EPOCHS = 0.10  # of a receiver: measured 0.6 ms where the minimum had 3.4
SMOOTHING_NS = 150 * SECOND_NS  # a crystal warms up in ten minutes
MIN_SPAN_NS = 120 * SECOND_NS  # below this the drift is smaller than what arrivals tell


@dataclass(frozen=True, slots=True)
class Envelope:
    """The lower edge of a delay that jitters upwards, at some instants; linear between them."""

    at_ns: Int64
    delay_ns: Float64
    base_ns: int

    def at(self, instants_ns: Int64) -> Float64:
        """The delay, less `base_ns`."""
        return np.asarray(np.interp(instants_ns, self.at_ns, self.delay_ns))


def envelope(at_ns: Int64, delay_ns: Int64, share: float) -> Envelope | None:
    """The share-quantile of each 15 s, smoothed by local lines; None when it spans too little."""
    if len(at_ns) < 2 or int(at_ns[-1]) - int(at_ns[0]) < MIN_SPAN_NS:
        return None
    base = int(np.median(delay_ns))
    window = (at_ns - at_ns[0]) // WINDOW_NS
    groups = np.split(np.arange(len(at_ns)), np.flatnonzero(np.diff(window)) + 1)
    slope = _slope(at_ns, delay_ns - base)
    places, edges = [], []
    for group in groups:
        middle = (int(at_ns[group[0]]) + int(at_ns[group[-1]])) // 2
        flat = (delay_ns[group] - base) - slope * (at_ns[group] - middle)
        places.append(middle)
        edges.append(float(np.quantile(flat, share)))
    at = np.array(places, dtype=np.int64)
    return Envelope(at, _smoothed(at, np.array(edges)), base)


def _slope(at_ns: Int64, delay_ns: Int64) -> float:
    """The whole drift, so that no window's quantile is blurred by it."""
    tenth = max(1, len(at_ns) // 10)
    first, last = (float(np.quantile(part, FASTEST_PICTURES)) for part in (delay_ns[:tenth], delay_ns[-tenth:]))
    return (last - first) / float(at_ns[-tenth:].mean() - at_ns[:tenth].mean())


def _smoothed(at: Int64, edges: Float64) -> Float64:
    """At each place the line through its neighbourhood; it follows a bend and does not lag at the ends."""
    smooth = np.empty(len(at))
    for index, middle in enumerate(at):
        away = (at - middle).astype(np.float64)
        weight = np.clip(1 - np.abs(away) / SMOOTHING_NS, 0, None)
        mean = float((weight * away).sum() / weight.sum())
        level = float((weight * edges).sum() / weight.sum())
        spread = float((weight * (away - mean) ** 2).sum())
        slope = float((weight * (away - mean) * (edges - level)).sum()) / spread if spread > 0 else 0.0
        smooth[index] = level - slope * mean
    return smooth


def arrivals(item: Video) -> tuple[Int64, Int64]:
    """PTS on the video's clock and CLOCK_MONOTONIC of arrival of all pictures, from the indexes beside a stream."""
    pts: list[Int64] = []
    came: list[Int64] = []
    for clip in item.clips:
        try:
            table = pd.read_csv(
                clip.path.with_suffix(".idx"), usecols=["pts_90khz", "arrival_monotonic_ns"], on_bad_lines="skip"
            ).dropna()
            ticks = table["pts_90khz"].to_numpy(np.int64)
            arrived = table["arrival_monotonic_ns"].to_numpy(np.int64)
        except (OSError, ValueError):
            continue
        pts.append(ticks * SECOND_NS // MPEG_TS_CLOCK_HZ + clip.clock_offset_ns)
        came.append(arrived)
    if not pts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.argsort(np.concatenate(came), kind="stable")
    return np.concatenate(pts)[order], np.concatenate(came)[order]


def epochs(positions: Path) -> tuple[Int64, Int64]:
    """CLOCK_MONOTONIC of arrival and UTC of the receiver's epochs in a `positions.csv`; empty when there are none."""
    try:
        table = pd.read_csv(positions, usecols=["utc_ns", "arrival_monotonic_ns"], on_bad_lines="skip").dropna()
        arrived = table["arrival_monotonic_ns"].to_numpy(np.int64)
        utc = table["utc_ns"].to_numpy(np.int64)
    except (OSError, ValueError):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.argsort(arrived, kind="stable")
    return arrived[order], utc[order]


def monotonic_lag(positions: Path) -> Envelope | None:
    """CLOCK_MONOTONIC minus UTC over the recording, as the receiver's epochs tell it, their latency included."""
    arrived, utc = epochs(positions)
    return envelope(arrived, arrived - utc, EARLIEST_EPOCHS) if len(arrived) else None


def bent(clock: CameraClock, item: Video, lag: Envelope | None, monotonic_rate_ppm: float) -> CameraClock:
    """The clock of one film of the code with the drift that the stream's arrivals show; the same when they show none.

    Without a receiver this machine's CLOCK_MONOTONIC is taken for UTC's rate, which it is within `monotonic_rate_ppm`.
    """
    pts, came = arrivals(item)
    edge = envelope(pts, came - pts, FASTEST_PICTURES) if len(pts) else None
    if edge is None:
        return clock
    drift = edge.delay_ns - (lag.at(edge.at_ns + edge.base_ns) if lag else 0.0)
    anchor = clock.anchors[0].pts_ns
    drift = drift - np.interp(anchor, edge.at_ns, drift) - (edge.at_ns - anchor) * (clock.rate_ppm * 1e-6)
    curve = tuple((int(x), round(float(y))) for x, y in zip(edge.at_ns, drift, strict=True))
    return _with_curve(clock, curve, None if lag is None else (pts[0], pts[-1]), monotonic_rate_ppm)


def _with_curve(
    clock: CameraClock, curve: Sequence[tuple[int, int]], span: tuple[int, int] | None, rate_error_ppm: float
) -> CameraClock:
    return replace(
        clock,
        source="qr+arrival",
        rate_error_ppm=min(rate_error_ppm, clock.rate_error_ppm),
        curve=tuple(curve),
        curve_span=None if span is None else (int(span[0]), int(span[1])),
    )
