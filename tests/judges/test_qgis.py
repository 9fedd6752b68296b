"""QGIS, without a screen, imports the photos by their EXIF and opens the files beside them."""

import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig.clock import parse_utc
from rig.photo import exif, photos
from rig.photo.geopackage import PHOTO_FIELDS
from tests.albums import HEIGHT, WIDTH, picture
from tests.judges.asking import ask, judge
from tests.test_parse_photos import BEGIN_NS

IMPORTED = list(PHOTO_FIELDS)[:9]
ENVELOPE_BYTES = (0, 32, 48, 48, 64)  # of a GeoPackage's geometry, by its flags
SIX_DIGITS_DEGREES = 5e-5 / 3600 + 1e-9  # QGIS takes seconds of arc of EXIF with six digits
FLOAT_SECONDS_NS = 1_000_000  # older GDALs hand seconds on as floats of 32 bits, cut to milliseconds then
MILLISECONDS = "format_date({}, 'yyyy-MM-ddThh:mm:ss.zzz') || 'Z'"
pytestmark = pytest.mark.timeout(300)

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def qgis(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run one of QGIS's algorithms and read what it makes; its settings do not become those of the user."""
    # Debian 12's qgis_process is a script that adds an option which the program it calls does not know.
    program = judge("qgis_process.bin", "qgis_process")
    home = tmp_path_factory.mktemp("qgis")
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "QT_QPA_PLATFORM": "offscreen"}

    def run(algorithm: str, **words: object) -> list[dict[str, Any]]:
        output = home / "output.gpkg"
        output.unlink(missing_ok=True)
        options = [f"--{name.upper()}={value}" for name, value in words.items()]
        done = ask(program, "run", algorithm, *options, f"--OUTPUT={output}", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return features(output)

    return run


def features(path: Path) -> list[dict[str, Any]]:
    """A GeoPackage's features in the order of their photos, with the point as longitude, latitude, height."""
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    (table,) = database.execute("SELECT table_name FROM gpkg_contents").fetchone()
    rows = [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')]
    database.close()
    for row in rows:
        del row["fid"]
        row["point"] = point_of(row.pop("geom"))
    return sorted(rows, key=lambda row: str(row.get("photo", "")))


def point_of(geometry: bytes | None) -> tuple[float, ...]:
    """Longitude, latitude and, where there is one, height; nothing of what is no point."""
    if geometry is None:
        return ()
    shape = geometry[8 + ENVELOPE_BYTES[geometry[3] >> 1 & 7] :]
    kind: int = struct.unpack("<I", shape[1:5])[0]
    return struct.unpack(f"<{(len(shape) - 5) // 8}d", shape[5:]) if kind % 1000 == 1 else ()


def test_the_importer_of_photos_finds_place_height_direction_and_time(
    recording: Path, qgis: Run, tmp_path: Path
) -> None:
    words = {"folder": recording / "photos", "recursive": "true", "invalid": tmp_path / "invalid.gpkg"}
    imported = qgis("native:importphotos", **words)
    assert features(tmp_path / "invalid.gpkg") == []
    rows = sorted(photos.read_table(recording), key=lambda row: row.photo)
    for row, said in zip(rows, imported, strict=True):
        assert list(said) == [*IMPORTED, "point"]
        assert said["photo"] == str(recording / row.photo)
        place = (row.interpolated_longitude, row.interpolated_latitude, row.interpolated_altitude_m)
        assert said["point"][:2] == pytest.approx(place[:2], abs=SIX_DIGITS_DEGREES)
        assert (float(said["longitude"]), float(said["latitude"])) == pytest.approx(place[:2], abs=SIX_DIGITS_DEGREES)
        assert (said["altitude"], said["point"][2]) == pytest.approx((place[2], place[2]), abs=1e-3)
        assert row.heading_deg is not None
        aside = -90 if row.camera == "left" else 90
        assert said["direction"] == pytest.approx((row.heading_deg + aside) % 360, abs=0.011)
        assert said["timestamp"][:19] == row.utc[:19]  # QGIS leaves the sub-seconds of EXIF out


def test_the_importer_keeps_south_east_and_below_the_sea(qgis: Run, tmp_path: Path) -> None:
    longitude, latitude, altitude_m = 151.2152967, -33.8567844, -5.25
    tags = exif.PhotoTags(
        utc_ns=BEGIN_NS, width=WIDTH, height=HEIGHT, latitude=latitude, longitude=longitude, altitude_m=altitude_m
    )
    (tmp_path / "one.jpg").write_bytes(exif.with_tags(picture(1), tags))
    (said,) = qgis("native:importphotos", folder=tmp_path, recursive="false")
    assert said["point"][:2] == pytest.approx((longitude, latitude), abs=SIX_DIGITS_DEGREES)
    assert said["altitude"] == pytest.approx(altitude_m)


@pytest.mark.parametrize(
    ("source", "name", "time", "fields"),
    [
        ("photos.gpkg|layername=photos", "photo", "timestamp", list(PHOTO_FIELDS)),
        ("photos.geojson", "photo", "utc", ["photo", "camera", "utc", "time_error_ms", "position_sigma_m"]),
        ("photos.gpx|layername=waypoints", "name", "time", ["ele", "time", "name", "link1_href", "fix", "sat", "hdop"]),
        ("photos.kml|layername=photos", "Name", "timestamp", ["Name", "description", "timestamp"]),
    ],
)
def test_a_layer_opens_with_all_points_fields_and_milliseconds(
    recording: Path, qgis: Run, source: str, name: str, time: str, fields: list[str]
) -> None:
    by_name = {Path(row.photo).stem: row for row in photos.read_table(recording)}  # both cameras took them together
    opened = open_layer(qgis, recording / source, time)
    assert len(opened) == 48
    for said in opened:
        assert set(fields) <= set(said)
        row = by_name[Path(said[name]).stem]
        place = (row.interpolated_longitude, row.interpolated_latitude, row.interpolated_altitude_m)
        assert said["point"][:2] == pytest.approx(place[:2], abs=1e-10)
        assert said["point"][2] == pytest.approx(place[2], abs=1e-3)
        assert parse_utc(said["read"]) == pytest.approx(parse_utc(row.utc), abs=FLOAT_SECONDS_NS)


def test_the_table_opens_as_delimited_text_with_numbers_and_times(recording: Path, qgis: Run) -> None:
    fields = "xField=interpolated_longitude&yField=interpolated_latitude&crs=EPSG:4326&detectTypes=yes"
    opened = open_layer(qgis, f"delimitedtext://file://{recording / photos.TABLE_NAME}?type=csv&{fields}", "utc")
    rows = sorted(photos.read_table(recording), key=lambda row: row.photo)
    for row, said in zip(rows, opened, strict=True):
        assert list(said)[: len(photos.COLUMNS)] == list(photos.COLUMNS)
        assert parse_utc(said["read"]) == parse_utc(row.utc)
        assert said["point"] == (row.interpolated_longitude, row.interpolated_latitude)
        assert (said["time_error_ms"], said["quality"]) == (row.time_error_ms, row.quality)


@pytest.mark.parametrize("source", ["photos.gpkg|layername=track", "photos.gpx|layername=tracks"])
def test_the_track_opens_as_one_line(recording: Path, qgis: Run, source: str) -> None:
    (said,) = qgis("native:savefeatures", input=recording / source)
    assert said["point"] == ()


def open_layer(qgis: Run, source: object, time: str) -> list[dict[str, Any]]:
    """The features, and as `read` what QGIS takes for their time (saved again, a time may lose its milliseconds)."""
    field = {"field_name": "read", "field_type": 2, "field_length": 40, "formula": MILLISECONDS.format(time)}
    return qgis("native:fieldcalculator", input=source, **field)
