"""Photos get the nearest fix and the interpolated place, and never a fix that is too far away."""

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import parsePhotos
from rig.clock import iso_utc, parse_utc
from rig.photo import photos, tagging
from rig.photo.photos import Photo
from simulator.world import Street

BEGIN_NS = 1_795_356_192_000_000_000
STREET = Street(start_utc_ns=BEGIN_NS)
METRES_PER_DEGREE = 111_195.0
PLACE_COLUMNS = "utc,utc_ns,latitude,longitude,altitude_m"
COLUMNS = f"{PLACE_COLUMNS},quality,satellites,hdop,sigma_lat_m,sigma_lon_m,speed_mps,course_deg,flags"


def log_positions(path: Path, instants_ns: Sequence[int], quality: int = 4) -> None:
    """The street's own positions at these instants, without any noise."""
    rows = [COLUMNS]
    for utc_ns in instants_ns:
        pose = STREET.at(utc_ns)
        place = f"{pose.latitude:.10f},{pose.longitude:.10f},{pose.altitude_m:.3f}"
        rows.append(
            f"{iso_utc(utc_ns)},{utc_ns},{place},{quality},20,0.6,0.008,0.006,{pose.speed_mps:.3f},{pose.heading_deg:.2f},"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def recording(folder: Path, instants_ns: Sequence[int], time_error_ms: float = 5.0) -> Path:
    """A folder with a table of photos taken at these instants, and 60 s of positions at 10 Hz."""
    rows = [
        Photo(photo=f"photos/left/{utc_ns}.jpg", camera="left", utc=iso_utc(utc_ns), time_error_ms=time_error_ms)
        for utc_ns in instants_ns
    ]
    folder.mkdir(exist_ok=True)
    photos.write_table(folder, rows)
    log_positions(folder / "positions" / "positions.csv", range(BEGIN_NS, BEGIN_NS + 60_000_000_000, 100_000_000))
    return folder


def metres(row: Photo, *, interpolated: bool) -> float:
    """How far the photo's position is from where the car truly was."""
    pose = STREET.at(parse_utc(row.utc))
    latitude = row.interpolated_latitude if interpolated else row.latitude
    longitude = row.interpolated_longitude if interpolated else row.longitude
    assert latitude is not None
    assert longitude is not None
    north = (latitude - pose.latitude) * METRES_PER_DEGREE
    east = (longitude - pose.longitude) * METRES_PER_DEGREE * np.cos(np.radians(pose.latitude))
    return float(np.hypot(north, east))


def run(*arguments: object) -> int:
    return parsePhotos.main([str(argument) for argument in arguments])


INSTANTS = [BEGIN_NS + 137_000_000 * number for number in range(1, 400)]


def test_interpolated_places_are_true_and_nearest_fixes_are_not(tmp_path: Path) -> None:
    assert run(recording(tmp_path, INSTANTS)) == 0
    rows = photos.read_table(tmp_path)
    assert {row.interpolation for row in rows} == {"hermite"}
    assert max(metres(row, interpolated=True) for row in rows) < 0.01
    assert np.percentile([metres(row, interpolated=False) for row in rows], 95) > 0.2


def test_each_row_names_its_fix_and_how_far_away_it_is(tmp_path: Path) -> None:
    run(recording(tmp_path, INSTANTS))
    for row in photos.read_table(tmp_path):
        assert row.fix_dt_ms == pytest.approx((parse_utc(row.fix_utc) - parse_utc(row.utc)) / 1e6)
        assert row.fix_dt_ms is not None
        assert abs(row.fix_dt_ms) <= 50
        assert (row.quality, row.satellites, row.hdop) == (4, 20, 0.6)
        assert row.fix_sigma_m == pytest.approx(0.01)


def test_the_sigma_includes_the_time_s_share(tmp_path: Path) -> None:
    run(recording(tmp_path, INSTANTS, time_error_ms=26.0))
    for row in photos.read_table(tmp_path):
        assert row.position_sigma_m is not None
        assert row.speed_mps is not None
        assert row.position_sigma_m == pytest.approx(np.hypot(0.01, 0.010 * row.speed_mps), abs=2e-3)


@pytest.mark.parametrize("arm", ["0,0,0", "-3,4,0"])
def test_the_sigma_of_a_place_that_is_only_a_fix_includes_the_way_from_there(tmp_path: Path, arm: str) -> None:
    moving = [utc_ns for utc_ns in INSTANTS if STREET.at(utc_ns).speed_mps > 3][:20]
    assert run(recording(tmp_path, moving), "--method", "nearest", f"--lever-arm={arm}") == 0
    arm_m = 0.0 if arm == "0,0,0" else 5.0
    for row in photos.read_table(tmp_path):
        assert row.position_sigma_m == pytest.approx(np.hypot(arm_m, metres(row, interpolated=False)), abs=0.05)


def test_a_standing_car_keeps_its_heading_at_a_fix_too(tmp_path: Path) -> None:
    standing = [utc_ns for utc_ns in INSTANTS if STREET.at(utc_ns).speed_mps == 0]
    folder = recording(tmp_path, standing)
    log = folder / "positions" / "positions.csv"
    head, *lines = log.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    for number, line in enumerate(cells):
        if float(line[-3]) == 0:
            line[-2] = str(37 * number % 360)  # what a receiver says of the course of an antenna that stands
    log.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    assert run(folder, "--method", "nearest") == 0
    rows = photos.read_table(folder)
    assert len(rows) > 5
    for row in rows:
        assert row.heading_deg == pytest.approx(STREET.at(parse_utc(row.utc)).heading_deg, abs=5)


def test_a_photo_beyond_the_gap_gets_no_fix_and_says_why(tmp_path: Path) -> None:
    late = BEGIN_NS + 62_000_000_000
    run(recording(tmp_path, [*INSTANTS[:3], late]))
    *near, far = photos.read_table(tmp_path)
    assert all(row.latitude is not None for row in near)
    assert far.utc == iso_utc(late)
    assert (far.fix_utc, far.latitude, far.interpolated_latitude, far.position_sigma_m) == ("", None, None, None)
    assert far.flags == "no-fix-near"
    assert run(tmp_path, "--max-gap", "5s") == 0
    far = photos.read_table(tmp_path)[-1]
    assert far.latitude is not None
    assert far.flags == ""
    assert far.interpolation == "none"


def test_nothing_is_interpolated_across_a_loss_of_the_fixed_solution(tmp_path: Path) -> None:
    folder = recording(tmp_path, [BEGIN_NS + 1_050_000_000])
    log = folder / "positions" / "positions.csv"
    lines = log.read_text().splitlines()
    lines[12:] = [line.replace(",4,20,", ",1,20,") for line in lines[12:]]
    log.write_text("\n".join(lines) + "\n")
    run(folder)
    (row,) = photos.read_table(folder)
    assert row.interpolation == "none"
    assert row.interpolated_latitude is None
    assert row.latitude is not None


def test_the_nearest_method_leaves_the_interpolated_cells_empty(tmp_path: Path) -> None:
    assert run(recording(tmp_path, INSTANTS[:5]), "--method", "nearest") == 0
    assert {row.interpolation for row in photos.read_table(tmp_path)} == {"none"}


def test_a_heading_is_held_while_standing_and_never_360(tmp_path: Path) -> None:
    folder = recording(tmp_path, [BEGIN_NS + 450_000_000, BEGIN_NS + 5_050_000_000])
    rows = [PLACE_COLUMNS + ",quality,speed_mps,course_deg"]
    for number in range(80):
        moment, speed, course = BEGIN_NS + number * 100_000_000, 10.0 if number < 30 else 0.1, 359.998
        place = f"{48 + min(number, 30) * 9e-6:.10f},2.0000000000,30.0"
        rows.append(f"{iso_utc(moment)},{moment},{place},4,{speed},{course if number < 30 else number * 7.0}")
    (folder / "positions" / "positions.csv").write_text("\n".join(rows) + "\n")
    for method in ("nearest", "interpolate"):
        assert run(folder, "--method", method) == 0
        assert [row.heading_deg for row in photos.read_table(folder)] == [0.0, 0.0]


def test_the_lever_arm_moves_the_camera_forward_and_to_the_right(tmp_path: Path) -> None:
    moving = [utc_ns for utc_ns in INSTANTS if STREET.at(utc_ns).speed_mps > 3][:20]
    run(recording(tmp_path, moving), "--lever-arm", "3,4,0.5")
    for row in photos.read_table(tmp_path):
        assert metres(row, interpolated=True) == pytest.approx(5.0, abs=0.02)
        assert row.interpolated_altitude_m == pytest.approx(STREET.at(parse_utc(row.utc)).altitude_m + 0.5, abs=0.01)


def test_a_second_run_gives_the_same_table(tmp_path: Path) -> None:
    run(recording(tmp_path, INSTANTS))
    first = (tmp_path / "photos.csv").read_bytes()
    run(tmp_path)
    assert (tmp_path / "photos.csv").read_bytes() == first


def test_positions_may_come_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path, INSTANTS[:5])
    (tmp_path / "positions" / "positions.csv").rename(tmp_path / "track.csv")
    assert run(tmp_path, "--positions", tmp_path / "track.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["interpolated"] == 5


def test_of_several_recordings_one_summary_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [recording(tmp_path / name, INSTANTS[: 3 + 2 * number]) for number, name in enumerate("ab")]
    (folders[0] / "positions" / "positions.csv").rename(tmp_path / "track.csv")
    assert run(*folders, "--positions", tmp_path / "track.csv", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["photos"], said["located"], said["interpolated"]) == (8, 8, 8)
    assert said["tables"] == [str(folder / "photos.csv") for folder in folders]
    assert [text.split()[0] for text in said["warnings"]] == ["3", "5"], "photos that are not there"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    recording(tmp_path, INSTANTS)
    before = (tmp_path / "photos.csv").read_bytes()
    assert run(tmp_path, "--dry-run") == 0
    assert (tmp_path / "photos.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere"], 3),
        (["empty"], 3),
        (["good", "--positions", "text"], 3),
        (["good", "--positions", "nofix.csv"], 5),
        (["good", "--positions", "other-day.csv"], 5),
        (["good", "--max-gap", "long"], 2),
        (["good", "--max-gap", "-1"], 2),
        (["good", "--lever-arm", "1,2"], 2),
        (["good", "--lever-arm", "nan,2,3"], 2),
    ],
)
def test_bad_input_is_told_in_one_line_and_the_table_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    recording(Path("good"), INSTANTS[:5])
    before = Path("good/photos.csv").read_bytes()
    Path("empty").mkdir()
    Path("text").write_text("no positions here\n")
    Path("nofix.csv").write_text(COLUMNS + "\n")
    log_positions(Path("other-day.csv"), range(BEGIN_NS - 10**14, BEGIN_NS - 10**14 + 10**9, 10**8))
    assert run(*arguments) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("good/photos.csv").read_bytes() == before


def test_a_table_with_a_time_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path, INSTANTS[:3])
    table = tmp_path / "photos.csv"
    table.write_text(table.read_text().replace(iso_utc(INSTANTS[1]), "yesterday"))
    assert run(tmp_path) == 3
    assert "photos.csv" in capsys.readouterr().err


@pytest.mark.parametrize("said", [["--lever-arm=-1,0,0"], ["--lever-arm", "-1,0,0"], ["--lever-arm", "-.5,-.5,0"]])
def test_a_camera_behind_the_antenna_has_a_negative_arm(tmp_path: Path, said: list[str]) -> None:
    assert run(recording(tmp_path, INSTANTS[:3]), *said) == 0


def test_a_table_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text("a,b\n1,2\n")
    assert run(tmp_path) == 3


def test_a_photo_of_which_the_disk_takes_a_part_stays_as_it_was(tmp_path: Path) -> None:
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"as it was")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))  # like a full disk: the first 1,000 bytes are taken
    try:
        with pytest.raises(OSError):  # noqa: PT011  # whatever the disk says
            tagging._write(photo, b"x" * 1500, photo, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"as it was"]
