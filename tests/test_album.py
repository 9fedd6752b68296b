"""Photos of any camera find their true time and place, whatever their own clock said."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import parsePhotos
from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, iso_utc, parse_utc
from rig.errors import NoSpaceError
from rig.photo import album, exif, photos, tagging
from rig.photo.exif import read_block
from simulator.world import Street
from tests.albums import album as make_album
from tests.albums import payload_at, phone_photo, picture
from tests.test_parse_photos import BEGIN_NS, log_positions, metres

ROOT = Path(__file__).parents[1]
HOUR_NS = 3600 * NS_PER_S
INSTANTS = [BEGIN_NS + 731_000_000 * number for number in range(1, 61)]
HERE = Street(start_utc_ns=BEGIN_NS).at(BEGIN_NS)
FAR_INSTANTS = [BEGIN_NS + 23_700_000_000 * number for number in range(1, 61)]


def run(*arguments: object) -> int:
    return parsePhotos.main([str(argument) for argument in arguments])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ninety seconds of positions at 10 Hz."""
    path = tmp_path / "track.csv"
    log_positions(path, range(BEGIN_NS, BEGIN_NS + 90 * NS_PER_S, 100_000_000))
    return path


def errors_ms(rows: list[photos.Photo], instants_ns: list[int]) -> list[float]:
    return [(parse_utc(row.utc) - utc_ns) / NS_PER_MS for row, utc_ns in zip(rows, instants_ns, strict=True)]


def test_a_photo_with_the_time_code_sets_the_clock_for_all(tmp_path: Path, log: Path) -> None:
    make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=2 * HOUR_NS + 37_218_000_000, coded=(3, 4, 5))
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 0
    rows = photos.read_table(tmp_path / "out")
    errors = errors_ms(rows, INSTANTS)
    for row, error in zip(rows, errors, strict=True):
        assert row.time_error_ms is not None
        assert abs(error) <= row.time_error_ms <= 60
        assert row.interpolation == "hermite"
        assert metres(row, interpolated=True) < 1.0
    assert np.ptp(errors) <= 1.01  # EXIF counts milliseconds


