"""A lamp over all that the cameras see, switched at known instants: rows exposed while it is on are lighter."""

import random
from dataclasses import dataclass

import numpy as np

from simulator.led import Led
from simulator.paint import BLACK, WHITE, Planes
from simulator.screen import EXPOSURE_NS, GAMMA, READ_OUT_NS

SECOND_NS = 1_000_000_000
BLINKS = 8
SHORTEST_S, LONGEST_S = 1.1, 1.5  # on, and off: a hand at a switch
BLINKING_S = 2 * BLINKS * LONGEST_S
BRIGHTER = 1.5  # linear light of the lamp, that of the day being 1
REACH_NS = EXPOSURE_NS + READ_OUT_NS  # longer than the half of a picture's exposure


@dataclass(frozen=True, slots=True)
class Lamp:
    """When it was switched (true UTC in ns, on), in order, dark before and after."""

    edges: tuple[tuple[int, bool], ...]

    def draw(self, planes: Planes, utc_ns: int) -> None:
        """Light up a picture whose middle row has its mid-exposure at `utc_ns`."""
        if not self.edges or not self.edges[0][0] - REACH_NS < utc_ns < self.edges[-1][0] + REACH_NS:
            return
        height = planes.y.shape[0]
        exposed = ((np.arange(height) + 0.5) / height - 0.5) * READ_OUT_NS - EXPOSURE_NS / 2
        share = Led(self.edges).on_share(exposed, EXPOSURE_NS, utc_ns)
        gain = ((1 + BRIGHTER * share) ** (1 / GAMMA)).astype(np.float32)
        planes.y[:] = np.minimum(BLACK + (planes.y - np.float32(BLACK)) * gain[:, None], WHITE)


def blinks(begin_utc_ns: int, seed: int) -> tuple[tuple[int, bool], ...]:
    """Somebody switches it on and off, some times, never quite at the same pace."""
    dice = random.Random(f"{seed} {begin_utc_ns}")
    edges = []
    utc_ns = begin_utc_ns
    for number in range(2 * BLINKS):
        edges.append((utc_ns, number % 2 == 0))
        utc_ns += round(dice.uniform(SHORTEST_S, LONGEST_S) * SECOND_NS)
    return tuple(edges)
