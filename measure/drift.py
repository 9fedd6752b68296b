"""How the clocks of several cameras drift against each other, from one code or one lamp that all of them filmed."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from configs import Settings
from configs import load as load_settings
from measure import charts
from measure.delay import BY_CODES, clock_drift
from measure.light import Event, common_events, find_jumps
from measure.report import Bar, Chart, Said, Table, Verdict, in_words, write_csv, write_report
from measure.session import CODE, LAMP, add_session_options, recorded
from measure.words import Phrase, phrase
from rig import cli
from rig.arrays import Float64, Int64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import NoCalibrationError, UnreadableError
from rig.footage.video import Video, videos_of
from rig.timing import calibration
from rig.timing.calibration import Context
from rig.timing.cameraclock import CameraClock, combined

CHART_STEP_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Run:
    """One camera's stream or file: its clock by the codes, and the PTS of its first picture."""

    camera: str
    clock: CameraClock
    first_ns: int

    @property
    def first_utc_ns(self) -> int:
        """UTC of the first picture."""
        return int(self.clock.utc_ns(np.array([self.first_ns], dtype=np.int64))[0])


@dataclass(frozen=True, slots=True)
class Drift:
    """One camera against another; the display's latency is in both and falls out."""

    camera: str
    other: str
    start_skew_ms: Bar  # first picture of the other after that of the camera
    drift_ppm: Bar  # how much faster the other's clock runs
    apart_ms: tuple[Bar, ...]  # at start, middle and end of what both filmed: how far its PTS has run ahead since then

    @property
    def verdict(self) -> Phrase:
        """The answer in a sentence."""
        return phrase(
            "the clock of {other} gains {drift} ppm on that of {camera}, {apart} ms over the recording; "
            "it began {skew} ms later",
            camera=self.camera,
            other=self.other,
            drift=self.drift_ppm,
            apart=self.apart_ms[-1],
            skew=self.start_skew_ms,
        )


def measure_recording(folder: Path, settings: Settings) -> tuple[list[Drift], Chart]:
    """All pairs of cameras. Raises UnreadableError for one camera only, NoCalibrationError where a code is missing."""
    context = Context.of(folder)
    runs = [
        Run(item.camera, calibration.camera_clock(item, context, settings), item.first_ns) for item in _firsts(folder)
    ]
    return [compare(one, other) for one, other in combinations(runs, 2)], _chart(runs)


def measure_lamp(folder: Path) -> tuple[list[Drift], Chart]:
    """The same by a lamp that all cameras saw, switched at the start and at the end."""
    seen = [(item, find_jumps(item)) for item in _firsts(folder)]
    drifts, series = [], []
    for (one, jumps), (other, others) in combinations(seen, 2):
        events = common_events(jumps, others)
        drifts.append(compare_events(one, other, events))
        at = np.array([event.at_ns for event in events], dtype=np.int64)
        ahead = np.array([event.ahead_ns - events[0].ahead_ns for event in events])
        series.append(charts.Series(f"{one.camera}, {other.camera}", _minutes(at), ahead / NS_PER_MS))
    return drifts, Chart("How far the second camera's clock has run ahead of the first one's", "minutes", "ms", series)


def _firsts(folder: Path) -> list[Video]:
    """The first video of each camera: a stream that was started anew has another clock."""
    videos = {item.camera: item for item in reversed(videos_of(folder))}
    if len(videos) < 2:
        raise UnreadableError(f"{folder} has one camera only", cure="record with two or more")
    return [videos[camera] for camera in sorted(videos)]


