"""Photos with a time get a place: the nearest fix of the receiver, and the camera's position at that very instant."""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import configs
from configs import Settings
from rig import cli, photos
from rig.errors import NoPositionError, UnreadableError, UsageError
from rig.locate import Rule, locate
from rig.positions import Track

METHODS = {"interpolate": "hermite", "nearest": "nearest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSummary:
    """What came of the photos."""

    photos: int
    located: int  # have a fix near enough
    interpolated: int
    tables: tuple[str, ...]


def associate(
    folder: Path,
    settings: Settings,
    positions: Sequence[Path] = (),
    progress: Callable[[float], None] = lambda share: None,
    *,
    method: str = "interpolate",
    dry_run: bool = False,
) -> PhotoSummary:
    """Give each photo of a folder's `photos.csv` its position, from the folder's own log or from `positions`.

    Raises UnreadableError without a table or a readable log, NoPositionError when no photo has a fix near enough.
    """
    rows = photos.read_table(folder)
    track = Track.load(list(positions) or _own_log(folder))
    progress(0.5)
    rule = Rule(METHODS[method], settings.max_gap_s, settings.lever_arm_m)
    located = locate(rows, track, rule)
    with_fix = sum(row.latitude is not None for row in located)
    if rows and not with_fix:
        raise NoPositionError(
            f"none of the {len(rows)} photos in {folder} has a fix within {settings.max_gap_s:g} s",
            cure="check that the positions are of the same day, or widen --max-gap",
        )
    if not dry_run:
        photos.write_table(folder, located)
    progress(1.0)
    return PhotoSummary(
        photos=len(rows),
        located=with_fix,
        interpolated=sum(row.interpolation != "none" for row in located),
        tables=(str(folder / photos.TABLE_NAME),),
    )


def _own_log(folder: Path) -> list[Path]:
    log = folder / "positions" / "positions.csv"
    if not log.exists():
        raise UnreadableError(f"{folder} has no positions of its own", cure="name a log with --positions")
    return [log]


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parsePhotos.py", description=__doc__)
    parser.add_argument("sources", metavar="SOURCE", nargs="+", type=Path, help="folders with a photos.csv")
    parser.add_argument("--positions", type=Path, action="append", default=[], metavar="FILE", help="CSV or NMEA log")
    parser.add_argument("--method", choices=sorted(METHODS), default="interpolate", help="default: interpolate")
    parser.add_argument("--max-gap", default=f"{settings.max_gap_s:g}s", metavar="1s", help="no fix further than this")
    parser.add_argument("--lever-arm", metavar="FORWARD,RIGHT,UP", help="camera minus antenna, m; --lever-arm=-1,0,0")
    parser.add_argument("--dry-run", action="store_true", help="only say what would come out")
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


def _run(options: argparse.Namespace) -> PhotoSummary:
    settings = replace(configs.load(), max_gap_s=_seconds(options.max_gap))
    if options.lever_arm:
        settings = replace(settings, lever_arm_m=_metres(options.lever_arm))
    parts = [
        associate(source, settings, options.positions, method=options.method, dry_run=options.dry_run)
        for source in options.sources
    ]
    return PhotoSummary(
        photos=sum(part.photos for part in parts),
        located=sum(part.located for part in parts),
        interpolated=sum(part.interpolated for part in parts),
        tables=tuple(table for part in parts for table in part.tables),
    )


def _say(summary: PhotoSummary) -> str:
    counts = f"{summary.located} of {summary.photos} photos have a fix, {summary.interpolated} a position of their own"
    return f"{counts}: {', '.join(summary.tables)}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (see rig/errors.py)."""
    return cli.run(_parser(configs.Settings()), _run, _say, argv)


if __name__ == "__main__":
    raise SystemExit(main())
