"""Photos out of a video: processor, time and memory beside ffmpeg, OpenCV and mapillary_tools; what EXIF costs.

The films are made here: a street with noise and the number of each picture, H.264 1080p30 of 30 Mbit/s and HEVC 10 bit
2160p30, a key frame each half second as GoPros have. Each photo's number is read back and compared with its row.
Processor time is that of a process and its children. On a machine with other work to do, say --repeat: the best run of
each counts.
"""

import argparse
import csv
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np

from rig.photo import exif, look, photos
from rig.photo.exif import PhotoTags
from simulator.film import Film, read_number
from simulator.world import Street, World

BEGIN_NS = 1_795_356_192_000_000_000  # 2026-11-22T14:03:12Z
AT_KEYS = "2026-11-22T14:03:12.000Z"  # of the film's begin: each half second lies at a key frame,
BETWEEN_KEYS = "2026-11-22T14:03:12.250Z"  # or as far from one as it can
TICKS_PER_FRAME, CLOCK_HZ = 3003, 90_000
NOISE_LEVELS = 14
H264 = {"preset": "superfast", "g": "15", "bf": "0", "maxrate": "30M", "bufsize": "15M"}
HEVC = {"preset": "ultrafast", "x265-params": "keyint=15:bframes=0:log-level=error"}
DEEP_FRAMES = 90
TAGGED = 1000
# The promises: shares of plain decoding, of mapillary_tools' wall time, of encoding alone; MiB
DENSE, SPARSE, PEER_WALL, TAGGING, MEMORY = 1.10, 0.25, 0.6, 1.1, 500.0
OPENCV = """
import sys, cv2
film = cv2.VideoCapture(sys.argv[1])
number = 0
while film.grab():
    if number % 15 == 0:
        cv2.imwrite(f"{sys.argv[2]}/{number:06d}.jpg", film.retrieve()[1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    number += 1
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a command: seconds of the processor, seconds that it took, MiB at its largest."""

    cpu_s: float
    wall_s: float
    memory_mib: float


def main() -> int:
    """Print the figures; fails when one is worse than promised or a photo is not the picture of its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the film")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the best of so many runs counts")
    parser.add_argument("--mapillary", default="mapillary_tools", metavar="COMMAND", help="the peer, when installed")
    parser.add_argument("--films", type=Path, metavar="DIR", help="keep the films here for another time")
    options = parser.parse_args()
    python = sys.version.split()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {python}")
    print(f"command: python -m benchmarks.extract --seconds {options.seconds:g} --repeat {options.repeat}")
    with tempfile.TemporaryDirectory() as folder:
        films = options.films or Path(folder)
        films.mkdir(exist_ok=True)
        film, deep = films / f"street-{options.seconds:g}.mp4", films / "deep.mp4"
        # In a process of its own: the memory of encoding would count as that of every program started later.
        with ProcessPoolExecutor(1, get_context("spawn")) as maker:
            maker.submit(write_films, film, deep, options.seconds).result()
        print(f"film: {film.stat().st_size * 8 / options.seconds / 1e6:.1f} Mbit/s")
        lines = compare(film, Path(folder), options.repeat, options.mapillary)
        memory = ours(deep, Path(folder) / "deep", "0.5s").memory_mib
        lines.append(("memory, HEVC 10 bit 2160p30, MiB", memory, MEMORY))
    lines.append((f"JPEG and EXIF of {TAGGED} photos / JPEG alone, processor", tagging(), TAGGING))
    print(f"{'':60s} {'measured':>9s} {'promised':>9s}")
    for name, value, limit in lines:
        print(f"{name:60s} {value:9.2f} {limit:9.2f}{'  MISSED' if value > limit else ''}")
    return int(any(value > limit for _, value, limit in lines))


def compare(film: Path, folder: Path, repeat: int, peer: str) -> list[tuple[str, float, float]]:
    """Run all, one after the other and again, and compare the best of each."""
    missing = shutil.which(peer) is None
    sample = [peer, "sample_video", "--rerun", "--video_sample_distance", "-1", "--video_sample_interval", "0.5"]
    sample += ["--video_start_time", "2026_11_22_14_03_12_000"]
    commands: dict[str, Callable[[], Cost]] = {
        "ffmpeg -f null": lambda: run(["ffmpeg", "-v", "error", "-i", film, "-f", "null", "-"]),
        "ours, each 0.5 s between keys": lambda: ours(film, folder / "dense", "0.5s"),
        "ours, each 0.5 s near keys": lambda: ours(film, folder / "near", "0.5s", AT_KEYS),
        "ours, key frames": lambda: ours(film, folder / "key", "key"),
        "ours, each 3 s": lambda: ours(film, folder / "sparse", "3s"),
        "OpenCV, each 15th": lambda: run([sys.executable, "-c", OPENCV, film, empty(folder / "opencv")]),
        "mapillary_tools, each 0.5 s": lambda: run([*sample, film, empty(folder / "peer")]),
    }
    costs: dict[str, list[Cost]] = {}
    for _ in range(repeat):
        for name, make in commands.items():
            if not (missing and name.startswith("mapillary")):
                costs.setdefault(name, []).append(make())
    best = {name: Cost(*map(min, zip(*map(_values, runs), strict=True))) for name, runs in costs.items()}
    print(f"\n{'':34s} {'CPU s':>7s} {'wall s':>7s} {'MiB':>6s}")
    for name, cost in best.items():
        print(f"{name:34s} {cost.cpu_s:7.1f} {cost.wall_s:7.1f} {cost.memory_mib:6.0f}")
    print(f"mapillary_tools: {'not installed, not compared' if missing else shutil.which(peer)}\n")
    plain = best["ffmpeg -f null"].cpu_s
    dense = best["ours, each 0.5 s between keys"]
    lines = [
        ("each 0.5 s, sharpest of 3, EXIF / ffmpeg -f null, processor", dense.cpu_s / plain, DENSE),
        ("key frames / ffmpeg -f null, processor", best["ours, key frames"].cpu_s / plain, SPARSE),
        ("each 3 s / ffmpeg -f null, processor", best["ours, each 3 s"].cpu_s / plain, SPARSE),
    ]
    if not missing:
        wall_s = best["mapillary_tools, each 0.5 s"].wall_s
        lines.append(("each 0.5 s / mapillary_tools, wall", dense.wall_s / wall_s, PEER_WALL))
    wrong = sum(wrong_photos(folder / name) for name in ("dense", "near", "key", "sparse"))
    return [*lines, ("photos that are not the picture of their row", wrong, 0)]


def _values(cost: Cost) -> tuple[float, float, float]:
    return cost.cpu_s, cost.wall_s, cost.memory_mib


def run(command: Sequence[str | Path]) -> Cost:
    """Run a command to its end; fails where it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, wall_s, used.ru_maxrss / 1024)


