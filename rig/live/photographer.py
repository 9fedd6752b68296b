"""The process that makes photos while a recording runs: started with it, started again when it dies, told to stop.

The server imports this room; what decodes is imported in the process that decodes.
"""

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from configs import Settings
from rig.errors import EdencarError
from rig.photo.spacing import Every
from rig.workers import Link, StopCapture, Worker

NICENESS = 5  # after the recorders, before the watchers
REPORT_S = 0.5
RESTART_S = 2.0
STOP_S = 20.0  # for what has arrived but is no photo yet
ANSWER_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PhotoStatus:
    """Photos made, and instants without a photo."""

    photos: int = 0
    skipped: int = 0


def photo_worker(link: Link, recording: Path, every: Every, settings: Settings) -> None:
    """Make photos of the streams that are recorded below `recording` until StopCapture, answered with a PhotoStatus."""
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

    link.serve({StopCapture: stop}, report, REPORT_S)
    stopping.set()
    wait([making], STOP_S)


class Photographer:
    """Keeps a photo worker going. `tend` is called a few times a second by one thread, `stop` from any, once."""

    def __init__(self, recording: Path, every: Every, settings: Settings) -> None:
        self._worker = Worker("photographer", photo_worker, recording, every, settings)
        self._worker.start()
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def status(self) -> PhotoStatus:
        """The newest report."""
        return self._worker.status or PhotoStatus()

    def tend(self) -> str:
        """Start it again when it died, with what it died of; else nothing."""
        with self._lock:
            if self._stopped or self._worker.alive or time.monotonic() - self._started_s < RESTART_S:
                return ""
            trouble = f"the photographer ended ({self._worker.error or 'it was killed'}) and is started again"
            self._worker.start()
            self._started_s = time.monotonic()
        return trouble

    def stop(self) -> PhotoStatus:
        """Have what has arrived become photos, and end. Raises DeviceError when it does not answer."""
        with self._lock:
            self._stopped = True
        try:
            status: PhotoStatus = self._worker.ask(StopCapture(), STOP_S + ANSWER_S)
        finally:
            self._worker.stop()
        return status
