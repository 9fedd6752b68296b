"""What `parseVideo.py` and `parsePhotos.py` do when they are given addresses or an `--executor`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import Settings
from rig import cli
from rig.cluster import engine, overview, planning, store
from rig.cluster.planning import Luggage
from rig.cluster.steps import Steps
from rig.cluster.tasks import Failure
from rig.errors import UnreadableError

BOOKS = "*.json"  # what is remembered of cameras and screens lies beside the recordings


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSummary:
    """What came of all recordings; `failed` says for each that gave nothing, or lacks something, why."""

    recordings: int
    done_before: int
    left: int  # of a dry run: what there is to do
    bytes_left: int
    photos: int
    report: str = ""
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def pack(settings: Settings, files: Iterable[tuple[str, Path]]) -> Luggage:
    """The small files that the work needs from here, with what is known of cameras. Raises UnreadableError."""
    books = [(path.name, path) for path in sorted(settings.output.glob(BOOKS))]
    try:
        return tuple((name, path.read_bytes()) for name, path in [*books, *files])
    except OSError as error:
        raise UnreadableError(f"{error.filename} cannot be read ({error.strerror})", cure="name another") from error


def run(
    sources: Sequence[str], output: str, steps: Steps, luggage: Luggage, executor: str, jobs: int, dry_run: bool
) -> FleetSummary:
    """Do the work on all recordings that match; those that are done already stay as they are.

    Raises UsageError, DeviceNotFoundError, DeviceError when there is nothing to begin with.
    """
    orders = planning.find(
        [_absolute(source) for source in sources], _absolute(output) if output else "", steps, luggage
    )
    left, markers = planning.without_done(orders)
    if dry_run:
        size = sum(order.size for order in left)
        return FleetSummary(recordings=len(orders), done_before=len(markers), left=len(left), bytes_left=size, photos=0)
    outcomes: list[tuple[str, dict[str, Any] | Failure]] = []
    if left:
        going = engine.Run(left, engine.open_pool(executor, jobs), cli.Progress("recordings"))
        going.run()
        outcomes = [(order.recording.url, outcome) for order, outcome in going.outcomes]
    summaries = [outcome for _, outcome in outcomes if isinstance(outcome, dict)]
    failures = {url: outcome.message for url, outcome in outcomes if isinstance(outcome, Failure)}
    known = overview.read(markers) + summaries
    folder = store.join(orders[0].root, planning.FOLDER)
    report = overview.write(folder, steps.kind, known, failures)
    return FleetSummary(
        recordings=len(orders),
        done_before=len(markers),
        left=0,
        bytes_left=0,
        photos=sum(summary["photos"] for summary in summaries),
        report=report,
        warnings=tuple(text for summary in summaries for text in summary.get("warnings", ())),
        failed=(*failures.values(), *(text for summary in summaries for text in summary.get("failed", ()))),
    )


def say(summary: FleetSummary) -> str:
    """The summary for a person."""
    before = f", {summary.done_before} of them done before" if summary.done_before else ""
    if not summary.report:
        size = f"{summary.bytes_left / 1e9:.1f} GB"
        return f"{summary.recordings} recordings{before}; {summary.left} to do, {size}"
    lines = [f"{summary.recordings} recordings{before}; {summary.photos} photos: {summary.report}"]
    return "\n".join([*lines, *(f"warning: {text}" for text in summary.warnings)])


def _absolute(address: str) -> str:
    """Folders as other processes find them."""
    return address if store.is_url(address) else str(Path(address).absolute())
