"""A device's worker that is kept going: started again with back-off, replaced when silent, told again to record."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from rig.errors import DeviceError, EdencarError
from rig.workers import StartCapture, StopCapture, Worker

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0  # a worker that ran so long may die once without being waited for
SILENCE_S = 10.0  # reports come twice a second; a worker says nothing while it is asked, which is not silence
STALE_S = 3.0
RETELL_S = 2.0
REVIVAL_S = 5.0
TELL_TIMEOUT_S = 30.0  # a camera that has just been switched on takes its time
KILL_GRACE_S = 0.5

log = logging.getLogger(__name__)


class Kept:
    """One device worker. `tend` is called a few times a second by one thread, the rest from any.

    `note` is told in one sentence of each gap in a recording.
    """

    def __init__(self, worker: Worker, note: Callable[[str], None]) -> None:
        self.worker = worker
        self.starts = 0
        self.trouble = ""  # why it does not record although it should
        self._note = note
        self._capture: StartCapture | None = None
        self._told_at_start = 0  # `starts` of the process that was told to record
        self._telling = threading.Lock()
        self._failures = 0
        self._started_s = 0.0
        self._mourned_start = 0
        self._down_since_s: float | None = None  # since when the recording has a gap
        self._due_s = 0.0
        self._start()

    @property
    def status(self) -> Any:
        """The newest report; None when the worker is dead, new or silent."""
        fresh = self.worker.status_age_s < STALE_S or self._telling.locked()
        return self.worker.status if self.worker.alive and fresh else None

    @property
    def told(self) -> bool:
        """Whether the process that runs now has agreed to record."""
        return self._told_at_start == self.starts

    def begin(self, capture: StartCapture) -> None:
        """Tell it to record; when that fails, it is told again by `tend`. Raises what the worker raised."""
        self.expect(capture)
        self._tell()

    def expect(self, capture: StartCapture) -> None:
        """Have `tend` tell it to record."""
        self._told_at_start, self._capture = 0, capture

    def end(self, timeout_s: float) -> Any:
        """Tell it to stop recording, the next process if this one has just died; its answer.

        Raises what the worker raised.
        """
        self._capture, self._down_since_s, self.trouble = None, None, ""
        with self._telling:
            try:
                return self.worker.ask(StopCapture(), timeout_s)
            except DeviceError:
                if self.worker.alive or not self._revived():
                    raise
                return self.worker.ask(StopCapture(), timeout_s)

    def tend(self) -> None:
        """Start it again when it is dead and due, replace it when it is silent, tell it again to record."""
        now_s = time.monotonic()
        if not self.worker.alive:
            self._revive(now_s)
        elif self.worker.status_age_s > SILENCE_S and not self._telling.locked():
            log.warning("%s has said nothing for %.0f s and is replaced", self.worker.name, SILENCE_S)
            self.worker.stop(KILL_GRACE_S)
        elif self._capture and not self.told and now_s >= self._due_s and not self._telling.locked():
            threading.Thread(target=self._tell_again, name=f"{self.worker.name} teller", daemon=True).start()
        if now_s - self._started_s > HEALTHY_S:
            self._failures = 0

    def close(self) -> None:
        """End the worker."""
        self.worker.stop()

    def _start(self) -> None:
        self.worker.start()
        self.starts += 1
        self._started_s = time.monotonic()

    def _revive(self, now_s: float) -> None:
        if self._mourned_start != self.starts:
            self._mourn(now_s)
        elif now_s >= self._due_s:
            self._start()

    def _mourn(self, now_s: float) -> None:
        self._mourned_start = self.starts
        self._due_s = now_s + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures += 1
        self.trouble = f"{self.worker.name} ended ({self.worker.error or 'it was killed'})"
        log.warning("%s", self.trouble)
        if self._capture and self._down_since_s is None:
            self._down_since_s = now_s
            self._note(self.trouble)

    def _revived(self) -> bool:
        deadline_s = time.monotonic() + REVIVAL_S
        while not self.worker.alive and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return self.worker.alive

    def _tell(self) -> None:
        with self._telling:
            capture, start = self._capture, self.starts
            if capture is None or self.told:
                return
            try:
                self.worker.ask(capture, TELL_TIMEOUT_S)
            except EdencarError as error:
                self.trouble, self._due_s = str(error), time.monotonic() + RETELL_S
                raise
            self._told_at_start, self.trouble = start, ""
            self._note_return()

    def _tell_again(self) -> None:
        try:
            self._tell()
        except EdencarError as error:
            log.warning("%s does not record: %s", self.worker.name, error)

    def _note_return(self) -> None:
        if self._down_since_s is not None:
            self._note(f"{self.worker.name} records again after {time.monotonic() - self._down_since_s:.1f} s")
            self._down_since_s = None
