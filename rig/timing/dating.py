"""The clock of each video of a run, found side by side; of what has no time code, by another run of its camera."""

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
    outcomes = list(_each(calibrate, videos, jobs))
    if given.start_utc:
        cameras = [item.camera for item in videos]
        later = [cameras.index(camera) != place for place, camera in enumerate(cameras)]
        outcomes = [ONE_START if is_later else clock for clock, is_later in zip(outcomes, later, strict=True)]
    dated = [(item, clock) for item, clock in zip(videos, outcomes, strict=True) if _is_firm(clock)]
    warnings = []
    for item, outcome in zip(videos, outcomes, strict=True):
        if _is_firm(outcome):
            continue
        clock = calibration.linked(item, dated, settings) or outcome
        if isinstance(clock, CameraClock):
            dated.append((item, clock))
        else:
            warnings.append(f"{item.camera} {item.name}: {clock.message}; it gives no photos")
    warnings += [f"{item.camera}: {text}" for item, clock in dated for text in clock.warnings]
    if not dated:
        failure = outcomes[0]
        raise failure if isinstance(failure, NoCalibrationError) else NoCalibrationError("no video has a time code")
    return dated, warnings


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


def _each(do: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> Iterator[Any]:
    """`map`, in `jobs` processes when there is more than one."""
    if jobs <= 1 or len(items) <= 1:
        yield from map(do, items)
        return
    with ProcessPoolExecutor(min(jobs, len(items)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(do, items)


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
