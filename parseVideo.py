"""Videos become sharp photos, each with the exact time it was taken and an honest error bar.

The time code that each camera filmed dates every frame; of each interval one frame is kept, the sharpest of its
neighbours.
"""

import argparse
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeGuard

import av
import numpy as np
import numpy.typing as npt

import configs
from configs import Settings
from rig import calibration, cli, photos, video
from rig.calibration import Context
from rig.clock import iso_utc
from rig.errors import NoCalibrationError, NoPositionError, NoSpaceError, UnreadableError, UsageError
from rig.files import write_atomically
from rig.photos import Photo
from rig.positions import Track
from rig.timeline import CameraClock
from rig.video import Clip, Video
from rig.yaw import check_video

Int64 = npt.NDArray[np.int64]

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
MAX_OFF_TARGET_FRAMES = 2.0  # a frame further from the wanted instant than this lies beside a gap
METRES_PER_DEGREE = 111_195.0  # of latitude, mean sphere: good to 0.5 %, enough to space photos
STANDING_MPS = 0.3
DARK, BRIGHT = 20.0, 235.0  # mean luminance of a covered and of a blinded lens

_EVERY = re.compile(r"(\d+(?:\.\d+)?)(s|m)?")


@dataclass(frozen=True, slots=True)
class Every:
    """How far apart the photos are: `step` seconds, or metres along the track."""

    step: float
    unit: str = "s"

    @staticmethod
    def parse(text: str) -> "Every":
        """`0.5s`, `5m`, or a number of seconds. Raises UsageError for anything else."""
        match = _EVERY.fullmatch(text.strip())
        if not match or float(match[1]) <= 0:
            raise UsageError(f"--every {text!r} is no interval", cure="say for instance 0.5s or 5m")
        return Every(float(match[1]), match[2] or "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What photos are wanted of the videos."""

    every: Every
    sharpest_of: int
    min_sharpness: float
    quality: int
    calibration: Path | None = None
    start_utc: str = ""
    positions: tuple[Path, ...] = ()
    jobs: int = 1
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSummary:
    """What came of the videos."""

    photos: int
    dropped: int  # less sharp than asked for
    output: str
    calibration: Mapping[str, Any]
    warnings: tuple[str, ...]


def parse_recording(
    folder: Path, settings: Settings, every: str = "", progress: Callable[[float], None] = lambda share: None
) -> VideoSummary:
    """Turn all videos of a recording's folder into photos below it. `every` as in `--every`, empty for the setting."""
    wish = Wish(
        every=Every.parse(every) if every else Every(settings.photo_interval_s),
        sharpest_of=settings.sharpest_of,
        min_sharpness=0.0,
        quality=settings.jpeg_quality,
        positions=tuple(path for path in [folder / "positions" / "positions.csv"] if path.exists()),
    )
    return parse_videos([folder], folder, settings, wish, progress)


def parse_videos(
    sources: Sequence[Path],
    output: Path,
    settings: Settings,
    wish: Wish,
    progress: Callable[[float], None] = lambda share: None,
) -> VideoSummary:
    """Turn videos, named or of a recording's folder, into `photos/`, `photos.csv` and `calibration.json` in `output`.

    Photos of the same camera from an earlier run are replaced, those of other cameras stay.
    Raises UnreadableError, NoCalibrationError or NoSpaceError.
    """
    track = _track(wish)
    videos, context = _collect(sources)
    clocks, warnings = _clocks(videos, settings, context, wish)
    work = [_Work(video, clock, _pick(video, clock, wish, track)) for video, clock in clocks]
    table = calibration.table(clocks, context.logs)
    warnings += _check_drives(clocks, table, wish)
    if wish.dry_run:
        count = sum(len(item.picks) for item in work)
        return VideoSummary(photos=count, dropped=0, output=str(output), calibration=table, warnings=tuple(warnings))
    rows, dropped = _extract_all(work, output, wish, progress)
    write_atomically(output / calibration.NAME, json.dumps(table, indent=1).encode())
    calibration.learn(clocks, context, settings)
    return VideoSummary(
        photos=len(rows), dropped=dropped, output=str(output), calibration=table, warnings=tuple(warnings)
    )


@dataclass(frozen=True, slots=True)
class _Pick:
    """One wanted photo: the frames of one clip of which the sharpest is kept."""

    clip: int
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Work:
    video: Video
    clock: CameraClock
    picks: tuple[_Pick, ...]


def _check_drives(clocks: Sequence[tuple[Video, CameraClock]], table: dict[str, Any], wish: Wish) -> list[str]:
    """Note in the calibration whether cameras turn when the fixes do, where their films tell; a warning for each alarm.

    A check only: an offset it finds is never applied. A log without positions says nothing here.
    """
    try:
        track = Track.load(wish.positions) if wish.positions else None
    except NoPositionError:
        track = None
    alarms = []
    for key, (item, clock) in zip(table, clocks, strict=True):
        check = check_video(item, track, clock.utc_ns) if track is not None else None
        if check is not None:
            table[key]["drive_check"] = check.to_json()
            alarms += [f"{key}: {check.why}"] if check.verdict == "alarm" else []
    return alarms


def _collect(sources: Sequence[Path]) -> tuple[list[Video], Context]:
    """All videos, and what is known beside them when a source is a recording's folder."""
    files = [path for path in sources if not path.is_dir()]
    videos = video.find_videos(files) if files else []
    context = Context()
    for folder in (path for path in sources if path.is_dir()):
        videos += _videos_of(folder)
        context = Context.of(folder)
    return videos, context


def _videos_of(folder: Path) -> list[Video]:
    root = folder / "videos" if (folder / "videos").is_dir() else folder
    cameras = [path for path in sorted(root.iterdir()) if path.is_dir()] if root != folder else [folder]
    videos = []
    for camera in cameras:
        files = [path for path in sorted(camera.iterdir()) if path.suffix.lower() in video.VIDEO_SUFFIXES]
        if files:
            videos += video.find_videos(files, camera.name)
    if not videos:
        raise UnreadableError(f"{folder} holds no videos", cure="name a recording's folder or video files")
    return videos


def _clocks(
    videos: Sequence[Video], settings: Settings, context: Context, wish: Wish
) -> tuple[list[tuple[Video, CameraClock]], list[str]]:
    """The clock of each video for which there is one, and a warning for each other."""
    calibrate = partial(_calibrate, settings=settings, context=context, wish=wish)
    outcomes = list(_each(calibrate, videos, wish.jobs))
    found = [(item, clock) for item, clock in zip(videos, outcomes, strict=True) if _is_firm(clock)]
    warnings = []
    for item, outcome in zip(videos, outcomes, strict=True):
        if _is_firm(outcome):
            continue
        clock = calibration.linked(item, found, settings) or outcome
        if isinstance(clock, CameraClock):
            found.append((item, clock))
        else:
            warnings.append(f"{item.camera} {item.name}: {clock.message}; it gives no photos")
    warnings += [f"{item.camera}: {text}" for item, clock in found for text in clock.warnings]
    if not found:
        failure = outcomes[0]
        raise failure if isinstance(failure, NoCalibrationError) else NoCalibrationError("no video has a time code")
    return found, warnings


def _is_firm(outcome: CameraClock | NoCalibrationError) -> TypeGuard[CameraClock]:
    """Whether other videos of the camera may be dated by this one."""
    return isinstance(outcome, CameraClock) and outcome.source != "arrival"


def _calibrate(item: Video, settings: Settings, context: Context, wish: Wish) -> CameraClock | NoCalibrationError:
    """The clock of one video; the error is returned, not raised, as other videos may have one."""
    try:
        if wish.calibration is not None:
            return calibration.stored(item, wish.calibration)
        if wish.start_utc:
            return calibration.given_start(item, wish.start_utc, settings)
        return calibration.camera_clock(item, context, settings)
    except NoCalibrationError as error:
        return error


def _pick(item: Video, clock: CameraClock, wish: Wish, track: Track | None) -> tuple[_Pick, ...]:
    """The frames nearest to the wanted instants, with their neighbours."""
    clock_ns = np.concatenate([clip.clock_ns for clip in item.clips])
    clip_of = np.repeat(np.arange(len(item.clips)), [len(clip.pts) for clip in item.clips])
    first_of = np.searchsorted(clip_of, np.arange(len(item.clips)))
    utc_ns = clock.utc_ns(clock_ns)
    wanted = _instants(int(utc_ns[0]), int(utc_ns[-1]), wish.every, track)
    nearest = _nearest(utc_ns, wanted)
    period = float(np.median(np.diff(utc_ns))) if len(utc_ns) > 1 else float(SECOND_NS)
    close = np.abs(utc_ns[nearest] - wanted) <= MAX_OFF_TARGET_FRAMES * period
    chosen = np.unique(nearest[close])
    spacing = int(np.diff(chosen).min()) if len(chosen) > 1 else wish.sharpest_of
    reach = (min(wish.sharpest_of, spacing) - 1) / 2
    picks = []
    for number in chosen:
        frames = np.arange(number - math.floor(reach), number + math.ceil(reach) + 1)
        frames = frames[(frames >= 0) & (frames < len(clip_of))]
        clip = int(clip_of[number])
        picks.append(_Pick(clip, tuple(int(f - first_of[clip]) for f in frames if clip_of[f] == clip)))
    return tuple(picks)


def _instants(first_ns: int, last_ns: int, every: Every, track: Track | None) -> Int64:
    """The wanted UTC: whole multiples of the step, so that all cameras' photos are of the same instants."""
    if track is not None:
        instants = _each_metres(track, every.step)
        return instants[(instants >= first_ns) & (instants <= last_ns)]
    step_ns = round(every.step * SECOND_NS)
    return np.arange(-(-first_ns // step_ns), last_ns // step_ns + 1, dtype=np.int64) * step_ns


def _track(wish: Wish) -> Track | None:
    if wish.every.unit != "m":
        return None
    if not wish.positions:
        raise UsageError("--every in metres needs the track", cure="name it with --positions, or say seconds")
    return Track.load(wish.positions)


def _each_metres(track: Track, step_m: float) -> Int64:
    """The UTC at which the car had driven each whole multiple of `step_m`; standing, it drives nothing."""
    north = np.diff(track.latitude) * METRES_PER_DEGREE
    east = np.diff(track.longitude) * METRES_PER_DEGREE * np.cos(np.radians(track.latitude[:-1]))
    pace = np.hypot(north, east)
    pace[np.nan_to_num(track.speed_mps[:-1], nan=np.inf) < STANDING_MPS] = 0.0  # the receiver's noise is no way
    way = np.concatenate([[0.0], np.cumsum(pace)])
    moving = np.concatenate([[True], np.diff(way) > 0])
    marks = np.arange(0.0, way[-1], step_m)
    begin = int(track.utc_ns[0])
    elapsed = np.rint(np.interp(marks, way[moving], (track.utc_ns - begin)[moving]))
    return begin + np.asarray(elapsed, dtype=np.int64)


def _nearest(values: Int64, wanted: Int64) -> Int64:
    right = np.clip(np.searchsorted(values, wanted), 1, max(1, len(values) - 1))
    left = right - 1
    right = np.minimum(right, len(values) - 1)
    closest = np.where(np.abs(values[left] - wanted) <= np.abs(values[right] - wanted), left, right)
    return np.asarray(closest, dtype=np.int64)


def _extract_all(
    work: Sequence[_Work], output: Path, wish: Wish, progress: Callable[[float], None]
) -> tuple[list[Photo], int]:
    """Write all photos beside the old ones, then put them in their place; returns the new rows and how many dropped."""
    part = output / "photos.part"
    shutil.rmtree(part, ignore_errors=True)
    total = max(1, sum(len(item.picks) for item in work))
    rows: list[Photo] = []
    try:
        part.mkdir(parents=True)
        for row in _each_row(work, part, wish):
            rows.append(row)
            progress(len(rows) / total)
        kept = [row for row in rows if (row.sharpness or 0.0) >= wish.min_sharpness]
        _put_in_place(part, output, kept, {item.video.camera for item in work})
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpaceError(
                f"no room for the photos in {output}", cure="delete recordings or name another --output"
            ) from error
        raise UnreadableError(f"{output} cannot be written ({error})", cure="name another --output") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return kept, len(rows) - len(kept)


def _each_row(work: Sequence[_Work], part: Path, wish: Wish) -> Iterator[Photo]:
    if wish.jobs > 1:
        for rows in _each(partial(_extract_listed, part=part, wish=wish), work, wish.jobs):
            yield from rows
    else:
        for item in work:
            yield from extract(item, part, wish)


def _extract_listed(item: _Work, part: Path, wish: Wish) -> list[Photo]:
    return list(extract(item, part, wish))


def extract(item: _Work, part: Path, wish: Wish) -> Iterator[Photo]:
    """Decode one video as far as needed and write its photos below `part`."""
    folder = part / item.video.camera
    folder.mkdir(exist_ok=True)
    for index, clip in enumerate(item.video.clips):
        picks = [pick for pick in item.picks if pick.clip == index]
        for number, picture, sharpness, luminance in _sharpest(clip, picks):
            photo = _photo(item, clip, number, sharpness, luminance)
            if sharpness >= wish.min_sharpness:
                _write(folder / Path(photo.photo).name, picture, wish.quality)
            yield photo


def _sharpest(clip: Clip, picks: Sequence[_Pick]) -> Iterator[tuple[int, av.VideoFrame, float, float]]:
    """Of each pick the sharpest whole picture (a damaged one only at need): number, picture, sharpness, luminance."""
    pick_of = {frame: pick for pick in picks for frame in pick.frames}
    best: tuple[int, av.VideoFrame, float, float] | None = None
    rank = (False, 0.0)
    current: _Pick | None = None
    for number, picture in video.pictures(clip, sorted(pick_of)):
        if pick_of[number] is not current:
            if best is not None:
                yield best
            best, current = None, pick_of[number]
        sharpness, luminance = photos.measure(video.luma(picture))
        if best is None or (number not in clip.damaged, sharpness) > rank:
            best, rank = (number, picture, sharpness, luminance), (number not in clip.damaged, sharpness)
    if best is not None:
        yield best


def _photo(item: _Work, clip: Clip, number: int, sharpness: float, luminance: float) -> Photo:
    clock_ns = clip.clock_ns[number : number + 1]
    utc = iso_utc(int(item.clock.utc_ns(clock_ns)[0]))
    doubts = {"dark": luminance < DARK, "bright": luminance > BRIGHT, "damaged": number in clip.damaged}
    return Photo(
        photo=f"photos/{item.video.camera}/{_file_name(utc)}",
        camera=item.video.camera,
        utc=utc,
        time_error_ms=int(item.clock.error_ns(clock_ns)[0]) / MILLISECOND_NS,
        video=clip.path.name,
        pts_s=int(clip.pts_ns[number]) / SECOND_NS,
        frame=number,
        sharpness=sharpness,
        luminance=luminance,
        flags=" ".join(word for word, applies in doubts.items() if applies),
    )


def _file_name(utc: str) -> str:
    """`20261122T140315233Z.jpg` for 2026-11-22T14:03:15.233Z."""
    return utc.translate({ord(mark): None for mark in "-:."}) + ".jpg"


def _write(path: Path, picture: av.VideoFrame, quality: int) -> None:
    # By way of BGR: a camera's planes straight into a JPEG would turn BT.709 colours into BT.601 ones.
    with path.open("wb") as file:
        file.write(photos.encode_jpeg(np.asarray(picture.to_ndarray(format="bgr24"), dtype=np.uint8), quality))
        file.flush()
        os.fdatasync(file.fileno())


def _put_in_place(part: Path, output: Path, rows: Sequence[Photo], cameras: set[str]) -> None:
    """Replace these cameras' photos and rows, keep other cameras'."""
    others = []
    if (output / photos.TABLE_NAME).exists():
        others = [row for row in photos.read_table(output) if row.camera not in cameras]
    (output / "photos").mkdir(exist_ok=True)
    for camera in cameras:
        place = output / "photos" / camera
        shutil.rmtree(place, ignore_errors=True)
        (part / camera).rename(place)
    photos.write_table(output, [*others, *rows])


def _each(do: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> Iterator[Any]:
    """`map`, in `jobs` processes when there is more than one."""
    if jobs <= 1 or len(items) <= 1:
        yield from map(do, items)
        return
    with ProcessPoolExecutor(min(jobs, len(items)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(do, items)


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parseVideo.py", description=__doc__)
    parser.add_argument("sources", metavar="SOURCE", nargs="+", type=Path, help="a recording's folder, or video files")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: the recording's folder, else ./photos-out")
    parser.add_argument(
        "--every", default=f"{settings.photo_interval_s}s", metavar="0.5s|5m", help="seconds, or metres of the track"
    )
    parser.add_argument(
        "--positions", type=Path, action="append", default=[], metavar="FILE", help="the track, for metres"
    )
    parser.add_argument(
        "--calibration", default="auto", metavar="auto|FILE", help="auto: by the time codes in the video"
    )
    parser.add_argument(
        "--start-utc", default="", metavar="ISO", help="when the first frame was taken, for want of a code"
    )
    parser.add_argument("--display-latency", metavar="MS[:ERROR]", help="of the screen that showed the code")
    parser.add_argument(
        "--sharpest-of", type=int, default=settings.sharpest_of, metavar="N", help="neighbours compared"
    )
    parser.add_argument("--min-sharpness", type=float, default=0.0, metavar="X", help="drop photos below this")
    parser.add_argument("--quality", type=int, default=settings.jpeg_quality, help="of the JPEG files, 1 to 100")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="videos at once")
    parser.add_argument("--dry-run", action="store_true", help="only say what would come out")
    return parser


def _with_latency(settings: Settings, text: str | None) -> Settings:
    if text is None:
        return settings
    latency, _, error = text.partition(":")
    try:
        if error and not 0 <= float(error) < math.inf:
            raise ValueError(error)
        return replace(
            settings,
            display_latency_ms=float(latency),
            display_latency_error_ms=float(error) if error else settings.display_latency_error_ms,
        )
    except ValueError as failure:
        raise UsageError(
            f"--display-latency {text!r} is no number of ms", cure="say for instance 42 or 42:2"
        ) from failure


def _run(options: argparse.Namespace) -> VideoSummary:
    settings = _with_latency(configs.load(), options.display_latency)
    for name, value, low, high in (
        ("--quality", options.quality, 1, 100),
        ("--sharpest-of", options.sharpest_of, 1, 99),
        ("--jobs", options.jobs, 1, 256),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value} is out of range", cure=f"say {low} to {high}")
    wish = Wish(
        every=Every.parse(options.every),
        sharpest_of=options.sharpest_of,
        min_sharpness=options.min_sharpness,
        quality=options.quality,
        calibration=None if options.calibration == "auto" else Path(options.calibration),
        start_utc=options.start_utc,
        positions=_positions(options),
        jobs=options.jobs,
        dry_run=options.dry_run,
    )
    first = options.sources[0]
    output = options.output or (first if first.is_dir() else Path("photos-out"))
    return parse_videos(options.sources, output, settings, wish, cli.Progress("photos"))


def _positions(options: argparse.Namespace) -> tuple[Path, ...]:
    named = [source / "positions" / "positions.csv" for source in options.sources]
    return tuple(options.positions) or tuple(path for path in named if path.exists())


def _say(summary: VideoSummary) -> str:
    lines = [f"{summary.photos} photos in {summary.output}"]
    if summary.dropped:
        lines.append(f"{summary.dropped} dropped: less sharp than asked for")
    for camera, values in summary.calibration.items():
        lines.append(f"{camera}: time by {values['source']}, within {values['error_ms']['middle']:.1f} ms")
    return "\n".join([*lines, *(f"warning: {text}" for text in summary.warnings)])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (see rig/errors.py)."""
    return cli.run(_parser(configs.Settings()), _run, _say, argv)


if __name__ == "__main__":
    raise SystemExit(main())
