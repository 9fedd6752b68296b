"""Wanted frames become JPEG files with all that is known of them.

Decoders, scalers and JPEG encoders work outside Python's lock: threads are as fast as processes here, in a third of
the memory (docs/design.md).
"""

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import av
import cv2

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, iso_utc
from rig.files import sync_data
from rig.footage import pixels
from rig.footage.video import Clip, Video
from rig.gnss.positions import Track
from rig.heap import keep_freed_memory
from rig.offspring import leave
from rig.photo import look, photos
from rig.photo.locate import Camera, Rule, locate
from rig.photo.photos import Photo
from rig.photo.privacy import PrivacyError
from rig.photo.sampling import Pick
from rig.photo.tagging import finished
from rig.timing.cameraclock import CameraClock

PICKS_PER_TASK = 60  # enough to be worth the opening of a file
HELD_PICTURES = 12  # by a decoder and what follows it
MEMORY_BYTES = 320 << 20  # for those of all decoders


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How photos are made; those less sharp than `min_sharpness` are not kept."""

    min_sharpness: float
    quality: int
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The photos wanted of one video, and what is known of all of them."""

    video: Video
    clock: CameraClock
    picks: Sequence[Pick]
    track: Track | None = None
    seen_by: Camera = Camera("")


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one pick: a row whose file is there; a row without one that is not `kept`; or why there is none.

    Without all of these a loss has left nothing of its pictures.
    """

    key: str
    row: Photo | None = None
    kept: bool = True
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Made":
        """From the journal."""
        row = values["row"]
        return Made(**(values | {"row": None if row is None else Photo(**row)}))


@dataclass(frozen=True, slots=True)
class Part:
    """Picks of one file and all that their photos need to know: a thread, or another machine, makes them of it."""

    camera: str
    clip: Clip
    picks: tuple[Pick, ...]
    rows: Mapping[int, Photo]  # of each frame that may be kept, its place included
    seen_by: Camera


Cut = tuple[Work, Clip, tuple[Pick, ...]]


def key_of(camera: str, clip: Clip, pick: Pick) -> str:
    """What a pick is called in the journal."""
    return f"{camera}/{clip.path.name}/{pick.frames[0]}"


def file_of(row: Photo, folder: Path) -> Path:
    """Where the photo of a row lies while a run makes it in `folder`."""
    return folder / row.camera / Path(row.photo).name


def kept_rows(made: Iterable[Made]) -> list[Photo]:
    """The rows of the photos that are there."""
    return [one.row for one in made if one.row is not None and one.kept]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def use_one_core() -> None:
    """In a process of which there is one for each core: no threads beside its own, memory kept for the next picture."""
    cv2.setNumThreads(1)
    pixels.set_threads(1)
    keep_freed_memory()


def usual_jobs(works: Sequence[Work]) -> int:
    """One for each core, fewer where their pictures would fill the memory."""
    largest = max((clip.picture_bytes for work in works for clip in work.video.clips), default=1)
    return max(1, min(cores(), MEMORY_BYTES // (HELD_PICTURES * max(1, largest))))


def extract_all(works: Sequence[Work], folder: Path, manner: Manner, jobs: int) -> Generator[Made]:
    """Write the photos to `folder/<camera>/`, each with what came of it as soon as it is on the disk. Raises OSError.

    Whoever stops asking stops the work.
    """
    tasks = [cut for work in works for cut in cuts(work, PICKS_PER_TASK, jobs)]
    made: SimpleQueue[Made | Future[None]] = SimpleQueue()
    stop = Event()

    def run(cut: Cut) -> None:
        for one in extract(part_of(*cut, manner.settings), folder, manner):
            made.put(one)
            if stop.is_set():
                return

    cv2.setNumThreads(1)  # the threads here are enough
    for work in works:
        (folder / work.video.camera).mkdir(exist_ok=True)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="extract")
    try:
        for task in tasks:
            pool.submit(run, task).add_done_callback(made.put)
        left = len(tasks)
        while left:
            one = made.get()
            if isinstance(one, Made):
                yield one
            else:
                one.result()
                left -= 1
    finally:
        stop.set()
        leave(pool)


def cuts(work: Work, most: int, jobs: int = 1) -> Iterator[Cut]:
    """Picks of one file that lie side by side, at most so many at once."""
    for number, clip in enumerate(work.video.clips):
        picks = tuple(pick for pick in work.picks if pick.clip == number)
        size = max(1, min(most, -(-len(picks) // jobs)))
        for begin in range(0, len(picks), size):
            yield work, clip, picks[begin : begin + size]


def part_of(work: Work, clip: Clip, picks: tuple[Pick, ...], settings: Settings) -> Part:
    """A cut with the row of each frame that may be kept, its place included."""
    numbers = sorted({frame for pick in picks for frame in pick.frames})
    clock, camera = work.clock, work.video.camera
    clock_ns, pts_ns = clip.clock_ns[numbers], clip.pts_ns[numbers]
    rows = []
    for number, pts, utc_ns, error_ns in zip(
        numbers, pts_ns.tolist(), clock.utc_ns(clock_ns).tolist(), clock.error_ns(clock_ns).tolist(), strict=True
    ):
        utc = iso_utc(utc_ns)
        rows.append(
            Photo(
                photo=photos.path_of(camera, utc),
                camera=camera,
                utc=utc,
                time_error_ms=error_ns / NS_PER_MS,
                video=clip.path.name,
                pts_s=pts / NS_PER_S,
                frame=number,
            )
        )
    if work.track is not None:
        rows = locate(rows, work.track, Rule.of(settings))
    return Part(camera, clip, picks, dict(zip(numbers, rows, strict=True)), work.seen_by)


def extract(part: Part, folder: Path, manner: Manner) -> Iterator[Made]:
    """Decode the pictures of one part and write its photos to `folder/<camera>/`, which is there. Raises OSError."""
    missing = dict.fromkeys(part.picks)
    for pick, number, picture, damaged in _sharpest(part):
        del missing[pick]
        key = key_of(part.camera, part.clip, pick)
        row = _seen(part.rows[number], picture, damaged, pick.standing)
        if (row.sharpness or 0.0) < manner.min_sharpness:
            yield Made(key, row, kept=False)
            continue
        try:
            _write(file_of(row, folder), _jpeg(row, picture, part, manner))
        except PrivacyError as error:
            yield Made(key, why=f"{row.photo} is left out: {error}")
            continue
        yield Made(key, row)
    for pick in missing:
        lost = part.clip.damaged.issuperset(pick.frames)
        why = "" if lost else f"{part.clip.path}: picture {pick.frames[0]} cannot be decoded"
        yield Made(key_of(part.camera, part.clip, pick), why=why)


def _sharpest(part: Part) -> Iterator[tuple[Pick, int, av.VideoFrame, bool]]:
    """Of each pick the sharpest whole picture, a damaged one only at need: its number, and whether it is damaged."""
    pick_of = {frame: pick for pick in part.picks for frame in pick.frames}
    best: tuple[Pick, int, av.VideoFrame, bool] | None = None
    rank = (False, 0.0)
    for number, picture, damaged in pixels.judged_pictures(part.clip, sorted(pick_of), threads=1):
        pick = pick_of[number]
        if best is not None and best[0] is not pick:
            yield best
            best = None
        alone = len(pick.frames) == 1
        sharpness = 0.0 if alone else look.sharpness(pixels.luma(picture))
        if best is None or (not damaged, sharpness) > rank:
            best, rank = (pick, number, picture, damaged), (not damaged, sharpness)
    if best is not None:
        yield best


def _seen(row: Photo, picture: av.VideoFrame, damaged: bool, standing: bool) -> Photo:
    """The row with what the picture shows of itself."""
    seen = look.judge(pixels.luma(picture), pixels.is_full_range(picture))
    words = [*seen.doubts, *(["damaged"] if damaged else []), *(["standing"] if standing else [])]
    return replace(
        row,
        sharpness=seen.sharpness,
        luminance=seen.luminance,
        flags=photos.with_flags(row.flags, words),
    )


def _jpeg(row: Photo, picture: av.VideoFrame, part: Part, manner: Manner) -> bytes:
    """The photo with its tags. Raises PrivacyError where the user's command failed on it."""
    jpeg = look.encode_jpeg(pixels.bgr(picture), manner.quality)
    return finished(jpeg, row, part.seen_by, manner.settings)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        sync_data(file.fileno())
