"""What is done for finished recordings while nothing else needs the disk: checksums, and the trash emptied."""

import logging
from collections.abc import Callable
from contextlib import suppress

from rig.clock import UtcClock
from rig.drive.checksums import seal, unsealed
from rig.drive.room import Room
from rig.errors import EdencarError, NoSpaceError
from rig.recordings import Recordings
from rig.status import VERY_LITTLE_ROOM_S

DAY_S = 86400

log = logging.getLogger(__name__)


class Housekeeping:
    """`seal` is called by one thread again and again, the rest from any."""

    def __init__(self, recordings: Recordings, room: Room, trash_days: float) -> None:
        self._recordings = recordings
        self._room = room
        self._trash_s = trash_days * DAY_S
        self._unsealable: set[str] = set()

    def make_room(self, cameras: int) -> None:
        """Empty the trash, as far as it must be, for a recording that is to start. Raises NoSpaceError."""
        while True:
            try:
                self._room.require(cameras)
            except NoSpaceError:
                if self._recordings.drop_oldest_trash() is None:
                    raise
            else:
                return

    def empty_trash(self, clock: UtcClock, cameras: int | None) -> None:
        """Remove what has lain in the trash for long, or takes the room that a recording with so many cameras needs."""
        with suppress(OSError):  # a full disk takes no note of what is new there, and needs the room all the more
            self._recordings.empty_trash(clock, self._trash_s)
        with suppress(OSError):
            if cameras is not None and self._room.left(cameras).seconds_left < VERY_LITTLE_ROOM_S:
                self._recordings.drop_oldest_trash()

    def seal(self, may: Callable[[], bool]) -> None:
        """Write the checksums of one recording that lacks them, as long as it `may`."""
        waiting = (name for name in unsealed(self._recordings) if name not in self._unsealable)
        recording_id = next(waiting, None) if may() else None
        if recording_id is None:
            return
        try:
            seal(self._recordings, recording_id, may)
        except (EdencarError, OSError, ValueError) as error:  # a full disk, say, or a name that is no text
            log.warning("%s gets no checksums: %s", recording_id, error)
            self._unsealable.add(recording_id)
