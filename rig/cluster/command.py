"""What `parseVideo.py` and `parsePhotos.py` do when they are given addresses or an `--executor`."""

import argparse
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import configs
from configs import Settings
from rig import cli
from rig.cluster import engine, overview, planning, store
from rig.cluster.options import SCHEME
from rig.cluster.photosteps import PhotoSteps
from rig.cluster.planning import Luggage, Order
from rig.cluster.steps import Steps
from rig.cluster.tasks import Failure, Summary
from rig.cluster.videosteps import VideoSteps
from rig.errors import EdencarError, UnreadableError, UsageError
from rig.photo import extraction, making, placing

BOOKS = "[!.]*.json"  # of cameras and screens, beside the recordings; what is hidden there is the server's own


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSummary:
    """What came of all recordings; `failed` says for each that gave nothing, or lacks something, why."""

    recordings: int
    done_before: int
    left: int = 0  # of a dry run: what there is to do
    bytes_left: int = 0
    photos: int = 0
    report: str = ""
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def run_videos(options: argparse.Namespace, settings: Settings, wish: making.Wish) -> FleetSummary:
    """`parseVideo.py` for many recordings; those that are done already stay as they are.

    Raises UsageError, UnreadableError, DeviceNotFoundError, DeviceError when there is nothing to begin with.
    """
    if wish.start_utc:
        raise UsageError("--start-utc dates one video, not many recordings", cure="leave it away")
    positions = _packed("positions", wish.positions)
    given = _packed("given", (wish.calibration,) if wish.calibration else ())
    slim = replace(
        wish, positions=tuple(map(Path, positions)), calibration=next(map(Path, given), None), jobs=0, dry_run=False
    )
    luggage = pack(settings, positions | given)
    return _run(options, VideoSteps(configs.of_photos(settings), slim), luggage, options.output or "", wish.jobs)


def run_photos(options: argparse.Namespace, settings: Settings, wish: placing.Wish) -> FleetSummary:
    """`parsePhotos.py` for many recordings; as `run_videos`."""
    if options.output or wish.in_place or wish.camera_offset is not None:
        raise UsageError(
            "recordings of a fleet keep their photos where they are, with the time that they have",
            cure="leave --output, --in-place and --camera-offset away",
        )
    positions = _packed("positions", wish.positions)
    slim = replace(wish, positions=tuple(map(Path, positions)), dry_run=False)
    return _run(options, PhotoSteps(configs.of_photos(settings), slim), pack(settings, positions))


def _packed(folder: str, files: Iterable[Path]) -> dict[str, Path]:
    """What files are called in the luggage."""
    return {f"{folder}/{number}-{path.name}": path for number, path in enumerate(files)}


def pack(settings: Settings, files: dict[str, Path]) -> dict[str, bytes]:
    """The small files that the work needs from here, with what is known of cameras. Raises UnreadableError."""
    books = {path.name: path for path in sorted(settings.output.glob(BOOKS))}
    try:
        return {name: path.read_bytes() for name, path in (books | files).items()}
    except OSError as error:
        raise UnreadableError(f"{error.filename} cannot be read ({error.strerror})", cure="name another") from error


def _run(options: argparse.Namespace, steps: Steps, luggage: Luggage, output: str = "", jobs: int = 0) -> FleetSummary:
    """The work on all recordings that match; 0 jobs: as many as there are cores here."""
    executor = options.executor or engine.LOCAL
    engine.check(executor)
    orders = planning.find([_absolute(one) for one in options.sources], _absolute(output), steps, luggage)
    left, done = planning.without_done(orders)
    if options.dry_run:
        size = sum(order.size for order in left)
        return FleetSummary(recordings=len(orders), done_before=done, left=len(left), bytes_left=size)
    outcomes = _do(left, luggage, executor, jobs or extraction.cores()) if left else []
    summaries = [outcome for _, outcome in outcomes if isinstance(outcome, dict)]
    failures = {order.url: outcome.message for order, outcome in outcomes if isinstance(outcome, Failure)}
    return FleetSummary(
        recordings=len(orders),
        done_before=done,
        photos=sum(summary["photos"] for summary in summaries),
        report=overview.write(store.join(orders[0].root, planning.FOLDER), steps.kind, summaries, failures),
        warnings=_told(summaries, "warnings"),
        failed=(*failures.values(), *_told(summaries, "failed")),
    )


def _told(summaries: Sequence[Summary], kind: str) -> tuple[str, ...]:
    """What is said of recordings, each with the address of its own."""
    said = ((str(summary["recording"]), text) for summary in summaries for text in summary.get(kind, ()))
    return tuple(text if url in text else f"{url}: {text}" for url, text in said)


def _do(orders: Sequence[Order], luggage: Luggage, executor: str, jobs: int) -> list[tuple[Order, Summary | Failure]]:
    """All steps of all orders; the luggage goes ahead, which also shows whether results can be written at all."""
    folders = {order.packed_at() for order in orders}
    pool = engine.open_pool(executor, jobs)
    try:
        for folder in folders:
            store.write(b"", store.join(folder, "packed"))
            for name, data in luggage.items():
                store.write(data, store.join(folder, name))
        going = engine.Run(orders, pool, cli.Progress("recordings"))
        going.run()
        return going.outcomes
    finally:
        pool.close()
        with suppress(EdencarError):  # where the store fails, that was told
            for folder in folders:
                store.remove_folder(folder)


def say(summary: FleetSummary) -> str:
    """The summary for a person."""
    before = f", {summary.done_before} of them done before" if summary.done_before else ""
    if not summary.report:
        size = f"{summary.bytes_left / 1e9:.1f} GB"
        return f"{summary.recordings} recordings{before}; {summary.left} to do, {size}"
    lines = [f"{summary.recordings} recordings{before}; {summary.photos} photos: {summary.report}"]
    return "\n".join([*lines, *(f"warning: {text}" for text in summary.warnings)])


def _absolute(address: str) -> str:
    """Folders as other processes find them. Raises UsageError."""
    if not address or store.is_url(address):
        return address.rstrip("/")
    if SCHEME.match(address):
        raise UsageError(f"{address} is no address", cure=f"say {address.replace(':/', '://', 1)}")
    return os.path.normpath(Path(address).absolute())
