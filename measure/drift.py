"""How the clocks of several cameras drift against each other, from one code that all of them filmed."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs import Settings
from configs import load as load_settings
from measure.delay import BY_CODES, clock_drift
from measure.report import Bar, Chart, Table, Verdict, write_report
from measure.session import add_session_options, recorded
from measure.words import Phrase, phrase
from rig import charts, cli
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import NoCalibrationError, UnreadableError
from rig.footage.video import videos_of
from rig.timing import calibration
from rig.timing.calibration import Context
from rig.timing.timeline import CameraClock, combined

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

CHART_STEP_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Run:
    """One camera's stream or file: its clock by the codes, and between which PTS it has pictures."""

    camera: str
    clock: CameraClock
    first_ns: int
    last_ns: int

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
            "{camera} and {other}: {drift} ppm, {apart} ms over the recording; they began {skew} ms apart",
            camera=self.camera,
            other=self.other,
            drift=self.drift_ppm,
            apart=self.apart_ms[-1],
            skew=self.start_skew_ms,
        )


def measure_recording(folder: Path, settings: Settings) -> tuple[list[Run], list[Drift]]:
    """All pairs of cameras. Raises UnreadableError for one camera only, NoCalibrationError where a code is missing."""
    context = Context.of(folder)
    runs: list[Run] = []
    for item in videos_of(folder):
        if item.camera in [run.camera for run in runs]:
            continue  # a stream that was started anew has another clock
        runs.append(Run(item.camera, calibration.camera_clock(item, context, settings), item.first_ns, item.last_ns))
    if len(runs) < 2:
        raise UnreadableError(f"{folder} has one camera only", cure="record with two or more")
    return runs, [compare(one, other) for one, other in combinations(runs, 2)]


def compare(one: Run, other: Run) -> Drift:
    """One run against another that filmed the same screen. Raises NoCalibrationError where no drift can be told."""
    for run in (one, other):
        if len(run.clock.anchors) < 2 or run.clock.source not in BY_CODES:
            raise NoCalibrationError(
                f"{run.camera} filmed the code at one place only", cure="film it at the start and at the end"
            )
    begin = max(one.clock.anchors[0].utc_ns, other.clock.anchors[0].utc_ns)
    end = min(one.clock.anchors[-1].utc_ns, other.clock.anchors[-1].utc_ns)
    skew_ns = other.first_utc_ns - one.first_utc_ns
    drifts = [clock_drift(run.clock) for run in (one, other)]
    return Drift(
        camera=one.camera,
        other=other.camera,
        start_skew_ms=Bar(skew_ns / NS_PER_MS, _error_ms([_error_ns(run, run.first_ns) for run in (one, other)])),
        drift_ppm=Bar(
            drifts[0].value - drifts[1].value, float(combined(np.array([[drift.error] for drift in drifts]))[0])
        ),
        apart_ms=tuple(_apart(one, other, begin, utc_ns) for utc_ns in (begin, (begin + end) // 2, end)),
    )


def _apart(one: Run, other: Run, begin_utc_ns: int, utc_ns: int) -> Bar:
    (one_begin, one_now), (other_begin, other_now) = (
        (_pts_ns(run.clock, begin_utc_ns), _pts_ns(run.clock, utc_ns)) for run in (one, other)
    )
    value = ((other_now - other_begin) - (one_now - one_begin)) / NS_PER_MS
    if utc_ns == begin_utc_ns:
        return Bar(value, 0.0)  # by definition
    places = ((one, one_begin), (one, one_now), (other, other_begin), (other, other_now))
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
    return float(combined(np.array(half_widths_ns)[:, None])[0]) / NS_PER_MS


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar measure drift`."""
    parser = argparse.ArgumentParser(
        prog="edencar measure drift",
        description="Tell how the clocks of two or more cameras run apart, from one code shown to all of them.",
    )
    add_session_options(parser)
    return cli.run(parser, _run, lambda result: "\n".join([*result["verdicts"], result["report"]]), argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings()
    folder, output = recorded(options, settings, "drift")
    runs, drifts = measure_recording(folder, settings)
    verdicts = [Verdict(drift.verdict, good=True) for drift in drifts]
    report = write_report(
        output,
        "How the cameras' clocks drift",
        phrase("recording {recording}; bars hold 99 %", recording=folder.name),
        verdicts,
        [_table(drifts), _chart(runs)],
    )
    return {
        "recording": str(folder),
        "report": str(report),
        "verdicts": [str(item.text) for item in verdicts],
        "pairs": [asdict(drift) for drift in drifts],
    }


def _table(drifts: Sequence[Drift]) -> Table:
    headings = ("cameras", "drift ppm", "middle ms", "end ms", "began apart ms")
    rows = (
        (f"{d.camera}, {d.other}", str(d.drift_ppm), str(d.apart_ms[1]), str(d.apart_ms[2]), str(d.start_skew_ms))
        for d in drifts
    )
    return Table(headings, tuple(rows))


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
