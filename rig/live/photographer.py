"""The process that makes photos while a recording runs.

The server imports this room; what decodes is imported in the process that decodes.
"""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from configs import Settings
from rig.errors import EdencarError
from rig.photo.spacing import Every
from rig.workers import Link, StartCapture, StopCapture

NICENESS = 5  # after the recorders, before the watchers
REPORT_S = 0.5
STOP_S = 20.0  # for what has arrived but is no photo yet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PhotoStatus:
    """Photos made, and instants without a photo."""

    photos: int = 0
    skipped: int = 0


def photo_worker(link: Link, recording: Path, every: Every, settings: Settings) -> None:
    """Make photos of the streams that are recorded below `recording` until StopCapture, answered with a PhotoStatus.

    StartCapture tells it nothing new.
    """
    from rig.live.livephotos import LivePhotos

    with suppress(OSError):
        os.nice(NICENESS)
    stopping = threading.Event()
    work = LivePhotos(recording, every, settings)
    making = ThreadPoolExecutor(1, thread_name_prefix="photos").submit(work.run, stopping)

    def report() -> PhotoStatus:
        if making.done() and (error := making.exception()):
            log.error("making photos failed", exc_info=error)
            raise EdencarError(f"making photos failed: {error}")
        return work.status

    def stop(_request: StopCapture) -> PhotoStatus:
        stopping.set()
        if wait([making], STOP_S).not_done:
            raise EdencarError(f"what had arrived did not become photos within {STOP_S:.0f} s")
        return report()

    link.serve({StartCapture: lambda _request: None, StopCapture: stop}, report, REPORT_S)
    stopping.set()
    wait([making], STOP_S)
