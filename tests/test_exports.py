"""What is exported says the same as the table, in each format's own words."""

import csv
import json
import sqlite3
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

import parsePhotos
from rig.clock import NS_PER_S, iso_utc, parse_utc
from rig.photo import photos, placing
from rig.photo.photos import Photo
from tests.albums import album, picture
from tests.test_parse_photos import BEGIN_NS, log_positions

INSTANTS = [BEGIN_NS + 331_000_000 * number for number in range(1, 41)]
NAMESPACES = {"g": "http://www.topografix.com/GPX/1/1", "k": "http://www.opengis.net/kml/2.2"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos of which the last has no place, in all formats; the track has a gap and two qualities."""
    folder = tmp_path_factory.mktemp("exports")
    album(folder / "card", [*INSTANTS, BEGIN_NS + 60 * NS_PER_S])
    times = [BEGIN_NS + 100_000_000 * n for n in range(200) if not 60 < n < 80]
    log_positions(folder / "track.csv", times)
    lines = (folder / "track.csv").read_text().splitlines()
    lines[100:] = [line.replace(",4,20,", ",5,20,") for line in lines[100:]]
    (folder / "track.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--positions", folder / "track.csv", "--output", folder / "out", "--format", "all"]
    assert parsePhotos.main([str(argument) for argument in [folder / "card", *arguments]]) == 0
    return folder / "out"


def places(folder: Path) -> list[tuple[Photo, float, float]]:
    rows = photos.read_table(folder)
    found = []
    for row in rows:
        latitude = row.latitude if row.interpolated_latitude is None else row.interpolated_latitude
        longitude = row.longitude if row.interpolated_longitude is None else row.interpolated_longitude
        if latitude is not None and longitude is not None:
            found.append((row, latitude, longitude))
    return found


def test_geojson_has_a_point_for_each_photo_with_a_place(made: Path) -> None:
    features = json.loads((made / "photos.geojson").read_text())["features"]
    known = places(made)
    assert len(features) == len(known) == 40
    for feature, (row, latitude, longitude) in zip(features, known, strict=True):
        assert feature["geometry"]["coordinates"][:2] == [longitude, latitude]
        assert feature["properties"]["photo"] == row.photo
        assert feature["properties"]["utc"] == row.utc


def test_gpx_has_a_way_point_for_each_photo_and_a_segment_for_each_leg(made: Path) -> None:
    root = ElementTree.parse(made / "photos.gpx").getroot()
    points = root.findall("g:wpt", NAMESPACES)
    for point, (row, latitude, longitude) in zip(points, places(made), strict=True):
        assert (float(point.get("lat", "")), float(point.get("lon", ""))) == (latitude, longitude)
        assert point.findtext("g:time", "", NAMESPACES) == row.utc
        link = point.find("g:link", NAMESPACES)
        assert link is not None
        assert link.get("href") == row.photo
    segments = root.findall("g:trk/g:trkseg", NAMESPACES)
    assert len(segments) == 3
    assert sum(len(segment) for segment in segments) == 181


def test_kml_has_both_layers(made: Path) -> None:
    root = ElementTree.parse(made / "photos.kml").getroot()
    assert len(root.findall(".//k:Point", NAMESPACES)) == 40
    assert len(root.findall(".//k:LineString", NAMESPACES)) == 3
    styles = [style.text for style in root.findall(".//k:styleUrl", NAMESPACES)]
    assert styles == ["#q4", "#q4", "#q5"]


def test_the_geopackage_has_qgis_s_fields_and_exact_points(made: Path) -> None:
    with sqlite3.connect(made / "photos.gpkg") as database:
        rows = database.execute(
            "SELECT geom, photo, filename, directory, altitude, direction, longitude, latitude, timestamp FROM photos"
        ).fetchall()
        lines = database.execute("SELECT quality, fixes FROM track").fetchall()
    database.close()
    for found, (row, latitude, longitude) in zip(rows, places(made), strict=True):
        assert found[1:4] == (row.photo, Path(row.photo).stem, str(Path(row.photo).parent))
        assert found[6:8] == pytest.approx((longitude, latitude), abs=1e-10)
        assert found[8] == row.utc
        assert struct.unpack("<2sBBi", found[0][:8]) == (b"GP", 0, 1, 4326)
        assert struct.unpack("<BIddd", found[0][8:])[2:] == (found[6], found[7], found[4])
    assert lines == [(4, 61), (4, 38), (5, 82)]


def test_the_tables_of_other_tools_name_the_same_places(made: Path) -> None:
    known = places(made)
    folder = made / Path(known[0][0].photo).parent
    with (made / "exiftool.csv").open(newline="") as file:
        for line, (row, latitude, longitude) in zip(csv.DictReader(file), known, strict=True):
            assert line["SourceFile"] == row.photo
            assert (float(line["GPSLatitude"]), float(line["GPSLongitude"])) == (latitude, longitude)
            moment = f"{line['DateTimeOriginal'].replace(':', '-', 2)}.{line['SubSecTimeOriginal']}Z"
            assert parse_utc(moment) == parse_utc(row.utc)
    with (folder / "panoramax.csv").open(newline="") as file:
        for line, (row, latitude, longitude) in zip(csv.DictReader(file), known, strict=True):
            assert (line["file"], line["capture_time"]) == (Path(row.photo).name, row.utc)
            assert (float(line["lat"]), float(line["lon"])) == (latitude, longitude)
    geo = (folder / "geo.txt").read_text().splitlines()
    assert geo[0] == "EPSG:4326"
    for text, (row, latitude, longitude) in zip(geo[1:], known, strict=True):
        name, x, y, *others = text.split()
        assert (name, float(x), float(y)) == (Path(row.photo).name, longitude, latitude)
        assert len(others) == 6
    for text, (row, latitude, longitude) in zip((folder / "pix4d.csv").read_text().splitlines(), known, strict=True):
        name, y, x, *others = text.split(",")
        assert (name, float(x), float(y)) == (Path(row.photo).name, longitude, latitude)
        assert len(others) == 6
    with (folder / "metashape.csv").open(newline="") as file:
        for line, (row, latitude, longitude) in zip(csv.DictReader(file), known, strict=True):
            assert (line["label"], float(line["longitude"])) == (Path(row.photo).name, longitude)
            assert float(line["latitude"]) == latitude


def test_a_camera_s_direction_is_the_heading_and_where_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_positions(tmp_path / "positions" / "positions.csv", range(BEGIN_NS, BEGIN_NS + 10**10, 10**8))
    for camera in ("left", "right"):
        (tmp_path / "photos" / camera).mkdir(parents=True)
        (tmp_path / "photos" / camera / "one.jpg").write_bytes(picture(1))
    rows = [
        Photo(photo=f"photos/{camera}/one.jpg", camera=camera, utc=iso_utc(INSTANTS[5])) for camera in ("left", "right")
    ]
    photos.write_table(tmp_path, rows)
    assert parsePhotos.main([str(tmp_path)]) == 0
    features = json.loads((tmp_path / "photos.geojson").read_text())["features"]
    left, right = (feature["properties"] for feature in features)
    assert left["direction_deg"] == pytest.approx((left["heading_deg"] - 90) % 360, abs=0.02)
    assert right["direction_deg"] == pytest.approx((right["heading_deg"] + 90) % 360, abs=0.02)


def test_an_export_of_nothing_is_an_empty_layer_not_a_fault(tmp_path: Path) -> None:
    from rig.photo import exports
    from rig.photo.collection import Collection

    written = exports.write(tmp_path, Collection("nothing", [], None, [], {}), exports.FORMATS)
    assert {path.name for path in written} == {
        "photos.geojson",
        "photos.gpx",
        "photos.kml",
        "exiftool.csv",
        "photos.gpkg",
    }
    assert json.loads((tmp_path / "photos.geojson").read_text())["features"] == []


def test_the_documentation_names_every_format() -> None:
    text = (Path(__file__).parent.parent / "docs" / "photos.md").read_text()
    assert all(f"| `{name}` |" in text for name in placing.FORMATS)
