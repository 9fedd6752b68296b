"""Tracks: what is loaded, what is nearest, and what lies between, on made drives and on a real one."""

import csv
import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np
import pytest

from rig.arrays import Float64, Int64
from rig.clock import NS_PER_S, iso_utc, parse_utc
from rig.errors import NoPositionError, UnreadableError
from rig.gnss.fix import FIX_COLUMNS, Fix, csv_line
from rig.gnss.nmea import read_log
from rig.gnss.positions import Places, Track, lever_arm

START_NS = 1_795_370_837_000_000_000
HEADER = ",".join(FIX_COLUMNS) + "\n"
NORTH_M = 111_195.0  # metres in a degree, near enough for centimetres over short ways


def fix(second: float, north_m: float = 0.0, east_m: float = 0.0, quality: int = 4, **more: float) -> Fix:
    """A fix near 0 N 0 E, where both degrees have their full length."""
    utc_ns = START_NS + round(second * NS_PER_S)
    values = {"speed_mps": 10.0, "course_deg": 0.0, "hdop": 1.0, "satellites": 12} | more
    place = {"latitude": 0.1 + north_m / 110_574.3, "longitude": 0.1 + east_m / 111_319.3, "altitude_m": 50.0 + second}
    return Fix(utc=iso_utc(utc_ns), utc_ns=utc_ns, date_source="rmc", quality=quality, **place, **values)  # type: ignore[arg-type]


def straight(seconds: float = 10.0, rate_hz: int = 10, speed_mps: float = 10.0) -> list[Fix]:
    times = [i / rate_hz for i in range(round(seconds * rate_hz))]
    return [fix(second, north_m=speed_mps * second, speed_mps=speed_mps) for second in times]


def circle(seconds: float, rate_hz: int, radius_m: float = 20.0, speed_mps: float = 8.0) -> list[Fix]:
    fixes = []
    for second in (i / rate_hz for i in range(round(seconds * rate_hz))):
        turn = speed_mps * second / radius_m
        north_m, east_m = radius_m * math.sin(turn), radius_m * (1 - math.cos(turn))
        course = math.degrees(turn) % 360
        fixes.append(fix(second, north_m, east_m, speed_mps=speed_mps, course_deg=course))
    return fixes


def at(*seconds: float) -> Int64:
    return np.array([START_NS + round(second * NS_PER_S) for second in seconds], dtype=np.int64)


def write(path: Path, fixes: Sequence[Fix]) -> Path:
    path.write_text(HEADER + "".join(map(csv_line, fixes)))
    return path


def distance_m(places: Places | Track, latitude: Float64, longitude: Float64) -> Float64:
    east = (places.longitude - longitude) * np.cos(np.radians(latitude))
    return np.asarray(NORTH_M * np.hypot(places.latitude - latitude, east))


# Loading


def test_our_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    fixes = straight(2)
    track = Track.load([write(tmp_path / "positions.csv", fixes)])
    assert list(track.utc_ns) == [item.utc_ns for item in fixes]
    assert list(track.latitude) == [pytest.approx(item.latitude, abs=6e-11) for item in fixes]
    assert set(track.quality) == {4}
    assert set(track.satellites) == {12}
    assert set(track.sigma_m) == {0.02}
    assert set(track.segment) == {0}


