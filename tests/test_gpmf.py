"""The GPMF reader against a real file and ExifTool, against tracks made here, and against damage."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig.clock import NS_PER_MS, NS_PER_S
from rig.errors import UnreadableError
from rig.gnss.gpmf import Camera, Telemetry, clock_line, read_camera
from rig.gnss.gpmftree import items
from rig.gnss.positions import Track

SECOND_US = 1_001_000
GPS5_SCALES = (10_000_000, 10_000_000, 1000, 1000, 100)


@pytest.fixture(scope="module")
def real_file(shared_data: Path) -> Path:
    return shared_data / "gopro/max-heromode.mp4"


def exiftool(path: Path, *tags: str) -> list[list[str]]:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    command = ["exiftool", "-ee", "-n", "-a", "-G3", "-s", *(f"-{tag}" for tag in tags), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.replace(":", " ", 1).split() for line in run.stdout.splitlines()]
    return [row for row in rows if row[0] != "[Main]"]


def key(name: str, kind: str, size: int, count: int, data: bytes) -> bytes:
    return struct.pack(">4scBH", name.encode(), kind.encode(), size, count) + data + bytes(-len(data) % 4)


def nest(name: str, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return key(name, "\0", 1, len(data), data)


def stamp(at_us: int) -> bytes:
    return key("STMP", "J", 8, 1, struct.pack(">Q", at_us))


def shut(at_us: int) -> bytes:
    return nest("STRM", stamp(at_us), key("SHUT", "f", 4, 30, struct.pack(">30f", *[0.004] * 30)))


def gps5(at_us: int, said: str, samples: int = 18, fix: int = 3, latitude: float = 47.25, extra: bytes = b"") -> bytes:
    row = struct.pack(">5i", round(latitude * 1e7), -12_000_000, 52_345, 13_900, 1395)
    return nest(
        "STRM",
        stamp(at_us),
        key("GPSF", "L", 4, 1, struct.pack(">I", fix)),
        key("GPSU", "U", 16, 1, said.encode()),
        key("GPSP", "S", 2, 1, struct.pack(">H", 180)),
        extra,
        key("SCAL", "l", 4, 5, struct.pack(">5i", *GPS5_SCALES)),
        key("GPS5", "l", 20, samples, row * samples),
    )


def gps9(at_us: int, seconds: float, fixes: list[int]) -> bytes:
    rows = [
        struct.pack(
            ">7i2H", 472_500_000, -12_000_000, 52_345, 13_900, 1395, 9000, round((seconds + at) * 1000), 210, fix
        )
        for at, fix in enumerate(fixes)
    ]
    scales = struct.pack(">9i", *GPS5_SCALES, 1, 1000, 100, 1)
    head = (stamp(at_us), key("TYPE", "c", 9, 1, b"lllllllSS"), key("SCAL", "l", 4, 9, scales))
    return nest("STRM", *head, key("GPS9", "?", 32, len(rows), b"".join(rows)))


def write(path: Path, *payloads: tuple[bytes, ...]) -> Path:
    path.write_bytes(b"".join(nest("DEVC", *streams) for streams in payloads))
    return path


# --- a real file


def test_places_of_a_real_file_are_those_of_exiftool(real_file: Path) -> None:
    fixes = Telemetry(real_file).fixes()
    assert len(fixes) == 191
    told: dict[str, list[float]] = {"GPSLatitude": [], "GPSLongitude": [], "GPSAltitude": [], "GPSSpeed": []}
    for _, tag, value in exiftool(real_file, *told):
        told[tag].append(float(value))
    for tag, column in (("GPSLatitude", "latitude"), ("GPSLongitude", "longitude")):
        assert [getattr(fix, column) for fix in fixes] == pytest.approx(told[tag], abs=1e-7)
    assert [fix.ellipsoid_height_m for fix in fixes] == pytest.approx(told["GPSAltitude"], abs=1e-3)
    assert [fix.speed_mps for fix in fixes] == pytest.approx(told["GPSSpeed"], abs=1e-3)
    assert {(fix.quality, fix.flags, fix.altitude_m) for fix in fixes} == {(1, ("gps5",), None)}


def test_the_clock_of_a_real_file_leaves_the_first_gpsu_out(real_file: Path) -> None:
    clock = Telemetry(real_file).clock()
    assert len(clock) == len(exiftool(real_file, "GPSDateTime")) - 1
    offsets_ms = np.array([utc - pts for pts, utc in clock], dtype=np.int64) / NS_PER_MS
    assert 100 < np.ptp(offsets_ms) < 130  # the facts: 122 ms from peak to peak; with the first it were 1.5 s
    line = clock_line(clock)
    assert line is not None
    assert line.scatter_ns < 50 * NS_PER_MS
    times = [fix.utc_ns or 0 for fix in Telemetry(real_file).fixes()]
    steps_ms = np.diff(times) / NS_PER_MS
    assert steps_ms.min() > 40
    assert steps_ms.max() < 70


def test_stamps_of_a_real_file_are_on_the_time_line_of_its_frames(real_file: Path) -> None:
    exposures = Telemetry(real_file).series("SHUT")
    assert exposures is not None
    frames_ns = np.arange(len(exposures.pts_ns)) * 1001 * NS_PER_S / 30_000
    assert np.abs(exposures.pts_ns - frames_ns).max() < 0.1 * NS_PER_MS
    assert 0.0004 < exposures.values.min() < exposures.values.max() < 0.0011
    gyro = Telemetry(real_file).gyro()
    assert gyro is not None
    pts_ns = gyro.pts_ns
    assert gyro.values.shape == (len(pts_ns), 3)
    assert 195 < NS_PER_S / np.diff(pts_ns).mean() < 200
    assert np.diff(pts_ns).min() > 4 * NS_PER_MS
    middle_ms = (float(np.median(exposures.values)) * 1000 + 20.601) / 2
    stamped = Telemetry(real_file).series("GYRO")
    assert stamped is not None
    assert (stamped.pts_ns - pts_ns) / NS_PER_MS == pytest.approx(middle_ms, abs=1e-3)


def test_the_header_of_a_real_file_names_the_camera(real_file: Path) -> None:
    camera = read_camera(real_file)
    assert (camera.model, camera.read_out_ms) == ("GoPro Max", 20.601)
    assert camera.serial is not None


def test_a_real_file_gives_a_track(real_file: Path) -> None:
    assert len(Track.load([real_file])) == 191


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_film_whose_index_is_lost_is_refused(real_file: Path, tmp_path: Path, share: float) -> None:
    data = real_file.read_bytes()
    path = tmp_path / "film.mp4"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableError):
        Telemetry(path).fixes()


# --- tracks made here


def test_no_position_where_there_is_no_fix(tmp_path: Path) -> None:
    times = [(index, SECOND_US * index) for index in range(6)]
    locks = [0, 0, 3, 3, 2, 3]
    payloads = [
        (shut(at), gps5(at, f"2611221200{index:02d}.000", fix=lock))
        for (index, at), lock in zip(times, locks, strict=True)
    ]
    path = write(tmp_path / "track.bin", *payloads)
    fixes = Telemetry(path).fixes()
    assert [fix.latitude is not None for fix in fixes[::18]] == [lock > 0 for lock in locks]
    assert {fix.quality for fix in fixes[:36]} == {0}
    assert len(Telemetry(path).clock()) == 3  # the first after no fix is not trusted
    assert fixes[50].hdop == 1.8


def test_without_a_trusted_time_places_have_none(tmp_path: Path) -> None:
    path = write(tmp_path / "track.bin", (shut(0), gps5(0, "261122120000.000")))
    fixes = Telemetry(path).fixes()
    assert {fix.utc_ns for fix in fixes} == {None}
    assert Telemetry(path).clock() == []


def test_gps9_tells_the_time_of_each_sample(tmp_path: Path) -> None:
    payloads = [(shut(at * SECOND_US), gps9(at * SECOND_US, 10.0 * at, [3] * 10)) for at in range(3)]
    payloads[2] = (shut(2 * SECOND_US), gps9(2 * SECOND_US, 20.0, [3] * 9 + [0]))
    path = write(tmp_path / "track.bin", *payloads)
    fixes = Telemetry(path).fixes()
    assert fixes[0].utc == "2024-08-22T00:00:00.000Z"  # 9000 days after 2000
    assert [fix.latitude for fix in fixes[-2:]] == [47.25, None]
    assert [fix.utc_ns or 0 for fix in fixes] == [(fixes[0].utc_ns or 0) + at * NS_PER_S for at in range(30)]
    assert fixes[3].hdop == 2.1
    assert len(Telemetry(path).clock()) == 10  # of the payload in the middle alone


def test_altitudes_are_of_the_ellipsoid_or_of_the_sea(tmp_path: Path) -> None:
    sea = key("GPSA", "c", 4, 1, b"MSLV")
    for extra, column in ((b"", "ellipsoid_height_m"), (sea, "altitude_m")):
        path = write(tmp_path / "track.bin", (gps5(0, "261122120000.000", extra=extra),))
        assert getattr(Telemetry(path).fixes()[0], column) == 52.345


def test_a_lost_payload_does_not_stretch_the_one_before(tmp_path: Path) -> None:
    payloads = [(shut(at * SECOND_US), gps5(at * SECOND_US, f"2611221200{at:02d}.000")) for at in range(6)]
    payloads[3] = (shut(3 * SECOND_US), b"")
    series = Telemetry(write(tmp_path / "track.bin", *payloads)).series("GPS5")
    assert series is not None
    steps_ms = np.diff(series.pts_ns) / NS_PER_MS
    assert np.sum(steps_ms > 60) == 1
    assert np.median(steps_ms) == pytest.approx(1001 / 18, abs=0.01)


def test_a_gpsu_that_jumps_does_not_move_the_line() -> None:
    dice = np.random.default_rng(4)
    for _ in range(20):
        rate = dice.normal(0.0, 20e-6)
        pts = np.arange(1200) * NS_PER_S
        wander = 60e6 * np.sin(2 * np.pi * (pts / NS_PER_S / 9.0 + dice.uniform()))
        utc = pts + 10**18 + np.rint(pts * rate + wander).astype(np.int64)
        utc[dice.integers(0, 1200, 5)] += 2_470 * NS_PER_MS
        line = clock_line(list(zip(pts.tolist(), utc.tolist(), strict=True)))
        assert line is not None
        assert abs(line.rate_ppm - rate * 1e6) < 3 * line.rate_sigma_ppm
        assert line.rate_sigma_ppm < 25
        assert abs(int(line.utc_of(pts[600:601])[0]) - (600 * NS_PER_S + 10**18 + 600e9 * rate)) < 20 * NS_PER_MS
    assert clock_line([]) is None


# --- damage


@pytest.mark.parametrize("data", [b"", b"DEVC", b"no film at all", b"\0" * 100, nest("DEVC", b"\xff" * 64)])
def test_what_holds_no_gpmf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "track.bin"
    path.write_bytes(data)
    with pytest.raises(UnreadableError):
        Telemetry(path)


def test_a_folder_or_nothing_is_refused(tmp_path: Path) -> None:
    reader: Any
    for reader in (Telemetry, read_camera):
        with pytest.raises(UnreadableError):
            reader(tmp_path / "none.mp4")


@pytest.mark.parametrize("key", [b"free", b"moov"])
@pytest.mark.parametrize("size", [0, 5, 1 << 31, 1 << 62, (1 << 64) - 1])
def test_a_box_of_any_size_says_nothing_of_the_camera(tmp_path: Path, key: bytes, size: int) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(struct.pack(">I4sQ", 1, key, size) + bytes(100))
    assert read_camera(path) == Camera()
    path.write_bytes(struct.pack(">I4s", size % (1 << 32), key) + bytes(100))
    assert read_camera(path) == Camera()


def test_a_cut_payload_keeps_its_good_part(tmp_path: Path) -> None:
    payloads = [(gps5(at * SECOND_US, f"2611221200{at:02d}.000"), shut(at * SECOND_US)) for at in range(3)]
    path = write(tmp_path / "track.bin", *payloads)
    path.write_bytes(path.read_bytes()[:-60])  # within the last SHUT
    assert len(Telemetry(path).fixes()) == 54
    exposures = Telemetry(path).series("SHUT")
    assert exposures is not None
    assert len(exposures.pts_ns) == 60


@pytest.mark.parametrize("said", ["2611221200" + "xx.000", "261122120001" + "9e99", "261122120001" + " inf"])
def test_a_gpsu_that_is_no_time_says_none(tmp_path: Path, said: str) -> None:
    seconds = [said if at == 2 else f"2611221200{at:02d}.000" for at in range(5)]
    payloads = [(shut(at * SECOND_US), gps5(at * SECOND_US, text)) for at, text in enumerate(seconds)]
    assert len(Telemetry(write(tmp_path / "track.bin", *payloads)).clock()) == 3


def test_a_payload_of_nonsense_costs_only_itself(tmp_path: Path) -> None:
    payloads = [(gps5(at * SECOND_US, f"2611221200{at:02d}.000"),) for at in range(4)]
    data = [nest("DEVC", *streams) for streams in payloads]
    data[2] = data[2][:60] + b"\xff" * 40 + data[2][100:]
    path = tmp_path / "track.bin"
    path.write_bytes(b"".join(data))
    assert len(Telemetry(path).fixes()) == 54


def test_random_damage_ends_in_values_or_in_one_clear_error(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    whole = b"".join(
        nest("DEVC", gps9(at * SECOND_US, 10.0 * at, [3] * 10), gps5(at * SECOND_US, "261122120000.000"), shut(at))
        for at in range(3)
    )
    path = tmp_path / "track.bin"
    for _ in range(400):
        data = np.frombuffer(whole, dtype=np.uint8).copy()
        data[dice.integers(8, len(data), 3)] = dice.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            Telemetry(path).fixes()
            Telemetry(path).clock()
        except UnreadableError:
            continue


def test_items_stop_at_padding() -> None:
    assert [name for name, _ in items(stamp(1) + bytes(16))] == ["STMP"]
