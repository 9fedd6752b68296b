"""A recorder that is held up on purpose: what its buffers keep, what is lost beyond, how the recording goes on."""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol
from unittest.mock import patch

import numpy as np

from configs import Settings
from measure.report import Bar
from rig.arrays import Float64, Int64
from rig.camera.opengopro import GoPro
from rig.camera.streamcapture import StreamCapture
from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import DeviceError
from rig.footage.tail import Line, Tail
from rig.footage.transport import PTS_HZ, pts_after
from rig.workers import Link, Worker

What = Literal["program", "disk"]

ANSWER_S = 30.0  # to begin, and more than a stall takes
POLL_S = 0.02
NUDGE_S = 2.5  # a GoPro sleeps when it hears nothing
KEPT_PACE_S = 0.3  # as old as the newest picture on disk is while nothing holds up the recorder, and a bit
LONGEST_RECOVERY_S = 60.0
STEP = 1.5  # of a picture's time: a longer one between two pictures lacks some
CALM_S = 3.0  # before and after a stall: how the pictures come then


class Recorder(Protocol):
    """What runs in the process that is held up."""

    @property
    def lost_datagrams(self) -> int:
        """Since it began."""


Opening = Callable[[Path, Settings], AbstractContextManager[Recorder]]  # runs in that process: it must be picklable


@contextmanager
def open_camera(address: str, folder: Path, settings: Settings) -> Iterator[StreamCapture]:
    """A camera's stream into a folder, as the product records it. Raises DeviceError when nothing comes."""
    with closing(GoPro(address)) as camera:
        capture = StreamCapture(camera, camera.identify()[1], folder, settings)
        capture.start()
        try:
            yield capture
        finally:
            capture.halt()
            capture.dismiss()


@dataclass(frozen=True, slots=True)
class Hold:
    """What held up whom and when (CLOCK_MONOTONIC), and what that cost."""

    what: What
    begin_ns: int
    end_ns: int
    in_hand_bytes: int  # out of the queue and given to the disk, which did not answer
    lost_datagrams: int
    recovered_s: float  # from its end until the newest picture on disk was as young as before

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end_ns - self.begin_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Age:
    """How old the newest picture on disk was at an instant."""

    at_ns: int
    seconds: float