def test_rows_cut_by_a_crash_or_a_power_cut_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    lines = [csv_line(item) for item in straight(1)]
    glued = lines[3][:60] + lines[4]
    cut = lines[9][:-40]
    path.write_text("\ufeff" + HEADER + "".join(lines[:3]) + glued + "\0" * 500 + "".join(lines[5:9]) + "\0\0" + cut)
    assert [int(n) for n in (Track.load([path]).utc_ns - START_NS) // 100_000_000] == [0, 1, 2, 5, 6, 7, 8]


def test_a_damaged_row_costs_no_other(tmp_path: Path) -> None:
    lines = [csv_line(item) for item in straight(100)]
    cells = lines[3].split(",")
    lines[3] = ",".join([*cells[:3], f'"{cells[3][1:]}', *cells[4:]])
    (tmp_path / "positions.csv").write_text(HEADER + "".join(lines))
    assert len(Track.load([tmp_path / "positions.csv"])) == len(lines) - 1


def test_logs_and_tables_are_merged_sorted_and_without_repeats(shared_data: Path, tmp_path: Path) -> None:
    log = shared_data / "nmea" / "synthetic" / "plain_10hz.nmea"
    fixes = read_log(log)
    late, early = write(tmp_path / "late.csv", fixes[20:]), write(tmp_path / "early.csv", fixes[:30])
    track, merged = Track.load([log]), Track.load([late, early, log])
    assert len(track) == len(merged) == 50
    assert np.all(np.diff(merged.utc_ns) == 100_000_000)
    assert np.max(np.abs(merged.latitude - track.latitude)) < 6e-11
    assert set(merged.segment) == {0}
    assert track.sigma_m[0] == pytest.approx(math.hypot(0.010, 0.009))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(3000), b"a,b\n1,2\n", bytes(5000)])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "thing.csv"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"thing\.csv is neither positions\.csv, NMEA, GPX nor") as caught:
        Track.load([path])
    assert "\n" not in str(caught.value)


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        Track.load([tmp_path / "nothing.csv"])


def test_zero_north_zero_east_is_no_place() -> None:
    nowhere = [replace(item, latitude=0.0, longitude=0.0) for item in straight(1)]
    assert len(Track.of_logs([straight(1)[:5] + nowhere[5:]])) == 5


