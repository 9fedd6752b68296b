"""Videos become sharp photos, each with the exact time it was taken and an honest error bar.

The time code that each camera filmed dates every frame; of each interval one frame is kept, the sharpest of its
neighbours. SOURCE is a recording's folder, or video files from anywhere.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import configs
from configs import Settings
from rig import cli
from rig.clock import iso_utc
from rig.cluster import options as fleet
from rig.cluster.steps import Place, Plan, Result, Share
from rig.drive import checksums
from rig.errors import (
    EdencarError,
    NoPositionError,
    UnreadableError,
    UsageError,
)
from rig.files import is_full, write_atomically
from rig.footage import video
from rig.footage.video import Video
from rig.gnss import gpmf
from rig.gnss.positions import Track
from rig.photo import exports, extraction, photos, sampling, tagging
from rig.photo.collection import Collection
from rig.photo.extraction import Made, Manner, Part, Work
from rig.photo.journal import Journal
from rig.photo.locate import Rule, way_of
from rig.photo.photos import Photo
from rig.photo.sampling import Pick
from rig.photo.spacing import Every
from rig.recordings import MANIFEST
from rig.timing import calibration
from rig.timing.calibration import Context
from rig.timing.cameraclock import CameraClock
from rig.timing.dating import Dated, Given, check_drives, find_clocks, known_clocks

POSITIONS = "positions/positions.csv"  # of a recording
PART = "photos.part"  # what a run has made so far
FORMATS = ("csv", *exports.FORMATS)
MOST_LATENCY_MS = 1000.0  # of a display

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
    positions: tuple[Path, ...] = ()
    formats: tuple[str, ...] = ()
    jobs: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSummary:
    """What came of the videos; `failed` says for each file that could not be used why."""

    photos: int
    dropped: int  # less sharp than asked for
    flagged: Mapping[str, int]  # photos by what is doubtful about them
    output: str
    calibration: Mapping[str, Any]
    videos: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sources:
    """The videos of one run, what is known beside them, and why some files are not among them."""

    videos: list[Video]
    context: Context
    failed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parse_recording(
    folder: Path,
    settings: Settings,
    every: str = "",
    progress: Progress = lambda share: None,
    start_utc: str = "",
) -> VideoSummary:
    """Turn all videos of a recording's folder into photos below it; `every` and `start_utc` as the options."""
    wish = Wish(
        every=sampling.parse_every(every) if every else Every(settings.photo_interval_s),
        sharpest_of=settings.sharpest_of,
        min_sharpness=0.0,
        quality=settings.jpeg_quality,
        start_utc=start_utc,
    )
    return parse_videos([folder], folder, settings, wish, progress)


def parse_videos(
    sources: Sequence[Path], output: Path, settings: Settings, wish: Wish, progress: Progress = lambda share: None
) -> VideoSummary:
    """Turn videos, named or of one recording's folder, into `photos/`, `photos.csv`, `calibration.json` in `output`.

    Photos of the same camera from an earlier run are replaced, those of other cameras stay; a run that was interrupted
    is continued. Raises UnreadableError, NoCalibrationError, NoPositionError, NoSpaceError or ConflictError.
    """
    wish = replace(wish, positions=wish.positions or _own_positions(sources))
    found = _collect(sources)
    journal = Journal(output / PART, _key(found, settings, wish))
    if journal.head is None:
        clocks, head = _date(found, settings, wish, wish.jobs or extraction.cores())
    else:
        head = journal.head
        clocks = list(known_clocks(found.videos, head["calibration"]))
    works = _works(clocks, found, settings, wish)
    summary = VideoSummary(
        photos=sum(len(work.picks) for work in works),
        dropped=0,
        flagged={},
        output=str(output),
        calibration=head["calibration"],
        videos=tuple(_told(work) for work in works),
        warnings=(*found.warnings, *head["warnings"]),
        failed=tuple(found.failed),
    )
    if wish.dry_run:
        return summary
    try:
        with journal.begin(head):
            made = list(_make(works, journal, settings, wish, progress))
            rows = [one.row for one in made if one.row is not None and one.kept]
            photos.replace_cameras(output, journal.folder, {work.video.camera for work in works}, rows)
            write_atomically(output / calibration.NAME, json.dumps(head["calibration"], indent=1).encode())
            track = next((work.track for work in works if work.track is not None), None)
            labels = {work.video.camera: work.label for work in works}
            _export(output, settings, wish, labels, track)
            journal.remove()
    except OSError as error:
        if isinstance(error, EdencarError):
            raise
        if is_full(error):
            journal.remove()  # a recording may need the room
        raise photos.unwritable(error, output) from error
    return _with_made(_taught(summary, clocks, found, settings), made)


