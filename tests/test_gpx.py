"""GPX as it is written, as others write it, and as nobody should."""

from pathlib import Path

import pytest

from rig.errors import NoPositionError, UnreadableError
from rig.gnss.gpx import read_fixes
from rig.gnss.positions import Track

POINTS = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"
     xmlns:x="http://www.garmin.com/xmlschemas/TrackPointExtension/v2"><metadata><time>2020-01-01T00:00:00Z</time></metadata>
<wpt lat="1" lon="1"><time>2026-11-22T14:00:00Z</time></wpt>
<trk><trkseg>
<trkpt lat="47.1685000000" lon="-1.2674"><ele>68.25</ele><time>2026-11-22T14:03:12.345Z</time><fix>dgps</fix>
 <sat>12</sat><hdop>0.7</hdop>
 <extensions><x:TrackPointExtension><x:speed>7.5</x:speed><x:course>90</x:course></x:TrackPointExtension></extensions></trkpt>
<trkpt lat="47.1686" lon="-1.2674"><ele>n/a</ele><time>2026-11-22T15:03:13.345+01:00</time></trkpt>
<trkpt lat="47.1687" lon="-1.2674"><ele>1</ele><extensions><ele>2</ele></extensions></trkpt>
<trkpt lat="oops" lon="-1.2674"><time>2026-11-22T14:03:15Z</time></trkpt>
</trkseg></trk></gpx>
"""
BOMB = """<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<gpx><trk><trkseg><trkpt lat="1" lon="1"><time>&b;</time></trkpt></trkseg></trk></gpx>"""


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "drive.gpx"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_track_points_are_fixes(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, POINTS.replace("UTF-8", encoding.removesuffix("-sig")).encode(encoding))
    first, second, undated, nowhere = read_fixes(path)
    assert (first.utc, first.latitude, first.longitude) == ("2026-11-22T14:03:12.345Z", 47.1685, -1.2674)
    assert (first.altitude_m, first.quality, first.satellites, first.hdop) == (68.25, 2, 12, 0.7)
    assert (first.speed_mps, first.course_deg) == (7.5, 90.0)
    assert (second.utc, second.altitude_m, second.quality) == ("2026-11-22T14:03:13.345Z", None, None)
    assert undated.utc_ns is None
    assert undated.altitude_m == 1.0  # the point's own, not what an extension says
    assert nowhere.latitude is None is nowhere.longitude
    assert len(Track.load([path])) == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (BOMB, r"^\S*\.gpx has a document type"),
        (POINTS[:500], "no whole GPX"),
        ("<html><body/></html>", "no GPX"),
        ('<?xml version="1.0" encoding="martian"?><gpx/>', "no whole GPX"),
        (b"<gpx>\xff\xfe</gpx>", "no whole GPX"),
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, data: str | bytes, says: str) -> None:
    with pytest.raises(UnreadableError, match=says) as caught:
        Track.load([write(tmp_path, data)])
    assert "\n" not in str(caught.value)


def test_gpx_without_a_track_has_no_position(tmp_path: Path) -> None:
    with pytest.raises(NoPositionError):
        Track.load([write(tmp_path, "<gpx></gpx>")])


def test_a_film_with_gpmf_is_a_track(shared_data: Path) -> None:
    track = Track.load([shared_data / "gopro" / "max-heromode.mp4"])
    assert len(track) > 100
    assert track.latitude.std() < 0.01
    assert (track.utc_ns[1:] > track.utc_ns[:-1]).all()
