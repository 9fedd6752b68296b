"""Photos get a place: the nearest fix of the receiver, and the camera's position at that very instant.

SOURCE is a recording's folder, a folder of any camera's JPEG files, or such files. The result is a table, the tags in
each photo, files for maps and for other tools, and a report.
"""

import argparse
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import configs
from configs import Settings
from rig import cli
from rig.clock import iso_utc, parse_utc
from rig.cluster import options as fleet
from rig.cluster.steps import Place, Plan, Result, Share
from rig.errors import NoPositionError, UnreadableError, UsageError
from rig.gnss.positions import Track
from rig.photo import album, exports, photos, tagging
from rig.photo.collection import Collection, read_manifest
from rig.photo.locate import Rule, load_track, locate, shift_onto, way_of
from rig.photo.photos import Photo
from rig.photo.tagging import CHUNK, Item
from rig.recordings import MANIFEST

METHODS = {"interpolate": "hermite", "nearest": "nearest"}
FORMATS = ("csv", *exports.FORMATS, "report")
BESIDE = (photos.TABLE_NAME, MANIFEST, "calibration.json")  # of a recording, beside its photos and positions
GIVEN_OFFSET_ERROR_S = 0.5  # of a --camera-offset that names none
ALBUM_SHARE, TAG_SHARE = 0.5, 0.9  # of the progress, when other cameras' photos are read, and the tags written

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted of the photos. `camera_offset` is seconds and their error, None to find it."""

    formats: tuple[str, ...]
    positions: tuple[Path, ...] = ()
    method: str = "interpolate"
    camera_offset: tuple[float, float] | None = None
    exif: bool = True
    in_place: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSummary:
    """What came of the photos; `failed` says for each file that could not be used why."""

    photos: int
    located: int  # have a fix near enough
    interpolated: int
    tables: tuple[str, ...]
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Photos:
    """All that a table shall hold: photos to be placed, and rows of earlier runs that stay as they are."""

    output: Path
    items: tuple[Item, ...]
    others: tuple[Photo, ...] = ()
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def associate(
    folder: Path,
    settings: Settings,
    positions: Sequence[Path] = (),
    progress: Progress = lambda share: None,
    *,
    wish: Wish | None = None,
) -> PhotoSummary:
    """Give each photo of a folder's `photos.csv` its position, from the folder's own log or from `positions`.

    Raises UnreadableError without a table or a readable log, NoPositionError when no photo has a fix near enough.
    """
    wish = replace(
        wish or Wish(formats=exports.parse_formats(",".join(settings.photo_formats), FORMATS)),
        positions=tuple(positions),
    )
    items = tuple(Item(row, folder / row.photo) for row in photos.read_table(folder))
    return _place(_Photos(folder, items), settings, wish, _own_logs(folder), progress)


def place_album(
    sources: Sequence[Path], output: Path, settings: Settings, wish: Wish, progress: Progress = lambda share: None
) -> PhotoSummary:
    """Give photos of any camera a time and a position; they are copied into `output` unless `wish` says otherwise.

    Raises UnreadableError when none can be read, NoPositionError when none has a fix near enough, UsageError.
    """
    if settings.privacy_command and (wish.in_place or not wish.exif):
        raise UsageError(
            "the privacy command would have to change the originals", cure="leave --in-place and --no-exif away"
        )
    snaps, failed = _read_album(sources, lambda share: progress(ALBUM_SHARE / 2 * share))
    snaps, warnings = album.with_subseconds(snaps)
    if wish.camera_offset is not None:
        offsets = album.given_offset(snaps, *wish.camera_offset)
    else:
        offsets, doubts = album.find_offsets(snaps, settings, lambda share: progress(ALBUM_SHARE / 2 * (1 + share)))
        warnings += doubts
    made = _Photos(
        output=output,
        items=_album_items(snaps, offsets, output, stays=wish.in_place or not wish.exif),
        others=tuple(_rows_of_others(output, {snap.camera for snap in snaps})),
        warnings=tuple(warnings),
        failed=tuple(failed),
    )
    logs = [log for source in sources for log in _own_logs(source)]
    return _place(made, settings, wish, logs, lambda share: progress(ALBUM_SHARE + (1 - ALBUM_SHARE) * share))


def _album_items(
    snaps: Sequence[album.Snap], offsets: Mapping[str, album.Offset], output: Path, *, stays: bool
) -> tuple[Item, ...]:
    """Rows of photos that stay where they are, or else are copied to `output`."""
    names = {} if stays else album.names_of(snaps)
    folders = {folder: os.path.relpath(folder, output) for folder in {snap.path.parent for snap in snaps}}
    items = []
    for snap in snaps:
        offset = offsets[snap.camera]
        place = os.path.normpath(f"{folders[snap.path.parent]}/{snap.path.name}")
        row = Photo(
            photo=place if stays else f"photos/{snap.camera}/{names[snap.path]}",
            camera=snap.camera,
            utc=iso_utc(offset.utc_ns(snap.clock_ns)),
            time_error_ms=offset.error_ms(snap),
        )
        items.append(Item(row, snap.path, snap.camera_time))
    return tuple(items)


def _read_album(sources: Sequence[Path], progress: Progress) -> tuple[list[album.Snap], list[str]]:
    """What all photos say of themselves, and why some could not be read."""
    paths = {os.path.normpath(path): (path, source) for source in sources for path in album.find(source)}
    snaps, failed = [], []
    for number, (path, source) in enumerate(paths.values(), start=1):
        try:
            snaps.append(album.read(path, source))
        except UnreadableError as error:
            failed.append(str(error))
        if number % CHUNK == 0:
            progress(number / len(paths))
    if not snaps:
        places = ", ".join(map(str, sources))
        why = failed[0] if failed else f"{places} holds neither a {photos.TABLE_NAME} nor JPEG files"
        raise UnreadableError(why, cure="name a recording's folder, a folder of photos or JPEG files")
    return snaps, failed


def _rows_of_others(output: Path, cameras: set[str]) -> list[Photo]:
    """Rows of other cameras from earlier runs: they stay."""
    if not (output / photos.TABLE_NAME).exists():
        return []
    return [row for row in photos.read_table(output) if row.camera not in cameras]


def _own_logs(folder: Path) -> list[list[Path]]:
    """The logs that a folder has of its own, the best first: the receiver's, else what a camera's film tells."""
    positions, videos = folder / "positions", folder / "videos"
    logs = [[path] for path in (positions / "positions.csv", positions / "raw.nmea") if path.exists()]
    films = sorted(path for path in videos.glob("*/*") if path.suffix.lower() == ".mp4") if videos.is_dir() else []
    return [*logs, *([films] if films else [])]


def _place(
    made: _Photos, settings: Settings, wish: Wish, own_logs: Sequence[Sequence[Path]], progress: Progress
) -> PhotoSummary:
    """The way that all photos go: places, tags, table, files for others, report."""
    unplaced = [item.row for item in made.items]
    try:
        track, doubts = _load([wish.positions] if wish.positions else own_logs, made.output)
        rows = locate(unplaced, track, Rule(METHODS[wish.method], settings.max_gap_s, settings.lever_arm_m))
        if rows and not any(row.latitude is not None for row in rows):
            raise _nowhere(rows, track, settings, made.output)
    except NoPositionError as error:
        if not wish.dry_run and made.output.is_dir():  # photos without positions are worth a look, too
            _describe(made, [*made.others, *unplaced], None, settings, wish, [error.message])
        raise
    absent = sum(not item.source.exists() for item in made.items)
    missing = [f"{absent} photos of the table are not there"] if absent else []
    summary = PhotoSummary(
        photos=len(rows),
        located=sum(row.latitude is not None for row in rows),
        interpolated=sum(row.interpolation != "none" for row in rows),
        tables=(str(made.output / photos.TABLE_NAME),),
        warnings=(*made.warnings, *doubts, *missing),
        failed=made.failed,
    )
    if wish.dry_run:
        return summary
    items = tuple(replace(item, row=row) for item, row in zip(made.items, rows, strict=True))
    try:
        made.output.mkdir(parents=True, exist_ok=True)
        if wish.exif:
            rows, failed = tagging.tag_all(items, made.output, settings, lambda share: progress(TAG_SHARE * share))
            summary = replace(summary, failed=(*summary.failed, *failed))
        photos.write_table(made.output, [*made.others, *rows])
        doubts = [*summary.warnings, *summary.failed]
        files = _describe(made, [*made.others, *rows], track, settings, wish, doubts)
    except OSError as error:
        raise photos.unwritable(error, made.output) from error
    progress(1.0)
    return replace(summary, files=tuple(map(str, files)))


def _load(logs: Sequence[Sequence[Path]], folder: Path) -> tuple[Track, list[str]]:
    """The first of several logs that tells positions. Raises what was wrong with the first."""
    if not logs:
        raise NoPositionError(f"{folder} has no positions of its own", cure="name a log with --positions")
    errors = []
    for log in logs:
        try:
            return load_track(log)
        except (UnreadableError, NoPositionError) as error:
            errors.append(error)
    raise errors[0]


def _nowhere(rows: Sequence[Photo], track: Track, settings: Settings, output: Path) -> NoPositionError:
    first, last = (parse_utc(end(row.utc for row in rows)) for end in (min, max))
    spans = [f"{iso_utc(a)[:19]} to {iso_utc(b)[:19]}" for a, b in ((first, last), track.utc_ns[[0, -1]].tolist())]
    cure = "check that the positions are of the same day, or widen --max-gap"
    if (shift_s := shift_onto(rows, track, settings.max_gap_s)) is not None:
        cure = f"with their clock {shift_s / 3600:+g} h they would lie on the track: --camera-offset corrects a clock"
    return NoPositionError(
        f"none of the {len(rows)} photos in {output} ({spans[0]}) has a fix within {settings.max_gap_s:g} s"
        f" (positions from {spans[1]})",
        cure=cure,
    )


def _describe(
    made: _Photos, rows: Sequence[Photo], track: Track | None, settings: Settings, wish: Wish, doubts: Sequence[str]
) -> list[Path]:
    """Write the files for others and the report."""
    cameras = tagging.cameras_of(read_manifest(made.output), settings)
    ordered = sorted(rows, key=lambda row: (row.utc, row.camera))
    labels = {camera: label for camera, (label, _) in cameras.items()}
    collection = Collection.of(made.output, ordered, track, labels, settings.camera_directions)
    files = exports.write(made.output, collection, wish.formats)
    if "report" in wish.formats:
        from rig.photo import report  # it looks at pixels: tags alone need no OpenCV

        files.append(report.write(made.output, collection, settings, doubts))
    return files


# --- the same for many recordings (docs/fleet.md) ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhotoSteps:
    """A recording's photos get their places: in one step, as all of them meet one track."""

    settings: Settings
    wish: Wish
    positions: tuple[str, ...] = ()  # names in the luggage; none: the recording's own
    kind: str = "places"
    wanted: str = f"a recording's photos have a {photos.TABLE_NAME}"

    def inputs(self, names: Sequence[str]) -> list[str]:
        """What goes into the results; nothing where there is no table of photos."""
        if photos.TABLE_NAME not in names:
            return []
        has_log = self.positions or any(name.startswith("positions/") for name in names)
        films = () if has_log else (".mp4",)
        return [name for name in names if name in BESIDE or name.startswith(("photos/", "positions/"))] + [
            name for name in names if name.startswith("videos/") and name.lower().endswith((".idx", *films))
        ]

    def needs(self, names: Sequence[str]) -> list[str]:
        """Nothing: all is done at the end."""
        return []

    def needs_at_end(self, names: Sequence[str]) -> list[str]:
        """All of it."""
        return self.inputs(names)

    def keeps(self, names: Sequence[str]) -> list[str]:
        """Nothing: the results lie where the photos are."""
        return []

    def prepare(self, place: Place) -> Plan:
        """There is nothing to share out."""
        return Plan()

    def make(self, share: Share, place: Place) -> list[dict[str, Any]]:
        """There are no shares."""
        raise NotImplementedError

    def finish(self, head: object, lines: Sequence[dict[str, Any]], place: Place) -> Result:
        """Work on copies, of which only what has changed goes back."""
        settings = replace(self.settings, output=place.luggage)
        self._copy(place)
        before = _stamps(place.output)
        positions = [place.luggage / name for name in self.positions]
        summary = asdict(associate(place.output, settings, positions, wish=self.wish))
        rows = photos.read_table(place.output)
        after = _stamps(place.output)
        for path, stamp in after.items():
            if before.get(path) == stamp:
                path.unlink()
        told = {name: [place.told(text) for text in summary[name]] for name in ("warnings", "failed")}
        gone = (path.relative_to(place.output).as_posix() for path in before.keys() - after.keys())
        return Result({"photos": summary["photos"], **told}, tuple(gone), way_of(rows))

    def _copy(self, place: Place) -> None:
        """By links where that is possible: whatever changes is written anew."""
        there = [path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*") if path.is_file()]
        for name in self.inputs(there):
            target = place.output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(place.folder / name)
            except OSError:
                shutil.copy2(place.folder / name, target)


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in files}