def _taught(summary: VideoSummary, clocks: Sequence[Dated], found: _Sources, settings: Settings) -> VideoSummary:
    """Keep for later what the clocks tell of the cameras; the summary, which says when that cannot be."""
    try:
        calibration.learn(clocks, found.context, settings)
    except OSError as error:  # the photos are made all the same
        doubt = f"what was learnt of the cameras is not kept in {settings.output} ({error.strerror})"
        return replace(summary, warnings=(*summary.warnings, doubt))
    return summary


def _with_made(summary: VideoSummary, made: Sequence[Made]) -> VideoSummary:
    """The summary with what has come of all picks."""
    rows = [one.row for one in made if one.row is not None and one.kept]
    flags = [word for row in rows for word in row.flags.split()]
    return replace(
        summary,
        photos=len(rows),
        dropped=sum(not one.kept for one in made),
        flagged={word: flags.count(word) for word in sorted(set(flags))},
        failed=(*summary.failed, *(one.why for one in made if one.why)),
    )


def _date(found: _Sources, settings: Settings, wish: Wish, jobs: int) -> tuple[list[Dated], dict[str, Any]]:
    """The clock of each video, and what has to be said of them."""
    clocks, doubts = find_clocks(found.videos, found.context, settings, Given(wish.calibration, wish.start_utc), jobs)
    table = calibration.table(clocks, found.context.logs)
    doubts += check_drives(clocks, table, _track(wish))
    return clocks, {"calibration": table, "warnings": doubts}


# --- what there is ----------------------------------------------------------------------------------------------------


def _own_positions(sources: Sequence[Path]) -> tuple[Path, ...]:
    named = [source / "positions" / "positions.csv" for source in sources]
    return tuple(path for path in named if path.exists())


def _collect(sources: Sequence[Path]) -> _Sources:
    """All videos, and what is known beside them when a source is a recording's folder."""
    found = _Sources([], Context())
    folders = [path for path in sources if path.is_dir()]
    if len(folders) > 1 or 0 < len(folders) < len(sources):
        raise UsageError("more than one recording, or a recording and files", cure="name one recording, or files")
    if folders:
        found.videos = video.videos_of(folders[0], lambda error: found.warnings.append(str(error)))
        found.context = Context.of(folders[0])
    else:
        found.videos = video.find_videos(sources, tell=lambda error: found.failed.append(str(error)))
    found.warnings += [f"{clip.path}: {clip.doubt}" for item in found.videos for clip in item.clips if clip.doubt]
    return found


def _key(found: _Sources, settings: Settings, wish: Wish) -> str:
    """One run's name: the same for the same files, wishes and settings."""
    files = [clip.path for item in found.videos for clip in item.clips]
    files += [path.with_suffix(".idx") for path in files] + list(wish.positions)
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
    asked = replace(wish, jobs=0, dry_run=False)
    return hashlib.sha256(repr((stamps, asked, settings)).encode()).hexdigest()


# --- what is wanted ---------------------------------------------------------------------------------------------------


