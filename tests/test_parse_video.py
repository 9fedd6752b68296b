"""Videos become photos whose time is true: against films whose pictures carry their number."""

import errno
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import configs
import parseVideo
from rig.clock import parse_utc
from rig.errors import ConflictError, NoPositionError, NoSpaceError
from rig.footage import video
from rig.gnss import positions
from rig.gnss.positionlog import CSV_HEADER
from rig.photo import exif, extraction, journal, making, photos
from rig.photo.photos import Photo
from rig.photo.spacing import Every
from rig.timing import calibration
from simulator.film import read_number
from simulator.phone import Phone
from tests.films import (
    BEGIN_NS,
    CLOCK_HZ,
    TICK_NS,
    TICKS_PER_FRAME,
    steady,
    varying,
    without_packets,
    write_film,
    write_index,
)
from tests.test_calibration import record

FRAMES = 150
START = "2026-11-22T14:03:12.000Z"
START_TICK = 126_000
PTS_WRAP = 2**33
PHONE = Phone(refresh_hz=60.02, latency_ms=28.5, shown=((BEGIN_NS, BEGIN_NS + 4_400_000_000),))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of 5 s; the phone is shown in the first 3 s."""
    path = tmp_path_factory.mktemp("film") / "left" / "stream-001.ts"
    path.parent.mkdir()
    write_film(path, steady(FRAMES, first=START_TICK), phone=PHONE)
    return path


@pytest.mark.parametrize("every", ["0.5s", "key"])
@pytest.mark.parametrize("bf", ["0", "2"])
def test_of_a_film_with_a_varying_frame_rate_each_photo_is_the_picture_of_its_pts(
    tmp_path: Path, bf: str, every: str
) -> None:
    ticks = varying(150)
    write_film(tmp_path / "phone.mp4", ticks, options={"g": "15", "bf": bf})
    assert run(tmp_path / "phone.mp4", "--output", tmp_path, "--start-utc", START, "--every", every) == 0
    rows = photos.read_table(tmp_path)
    assert len(rows) == (10 if every == "key" else ticks[-1] // 45_000 + 1)
    assert [number_in(tmp_path / row.photo) for row in rows] == [row.frame for row in rows]
    for row in rows:
        assert row.frame is not None
        assert row.pts_s == pytest.approx(ticks[row.frame] / CLOCK_HZ, abs=1e-9)
        assert parse_utc(row.utc) == pytest.approx(parse_utc(START) + ticks[row.frame] * TICK_NS, abs=1e6)
    assert (np.diff([parse_utc(row.utc) for row in rows]) > 0).all()


@pytest.mark.parametrize("every", ["0.2s", "key"])
def test_photos_of_chapters_go_on_through_their_seams(tmp_path: Path, every: str) -> None:
    files = [tmp_path / f"GX0{chapter}0007.MP4" for chapter in (1, 2, 3)]
    for chapter, path in enumerate(files):
        write_film(path, steady(40), first_number=40 * chapter, options={"g": "15", "bf": "2"})
    assert run(*files, "--output", tmp_path / "out", "--start-utc", START, "--every", every) == 0
    assert_each_is_the_picture_of_its_time(tmp_path / "out", {path.name: 40 * n for n, path in enumerate(files)})


@pytest.mark.parametrize("every", ["0.2s", "key"])
def test_photos_of_segments_go_on_over_a_wrap_a_gap_and_losses(tmp_path: Path, every: str) -> None:
    """The second segment begins after the PTS has wrapped, the third 2 s late; of it packets are lost."""
    first = PTS_WRAP - 30 * TICKS_PER_FRAME
    files = [tmp_path / f"stream-00{number}.ts" for number in (1, 2, 3)]
    for path, number, length in zip(files, (0, 30, 130), (30, 40, 60), strict=True):
        ticks = steady(length, first=(first + number * TICKS_PER_FRAME) % PTS_WRAP)
        write_film(path, ticks, first_number=number)
    packets = files[2].stat().st_size // 188
    without_packets(files[2], files[2], range(packets // 2, packets // 2 + 7))
    for path, wraps in zip(files, (0, 1, 1), strict=True):
        write_index(path, 5_000_000_000 + round(wraps * PTS_WRAP * TICK_NS))
    assert run(*files, "--output", tmp_path / "out", "--start-utc", START, "--every", every) == 0
    rows = assert_each_is_the_picture_of_its_time(
        tmp_path / "out", dict(zip((path.name for path in files), (0, 30, 130), strict=True))
    )
    assert {row.video for row in rows} == {path.name for path in files}


def test_without_options_the_settings_say_which_pictures(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes: list[making.Wish] = []
    monkeypatch.setattr(parseVideo, "parse_videos", lambda *given: wishes.append(given[3]))
    monkeypatch.setattr(parseVideo, "_say", lambda _: "")
    words = [film, "--output", tmp_path]
    assert run(*words) == 0
    for name, value in (("PHOTO_INTERVAL_S", "0.25"), ("SHARPEST_OF", "5"), ("JPEG_QUALITY", "80")):
        monkeypatch.setenv(f"EDENCAR_{name}", value)
    assert run(*words) == 0
    assert run(*words, "--every", "2m", "--sharpest-of", "1", "--quality", "70") == 0
    said = [(wish.every, wish.sharpest_of, wish.quality) for wish in wishes]
    assert said == [(Every(0.5), 3, 92), (Every(0.25), 5, 80), (Every(2.0, "m"), 1, 70)]
    monkeypatch.setenv("EDENCAR_JPEG_QUALITY", "1000")
    assert run(*words) == 2


def assert_each_is_the_picture_of_its_time(folder: Path, first_numbers: dict[str, int]) -> list[Photo]:
    """Of photos in files that begin with these numbers; only damaged pictures may be unreadable."""
    rows = photos.read_table(folder)
    assert len(rows) > 8
    assert (np.diff([parse_utc(row.utc) for row in rows]) > 0).all()
    for row in rows:
        assert row.frame is not None
        number = first_numbers[row.video] + row.frame
        assert "damaged" in row.flags or number_in(folder / row.photo) == number
        assert parse_utc(row.utc) == pytest.approx(parse_utc(START) + number * TICKS_PER_FRAME * TICK_NS, abs=1e6)
    assert sum("damaged" in row.flags for row in rows) < len(rows) / 4
    return rows


@pytest.fixture(scope="module")
def codeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of 1 s in which no phone is shown."""
    path = tmp_path_factory.mktemp("codeless") / "GX010001.MP4"
    write_film(path, steady(30))
    return path


