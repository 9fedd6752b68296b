"""Recordings of the virtual camera carry telemetry and a time code as GoPro's do, true to the drive."""

import itertools
import shutil
import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from rig.gnss.gpmf import Telemetry, read_camera
from simulator.hero import boxes
from simulator.hero.recorder import timecode
from simulator.hero.sensor import Rate
from simulator.hero.telemetry import Maker, Track
from simulator.hero.telemetry import Telemetry as Writer
from simulator.world import SECOND_NS, Crystal, Street

START_NS = 1_795_000_000 * SECOND_NS
NTSC = Rate(30_000, 1001)


def film(path: Path, model: str, seconds: float, ppm: float = 0.0, rate: Rate = NTSC) -> tuple[Path, Street, Crystal]:
    """A file with one picture and the telemetry of a drive, made faster than it lasts."""
    street, crystal = Street(3, START_NS), Crystal(ppm, 0.0, START_NS)
    maker = Maker(model, "C3501324500711", "H22.01.02.30.00", "left")
    writer = Writer(maker, street, rate, START_NS)
    track = Track(writer, rate)
    for index in range(round(seconds * rate.per_second)):
        track.add(crystal.utc_ns(rate.at_s(index)))
    empty_film(path)
    boxes.append_telemetry(path, track.close(), maker.user_data([]))
    return path, street, crystal


