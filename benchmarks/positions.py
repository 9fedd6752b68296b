"""The place between two fixes: a real drive with fixes left out, and a slalom on which others place photos too.

Drive: an EOS Arrow 100+ at 10 Hz, 2024-03-23 (../shared/data), decimated; each left-out fix faster than 2 m/s with HDOP
up to 2 is compared with the place interpolated there. Slalom: half circles of 20 m radius at 10 m/s, NMEA at 1, 5 and
10 Hz with 7 decimals of a minute and no noise, 300 photos at random milliseconds, against the exact curve;
exiftool and mapillary_tools where they are installed.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rig.gnss.nmea import read_log
from rig.gnss.positions import Track

DATA = Path(__file__).parents[1] / "../shared/data/arrow"
BUDGETS_CM = {5: 2.0, 1: 6.0}  # p95 on the drive, by rate in Hz
SLALOM_BUDGET_CM = 2.0  # mean at 1 Hz
RADIUS_M, SPEED_MPS, SECONDS, PHOTOS = 20.0, 10.0, 300, 300
START_S = 1_795_356_192
LATITUDE, LONGITUDE = 47.0, -1.0
NORTH_M, EAST_M = 111_170.9, 76_055.9  # metres in a degree there, on the ellipsoid
Floats = npt.NDArray[np.float64]
Places = tuple[Floats, Floats]  # latitudes and longitudes


def drive() -> bool:
    """Print the errors on the real drive; whether they are within budget."""
    if not DATA.is_dir():
        print("drive: skipped, the data beside the project is not here")
        return True
    fixes = read_log(DATA / "arrow100plus_2024-03-23_RECONSTRUCTED.nmea")
    with (DATA / "arrow100plus_gps_data_commit_7df26ce.csv").open() as file:
        hdop = [float(row["HDOP"]) for row in csv.DictReader(file)]
    good = True
    for rate_hz, budget_cm in BUDGETS_CM.items():
        every = 10 // rate_hz
        track = Track.of_logs([fixes[::every]])
        left = [fix for i, fix in enumerate(fixes) if i % every and (fix.speed_mps or 0) > 2 and hdop[i] <= 2]
        asked = np.array([fix.utc_ns for fix in left])
        for method in ("hermite", "linear"):
            places = track.interpolate(asked, 1.0, method)
            north = (places.latitude - [fix.latitude or 0 for fix in left]) * NORTH_M
            east = (places.longitude - [fix.longitude or 0 for fix in left]) * EAST_M
            error_cm = 100 * np.hypot(north, east)
            p50, p95 = np.nanpercentile(error_cm, [50, 95])
            none = places.how.count("none")
            print(f"drive  {rate_hz} Hz {method:8} p50 {p50:.1f} p95 {p95:.1f} cm, {len(left)} places, {none} unknown")
            good &= method != "hermite" or (p95 <= budget_cm and none < 0.01 * len(left))
    return good


def slalom() -> bool:
    """Print the errors on the slalom beside those of others that are installed; whether ours are within budget."""
    second = np.sort(np.random.default_rng(1).integers(2_000, (SECONDS - 2) * 1000, PHOTOS)) / 1000
    north, east, _ = _curve(second)
    good = True
    with tempfile.TemporaryDirectory() as name:
        for rate_hz in (1, 5, 10):
            log = Path(name) / f"slalom{rate_hz}.nmea"
            log.write_bytes(b"".join(_epoch(number / rate_hz) for number in range(SECONDS * rate_hz)))
            places = Track.load([log]).interpolate(START_S * 10**9 + (second * 1e9).astype(np.int64), 1.0)
            folder = _photos(log, second)
            found = {"edenCar": (places.latitude, places.longitude)}  # mapillary_tools first: the other one writes
            found |= {peer: place(log, folder) for peer, place in PEERS.items() if shutil.which(peer)}
            for who, (lat, lon) in found.items():
                error_cm = 100 * np.hypot((lat - LATITUDE) * NORTH_M - north, (lon - LONGITUDE) * EAST_M - east)
                mean_cm, max_cm, none = np.nanmean(error_cm), np.nanmax(error_cm), np.isnan(error_cm).sum()
                print(f"slalom {rate_hz} Hz {who:15} mean {mean_cm:.2f} max {max_cm:.2f} cm, {none} without a place")
                good &= who != "edenCar" or rate_hz > 1 or (mean_cm <= SLALOM_BUDGET_CM and not none)
    return good


def _curve(second: Floats) -> tuple[Floats, Floats, Floats]:
    """Metres north and east and the course, on half circles to the left and to the right in turn."""
    half_s = math.pi * RADIUS_M / SPEED_MPS
    number = np.floor(second / half_s)
    angle = (second - number * half_s) * SPEED_MPS / RADIUS_M
    side = np.where(number % 2 == 0, 1.0, -1.0)
    north = side * RADIUS_M * np.sin(angle)
    east = RADIUS_M * (2 * number + 1 - np.cos(angle))
    return north, east, np.degrees(np.arctan2(np.sin(angle), side * np.cos(angle))) % 360


def _epoch(second: float) -> bytes:
    north, east, course = (float(values[0]) for values in _curve(np.array([second])))
    time = datetime.fromtimestamp(START_S + round(second, 3), UTC)
    clock = f"{time:%H%M%S}.{round(second * 100) % 100:02}"
    minutes = [(abs(LATITUDE + north / NORTH_M)) * 60, (abs(LONGITUDE + east / EAST_M)) * 60]
    place = ",".join(
        f"{int(value // 60):0{width}}{value % 60:010.7f},{side}"
        for value, width, side in zip(minutes, (2, 3), "NW", strict=True)
    )
    knots = SPEED_MPS * 3600 / 1852
    bodies = [
        f"GPGGA,{clock},{place},4,18,0.6,50.000,M,47.000,M,1.0,0123",
        f"GPRMC,{clock},A,{place},{knots:.3f},{course:.2f},{time:%d%m%y},,,R",
    ]
    return b"".join(f"${body}*{reduce(xor, body.encode()):02X}\r\n".encode() for body in bodies)


def _photos(log: Path, second: Floats) -> Path:
    """A folder of photos with their time to the millisecond."""
    folder = log.with_suffix("")
    folder.mkdir()
    grey = cv2.imencode(".jpg", np.full((8, 8), 128, np.uint8))[1].tobytes()
    rows = ["SourceFile,DateTimeOriginal,SubSecTimeOriginal,OffsetTimeOriginal"]
    for number, moment in enumerate(second):
        photo = folder / f"{number:03}.jpg"
        photo.write_bytes(grey)
        time = datetime.fromtimestamp(START_S + int(moment), UTC)
        rows.append(f"{photo},{time:%Y:%m:%d %H:%M:%S},{round(moment * 1000) % 1000:03},+00:00")
    times = log.with_suffix(".csv")
    times.write_text("\n".join(rows) + "\n")
    if shutil.which("exiftool"):
        _run("exiftool", "-q", "-overwrite_original", f"-csv={times}", str(folder))
    return folder


def _mapillary(log: Path, folder: Path) -> Places:
    """Where mapillary_tools places the photos; it keeps 7 decimals of a degree."""
    described = log.with_suffix(".json")
    how = ["--geotag_source", "nmea", "--geotag_source_path", str(log), "--desc_path", str(described)]
    _run("mapillary_tools", "process", str(folder), *how, "--duplicate_distance", "0", "--skip_process_errors")
    found = sorted(json.loads(described.read_text()), key=lambda item: item["filename"])
    return _array(found, "MAPLatitude"), _array(found, "MAPLongitude")


def _exiftool(log: Path, folder: Path) -> Places:
    _run("exiftool", "-q", "-overwrite_original", "-geotag", str(log), "-geotime<SubSecDateTimeOriginal", str(folder))
    said = _run("exiftool", "-json", "-n", "-GPSLatitude", "-GPSLongitude", "-fileOrder", "FileName", str(folder))
    found = json.loads(said)
    return _array(found, "GPSLatitude"), -np.abs(_array(found, "GPSLongitude"))


def _array(items: Sequence[Mapping[str, float]], name: str) -> Floats:
    return np.array([float(item.get(name, "nan")) for item in items])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


PEERS = {"mapillary_tools": _mapillary, "exiftool": _exiftool}


def main() -> int:
    """Print the figures; fails when one is worse than promised."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"command: python -m benchmarks.positions; Python {sys.version.split()[0]}, numpy {np.__version__}")
    return int(not (drive() & slalom()))


if __name__ == "__main__":
    raise SystemExit(main())