def _run_fleet(options: argparse.Namespace, settings: Settings, wish: Wish) -> object:
    if options.output or wish.in_place or wish.camera_offset is not None:
        raise UsageError(
            "recordings of a fleet keep their photos where they are, with the time that they have",
            cure="leave --output, --in-place and --camera-offset away",
        )
    positions = fleet.packed(wish.positions)
    bare = replace(wish, positions=(), dry_run=False)
    steps = PhotoSteps(configs.of_photos(settings), bare, tuple(name for name, _ in positions))
    command = fleet.command()
    luggage = command.pack(settings, positions)
    executor = options.executor or "local"
    summary: object = command.run(options.sources, "", steps, luggage, executor, os.cpu_count() or 1, wish.dry_run)
    return summary


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parsePhotos.py", description=__doc__)
    add = parser.add_argument
    add("sources", metavar="SOURCE", nargs="+", help="recordings' folders, folders of JPEG files, JPEG files")
    add("--output", metavar="DIR", help="for photos of other cameras; default: ./photos-out")
    add(
        "--positions",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="our CSV, NMEA, GPX, or a GoPro's MP4; more than one may be given",
    )
    add("--method", choices=sorted(METHODS), default="interpolate", help="default: interpolate")
    add(
        "--max-gap", metavar="1s", help=f"no fix further than this (usually {settings.max_gap_s:g}s: setting max_gap_s)"
    )
    add("--lever-arm", metavar="FORWARD,RIGHT,UP", help="camera minus antenna, m; --lever-arm=-1,0,0")
    add(
        "--camera-offset",
        default="auto",
        metavar="auto|SECONDS[:ERROR]",
        help="UTC minus the camera's clock; auto: by the time code in a photo, else as EXIF says",
    )
    add("--no-exif", action="store_true", help="leave the photos alone: only tables")
    add("--in-place", action="store_true", help="tag the originals themselves instead of copies")
    add(
        "--format",
        metavar="NAME,...",
        help=f"of {', '.join(FORMATS)}, or all, or none; csv is always written"
        f" (usually {','.join(settings.photo_formats)}: setting photo_formats)",
    )
    add("--dry-run", action="store_true", help="only say what would come out")
    fleet.add(parser)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--max-gap {text!r} is no time", cure="say for instance 1s")
    return seconds


