"""Gaps in what a device's log holds, found in the log itself: whatever caused them, they are as exact as its stamps.

Streams (`stream-NNN.idx`) and the receiver's bytes (`raw.idx`) both have the arrival, CLOCK_MONOTONIC in ns, in their
second column.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from rig.clock import NS_PER_S
from rig.files import read_lines

SHORTEST_NS = NS_PER_S // 2
USUAL_INTERVALS = 2.5  # as in the interpolation of positions: what is longer is no jitter
BURST_NS = 50_000_000  # sentences of one epoch, pictures of one stream
SLOWEST_NS = 10 * NS_PER_S
SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing arrived from `device` between these two; times are those of the last and the first thing kept."""

    device: str
    from_utc: str
    until_utc: str
    seconds: float
    from_monotonic_ns: int
    until_monotonic_ns: int


class Pulse:
    """Follows the logs in one folder as they grow, across all restarts of what writes them."""

    def __init__(self, folder: Path, usual_s: float = 0.0) -> None:
        """`usual_s` is what may pass between two arrivals in order, at first: it is learned; 0 for a stream, not."""
        self.last_ns: int | None = None  # when the newest thing kept arrived
        self._folder = folder
        self._began_ns = time.monotonic_ns()  # what was there before belongs to an earlier capture
        self._file: Path | None = None
        self._offset = 0
        self._usual_ns = usual_s * NS_PER_S

    @property
    def silent_s(self) -> float:
        """How long nothing has been kept."""
        return (time.monotonic_ns() - (self.last_ns or self._began_ns)) / NS_PER_S

    def beat(self) -> list[tuple[int, int]]:
        """Read on; the gaps met, each as the arrivals before and after it."""
        gaps = []
        for arrival_ns in self._read():
            if self.last_ns is not None and self._is_gap(arrival_ns - self.last_ns):
                gaps.append((self.last_ns, arrival_ns))
            self.last_ns = max(arrival_ns, self.last_ns or 0)
        return gaps

    def _is_gap(self, step_ns: int) -> bool:
        if step_ns < BURST_NS:
            return False
        usual_ns = self._usual_ns
        if usual_ns:
            self._usual_ns += SMOOTHING * (min(step_ns, SLOWEST_NS) - usual_ns)
        return step_ns > max(SHORTEST_NS, USUAL_INTERVALS * usual_ns)

    def _read(self) -> list[int]:
        arrivals = []
        for file in sorted(self._folder.glob("*.idx"), key=_order):
            if self._file is None or _order(file) >= _order(self._file):
                lines, self._offset = read_lines(file, self._offset if file == self._file else 0)
                self._file = file
                arrivals += [number for line in lines if (number := _arrival(line)) > self._began_ns]
        return arrivals


def _order(file: Path) -> tuple[int, str]:
    return len(file.name), file.name


def _arrival(line: bytes) -> int:
    columns = line.split(b",")
    return int(columns[1]) if len(columns) >= 3 and columns[1].isdigit() else 0  # a header, or torn by a crash
