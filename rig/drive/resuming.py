"""What an earlier server left open: closed as interrupted, and told when it shall go on."""

import time
from contextlib import suppress

from rig.clock import UtcClock
from rig.drive.fetching import Fetches
from rig.errors import EdencarError, UnknownError
from rig.photo.photos import put_in_order
from rig.recordings import CAMERA, INTERRUPTED, OPEN_STATES, PHOTOS, RECORDING, Manifest, Recordings
from rig.status import Problem, interruption

RESUME_CLOCK_S = 20.0  # after a boot: how long the receiver's time is waited for, which tells how long the night was


class LeftOpen:
    """Closes what was left open, at once; `manifest` is what may go on, `problems` what the crew must know of it.

    Files that were still on the cameras' cards are given to `fetches`.
    """

    def __init__(self, recordings: Recordings, fetches: Fetches, resume_within_s: float) -> None:
        self.problems: list[Problem] = []
        self._recordings = recordings
        self._resume_within_s = resume_within_s
        self._began_s = time.monotonic()
        known = recordings.list()
        self._open = [manifest for manifest in known if manifest.state in OPEN_STATES]
        for age, manifest in enumerate(known):
            told_by = (*OPEN_STATES, INTERRUPTED) if age == 0 else OPEN_STATES  # the newest even by a later server
            if manifest.stopped is None and manifest.state in told_by:
                self.problems.append(interruption(manifest.id))
        self.close_rest()
        # Names are no order in time: the clock that gave a finished one its name may have been years ahead.
        going = (manifest for manifest in known if manifest.state == RECORDING and manifest.alive)
        self.manifest: Manifest | None = next(going, None)
        for manifest in known:
            if manifest.mode == CAMERA:
                with suppress(EdencarError, OSError):
                    fetches.add(manifest.id, known=False)

    def close_rest(self) -> None:
        """Close what is still open: a full disk did not take that before."""
        for manifest in [*self._open]:
            try:
                self._close(manifest.id)
            except UnknownError:  # in the trash, or moved away
                pass
            except (EdencarError, OSError):
                continue
            self._open.remove(manifest)

    def forget(self) -> None:
        """Nothing shall go on by itself any more."""
        self.manifest = None

    def gap_s(self, clock: UtcClock) -> float | None:
        """Seconds since the recording that may go on now was interrupted; None when there is none, or not yet.

        After a boot only the receiver's time tells how long; without it, it is at least as long as the machine runs.
        """
        left = self.manifest
        if left is None or left.alive is None:
            return None
        waited_s = time.monotonic() - self._began_s
        if left.alive.is_of_earlier_boot and clock.source != "gnss" and waited_s < RESUME_CLOCK_S:
            return None
        gap_s = left.alive.age_s(clock)
        if gap_s > self._resume_within_s:
            self.forget()
            return None
        return gap_s

    def _close(self, recording_id: str) -> None:
        manifest = self._recordings.get(recording_id)
        if manifest.state not in OPEN_STATES:
            return
        warnings = (*manifest.warnings, f"the server ended while this was in state {manifest.state}")
        self._recordings.update(recording_id, state=INTERRUPTED, warnings=warnings)
        if manifest.mode == PHOTOS:
            with suppress(EdencarError, OSError):
                put_in_order(self._recordings.folder(recording_id))