def _metres(text: str) -> tuple[float, ...]:
    try:
        arm = tuple(float(part) for part in text.split(","))
    except ValueError:
        arm = ()
    if len(arm) != 3 or not all(map(math.isfinite, arm)):
        raise UsageError(f"--lever-arm {text!r} is no offset", cure="say for instance --lever-arm=-1.2,0.3,0.1")
    return arm


def _offset(text: str) -> tuple[float, float] | None:
    if text == "auto":
        return None
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)s?(?::(\d+(?:\.\d+)?)s?)?", text)
    if not match:
        raise UsageError(
            f"--camera-offset {text!r} is no number of seconds", cure="say for instance -3600.25, or -3600.25:0.1"
        )
    return float(match[1]), float(match[2] or GIVEN_OFFSET_ERROR_S)


def _run(options: argparse.Namespace) -> object:
    settings = configs.load()
    if options.max_gap:
        settings = replace(settings, max_gap_s=_seconds(options.max_gap))
    if options.lever_arm:
        settings = replace(settings, lever_arm_m=_metres(options.lever_arm))
    wish = Wish(
        formats=exports.parse_formats(options.format or ",".join(settings.photo_formats), FORMATS),
        positions=tuple(options.positions),
        method=options.method,
        camera_offset=_offset(options.camera_offset),
        exif=not options.no_exif,
        in_place=options.in_place,
        dry_run=options.dry_run,
    )
    if fleet.is_meant(options):
        return _run_fleet(options, settings, wish)
    return _joined(list(_each_source(options, settings, wish, cli.Progress("photos"))))