def test_no_position_says_why(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(NoPositionError, match="no date"):
        Track.load([shared_data / "nmea" / "synthetic" / "gga_only_no_date.nmea"])
    with pytest.raises(NoPositionError, match="no row has a position"):
        Track.load([write(tmp_path / "positions.csv", [])])
    with pytest.raises(NoPositionError):
        Track.load([])


def test_epochs_without_a_fix_are_not_in_the_track(shared_data: Path) -> None:
    track = Track.load([shared_data / "nmea" / "synthetic" / "fix_lost.nmea"])
    assert len(track) == 25
    assert track.segment[-1] == 1


def test_leap_second_takes_no_place_from_the_second_after_it(shared_data: Path) -> None:
    track = Track.load([shared_data / "nmea" / "synthetic" / "leap_second_2016.nmea"])
    assert list(np.diff(track.utc_ns)) == [NS_PER_S] * 3
    assert track.latitude[2] == pytest.approx(47.168521, abs=1e-9)


def test_clock_set_back_replaces_what_it_contradicts_and_single_wrong_times_vanish() -> None:
    before, after = straight(10), [replace(item, altitude_m=7.0) for item in straight(10)[40:]]
    track = Track.of_logs([before + after])
    assert len(track) == 100
    assert np.flatnonzero(track.altitude_m == 7.0)[0] == 40
    for wrong_s in (-3600.0, -3.0, 3.0, 3600.0):
        log = straight(10)
        damaged_ns = _time(log[50])
        log[50] = replace(log[50], utc_ns=damaged_ns + round(wrong_s * NS_PER_S))
        assert set(Track.of_logs([log]).utc_ns) == {_time(item) for item in straight(10)} - {damaged_ns}


def _time(item: Fix) -> int:
    assert item.utc_ns is not None
    return item.utc_ns


# Nearest


def test_nearest_is_the_nearer_one_and_never_too_far() -> None:
    track = Track.of_logs([straight(1)])
    assert list(track.nearest(at(-0.3, -0.1, 0.0, 0.04, 0.06, 0.9, 1.1, 1.2), 0.25)) == [-1, 0, 0, 0, 1, 9, 9, -1]
    assert list(Track.of_logs([[fix(0)]]).nearest(at(-2, -0.5, 0, 0.5, 2), 1.0)) == [-1, 0, 0, 0, -1]


def test_nearest_equals_a_search_of_all() -> None:
    luck = np.random.default_rng(1)
    seconds = np.unique(luck.integers(0, 1000, 300)) / 10
    track = Track.of_logs([[fix(second) for second in seconds]])
    asked = START_NS + luck.integers(-5 * NS_PER_S, 105 * NS_PER_S, 2000)
    apart = np.abs(asked[:, None] - track.utc_ns)
    found = track.nearest(asked, 0.4)
    assert np.all((found == -1) == (apart.min(axis=1) > 0.4 * NS_PER_S))
    assert np.all(apart[np.arange(2000), found][found >= 0] == apart.min(axis=1)[found >= 0])


def test_100_000_photos_find_their_fixes_among_a_million_within_50_ms() -> None:
    count = 1_000_000
    zeros = np.zeros(count)
    whole = np.zeros(count, dtype=np.int64)
    times = START_NS + np.arange(count, dtype=np.int64) * 100_000_000
    track = Track(times, zeros, zeros, zeros, whole, whole, zeros, zeros, zeros, zeros, whole)
    asked = np.sort(np.random.default_rng(2).integers(times[0], times[-1], 100_000))
    took_s = []
    for _ in range(5):
        begun = time.thread_time()  # whatever else the machine does
        track.nearest(asked, 1.0)
        took_s.append(time.thread_time() - begun)
    assert min(took_s) < 0.05


# Between


def test_a_straight_drive_is_exact() -> None:
    track = Track.of_logs([straight(2)])
    for method in ("linear", "hermite"):
        places = track.interpolate(at(0.0, 0.123, 1.9), 1.0, method)
        assert places.how == [method] * 3
        assert list(places.latitude) == pytest.approx([0.1 + 10 * s / 110_574.3 for s in (0, 0.123, 1.9)], abs=1e-10)
        assert list(places.altitude_m) == pytest.approx([50, 50.123, 51.9])
        assert list(places.speed_mps) == [10.0] * 3
        assert list(places.sigma_m) == pytest.approx([0.02] * 3, abs=1e-3)


def test_a_curve_is_followed_by_hermite() -> None:
    truth = Track.of_logs([circle(60, 100)])
    track = Track.of_logs([circle(60, 1)])
    inside = truth.utc_ns <= track.utc_ns[-1]
    errors = {}
    for method in ("linear", "hermite"):
        places = track.interpolate(truth.utc_ns[inside], 1.0, method)
        error_m = distance_m(places, truth.latitude[inside], truth.longitude[inside])
        errors[method] = float(error_m.max())
        assert np.mean(error_m <= 2.6 * places.sigma_m) > 0.99
        heading = np.abs((places.heading_deg - truth.course_deg[inside] + 180) % 360 - 180)
        assert heading.max() < 1.0
    assert errors["linear"] > 0.3
    assert errors["hermite"] < 0.01


def test_nothing_is_interpolated_outside_or_across_a_gap() -> None:
    fixes = straight(10)
    track = Track.of_logs([fixes[:30] + fixes[31:60] + fixes[62:]])
    places = track.interpolate(at(-0.01, 3.05, 5.9, 6.0, 6.2, 9.9, 9.91), 10.0)
    assert places.how == ["none", "hermite", "hermite", "none", "hermite", "hermite", "none"]
    assert [math.isnan(value) for value in places.latitude] == [how == "none" for how in places.how]
    slow = Track.of_logs([straight(60, rate_hz=1)])
    assert slow.interpolate(at(10.5), 0.5).how == ["hermite"]
    assert slow.interpolate(at(10.5), 0.49).how == ["none"]


def test_nothing_is_interpolated_across_a_change_of_quality_or_a_jump() -> None:
    fixes = [replace(item, quality=5) if 30 <= i < 60 else item for i, item in enumerate(straight(10))]
    fixes[80:] = [fix(i / 10, i + 0.8) for i in range(80, 100)]
    places = Track.of_logs([fixes]).interpolate(at(2.85, 2.95, 3.05, 5.95, 7.95, 8.05), 1.0)
    assert places.how == ["hermite", "none", "hermite", "none", "none", "hermite"]


def test_a_jump_is_seen_without_speeds_too() -> None:
    bare = [replace(item, speed_mps=None, course_deg=None) for item in straight(10)]
    jumped = bare[:50] + [replace(item, longitude=(item.longitude or 0) + 2e-5) for item in bare[50:]]
    places = Track.of_logs([jumped]).interpolate(at(4.85, 4.95, 5.05), 1.0)
    assert places.how == ["hermite", "none", "hermite"]
    assert list(places.speed_mps[[0, 2]]) == pytest.approx([10.0, 10.0], rel=1e-3)
    assert list(places.heading_deg[[0, 2]] % 360) == pytest.approx([0.0, 0.0], abs=0.1)


def test_where_no_course_is_known_the_line_stands_in_for_the_curve() -> None:
    assert Track.of_logs([[fix(0)]]).interpolate(at(0.0), 1.0).how == ["none"]


def test_course_that_was_not_said_is_that_of_the_way() -> None:
    truth = Track.of_logs([circle(10, 20)])
    track = Track.of_logs([[replace(item, course_deg=None) for item in circle(10, 2)]])
    places = track.interpolate(truth.utc_ns[20:-30], 1.0)
    assert set(places.how) == {"hermite"}
    assert distance_m(places, truth.latitude[20:-30], truth.longitude[20:-30]).max() < 0.05  # straight lines: 0.4 m
    assert np.abs((places.heading_deg - truth.course_deg[20:-30] + 180) % 360 - 180).max() < 1.5


def test_heading_is_held_while_standing() -> None:
    luck = random.Random(4)
    drive = [fix(i / 10, i, speed_mps=10.0, course_deg=20.0) for i in range(20)]
    stand = [fix(i / 10, 19, speed_mps=0.1, course_deg=luck.uniform(0, 360)) for i in range(20, 40)]
    before = [fix(i / 10 - 2, 0, speed_mps=0.2, course_deg=luck.uniform(0, 360)) for i in range(20)]
    places = Track.of_logs([before + drive + stand]).interpolate(at(-1.55, 0.55, 3.05), 1.0)
    assert list(places.heading_deg) == pytest.approx([20.0] * 3)
    assert set(Track.of_logs([before + drive + stand]).headings()) == {20.0}


def test_the_date_line_is_crossed_like_any_other() -> None:
    ends = [replace(fix(i, course_deg=90.0, speed_mps=22.26), longitude=179.9999 * (-1) ** i) for i in range(2)]
    places = Track.of_logs([ends]).interpolate(at(0.25, 0.75), 1.0)
    assert places.how == ["hermite"] * 2
    assert list(places.longitude) == pytest.approx([179.99995, -179.99995], abs=1e-7)


def test_lever_arm_goes_forward_right_and_up() -> None:
    track = Track.of_logs([[fix(i / 10, east_m=i, course_deg=90.0) for i in range(10)]])
    antenna = track.interpolate(at(0.45), 1.0)
    camera = lever_arm(antenna, (2.0, 0.5, -0.25))
    assert (camera.longitude[0] - antenna.longitude[0]) * 111_319.3 == pytest.approx(2.0, abs=1e-3)
    assert (camera.latitude[0] - antenna.latitude[0]) * 110_574.3 == pytest.approx(-0.5, abs=1e-3)
    assert camera.altitude_m[0] == pytest.approx(antenna.altitude_m[0] - 0.25)
    assert camera.sigma_m[0] == pytest.approx(math.hypot(antenna.sigma_m[0], math.radians(2) * math.hypot(2, 0.5)))
    lost = lever_arm(replace(antenna, heading_deg=np.array([np.nan])), (2.0, 0.0, 0.0))
    assert lost.latitude[0] == antenna.latitude[0]
    assert lost.sigma_m[0] > 2.0


# Damage that no checksum sees


def sentence(body: str) -> str:
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n"


def twisted(line: str, luck: random.Random) -> str:
    """The sentence with two unlike digits swapped: its checksum stays right."""
    digits = [i for i, letter in enumerate(line[: line.index("*")]) if letter.isdigit() and i > 6]
    one, other = luck.sample(digits, 2)
    letters = list(line)
    letters[one], letters[other] = letters[other], letters[one]
    return "".join(letters)


def test_two_receivers_far_apart_in_one_log_are_told() -> None:
    far = [fix(second / 10 + 0.05, north_m=second, east_m=500) for second in range(100)]
    mixed = sorted([*straight(10), *far], key=_time)
    with pytest.raises(NoPositionError, match=r"no position in both\.nmea: .* two receivers"):
        Track.of_logs([mixed], "both.nmea")
    few = sorted([*straight(10), *far[::10]], key=_time)
    assert len(Track.of_logs([few])) == 100


def test_damage_that_fools_the_checksum_leaves_no_far_fix_in_the_track() -> None:
    luck = random.Random(8)
    begin_ns = parse_utc("2024-03-23T15:35:00Z")
    astray_m: list[float] = []
    for _ in range(20):
        lines = []
        for i in range(200):
            clock, north = f"1535{i // 10:02}.{i % 10}0", f"4710.{11_000_000 + 54_000 * i:08}"
            lines.append(sentence(f"GPGGA,{clock},{north},N,00116.04400000,W,4,18,0.7,68.0,M,47.5,M,1.0,0123"))
            lines.append(sentence(f"GPRMC,{clock},A,{north},N,00116.04400000,W,19.44,0.00,230324,,,R"))
        lines = [twisted(line, luck) if i % 40 == 30 else line for i, line in enumerate(lines)]
        track = Track.of_logs([read_log("".join(lines).encode())])
        assert len(track) >= 190
        second = (track.utc_ns - begin_ns) / NS_PER_S
        latitude = 47 + (10.11 + 54e-4 * second) / 60
        astray_m += list(distance_m(track, latitude, np.full(len(track), -1.2674)))
    assert sum(metres > 0.01 for metres in astray_m) <= 15  # of 100 that fooled the checksum
    assert max(astray_m) < 5


# The real drive


def test_leaving_out_half_of_the_arrow_drive_costs_at_most_2_cm(shared_data: Path) -> None:
    fixes = read_log(shared_data / "arrow" / "arrow100plus_2024-03-23_RECONSTRUCTED.nmea")
    with (shared_data / "arrow" / "arrow100plus_gps_data_commit_7df26ce.csv").open() as file:
        truth = list(csv.DictReader(file))
    half = Track.of_logs([fixes[::2]])
    left = [(item, row) for item, row in list(zip(fixes, truth, strict=True))[1::2]]
    wanted = [(item, row) for item, row in left if (item.speed_mps or 0) > 2 and float(row["HDOP"]) <= 2]
    asked = np.array([item.utc_ns for item, _ in wanted], dtype=np.int64)
    latitude = np.array([float(row["Latitude"]) for _, row in wanted])
    longitude = np.array([float(row["Longitude"]) for _, row in wanted])
    error_m = {}
    for method in ("linear", "hermite"):
        places = half.interpolate(asked, 1.0, method)
        assert places.how.count("none") <= 2
        error_m[method] = float(np.nanpercentile(distance_m(places, latitude, longitude), 95))
    assert error_m["hermite"] <= 0.02
    assert error_m["hermite"] < error_m["linear"]