def compare_events(one: Video, other: Video, events: Sequence[Event]) -> Drift:
    """One video against another by what both saw of a lamp. Raises NoCalibrationError where no drift can be told."""
    if len(events) < 2:
        raise NoCalibrationError(
            f"{one.camera} and {other.camera} saw the lamp at {len(events)} places",
            cure="switch one that both see on and off several times, at the start and at the end",
        )
    first, last = events[0], events[-1]
    at, ahead, error = (np.array([getattr(e, name) for e in events]) for name in ("at_ns", "ahead_ns", "error_ns"))
    drift = (last.ahead_ns - first.ahead_ns) / (last.at_ns - first.at_ns)
    drift_error = _error_ms([first.error_ns, last.error_ns]) * NS_PER_MS / (last.at_ns - first.at_ns)
    before_ns = first.at_ns - one.first_ns
    skew_ns = other.first_ns - one.first_ns - (first.ahead_ns - drift * before_ns)
    apart = [Bar(0.0, 0.0)]  # by definition
    for at_ns in ((first.at_ns + last.at_ns) // 2, last.at_ns):
        away_ns, away_error_ns = (float(np.interp(at_ns, at, values)) for values in (ahead, error))
        apart.append(Bar((away_ns - first.ahead_ns) / NS_PER_MS, _error_ms([first.error_ns, away_error_ns])))
    return Drift(
        camera=one.camera,
        other=other.camera,
        start_skew_ms=Bar(skew_ns / NS_PER_MS, _error_ms([first.error_ns, drift_error * before_ns])),
        drift_ppm=Bar(drift * 1e6, drift_error * 1e6),
        apart_ms=tuple(apart),
    )


def compare(one: Run, other: Run) -> Drift:
    """One run against another that filmed the same screen. Raises NoCalibrationError where no drift can be told."""
    for run in (one, other):
        if len(run.clock.anchors) < 2 or run.clock.source not in BY_CODES:
            raise NoCalibrationError(
                f"{run.camera} filmed the code at one place only", cure="film it at the start and at the end"
            )
    begin = max(one.clock.anchors[0].utc_ns, other.clock.anchors[0].utc_ns)
    end = min(one.clock.anchors[-1].utc_ns, other.clock.anchors[-1].utc_ns)
    if end <= begin:
        raise NoCalibrationError(
            f"{one.camera} had filmed its last code before {other.camera} filmed its first, or the reverse",
            cure="show the code to all cameras at the start and at the end",
        )
    skew_ns = other.first_utc_ns - one.first_utc_ns
    drifts = [clock_drift(run.clock) for run in (one, other)]
    return Drift(
        camera=one.camera,
        other=other.camera,
        start_skew_ms=Bar(skew_ns / NS_PER_MS, _error_ms([_error_ns(run, run.first_ns) for run in (one, other)])),
        drift_ppm=Bar(drifts[0].value - drifts[1].value, float(combined(np.array([drift.error for drift in drifts])))),
        apart_ms=tuple(_apart(one, other, begin, utc_ns) for utc_ns in (begin, (begin + end) // 2, end)),
    )


def _apart(one: Run, other: Run, begin_utc_ns: int, utc_ns: int) -> Bar:
    places = [(run, _pts_ns(run.clock, at_ns)) for run in (one, other) for at_ns in (begin_utc_ns, utc_ns)]
    one_begin, one_now, other_begin, other_now = (pts_ns for _, pts_ns in places)
    value = ((other_now - other_begin) - (one_now - one_begin)) / NS_PER_MS
    if utc_ns == begin_utc_ns:
        return Bar(value, 0.0)  # by definition
    return Bar(value, _error_ms([_error_ns(run, pts_ns) for run, pts_ns in places]))


def _pts_ns(clock: CameraClock, utc_ns: int) -> int:
    """The camera's own time at an instant: its clock runs within 100 ppm of UTC, so two steps are exact."""
    pts_ns = clock.anchors[0].pts_ns + utc_ns - clock.anchors[0].utc_ns
    for _ in range(2):
        pts_ns += utc_ns - int(clock.utc_ns(np.array([pts_ns], dtype=np.int64))[0])
    return pts_ns


def _error_ns(run: Run, pts_ns: int) -> float:
    """Display and receiver are the same for both cameras and not in it."""
    return float(run.clock.error_ns(np.array([pts_ns], dtype=np.int64), constants=False)[0])


def _error_ms(half_widths_ns: Sequence[float]) -> float:
    return float(combined(np.array(half_widths_ns))) / NS_PER_MS


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar measure drift`."""
    parser = argparse.ArgumentParser(
        prog="edencar measure drift",
        description="Tell how the clocks of two or more cameras run apart, from one code shown to all of them.",
    )
    add_session_options(parser)
    parser.add_argument(
        "--light", action="store_true", help="by a lamp that all see, switched on and off, instead of the code"
    )
    return cli.run(parser, _run, in_words, argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings()
    folder, output = recorded(options, settings, "drift", LAMP if options.light else CODE)
    drifts, curves = measure_lamp(folder) if options.light else measure_recording(folder, settings)
    _write_curves(output / "drift.csv", curves)
    told = write_report(
        output,
        "How the cameras' clocks drift",
        phrase("recording {recording}; bars hold 99 %", recording=folder.name),
        [Verdict(drift.verdict, good=True) for drift in drifts],
        [Table.of(drifts, COLUMNS), curves],
    )
    return told | {"recording": str(folder), "pairs": [asdict(drift) for drift in drifts]}


def _write_curves(path: Path, curves: Chart) -> None:
    rows = (
        (one.name, round(minutes * 60, 1), round(ahead_ms, 4))
        for one in curves.series
        if not one.points  # they lie on the curves
        for minutes, ahead_ms in zip(one.x.tolist(), one.y.tolist(), strict=True)
    )
    write_csv(path, ("curve", "since_s", "ahead_ms"), rows)


COLUMNS: Mapping[str, Callable[[Drift], Said]] = {
    "cameras": lambda drift: f"{drift.camera}, {drift.other}",
    "gains ppm": lambda drift: str(drift.drift_ppm),
    "by the middle ms": lambda drift: str(drift.apart_ms[1]),
    "by the end ms": lambda drift: str(drift.apart_ms[2]),
    "began later by ms": lambda drift: str(drift.start_skew_ms),
}


def _chart(runs: Sequence[Run]) -> Chart:
    """Each camera's own time against UTC, from the first film of the code on, with the films as dots."""
    series = []
    for run in runs:
        pts = np.arange(run.clock.anchors[0].pts_ns, run.clock.anchors[-1].pts_ns, CHART_STEP_NS, dtype=np.int64)
        films = np.array([anchor.pts_ns for anchor in run.clock.anchors], dtype=np.int64)
        utc = np.array([anchor.utc_ns for anchor in run.clock.anchors], dtype=np.int64)
        zero = films[0] - int(run.clock.utc_ns(films[:1])[0])
        series.append(charts.Series(run.camera, _minutes(pts), (pts - run.clock.utc_ns(pts) - zero) / NS_PER_MS))
        series.append(charts.Series("", _minutes(films), (films - utc - zero) / NS_PER_MS, points=True))
    return Chart("The camera's own time ahead of UTC; dots: the films of the code", "minutes", "ms", series)


def _minutes(pts_ns: Int64) -> Float64:
    return np.asarray((pts_ns - pts_ns[0]) / NS_PER_S / 60)