def _each_source(
    options: argparse.Namespace, settings: Settings, wish: Wish, progress: Progress
) -> Iterator[PhotoSummary]:
    """Recordings one by one, all other photos together."""
    sources = [Path(source) for source in options.sources]
    tables = [source for source in sources if _is_table_s_folder(source)]
    for folder in tables:
        if wish.camera_offset is not None or options.output:
            raise UsageError(
                f"{folder} has a {photos.TABLE_NAME} that tells the times and places of its photos",
                cure="leave --camera-offset and --output away, or name its photos' folder",
            )
        yield associate(folder, settings, wish.positions, progress, wish=wish)
    others = [source for source in sources if source not in tables]
    if others:
        folder = others[0] if others[0].is_dir() else others[0].parent
        output = Path(options.output or (folder if wish.in_place else "photos-out"))
        yield place_album(others, output, settings, wish, progress)


def _is_table_s_folder(source: Path) -> bool:
    """Whether a folder's own table tells its photos, rather than one about originals tagged in place."""
    if not (source / photos.TABLE_NAME).exists():
        return False
    rows = photos.read_table(source)
    return not rows or any(row.photo.startswith("photos/") for row in rows)


def _joined(parts: Sequence[PhotoSummary]) -> PhotoSummary:
    if len(parts) == 1:
        return parts[0]
    return PhotoSummary(
        photos=sum(part.photos for part in parts),
        located=sum(part.located for part in parts),
        interpolated=sum(part.interpolated for part in parts),
        tables=tuple(table for part in parts for table in part.tables),
        files=tuple(file for part in parts for file in part.files),
        warnings=tuple(text for part in parts for text in part.warnings),
        failed=tuple(text for part in parts for text in part.failed),
    )


def _say(summary: object) -> str:
    if not isinstance(summary, PhotoSummary):
        return str(fleet.command().say(summary))
    counts = f"{summary.located} of {summary.photos} photos have a fix, {summary.interpolated} a position of their own"
    lines = [f"{counts}: {', '.join((*summary.tables, *summary.files))}"]
    return "\n".join([*lines, *(f"warning: {text}" for text in summary.warnings)])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (see rig/errors.py)."""
    return cli.run(_parser(configs.Settings()), _run, _say, argv)


if __name__ == "__main__":
    import parsePhotos  # by this name other processes know PhotoSteps

    raise SystemExit(parsePhotos.main())
