"""Photos of many recordings to their places: each in one step, as all its photos meet one track (docs/fleet.md)."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs import Settings
from rig.cluster.steps import Place, Result, Steps
from rig.photo import photos
from rig.photo.locate import way_of
from rig.photo.placing import Wish, associate
from rig.recordings import MANIFEST

BESIDE = (photos.TABLE_NAME, MANIFEST, "calibration.json")  # of a recording, beside its photos and positions


@dataclass(frozen=True, slots=True)
class PhotoSteps(Steps):
    """What `parsePhotos.py` does with one recording; the paths in `wish` are names in the luggage."""

    settings: Settings
    wish: Wish
    kind = "places"
    wanted = f"a recording's photos have a {photos.TABLE_NAME}"

    def inputs(self, names: Sequence[str]) -> list[str]:
        """What goes into the results; nothing where there is no table of photos."""
        if photos.TABLE_NAME not in names:
            return []
        has_log = self.wish.positions or any(name.startswith("positions/") for name in names)
        films = () if has_log else (".mp4",)
        return [name for name in names if name in BESIDE or name.startswith(("photos/", "positions/"))] + [
            name for name in names if name.startswith("videos/") and name.lower().endswith((".idx", *films))
        ]

    def needs_at_end(self, names: Sequence[str]) -> list[str]:
        """All of it."""
        return self.inputs(names)

    def finish(self, head: object, lines: Sequence[dict[str, Any]], place: Place) -> Result:
        """Work on copies, of which only what has changed goes back."""
        settings = replace(self.settings, output=place.luggage)
        self._copy(place)
        before = _stamps(place.output)
        wish = replace(self.wish, positions=tuple(place.luggage / path for path in self.wish.positions))
        summary = asdict(associate(place.output, settings, wish))
        rows = photos.read_table(place.output)
        after = _stamps(place.output)
        for path, stamp in after.items():
            if before.get(path) == stamp:
                path.unlink()
        told = {name: [place.told(text) for text in summary[name]] for name in ("warnings", "failed")}
        gone = (path.relative_to(place.output).as_posix() for path in before.keys() - after.keys())
        return Result({"photos": summary["photos"], **told}, tuple(gone), way_of(rows))

    def _copy(self, place: Place) -> None:
        """By links where that is possible: whatever changes is written anew."""
        there = [path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*") if path.is_file()]
        for name in self.inputs(there):
            target = place.output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(place.folder / name)
            except OSError:
                shutil.copy2(place.folder / name, target)


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in files}