def test_a_clock_of_whole_seconds_has_a_bar_that_holds_what_exif_cuts_off(tmp_path: Path) -> None:
    """Many codes tell the clock well, but not when within its second another photo was taken."""
    make_album(tmp_path, INSTANTS[:24], clock_ahead_ns=HOUR_NS, coded=range(24))
    snaps, _ = album.with_subseconds([album.read(path, tmp_path) for path in album.find(tmp_path)])
    whole = [replace(snap, clock_ns=snap.clock_ns // NS_PER_S * NS_PER_S, digits="") for snap in snaps]
    (offset,) = album.find_offsets(whole, Settings(), lambda _share: None)[0].values()
    errors = [(offset.utc_ns(snap) - utc_ns) / NS_PER_MS for snap, utc_ns in zip(whole, INSTANTS[:24], strict=True)]
    assert max(map(abs, errors)) <= offset.error_ms(whole[0]) < 600
    of_ours = replace(whole[0], known_error_ms=3.0)  # beside them one of this program, which has UTC already
    assert (offset.utc_ns(of_ours), offset.error_ms(of_ours)) == (of_ours.clock_ns, 3.0)


def test_a_clock_that_runs_fast_is_followed_from_code_to_code(tmp_path: Path) -> None:
    log = tmp_path / "track.csv"
    log_positions(log, range(BEGIN_NS, FAR_INSTANTS[-1] + 10**9, 500_000_000))
    coded = (0, 1, 2, 57, 58, 59)
    make_album(tmp_path / "card", FAR_INSTANTS, clock_ahead_ns=-HOUR_NS, rate_ppm=80, coded=coded)
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out", "--format", "none") == 0
    for row, error in zip(
        photos.read_table(tmp_path / "out"), errors_ms(photos.read_table(tmp_path / "out"), FAR_INSTANTS), strict=True
    ):
        assert row.time_error_ms is not None
        assert abs(error) <= row.time_error_ms <= 70  # 80 ppm are 112 ms over this drive


def test_a_code_of_another_day_in_the_picture_is_no_clock(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=HOUR_NS, coded=(3, 4, 5))
    tags = paths[10].read_bytes()
    head = tags[: tags.index(b"\xff\xdb")]
    body = picture(10, payload_at(BEGIN_NS - 86_400 * NS_PER_S))
    paths[10].write_bytes(head + body[body.index(b"\xff\xdb") :])
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 0
    assert max(map(abs, errors_ms(photos.read_table(tmp_path / "out"), INSTANTS))) < 40


def test_sub_seconds_without_leading_zeros_are_mended(tmp_path: Path) -> None:
    instants = [BEGIN_NS + NS_PER_S * n + ms * NS_PER_MS for n, ms in enumerate((45, 7, 450, 999, 0, 120))]
    paths = make_album(tmp_path, instants)
    assert read_block(paths[0].read_bytes()).text("exif", exif.ORIGINAL_SUBSEC) == "45"
    snaps, warnings = album.with_subseconds([album.read(path, tmp_path) for path in paths])
    assert [snap.clock_ns for snap in snaps] == instants
    assert len(warnings) == 1
    assert "without leading zeros" in warnings[0]


def test_sub_seconds_with_leading_zeros_stay(tmp_path: Path) -> None:
    paths = make_album(tmp_path, [BEGIN_NS + NS_PER_S * n for n in range(3)])
    snaps = [album.read(path, tmp_path) for path in paths]
    said = [replace(snap, digits=text) for snap, text in zip(snaps, ("05", "45", "5"), strict=True)]
    mended, warnings = album.with_subseconds(said)
    assert [snap.clock_ns % NS_PER_S for snap in mended] == [50_000_000, 450_000_000, 500_000_000]
    assert not warnings


def test_a_given_offset_is_used_with_its_error(tmp_path: Path, log: Path) -> None:
    make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=HOUR_NS + 250_000_000, coded=(3,))
    offset = "--camera-offset=-3600.25:0.1"
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out", offset) == 0
    rows = photos.read_table(tmp_path / "out")
    assert errors_ms(rows, INSTANTS) == [0.0] * len(INSTANTS)
    assert {row.time_error_ms for row in rows} == {101.0}


def test_a_clock_that_nobody_checked_has_a_wide_error_and_says_so(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_album(tmp_path / "card", INSTANTS)
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert any("no photo shows the time code" in text for text in summary["warnings"])
    row = photos.read_table(tmp_path / "out")[20]
    assert row.time_error_ms == pytest.approx(2001)
    assert row.position_sigma_m is not None
    assert row.speed_mps is not None
    assert row.position_sigma_m == pytest.approx(row.speed_mps * 2.001 / 2.6, rel=0.01)


def test_originals_are_never_changed_unless_asked(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS, coded=(3,))
    before = {path: path.read_bytes() for path in paths}
    run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out", "--format", "all")
    run(tmp_path / "card", "--positions", log, "--output", tmp_path / "none", "--no-exif")
    assert {path: path.read_bytes() for path in paths} == before
    assert sorted(path.name for path in (tmp_path / "card").iterdir()) == sorted(path.name for path in paths)
    assert not list((tmp_path / "none").rglob("*.JPG"))
    assert photos.read_table(tmp_path / "none")[0].photo == "../card/GOPR0000.JPG"


def test_in_place_keeps_what_the_camera_said_and_may_be_done_again(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=HOUR_NS, coded=(3, 4))
    for _ in range(2):
        assert run(tmp_path / "card", "--positions", log, "--in-place") == 0
        first = {path: path.read_bytes() for path in paths}
        rows = photos.read_table(tmp_path / "card")
        assert max(map(abs, errors_ms(rows, INSTANTS))) < 40
    assert {path: path.read_bytes() for path in paths} == first
    block = read_block(paths[7].read_bytes())
    assert block.text("0", exif.MODEL) == "HERO12 Black"
    assert block.numbers("exif", 0x829D) == (2.5,)
    assert block.camera_time.startswith(iso_utc(INSTANTS[7] + HOUR_NS)[:10].replace("-", ":"))
    assert run(tmp_path / "card", "--positions", log, "--in-place", "--camera-offset=-3600.0:0.01") == 0
    assert errors_ms(photos.read_table(tmp_path / "card"), INSTANTS) == [0.0] * len(INSTANTS)


def test_a_disk_that_fills_up_leaves_each_original_whole_and_the_next_run_goes_on(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:40])
    before = {path: path.read_bytes() for path in paths}
    arguments = (tmp_path / "card", "--positions", log, "--in-place", "--camera-offset=0:0.01", "--format", "none")
    written = []

    def fill(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tagging, "sync_data", fill)
        assert run(*arguments) == NoSpaceError.exit_code
    assert capsys.readouterr().err.count("\n") == 1
    after = {path: path.read_bytes() for path in paths}
    changed = [path for path in paths if after[path] != before[path]]
    assert len(changed) == 10
    assert all(read_block(after[path]).is_ours for path in changed)
    assert all(after[path].endswith(before[path][-10_000:]) for path in changed)
    assert sorted((tmp_path / "card").iterdir()) == sorted(paths)
    assert run(*arguments) == 0
    assert errors_ms(photos.read_table(tmp_path / "card"), INSTANTS[:40]) == [0.0] * 40


def run_with_processes(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """In a process without other threads, and as if a few photos were many."""
    program = "import sys, parsePhotos; from rig.photo import tagging as t; t.MANY, t.CHUNK = 8, 4"
    command = [sys.executable, "-W", "error", "-c", f"{program}; sys.exit(parsePhotos.main())", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False
    )


def test_processes_write_what_threads_write(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("threads", "processes"):
        paths = make_album(tmp_path / name, INSTANTS[:41])
        arguments = (tmp_path / name, "--positions", log, "--in-place", "--camera-offset=0:0.01", "--format", "none")
        if name == "threads":
            monkeypatch.setattr(tagging, "MANY", 1 << 30)
            assert run(*arguments) == 0
        else:
            done = run_with_processes(*arguments)
            assert (done.returncode, done.stderr) == (0, "")
        made.append([path.read_bytes() for path in paths])
        assert len(list((tmp_path / name).iterdir())) == 42, "the photos and their table"
    assert made[0] == made[1]


def test_a_process_that_is_killed_is_told_in_one_line(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:40])
    before = [path.read_bytes() for path in paths]
    killer = "sh,-c,kill -9 $PPID"
    arguments = (tmp_path / "card", "--positions", log, "--output", tmp_path / "out", "--camera-offset=0:0.01")
    done = run_with_processes(*arguments, EDENCAR_PRIVACY_COMMAND=killer)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "a process was killed" in done.stderr
    assert [path.read_bytes() for path in paths] == before


def test_what_an_earlier_run_has_mended_says_nothing_of_the_camera() -> None:
    """Else 041, as this program wrote it, would clear a camera that writes 82 for 82 ms."""
    usual = album.Snap(path=Path("a.jpg"), name="a.jpg", camera="c", clock_ns=0, digits="", moment="", zone="")
    snaps = [replace(usual, digits="82"), replace(usual, digits="813"), replace(usual, digits="041", is_seen=True)]
    mended, _ = album.with_subseconds(snaps)
    assert [snap.clock_ns // 1_000_000 for snap in mended] == [41, 82, 813]


def test_settings_hold_where_no_option_says_otherwise(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_album(tmp_path / "card", [BEGIN_NS + 95 * NS_PER_S, *INSTANTS[:2]])
    monkeypatch.setenv("EDENCAR_PHOTO_FORMATS", "gpx")
    monkeypatch.setenv("EDENCAR_MAX_GAP_S", "6")
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"photos", "photos.csv", "photos.gpx"}
    assert all(row.latitude is not None for row in photos.read_table(tmp_path / "out"))
    monkeypatch.setenv("EDENCAR_PHOTO_FORMATS", "gpx,shapefile")
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 2


def test_a_single_file_is_a_source(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:3])
    assert run(paths[1], "--positions", log, "--output", tmp_path / "out") == 0
    (row,) = photos.read_table(tmp_path / "out")
    assert Path(row.photo).name == paths[1].name


def test_photos_of_one_name_in_two_folders_do_not_meet(tmp_path: Path, log: Path) -> None:
    make_album(tmp_path / "DCIM" / "100GOPRO", INSTANTS[:3])
    make_album(tmp_path / "DCIM" / "101GOPRO", INSTANTS[3:6])
    assert run(tmp_path / "DCIM", "--positions", log, "--output", tmp_path / "out") == 0
    rows = photos.read_table(tmp_path / "out")
    assert len({row.photo for row in rows}) == 6
    assert errors_ms(rows, INSTANTS[:6]) == [0.0] * 6
    assert all((tmp_path / "out" / row.photo).exists() for row in rows)


def test_what_cannot_be_read_is_told_and_the_rest_is_kept(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:6])
    paths[1].write_bytes(b"text\n")
    paths[2].write_bytes(b"")
    data = paths[3].read_bytes()
    at = data.index(b"Exif\0\0") + 6
    paths[3].write_bytes(data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :])
    (tmp_path / "card" / "plain.jpg").write_bytes(picture(9))
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 3
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "GOPR0001.JPG" in errors
    assert [Path(row.photo).name for row in photos.read_table(tmp_path / "out")] == [
        "GOPR0000.JPG",
        "GOPR0004.JPG",
        "GOPR0005.JPG",
    ]
    assert "its EXIF has no time" in (tmp_path / "out" / "report.html").read_text()


