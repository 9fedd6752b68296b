"""Videos as a camera leaves them: chapters and segments on one clock, each frame with its exact PTS.

Time is always `pts x time_base` of the file, never frame number over frame rate: that is up to 1.3 s wrong after a gap.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.container
import av.error
import numpy as np
import numpy.typing as npt
import pandas as pd

from rig.errors import UnreadableError

Int64 = npt.NDArray[np.int64]
Luma = npt.NDArray[np.uint8]

SECOND_NS = 1_000_000_000
MPEG_TS_CLOCK_HZ = 90_000
PTS_WRAP = 2**33  # ticks; the 33 bits of an MPEG-TS PTS last 26.5 h
PTS_WRAP_NS = PTS_WRAP * SECOND_NS // MPEG_TS_CLOCK_HZ
INDEX_COLUMNS = ("pts_90khz", "arrival_monotonic_ns", "key", "continuity_errors")
SAME_CLOCK_NS = SECOND_NS  # PTS and arrival go on together within this as long as the camera's clock was not reset
VIDEO_SUFFIXES = {".mp4", ".ts", ".mov", ".mkv", ".360"}
STREAM_SUFFIX = ".ts"

_CHAPTER = re.compile(r"G[A-Z](\d\d)(\d{4})\.MP4", re.IGNORECASE)
_EIGHT_BIT_LUMA = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clip:
    """One file: the PTS of its pictures in the order of showing, and on its video's clock."""

    path: Path
    time_base: Fraction
    pts: Int64  # ticks, ascending
    packet_pts: Int64  # ticks, in the order of decoding
    packet_key: npt.NDArray[np.bool_]
    end_ns: int  # where the next picture would stand
    clock_offset_ns: int = 0  # clock of the video minus PTS of the file
    damaged: frozenset[int] = frozenset()  # numbers of pictures between a loss and the next whole key frame

    @property
    def pts_ns(self) -> Int64:
        """PTS of the pictures as the file has them."""
        return np.asarray(self.pts * SECOND_NS * self.time_base.numerator // self.time_base.denominator, dtype=np.int64)

    @property
    def clock_ns(self) -> Int64:
        """PTS of the pictures on the clock that all clips of the video share."""
        return self.pts_ns + self.clock_offset_ns


@dataclass(frozen=True, slots=True)
class Index:
    """What the recorder noted of a segment's pictures, in the order of their arrival; see rig/stream.py."""

    pts: Int64  # ticks of 90 kHz
    arrival_ns: Int64  # CLOCK_MONOTONIC
    key: npt.NDArray[np.bool_]
    continuity_errors: Int64


@dataclass(frozen=True, slots=True)
class Video:
    """Clips of one camera on one clock: chapters of a file, or segments of a stream that was not interrupted."""

    camera: str
    clips: tuple[Clip, ...]
    arrival_offset_ns: int | None = None  # CLOCK_MONOTONIC of arrival minus PTS, the fastest pictures; streams only

    @property
    def first_ns(self) -> int:
        """The first picture on the video's clock."""
        return int(self.clips[0].clock_ns[0])

    @property
    def last_ns(self) -> int:
        """The last picture on the video's clock."""
        return int(self.clips[-1].clock_ns[-1])

    @property
    def name(self) -> str:
        """The file name of the first clip."""
        return self.clips[0].path.name


def scan(path: Path) -> Clip:
    """The table of a file's pictures, without decoding. Raises UnreadableError when there are none."""
    pts: list[int] = []
    keys: list[bool] = []
    end = 0
    with _opened(path) as container:
        stream = _video_stream(container, path)
        time_base = stream.time_base or Fraction(1, MPEG_TS_CLOCK_HZ)
        # A file that was cut short ends in an error, after all that can be read.
        with suppress(av.error.FFmpegError):
            for packet in container.demux(stream):
                if packet.pts is None or packet.is_discard:
                    continue
                pts.append(packet.pts)
                keys.append(packet.is_keyframe)
                end = max(end, packet.pts + (packet.duration or 0))
    if not pts:
        raise UnreadableError(f"{path} holds no pictures", cure="choose another file")
    end_ns = end * SECOND_NS * time_base.numerator // time_base.denominator
    shown = np.unique(pts)
    damaged = _damaged(shown, read_index(path) if path.suffix.lower() == STREAM_SUFFIX else None)
    return Clip(path, time_base, shown, np.array(pts, dtype=np.int64), np.array(keys), end_ns, damaged=damaged)


def find_videos(paths: Sequence[Path], camera: str | None = None) -> list[Video]:
    """The videos in files that lie anywhere, chapters and segments joined; `camera` is their name, else the file's.

    Files that cannot be read are left out with a warning. Raises UnreadableError when none is left.
    """
    videos: list[Video] = []
    errors: list[UnreadableError] = []
    for group in _groups(paths):
        clips = []
        for path in group:
            try:
                clips.append(scan(path))
            except UnreadableError as error:
                errors.append(error)
        if clips:
            videos += _join(camera or group[0].stem, clips)
    if not videos:
        raise errors[0] if errors else UnreadableError("no video was named", cure="name a file or a recording's folder")
    for unreadable in errors:
        log.warning("%s", unreadable)
    return videos


def pictures(clip: Clip, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode the pictures with these numbers (ascending), and no more of each group than they need."""
    needed = _needed_packets(clip, wanted)
    asked = set(wanted)
    with _opened(clip.path) as container:
        stream = _video_stream(container, clip.path)
        stream.thread_type = "AUTO"
        decoder = stream.codec_context
        fed = False
        packets = (packet for packet in container.demux(stream) if packet.pts is not None and not packet.is_discard)
        for packet, need in zip(packets, needed, strict=False):
            if need:
                yield from _asked(clip, asked, _decode(decoder, packet))
            elif fed:
                yield from _asked(clip, asked, _decode(decoder, None))
                decoder.flush_buffers()
            fed = need
        if fed:
            yield from _asked(clip, asked, _decode(decoder, None))


def luma(picture: av.VideoFrame) -> Luma:
    """The brightness of a picture, rows x columns; a view where the format allows it."""
    if picture.format.name not in _EIGHT_BIT_LUMA:
        return cast(Luma, picture.to_ndarray(format="gray"))
    plane = picture.planes[0]
    rows = np.frombuffer(cast(bytes, plane), dtype=np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width]


def _opened(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path))
    except FileNotFoundError as error:
        raise UnreadableError(f"{path} does not exist", cure="check the name") from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableError(f"{path} is not a video that can be read", cure="choose another file") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise UnreadableError(f"{path} holds no video", cure="choose another file")
    return container.streams.video[0]


def _decode(decoder: av.VideoCodecContext, packet: "av.Packet[av.VideoStream] | None") -> list[av.VideoFrame]:
    try:
        return decoder.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        log.info("a packet could not be decoded: %s", error)
        return []


def _asked(clip: Clip, asked: set[int], frames: list[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
    for frame in frames:
        if frame.pts is None:
            continue
        number = int(np.searchsorted(clip.pts, frame.pts))
        if number in asked and clip.pts[number] == frame.pts:
            yield number, frame


def _needed_packets(clip: Clip, wanted: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which packets lead to the wanted pictures: each group of pictures from its key frame to the last wanted one."""
    is_wanted = np.isin(clip.packet_pts, clip.pts[np.asarray(wanted, dtype=np.int64)])
    group = np.cumsum(clip.packet_key)
    key_pts = np.zeros(group[-1] + 1, dtype=np.int64)
    key_pts[group[clip.packet_key]] = clip.packet_pts[clip.packet_key]
    leading = clip.packet_pts < np.where(group > 0, key_pts[group], clip.packet_pts)
    # A picture shown before the key frame that precedes it needs the group before as well.
    for index in np.flatnonzero(is_wanted & leading):
        is_wanted[np.flatnonzero(group == group[index] - 1)] = True
    last = np.full(group[-1] + 1, -1)
    np.maximum.at(last, group[is_wanted], np.flatnonzero(is_wanted))
    return np.asarray(np.arange(len(group)) <= last[group])


def _groups(paths: Sequence[Path]) -> list[list[Path]]:
    """Files that belong together: chapters of one number, segments of one stream; others alone."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(paths):
        chapter = _CHAPTER.fullmatch(path.name)
        if chapter:
            key = chapter[2]
        elif path.suffix.lower() == STREAM_SUFFIX:
            key = STREAM_SUFFIX
        else:
            key = path.name
        groups.setdefault((path.parent, key), []).append(path)
    return list(groups.values())


def _join(camera: str, clips: list[Clip]) -> list[Video]:
    if clips[0].path.suffix.lower() == STREAM_SUFFIX:
        return _join_segments(camera, clips)
    chapters = [clips[0]]
    for clip in clips[1:]:  # each chapter counts from zero again, without a gap
        before = chapters[-1]
        chapters.append(replace(clip, clock_offset_ns=before.end_ns + before.clock_offset_ns - int(clip.pts_ns[0])))
    return [Video(camera, tuple(chapters))]


def _join_segments(camera: str, clips: list[Clip]) -> list[Video]:
    """Segments share the camera's clock until the stream was started anew, which resets it."""
    runs: list[list[Clip]] = []
    arrivals: list[int | None] = []
    for clip in clips:
        arrival = _arrival_offset_ns(clip)
        same = runs and _same_clock(runs[-1][-1], arrivals[-1], clip, arrival)
        wraps = round((int(runs[-1][-1].clock_ns[-1]) - int(clip.pts_ns[0])) / PTS_WRAP_NS) if same else 0
        clip = replace(clip, clock_offset_ns=wraps * PTS_WRAP_NS)
        if same:
            runs[-1].append(clip)
        else:
            runs.append([clip])
            arrivals.append(arrival)
    return [Video(camera, tuple(run), arrival) for run, arrival in zip(runs, arrivals, strict=True)]


def _same_clock(before: Clip, arrival: int | None, clip: Clip, next_arrival: int | None) -> bool:
    if arrival is not None and next_arrival is not None:
        difference = (next_arrival - arrival) % PTS_WRAP_NS
        return min(difference, PTS_WRAP_NS - difference) < SAME_CLOCK_NS
    gap = (int(clip.pts_ns[0]) - before.end_ns) % PTS_WRAP_NS
    return min(gap, PTS_WRAP_NS - gap) < SAME_CLOCK_NS


def _arrival_offset_ns(clip: Clip) -> int | None:
    """Arrival minus PTS of the fastest pictures of a segment, from the index beside it; None without one."""
    index = read_index(clip.path)
    if index is None or not len(index.pts):
        return None
    return int((index.arrival_ns - index.pts * SECOND_NS // MPEG_TS_CLOCK_HZ).min())


def read_index(path: Path) -> Index | None:
    """The index beside a segment; a line that a crash cut short is left out. None where there is none of ours."""
    try:
        table = pd.read_csv(path.with_suffix(".idx"), usecols=list(INDEX_COLUMNS), on_bad_lines="skip").dropna()
        pts, arrival_ns, key, errors = (table[name].to_numpy(np.int64) for name in INDEX_COLUMNS)
    except (OSError, ValueError):
        return None
    return Index(pts, arrival_ns, key > 0, errors)


def _damaged(pts: Int64, index: Index | None) -> frozenset[int]:
    """Numbers of the pictures that something lost spoils: from a loss to the next key frame that came whole."""
    if index is None:
        return frozenset()
    spoilt, lost = set(), False
    for tick, key, errors in zip(index.pts.tolist(), index.key.tolist(), index.continuity_errors.tolist(), strict=True):
        lost = errors > 0 or (lost and not key)
        if lost:
            spoilt.add(tick)
    return frozenset(np.flatnonzero(np.isin(pts % PTS_WRAP, np.array(sorted(spoilt), dtype=np.int64))).tolist())
