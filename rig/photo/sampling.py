"""Which frames of a video become photos: by time, by the way driven, or key frames; of a stop only one."""

import math
from dataclasses import dataclass

import numpy as np

from rig.arrays import Int64
from rig.clock import NS_PER_S
from rig.errors import UsageError
from rig.footage.video import Clip, Video
from rig.gnss.positions import Track, moves
from rig.photo.spacing import Every, Odometer

MAX_OFF_TARGET_FRAMES = 2.0  # a frame further from the wanted instant than this lies beside a gap
PICTURES_PER_STEP = 3  # decoding that must be saved for each picture further from the wanted instant
STAYED_M = 2.0  # two slow fixes closer than this: the car did not go away and come back between them
KEY = "key"


def parse_every(text: str) -> Every:
    """`key`, or as `Every.parse`. Raises UsageError for anything else."""
    return Every(0.0, KEY) if text.strip() == KEY else Every.parse(text)


@dataclass(frozen=True, slots=True)
class Pick:
    """One wanted photo: the frames of one clip of which the sharpest is kept; `standing`: it stands for a stop."""

    clip: int
    frames: tuple[int, ...]
    standing: bool = False


def picks(
    item: Video, utc_ns: Int64, every: Every, sharpest_of: int, track: Track | None, standing_mps: float
) -> list[Pick]:
    """The frames nearest to the wanted instants, with their neighbours; `utc_ns` is of all frames of all clips.

    `every` in metres needs the track. Below `standing_mps` the car stands.
    """
    first = np.concatenate([[0], np.cumsum([len(clip.pts) for clip in item.clips])])
    if every.unit == KEY:
        chosen = np.concatenate([begin + clip.keys for begin, clip in zip(first, item.clips, strict=False)])
        sharpest_of = 1
    else:
        chosen = _nearest_frames(utc_ns, _instants(int(utc_ns[0]), int(utc_ns[-1]), every, track))
    stop = _stops(track, utc_ns[chosen], standing_mps)
    kept = (stop < 0) | (stop != np.concatenate([[-1], stop[:-1]]))
    chosen, stop = chosen[kept], stop[kept]
    spacing = _nearer_steps(chosen, alone=sharpest_of)  # each photo's own: beside a gap there may be no room at all
    clips = np.searchsorted(first, chosen, side="right") - 1
    wanted = zip(clips.tolist(), (chosen - first[clips]).tolist(), spacing.tolist(), (stop >= 0).tolist(), strict=True)
    return [
        Pick(clip, tuple(_neighbours(number, sharpest_of, room, item.clips[clip])), standing)
        for clip, number, room, standing in wanted
    ]


def _neighbours(number: int, most: int, room: int, clip: Clip) -> range:
    """The pictures of which the sharpest is kept, around one that has so much room to the next photo's."""
    length = min(most, room)
    farthest = min((length - 1) // 2, room // 4, (room - length) // 2)
    begin = _cheapest(number - (length - 1) // 2, length, clip.keys, farthest)
    return range(max(0, begin), min(begin + length, len(clip.pts)))


def _cheapest(begin: int, length: int, keys: Int64, farthest: int) -> int:
    """Where to begin with some pictures near `begin` that need little decoding.

    All from a key frame on are decoded: beside one, a picture later may cost a fifth of those wanted. The nearest
    picture stays among them.
    """

    def cost(start: int) -> int:
        key = int(keys[max(0, int(np.searchsorted(keys, start, side="right")) - 1)]) if len(keys) else 0
        return start + length - key + PICTURES_PER_STEP * abs(start - begin)

    starts = [begin + step for step in range(-farthest, farthest + 1) if begin + step >= 0]
    return min(starts, key=cost) if starts else begin


def _instants(first_ns: int, last_ns: int, every: Every, track: Track | None) -> Int64:
    """The wanted UTC: whole multiples of the step, so that all cameras' photos are of the same instants."""
    if every.unit == "m":
        if track is None:
            raise UsageError("--every in metres needs the track", cure="name it with --positions, or say seconds")
        instants = _each_metres(track, every.step)
        return instants[(instants >= first_ns) & (instants <= last_ns)]
    step_ns = round(every.step * NS_PER_S)
    return np.arange(-(-first_ns // step_ns), last_ns // step_ns + 1, dtype=np.int64) * step_ns


def _each_metres(track: Track, step_m: float) -> Int64:
    odometer = Odometer(step_m)
    speeds = [None if math.isnan(speed) else speed for speed in track.speed_mps.tolist()]
    fixes = zip(track.utc_ns.tolist(), track.latitude.tolist(), track.longitude.tolist(), speeds, strict=True)
    return np.array([mark for fix in fixes for mark in odometer.feed(*fix)], dtype=np.int64)


def _nearest_frames(utc_ns: Int64, wanted: Int64) -> Int64:
    """The frames nearest to instants, where there are some."""
    right = np.clip(np.searchsorted(utc_ns, wanted), 1, max(1, len(utc_ns) - 1))
    left, right = right - 1, np.minimum(right, len(utc_ns) - 1)
    nearest = np.where(np.abs(utc_ns[left] - wanted) <= np.abs(utc_ns[right] - wanted), left, right)
    steps_ns = _nearer_steps(utc_ns, alone=NS_PER_S)
    usual_ns = np.maximum(steps_ns, np.median(steps_ns))  # a film's frame rate may vary: in the dark it falls
    return np.unique(nearest[np.abs(utc_ns[nearest] - wanted) <= MAX_OFF_TARGET_FRAMES * usual_ns[nearest]])


def _nearer_steps(values: Int64, alone: int) -> Int64:
    """How far each of ascending values is from the nearer of its neighbours; `alone` where it has none."""
    if len(values) < 2:
        return np.full(len(values), alone, dtype=np.int64)
    steps = np.diff(values).astype(np.int64)
    both = np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])
    return np.asarray(np.minimum(*both), dtype=np.int64)


def _stops(track: Track | None, utc_ns: Int64, standing_mps: float) -> Int64:
    """In which stop of the car each instant lies, -1 for none."""
    if track is None or len(track) < 2:
        return np.full(len(utc_ns), -1, dtype=np.int64)
    slow = np.nan_to_num(track.speed_mps, nan=np.inf) < standing_mps
    north_m, east_m, _ = moves(track, slice(None, -1), slice(1, None))
    stays = slow[1:] & slow[:-1] & (np.hypot(north_m, east_m) < STAYED_M)
    number = np.where(stays, np.cumsum(np.diff(stays, prepend=False) & stays), -1)
    step = np.searchsorted(track.utc_ns, utc_ns, side="right") - 1
    inside = (step >= 0) & (step < len(number))
    return np.where(inside, number[np.clip(step, 0, len(number) - 1)], -1).astype(np.int64)
