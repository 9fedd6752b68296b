"""Recordings whose files are still on the cameras' cards: followed until all are here."""

import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from rig.camera.cardfiles import LEDGER
from rig.drive import checksums
from rig.errors import EdencarError, UnknownError
from rig.recordings import FETCHING, FINISHED, INTERRUPTED, Recordings

PATIENCE_S = 60.0  # how long a camera with files on its card may be silent
STILL_ON_CARD = "files are still on the card: they come when the camera is back"


def on_cards(folder: Path) -> set[str]:
    """The cameras' folders of a recording for which files are still on the card."""
    return {ledger.parent.name for ledger in folder.glob(f"videos/*/{LEDGER}")}


class Fetches:
    """Those of which files were on cards when they were added."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._since: dict[str, float] = {}  # since when none is coming

    @property
    def ids(self) -> list[str]:
        """The recordings that wait for files."""
        return [*self._since]

    def add(self, recording_id: str, *, known: bool = True) -> None:
        """Follow a recording when files of it are on cards; not `known`: it may be that no camera will bring them."""
        if on_cards(self._recordings.folder(recording_id)):
            self._since[recording_id] = time.monotonic() - (0.0 if known else PATIENCE_S)

    def follow(self, coming: Set[str]) -> None:
        """A recording is `fetching` while files come (from the cameras of these serials), `interrupted` while they do
        not, `finished` when all are here."""
        for recording_id in self.ids:
            try:
                self._follow(recording_id, coming)
            except UnknownError:  # in the trash
                del self._since[recording_id]
            except (EdencarError, OSError):  # the disk is full, say: it is tried again
                continue

    def close(self) -> None:
        """Tell in the manifests what is still missing."""
        for recording_id in self.ids:
            self._give_up(recording_id)

    def _follow(self, recording_id: str, coming: Set[str]) -> None:
        folder = self._recordings.folder(recording_id)
        waiting = on_cards(folder)
        manifest = self._recordings.get(recording_id)
        if not waiting:
            (folder / checksums.NAME).unlink(missing_ok=True)  # of what was there while nothing came
            warnings = tuple(text for text in manifest.warnings if text != STILL_ON_CARD)
            self._recordings.update(recording_id, state=FINISHED, warnings=warnings)
            del self._since[recording_id]
        elif waiting & {camera.folder for camera in manifest.cameras if camera.serial in coming}:
            self._since[recording_id] = time.monotonic()
            if manifest.state != FETCHING:
                self._recordings.update(recording_id, state=FETCHING)
        elif time.monotonic() - self._since[recording_id] > PATIENCE_S:
            self._give_up(recording_id)

    def _give_up(self, recording_id: str) -> None:
        with suppress(EdencarError, OSError):
            manifest = self._recordings.get(recording_id)
            if manifest.state == FETCHING:
                warnings = dict.fromkeys((*manifest.warnings, STILL_ON_CARD))
                self._recordings.update(recording_id, state=INTERRUPTED, warnings=tuple(warnings))
