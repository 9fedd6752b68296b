"""The clock of each video of a run, found side by side; of what has no time code, by another run of its camera."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeGuard

from configs import Settings
from rig.errors import NoCalibrationError
from rig.footage.video import Video
from rig.gnss.positions import Track
from rig.offspring import kill_pools, leave, serve
from rig.timing import calibration, cameraclock
from rig.timing.calibration import Context
from rig.timing.cameraclock import CameraClock
from rig.timing.yaw import check_video

Dated = tuple[Video, CameraClock]

ONE_START = NoCalibrationError("--start-utc dates only the first video of a camera")


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody says of the time: a `calibration.json`, or when each camera's first frame was taken."""

    calibration: Path | None = None
    start_utc: str = ""


def find_clocks(
    videos: Sequence[Video], context: Context, settings: Settings, given: Given, jobs: int
) -> tuple[list[Dated], list[str]]:
    """The clock of each video for which there is one, and a warning for each other.

    Raises NoCalibrationError where there is none at all, UsageError or UnreadableError for what was given.
    """
    calibrate = partial(_calibrate, settings=settings, context=context, given=given)
    outcomes = list(zip(videos, _each(calibrate, videos, jobs), strict=True))
    if given.start_utc:
        first = {item.camera: item for item in reversed(videos)}
        outcomes = [(item, clock if item is first[item.camera] else ONE_START) for item, clock in outcomes]
    dated = [(item, clock) for item, clock in outcomes if _is_firm(clock)]
    failures = []
    for item, outcome in outcomes:
        if _is_firm(outcome):
            continue
        clock = calibration.linked(item, dated, context, settings) or outcome
        if isinstance(clock, CameraClock):
            dated.append((item, clock))
        else:
            failures.append((item, clock))
    if not dated:
        raise failures[0][1]
    warnings = [f"{item.camera} {item.name}: {error.message}; it gives no photos" for item, error in failures]
    return dated, warnings + [f"{item.camera}: {text}" for item, clock in dated for text in clock.warnings]


def _is_firm(outcome: CameraClock | NoCalibrationError) -> TypeGuard[CameraClock]:
    """Whether other videos of the camera may be dated by this one."""
    return isinstance(outcome, CameraClock) and outcome.source != "arrival"


def _calibrate(item: Video, settings: Settings, context: Context, given: Given) -> CameraClock | NoCalibrationError:
    """The clock of one video; the error is returned, not raised, as other videos may have one."""
    try:
        if given.calibration is not None:
            return calibration.stored(item, given.calibration)
        if given.start_utc:
            return calibration.given_start(item, given.start_utc, settings)
        return calibration.camera_clock(item, context, settings)
    except NoCalibrationError as error:
        return error


def _each(do: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> list[Any]:
    """`map`, in `jobs` processes when there is more than one."""
    if jobs <= 1 or len(items) <= 1:
        return list(map(do, items))
    pool = ProcessPoolExecutor(min(jobs, len(items)), get_context("spawn"), serve, (os.getpid(),))
    try:
        return list(pool.map(do, items))
    except KeyboardInterrupt:
        kill_pools()  # they only read
        raise
    finally:
        leave(pool)


def known_clocks(videos: Sequence[Video], table: Mapping[str, Any]) -> Iterator[Dated]:
    """The clocks that an interrupted run had found."""
    for item in videos:
        entry = calibration.entry_of(item, table)
        if entry is not None and entry["video"] == item.name:
            yield item, cameraclock.from_json(entry)


def check_drives(clocks: Sequence[Dated], table: Mapping[str, Any], track: Track | None) -> list[str]:
    """Note in the calibration whether cameras turn when the fixes do, where their films tell; a warning for each alarm.

    A check only: an offset it finds is never applied.
    """
    alarms = []
    for key, (item, clock) in zip(table, clocks, strict=True):
        check = check_video(item, track, clock.utc_ns) if track is not None else None
        if check is not None:
            table[key]["drive_check"] = asdict(check)
            alarms += [f"{key}: {check.why}"] if check.verdict == "alarm" else []
    return alarms