def run(*arguments: object) -> int:
    return parseVideo.main([str(argument) for argument in arguments])


def true_utc_ns(number: int) -> int:
    return BEGIN_NS + round((START_TICK + number * TICKS_PER_FRAME) * TICK_NS)


def number_in(path: Path) -> int | None:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return read_number(np.asarray(picture, dtype=np.uint8))


def test_each_photo_has_the_true_time_within_its_bar(film: Path, tmp_path: Path) -> None:
    assert run(film, "--output", tmp_path, "--every", "0.2s") == 0
    rows = photos.read_table(tmp_path)
    assert 22 <= len(rows) <= 26
    clip = video.scan(film)
    for row in rows:
        number = number_in(tmp_path / row.photo)
        assert number is not None
        assert number == row.frame
        assert row.pts_s == pytest.approx(clip.pts_ns[number] / 1e9, abs=1e-9)
        error_ms = (parse_utc(row.utc) - true_utc_ns(number)) / 1e6
        assert abs(error_ms) < 9
        assert row.time_error_ms is not None
        assert abs(error_ms) <= row.time_error_ms
    assert len({row.photo for row in rows}) == len(rows)


def test_calibration_json_says_where_the_time_comes_from(film: Path, tmp_path: Path) -> None:
    run(film, "--output", tmp_path)
    calibration = json.loads((tmp_path / "calibration.json").read_text())["stream-001"]
    assert calibration["source"] == "qr"
    assert calibration["codes_read"] > 60
    assert calibration["error_ms"]["start"] > calibration["error_ms_without_constants"]["start"] + 24


