"""Geotagging 1,000 photos against `exiftool -geotag`, in the same run: at least 10 times as fast.

And what the tags cost beside the JPEG encoding: at most 10 % of it.

The photos are 1080p JPEGs of a simulated street without any tags but their time, the track 10 Hz NMEA. Both programs
read the track and every photo and write every photo anew; ours also writes its table, and has each photo on the disk
before it takes the old one's place. The promise is about the programs, in memory; --folder tries a disk. Each run
starts from fresh copies, the programs take turns; wall and processor time of the whole program, child processes
included, the best of --repeat runs; ours has its modules compiled, as from its second run on everywhere.
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from rig.clock import parse_utc
from rig.photo import exif
from simulator.film import Film
from simulator.world import Street, World

PHOTOS = 1000
DISTINCT = 20
ENCODED = 60
BEGIN_NS = parse_utc("2026-11-22T14:00:00Z")
STEP_NS = 97_000_000
FASTER, DEARER = 10.0, 1.1
MEMORY = Path("/dev/shm")


def main() -> int:
    """Print the figures; 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; more where there is other work to do")
    parser.add_argument("--folder", type=Path, default=MEMORY, help="on the disk that is to be tried (%(default)s)")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
    )
    pictures = _pictures()
    cost = _encoding(pictures)
    print(f"JPEG + EXIF against JPEG: {cost:.3f} times (at most {DEARER})")
    if shutil.which("exiftool") is None:
        print("exiftool is not installed: no comparison")
        return int(cost > DEARER)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        _prepare(folder, pictures)
        mine, other = _best([_ours, _theirs], folder, options.repeat)
    for program, (wall_s, cpu_s) in (("parsePhotos.py", mine), ("exiftool -geotag", other)):
        print(f"{program:16} {wall_s:6.2f} s, processor {cpu_s:6.2f} s for {PHOTOS} photos")
    wall, cpu = other[0] / mine[0], other[1] / mine[1]
    print(f"exiftool takes {wall:.1f} times as long, {cpu:.1f} times the processor time (at least {FASTER:g})")
    return int(cost > DEARER or wall < FASTER)


def _pictures() -> list[np.ndarray]:
    """Frames of the simulated street, as they come out of the decoder."""
    world = World(BEGIN_NS, 0, 0.0)
    film = Film(world, Street(start_utc_ns=BEGIN_NS), "left", 1920, 1080, 1)
    frames = (film.picture(BEGIN_NS + 10**9 * number, number, None) for number in range(DISTINCT))
    return [np.asarray(frame.to_ndarray(format="bgr24")) for frame in frames]


def _encoding(pictures: list[np.ndarray]) -> float:
    """Processor time of encoding and tagging over that of encoding; interleaved, so that both see the same machine."""

    def encode(number: int) -> bytes:
        done, data = cv2.imencode(".jpg", pictures[number % DISTINCT], [cv2.IMWRITE_JPEG_QUALITY, 92])
        assert done
        return data.tobytes()

    def tag(number: int) -> bytes:
        return exif.with_tags(encode(number), _tags(number))

    plain_s = tagged_s = 0.0
    for number in range(ENCODED):
        plain_s += _cpu_s(encode, number)
        tagged_s += _cpu_s(tag, number)
    return tagged_s / plain_s


def _cpu_s(do: Callable[[int], bytes], number: int) -> float:
    began = time.process_time()
    do(number)
    return time.process_time() - began


def _tags(number: int) -> exif.PhotoTags:
    return exif.PhotoTags(
        utc_ns=BEGIN_NS + number * STEP_NS,
        width=1920,
        height=1080,
        time_error_ms=4.5,
        latitude=47.170224,
        longitude=-1.269381,
        altitude_m=35.654,
        heading_deg=61.97,
        direction_deg=331.97,
        speed_mps=13.395,
        hdop=0.6,
        sigma_m=0.0231,
        satellites=20,
        quality=4,
        make="GoPro",
        model="HERO12 Black",
        serial="C3501324500702",
    )


def _prepare(folder: Path, pictures: list[np.ndarray]) -> None:
    """Photos that say only when they were taken, and the track."""
    (folder / "originals").mkdir()
    encoded = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes() for picture in pictures]
    for number in range(PHOTOS):
        tags = exif.PhotoTags(utc_ns=BEGIN_NS + 1_000_000_000 + number * STEP_NS, width=1920, height=1080)
        tagged = exif.with_tags(encoded[number % DISTINCT], tags)
        (folder / "originals" / f"{number:04d}.jpg").write_bytes(tagged)
    street = Street(start_utc_ns=BEGIN_NS)
    lines = [_sentences(street, BEGIN_NS + step * 100_000_000) for step in range(PHOTOS + 50)]
    (folder / "track.nmea").write_text("".join(lines))


def _sentences(street: Street, utc_ns: int) -> str:
    pose, since_ms = street.at(utc_ns), (utc_ns - BEGIN_NS) // 1_000_000
    clock = f"14{since_ms // 60_000:02d}{since_ms % 60_000 / 1000:05.2f}"
    place = f"{_angle(pose.latitude, 2, 'NS')},{_angle(pose.longitude, 3, 'EW')}"
    bodies = (
        f"GNRMC,{clock},A,{place},{pose.speed_mps / 0.514444:.3f},{pose.heading_deg:.2f},221126,,,R",
        f"GNGGA,{clock},{place},4,20,0.6,{pose.altitude_m:.3f},M,47.0,M,1.0,0001",
    )
    return "".join(f"${body}*{_checksum(body):02X}\r\n" for body in bodies)


def _angle(degrees: float, width: int, signs: str) -> str:
    whole, part = divmod(abs(degrees), 1)
    return f"{int(whole):0{width}d}{part * 60:010.7f},{signs[degrees < 0]}"


def _checksum(body: str) -> int:
    check = 0
    for byte in body.encode():
        check ^= byte
    return check


def _ours(photos: Path, track: Path) -> list[str]:
    words = [sys.executable, "parsePhotos.py", str(photos), "--positions", str(track), "--in-place"]
    return [*words, "--camera-offset", "0:0.01", "--format", "none"]


def _theirs(photos: Path, track: Path) -> list[str]:
    words = ["exiftool", "-q", "-overwrite_original", "-geotag", str(track)]
    return [*words, "-geotime<SubSecDateTimeOriginal", str(photos)]


def _best(programs: list[Callable[[Path, Path], list[str]]], folder: Path, repeat: int) -> list[tuple[float, float]]:
    """Least wall time and least processor time of each program's runs, each on fresh copies."""
    runs = [[_run(program, folder) for program in programs] for _ in range(repeat)]
    return [(min(wall_s), min(cpu_s)) for wall_s, cpu_s in (zip(*own, strict=True) for own in zip(*runs, strict=True))]


def _run(program: Callable[[Path, Path], list[str]], folder: Path) -> tuple[float, float]:
    """Wall and processor time. The copies stay: ext4 makes no new file where it has just taken many away, and seeks."""
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    photos = Path(tempfile.mkdtemp(dir=folder)) / "card"
    shutil.copytree(folder / "originals", photos)
    os.sync()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(program(photos, folder / "track.nmea"), check=True, stdout=subprocess.DEVNULL, env=compiled)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
