"""Photos with their places and the track around them, as everything that is made of them sees them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from rig.clock import parse_utc
from rig.errors import UnreadableError
from rig.gnss.positions import Track
from rig.photo.locate import Camera, direction_of, place_of
from rig.photo.photos import Photo
from rig.recordings import MANIFEST, Manifest

TRACK_MARGIN_NS = 5_000_000_000  # of the track around the photos

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Located:
    """A photo with a place: where it lies, and where its camera looks."""

    row: Photo
    latitude: float
    longitude: float
    altitude_m: float | None
    direction_deg: float | None

    @property
    def name(self) -> str:
        """The name of its file."""
        return Path(self.row.photo).name


@dataclass(frozen=True, slots=True)
class Collection:
    """What is exported: photos in the order of time, those without a place as well, and the track around them."""

    name: str
    rows: Sequence[Photo]
    track: Track | None
    directions: Sequence[float | None]
    cameras: Mapping[str, Camera]  # by their folders

    @classmethod
    def of(
        cls, folder: Path, rows: Sequence[Photo], track: Track | None, named: Mapping[str, Camera], turns: Sequence[str]
    ) -> Self:
        """The photos of a folder's table; `named` are the cameras that are known, `turns` as `camera_directions`."""
        cameras = {row.camera: named.get(row.camera, Camera(row.camera)) for row in rows}
        directions = [direction_of(row, cameras[row.camera].label, turns) for row in rows]
        return cls(folder.resolve().name, rows, track, directions, cameras)

    def located(self) -> list[Located]:
        """The photos that have a place."""
        pairs = ((row, place_of(row), direction) for row, direction in zip(self.rows, self.directions, strict=True))
        return [Located(row, *place, direction) for row, place, direction in pairs if place is not None]

    def legs(self) -> Iterator[tuple[Track, slice]]:
        """The parts of the track around the photos that no gap, jump or change of quality divides, with the track."""
        if self.track is None or not self.rows:
            return
        times = [parse_utc(row.utc) for row in self.rows]
        span = [min(times) - TRACK_MARGIN_NS, max(times) + TRACK_MARGIN_NS]
        first, last = np.searchsorted(self.track.utc_ns, span).tolist()
        ends = np.flatnonzero(np.diff(self.track.segment[first:last])) + first + 1
        for begin, end in pairwise([first, *ends.tolist(), last]):
            if end > begin:
                yield self.track, slice(begin, end)


def read_manifest(folder: Path) -> Manifest | None:
    """What a recording's folder says of it; None for a folder of something else, and for a damaged manifest."""
    try:
        return Manifest.from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, UnreadableError) as error:
        log.warning("%s is not used: %s", folder / MANIFEST, error)
        return None
