"""What the time code in a stream says of its clock while it is recorded, and why it cannot be read."""

import math
import time
from collections import Counter, deque
from typing import Any

import numpy as np

from configs import Settings
from rig.arrays import Luma
from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT
from rig.errors import NoCalibrationError
from rig.footage.decoding import early_and_median
from rig.footage.transport import PTS_HZ
from rig.live.glimpse import HINTS, why_unread
from rig.live.watch import DONE, READING, SEARCHING, Look
from rig.timing import timeline
from rig.timing.cameraclock import CameraClock
from rig.timing.interval import Observation
from rig.timing.led import display_latency
from rig.timing.qrtime import CodeReader

GLIMPSE_S = 1.0  # between two looks at why there is none
GLIMPSES = 3  # of which the most frequent is told: facades hold things that look like codes
MAX_OBSERVATIONS = 600
MAX_ARRIVALS = 1800
DONE_CODES, DONE_SPAN_NS = 30, 3 * NS_PER_S  # what a film has by then, more seconds hardly better
EXACT_CODES, EXACT_NS, EXACT_SPAN_NS = 20, 2 * NS_PER_MS, NS_PER_S
ENOUGH_SPAN_NS = 10 * NS_PER_S  # after that it rests until the next film
UNIFORM = math.sqrt(3)  # half-width of a uniform distribution over its sigma


class LiveFilm:
    """What a stream has shown of the time code since somebody holds it in front of the camera."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = CodeReader()
        self._observations: deque[Observation] = deque(maxlen=MAX_OBSERVATIONS)
        self._arrivals: deque[int] = deque(maxlen=MAX_ARRIVALS)  # minus PTS
        self._glimpses: deque[str] = deque(maxlen=GLIMPSES)
        self._glimpse_due_s = 0.0
        self._is_new = False  # whether a code was read after the last verdict
        self._verdict: dict[str, Any] = {"state": SEARCHING}

    @property
    def has_enough(self) -> bool:
        """Whether more pictures would hardly make it better."""
        return self._verdict["state"] == DONE and self._span_ns >= ENOUGH_SPAN_NS

    @property
    def _span_ns(self) -> int:
        return self._observations[-1].pts_ns - self._observations[0].pts_ns

    def look(self, pts_ns: int, arrival_ns: int, luma: Luma) -> None:
        """Read one picture."""
        self._arrivals.append(arrival_ns - pts_ns)
        reading = self._reader.read(luma)
        if reading is not None:
            self._observations.append(Observation(pts_ns, reading.code, reading.centre[1] / luma.shape[0]))
            self._is_new = True
            self._glimpses.clear()
            self._glimpse_due_s = time.monotonic() + GLIMPSE_S
        elif time.monotonic() >= self._glimpse_due_s and not self.has_enough:
            self._glimpses.append(why_unread(luma))
            self._glimpse_due_s = time.monotonic() + GLIMPSE_S

    def judge(self, asked: Look) -> dict[str, Any]:
        """What a Sight says of the code."""
        if self._is_new:
            self._is_new = False
            was_done = self._verdict["state"] == DONE
            self._verdict = self._calibrate(asked)
            if was_done and self._verdict["state"] == READING:
                self._verdict["state"] = DONE  # a later code that does not fit makes no film worse than it was
        return self._verdict | self._hint()

    def _calibrate(self, asked: Look) -> dict[str, Any]:
        terms = timeline.Terms.of(
            self._settings,
            display_latency(self._settings, [asked.user_agent] if asked.user_agent else []),
            clock_error_ns=round(SIGMAS_IN_99_PERCENT * asked.clock.sigma_ns),
            page_bound_ns=asked.page_bound_ns,
        )
        offset_ns = asked.clock.offset_ns + self._arrivals[-1]
        near = timeline.Near(offset_ns - DAY_NS, offset_ns + DAY_NS)
        try:
            clock = timeline.calibrate(list(self._observations), terms, near)
        except NoCalibrationError:
            return {"state": SEARCHING, "codes": 0}
        return self._figures(clock, asked)

    def _figures(self, clock: CameraClock, asked: Look) -> dict[str, Any]:
        pts_ns = self._observations[-1].pts_ns
        at = np.array([pts_ns], dtype=np.int64)
        error_ns = int(clock.error_ns(at, constants=False)[0])
        offset_ns = int(clock.utc_ns(at)[0]) - pts_ns
        early_ns, median_ns = early_and_median(self._arrivals)
        delay_sigma_ns = math.hypot(
            error_ns / SIGMAS_IN_99_PERCENT,
            *(value / UNIFORM for name, value in clock.constants if name != "clock"),
            median_ns - early_ns,
        )
        codes = sum(anchor.codes for anchor in clock.anchors)
        return {
            "state": DONE if self._is_done(codes, error_ns) else READING,
            "codes": codes,
            "error_ms": round(error_ns / NS_PER_MS, 3),
            "whole_error_ms": round(int(clock.error_ns(at)[0]) / NS_PER_MS, 3),
            "offset_ns": offset_ns,
            "pts_90khz": pts_ns * PTS_HZ // NS_PER_S,
            "delay_ms": round((asked.clock.offset_ns + early_ns - offset_ns) / NS_PER_MS, 3),
            "delay_sigma_ms": round(delay_sigma_ns / NS_PER_MS, 3),
        }

    def _is_done(self, codes: int, error_ns: int) -> bool:
        exact = codes >= EXACT_CODES and error_ns <= EXACT_NS and self._span_ns >= EXACT_SPAN_NS
        return exact or (codes >= DONE_CODES and self._span_ns >= DONE_SPAN_NS)

    def _hint(self) -> dict[str, str]:
        """Why no code is read, once that has been seen for some seconds; nothing after a film that was good enough."""
        if not self._glimpses or self._verdict["state"] == DONE:
            return {}
        hint = Counter(self._glimpses).most_common(1)[0][0]
        return {"hint": hint, "hint_text": HINTS[hint]}
