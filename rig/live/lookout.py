"""The watchers of the streams that are being recorded: each runs only while somebody looks, and may die at any time."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import Settings
from rig.clock import NS_PER_MS, UtcClock
from rig.errors import DeviceError, EdencarError
from rig.live.watch import DONE, OFF, READING, SEARCHING, Look, Picture, Sight, TakePicture, watch_worker
from rig.status import CalibrationNow
from rig.workers import Target, Worker

PREVIEW_S = 10.0  # from a request for a picture
PAGE_S = 5.0  # from a post of a page that shows the code
TOLD_S = 5.0  # between two times that a watcher is told what the clock is
FIRST_PICTURE_S = 8.0  # how long a calibration waits for it
RESTART_S = 2.0
ASK_S = 3.0
STOP_S = 1.0
LONGEST_DELAY_MS = 3000.0  # of a stream
KEPT_S = 600.0  # a result that is older gives way to a new search
NOTHING_TO_MEND = "none_seen"  # the code is simply not there: a page that shows it need not be told so
FIGURES = ("codes", "error_ms", "whole_error_ms", "offset_ns", "pts_90khz", "delay_ms", "delay_sigma_ms")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    folder: Path
    worker: Worker
    told: Look
    told_s: float
    noted: bool = False  # its delay has been handed on


@dataclass(frozen=True, slots=True)
class _Result:
    folder: Path
    sight: Sight
    at_s: float

    def outweighs(self, sight: Sight) -> bool:
        """Whether this film was good enough and that one is not, or not yet."""
        return self.sight.state == DONE != sight.state and time.monotonic() - self.at_s < KEPT_S


class Lookout:
    """`tend` is called a few times a second by one thread, the rest from any.

    `note_delay` is told of each film of the code that was good enough, at its end again.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], UtcClock],
        note_delay: Callable[[str, Sight], None],
        target: Target = watch_worker,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._note_delay = note_delay
        self._target = target
        self._watched: dict[str, _Watched] = {}
        self._results: dict[str, _Result] = {}
        self._previews: dict[str, float] = {}  # until when
        self._codes_until_s = 0.0
        self._page_bound_ns = 0
        self._user_agent = ""
        self._calibrating = False

    def want_codes(self, page_bound_ms: float | None, user_agent: str | None = None) -> None:
        """Somebody shows the code; `page_bound_ms` is how well that page knows the Pi's clock."""
        self._codes_until_s = time.monotonic() + PAGE_S
        self._page_bound_ns = round((page_bound_ms or 0.0) * NS_PER_MS)
        self._user_agent = user_agent or ""

    def watch(self, serials: Sequence[str], seconds: float, wait: Callable[..., None]) -> dict[str, Sight]:
        """Look for codes for so long, from the first pictures of these streams on; one calibration at a time.

        `wait` is that of the streams.
        """
        self._calibrating = True
        try:
            wait(FIRST_PICTURE_S, lambda: all(self._has_picture(serial) for serial in serials))
            wait(seconds)
            return {serial: sight for serial in serials if (sight := self.live(serial)) is not None}
        finally:
            self._calibrating = False

    @property
    def wants_codes(self) -> bool:
        """Whether codes are looked for."""
        return self._calibrating or time.monotonic() < self._codes_until_s

    def picture(self, serial: str) -> Picture | None:
        """The newest key frame of a camera's stream; None when there is none yet, then one is on its way."""
        self._previews[serial] = time.monotonic() + PREVIEW_S
        watched = self._watched.get(serial)
        if watched is None or watched.worker.status is None:
            return None
        try:
            picture: Picture | None = watched.worker.ask(TakePicture(), ASK_S)
        except DeviceError as error:
            log.info("%s", error)
            return None
        return picture

    def sight(self, serial: str) -> Sight | None:
        """What is known of the code in a camera's stream: what is seen now, else what was seen in this recording."""
        live, result = self.live(serial), self._results.get(serial)
        return result.sight if result and (live is None or result.outweighs(live)) else live

    def live(self, serial: str) -> Sight | None:
        """What is seen of the code now; None when nobody looks."""
        watched = self._watched.get(serial)
        sight: Sight | None = watched.worker.status if watched and watched.worker.alive else None
        return None if sight is None or sight.state == OFF else sight

    def tend(self, streams: Mapping[str, Path]) -> None:
        """Watch the streams (folder by serial) that somebody looks at, and no others."""
        self._results = {key: one for key, one in self._results.items() if streams.get(key) == one.folder}
        for serial, watched in [*self._watched.items()]:
            self._note(serial, watched, ended=False)
            stuck = watched.worker.alive and watched.worker.status_age_s > watched.worker.patience_s
            if stuck or streams.get(serial) != watched.folder or not self._is_wanted(serial):
                self._end(serial)
        for serial, folder in streams.items():
            if self._is_wanted(serial):
                self._watch(serial, folder)

    def close(self) -> None:
        """End all watchers."""
        for serial in [*self._watched]:
            self._end(serial)

    def _is_wanted(self, serial: str) -> bool:
        return self.wants_codes or time.monotonic() < self._previews.get(serial, 0.0)

    def _has_picture(self, serial: str) -> bool:
        sight = self.live(serial)
        return sight is not None and sight.pictures > 0

    def _watch(self, serial: str, folder: Path) -> None:
        now_s = time.monotonic()
        watched = self._watched.get(serial)
        if watched is None or (not watched.worker.alive and now_s - watched.told_s > RESTART_S):
            look = self._look()
            worker = Worker(f"watcher of {serial}", self._target, folder, self._settings, look)
            worker.start()
            self._watched[serial] = _Watched(folder, worker, look, now_s)
        elif watched.worker.status is not None and watched.worker.alive:
            self._tell(watched, now_s)

    def _tell(self, watched: _Watched, now_s: float) -> None:
        if watched.told.codes == self.wants_codes and now_s - watched.told_s < TOLD_S:
            return
        look = self._look()
        try:
            watched.worker.ask(look, ASK_S)
        except DeviceError as error:
            log.info("%s", error)
            return
        watched.noted = watched.noted and look.codes == watched.told.codes
        watched.told, watched.told_s = look, now_s

    def _look(self) -> Look:
        return Look(self.wants_codes, self._clock(), self._page_bound_ns, self._user_agent)

    def _note(self, serial: str, watched: _Watched, *, ended: bool) -> None:
        sight: Sight | None = watched.worker.status
        if sight is None or sight.state not in (READING, DONE):
            return
        known = self._results.get(serial)
        if known is None or (known.sight != sight and not known.outweighs(sight)):
            self._results[serial] = _Result(watched.folder, sight, time.monotonic())
        is_ours = sight.delay_ms is not None and 0 < sight.delay_ms < LONGEST_DELAY_MS  # else another clock's code
        if sight.state == DONE and is_ours and (ended or not watched.noted):
            watched.noted = True
            self._note_delay(serial, sight)

    def _end(self, serial: str) -> None:
        watched = self._watched.pop(serial)
        self._note(serial, watched, ended=True)
        watched.worker.stop(STOP_S)


def calibration(sight: Sight) -> CalibrationNow:
    """What a watcher sees, for the crew."""
    words = [f"code read, {sight.codes} codes" if sight.codes else "no code read yet"]
    if sight.codes and sight.error_ms is not None:
        words.append(f"±{sight.error_ms:.1f} ms")
    if sight.state == DONE:
        words.append("done")
    return CalibrationNow(
        state=sight.state,
        codes=sight.codes,
        error_ms=sight.error_ms,
        text=", ".join(words),
        hint=sight.hint_text,
        done=sight.state == DONE,
        problem="" if sight.hint == NOTHING_TO_MEND else sight.hint,
    )


def figures(sight: Sight | None, failure: EdencarError | None) -> dict[str, Any]:
    """What a calibration says of one stream, which did not even begin after a failure."""
    sight = sight or Sight(state=SEARCHING)
    trouble = str(failure or "") or ("" if sight.pictures else "no picture came")
    return {
        "state": sight.state,
        **{name: getattr(sight, name) for name in FIGURES},
        "text": trouble or calibration(sight).text,
        "hint": "" if trouble else sight.hint_text,
        "problem": sight.hint,
    }
