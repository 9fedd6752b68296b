"""When a lamp was switched that several cameras see: between which two pictures of each, and how their clocks compare.

The lamp's light jumps in the middle of the picture from one picture to the next, or within one that saw both; slower
changes (a tunnel, the sun) are none. Only a stream tells which jumps of two cameras are the same: those that came at
the same time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rig.clock import NS_PER_S
from rig.footage.video import Clip, Video, luma, pictures
from rig.timing import arrival

PARTS = 9  # of a picture's rows; those of the middle one are exposed when its time stamp says
LEAST_STEP = 12.0  # of luma, from key picture to key picture
DONE = 0.15  # of a step: what nearer to either side counts as there
LONGEST_CHANGE = 2.1  # pictures from the last dark to the first light one
SAME_NS = NS_PER_S // 2  # jumps of two streams that came within are one: between two there is a second
TOGETHER_NS = 60 * NS_PER_S  # jumps of one event lie nearer than that


@dataclass(frozen=True, slots=True)
class Jump:
    """A switch of the lamp: on the camera's clock it was between `low_ns` and `high_ns`."""

    low_ns: int
    high_ns: int
    is_on: bool
    came_ns: int = 0  # CLOCK_MONOTONIC


@dataclass(frozen=True, slots=True)
class Event:
    """Jumps that two cameras saw within a minute: when on the first one's clock, how far ahead the second one's is."""

    at_ns: int
    ahead_ns: float
    error_ns: float  # the truth is within, as long as no jump is taken for another
    jumps: int


def find_jumps(item: Video) -> list[Jump]:
    """All switches of a lamp in a stream; of a video that nobody saw arrive none."""
    pts_ns, came_ns = arrival.arrivals(item)
    found = []
    for jump in (jump for clip in item.clips for jump in _jumps_of(clip)) if len(pts_ns) else ():
        number = min(int(np.searchsorted(pts_ns, jump.high_ns)), len(pts_ns) - 1)
        found.append(replace(jump, came_ns=int(came_ns[number])))
    return found


def common_events(one: Sequence[Jump], other: Sequence[Jump]) -> list[Event]:
    """What two cameras saw of the same switches, as events that are minutes apart."""
    pairs = [(jump, same) for jump in one for same in other if _is_same(jump, same)]
    begins = [0, *(n for n, (a, b) in enumerate(pairwise(pairs), 1) if b[0].low_ns - a[0].low_ns > TOGETHER_NS)]
    groups = [pairs[begin:end] for begin, end in zip(begins, [*begins[1:], len(pairs)], strict=True) if pairs]
    return [event for event in map(_event, groups) if event is not None]


def _is_same(jump: Jump, other: Jump) -> bool:
    return jump.is_on == other.is_on and abs(jump.came_ns - other.came_ns) < SAME_NS


def _event(pairs: Sequence[tuple[Jump, Jump]]) -> Event | None:
    """Each pair says between which limits the clocks differ; all say it of the same difference, within seconds."""
    low = max(other.low_ns - one.high_ns for one, other in pairs)
    high = min(other.high_ns - one.low_ns for one, other in pairs)
    if low > high:
        return None  # they were not the same
    middle = [(one.low_ns + one.high_ns) // 2 for one, _ in pairs]
    return Event((middle[0] + middle[-1]) // 2, (low + high) / 2, (high - low) / 2, len(pairs))


def _jumps_of(clip: Clip) -> Iterator[Jump]:
    """Key pictures tell where light and dark change; the pictures between two of them tell when."""
    levels = list(_levels(clip, clip.keys.tolist()))
    for (before, level), (after, other) in pairwise(levels):
        if abs(other - level) > LEAST_STEP:
            jump = _locate(clip, range(max(0, before - 1), after + 1))
            if jump is not None:
                yield jump


def _locate(clip: Clip, numbers: range) -> Jump | None:
    """The jump within these pictures, dark or light before all of them and the other after."""
    level = np.array([value for _, value in _levels(clip, numbers)])
    at_ns = clip.clock_ns[numbers.start : numbers.stop]
    period_ns = int(np.median(np.diff(at_ns)))
    if len(level) < len(numbers):
        return None  # some cannot be decoded
    share = (level - level[0]) / (level[-1] - level[0])
    changed, done = int(np.argmax(share > DONE)), int(np.flatnonzero(share < 1 - DONE)[-1]) + 1
    if done - changed > 1 or at_ns[done] - at_ns[changed - 1] > LONGEST_CHANGE * period_ns:
        return None  # it took longer, or some are missing
    if done > changed:  # one picture saw both: it was within its exposure, which is no longer than its time
        low_ns, high_ns = at_ns[changed] - period_ns // 2, at_ns[changed] + period_ns // 2
    else:
        low_ns, high_ns = at_ns[changed - 1], at_ns[changed]
    slack_ns = period_ns // (2 * PARTS)  # the rows of the middle part, however slowly they are read
    return Jump(int(low_ns) - slack_ns, int(high_ns) + slack_ns, bool(level[-1] > level[0]))


def _levels(clip: Clip, numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
    """How light the middle of each picture is."""
    for number, picture in pictures(clip, numbers):
        rows = luma(picture)
        middle = (PARTS - 1) // 2 * rows.shape[0] // PARTS, (PARTS + 1) // 2 * rows.shape[0] // PARTS
        yield number, float(rows[slice(*middle)].mean())