def test_positions_of_another_year_are_told_with_both_spans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_album(tmp_path / "card", INSTANTS[:3])
    year_ns = 365 * 24 * HOUR_NS
    log_positions(tmp_path / "old.csv", range(BEGIN_NS - year_ns, BEGIN_NS - year_ns + 10**10, 10**8))
    assert run(tmp_path / "card", "--positions", tmp_path / "old.csv", "--output", tmp_path / "out") == 5
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert f"{tmp_path / 'out'}" not in errors
    assert "2025" in errors
    assert "2026" in errors
    assert not (tmp_path / "out").exists()


def test_a_clock_in_another_zone_is_hinted_at(tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=2 * HOUR_NS)
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 5
    assert "-2 h" in capsys.readouterr().err


def test_the_zone_of_a_clock_is_told_by_the_photos_own_gps(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_album(tmp_path / "card", INSTANTS, clock_ahead_ns=2 * HOUR_NS + 1_200_000_000, place=HERE)
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out", "--json") == 0
    assert any("zone by its own GPS" in text for text in json.loads(capsys.readouterr().out)["warnings"])
    rows = photos.read_table(tmp_path / "out")
    assert errors_ms(rows, INSTANTS) == pytest.approx([1200.0] * len(INSTANTS))
    assert all((row.time_error_ms or 0) > 1200 for row in rows)


def test_a_clock_that_no_zone_puts_right_is_taken_as_it_is(tmp_path: Path) -> None:
    make_album(tmp_path, INSTANTS[:3], clock_ahead_ns=2 * HOUR_NS + 420 * NS_PER_S, place=HERE)
    snaps, _ = album.with_subseconds([album.read(path, tmp_path) for path in album.find(tmp_path)])
    offsets, warnings = album.find_offsets(snaps, Settings(), lambda _share: None)
    assert [offset.offset_ns for offset in offsets.values()] == [0.0]
    assert "taken as UTC as EXIF names no zone" in warnings[0]


def test_a_phone_says_its_zone_also_when_its_photos_are_done_again(tmp_path: Path, log: Path) -> None:
    paths = [phone_photo(tmp_path / "phone" / f"{n}.jpg", utc_ns, 2) for n, utc_ns in enumerate(INSTANTS[:3])]
    for _ in range(2):
        assert run(tmp_path / "phone", "--positions", log, "--in-place") == 0
        assert errors_ms(photos.read_table(tmp_path / "phone"), INSTANTS[:3]) == [0.0] * 3
    assert read_block(paths[0].read_bytes()).camera_time.endswith("+02:00")


def test_a_code_in_a_photo_of_twelve_megapixels_is_read(tmp_path: Path, log: Path) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:3], clock_ahead_ns=HOUR_NS, coded=(1,))
    pixels = cv2.imread(str(paths[1]))
    assert pixels is not None
    body = cv2.imencode(".jpg", cv2.resize(pixels, (4480, 2520)))[1].tobytes()
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: data.index(b"\xff\xdb")] + body[body.index(b"\xff\xdb") :])
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 0
    assert max(map(abs, errors_ms(photos.read_table(tmp_path / "out"), INSTANTS[:3]))) < 40