def ours(film: Path, output: Path, every: str, start: str = BETWEEN_KEYS) -> Cost:
    """The program as a user runs it, with a start given instead of a time code."""
    shutil.rmtree(output, ignore_errors=True)
    return run(
        [sys.executable, "parseVideo.py", film, "--output", output, "--every", every, "--start-utc", start, "--json"]
    )


def empty(folder: Path) -> Path:
    """An empty folder of that name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def wrong_photos(folder: Path) -> int:
    """How many photos show another number than their row says; rows without a photo count too."""
    wrong = 0
    with (folder / photos.TABLE_NAME).open(newline="") as file:
        for row in csv.DictReader(file):
            picture = cv2.imread(str(folder / row["photo"]), cv2.IMREAD_GRAYSCALE)
            number = None if picture is None else read_number(np.asarray(picture, dtype=np.uint8))
            wrong += number != int(row["frame"])
            wrong += abs(float(row["pts_s"]) - int(row["frame"]) * TICKS_PER_FRAME / CLOCK_HZ) > 1e-6
    return wrong


def tagging() -> float:
    """Processor time of encoding with tags over that of encoding alone, the best of three."""
    film = Film(World(BEGIN_NS, 0, 0.0), Street(start_utc_ns=BEGIN_NS), "left", 1920, 1080)
    pictures = [
        np.asarray(film.picture(BEGIN_NS + number * 10**9, number).to_ndarray(format="bgr24"), dtype=np.uint8)
        for number in range(10)
    ]
    ratios = []
    for _ in range(3):
        spent = []
        for tagged in (False, True):
            began = time.process_time()
            for number in range(TAGGED):
                jpeg = look.encode_jpeg(pictures[number % len(pictures)], 92)
                if tagged:
                    exif.with_tags(jpeg, some_tags(number))
            spent.append(time.process_time() - began)
        ratios.append(spent[1] / spent[0])
    return min(ratios)


def some_tags(number: int) -> PhotoTags:
    """All that a photo can say."""
    return PhotoTags(
        utc_ns=BEGIN_NS + number * 500_000_000,
        width=1920,
        height=1080,
        time_error_ms=8.0,
        latitude=47.17 + number * 1e-5,
        longitude=-1.27,
        altitude_m=31.2,
        heading_deg=number % 360,
        direction_deg=(number + 90) % 360,
        speed_mps=11.1,
        hdop=0.6,
        sigma_m=0.02,
        satellites=22,
        quality=4,
        make="GoPro",
        model="HERO12 Black",
        serial="C3501324500711",
    )


def write_films(film: Path, deep: Path, seconds: float) -> None:
    """Those that are not there yet."""
    if not film.exists():
        write_film(film, "libx264", (1920, 1080), round(seconds * 30000 / 1001), 30, H264, "yuvj420p")
    if not deep.exists():
        write_film(deep, "libx265", (3840, 2160), DEEP_FRAMES, 60, HEVC, "yuv420p10le")


def write_film(
    path: Path, codec: str, size: tuple[int, int], frames: int, mbit: int, options: dict[str, str], pixels: str
) -> None:
    """A street with noise that is new in each picture, as sensors have it; whole or not at all."""
    unfinished = path.with_name(f"{os.getpid()}-{path.name}")
    width, height = size
    film = Film(World(BEGIN_NS, 0, 0.0), Street(start_utc_ns=BEGIN_NS), "left", *size)
    random = np.random.default_rng(1)
    noise = random.integers(0, NOISE_LEVELS, (height + 64, width + 64), dtype=np.uint8)
    with av.open(str(unfinished), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, pixels, mbit * 1_000_000
        stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        for number in range(frames):
            picture = film.picture(BEGIN_NS + number * TICKS_PER_FRAME * 10**9 // CLOCK_HZ, number)
            rows = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(-1, picture.planes[0].line_size)
            x, y = random.integers(0, 64, 2)
            luma = rows[:height, :width]
            luma[:] = luma - NOISE_LEVELS // 2 + noise[y : y + height, x : x + width]  # no level is near either end
            picture = picture.reformat(format=pixels)
            picture.pts, picture.time_base = number * TICKS_PER_FRAME, Fraction(1, CLOCK_HZ)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    unfinished.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
