"""A device's worker that is kept going: started again with back-off, replaced when stuck, told again to record."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rig.clock import NS_PER_S
from rig.errors import DeviceError, EdencarError
from rig.gaps import Pulse
from rig.workers import StartCapture, StopCapture, Worker

FIRST_PAUSE_S = 0.5  # the first death after health is not waited for at all
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 10.0
PROVEN_S = 1.0  # what came so long after it was told to record is a proof of health as well
PROGRESS_S = 6.0  # a device says that it sends, and nothing of it comes into the log
ASLEEP_S = 1.0  # who was not tended for so long was perhaps not run either: the whole machine hesitated
BEAT_S = 0.5
STALE_S = 3.0
RETELL_S = 2.0
REVIVAL_S = 5.0
TELL_TIMEOUT_S = 30.0  # a camera that has just been switched on takes its time
STOP_TIMEOUT_S = 30.0  # a camera closes its file in about 3 s, but may be busy before
KILL_GRACE_S = 0.5
LAST_GAP_S = 2.0  # without anything at the end of a recording

log = logging.getLogger(__name__)


class Kept:
    """One device worker. `tend` is called a few times a second by one thread, the rest from any.

    `note` is told in one sentence what befalls it during a recording, `note_gap` between which two arrivals nothing was
    kept. `flows` says of a status whether the device sends what has to come into the log, `usual_s` how often at least.
    """

    def __init__(
        self,
        worker: Worker,
        note: Callable[[str], None],
        note_gap: Callable[[str, int, int], None] = lambda _device, _from, _until: None,
        flows: Callable[[Any], bool] = lambda _status: False,
        usual_s: float = 0.0,
    ) -> None:
        self.worker = worker
        self.starts = 0
        self.trouble = ""  # why it does not record although it should
        self._note = note
        self._note_gap = note_gap
        self._flows = flows
        self._usual_s = usual_s
        self._capture: StartCapture | None = None
        self._pulse: Pulse | None = None
        self._pulsing = threading.Lock()
        self._told_at_start = 0  # `starts` of the process that was told to record
        self._told_s = 0.0
        self._telling = threading.Lock()
        self._starting = threading.Lock()
        self._closed = False
        self._failures = 0
        self._started_s = self._tended_s = self._awake_s = self._beat_s = time.monotonic()
        self._mourned_start = 0
        self._given_up = 0  # `starts` of a process that is being ended
        self._fell = False  # while recording, and has not been told again
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
        self._pulse = Pulse(capture.folder, self._usual_s)
        self._told_at_start, self._capture = 0, capture

    def end(self) -> Any:
        """Tell it to stop recording, the next process if this one has just died; its answer.

        Raises what the worker raised.
        """
        self._beat()
        pulse, self._capture, self._fell, self.trouble = self._pulse, None, False, ""
        if pulse and pulse.last_ns and pulse.silent_s > LAST_GAP_S:
            self._note_gap(self.worker.name, pulse.last_ns, time.monotonic_ns())
            self._pulse = None
        with self._telling:
            try:
                return self._ask_to_stop()
            finally:
                self._beat()
                self._pulse = None

    def tend(self) -> None:
        """Start it again when it is dead and due, replace it when it is stuck, tell it again to record."""
        if self._closed:
            return
        now_s = time.monotonic()
        if now_s - self._tended_s > ASLEEP_S:
            self._awake_s = now_s
        self._tended_s = now_s
        if now_s - self._beat_s > BEAT_S:
            self._beat_s = now_s
            self._beat()
        if not self.worker.alive:
            self._revive(now_s)
        elif why := self._stuck(now_s):
            log.warning("%s %s and is replaced", self.worker.name, why)
            self._given_up = self.starts
            # In a thread: while one is waited for, the others would not be tended.
            threading.Thread(target=self.worker.stop, args=(KILL_GRACE_S,), daemon=True).start()
        elif self._capture and not self.told and now_s >= self._due_s and not self._telling.locked():
            threading.Thread(target=self._tell_again, name=f"{self.worker.name} teller", daemon=True).start()
        if now_s - self._started_s > HEALTHY_S or self._keeps:
            self._failures = 0

    def move(self, *args: object) -> None:
        """Have it go on with other arguments, in another process."""
        self.worker.args = args
        self._mourned_start, self._due_s, self._fell = self.starts, 0.0, self._capture is not None  # nothing is wrong
        self.worker.stop()

    @property
    def _keeps(self) -> bool:
        kept_ns = self._pulse.last_ns if self._pulse and self.told else None
        return kept_ns is not None and kept_ns / NS_PER_S - self._told_s > PROVEN_S

    def close(self) -> None:
        """End the worker, for good."""
        with self._starting:  # who tends it may be about to
            self._closed = True
        self.worker.stop()

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                return
            self.starts += 1
            self._started_s = time.monotonic()
            try:
                self.worker.start()
            except OSError as error:  # no memory for a process: there may be some later
                log.error("%s does not start: %s", self.worker.name, error)

    def _ask_to_stop(self) -> Any:
        start = self.starts
        try:
            return self.worker.ask(StopCapture(), STOP_TIMEOUT_S)
        except DeviceError:
            if not self._revived() or self.starts == start:
                raise
            return self.worker.ask(StopCapture(), STOP_TIMEOUT_S)

    def _stuck(self, now_s: float) -> str:
        """What a living process does not do although it should; empty when all is well."""
        if self._telling.locked() or self._given_up == self.starts:
            return ""
        awake_s, pulse, patience_s = now_s - self._awake_s, self._pulse, self.worker.patience_s
        if min(self.worker.status_age_s, awake_s) > patience_s:
            return f"has said nothing for {patience_s:.0f} s"
        if pulse and self.told and min(pulse.silent_s, awake_s, now_s - self._told_s) > PROGRESS_S:
            status = self.status
            if status is not None and self._flows(status):
                return f"has kept nothing for {PROGRESS_S:.0f} s of what comes"
        return ""

    def _beat(self) -> None:
        with self._pulsing, suppress(OSError):
            for begin_ns, end_ns in self._pulse.beat() if self._pulse else ():
                self._note_gap(self.worker.name, begin_ns, end_ns)
                log.warning("%s: a gap of %.1f s", self.worker.name, (end_ns - begin_ns) / NS_PER_S)

    def _revive(self, now_s: float) -> None:
        if self._mourned_start != self.starts:
            self._mourn(now_s)
        if now_s >= self._due_s:
            self._start()

    def _mourn(self, now_s: float) -> None:
        self._mourned_start = self.starts
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)) if self._failures else 0.0
        self._due_s = now_s + pause_s
        self._failures += 1
        self.trouble = f"{self.worker.name} ended ({self.worker.error or 'it was killed'})"
        log.warning("%s", self.trouble)
        if self._capture and not self._fell:
            self._fell = True
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
            self._told_at_start, self._told_s, self.trouble = start, time.monotonic(), ""
            if self._fell:
                self._fell = False
                self._note(f"{self.worker.name} records again")

    def _tell_again(self) -> None:
        try:
            self._tell()
        except EdencarError as error:
            log.warning("%s does not record: %s", self.worker.name, error)