def test_a_photo_that_was_torn_when_the_card_came_out_is_told(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:6])
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: data.index(b"\xff\xdb")])
    paths[2].write_bytes(data[: data.index(b"\xff\xda") + 2])
    paths[4].write_bytes(paths[4].read_bytes()[:-2000])
    paths[5].write_bytes(paths[5].read_bytes() + b"what a phone writes behind its pictures" * 99)
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 3
    assert "GOPR0001.JPG: it is cut off before its picture" in capsys.readouterr().err
    assert "GOPR0004.JPG: its picture is cut off" in (tmp_path / "out" / "report.html").read_text()
    names = [Path(row.photo).name for row in photos.read_table(tmp_path / "out")]
    assert names == ["GOPR0000.JPG", "GOPR0003.JPG", "GOPR0005.JPG"]


def test_a_log_that_cannot_be_read_costs_only_itself(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_album(tmp_path / "card", INSTANTS[:3])
    (tmp_path / "torn.nmea").write_bytes(b"$GNG")
    arguments = [a for name in ("torn.nmea", "track.csv") for a in ("--positions", tmp_path / name)]
    assert run(tmp_path / "card", *arguments, "--output", tmp_path / "out") == 3
    assert "torn.nmea is neither" in capsys.readouterr().err
    assert all(row.interpolation == "hermite" for row in photos.read_table(tmp_path / "out"))


@pytest.mark.parametrize("unknown", [b"    :  :     :  :  ", b"0000:00:00 00:00:00"])
def test_a_time_that_the_camera_did_not_know_is_none(tmp_path: Path, log: Path, unknown: bytes) -> None:
    paths = [phone_photo(tmp_path / "phone" / f"{n}.jpg", utc_ns, 0) for n, utc_ns in enumerate(INSTANTS[:3])]
    paths[0].write_bytes(paths[0].read_bytes().replace(b"+00:00\0", b"   :  \0"))  # as EXIF writes an unknown zone
    data = paths[1].read_bytes()
    at = data.index(iso_utc(INSTANTS[1])[:10].replace("-", ":").encode())
    paths[1].write_bytes(data[:at] + unknown + data[at + len(unknown) :])
    assert run(tmp_path / "phone", "--positions", log, "--output", tmp_path / "out") == 3
    rows = photos.read_table(tmp_path / "out")
    assert errors_ms(rows, [INSTANTS[0], INSTANTS[2]]) == [0.0] * 2


def test_two_receivers_do_not_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_album(tmp_path / "card", INSTANTS)
    good, rough, other = (tmp_path / name for name in ("good.csv", "rough.csv", "other.csv"))
    log_positions(good, range(BEGIN_NS, BEGIN_NS + 30 * NS_PER_S, 100_000_000))
    log_positions(rough, range(BEGIN_NS + 50_000_000, BEGIN_NS + 90 * NS_PER_S, 10**9), quality=1)
    rough.write_text(rough.read_text().replace(",0.008,0.006,", ",2.0,2.0,"))
    lines = rough.read_text().splitlines()
    moved = [line.split(",") for line in lines[1:]]
    other.write_text("\n".join([lines[0], *(",".join([*c[:2], str(float(c[2]) + 0.1), *c[3:]]) for c in moved)]) + "\n")
    arguments = [a for path in (rough, other, good) for a in ("--positions", path)]
    assert run(tmp_path / "card", *arguments, "--output", tmp_path / "out") == 0
    assert "other.csv is left out" in capsys.readouterr().out
    rows = photos.read_table(tmp_path / "out")
    early = [row for row in rows if parse_utc(row.utc) < BEGIN_NS + 29 * NS_PER_S]
    late = [row for row in rows if parse_utc(row.utc) > BEGIN_NS + 34 * NS_PER_S]
    assert {row.quality for row in early} == {4}
    assert {row.quality for row in late} == {1}
    assert max(metres(row, interpolated=True) for row in rows if row.interpolation != "none") < 1.5


def test_the_privacy_command_sees_each_photo_and_its_failure_keeps_one_out(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = make_album(tmp_path / "card", INSTANTS[:4])
    script = tmp_path / "blur.py"
    script.write_text(
        "import pathlib, sys, cv2\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "sys.exit('no model') if b'\\x02' == path.read_bytes()[-1:] else None\n"
        "cv2.imwrite(str(path), cv2.imread(str(path)) // 4)\n"
    )
    paths[2].write_bytes(paths[2].read_bytes() + b"\x02")
    monkeypatch.setenv("EDENCAR_PRIVACY_COMMAND", f"{sys.executable},{script}")
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 3
    assert "GOPR0002.JPG is left out" in capsys.readouterr().err
    rows = photos.read_table(tmp_path / "out")
    assert [Path(row.photo).name for row in rows] == ["GOPR0000.JPG", "GOPR0001.JPG", "GOPR0003.JPG"]
    written = sorted(path.name for path in (tmp_path / "out" / "photos").rglob("*.JPG"))
    assert written == ["GOPR0000.JPG", "GOPR0001.JPG", "GOPR0003.JPG"]
    for row in rows:
        assert read_block((tmp_path / "out" / row.photo).read_bytes()).privacy
    before = (tmp_path / "out" / rows[0].photo).read_bytes()
    assert run(tmp_path / "out", "--positions", log) == 0  # a second run does not darken them again
    assert (tmp_path / "out" / rows[0].photo).read_bytes() == before
    assert run(tmp_path / "card", "--positions", log, "--in-place") == 2


def test_a_photo_of_a_recording_that_may_not_be_seen_is_put_aside(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_album(tmp_path / "card", INSTANTS[:3])
    assert run(tmp_path / "card", "--positions", log, "--output", tmp_path / "out") == 0
    monkeypatch.setenv("EDENCAR_PRIVACY_COMMAND", "false")
    assert run(tmp_path / "out", "--positions", log) == 3
    assert photos.read_table(tmp_path / "out") == []
    assert not list((tmp_path / "out" / "photos").rglob("*.JPG"))
    assert len(list((tmp_path / "out" / tagging.WITHHELD).rglob("*.JPG"))) == 3


def test_the_track_may_come_from_gpx(tmp_path: Path, log: Path) -> None:
    make_album(tmp_path / "card", INSTANTS)
    run(tmp_path / "card", "--positions", log, "--output", tmp_path / "one", "--format", "gpx")
    shutil.copy(tmp_path / "one" / "photos.gpx", tmp_path / "track.gpx")
    assert run(tmp_path / "card", "--positions", tmp_path / "track.gpx", "--output", tmp_path / "two") == 0
    for row in photos.read_table(tmp_path / "two"):
        assert row.interpolation in ("hermite", "linear")
        assert metres(row, interpolated=True) < 0.02


def test_without_a_receiver_s_log_a_film_s_own_gps_tells_the_places(tmp_path: Path, shared_data: Path) -> None:
    film = shared_data / "gopro" / "max-heromode.mp4"
    first_ns = parse_utc("2019-11-18T23:45:17.000Z")
    folder = tmp_path / "videos" / "max"
    folder.mkdir(parents=True)
    (folder / "GS010001.MP4").symlink_to(film)
    row = photos.Photo(photo="photos/max/1.jpg", camera="max", utc=iso_utc(first_ns), time_error_ms=250.0)
    (tmp_path / "photos" / "max").mkdir(parents=True)
    (tmp_path / row.photo).write_bytes(picture(1))
    photos.write_table(tmp_path, [row])
    assert run(tmp_path) == 0
    (row,) = photos.read_table(tmp_path)
    assert row.interpolation == "hermite"  # its speeds, and the courses of its way
    assert row.interpolated_latitude == pytest.approx(33.1267, abs=3e-4)  # as ExifTool reads it from the film


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["card", "--positions", "track.csv", "--camera-offset", "soon"], 2),
        (["card", "--positions", "track.csv", "--format", "shapefile"], 2),
        (["card", "--positions", "nothing.csv"], 3),
        (["card"], 5),
        (["nothing"], 3),
        (["track.csv", "--positions", "track.csv"], 3),
        (["card", "--positions", "empty.csv"], 3),
    ],
)
def test_bad_requests_end_with_one_line_and_their_code(
    tmp_path: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(log.parent)
    make_album(tmp_path / "card", INSTANTS[:2])
    (tmp_path / "empty.csv").touch()
    assert run(*arguments) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "photos-out").exists()