def _works(clocks: Sequence[Dated], found: _Sources, settings: Settings, wish: Wish) -> list[Work]:
    """The wanted photos of each video, no two of one camera at one time. Raises NoPositionError, UsageError."""
    track = _track(wish)
    works, ends = list[Work](), dict[str, int]()
    for item, clock in sorted(clocks, key=lambda dated: _begin(*dated)):
        utc_ns = clock.utc_ns(np.concatenate([clip.clock_ns for clip in item.clips]))
        own = track if wish.positions else _own_track(item, clock)
        after = np.concatenate([[0], np.cumsum([len(clip.pts) for clip in item.clips])])
        wanted = sampling.picks(item, utc_ns, wish.every, wish.sharpest_of, own, settings.standing_mps)
        end_ns = ends.get(item.camera, 0)
        picks = [pick for pick in wanted if utc_ns[after[pick.clip] + pick.frames[0]] > end_ns]
        if len(picks) < len(wanted):
            lost = len(wanted) - len(picks)
            found.warnings.append(f"{item.camera} {item.name}: {lost} photos lie before the end of its other video")
        ends[item.camera] = max(ends.get(item.camera, 0), int(utc_ns[-1]))
        label, tags = _camera(item, found.context, settings)
        works.append(Work(video=item, clock=clock, picks=picks, track=own, label=label, camera_tags=tags))
    if wish.every.unit == "m" and not any(work.picks for work in works):
        raise NoPositionError("the track and the videos have no time in common", cure="check the day of the positions")
    return works


def _begin(item: Video, clock: CameraClock) -> int:
    return int(clock.utc_ns(np.array([item.first_ns]))[0])


def _track(wish: Wish) -> Track | None:
    """The positions that were named; a log without any is none, unless the way is to be measured by it."""
    try:
        return Track.load(wish.positions) if wish.positions else None
    except NoPositionError:
        if wish.every.unit == "m":
            raise
        return None


def _own_track(item: Video, clock: CameraClock) -> Track | None:
    """The places that a GoPro's file itself tells, in the time of its pictures; None without any."""
    line = calibration.gps_line(item)
    if line is None:
        return None
    try:
        track = Track.of_logs([gpmf.Telemetry(clip.path).fixes() for clip in item.clips])
    except (NoPositionError, UnreadableError):
        return None
    shift_ns = int(clock.utc_ns(line.pts_ns)) - line.utc_ns
    return replace(track, utc_ns=track.utc_ns + shift_ns)


def _camera(item: Video, context: Context, settings: Settings) -> tuple[str, dict[str, Any]]:
    """What the crew calls the camera, and what goes into its photos."""
    if known := tagging.cameras_of(context.manifest, settings).get(item.camera):
        return known
    said = gpmf.read_camera(item.clips[0].path)
    return item.camera, {"make": tagging.MAKE, "model": said.model, "serial": said.serial or ""} if said.model else {}


