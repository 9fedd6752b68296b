"""Videos become photos: all that the videos of one run go through, from their clocks to the table of photos."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from configs import Settings
from rig.clock import iso_utc
from rig.errors import EdencarError, NoPositionError, UsageError
from rig.files import is_full, write_atomically
from rig.footage import video
from rig.footage.video import Video
from rig.gnss import gpmf
from rig.gnss.positions import Track
from rig.photo import exports, extraction, photos, sampling, tagging
from rig.photo.collection import Collection
from rig.photo.extraction import Made, Manner, Work
from rig.photo.journal import Journal
from rig.photo.locate import Camera, load_track
from rig.photo.sampling import Pick
from rig.photo.spacing import Every
from rig.recordings import require_closed
from rig.timing import calibration
from rig.timing.calibration import Context
from rig.timing.cameraclock import CameraClock
from rig.timing.dating import Dated, Given, check_drives, find_clocks, known_clocks

PART = "photos.part"  # what a run has made so far

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What photos are wanted of the videos. `jobs` 0: as many as there are cores."""

    every: Every
    sharpest_of: int
    min_sharpness: float
    quality: int
    calibration: Path | None = None
    start_utc: str = ""
    positions: tuple[Path, ...] = ()  # none: the recording's own
    formats: tuple[str, ...] = ()
    jobs: int = 0
    dry_run: bool = False

    @classmethod
    def of(cls, settings: Settings, every: str = "", start_utc: str = "") -> Self:
        """As the settings say; `every` and `start_utc` as the options of `parseVideo.py`. Raises UsageError."""
        return cls(
            every=sampling.parse_every(every) if every else Every(settings.photo_interval_s),
            sharpest_of=settings.sharpest_of,
            min_sharpness=0.0,
            quality=settings.jpeg_quality,
            start_utc=start_utc,
        )

    def manner(self, settings: Settings) -> Manner:
        """How the wanted photos are made."""
        return Manner(min_sharpness=self.min_sharpness, quality=self.quality, settings=settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSummary:
    """What came of the videos; `failed` says for each file that could not be used why."""

    photos: int
    dropped: int = 0  # less sharp than asked for
    flagged: Mapping[str, int]  # photos by what is doubtful about them
    output: str = ""
    calibration: Mapping[str, Any]
    videos: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def of_made(self, made: Sequence[Made]) -> "VideoSummary":
        """With what has come of all picks, in place of what was wanted."""
        flags = [word for row in extraction.kept_rows(made) for word in row.flags.split()]
        lost = sum(one.row is None and not one.why for one in made)
        doubts = [f"{lost} photos are missing: losses have left nothing of their pictures"] if lost else []
        return replace(
            self,
            photos=len(extraction.kept_rows(made)),
            dropped=sum(not one.kept for one in made),
            flagged={word: flags.count(word) for word in sorted(set(flags))},
            warnings=(*self.warnings, *doubts),
            failed=(*self.failed, *(one.why for one in made if one.why)),
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """The videos of one run, what is known beside them, and what has to be said of them."""

    videos: Sequence[Video]
    context: Context
    positions: tuple[Path, ...]
    track: Track | None
    warnings: Sequence[str]
    failed: Sequence[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the videos of one run, before any of it is made."""

    works: Sequence[Work]
    summary: VideoSummary
    cameras: Mapping[str, Camera]  # by their folders
    track: Track | None


def parse_videos(
    sources: Sequence[Path], output: Path, settings: Settings, wish: Wish, progress: Progress = lambda share: None
) -> VideoSummary:
    """Turn videos, named or of one recording's folder, into `photos/`, `photos.csv`, `calibration.json` in `output`.

    Photos of the same camera from an earlier run are replaced, those of other cameras stay; a run that was interrupted
    is continued. Raises UnreadableError, NoCalibrationError, NoPositionError, NoSpaceError or ConflictError.
    """
    if not wish.dry_run:
        require_closed(output)
    found = collect(sources, wish)
    journal = Journal(output / PART, _key(found, settings, wish))
    if journal.head is None:
        clocks, head = date(found, settings, wish, wish.jobs or extraction.cores())
    else:
        head = journal.head
        clocks = list(known_clocks(found.videos, head["calibration"]))
    wanted = want(found, clocks, head, settings, wish)
    summary = replace(wanted.summary, output=str(output))
    if wish.dry_run:
        return summary
    try:
        with journal.begun(head):
            made = list(_make(wanted.works, journal, settings, wish, progress))
            photos.replace_cameras(output, journal.folder, wanted.cameras, extraction.kept_rows(made))
            write_beside(output, wanted, settings, wish)
            journal.remove()
    except OSError as error:
        if isinstance(error, EdencarError):
            raise
        if is_full(error):
            journal.remove()  # a recording may need the room
        raise photos.unwritable(error, output) from error
    return _taught(summary, clocks, found, settings).of_made(made)


def _taught(summary: VideoSummary, clocks: Sequence[Dated], found: Sources, settings: Settings) -> VideoSummary:
    """Keep for later what the clocks tell of the cameras; the summary, which says when that cannot be."""
    try:
        calibration.learn(clocks, found.context, settings)
    except OSError as error:  # the photos are made all the same
        doubt = f"what was learnt of the cameras is not kept in {settings.output} ({error.strerror})"
        return replace(summary, warnings=(*summary.warnings, doubt))
    return summary


# --- what there is ----------------------------------------------------------------------------------------------------


def collect(sources: Sequence[Path], wish: Wish) -> Sources:
    """All videos, and what is known beside them when the source is a recording's folder. Raises UnreadableError."""
    folders = [path for path in sources if path.is_dir()]
    warnings, failed = list[str](), list[str]()
    if len(folders) > 1 or 0 < len(folders) < len(sources):
        raise UsageError("more than one recording, or a recording and files", cure="name one recording, or files")
    if folders:
        told = warnings if (folders[0] / "videos").is_dir() else failed  # a power cut leaves bits in a recording
        videos = video.videos_of(folders[0], lambda error: told.append(str(error)))
        context = Context.of(folders[0])
    else:
        videos = video.find_videos(sources, tell=lambda error: failed.append(str(error)))
        context = Context()
    warnings += [f"{clip.path}: {clip.doubt}" for item in videos for clip in item.clips if clip.doubt]
    positions = wish.positions or ((context.positions,) if context.positions else ())
    track, doubts, unread = _load(positions, wish.every) if positions else (None, [], [])
    return Sources(videos, context, positions, track, [*warnings, *doubts], [*failed, *unread])


def _load(positions: Sequence[Path], every: Every) -> tuple[Track | None, list[str], list[str]]:
    """As load_track; a log without positions is none, unless the way is to be measured by it."""
    try:
        return load_track(positions)
    except NoPositionError:
        if every.unit == "m":
            raise
        return None, [], []


def _key(found: Sources, settings: Settings, wish: Wish) -> str:
    """One run's name: the same for the same files, wishes and settings."""
    files = [clip.path for item in found.videos for clip in item.clips]
    files += [path.with_suffix(".idx") for path in files] + list(found.positions)
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
    asked = replace(wish, jobs=0, dry_run=False)
    return hashlib.sha256(repr((stamps, asked, settings)).encode()).hexdigest()


def date(found: Sources, settings: Settings, wish: Wish, jobs: int) -> tuple[list[Dated], dict[str, Any]]:
    """The clock of each video, and as JSON has it what `calibration.json` and the user get to know of them."""
    clocks, doubts = find_clocks(found.videos, found.context, settings, Given(wish.calibration, wish.start_utc), jobs)
    table = calibration.table(clocks, found.context.logs)
    doubts += check_drives(clocks, table, found.track)
    return clocks, {"calibration": table, "warnings": doubts}


# --- what is wanted ---------------------------------------------------------------------------------------------------


def want(found: Sources, clocks: Sequence[Dated], head: Mapping[str, Any], settings: Settings, wish: Wish) -> Wanted:
    """The wanted photos of each video, no two of one camera at one time. Raises NoPositionError, UsageError."""
    works, warnings, ends = list[Work](), list[str](), dict[str, int]()
    times = [clock.utc_ns(np.concatenate([clip.clock_ns for clip in item.clips])) for item, clock in clocks]
    for (item, clock), utc_ns in sorted(zip(clocks, times, strict=True), key=lambda dated: int(dated[1][0])):
        track = found.track if found.positions else _own_track(item, clock)
        after = np.concatenate([[0], np.cumsum([len(clip.pts) for clip in item.clips])])
        wanted = sampling.picks(item, utc_ns, wish.every, wish.sharpest_of, track, settings.standing_mps)
        end_ns = ends.get(item.camera, 0)
        picks = [pick for pick in wanted if utc_ns[after[pick.clip] + pick.frames[0]] > end_ns]
        if len(picks) < len(wanted):
            lost = len(wanted) - len(picks)
            warnings.append(f"{item.camera} {item.name}: {lost} photos lie before the end of its other video")
        ends[item.camera] = max(end_ns, int(utc_ns[-1]))
        seen_by = _camera(item, found.context, settings)
        works.append(Work(video=item, clock=clock, picks=picks, track=track, seen_by=seen_by))
    if wish.every.unit == "m" and not any(work.picks for work in works):
        raise NoPositionError("the track and the videos have no time in common", cure="check the day of the positions")
    summary = VideoSummary(
        photos=sum(len(work.picks) for work in works),
        flagged={},
        calibration=head["calibration"],
        videos=tuple(_told(work) for work in works),
        warnings=(*found.warnings, *warnings, *head["warnings"]),
        failed=tuple(found.failed),
    )
    cameras = {work.video.camera: work.seen_by for work in works}
    return Wanted(works, summary, cameras, next((work.track for work in works if work.track is not None), None))


def _own_track(item: Video, clock: CameraClock) -> Track | None:
    """The places that a GoPro's file itself tells, in the time of its pictures; None without any."""
    line = calibration.gps_line(item)
    if line is None:
        return None
    try:
        track = Track.of_logs([telemetry.fixes() for _, telemetry in calibration.telemetries(item)])
    except NoPositionError:
        return None
    shift_ns = int(clock.utc_ns(line.pts_ns)) - line.utc_ns
    return replace(track, utc_ns=track.utc_ns + shift_ns)


def _camera(item: Video, context: Context, settings: Settings) -> Camera:
    """As the recording knows it, else as its file tells."""
    if known := tagging.cameras_of(context.manifest, settings).get(item.camera):
        return known
    said = gpmf.read_camera(item.clips[0].path)
    return Camera(item.camera, tagging.MAKE, said.model, said.serial or "") if said.model else Camera(item.camera)


def _told(work: Work) -> dict[str, Any]:
    """What is wanted of one video, for a person."""
    clips = work.video.clips
    ends = (*work.picks[:1], *work.picks[-1:])
    pts_ns = [clips[pick.clip].clock_ns[[pick.frames[len(pick.frames) // 2]]] for pick in ends]
    times = [iso_utc(int(work.clock.utc_ns(one)[0])) for one in pts_ns]
    return {
        "camera": work.video.camera,
        "video": work.video.name,
        "photos": len(work.picks),
        "standing": sum(pick.standing for pick in work.picks),
        "first": min(times, default=""),
        "last": max(times, default=""),
        "pictures": sum(len(clip.pts) for clip in clips),
        "damaged": sum(len(clip.damaged) for clip in clips),
    }


# --- what is made -----------------------------------------------------------------------------------------------------


def _make(
    works: Sequence[Work], journal: Journal, settings: Settings, wish: Wish, progress: Progress
) -> Iterator[Made]:
    """All photos, those first that an interrupted run has made."""
    known = [one for one in map(Made.from_json, journal.lines) if _is_there(one, journal.folder)]
    done = {one.key for one in known}
    left = [replace(work, picks=[pick for pick in work.picks if _key_of(work, pick) not in done]) for work in works]
    yield from known
    total, count = max(1, sum(len(work.picks) for work in works)), len(known)
    progress(count / total)
    jobs = wish.jobs or extraction.usual_jobs(works)
    for one in extraction.extract_all(left, journal.folder, wish.manner(settings), jobs):
        journal.add(one.to_json())
        count += 1
        progress(count / total)
        yield one


def _is_there(one: Made, folder: Path) -> bool:
    return one.row is None or not one.kept or extraction.file_of(one.row, folder).exists()


def _key_of(work: Work, pick: Pick) -> str:
    return extraction.key_of(work.video.camera, work.video.clips[pick.clip], pick)


def write_beside(output: Path, wanted: Wanted, settings: Settings, wish: Wish) -> None:
    """Write what stands beside the table: `calibration.json`, and the files for others that were asked for."""
    write_atomically(output / calibration.NAME, json.dumps(wanted.summary.calibration, indent=1).encode())
    if wish.formats:
        rows = photos.read_table(output)
        collection = Collection.of(output, rows, wanted.track, wanted.cameras, settings.camera_directions)
        exports.write(output, collection, wish.formats)
