"""Videos become sharp photos, each with the exact time it was taken and an honest error bar.

The time code that each camera filmed dates every frame; of each interval one frame is kept, the sharpest of its
neighbours. SOURCE is a recording's folder, or video files from anywhere.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import configs
from configs import Settings
from rig import cli
from rig.cluster import options as fleet
from rig.errors import UsageError
from rig.photo import exports
from rig.photo.making import VideoSummary, Wish, parse_videos

MOST_LATENCY_MS = 1000.0  # of a display


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="parseVideo.py", description=__doc__)
    add = parser.add_argument
    add("sources", metavar="SOURCE", nargs="+", help="a recording's folder, or video files")
    add("--output", metavar="DIR", help="default: the recording's folder, else ./photos-out")
    add(
        "--every",
        default="",
        metavar="0.5s|5m|key",
        help="seconds, metres of the track, or each key frame; a stop gives one photo "
        f"(usually {settings.photo_interval_s:g}s: setting photo_interval_s)",
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
        metavar="N",
        help=f"neighbours compared (usually {settings.sharpest_of}: setting sharpest_of)",
    )
    add("--min-sharpness", type=float, default=0.0, metavar="X", help="drop photos below this and say how many")
    quality = f"of the JPEG files, 1 to 100 (usually {settings.jpeg_quality}: setting jpeg_quality)"
    add("--quality", type=int, help=quality)
    add("--jobs", type=int, default=0, metavar="N", help="parts of videos at once (default: one for each core)")
    formats = f"of csv, {', '.join(exports.FORMATS)}, or all; csv is always written"
    add("--format", default="csv", metavar="NAME,...", help=formats)
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
    usual = Wish.of(settings, options.every, options.start_utc)
    sharpest_of = usual.sharpest_of if options.sharpest_of is None else options.sharpest_of
    quality = usual.quality if options.quality is None else options.quality
    for name, value, low, high in (
        ("--quality", quality, 1, 100),
        ("--sharpest-of", sharpest_of, 1, 99),
        ("--jobs", options.jobs, 0, 256),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value} is out of range", cure=f"say {low} to {high}")
    wish = replace(
        usual,
        sharpest_of=sharpest_of,
        min_sharpness=options.min_sharpness,
        quality=quality,
        calibration=None if options.calibration == "auto" else Path(options.calibration),
        positions=tuple(options.positions),
        formats=exports.parse_formats(options.format, exports.FORMATS),
        jobs=options.jobs,
        dry_run=options.dry_run,
    )
    if fleet.is_meant(options):
        return fleet.command().run_videos(options, settings, wish)
    sources = [Path(source) for source in options.sources]
    output = Path(options.output or (sources[0] if sources[0].is_dir() else "photos-out"))
    return parse_videos(sources, output, settings, wish, cli.Progress("photos"))


def _say(summary: object) -> str:
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
    raise SystemExit(main())
