"""The pictures of a video that show the time code: what they say, and how the code's modules look in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rig.arrays import Float32, Int64, Luma, Mask
from rig.clock import NS_PER_S
from rig.footage import pixels
from rig.footage.video import Clip, Video
from rig.timing import vernier
from rig.timing.interval import Observation
from rig.timing.qrtime import CodeReader, Reading, TimeCode, crop_around
from rig.timing.vernier import Sighting

Window = tuple[int, int]  # from and until, on the video's clock in ns

SEARCH_EVERY = 3  # frames, until a code is found; at 25 fps and 60 Hz each 5th is in the same phase, perhaps mixed
MAX_UNREAD = 15  # pictures in a row that may still be placed between two that were read
KEYS_APART_NS = 5 * NS_PER_S // 2  # of key frames that are looked at; a film of the code lasts 3 s
AROUND_KEY_NS = 10 * NS_PER_S  # searched on either side of a key frame that shows a code


@dataclass(slots=True)
class CodeFilm:
    """What was read, and the pictures for the vernier, in the order of showing."""

    observations: list[Observation] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)


def read_windows(item: Video, windows: Sequence[Window], done: Sequence[Window] = ()) -> CodeFilm:
    """All time codes in some parts of a video; every picture of them is looked at while a code is in sight.

    What lies in the parts that are `done` was read before: a picture read twice would count twice.
    """
    film = CodeFilm()
    follower = _Follower(film)
    for number, clock_ns, luma in pictures(item, windows, done):
        if follower.following or number % SEARCH_EVERY == 0:
            follower.look(clock_ns, luma)
    return film


def pictures(item: Video, windows: Sequence[Window], done: Sequence[Window] = ()) -> Iterator[tuple[int, int, Luma]]:
    """The pictures in some parts of a video, less those that are done: number in the clip, the video's clock, light."""
    for clip in item.clips:
        clock_ns = clip.clock_ns
        numbers = np.flatnonzero(_inside(clock_ns, windows) & ~_inside(clock_ns, done)).tolist()
        for number, picture in pixels.pictures(clip, numbers):
            yield number, int(clock_ns[number]), pixels.luma(picture)


def read_key_frames(item: Video) -> list[Window]:
    """Where in the video a code is in sight, from its key frames alone: seven times less to decode."""
    windows: list[Window] = []
    reader = CodeReader()
    for clip in item.clips:
        for number, picture in pixels.pictures(clip, _key_frames(clip)):
            if reader.read_all(pixels.luma(picture)):
                instant = int(clip.clock_ns[number])
                windows.append((instant - AROUND_KEY_NS, instant + AROUND_KEY_NS))
    return windows


def _key_frames(clip: Clip) -> list[int]:
    """Key frames that are so far apart that no film of the code lies between two of them."""
    numbers = np.searchsorted(clip.pts, np.unique(clip.packet_pts[clip.packet_key]))
    _, first = np.unique(clip.pts_ns[numbers] // KEYS_APART_NS, return_index=True)
    return [int(number) for number in numbers[first]]


def _inside(clock_ns: Int64, windows: Sequence[Window]) -> Mask:
    inside = np.zeros(len(clock_ns), dtype=np.bool_)
    for begin, end in windows:
        inside |= (clock_ns >= begin) & (clock_ns <= end)
    return inside


class _Follower:
    """Reads picture after picture; one that could not be read is placed by its neighbours once the next one is read."""

    def __init__(self, film: CodeFilm) -> None:
        self._film = film
        self._reader = CodeReader()
        self._last: dict[int, tuple[int, Reading]] = {}
        self._unread: dict[int, list[tuple[int, Luma, tuple[int, int]]]] = {}  # PTS, crop and its corner, by screen

    @property
    def following(self) -> bool:
        return self._reader.following

    def look(self, pts_ns: int, luma: Luma) -> None:
        readings = self._reader.read_all(luma)
        for reading in readings:
            row = reading.centre[1] / luma.shape[0]
            self._film.observations.append(Observation(pts_ns, reading.code, row, reading.screen))
            if reading.mask is not None:
                self._place_unread(pts_ns, reading, luma.shape[0])
                self._keep(pts_ns, reading.code, reading, row, vernier.light_of(luma, reading.corners))
                self._last[reading.screen] = (pts_ns, reading)
        for screen in self._last.keys() - {reading.screen for reading in readings}:
            self._remember(screen, pts_ns, luma)

    def _keep(self, pts_ns: int, code: TimeCode | None, reading: Reading, row: float, light: Float32 | None) -> None:
        """Note a picture in which `code` was read; mask and screen are those of `reading`, its own or the next one."""
        if light is not None and reading.mask is not None:
            self._film.sightings.append(Sighting(pts_ns, code, reading.mask, light, row, reading.screen))

    def _remember(self, screen: int, pts_ns: int, luma: Luma) -> None:
        waiting = self._unread.setdefault(screen, [])
        if len(waiting) == MAX_UNREAD:
            del self._last[screen], self._unread[screen]
            return
        waiting.append((pts_ns, *crop_around(luma, self._last[screen][1].corners)))

    def _place_unread(self, pts_ns: int, reading: Reading, height: int) -> None:
        for unread_ns, crop, corner in self._unread.pop(reading.screen, []):
            before_ns, before = self._last[reading.screen]
            share = (unread_ns - before_ns) / (pts_ns - before_ns)
            corners = (1 - share) * np.array(before.corners) + share * np.array(reading.corners)
            row = float(corners[:, 1].mean()) / height
            self._keep(unread_ns, None, reading, row, vernier.light_of(crop, corners - corner))
