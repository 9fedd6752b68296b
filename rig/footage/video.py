"""Videos as a camera leaves them: chapters and segments on one clock, each frame with its exact PTS.

Time is always `pts x time_base` of the file, never frame number over frame rate: that is up to 1.3 s wrong after a gap.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import numpy as np

from rig.arrays import Int64, Mask
from rig.clock import NS_PER_S
from rig.errors import UnreadableError
from rig.footage import losses
from rig.footage.tail import read_index
from rig.footage.transport import PTS_HZ, PTS_WRAP
from rig.gnss.gpmftree import read_box

PTS_WRAP_NS = PTS_WRAP * NS_PER_S // PTS_HZ  # 26.5 h
SAME_CLOCK_NS = NS_PER_S  # PTS and arrival go on together within this as long as the camera's clock was not reset
LONGEST_GAP_NS = 3600 * NS_PER_S  # without arrivals a PTS that goes on is a gap: cameras start anew near zero
VIDEO_SUFFIXES = {".mp4", ".ts", ".mov", ".mkv", ".360"}
STREAM_SUFFIX = ".ts"
CUT_SHORT = "it is cut short: its header promises more pictures"
SET_BACK = "its clock starts anew within it: only what comes before is used, cut it there to use the rest"

_CHAPTER = re.compile(r"(G[A-Z])(\d\d|PR)(\d{4})\.(?:MP4|360)", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clip:
    """One file: the PTS of its pictures in the order of showing, and on its video's clock."""

    path: Path
    time_base: Fraction
    pts: Int64  # ticks, ascending
    packet_pts: Int64  # ticks, in the order of decoding, also of pictures that an edit list hides
    packet_key: Mask
    end_ns: int  # where the next picture would stand
    clock_offset_ns: int = 0  # clock of the video minus PTS of the file
    damaged: frozenset[int] = frozenset()  # numbers of pictures between a loss and the next whole key frame
    doubt: str = ""  # why it holds fewer pictures than it might
    picture_bytes: int = 0  # of a picture as it is decoded

    @property
    def pts_ns(self) -> Int64:
        """PTS of the pictures as the file has them."""
        return _in_ns(self.pts, self.time_base)

    @property
    def clock_ns(self) -> Int64:
        """PTS of the pictures on the clock that all clips of the video share."""
        return self.pts_ns + self.clock_offset_ns

    @property
    def keys(self) -> Int64:
        """Numbers of the pictures that are decoded without any other."""
        return np.flatnonzero(np.isin(self.pts, self.packet_pts[self.packet_key]))


@dataclass(frozen=True, slots=True)
class Index:
    """What the recorder noted of a segment's pictures, in the order of their arrival; see rig/footage/segments.py."""

    pts: Int64  # ticks of 90 kHz
    arrival_ns: Int64  # CLOCK_MONOTONIC
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


def _warn(error: UnreadableError) -> None:
    log.warning("%s", error)


