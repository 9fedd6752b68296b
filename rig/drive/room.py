"""The room on the disk, in seconds of recording by the pace at which it really shrinks; the trash makes more of it."""

import logging
import time
from collections import deque
from pathlib import Path

from configs import Settings
from rig.errors import NoSpaceError
from rig.files import free_bytes
from rig.status import StorageNow

START_S = 300  # nothing is started that could not go on for so long
STOP_S = 60  # what then is left is needed by nobody, and closing takes its share
WINDOW_S = 20.0
SHORTEST_S = 4.0  # a shorter look at the disk says nothing: what is written comes in bursts

log = logging.getLogger(__name__)


class Room:
    """The disk of one folder. `observe` is called about once a second by one thread, the rest from any."""

    def __init__(self, output: Path, settings: Settings) -> None:
        self._output = output
        self._settings = settings
        self._seen: deque[tuple[float, int]] = deque()

    def observe(self, *, recording: bool) -> None:
        """Learn how fast a recording fills the disk."""
        now_s = time.monotonic()
        if not recording:
            self._seen.clear()
            return
        self._seen.append((now_s, self._free()))
        while now_s - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()

    def left(self, cameras: int) -> StorageNow:
        """Free bytes, and seconds until only the reserve is left with so many cameras."""
        free = self._free()
        usual = max(1, cameras) * self._settings.camera_bit_rate_mbps * 1e6 / 8
        pace = self._pace()
        pace = usual if pace is None else max(pace, usual / 10)  # it may be slow by chance
        return StorageNow(free, max(0, int((free - self._settings.reserve_bytes) / pace)))

    def require(self, cameras: int) -> None:
        """Raises NoSpaceError when a recording could not go on for a while."""
        if self.left(cameras).seconds_left < START_S:
            raise NoSpaceError(
                f"less than {START_S // 60} minutes of recording fit on the disk of {self._output}",
                cure="delete recordings or change the disk",
            )

    def _free(self) -> int:
        try:
            return free_bytes(self._output)
        except OSError as error:
            log.error("the disk of %s cannot be asked: %s", self._output, error)
            return 0

    def _pace(self) -> float | None:
        """Bytes a second, None when not known."""
        seen = [*self._seen]
        if len(seen) < 2 or seen[-1][0] - seen[0][0] < SHORTEST_S:
            return None
        return max(0.0, (seen[0][1] - seen[-1][1]) / (seen[-1][0] - seen[0][0]))
