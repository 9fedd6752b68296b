"""Photos get their places: all that the photos of one run go through, from their clocks to tags and report."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs import Settings
from rig.clock import iso_utc, parse_utc
from rig.errors import NoPositionError, UnreadableError, UsageError
from rig.gnss.positions import Track
from rig.photo import album, exports, photos, tagging
from rig.photo.collection import Collection, read_manifest
from rig.photo.locate import Rule, load_track, locate, shift_onto
from rig.photo.photos import Photo
from rig.photo.tagging import CHUNK, Item
from rig.recordings import require_closed

METHODS = {"interpolate": "hermite", "nearest": "nearest"}
FORMATS = (*exports.FORMATS, "report")
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


def formats_of(settings: Settings, named: str = "") -> tuple[str, ...]:
    """The formats that were named, else those of the settings. Raises UsageError."""
    return exports.parse_formats(named or ",".join(settings.photo_formats), FORMATS)


def associate(folder: Path, settings: Settings, wish: Wish, progress: Progress = lambda share: None) -> PhotoSummary:
    """Give each photo of a folder's `photos.csv` its position, from the folder's own log or from those of the wish.

    Raises UnreadableError without a table or a readable log, NoPositionError when no photo has a fix near enough,
    ConflictError while the folder is being recorded.
    """
    if not wish.dry_run:
        require_closed(folder)
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
        others=tuple(photos.rows_of_others(output, {snap.camera for snap in snaps})),
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
            utc=iso_utc(offset.utc_ns(snap)),
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
        track, doubts, unread = _load([wish.positions] if wish.positions else own_logs)
        rows = locate(unplaced, track, Rule.of(settings, METHODS[wish.method]))
        if rows and not any(row.latitude is not None for row in rows):
            raise _nowhere(rows, track, settings)
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
        failed=(*made.failed, *unread),
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


def _load(logs: Sequence[Sequence[Path]]) -> tuple[Track, list[str], list[str]]:
    """The first of several logs that tells positions. Raises what was wrong with the first."""
    if not logs:
        raise NoPositionError("no log of positions lies with the photos", cure="name a log with --positions")
    errors = []
    for log in logs:
        try:
            return load_track(log)
        except (UnreadableError, NoPositionError) as error:
            errors.append(error)
    raise errors[0]


def _nowhere(rows: Sequence[Photo], track: Track, settings: Settings) -> NoPositionError:
    first, last = (parse_utc(end(row.utc for row in rows)) for end in (min, max))
    spans = [f"{iso_utc(a)[:19]} to {iso_utc(b)[:19]}" for a, b in ((first, last), track.utc_ns[[0, -1]].tolist())]
    cure = "check that the positions are of the same day, or widen --max-gap"
    if (shift_s := shift_onto(rows, track, settings.max_gap_s)) is not None:
        cure = f"with their clock {shift_s / 3600:+g} h they would lie on the track: --camera-offset corrects a clock"
    return NoPositionError(
        f"none of the {len(rows)} photos ({spans[0]}) has a fix within {settings.max_gap_s:g} s"
        f" (positions from {spans[1]})",
        cure=cure,
    )


def _describe(
    made: _Photos, rows: Sequence[Photo], track: Track | None, settings: Settings, wish: Wish, doubts: Sequence[str]
) -> list[Path]:
    """Write the files for others and the report."""
    cameras = tagging.cameras_of(read_manifest(made.output), settings)
    ordered = sorted(rows, key=lambda row: (row.utc, row.camera))
    collection = Collection.of(made.output, ordered, track, cameras, settings.camera_directions)
    files = exports.write(made.output, collection, wish.formats)
    if "report" in wish.formats:
        from rig.photo import report  # it looks at pixels: tags alone need no OpenCV

        files.append(report.write(made.output, collection, settings, doubts))
    return files
