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
from rig.footage.pixels import luma, pictures
from rig.footage.video import Clip, Video
from rig.timing import arrival

PARTS = 9  # of a picture's rows; those of the middle one are exposed when its time stamp says
LEAST_STEP = 12.0  # of luma
DONE = 0.15  # of a step: what nearer to either side counts as there
FLAT = 0.25  # of a step: the most that the pictures beside it may change
LEAST_PICTURES = 5  # two before a step, the one in its middle, two after
LEAST_JUMPS = 4  # of an event
LONGEST_PERIOD_NS = NS_PER_S // 20  # between pictures that are taken for neighbours
SAME_NS = NS_PER_S // 2  # jumps of two streams that came within are one: between two there is a second
MOST_DRIFT = 150e-6  # of two clocks against each other
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
    if not len(pts_ns):
        return []
    jumps = [jump for clip in item.clips for jump in _jumps_of(clip)]
    places = np.searchsorted(pts_ns[:-1], [jump.high_ns for jump in jumps])
    return [replace(jump, came_ns=int(came_ns[place])) for jump, place in zip(jumps, places, strict=True)]


def common_events(one: Sequence[Jump], other: Sequence[Jump]) -> list[Event]:
    """What two cameras saw of the same switches, as events that are minutes apart."""
    pairs = [(jump, same) for jump in one for same in other if _is_same(jump, same)]
    begins = [0, *(n for n, (a, b) in enumerate(pairwise(pairs), 1) if b[0].low_ns - a[0].low_ns > TOGETHER_NS)]
    groups = [pairs[begin:end] for begin, end in zip(begins, [*begins[1:], len(pairs)], strict=True) if pairs]
    return [event for event in map(_event, groups) if event is not None]


def _is_same(jump: Jump, other: Jump) -> bool:
    return jump.is_on == other.is_on and abs(jump.came_ns - other.came_ns) < SAME_NS


def _event(pairs: Sequence[tuple[Jump, Jump]]) -> Event | None:
    """Each pair says between which limits the clocks differ, all of the same difference; None when they disagree."""
    if len(pairs) < LEAST_JUMPS:
        return None  # by chance, in the scenery
    middle_ns = (pairs[0][0].low_ns + pairs[-1][0].high_ns) // 2
    away_ns = [MOST_DRIFT * abs(one.low_ns - middle_ns) for one, _ in pairs]
    low = max(other.low_ns - one.high_ns - away for (one, other), away in zip(pairs, away_ns, strict=True))
    high = min(other.high_ns - one.low_ns + away for (one, other), away in zip(pairs, away_ns, strict=True))
    if low > high:
        return None
    return Event(middle_ns, (low + high) / 2, (high - low) / 2, len(pairs))


def _jumps_of(clip: Clip) -> Iterator[Jump]:
    """Key pictures tell where light and dark change; the pictures between two of them tell when."""
    levels = list(_levels(clip, clip.keys.tolist()))
    last = None
    for (before, level), (after, other) in pairwise(levels):
        if abs(other - level) > LEAST_STEP:
            jump = _locate(clip, range(max(0, before - 2), min(len(clip.pts), after + 3)))
            if jump is not None and jump != last:  # one beside a key picture is seen twice
                yield jump
                last = jump


def _locate(clip: Clip, numbers: range) -> Jump | None:
    """The largest step among these pictures, when it is one: high enough, and flat before and after."""
    level = np.array([value for _, value in _levels(clip, numbers)])
    if len(level) < max(LEAST_PICTURES, len(numbers)):
        return None  # some cannot be decoded
    steps = level[3:-1] - level[1:-3]  # over two pictures: one may have seen both, light and dark
    at = int(np.argmax(abs(steps))) + 2
    step = float(level[at + 1] - level[at - 1])
    beside = max(abs(level[at - 1] - level[at - 2]), abs(level[at + 2] - level[at + 1]))
    at_ns = clip.clock_ns[numbers.start : numbers.stop][at - 1 : at + 2]
    period_ns = int(at_ns[2] - at_ns[0]) // 2
    if abs(step) < LEAST_STEP or beside > FLAT * abs(step) or period_ns > LONGEST_PERIOD_NS:
        return None
    share = float(level[at] - level[at - 1]) / step
    if DONE < share < 1 - DONE:  # it saw both: that was within its exposure, which is no longer than its time
        low_ns, high_ns = at_ns[1] - period_ns // 2, at_ns[1] + period_ns // 2
    else:
        low_ns, high_ns = at_ns[:2] if share > DONE else at_ns[1:]
    slack_ns = period_ns // (2 * PARTS)  # the rows of the middle part, however slowly they are read
    return Jump(int(low_ns) - slack_ns, int(high_ns) + slack_ns, step > 0)


def _levels(clip: Clip, numbers: Sequence[int]) -> Iterator[tuple[int, float]]:
    """How light the middle of each picture is."""
    for number, picture in pictures(clip, numbers):
        rows = luma(picture)
        middle = (PARTS - 1) // 2 * rows.shape[0] // PARTS, (PARTS + 1) // 2 * rows.shape[0] // PARTS
        yield number, float(rows[slice(*middle)].mean())
