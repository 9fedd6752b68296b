"""Looks at a stream while it is recorded, in a process of its own: a picture of now, and what the time code says.

It reads what the recorder has put on disk, so that nothing it does, not even its death, touches the recording.
"""

import math
import os
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import Settings
from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT, UtcClock
from rig.errors import EdencarError, NoCalibrationError
from rig.footage.decoding import Decoder, PtsClock, early_and_median
from rig.footage.tail import Line, Tail
from rig.footage.transport import PTS_HZ
from rig.timing.led import display_latency
from rig.workers import Link

# The server imports this module for what it asks and hears; what decodes is imported in the process that decodes.
if TYPE_CHECKING:
    from rig.timing.cameraclock import CameraClock
    from rig.timing.interval import Observation

OFF, SEARCHING, READING, DONE = "off", "searching", "reading", "done"

NICENESS = 10  # a recording goes first
REPORT_S = 0.25
POLL_S = 0.01
LATE_NS = NS_PER_S  # further behind it goes on from the newest key frame
JPEG_WIDTH, JPEG_QUALITY = 960, 75
JUDGE_S = 0.5  # between two looks at what the codes say; each takes some 10 ms
GLIMPSE_S = 1.0  # between two looks at why there is none
GLIMPSES = 3  # of which the most frequent is told: facades hold things that look like codes
MAX_OBSERVATIONS = 600
MAX_ARRIVALS = 1800
DONE_CODES, DONE_SPAN_NS = 30, 3 * NS_PER_S  # what a film has by then, more seconds hardly better
EXACT_CODES, EXACT_NS, EXACT_SPAN_NS = 20, 2 * NS_PER_MS, NS_PER_S
ENOUGH_SPAN_NS = 10 * NS_PER_S  # after that it rests until the next film
UNIFORM = math.sqrt(3)  # half-width of a uniform distribution over its sigma


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the watcher for codes, or no more; `clock` is the Pi's, `page_bound_ns` how well the page knows it.

    `user_agent` is that of the page's phone and browser, empty when no page has said what it draws.
    """

    codes: bool
    clock: UtcClock
    page_bound_ns: int = 0
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class TakePicture:
    """Ask the watcher for the newest key frame; answered with a Picture, or None when there is none yet."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG and when its first bytes came from the camera."""

    jpeg: bytes
    arrival_monotonic_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a watcher reports; None is what it does not know yet.

    `error_ms` is the half-width that the film of the code leaves open, `whole_error_ms` with the constants that no film
    shows (the display's delay, the Pi's clock). `offset_ns` is UTC minus PTS at `pts_90khz`. `delay_ms` is from the
    middle of the exposure until the picture's first bytes were here, `hint` one of glimpse.HINTS.
    """

    state: str = OFF
    codes: int = 0
    error_ms: float | None = None
    whole_error_ms: float | None = None
    offset_ns: int | None = None
    pts_90khz: int | None = None
    delay_ms: float | None = None
    delay_sigma_ms: float | None = None
    hint: str = ""
    hint_text: str = ""
    pictures: int = 0
    skipped: int = 0


def watch_worker(link: Link, folder: Path, settings: Settings, asked: Look) -> None:
    """Watch the stream that is recorded into `folder` until the server says stop; answers Look and TakePicture."""
    with suppress(OSError):
        os.nice(NICENESS)
    watcher = _Watcher(folder, settings, asked)
    thread = threading.Thread(target=watcher.run, name="watch", daemon=True)
    thread.start()

    def report() -> Sight:
        if not thread.is_alive():
            raise EdencarError(f"watching {folder} failed")
        return watcher.sight

    link.serve({Look: watcher.look, TakePicture: watcher.take_picture}, report, REPORT_S)
    watcher.ending.set()
    thread.join(1.0)


class _Watcher:
    """`run` is one thread, `look` and `take_picture` are called by another."""

    def __init__(self, folder: Path, settings: Settings, asked: Look) -> None:
        self.ending = threading.Event()
        self.sight = Sight()
        self._tail = Tail(folder)
        self._settings = settings
        self._asked = asked
        self._decoder = Decoder()
        self._pending: list[Line] = []  # in order, from the newest key frame on
        self._clock = PtsClock()
        self._film: _Film | None = None
        self._newest: tuple[Any, int] | None = None  # key frame and its arrival
        self._made: Picture | None = None
        self._pictures = self._skipped = 0
        self._judge_due_s = 0.0

    def look(self, request: Look) -> None:
        """Take a request of the server."""
        self._asked = request

    def take_picture(self, _request: TakePicture) -> Picture | None:
        """The newest key frame as JPEG."""
        newest = self._newest
        if newest is None:
            return None
        if self._made is None or self._made.arrival_monotonic_ns != newest[1]:
            self._made = Picture(_jpeg(newest[0]), newest[1])
        return self._made

    def run(self) -> None:
        """Follow the stream."""
        while not self.ending.is_set():
            lines = self._tail.poll()
            self._follow_request()
            if lines:
                self._take(lines)
            self._judge()
            if not lines:
                self.ending.wait(POLL_S)

    @property
    def _reads(self) -> bool:
        return self._film is not None and not self._film.has_enough

    def _follow_request(self) -> None:
        if self._asked.codes == (self._film is not None):
            return
        self._film = _Film(self._settings) if self._asked.codes else None
        self._judge_due_s = 0.0

    def _take(self, lines: list[Line]) -> None:
        for line in lines:
            if self._clock.take(line):  # the stream was started anew
                self._pending.clear()
                self._film = None if self._film is None else _Film(self._settings)
            self._pending.append(line)
        if not self._reads:
            self._go_to_newest_key()
            newest_ns = self._newest[1] if self._newest else None
            if self._pending and self._pending[0].arrival_monotonic_ns != newest_ns:
                self._decode(self._pending[0])
            return
        if time.monotonic_ns() - self._pending[0].arrival_monotonic_ns > LATE_NS:
            dropped = self._go_to_newest_key()
            self._skipped += dropped if self._pictures else 0
        pending, self._pending = self._pending, []
        for line in pending:
            self._decode(line)

    def _go_to_newest_key(self) -> int:
        """Drop what comes before the newest key frame, all when there is none; how many pictures these were."""
        keys = [number for number, line in enumerate(self._pending) if line.key]
        dropped = keys[-1] if keys else len(self._pending)
        if not keys and self._reads:
            return 0
        del self._pending[:dropped]
        return dropped

    def _decode(self, line: Line) -> None:
        frame = self._decoder.decode(line, anew=line.key and not self._reads)
        if frame is None:
            return
        self._pictures += 1
        if line.key:
            self._newest = (frame, line.arrival_monotonic_ns)
        if self._film is not None:
            from rig.footage import video

            self._film.look(self._clock.ns(line.pts_90khz), line.arrival_monotonic_ns, video.luma(frame))

    def _judge(self) -> None:
        if time.monotonic() < self._judge_due_s:
            return
        self._judge_due_s = time.monotonic() + JUDGE_S
        known = {} if self._film is None else self._film.judge(self._asked)
        self.sight = Sight(pictures=self._pictures, skipped=self._skipped, **known)


class _Film:
    """What a stream has shown of the time code since somebody holds it in front of the camera."""

    def __init__(self, settings: Settings) -> None:
        from rig.timing.qrtime import CodeReader

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

    def look(self, pts_ns: int, arrival_ns: int, luma: Any) -> None:
        """Read one picture."""
        from rig.timing.interval import Observation

        self._arrivals.append(arrival_ns - pts_ns)
        reading = self._reader.read(luma)
        if reading is not None:
            self._observations.append(Observation(pts_ns, reading.code, reading.centre[1] / luma.shape[0]))
            self._is_new = True
            self._glimpses.clear()
            self._glimpse_due_s = time.monotonic() + GLIMPSE_S
        elif time.monotonic() >= self._glimpse_due_s and not self.has_enough:
            from rig.live.glimpse import why_unread

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
        from rig.timing import timeline

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

    def _figures(self, clock: "CameraClock", asked: Look) -> dict[str, Any]:
        import numpy as np

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
        from rig.live.glimpse import HINTS

        hint = Counter(self._glimpses).most_common(1)[0][0]
        return {"hint": hint, "hint_text": HINTS[hint]}


def _jpeg(frame: Any) -> bytes:
    from rig.photo.look import encode_jpeg

    width = min(JPEG_WIDTH, frame.width)
    height = round(frame.height * width / frame.width)
    # By way of BGR: planes straight into a JPEG would change the colours of BT.709.
    return encode_jpeg(frame.to_ndarray(format="bgr24", width=width, height=height), JPEG_QUALITY)
