"""The verdict on a recording: known errors in, the same errors out."""

import csv
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest

from simulator.film import Film
from simulator.verdict import VerdictError, judge, table
from simulator.world import Street, World

START_NS = 1_795_356_192_000_000_000
SERIALS = {"left": "C1234", "right": "C5678"}
COLUMNS = (
    "photo,camera,utc,time_error_ms,latitude,longitude,interpolated_latitude,interpolated_longitude,position_sigma_m"
)
METRES_PER_DEGREE = 111_195.0


def iso(utc_ns: int) -> str:
    """To the millisecond, as photos.csv has it."""
    return (
        datetime.fromtimestamp(utc_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{utc_ns // 10**6 % 1000:03d}Z"
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Eight photos: times 3 and 5 ms late by camera, nearest fix 0.5 m and interpolation 0.02 m to the north."""
    street, rows = Street(start_utc_ns=START_NS), []
    cameras = [{"label": label, "serial": serial} for label, serial in SERIALS.items()]
    world = {"street": {"seed": street.seed, "start_utc_ns": START_NS}, "cameras": cameras}
    (tmp_path / "world.json").write_text(json.dumps(world))
    for late_ms, (label, serial) in zip((3, 5), SERIALS.items(), strict=True):
        film = Film(World(START_NS, 0), street, label, 640, 360)
        lines = ["number,stream,pts_90khz,utc_ns"]
        for number in range(1, 5):
            utc_ns = START_NS + number * 2_000_000_000
            pose = street.at(utc_ns)
            name = f"{serial}-{number}.jpg"
            cv2.imwrite(str(tmp_path / name), film.picture(utc_ns, number).to_ndarray(format="bgr24"))
            lines.append(f"{number},webcam,0,{utc_ns}")
            north = [pose.latitude + metres / METRES_PER_DEGREE for metres in (0.5, 0.02)]
            fields = [name, serial, iso(utc_ns + late_ms * 10**6), "4.0"]
            fields += [
                f"{north[0]:.10f}",
                f"{pose.longitude:.10f}",
                f"{north[1]:.10f}",
                f"{pose.longitude:.10f}",
                "0.01",
            ]
            rows.append(fields)
        (tmp_path / f"frames-{serial}.csv").write_text("\n".join(lines) + "\n")
    write(tmp_path, rows)
    return tmp_path


def write(folder: Path, rows: list[list[str]]) -> None:
    """photos.csv with the columns that matter here."""
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS.split(","), *rows])


def read(folder: Path) -> list[list[str]]:
    """The rows of photos.csv without the header."""
    with (folder / "photos.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_known_errors_come_out_again(recording: Path) -> None:
    verdict = judge(recording, recording)
    assert verdict.unread == 0
    assert list(verdict.figures) == ["left", "right", "all"]
    left, right = verdict.figures["left"], verdict.figures["right"]
    assert (left.photos, left.time_bias_ms, left.time_max_ms, left.time_covered_share) == (4, 3.0, 3.0, 1.0)
    assert (right.time_median_ms, right.time_covered_share) == (5.0, 0.0)
    assert verdict.all.nearest_p95_m == pytest.approx(0.5, abs=0.01)
    assert verdict.all.interpolated_median_m == pytest.approx(0.02, abs=0.001)
    assert verdict.all.position_covered_share == 1.0
    assert json.loads(json.dumps(verdict.as_dict()))["figures"]["all"]["photos"] == 8


def test_empty_cells_and_unreadable_photos_do_not_count(recording: Path) -> None:
    rows = read(recording)
    rows[0][4:9] = [""] * 5
    (recording / rows[1][0]).write_bytes(b"no picture")
    (recording / rows[2][0]).unlink()
    write(recording, rows)
    verdict = judge(recording, recording)
    assert verdict.unread == 2
    assert verdict.figures["left"].photos == 2
    assert verdict.figures["left"].nearest_median_m == pytest.approx(0.5, abs=0.01)


def test_a_camera_without_a_serial_is_known_by_its_address(recording: Path) -> None:
    world = json.loads((recording / "world.json").read_text())
    world["cameras"][1]["address"] = "127.0.0.1:8080"
    (recording / "world.json").write_text(json.dumps(world))
    entry = {"address": "127.0.0.1:8080", "serial": "127_0_0_1_8080", "folder": "127_0_0_1_8080"}
    (recording / "recording.json").write_text(json.dumps({"cameras": [entry]}))
    write(recording, [[row[0], row[1].replace("C5678", "127_0_0_1_8080"), *row[2:]] for row in read(recording)])
    assert judge(recording, recording).figures["right"].photos == 4


def test_photos_of_unknown_cameras_leave_nothing_to_compare(recording: Path) -> None:
    write(recording, [[row[0], "somebody", *row[2:]] for row in read(recording)])
    verdict = judge(recording, recording)
    assert (verdict.unread, verdict.all.photos, verdict.all.time_p95_ms) == (8, 0, None)
    assert "-" in table(verdict)


def test_the_table_has_a_line_for_each_camera_and_for_all(recording: Path) -> None:
    lines = table(judge(recording, recording)).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["left", "right", "all"]
    assert len({line.index("|") for line in lines}) == 1
    assert not any(math.isnan(float(cell)) for cell in lines[-1].replace("|", " ").replace("%", "").split()[1:])


@pytest.mark.parametrize("content", [None, COLUMNS + "\n"])
def test_no_photos_is_an_error(content: str | None, recording: Path) -> None:
    if content is None:
        (recording / "photos.csv").unlink()
    else:
        (recording / "photos.csv").write_text(content)
    with pytest.raises(VerdictError):
        judge(recording, recording)
