"""What libraries do with the same stream when the program that reads it is held up: growing delay, then silent loss."""

import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from measure.report import Bar
from measure.stalls import KEPT_PACE_S, POLL_S, STEP, positions_of
from measure.words import Phrase, phrase
from rig.arrays import Float64
from rig.clock import NS_PER_S
from rig.footage.tail import Line
from rig.workers import Link, Worker

HOST = "127.0.0.1"
FIFO_BYTES = 28672 * 188  # FFmpeg's, unless an option says otherwise; OpenCV's is the same
GOES_ON = "?overrun_nonfatal=1"
DATAGRAM_BYTES = 7 * 188
SPREAD_S = 0.004  # how long the datagrams of a picture take
CALM_S = 3.0  # between the stalls, and before the first
CATCH_UP = 0.5  # of a pause: so long it may take to read what has come meanwhile
READY_S = 30.0
LATE_S = 10.0  # what the readers may be behind at the end
MEET_S = 1.0  # until a reader has opened its port


class Piece(NamedTuple):
    """A datagram of a recorded film and the second at which it came."""

    second: float
    data: bytes


def film_of(lines: Sequence[Line], longest_s: float) -> list[Piece]:
    """The datagrams of a recording's longest stretch without a loss, at their pace, at most so long.

    The pieces of a picture are spread over some milliseconds, as they come over USB. Empty without a key picture.
    """
    begin, end = _longest_stretch(lines)
    position = positions_of(lines)
    film: list[Piece] = []
    data: dict[Path, bytes] = {}
    for number in range(begin, end):
        line = lines[number]
        second = (line.arrival_monotonic_ns - lines[begin].arrival_monotonic_ns) / NS_PER_S
        if second > longest_s:
            break
        if line.segment not in data:
            data = {line.segment: line.segment.read_bytes()}  # one at a time
        whole = data[line.segment]
        unit = whole[line.offset : line.offset + int(position[number + 1] - position[number])]
        if number == begin:  # a segment begins with the tables
            unit = whole[: next(one.offset for one in lines if one.segment == line.segment)] + unit
        pieces = [unit[at : at + DATAGRAM_BYTES] for at in range(0, len(unit), DATAGRAM_BYTES)]
        film += [Piece(second + SPREAD_S * index / len(pieces), piece) for index, piece in enumerate(pieces)]
    return film


def _longest_stretch(lines: Sequence[Line]) -> tuple[int, int]:
    """From a key picture to before the picture that a loss may have hit; the last line's end is not known."""
    hurt = [-1, *(number for number, line in enumerate(lines) if line.errors), len(lines)]
    stretches = []
    for before, after in pairwise(hurt):
        begin = next((number for number in range(before + 1, after) if lines[number].key), after)
        stretches.append((begin, max(begin, after - 1)))
    return max(stretches, key=lambda stretch: stretch[1] - stretch[0])


Times = Iterator[float]  # seconds on the stream's own clock, each picture's as soon as it is there