def _told(work: Work) -> dict[str, Any]:
    """What is wanted of one video, for a person."""
    ends = [
        work.video.clips[pick.clip].clock_ns[[pick.frames[len(pick.frames) // 2]]]
        for pick in (*work.picks[:1], *work.picks[-1:])
    ]
    times = [iso_utc(int(work.clock.utc_ns(end)[0])) for end in ends]
    return {
        "camera": work.video.camera,
        "video": work.video.name,
        "photos": len(work.picks),
        "standing": sum(pick.standing for pick in work.picks),
        "first": min(times, default=""),
        "last": max(times, default=""),
        "pictures": sum(len(clip.pts) for clip in work.video.clips),
        "damaged": sum(len(clip.damaged) for clip in work.video.clips),
    }


# --- what is made -----------------------------------------------------------------------------------------------------


def _make(
    works: Sequence[Work], journal: Journal, settings: Settings, wish: Wish, progress: Progress
) -> Iterator[Made]:
    """All photos, those first that an interrupted run has made."""
    known = [Made.from_json(line) for line in journal.lines]
    known = [one for one in known if one.row is None or not one.kept or _place(journal.folder, one.row).exists()]
    done = {one.key for one in known}
    left = [replace(work, picks=[pick for pick in work.picks if _key_of(work, pick) not in done]) for work in works]
    yield from known
    total, count = max(1, sum(len(work.picks) for work in works)), len(known)
    progress(count / total)
    manner = _manner(settings, wish)
    for one in extraction.extract_all(left, journal.folder, manner, wish.jobs or extraction.usual_jobs(works)):
        journal.add(one.to_json())
        count += 1
        progress(count / total)
        yield one


def _key_of(work: Work, pick: Pick) -> str:
    return extraction.key_of(work.video.camera, work.video.clips[pick.clip], pick)


def _manner(settings: Settings, wish: Wish) -> Manner:
    return Manner(
        min_sharpness=wish.min_sharpness,
        quality=wish.quality,
        rule=Rule("hermite", settings.max_gap_s, settings.lever_arm_m),
        directions=settings.camera_directions,
        privacy_command=settings.privacy_command,
        privacy_timeout_s=settings.privacy_timeout_s,
    )


def _place(folder: Path, row: Photo) -> Path:
    return folder / row.camera / Path(row.photo).name


def _export(output: Path, settings: Settings, wish: Wish, labels: Mapping[str, str], track: Track | None) -> None:
    """Write the files for others that were asked for."""
    formats = [name for name in wish.formats if name != "csv"]
    if formats:
        rows = photos.read_table(output)
        exports.write(output, Collection.of(output, rows, track, labels, settings.camera_directions), formats)


# --- the same for many recordings (docs/fleet.md) ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Head:
    """What the end of a recording's work has to know from its beginning."""

    summary: VideoSummary
    labels: Mapping[str, str]
    track: Track | None  # only where files for others are wanted


@dataclass(frozen=True, slots=True)
class VideoSteps:
    """Videos of a recording to photos, cut into one share for each file of them."""

    settings: Settings
    wish: Wish
    positions: tuple[str, ...] = ()  # names in the luggage; none: the recording's own
    calibration: str = ""
    kind: str = "photos"
    wanted: str = f"a recording has videos and {MANIFEST}"

    def inputs(self, names: Sequence[str]) -> list[str]:
        """What was recorded; nothing where there are no videos, or where they are still on their way."""
        known = [name for name in names if name.startswith(checksums.RAW) or name == MANIFEST]
        films = any(Path(name).suffix.lower() in video.VIDEO_SUFFIXES for name in known)
        return known if films and MANIFEST in names else []

    def needs(self, names: Sequence[str]) -> list[str]:
        """All of it."""
        return self.inputs(names)

    def needs_at_end(self, names: Sequence[str]) -> list[str]:
        """The table, where the results go into the recording: photos of other cameras stay."""
        return [name for name in names if name == photos.TABLE_NAME]

    def keeps(self, names: Sequence[str]) -> list[str]:
        """What parsePhotos.py wants to see beside the photos."""
        return [name for name in names if name in (MANIFEST, POSITIONS)]

    def prepare(self, place: Place) -> Plan:
        """The clock of each camera, and the frames that are wanted."""
        extraction.use_one_core()
        settings = replace(self.settings, output=place.luggage)
        own = _own_positions([place.folder])
        wish = replace(
            self.wish,
            positions=tuple(place.luggage / name for name in self.positions) or own,
            calibration=place.luggage / self.calibration if self.calibration else None,
        )
        found = _collect([place.folder])
        clocks, head = _date(found, settings, wish, jobs=1)
        works = _works(clocks, found, settings, wish)
        summary = VideoSummary(
            photos=0,
            dropped=0,
            flagged={},
            output="",
            calibration=head["calibration"],
            videos=tuple(_told(work) for work in works),
            warnings=tuple(place.told(text) for text in (*found.warnings, *head["warnings"])),
            failed=tuple(place.told(text) for text in found.failed),
        )
        tracks = [work.track for work in works if work.track is not None] if set(wish.formats) - {"csv"} else []
        labels = {work.video.camera: work.label for work in works}
        shares = [
            _share(part, place) for work in works for part in extraction.parts(work, _manner(settings, wish).rule)
        ]
        return Plan(_Head(summary, labels, next(iter(tracks), None)), tuple(shares))

    def make(self, share: Share, place: Place) -> list[dict[str, Any]]:
        """The photos of one file."""
        extraction.use_one_core()
        part: Part = replace(share.work, clip=replace(share.work.clip, path=place.folder / share.file))
        folder = place.output / "photos"
        (folder / part.camera).mkdir(parents=True)
        made = extraction.extract(part, folder, _manner(self.settings, self.wish))
        return [replace(one, why=place.told(one.why)).to_json() for one in made]

    def finish(self, head: _Head, lines: Sequence[dict[str, Any]], place: Place) -> Result:
        """The table of all photos, the calibration, the files for others."""
        made = [Made.from_json(line) for line in lines]
        rows = [one.row for one in made if one.row is not None and one.kept]
        cameras = tuple(f"photos/{camera}/" for camera in head.labels)
        others = photos.read_table(place.folder) if place.is_own and (place.folder / photos.TABLE_NAME).exists() else []
        photos.write_table(place.output, [*rows, *(row for row in others if row.camera not in head.labels)])
        write_atomically(place.output / calibration.NAME, json.dumps(head.summary.calibration, indent=1).encode())
        _export(place.output, self.settings, self.wish, head.labels, head.track)
        summary = asdict(_with_made(head.summary, made))
        del summary["output"]
        files = {path.relative_to(place.output).as_posix() for path in place.output.glob("photos/**/*")}
        stays = files.union(row.photo for row in rows)
        gone = [name for name in place.there if name.startswith(cameras) and name not in stays]
        return Result(summary, tuple(gone), way_of(rows))


def _share(part: Part, place: Place) -> Share:
    file = part.clip.path.relative_to(place.folder)
    work = replace(part, clip=replace(part.clip, path=file))
    return Share(f"{part.camera}/{file.name}", file.as_posix(), part.clip.path.stat().st_size, work)


def _run_fleet(options: argparse.Namespace, settings: Settings, wish: Wish) -> object:
    if wish.start_utc:
        raise UsageError("--start-utc dates one video, not many recordings", cure="leave it away")
    positions = fleet.packed(wish.positions)
    given = [("given/calibration.json", wish.calibration)] if wish.calibration else []
    bare = replace(wish, positions=(), calibration=None, jobs=0, dry_run=False)
    steps = VideoSteps(
        configs.of_photos(settings),
        bare,
        positions=tuple(name for name, _ in positions),
        calibration=given[0][0] if given else "",
    )
    command = fleet.command()
    luggage = command.pack(settings, [*positions, *given])
    jobs = wish.jobs or extraction.cores()
    summary: object = command.run(
        options.sources, options.output or "", steps, luggage, options.executor or "local", jobs, wish.dry_run
    )
    return summary


# --- the command ------------------------------------------------------------------------------------------------------


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parseVideo.py", description=__doc__)
    add = parser.add_argument
    add("sources", metavar="SOURCE", nargs="+", help="a recording's folder, or video files")
    add("--output", metavar="DIR", help="default: the recording's folder, else ./photos-out")
    add(
        "--every",
        default=f"{settings.photo_interval_s}s",
        metavar="0.5s|5m|key",
        help="seconds, metres of the track, or each key frame; a stop gives one photo (default: %(default)s)",
    )
    add(
        "--positions",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="our CSV, NMEA, GPX or a GoPro's MP4; default: the recording's own, else what the video tells",
    )
    add("--calibration", default="auto", metavar="auto|FILE", help="auto: by the time codes in the video")
    add("--start-utc", default="", metavar="ISO", help="when the first frame was taken, for want of a code")
    add("--display-latency", metavar="MS[:ERROR]", help="of the screen that showed the code")
    add(
        "--sharpest-of",
        type=int,
        default=settings.sharpest_of,
        metavar="N",
        help="neighbours compared (default: %(default)s)",
    )
    add("--min-sharpness", type=float, default=0.0, metavar="X", help="drop photos below this and say how many")
    add("--quality", type=int, default=settings.jpeg_quality, help="of the JPEG files, 1 to 100 (default: %(default)s)")
    add("--jobs", type=int, default=0, metavar="N", help="parts of videos at once (default: one for each core)")
    add("--format", default="csv", metavar="NAME,...", help=f"of {', '.join(FORMATS)}, or all; csv is always written")
    add("--dry-run", action="store_true", help="only say what would come out")
    fleet.add(parser)
    return parser


def _with_latency(settings: Settings, text: str | None) -> Settings:
    if text is None:
        return settings
    latency, _, error = text.partition(":")
    try:
        latency_ms, error_ms = float(latency), float(error or settings.display_latency_error_ms)
        if not (abs(latency_ms) <= MOST_LATENCY_MS and 0 <= error_ms <= MOST_LATENCY_MS):
            raise ValueError(text)
        return replace(settings, display_latency_ms=latency_ms, display_latency_error_ms=error_ms)
    except ValueError as failure:
        raise UsageError(
            f"--display-latency {text!r} is no number of ms", cure="say for instance 42 or 42:2"
        ) from failure


def _run(options: argparse.Namespace) -> object:
    settings = _with_latency(configs.load(), options.display_latency)
    for name, value, low, high in (
        ("--quality", options.quality, 1, 100),
        ("--sharpest-of", options.sharpest_of, 1, 99),
        ("--jobs", options.jobs, 0, 256),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value} is out of range", cure=f"say {low} to {high}")
    wish = Wish(
        every=sampling.parse_every(options.every),
        sharpest_of=options.sharpest_of,
        min_sharpness=options.min_sharpness,
        quality=options.quality,
        calibration=None if options.calibration == "auto" else Path(options.calibration),
        start_utc=options.start_utc,
        positions=tuple(options.positions),
        formats=exports.parse_formats(options.format, FORMATS),
        jobs=options.jobs,
        dry_run=options.dry_run,
    )
    if fleet.is_meant(options):
        return _run_fleet(options, settings, wish)
    sources = [Path(source) for source in options.sources]
    output = Path(options.output or (sources[0] if sources[0].is_dir() else "photos-out"))
    return parse_videos(sources, output, settings, wish, cli.Progress("photos"))


def _say(summary: VideoSummary | object) -> str:
    if not isinstance(summary, VideoSummary):
        return str(fleet.command().say(summary))
    lines = [
        f"{told['camera']} {told['video']}: {told['photos']} photos wanted of {told['pictures']} pictures,"
        f" {told['first']} to {told['last']}" + (f", {told['standing']} of them for a stop" if told["standing"] else "")
        for told in summary.videos
    ]
    lines.append(f"{summary.photos} photos in {summary.output}")
    if summary.dropped:
        lines.append(f"{summary.dropped} dropped: less sharp than asked for")
    if summary.flagged:
        lines.append("flagged: " + ", ".join(f"{count} {word}" for word, count in summary.flagged.items()))
    for camera, values in summary.calibration.items():
        lines.append(f"{camera}: time by {values['source']}, within {values['error_ms']['middle']:.1f} ms")
    return "\n".join([*lines, *(f"warning: {text}" for text in summary.warnings)])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (see rig/errors.py)."""
    return cli.run(_parser(configs.Settings()), _run, _say, argv)


if __name__ == "__main__":
    import parseVideo  # by this name other processes know VideoSteps

    raise SystemExit(parseVideo.main())