def test_photos_stand_at_whole_multiples_of_the_interval(film: Path, tmp_path: Path) -> None:
    run(film, "--output", tmp_path, "--every", "0.5s", "--sharpest-of", "1")
    off_ms = [(parse_utc(row.utc) // 1_000_000 + 250) % 500 - 250 for row in photos.read_table(tmp_path)]
    assert max(map(abs, off_ms)) <= 18


def test_a_second_run_replaces_and_never_doubles(film: Path, tmp_path: Path) -> None:
    run(film, "--output", tmp_path, "--every", "0.2s")
    run(film, "--output", tmp_path, "--every", "1s")
    rows = photos.read_table(tmp_path)
    assert len(rows) <= 5
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg")) == sorted(r.photo for r in rows)
    assert not (tmp_path / "photos.part").exists()


def test_other_cameras_photos_stay(film: Path, tmp_path: Path) -> None:
    photos.write_table(tmp_path, [Photo(photo="photos/other/a.jpg", camera="other", utc="2026-11-22T14:03:12.000Z")])
    run(film, "--output", tmp_path)
    assert {row.camera for row in photos.read_table(tmp_path)} == {"other", "stream-001"}


def test_a_stored_calibration_gives_the_same_times(film: Path, tmp_path: Path) -> None:
    run(film, "--output", tmp_path / "a")
    assert run(film, "--output", tmp_path / "b", "--calibration", tmp_path / "a" / "calibration.json") == 0
    assert photos.read_table(tmp_path / "a") == photos.read_table(tmp_path / "b")


def test_a_measured_display_latency_shifts_the_time_and_narrows_the_bar(film: Path, tmp_path: Path) -> None:
    run(film, "--output", tmp_path / "a")
    assert run(film, "--output", tmp_path / "b", "--display-latency", "45:2") == 0
    first, second = (photos.read_table(tmp_path / name)[2] for name in "ab")
    assert first.frame == second.frame
    assert parse_utc(second.utc) - parse_utc(first.utc) == pytest.approx(10_000_000, abs=1_000_001)
    assert first.time_error_ms is not None
    assert second.time_error_ms == pytest.approx(first.time_error_ms - 23, abs=0.01)


def test_a_stream_that_was_started_anew_is_dated_by_its_arrival(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "left"
    folder.mkdir(parents=True)
    (folder / "stream-001.ts").write_bytes(film.read_bytes())
    delay_ns, restarted_ns = 230_000_000, 8_000_000_000  # the second run's PTS begin at another value
    write_film(folder / "stream-002.ts", steady(60, first=9_000), first_number=1000, begin_ns=BEGIN_NS + restarted_ns)
    write_index(folder / "stream-001.ts", delay_ns)
    write_index(folder / "stream-002.ts", delay_ns + restarted_ns)
    assert run(tmp_path, "--every", "0.2") == 0
    second = [row for row in photos.read_table(tmp_path) if row.video == "stream-002.ts"]
    assert len(second) >= 8
    for row in second:
        number = number_in(tmp_path / row.photo)
        assert number is not None
        true_ns = BEGIN_NS + restarted_ns + round((9_000 + (number - 1000) * TICKS_PER_FRAME) * TICK_NS)
        assert abs(parse_utc(row.utc) - true_ns) <= (row.time_error_ms or 0) * 1e6
    calibration = json.loads((tmp_path / "calibration.json").read_text())
    assert calibration["left"]["source"] == "qr"
    assert calibration["left/stream-002.ts"]["source"] == "qr+arrival"


def test_what_was_learnt_and_cannot_be_kept_costs_no_photo(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user's output folder, say, beside recordings that one may read."""
    folder = tmp_path / "drive" / "videos" / "left"
    folder.mkdir(parents=True)
    record(tmp_path / "drive")
    (folder / "stream-001.ts").write_bytes(film.read_bytes())
    write_index(folder / "stream-001.ts", 230_000_000)
    (tmp_path / "output" / "delays.json.tmp").mkdir(parents=True)  # nobody writes over a folder
    monkeypatch.setenv("EDENCAR_OUTPUT", str(tmp_path / "output"))
    assert run(tmp_path / "drive", "--output", tmp_path / "photos", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert any("what was learnt of the cameras is not kept" in text for text in summary["warnings"])
    assert len(photos.read_table(tmp_path / "photos")) == summary["photos"] >= 9


def test_videos_of_one_camera_that_overlap_give_no_instant_twice(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.ts", "two.ts"):
        (tmp_path / "videos" / "left").mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / "left" / name).write_bytes(film.read_bytes())
    assert run(tmp_path, "--output", tmp_path / "out") == 0
    said = capsys.readouterr().out
    times = [row.utc for row in photos.read_table(tmp_path / "out")]
    assert len(set(times)) == len(times)
    assert "photos lie before the end of its other video" in said


def test_a_log_without_a_fix_is_none_unless_metres_are_asked(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a receiver under a roof: the recording has a table of positions with nothing in it."""
    (tmp_path / "positions.csv").write_text(CSV_HEADER)
    named = (film, "--output", tmp_path / "out", "--positions", tmp_path / "positions.csv")
    assert run(*named, "--every", "5m") == NoPositionError.exit_code
    assert capsys.readouterr().err.count("\n") == 1
    assert run(*named) == 0
    assert all(row.latitude is None for row in photos.read_table(tmp_path / "out"))


def test_a_damaged_picture_is_taken_only_at_need_and_then_flagged(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "left"
    folder.mkdir(parents=True)
    (folder / "stream-001.ts").write_bytes(film.read_bytes())
    clip = video.scan(folder / "stream-001.ts")
    keys = set(clip.packet_pts[clip.packet_key].tolist())
    lost = range(61, 75)  # a whole group of pictures from its second one on
    rows = [f"{pts},{index},0,{int(pts in keys)},{int(index == 61)}" for index, pts in enumerate(clip.pts.tolist())]
    header = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors"
    (folder / "stream-001.idx").write_text("\n".join([header, *rows]))
    assert run(tmp_path, "--every", "0.1s") == 0
    for row in photos.read_table(tmp_path):
        assert ("damaged" in row.flags) == (row.frame in lost)
    assert run(tmp_path, "--every", "1s", "--sharpest-of", "29") == 0
    assert "damaged" not in {row.flags for row in photos.read_table(tmp_path)}


def test_pictures_of_which_a_loss_left_nothing_are_counted_and_no_fault_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = tmp_path / "stream.ts"
    write_film(stream, steady(60, first=START_TICK))
    with av.open(str(stream)) as container:
        keys = [packet.pos for packet in container.demux(video=0) if packet.is_keyframe and packet.pos is not None]
    without_packets(stream, stream, range(keys[-1] // 188, keys[-1] // 188 + 7))  # the others of its group hang on it
    wish = ("--start-utc", START, "--every", "0.1s", "--sharpest-of", "1")
    assert run(stream, "--output", tmp_path / "out", *wish) == 0
    told = capsys.readouterr()
    rows = photos.read_table(tmp_path / "out")
    assert len(rows) < 20
    assert f"{20 - len(rows)} photos are missing: losses" in told.out
    assert told.err == ""
    assert all("damaged" in row.flags or number_in(tmp_path / "out" / row.photo) == row.frame for row in rows)


@pytest.mark.parametrize(("videos", "code"), [(".", 3), ("videos/left", 0)], ids=["folder", "recording"])
def test_an_empty_file_is_a_failure_unless_a_recording_has_it(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], videos: str, code: int
) -> None:
    folder = tmp_path / videos
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stream-001.ts").write_bytes(film.read_bytes())
    (folder / "stream-002.ts").write_bytes(b"")  # as a power cut leaves it
    assert run(tmp_path) == code
    told = capsys.readouterr()
    assert "stream-002.ts is empty" in (told.err if code else told.out)
    assert len(photos.read_table(tmp_path)) == 10


def test_a_camera_without_a_code_is_named_and_the_others_give_photos(
    film: Path, codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(film, codeless, "--output", tmp_path, "--json") == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "GX010001" in warning
    assert {row.camera for row in photos.read_table(tmp_path)} == {"stream-001"}


def test_without_a_code_it_ends_with_4_and_says_what_to_do(
    codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(codeless, "--output", tmp_path) == 4
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--start-utc" in message
    assert list(tmp_path.iterdir()) == []


def test_a_given_start_dates_a_video_without_a_code(codeless: Path, tmp_path: Path) -> None:
    assert run(codeless, "--output", tmp_path, "--start-utc", "2026-11-22T14:03:12.000Z", "--every", "0.25") == 0
    for row in photos.read_table(tmp_path):
        assert row.pts_s is not None
        assert parse_utc(row.utc) == pytest.approx(BEGIN_NS + row.pts_s * 1e9, abs=500_001)


def test_a_dry_run_counts_and_writes_nothing(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(film, "--output", tmp_path / "out", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["photos"] in (9, 10)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_what_stands_for_a_stop(
    codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "parked.csv"
    fixes = [f"{BEGIN_NS + n * 100_000_000},47.1,-1.5,60.0,4,0.0,0.0\n" for n in range(-5, 20)]
    log.write_text("utc_ns,latitude,longitude,altitude_m,quality,speed_mps,course_deg\n" + "".join(fixes))
    assert run(codeless, "--start-utc", START, "--positions", log, "--every", "0.2s", "--dry-run") == 0
    assert "1 photos wanted" in (said := capsys.readouterr().out)
    assert "1 of them for a stop" in said


def test_a_threshold_drops_photos_and_says_how_many(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(film, "--output", tmp_path, "--min-sharpness", "1e9", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["photos"] == 0
    assert summary["dropped"] >= 9
    assert list(tmp_path.rglob("*.jpg")) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.mp4"], 3),
        (["text.mp4"], 3),
        (["empty"], 3),
        (["film.ts", "--every", "often"], 2),
        (["film.ts", "--every", "0s"], 2),
        (["film.ts", "--quality", "101"], 2),
        (["film.ts", "--start-utc", "yesterday"], 2),
        (["film.ts", "--display-latency", "slow"], 2),
        (["film.ts", "--display-latency", "35:-5"], 2),
        (["film.ts", "--display-latency", "nan"], 2),
        (["film.ts", "--display-latency", "35:inf"], 2),
        (["film.ts", "--calibration", "text.mp4"], 3),
        (["film.ts", "--every", "5m", "--positions", "text.mp4"], 3),
        (["film.ts", "--every", "5m"], 2),
        (["empty", "film.ts"], 2),
    ],
)
def test_bad_input_is_told_in_one_line(
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("this is no video")
    Path("empty").mkdir()
    Path("film.ts").symlink_to(film)
    assert run(*arguments, "--output", tmp_path / "out") == code
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_and_leaves_nothing_half(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(film, "--output", tmp_path)
    before = photos.read_table(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extraction, "_write", full)
    assert run(film, "--output", tmp_path, "--every", "1s") == NoSpaceError.exit_code
    assert "no room" in capsys.readouterr().err
    assert photos.read_table(tmp_path) == before
    assert all((tmp_path / row.photo).exists() for row in before)


def test_a_film_with_a_gyro_is_checked_against_the_fixes(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "gopro" / "max-heromode.mp4"
    assert run(path, "--output", tmp_path, "--start-utc", "2020-01-01T15:45:32Z", "--positions", path) == 0
    check = json.loads((tmp_path / "calibration.json").read_text())["max-heromode"]["drive_check"]
    assert check["verdict"] == "unknown"  # ten seconds at walking speed say nothing, and the date is another
    assert check["why"]


def test_a_real_gopro_file_gives_photos_of_its_own_pts(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "gopro" / "max-heromode.mp4"
    assert run(path, "--output", tmp_path, "--start-utc", "2020-01-01T15:45:32Z", "--every", "0.5s") == 0
    rows = photos.read_table(tmp_path)
    assert len(rows) == 21
    own = set((3003 * np.arange(315) / 90_000).round(9))
    assert {round(row.pts_s or 0.0, 9) for row in rows} <= own


def test_key_frames_are_photos(codeless: Path, tmp_path: Path) -> None:
    assert run(codeless, "--output", tmp_path, "--start-utc", START, "--every", "key") == 0
    assert [row.frame for row in photos.read_table(tmp_path)] == [0, 15]


def test_the_place_is_in_table_tags_and_files_when_positions_are_named(
    codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "track.csv"
    log.write_text(
        "utc_ns,latitude,longitude,altitude_m,quality,speed_mps,course_deg\n"
        + "".join(f"{BEGIN_NS + n * 100_000_000},{47 + n * 1e-5},-1.5,60.0,4,11.1,0.0\n" for n in range(-5, 20))
    )
    options = ["--start-utc", START, "--every", "0.2s", "--positions", log, "--format", "geojson,gpx"]
    assert run(codeless, "--output", tmp_path / "out", *options) == 0
    for row in photos.read_table(tmp_path / "out"):
        expected = 47 + (parse_utc(row.utc) - BEGIN_NS) / 1e9 * 1e-4
        assert row.interpolated_latitude == pytest.approx(expected, abs=1e-8)
        block = exif.read_block((tmp_path / "out" / row.photo).read_bytes())
        degrees, minutes, seconds = block.numbers("gps", 2)
        assert degrees + minutes / 60 + seconds / 3600 == pytest.approx(expected, abs=1e-8)
    assert len(json.loads((tmp_path / "out" / "photos.geojson").read_text())["features"]) >= 5
    assert (tmp_path / "out" / "photos.gpx").exists()
    assert run(codeless, "--output", tmp_path / "m", "--start-utc", START, "--every", "5m", "--positions", log) == 0
    assert len(photos.read_table(tmp_path / "m")) in (2, 3)  # 11 m/s for one second
    late = [*options[2:], "--start-utc", "2026-11-23T14:03:12Z"]
    assert run(codeless, "--output", tmp_path / "l", *late, "--every", "5m") == 5
    assert "no time in common" in capsys.readouterr().err


def test_a_run_that_was_interrupted_goes_on_where_it_was(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [film, "--output", tmp_path / "out", "--every", "0.1s", "--jobs", "1"]
    assert run(film, "--output", tmp_path / "whole", "--every", "0.1s") == 0
    write = extraction._write
    written: list[Path] = []

    def stumbling(path: Path, data: bytes) -> None:
        if len(written) == 12:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(extraction, "_write", stumbling)
    assert run(*options) == 130
    assert not (tmp_path / "out" / "photos.csv").exists()
    with (tmp_path / "out" / making.PART / journal.NAME).open("a") as file:
        file.write('{"key": "torn')
    calibrated: list[object] = []
    monkeypatch.setattr(calibration, "camera_clock", lambda *_: calibrated.append(1))
    again: list[Path] = []

    def counted(path: Path, data: bytes) -> None:
        again.append(path)
        write(path, data)

    monkeypatch.setattr(extraction, "_write", counted)
    assert run(*options) == 0
    assert not calibrated
    assert not set(again) & set(written[:11])
    rows, whole = (photos.read_table(tmp_path / name) for name in ("out", "whole"))
    assert rows == whole
    assert len(again) + len(written) - len(rows) in (0, 1)
    assert not (tmp_path / "out" / making.PART).exists()
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.jpg")) == sorted(Path(row.photo).name for row in rows)


def test_other_wishes_begin_anew(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = extraction._write

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction, "_write", interrupted)
    assert run(film, "--output", tmp_path, "--every", "0.1s") == 130
    monkeypatch.setattr(extraction, "_write", write)
    assert run(film, "--output", tmp_path, "--every", "1s") == 0
    assert len(photos.read_table(tmp_path)) <= 5
    assert not (tmp_path / making.PART).exists()


def test_two_runs_at_once_do_not_mix(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with journal.Journal(tmp_path / making.PART, "another").begun({}):
        assert run(film, "--output", tmp_path) == ConflictError.exit_code
    assert "another run" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_costs_only_itself(
    codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_text("this is no video")
    assert run(codeless, tmp_path / "bad.mp4", "--output", tmp_path / "out", "--start-utc", START) == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "bad.mp4" in said.err
    assert "2 photos" in said.out
    assert len(photos.read_table(tmp_path / "out")) == 2


def test_jobs_change_nothing_but_the_time_it_takes(film: Path, tmp_path: Path) -> None:
    for jobs in (1, 3):
        assert run(film, "--output", tmp_path / str(jobs), "--every", "0.1s", "--jobs", jobs) == 0
    assert photos.read_table(tmp_path / "1") == photos.read_table(tmp_path / "3")


def test_a_gopros_own_gps_places_its_photos(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "gopro" / "max-heromode.mp4"
    assert run(path, "--output", tmp_path, "--every", "1s") == 0
    rows = photos.read_table(tmp_path)
    assert len(rows) >= 9
    oracle = positions.Track.load([path])
    for row in rows:
        near = oracle.interpolate(np.array([parse_utc(row.utc)]), 1.0, "linear")
        assert row.interpolated_latitude == pytest.approx(float(near.latitude[0]), abs=2e-6)
        assert row.interpolated_longitude == pytest.approx(float(near.longitude[0]), abs=2e-6)
    block = exif.read_block((tmp_path / rows[0].photo).read_bytes())
    assert block.text("0", exif.MAKE) == "GoPro"
    assert block.text("0", exif.MODEL)
    assert run(path, "--output", tmp_path / "m", "--every", "5m") == 0
    assert 1 <= len(photos.read_table(tmp_path / "m")) < len(rows)


def test_progress_is_told_from_start_to_end(film: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    wish = making.Wish(every=Every(0.2), sharpest_of=1, min_sharpness=0.0, quality=80)
    making.parse_videos([film], tmp_path, configs.Settings(), wish, shares.append)
    assert shares == sorted(shares)
    assert len(shares) >= 20
    assert shares[-1] == 1.0


def test_a_start_dates_one_video_of_a_camera_and_says_so(
    codeless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        (tmp_path / f"GX01000{number}.MP4").write_bytes(codeless.read_bytes())
    assert run(tmp_path, "--output", tmp_path / "out", "--start-utc", START) == 0
    assert {row.video for row in photos.read_table(tmp_path / "out")} == {"GX010001.MP4"}
    assert "warning: " in (said := capsys.readouterr().out)
    assert "GX010002.MP4" in said