def find_videos(
    paths: Sequence[Path], camera: str | None = None, tell: Callable[[UnreadableError], None] = _warn
) -> list[Video]:
    """The videos in files that lie anywhere, chapters and segments joined; files that cannot be read are told of.

    `camera` is their name; without one each is named like its first file. Raises UnreadableError when none is left.
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
        join = _join_segments if _is_stream(group[0]) else _join_chapters
        videos += [Video(camera or "", tuple(run), arrival) for run, arrival in join(clips)]
    if not videos:
        raise errors[0] if errors else UnreadableError("no video was named", cure="name a file or a recording's folder")
    for unreadable in errors:
        tell(unreadable)
    return videos if camera else _named(videos)


def _named(videos: Sequence[Video]) -> list[Video]:
    """Videos called like their first files, the folder in front where others are called the same."""
    names = [item.clips[0].path.stem for item in videos]
    longer = [f"{item.clips[0].path.resolve().parent.name}-{name}" for item, name in zip(videos, names, strict=True)]
    unique = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    return [
        replace(item, camera=name if unique.count(name) == 1 else f"{name}-{number}")
        for number, (item, name) in enumerate(zip(videos, unique, strict=True), start=1)
    ]


def videos_of(folder: Path, tell: Callable[[UnreadableError], None] = _warn) -> list[Video]:
    """The videos of a recording's folder, or of any other. Raises UnreadableError when there are none."""
    root = folder / "videos" if (folder / "videos").is_dir() else folder
    cameras = [path for path in sorted(root.iterdir()) if path.is_dir()] if root != folder else [folder]
    videos: list[Video] = []
    errors: list[UnreadableError] = []
    for camera in cameras:
        files = [path for path in sorted(camera.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES]
        try:
            videos += find_videos(files, camera.resolve().name, tell) if files else []
        except UnreadableError as error:  # other cameras' may be read
            errors.append(error)
    if not videos:
        cure = "name a recording's folder or video files"
        raise errors[0] if errors else UnreadableError(f"{folder} holds no videos", cure=cure)
    for unreadable in errors:
        tell(unreadable)
    return videos


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A video file and its first stream of pictures. Raises UnreadableError."""
    try:
        container = av.open(str(path))
    except FileNotFoundError as error:
        raise UnreadableError(f"{path} does not exist", cure="check the name") from error
    except PermissionError as error:
        raise UnreadableError(f"{path} may not be read", cure="change its permissions") from error
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path) from error
    with container:
        if not container.streams.video:
            raise UnreadableError(f"{path} holds no video", cure="choose another file")
        yield container, container.streams.video[0]


def scan(path: Path) -> Clip:
    """The table of a file's pictures, without decoding. Raises UnreadableError when there are none."""
    rows: list[tuple[int, ...]] = []
    with opened(path) as (container, stream):
        time_base = stream.time_base or Fraction(1, PTS_HZ)
        with suppress(av.error.FFmpegError):  # the end of a file that was cut short, after all that can be read
            for packet in container.demux(stream):
                if packet.pts is not None:
                    marks = packet.is_keyframe, packet.is_discard, packet.is_corrupt
                    rows.append((packet.pts, packet.pts + (packet.duration or 0), packet.pos or 0, *marks))
        promised, pid, picture_bytes = stream.frames, stream.id, _picture_bytes(stream)
        promised_end = (stream.start_time or 0) + (stream.duration or 0)
    packets, doubt = _until_restart(np.array(rows, dtype=np.int64).reshape(-1, 6))
    pts, end, key = packets[:, 0], int(packets[:, 1].max(initial=0)), packets[:, 3] > 0
    shown = np.unique(pts[packets[:, 4] == 0])
    if not len(shown):
        raise UnreadableError(f"{path} holds no pictures", cure="choose another file")
    if not _is_stream(path):
        end = max(end, promised_end)  # the next chapter begins there, also when this one lost its end
    hit = _hit(path, pid, packets)
    damaged = np.flatnonzero(np.isin(shown, pts[losses.spoilt(pts, key, hit)])).tolist()
    return Clip(
        path=path,
        time_base=time_base,
        pts=shown,
        packet_pts=pts,
        packet_key=key,
        end_ns=int(_in_ns(np.array([end]), time_base)[0]),
        damaged=frozenset(damaged),
        doubt=CUT_SHORT if len(rows) < promised else doubt,
        picture_bytes=picture_bytes,
    )


def _hit(path: Path, pid: int, packets: Int64) -> Mask:
    """Which packets lack something; in a stream FFmpeg's own marks are one picture off."""
    if _is_stream(path):
        noted = [line.pts_90khz for line in read_index(path)[0] if line.errors]
        return losses.hit_pictures(path, pid, packets[:, 2]) | np.isin(packets[:, 0] % PTS_WRAP, noted)
    return packets[:, 5] > 0


def _until_restart(packets: Int64) -> tuple[Int64, str]:
    """The packets before a camera's clock was set back, and a word about the others."""
    keys = np.flatnonzero(packets[:, 3])
    back = keys[1:][np.diff(packets[keys, 0]) < 0]
    return (packets[: back[0]], SET_BACK) if len(back) else (packets, "")


def index_of(clip: Clip) -> Index | None:
    """What the recorder noted of a segment, its PTS as the clip has them. None where there is no index of ours."""
    rows = [(line.pts_90khz, line.arrival_monotonic_ns, line.errors) for line in read_index(clip.path)[0]]
    if not rows:
        return None
    pts, arrival_ns, errors = np.array(rows, dtype=np.int64).T
    begin = int(clip.pts[0])
    return Index(begin + (pts - begin + PTS_WRAP // 2) % PTS_WRAP - PTS_WRAP // 2, arrival_ns, errors)


# --- one file ---------------------------------------------------------------------------------------------------------


def _is_stream(path: Path) -> bool:
    return path.suffix.lower() == STREAM_SUFFIX


def _in_ns(ticks: Int64, time_base: Fraction) -> Int64:
    return np.asarray(ticks * NS_PER_S * time_base.numerator // time_base.denominator, dtype=np.int64)


def _unreadable(path: Path) -> UnreadableError:
    """Why a file that is there cannot be opened."""
    if path.is_dir():
        return UnreadableError(f"{path} is a folder", cure="choose another file")
    try:
        with path.open("rb") as file:
            head = file.read(8)
            lacks_index = head[4:] == b"ftyp" and not read_box(file, ["moov"])  # cameras write it last
    except OSError as error:
        return UnreadableError(f"{path} cannot be read ({error.strerror})", cure="choose another file")
    if lacks_index:
        cure = "copy it anew, or let the camera repair it on its card"
        return UnreadableError(f"{path} was cut off before its index, without which no MP4 can be read", cure=cure)
    what = "is not a video that can be read" if head else "is empty"
    return UnreadableError(f"{path} {what}", cure="choose another file")


def _picture_bytes(stream: av.VideoStream) -> int:
    form = stream.codec_context.format
    deep = form is not None and form.components[0].bits > 8
    return stream.width * stream.height * 3 // 2 * (1 + deep)


# --- several files ----------------------------------------------------------------------------------------------------


def _groups(paths: Sequence[Path]) -> list[list[Path]]:
    """Files that belong together: chapters of one number, segments of one stream; others alone."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted({path.resolve(): path for path in paths}.values(), key=lambda path: (len(path.name), path)):
        chapter = _chapter(path)
        key = chapter[0] if chapter else STREAM_SUFFIX if _is_stream(path) else path.name
        groups.setdefault((path.parent, key), []).append(path)
    return list(groups.values())


def _chapter(path: Path) -> tuple[str, int] | None:
    """Of a GoPro's file what its chapters have in common, and which it is: GX010007, GX020007; GOPR0007, GP010007."""
    match = _CHAPTER.fullmatch(path.name)
    if match is None:
        return None
    prefix, number, name = match.groups()
    return ("GP" + name, 0) if number.upper() == "PR" else (prefix.upper() + name, int(number))


def _join_chapters(clips: Sequence[Clip]) -> Iterator[tuple[list[Clip], None]]:
    """Each chapter counts from zero again, without a gap; after one that is missing nobody knows when it began."""
    run: list[Clip] = []
    for clip in clips:
        before, this = (_chapter(item.path) for item in (run[-1] if run else clip, clip))
        if run and before and this and this[1] != before[1] + 1:
            log.warning("%s: the chapter before it is missing; it is taken for a video of its own", clip.path)
            yield run, None
            run = []
        begin = run[-1].end_ns + run[-1].clock_offset_ns if run else int(clip.pts_ns[0])
        run.append(replace(clip, clock_offset_ns=begin - int(clip.pts_ns[0])))
    if run:
        yield run, None


def _join_segments(clips: Sequence[Clip]) -> Iterator[tuple[list[Clip], int | None]]:
    """Segments share the camera's clock until the stream was started anew, which resets it; with their arrival."""
    run: list[Clip] = []
    arrivals = [_arrival_offset_ns(clip) for clip in clips]
    first = 0
    for place, clip in enumerate(clips):
        if run and not _same_clock(run[-1], arrivals[place - 1], clip, arrivals[place]):
            yield run, arrivals[first]
            run, first = [], place
        wraps = round((int(run[-1].clock_ns[-1]) - int(clip.pts_ns[0])) / PTS_WRAP_NS) if run else 0
        run.append(replace(clip, clock_offset_ns=wraps * PTS_WRAP_NS))
    if run:
        yield run, arrivals[first]


def _same_clock(before: Clip, arrival: int | None, clip: Clip, next_arrival: int | None) -> bool:
    if arrival is not None and next_arrival is not None:
        step_ns, gap_ns = next_arrival - arrival, SAME_CLOCK_NS
    else:
        step_ns, gap_ns = int(clip.pts_ns[0]) - before.end_ns, LONGEST_GAP_NS
    return step_ns % PTS_WRAP_NS < gap_ns or -step_ns % PTS_WRAP_NS < SAME_CLOCK_NS


def _arrival_offset_ns(clip: Clip) -> int | None:
    """Arrival minus PTS of the fastest pictures of a segment, from the index beside it; None without one."""
    index = index_of(clip)
    return None if index is None else int((index.arrival_ns - index.pts * NS_PER_S // PTS_HZ).min())