def by_pyav(url: str) -> Times:
    """PyAV as its documentation shows it."""
    with av.open(url, timeout=(20, 3)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None:
                yield frame.time


def by_opencv(url: str) -> Times:
    """OpenCV as its documentation shows it."""
    options = [cv2.CAP_PROP_READ_TIMEOUT_MSEC, 3000, cv2.CAP_PROP_N_THREADS, 1]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    while capture.read()[0]:
        yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


@dataclass(frozen=True, slots=True)
class Reader:
    """A way to read a stream that others take."""

    name: str
    open: Callable[[str], Times]
    options: str


READERS = (
    Reader("OpenCV", by_opencv, ""),
    Reader("OpenCV, overrun_nonfatal", by_opencv, GOES_ON),
    Reader("PyAV", by_pyav, ""),
    Reader("PyAV, overrun_nonfatal", by_pyav, GOES_ON),
)


@dataclass(frozen=True, slots=True)
class Pause:
    """For how long the program did not ask for pictures, from which instant on (CLOCK_MONOTONIC)."""

    begin_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """What one reader saw: the pictures' own times and when it had them, both in seconds."""

    reader: str
    picture_s: Float64
    at_s: Float64
    pauses: tuple[Pause, ...]

    def late_s(self) -> Float64:
        """How much later than before the first pause each picture was there."""
        late = self.at_s - self.picture_s
        if not len(late):
            return late
        early = self.at_s < (self.pauses[0].begin_s if self.pauses else np.inf)
        return np.asarray(late - np.median(late[early] if early.any() else late))


@dataclass(frozen=True, slots=True)
class Fifo:
    """What a reader did when it was held up."""

    reader: str
    pictures: int
    missing: int  # between the first and the last that it gave
    longest_pause_s: float
    lost_after_s: float | None  # the shortest pause that cost pictures or the reader; None: none did
    held_s: Bar | None  # of the stream, from the begin of that pause to the first picture that is missing
    most_late_s: float
    has_ended: bool  # it gave up long before the stream ended


def needed_s(pauses_s: Sequence[float]) -> float:
    """How long a film must be for such pauses and the time to catch up after each."""
    return sum(pauses_s) * (1 + CATCH_UP) + CALM_S * (len(pauses_s) + 1) + LATE_S


def replay(
    film: Sequence[Piece], pauses_s: Sequence[float], readers: Sequence[Reader] = READERS
) -> tuple[list[Read], float]:
    """Send a film to all readers at once, at its pace, while each is held up for longer and longer.

    What they saw, nothing where a reader has died or hangs, and when the last datagram went (CLOCK_MONOTONIC, seconds).
    """
    ports = [_free_port() for _ in readers]
    workers = [Worker(reader.name, _read, reader, port, pauses_s) for reader, port in zip(readers, ports, strict=True)]
    try:
        for worker in workers:
            worker.start()
        deadline_s = time.monotonic() + READY_S
        while not all(worker.status for worker in workers) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        time.sleep(MEET_S)
        _send(film, ports)
        end_s = time.monotonic()
        for worker in workers:
            worker.join(LATE_S + max(pauses_s, default=0.0))
        return [worker.status or _nothing(worker.name) for worker in workers], end_s
    finally:
        for worker in workers:
            worker.stop(0.0)


def judge(read: Read, period_s: float, end_s: float) -> Fifo:
    """From what a reader saw of a stream that ended at `end_s` (CLOCK_MONOTONIC) and of which nothing was lost."""
    steps = np.diff(read.picture_s)
    lacks = steps > STEP * period_s
    missing = int(np.rint(steps[lacks] / period_s - 1).sum())
    has_ended = bool(len(read.at_s) == 0 or read.at_s[-1] < end_s - LATE_S / 2)
    broke = int(np.argmax(lacks)) if lacks.any() else len(read.at_s) - 1
    is_hurt = bool(lacks.any() or has_ended) and len(read.at_s) > 0
    # What was missing first came while the program slept, or it would have been taken out at once.
    guilty = [pause for pause in read.pauses if pause.begin_s < read.at_s[broke]] if is_hurt else []
    held = None
    if guilty:
        before = read.at_s <= guilty[-1].begin_s
        last_s = float(read.picture_s[before][-1]) if before.any() else float(read.picture_s[0])
        held = Bar(float(read.picture_s[broke]) - last_s + period_s / 2, 2 * period_s)
    late = read.late_s()
    return Fifo(
        reader=read.reader,
        pictures=len(read.at_s),
        missing=missing,
        longest_pause_s=max((pause.seconds for pause in read.pauses), default=0.0),
        lost_after_s=guilty[-1].seconds if guilty else None,
        held_s=held,
        most_late_s=float(late.max()) if len(late) else 0.0,
        has_ended=has_ended,
    )


def said(found: Fifo) -> Phrase:
    """What a reader did, in a few words."""
    if found.has_ended:
        return phrase("gave up")
    if found.missing:
        return phrase("went on, {missing} pictures missing without a word", missing=found.missing)
    return phrase("kept all")


def _read(link: Link, reader: Reader, port: int, pauses_s: Sequence[float]) -> None:
    cv2.setNumThreads(1)
    link.report(_nothing(reader.name))
    pictures: list[float] = []
    at: list[float] = []
    pauses: list[Pause] = []
    left = [*pauses_s]
    calm_since_s = soonest_s = math.inf
    try:
        for second in reader.open(f"udp://{HOST}:{port}{reader.options}"):
            now_s = time.monotonic()
            pictures.append(second)
            at.append(now_s)
            soonest_s = min(soonest_s, now_s - second)
            keeps_pace = now_s - second - soonest_s < KEPT_PACE_S
            calm_since_s = min(calm_since_s, now_s) if keeps_pace else math.inf
            if left and now_s - calm_since_s > CALM_S:
                pauses.append(Pause(now_s, left.pop(0)))
                time.sleep(pauses[-1].seconds)
    except av.error.FFmpegError:
        pass  # as OpenCV, whose read then returns False: the recording just ends
    link.report(Read(reader.name, np.array(pictures), np.array(at), tuple(pauses)))


def _nothing(reader: str) -> Read:
    return Read(reader, np.zeros(0), np.zeros(0), ())


def _send(film: Sequence[Piece], ports: Sequence[int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        start = time.monotonic()
        for piece in film:
            wait = start + piece.second - time.monotonic()
            if wait > 0.0005:
                time.sleep(wait)
            for port in ports:
                sender.sendto(piece.data, (HOST, port))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
