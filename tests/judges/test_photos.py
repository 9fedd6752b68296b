"""Programs of others judge the photos and files; see README.md here for how to install them."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import parsePhotos
from rig.clock import iso_utc, parse_utc
from rig.gnss.positions import Track
from rig.photo import exif, photos
from rig.photo.locate import Rule, locate
from rig.photo.photos import Photo
from simulator.hero.exif import Shot, with_tags
from simulator.hero.telemetry import Maker
from tests.albums import HEIGHT, WIDTH, album, picture
from tests.judges.asking import JUDGES, ask, judge
from tests.judges.conftest import INSTANTS, MOVING_NS
from tests.test_parse_photos import BEGIN_NS, STREET

HERE = Path(__file__).parent
METRES_PER_DEGREE = 111_195.0
pytestmark = pytest.mark.timeout(300)  # some judges take seconds to start, on a Pi tens of them


def exif_of(paths: Sequence[Path], *tags: str) -> list[dict[str, float]]:
    done = ask(judge("exiftool"), "-j", "-n", *tags, *paths)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, float]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def tagged_album(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of a GoPro's own photos, and one in the other byte order with a thumbnail and a maker note."""
    folder = tmp_path_factory.mktemp("album")
    album(folder / "card", INSTANTS)
    shot = Shot(INSTANTS[-1] + 10**9, INSTANTS[-1], STREET.at(INSTANTS[-1]), "100GOPRO/G.JPG", WIDTH, HEIGHT)
    tagged, _ = with_tags(picture(5), shot, Maker("HERO11 Black", "C3471325208244", "H22.01.02.32.00", "left"))
    (folder / "card" / "with-gps.jpg").write_bytes(tagged)
    log = recording / "positions" / "positions.csv"
    words = [folder / "card", "--positions", log, "--output", folder / "out", "--format", "all"]
    assert parsePhotos.main(list(map(str, words))) == 0
    return folder / "out"


