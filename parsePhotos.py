"""Photos get a place: the nearest fix of the receiver, and the camera's position at that very instant.

SOURCE is a recording's folder, a folder of any camera's JPEG files, or such files. The result is a table, the tags in
each photo, files for maps and for other tools, and a report.
"""

import argparse
import math
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path

import configs
from configs import Settings
from rig import cli
from rig.cluster import options as fleet
from rig.errors import UsageError
from rig.photo import photos
from rig.photo.placing import FORMATS, METHODS, PhotoSummary, Wish, associate, formats_of, place_album

GIVEN_OFFSET_ERROR_S = 0.5  # of a --camera-offset that names none


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
    add("--lever-arm", metavar="FORWARD,RIGHT,UP", help="camera minus antenna, m; -1,0,0 is behind it")
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
        help=f"of csv, {', '.join(FORMATS)}, or all, or none; csv is always written"
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
        raise UsageError(f"--lever-arm {text!r} is no offset", cure="say for instance --lever-arm -1.2,0.3,0.1")
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
        formats=formats_of(settings, options.format or ""),
        positions=tuple(options.positions),
        method=options.method,
        camera_offset=_offset(options.camera_offset),
        exif=not options.no_exif,
        in_place=options.in_place,
        dry_run=options.dry_run,
    )
    if fleet.is_meant(options):
        return fleet.command().run_photos(options, settings, wish)
    return _joined(list(_each_source(options, settings, wish, cli.Progress("photos"))))


def _each_source(
    options: argparse.Namespace, settings: Settings, wish: Wish, progress: cli.Progress
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
        yield associate(folder, settings, wish, progress)
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
    """One summary of all: its fields are counts and tuples, both can be added."""
    names = [item.name for item in fields(PhotoSummary)]
    return PhotoSummary(**{name: reduce(operator.add, (getattr(part, name) for part in parts)) for name in names})


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
    raise SystemExit(main())