class HeldRecorder:
    """A recorder in a process of its own that can be held up, seen from outside. A context manager ends it.

    `nudge` is called every few seconds, for whatever keeps the sender awake.
    """

    def __init__(self, opening: Opening, folder: Path, settings: Settings, nudge: Callable[[], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lines: list[Line] = []
        self.ages: list[Age] = []
        self._folder, self._nudge = folder, nudge
        self._tail = Tail(folder)
        self._nudged_s = 0.0
        self._worker = Worker("recorder", _live, opening, folder, settings)
        self._asking = ThreadPoolExecutor(1)

    def __enter__(self) -> "HeldRecorder":
        self._worker.start()
        self._ask("lost", 0.0)  # is answered when the recorder runs
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop(ANSWER_S)
        self._asking.shutdown()
        self.lines += self._tail.poll()

    def watch(self, seconds: float) -> None:
        """Let it record in peace."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()

    def hold(self, what: What, seconds: float) -> Hold:
        """Hold up the whole program or its disk, and wait until the recording keeps pace again.

        Raises DeviceError, also when it does not: then the camera has ended, and what was lost is not the stall's.
        """
        lost = self.lost()
        begin_ns, end_ns, in_hand_bytes = self._ask(what, seconds)
        deadline_ns = end_ns + round(LONGEST_RECOVERY_S * NS_PER_S)
        while self._look() > KEPT_PACE_S:
            if time.monotonic_ns() > deadline_ns:
                why = f"no picture has come for {LONGEST_RECOVERY_S:.0f} s after a stall"
                raise DeviceError(why, cure="look at the camera and its cable")
        recovered_s = (time.monotonic_ns() - end_ns) / NS_PER_S
        self.watch(CALM_S)
        return Hold(what, begin_ns, end_ns, in_hand_bytes, self.lost() - lost, recovered_s)

    def lost(self) -> int:
        """Datagrams up to now."""
        lost: int = self._ask("lost", 0.0)
        return lost

    def bytes_per_s(self) -> float:
        """The stream's pace, by the pictures on disk that follow each other without a loss. Raises DeviceError."""
        steps = np.diff(ticks_of(self.lines)) if len(self.lines) > 1 else np.zeros(0, dtype=np.int64)
        whole = steps == np.median(steps) if len(steps) else np.zeros(0, dtype=np.bool_)
        whole &= np.array([line.errors == 0 for line in self.lines[1:]], dtype=np.bool_)
        if not whole.any():
            raise DeviceError("no pictures come", cure="look at the camera")
        return float(np.diff(positions_of(self.lines))[whole].sum() * PTS_HZ / steps[whole].sum())

    def _ask(self, what: str, seconds: float) -> Any:
        """Have it do something, and go on looking meanwhile. Raises what ended it, or DeviceError."""
        answer = self._asking.submit(self._worker.ask, _Order(what, seconds), seconds + ANSWER_S)
        while not answer.done():
            self._look()
        try:
            return answer.result()
        except DeviceError as error:
            self._worker.join(0.0)
            why = "the recorder hangs" if self._worker.alive else "the recorder has ended by itself"
            raise self._worker.error or DeviceError(why, cure="look at the camera, try again") from error

    def _look(self) -> float:
        """Read what has come on disk; how old its newest picture is, in seconds."""
        if time.monotonic() - self._nudged_s > NUDGE_S:
            self._nudged_s = time.monotonic()
            self._nudge()
        self.lines += self._tail.poll()
        now_ns = time.monotonic_ns()
        newest_ns = self.lines[-1].arrival_monotonic_ns if self.lines else now_ns
        self.ages.append(Age(now_ns, (now_ns - newest_ns) / NS_PER_S))
        time.sleep(POLL_S)
        return self.ages[-1].seconds


@dataclass(frozen=True, slots=True)
class _Order:
    what: str  # to be held up; or lost: say what was
    seconds: float


def _live(link: Link, opening: Opening, folder: Path, settings: Settings) -> None:
    """The work of the process that is held up."""
    with opening(folder, settings) as recorder:
        link.serve(
            {_Order: lambda order: recorder.lost_datagrams if order.what == "lost" else _hold(order)}, lambda: None
        )


def _hold(order: _Order) -> tuple[int, int, int]:
    waiting: list[int] = []
    begin_ns = time.monotonic_ns()
    if order.what == "program":
        # PyDLL keeps the interpreter's lock: no thread of this process runs, and it comes back by itself.
        ctypes.PyDLL(None).usleep(ctypes.c_uint(round(order.seconds * 1e6)))
    else:
        answers = threading.Event()
        with patch.object(os, "write", partial(_write_late, answers, waiting, os.write)):
            time.sleep(order.seconds)
            answers.set()
    return begin_ns, time.monotonic_ns(), waiting[0] if waiting else 0


def _write_late(
    answers: threading.Event, waiting: list[int], write: Callable[[int, Any], int], descriptor: int, data: Any
) -> int:
    waiting.append(len(data))
    answers.wait()
    return write(descriptor, data)


# --- what the index says of it ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loss:
    """What a stall cost: the buffers' room until the first datagram was lost, and what the recording lacks."""

    held_s: Bar  # at the stream's pace
    held_bytes: Bar
    missing_s: float  # from the last whole picture to the next key picture


def loss_of(lines: Sequence[Line], hold: Hold) -> Loss | None:
    """From a recording's index; None when nothing seems to be missing from a stall on."""
    hurt = _hurt(lines, hold)
    if hurt is None:
        return None
    first, surely = hurt
    arrival, ticks, position, period = arrivals_of(lines), ticks_of(lines), positions_of(lines), period_s(lines)
    largest = float(np.diff(position).max())
    before, last = max(0, first - 1), max(0, surely - 1)
    is_near = arrival[surely] - arrival[last] < STEP * period * NS_PER_S
    after = surely + 1 if is_near and surely + 1 < len(lines) else surely
    whole = next((number for number in range(surely + 1, len(lines)) if lines[number].key), len(lines) - 1)
    # The datagram was one of the picture before, of the line's own where that came next, or the first of the next.
    # A picture may have lain unread when the stall began. What was in hand, from before or since, was in no buffer.
    since = max(0, int(np.searchsorted(arrival, hold.begin_ns)) - 1)
    least_s, most_s = (float(ticks[number] - ticks[since]) / PTS_HZ for number in (before, last))  # pictures' own time
    in_hand_s = least_s * hold.in_hand_bytes / max(1.0, float(position[before] - position[since]))
    begin = float(np.interp(hold.begin_ns, arrival, position))
    return Loss(
        held_s=_between(least_s - period - in_hand_s, most_s + 2 * period),
        held_bytes=_between(position[before] - begin - largest - hold.in_hand_bytes, position[after] - begin + largest),
        missing_s=float(ticks[whole] - ticks[last]) / PTS_HZ,
    )


def _hurt(lines: Sequence[Line], hold: Hold) -> tuple[int, int] | None:
    """The lines, from a stall on, at which the first loss may be seen and at which it is surely seen.

    A break of continuity is a loss. Missing pictures may be one, of 16 packets or a multiple of that, which leaves the
    counters right; or the camera left them out.
    """
    arrival = arrivals_of(lines)
    breaks = np.array([line.errors > 0 for line in lines])
    skips = np.diff(ticks_of(lines), prepend=0) > STEP * period_s(lines) * PTS_HZ
    around = (arrival > hold.begin_ns) & (arrival < hold.end_ns + CALM_S * NS_PER_S)
    seen, broken = np.flatnonzero(around & (breaks | skips)), np.flatnonzero(around & breaks)
    if not len(seen):
        return None
    return int(seen[0]), int(broken[0] if len(broken) else seen[0])


def shift_ms(lines: Sequence[Line], hold: Hold) -> float:
    """How much later the pictures from a stall on came, by the kernel's stamps, than those before it."""
    arrival = arrivals_of(lines)
    delay = arrival - ticks_of(lines) * NS_PER_S // PTS_HZ
    before = (arrival > hold.begin_ns - CALM_S * NS_PER_S) & (arrival <= hold.begin_ns)
    since = (arrival > hold.begin_ns) & (arrival < hold.end_ns + CALM_S * NS_PER_S)
    if not before.any() or not since.any():
        return float("nan")
    return float(np.median(delay[since]) - np.median(delay[before])) / NS_PER_MS


def arrivals_of(lines: Sequence[Line]) -> Int64:
    """When the pictures came, CLOCK_MONOTONIC."""
    return np.array([line.arrival_monotonic_ns for line in lines], dtype=np.int64)


def ticks_of(lines: Sequence[Line]) -> Int64:
    """The pictures' own time from the first one on, in ticks of 90 kHz."""
    return np.array([pts_after(line.pts_90khz, lines[0].pts_90khz) for line in lines], dtype=np.int64)


def period_s(lines: Sequence[Line]) -> float:
    """From picture to picture."""
    return float(np.median(np.diff(ticks_of(lines)))) / PTS_HZ


def positions_of(lines: Sequence[Line]) -> Float64:
    """Where each picture begins, in bytes since the recorder began, over all segments."""
    begins: dict[Path, int] = {}
    total = 0
    for segment in dict.fromkeys(line.segment for line in lines):
        begins[segment] = total
        total += segment.stat().st_size
    return np.array([begins[line.segment] + line.offset for line in lines], dtype=np.float64)


def _between(low: float, high: float) -> Bar:
    return Bar(float(low + high) / 2, float(high - low) / 2)