@pytest.mark.parametrize("kind", ["recording", "tagged_album"])
def test_exiftool_finds_no_fault_in_any_photo(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    done = ask(judge("exiftool"), "-validate", "-warning", "-error", "-a", "-r", "-s3", "-q", "-ext", "jpg", folder)
    verdicts = done.stdout.split("\n")[:-1]
    assert set(verdicts) == {"OK"}
    assert len(verdicts) == len(photos.read_table(folder))


def test_a_photo_without_a_place_is_valid_too(tmp_path: Path) -> None:
    tags = exif.PhotoTags(utc_ns=BEGIN_NS, width=WIDTH, height=HEIGHT)
    (tmp_path / "one.jpg").write_bytes(exif.with_tags(picture(1), tags))
    done = ask(judge("exiftool"), "-validate", "-warning", "-a", "-s3", tmp_path / "one.jpg")
    assert done.stdout.strip() == "OK"


def test_exiftool_reads_what_the_table_says(recording: Path) -> None:
    rows = photos.read_table(recording)
    tags = (
        "-GPSLatitude",
        "-GPSLongitude",
        "-GPSHPositioningError",
        "-GPSImgDirection",
        "-GPSSpeed",
        "-Composite:GPSDateTime",
    )
    for row, said in zip(rows, exif_of([recording / row.photo for row in rows], *tags), strict=True):
        assert said["GPSLatitude"] == pytest.approx(row.interpolated_latitude, abs=1e-9)
        assert said["GPSLongitude"] == pytest.approx(row.interpolated_longitude, abs=1e-9)
        assert said["GPSHPositioningError"] == pytest.approx(row.position_sigma_m, abs=1e-4)
        assert row.heading_deg is not None
        assert row.speed_mps is not None
        aside = -90 if row.camera == "left" else 90
        assert said["GPSImgDirection"] == pytest.approx((row.heading_deg + aside) % 360, abs=0.011)
        assert said["GPSSpeed"] == pytest.approx(3.6 * row.speed_mps, abs=2e-3)
        assert parse_utc(str(said["GPSDateTime"]).replace(":", "-", 2)) == parse_utc(row.utc)


def test_exiv2_has_nothing_to_warn_of(recording: Path, tagged_album: Path) -> None:
    for path in [recording / "photos" / "left" / "003.jpg", *sorted(tagged_album.rglob("*.[jJ][pP][gG]"))[-2:]]:
        done = ask(judge("exiv2"), "-pa", path)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "Exif.GPSInfo.GPSLatitude" in done.stdout


def test_exiftool_reads_its_table_into_untagged_copies(recording: Path, tmp_path: Path) -> None:
    rows = photos.read_table(recording)
    for number, row in enumerate(rows):
        (tmp_path / row.photo).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / row.photo).write_bytes(picture(number))
    shutil.copy(recording / "exiftool.csv", tmp_path)
    done = ask(judge("exiftool"), "-q", "-csv=exiftool.csv", "-r", "photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tags = ("-GPSLatitude", "-GPSLongitude", "-SubSecDateTimeOriginal")
    for row, said in zip(rows, exif_of([tmp_path / row.photo for row in rows], *tags), strict=True):
        # In this mode ExifTool reads the unsigned values of EXIF, as it wrote them from the table's own columns.
        assert abs(said["GPSLatitude"]) == pytest.approx(abs(row.interpolated_latitude or 0), abs=1e-9)
        assert abs(said["GPSLongitude"]) == pytest.approx(abs(row.interpolated_longitude or 0), abs=1e-9)
        assert parse_utc(str(said["SubSecDateTimeOriginal"]).replace(":", "-", 2)) == parse_utc(row.utc)


def sentence(body: str) -> str:
    check = 0
    for byte in body.encode():
        check ^= byte
    return f"${body}*{check:02X}\r\n"


def nmea(instants_ns: Sequence[int]) -> str:
    """RMC and GGA of the street, with seven decimals of a minute."""
    lines = []
    for utc_ns in instants_ns:
        pose, moment = STREET.at(utc_ns), iso_utc(utc_ns)
        clock = moment[11:22].replace(":", "")
        date = moment[8:10] + moment[5:7] + moment[2:4]
        sides = ((pose.latitude, 2, "NS"), (pose.longitude, 3, "EW"))
        place = ",".join(
            f"{int(abs(value)):0{width}d}{abs(value) % 1 * 60:010.7f},{signs[value < 0]}"
            for value, width, signs in sides
        )
        lines.append(
            sentence(f"GNRMC,{clock},A,{place},{pose.speed_mps / 0.514444:.3f},{pose.heading_deg:.2f},{date},,,R")
        )
        lines.append(sentence(f"GNGGA,{clock},{place},4,20,0.6,{pose.altitude_m:.3f},M,47.0,M,1.0,0001"))
    return "".join(lines)


@pytest.mark.parametrize("step_ms", [200, 1000])
def test_exiftool_s_geotag_gives_our_linear_positions_within_2_mm(tmp_path: Path, step_ms: int) -> None:
    log = tmp_path / "track.nmea"
    log.write_text(nmea(range(MOVING_NS - 2_000_000_000, MOVING_NS + 30_000_000_000, step_ms * 1_000_000)))
    dice = np.random.default_rng(7)
    instants = sorted(MOVING_NS + 1_000_000 * int(ms) for ms in dice.choice(28_000, 60, replace=False))
    rows = [Photo(photo=f"{number:03d}.jpg", camera="c", utc=iso_utc(utc_ns)) for number, utc_ns in enumerate(instants)]
    for row in rows:
        tags = exif.PhotoTags(utc_ns=parse_utc(row.utc), width=WIDTH, height=HEIGHT)
        (tmp_path / row.photo).write_bytes(exif.with_tags(picture(1), tags))
    words = ["-q", "-overwrite_original", "-geotag", log, "-geotime<SubSecDateTimeOriginal", "-ext", "jpg", tmp_path]
    done = ask(judge("exiftool"), *words)
    assert done.returncode == 0, done.stderr
    ours = locate(rows, Track.load([log]), Rule("linear", 1.0, (0.0, 0.0, 0.0)))
    theirs = exif_of([tmp_path / row.photo for row in rows], "-Composite:GPSLatitude", "-Composite:GPSLongitude")
    for row, said in zip(ours, theirs, strict=True):
        assert row.interpolation == "linear"
        assert row.interpolated_latitude is not None
        assert row.interpolated_longitude is not None
        north = (said["GPSLatitude"] - row.interpolated_latitude) * METRES_PER_DEGREE
        east = (said["GPSLongitude"] - row.interpolated_longitude) * METRES_PER_DEGREE
        assert np.hypot(north, east) < 0.002


@pytest.mark.parametrize("kind", ["recording", "tagged_album"])
def test_mapillary_would_take_all_photos(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    report = tmp_path / "out.json"
    done = ask(judge("mapillary_tools"), "process", folder / "photos", "--desc_path", report)
    assert done.returncode == 0, done.stderr
    described = [item for item in json.loads(report.read_text()) if "error" not in item]
    rows = photos.read_table(folder)
    assert len(described) == len(rows)
    by_name = {(Path(item["filename"]).parent.name, Path(item["filename"]).name): item for item in described}
    for row in rows:
        item = by_name[Path(row.photo).parent.name, Path(row.photo).name]
        assert item["MAPLatitude"] == pytest.approx(row.interpolated_latitude, abs=1e-7)
        assert item["MAPCaptureTime"] == re.sub(r"\D", "_", row.utc[:-1])


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "by panoramax.csv"])
def test_panoramax_has_no_issue(recording: Path, tmp_path: Path, tagged: bool) -> None:
    folder = tmp_path / "left"
    shutil.copytree(recording / "photos" / "left", folder)
    if not tagged:
        for path in folder.glob("*.jpg"):
            path.write_bytes(picture(int(path.stem)))
    report = tmp_path / "report.json"
    words = ["check-sequences", folder, "--report-file", report, "--geojson-dir", tmp_path / "geojson"]
    done = ask(judge("panoramax_cli"), *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert found["pictures_exif_issues"] == []
    assert len(found["folders"]) == 1


def test_the_tag_reader_of_panoramax_finds_place_heading_and_two_equal_clocks(recording: Path) -> None:
    row = photos.read_table(recording)[9]
    done = ask(judge("geopic-tag-reader"), "read", "--image", recording / row.photo)
    assert done.returncode == 0, done.stderr
    latitude = re.search(r"Latitude: (\S+)", done.stdout)
    assert latitude is not None
    assert float(latitude[1]) == pytest.approx(row.interpolated_latitude, abs=1e-9)
    assert "Heading: None" not in done.stdout
    clocks = re.findall(r"- (\S+ \S+) \((GPS|Camera)\)", done.stdout)
    assert len(clocks) == 2
    assert {parse_utc(text.replace("000+", "+")) for text, _ in clocks} == {parse_utc(row.utc)}


@pytest.mark.parametrize(
    ("name", "driver", "layers"),
    [
        ("photos.gpkg", "GPKG", {"photos": 48, "track": 1}),
        ("photos.geojson", "GeoJSON", {"drive": 48}),
        ("photos.gpx", "GPX", {"waypoints": 48, "tracks": 1}),
        ("photos.kml", "KML", {"photos": 48, "track": 1}),
    ],
)
def test_gdal_reads_all_layers(recording: Path, name: str, driver: str, layers: dict[str, int]) -> None:
    done = ask(judge("ogrinfo"), "-al", "-so", recording / name)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert driver in done.stdout.partition("successful")[0]
    counts = dict(re.findall(r"Layer name: (\S+)\n.*?Feature Count: (\d+)", done.stdout, re.DOTALL))
    for layer, count in layers.items():
        assert int(counts[layer]) == count
    if name.endswith(("gpkg", "geojson")):
        assert "3D Point" in done.stdout


def test_the_geopackage_meets_the_standard(recording: Path) -> None:
    script = next(JUDGES.glob("lib/python3*/site-packages/osgeo_utils/samples/validate_gpkg.py"), None)
    if script is None:
        pytest.skip("gdal-utils is not installed: see tests/judges/README.md")
    done = ask(JUDGES / "bin" / "python", script, recording / "photos.gpkg")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gpx_is_valid(recording: Path, tagged_album: Path) -> None:
    for folder in (recording, tagged_album):
        words = ["--noout", "--nonet", "--schema", HERE / "gpx.xsd", folder / "photos.gpx"]
        done = ask(judge("xmllint"), *words)
        assert done.returncode == 0, done.stderr


def test_gpxpy_reads_the_times(recording: Path) -> None:
    python = JUDGES / "bin" / "python"
    if not python.exists():
        pytest.skip("gpxpy is not installed: see tests/judges/README.md")
    program = "import gpxpy, sys; g = gpxpy.parse(open(sys.argv[1])); print(*(p.time.isoformat() for p in g.waypoints))"
    done = ask(python, "-c", program, recording / "photos.gpx")
    assert done.returncode == 0, done.stderr
    rows = photos.read_table(recording)
    assert [parse_utc(text) for text in done.stdout.split()] == [parse_utc(row.utc) for row in rows]
