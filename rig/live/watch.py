"""Looks at a stream while it is recorded, in a process of its own: a picture of now, and what the time code says.

It reads what the recorder has put on disk, so that nothing it does, not even its death, touches the recording.
"""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import Settings
from rig.clock import NS_PER_S, UtcClock
from rig.errors import EdencarError
from rig.footage.decoding import Decoder, PtsClock
from rig.footage.tail import Line, Tail
from rig.workers import Link

# The server imports this module for what it asks and hears; what decodes is imported in the process that decodes.
if TYPE_CHECKING:
    from rig.live.livefilm import LiveFilm

OFF, SEARCHING, READING, DONE = "off", "searching", "reading", "done"

NICENESS = 10  # a recording goes first
REPORT_S = 0.25
POLL_S = 0.01
LATE_NS = NS_PER_S  # further behind it goes on from the newest key frame
JPEG_WIDTH, JPEG_QUALITY = 960, 75
JUDGE_S = 0.5  # between two looks at what the codes say; each takes some 10 ms


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
        self._film: LiveFilm | None = None
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
        self._film = self._new_film() if self._asked.codes else None
        self._judge_due_s = 0.0

    def _new_film(self) -> "LiveFilm":
        from rig.live.livefilm import LiveFilm

        return LiveFilm(self._settings)

    def _take(self, lines: list[Line]) -> None:
        for line in lines:
            if self._clock.take(line):  # the stream was started anew
                self._pending.clear()
                self._film = self._new_film() if self._film else None
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
            from rig.footage import pixels

            self._film.look(self._clock.ns(line.pts_90khz), line.arrival_monotonic_ns, pixels.luma(frame))

    def _judge(self) -> None:
        if time.monotonic() < self._judge_due_s:
            return
        self._judge_due_s = time.monotonic() + JUDGE_S
        known = {} if self._film is None else self._film.judge(self._asked)
        self.sight = Sight(pictures=self._pictures, skipped=self._skipped, **known)


def _jpeg(frame: Any) -> bytes:
    from rig.photo.look import encode_jpeg

    width = min(JPEG_WIDTH, frame.width)
    height = round(frame.height * width / frame.width)
    # By way of BGR: planes straight into a JPEG would change the colours of BT.709.
    return encode_jpeg(frame.to_ndarray(format="bgr24", width=width, height=height), JPEG_QUALITY)
