"""What a recording's report says: cameras by the crew's names, each damaged picture of a stream."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import parsePhotos
from rig.camera.camerabook import CameraBook
from rig.clock import iso_utc
from tests.test_parse_photos import BEGIN_NS, recording

INDEX = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of one camera whose stream lost something at three pictures; nobody knows when they came."""
    monkeypatch.setenv("EDENCAR_OUTPUT", str(tmp_path))
    drive = recording(tmp_path / "drive", [BEGIN_NS + 10**9, BEGIN_NS + 2 * 10**9])
    (camera,) = {row.split("/")[1] for row in re.findall(r"^photos/\w+", (drive / "photos.csv").read_text(), re.M)}
    manifest = {
        "id": "drive",
        "mode": "video",
        "state": "finished",
        "started": iso_utc(BEGIN_NS),
        "cameras": [{"serial": "C3501324500702", "model": "HERO12 Black", "address": "", "folder": camera}],
    }
    (drive / "recording.json").write_text(json.dumps(manifest))
    (drive / "videos" / camera).mkdir(parents=True)
    lines = "".join(f"{3003 * n},{n},{n},0,{errors}\n" for n, errors in enumerate((0, 2, 1, 0, 4)))
    (drive / "videos" / camera / "stream-001.idx").write_text(INDEX + lines)
    return drive


def data_of(folder: Path) -> dict[str, Any]:
    assert parsePhotos.main([str(folder), "--no-exif", "--format", "report"]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    found: dict[str, Any] = json.loads(match[1])
    return found


def test_cameras_are_called_as_the_crew_calls_them(folder: Path) -> None:
    CameraBook(folder.parent).set_label("C3501324500702", "Gauche")
    assert [camera["name"] for camera in data_of(folder)["cameras"]] == ["Gauche"]


def test_each_damaged_picture_of_a_stream_counts(folder: Path) -> None:
    (loss,) = data_of(folder)["losses"]
    assert (loss["pictures"], loss["damaged"], loss["errors"]) == (5, 3, 7)
