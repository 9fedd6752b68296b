"""What is judged: a recording whose photos have everything that they can have."""

import json
from pathlib import Path

import pytest

import parsePhotos
from rig.clock import iso_utc
from rig.photo import photos
from rig.photo.photos import Photo
from tests.albums import picture
from tests.test_parse_photos import BEGIN_NS, log_positions

MOVING_NS = BEGIN_NS + 20_000_000_000
INSTANTS = [MOVING_NS + 531_000_000 * number for number in range(24)]


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two cameras, all formats."""
    folder = tmp_path_factory.mktemp("judged") / "drive"
    rows = []
    for camera in ("left", "right"):
        for number, utc_ns in enumerate(INSTANTS):
            row = Photo(
                photo=f"photos/{camera}/{number:03d}.jpg", camera=camera, utc=iso_utc(utc_ns), time_error_ms=4.5
            )
            rows.append(row)
            (folder / row.photo).parent.mkdir(parents=True, exist_ok=True)
            (folder / row.photo).write_bytes(picture(len(rows)))
    photos.write_table(folder, rows)
    cameras = [
        {"serial": serial, "model": "HERO12 Black", "address": "", "folder": name}
        for name, serial in (("left", "C3501324500702"), ("right", "C3501324500711"))
    ]
    manifest = {"id": "drive", "mode": "video", "state": "finished", "started": iso_utc(BEGIN_NS), "cameras": cameras}
    (folder / "recording.json").write_text(json.dumps(manifest))
    log_positions(folder / "positions" / "positions.csv", range(BEGIN_NS, BEGIN_NS + 60_000_000_000, 100_000_000))
    assert parsePhotos.main([str(folder), "--format", "all"]) == 0
    return folder