def empty_film(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(video.encode(None))


@pytest.mark.parametrize("model", ["HERO11 Black", "HERO13 Black"])
def test_gps9_has_the_time_and_place_of_the_drive(tmp_path: Path, model: str) -> None:
    path, street, _ = film(tmp_path / "film.mp4", model, 20.0)
    fixes = Telemetry(path).fixes()
    assert len(fixes) in range(195, 201)
    for fix in fixes:
        assert fix.utc_ns is not None
        assert fix.latitude is not None
        pose = street.at(fix.utc_ns)
        assert abs(fix.latitude - pose.latitude) * 111_195 < 1.3
        assert fix.speed_mps == pytest.approx(pose.speed_mps, abs=1e-3)
        assert fix.flags == ("gps9",)
        assert fix.utc_ns % 100_000_000 == 0


@pytest.mark.parametrize("model", ["HERO9 Black", "HERO10 Black"])
def test_gps5_is_dated_by_a_line_that_the_first_gpsu_does_not_bend(tmp_path: Path, model: str) -> None:
    path, street, _ = film(tmp_path / "film.mp4", model, 60.0)
    fixes = Telemetry(path).fixes()
    assert len(fixes) in range(1085, 1092)
    assert all(fix.flags == ("gps5",) for fix in fixes)
    away_m = [
        abs((fix.latitude or 0) - street.at(fix.utc_ns or 0).latitude) * 111_195 / max(fix.speed_mps or 0, 8.0)
        for fix in fixes
    ]
    assert max(away_m) < 0.4  # seconds: wandering of 1.2 m included; the first GPSU is 1.5 s old


@pytest.mark.parametrize("model", ["HERO12 Black", "HERO11 Black Mini"])
def test_models_without_gps_write_none(tmp_path: Path, model: str) -> None:
    path, _, _ = film(tmp_path / "film.mp4", model, 3.0)
    assert Telemetry(path).fixes() == []
    assert Telemetry(path).clock() == []
    gyro = Telemetry(path).gyro()
    assert gyro is not None
    assert len(gyro.pts_ns) == 601


def test_each_frame_has_an_exposure_at_its_start(tmp_path: Path) -> None:
    path, _, _ = film(tmp_path / "film.mp4", "HERO12 Black", 3.5)
    exposures = Telemetry(path).series("SHUT")
    assert exposures is not None
    frames_ns = np.arange(105) * 1001 * SECOND_NS / 30_000
    assert np.abs(exposures.pts_ns - frames_ns).max() < 1000
    assert exposures.values == pytest.approx(0.008)
    assert read_camera(path).read_out_ms == 15.0


def test_the_gyro_turns_with_the_car_about_the_vertical(tmp_path: Path) -> None:
    path, street, crystal = film(tmp_path / "film.mp4", "HERO12 Black", 60.0, ppm=40.0)
    gyro = Telemetry(path).gyro()
    assert gyro is not None
    pts_ns, rates = gyro.pts_ns, gyro.values
    forces = Telemetry(path).series("ACCL")
    assert forces is not None
    gravity = forces.values.mean(axis=0)
    assert np.linalg.norm(gravity) == pytest.approx(9.81, abs=0.2)
    turned = -np.degrees(np.cumsum(rates @ (gravity / np.linalg.norm(gravity)))) / 200  # to the right
    headings = [street.at(crystal.utc_ns(float(pts_ns[at]) / SECOND_NS)).heading_deg for at in (3800, 5600)]
    assert turned[5600] - turned[3800] == pytest.approx((headings[1] - headings[0] + 180) % 360 - 180, abs=6.0)
    assert abs(headings[1] - headings[0]) > 60


def test_stamps_and_counts_go_on_over_chapters() -> None:
    writer = Writer(Maker("HERO11 Black", "C1", "F", "right"), Street(3, START_NS), NTSC, START_NS)
    utc_ns = [START_NS + round(NTSC.at_s(index) * SECOND_NS) for index in range(75)]
    payloads = []
    for chapter in (utc_ns[:45], utc_ns[45:]):
        track = Track(writer, NTSC)
        for instant in chapter:
            track.add(instant)
        payloads += track.close()
    assert [length for length, _ in payloads] == [1001, 501, 1001]  # 45 frames are 1501.5 ms
    stamps = [struct.unpack(">Q", data[data.index(b"STMPJ") + 8 :][:8])[0] for _, data in payloads]
    assert all(after > before for before, after in itertools.pairwise(stamps))
    counts = [struct.unpack(">I", data[data.index(b"TSMPL") + 8 :][:4])[0] for _, data in payloads]
    assert counts[-1] == pytest.approx(75 * 1.001 / 30 * 200, abs=1)


def test_what_exiftool_reads_is_what_was_written(tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    path, _, _ = film(tmp_path / "film.mp4", "HERO10 Black", 5.0)
    command = ["exiftool", "-ee", "-n", "-a", "-s3", "-GPSLatitude", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    latitudes = [float(line) for line in run.stdout.split()]
    assert latitudes == pytest.approx([fix.latitude for fix in Telemetry(path).fixes()], abs=1e-7)
    run = subprocess.run(["exiftool", "-validate", "-warning", "-a", str(path)], capture_output=True, text=True)
    assert "Warning" not in run.stdout.replace("Validate", ""), run.stdout


RATES = [(Rate(30_000, 1001), True), (Rate(60_000, 1001), True), (Rate(25, 1), True), (Rate(30_000, 1001), False)]


@pytest.mark.parametrize(("rate", "may_drop"), RATES)
def test_a_time_code_is_the_frame_count_that_ffmpeg_writes(tmp_path: Path, rate: Rate, may_drop: bool) -> None:
    for frame in (0, 1799, 1800, 1801, 17_981, 17_982, 1_700_260):
        path = tmp_path / "film.mp4"
        with av.open(str(path), "w", format="mp4") as container:
            video = container.add_stream("mpeg4", rate=rate.per_second)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            video.metadata["timecode"] = timecode(frame, rate, may_drop)
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
        with av.open(str(path)) as container:
            counts = [bytes(packet) for packet in container.demux(container.streams.data) if packet.size]
        assert counts == [struct.pack(">I", frame)]


def test_drop_frame_follows_the_wall_clock_and_non_drop_does_not() -> None:
    frame = round((23 * 3600 + 59 * 60) * NTSC.per_second)
    assert timecode(frame, NTSC, may_drop=True)[:8] in ("23:58:59", "23:59:00")
    assert timecode(frame, NTSC, may_drop=False) == "23:57:33:22"
    assert timecode(1_700_260, NTSC, may_drop=False) == "15:44:35:10"  # of a real file, as FFmpeg tells it
