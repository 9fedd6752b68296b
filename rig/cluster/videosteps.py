"""Videos of many recordings to photos: one share for each file of a recording (docs/fleet.md)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs import Settings
from rig.cluster.steps import Place, Plan, Result, Share, Steps
from rig.drive import checksums
from rig.footage import video
from rig.photo import extraction, making, photos
from rig.photo.extraction import Made, Part
from rig.photo.locate import way_of
from rig.photo.making import Wanted, Wish
from rig.recordings import MANIFEST, require_closed

POSITIONS = "positions/positions.csv"  # of a recording


@dataclass(frozen=True, slots=True)
class VideoSteps(Steps):
    """What `parseVideo.py` does with one recording, in steps; the paths in `wish` are names in the luggage."""

    settings: Settings
    wish: Wish
    kind = "photos"
    wanted = f"a recording has videos and {MANIFEST}"

    def inputs(self, names: Sequence[str]) -> list[str]:
        """What was recorded; nothing where there are no videos, or where they are still on their way."""
        known = [name for name in names if name.startswith(checksums.RAW) or name == MANIFEST]
        films = any(Path(name).suffix.lower() in video.VIDEO_SUFFIXES for name in known)
        return known if films and MANIFEST in names else []

    def needs(self, names: Sequence[str]) -> list[str]:
        """All of it."""
        return self.inputs(names)

    def needs_at_end(self, names: Sequence[str]) -> list[str]:
        """The table, where the results go into the recording: photos of other cameras stay."""
        return [name for name in names if name == photos.TABLE_NAME]

    def keeps(self, names: Sequence[str]) -> list[str]:
        """What parsePhotos.py wants to see beside the photos."""
        return [name for name in names if name in (MANIFEST, POSITIONS)]

    def prepare(self, place: Place) -> Plan:
        """The clock of each camera, and the frames that are wanted."""
        if place.is_own:
            require_closed(place.folder)
        extraction.use_one_core()
        settings = replace(self.settings, output=place.luggage)
        wish = replace(
            self.wish,
            positions=tuple(place.luggage / path for path in self.wish.positions),
            calibration=self.wish.calibration and place.luggage / self.wish.calibration,
        )
        found = making.collect([place.folder], wish)
        clocks, head = making.date(found, settings, wish, jobs=1)
        wanted = making.want(found, clocks, head, settings, wish)
        summary = replace(
            wanted.summary,
            warnings=tuple(map(place.told, wanted.summary.warnings)),
            failed=tuple(map(place.told, wanted.summary.failed)),
        )
        cuts = (cut for work in wanted.works for cut in extraction.cuts(work, most=len(work.picks)))
        shares = [_share(extraction.part_of(*cut, settings), place) for cut in cuts]
        track = wanted.track if wish.formats else None  # it is large
        return Plan(replace(wanted, works=(), summary=summary, track=track), tuple(shares))

    def make(self, share: Share, place: Place) -> list[dict[str, Any]]:
        """The photos of one file."""
        extraction.use_one_core()
        part: Part = replace(share.work, clip=replace(share.work.clip, path=place.folder / share.file))
        folder = place.output / "photos"
        (folder / part.camera).mkdir(parents=True)
        made = extraction.extract(part, folder, self.wish.manner(self.settings))
        return [replace(one, why=place.told(one.why)).to_json() for one in made]

    def finish(self, head: Wanted, lines: Sequence[dict[str, Any]], place: Place) -> Result:
        """The table of all photos, the calibration, the files for others."""
        made = [Made.from_json(line) for line in lines]
        rows = extraction.kept_rows(made)
        others = photos.rows_of_others(place.folder, head.cameras) if place.is_own else []
        photos.write_table(place.output, [*rows, *others])
        making.write_beside(place.output, head, self.settings, self.wish)
        files = {path.relative_to(place.output).as_posix() for path in place.output.glob("photos/**/*")}
        stays = files.union(row.photo for row in rows)
        ours = tuple(f"photos/{camera}/" for camera in head.cameras) if place.is_own else "photos/"
        gone = [name for name in place.there if name.startswith(ours) and name not in stays]
        return Result(asdict(head.summary.of_made(made)), tuple(gone), way_of(rows))


def _share(part: Part, place: Place) -> Share:
    file = part.clip.path.relative_to(place.folder)
    work = replace(part, clip=replace(part.clip, path=file))
    return Share(f"{part.camera}/{file.name}", file.as_posix(), part.clip.path.stat().st_size, work)
