"""How far a recording's photos are from the truth of the simulated car: times, positions, and their error bars."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from simulator.film import read_number
from simulator.world import Pose, Street

MILLISECOND_NS = 1_000_000
EARTH_RADIUS_M = 6_371_000.0
ALL = "all"


class VerdictError(ValueError):
    """The result cannot be compared with the truth."""


@dataclass(frozen=True, slots=True)
class PhotoError:
    """One photo against the truth; None where the result says nothing."""

    camera: str
    time_error_ms: float  # stated minus true time of mid-exposure of the middle row
    stated_error_ms: float
    nearest_m: float | None  # horizontal, from the place of the camera at the true time
    interpolated_m: float | None
    position_sigma_m: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The errors of some photos, absolute unless called bias; None where there is nothing to take it from."""

    photos: int
    time_bias_ms: float | None
    time_median_ms: float | None
    time_p95_ms: float | None
    time_max_ms: float | None
    time_covered_share: float | None
    nearest_median_m: float | None
    nearest_p95_m: float | None
    interpolated_median_m: float | None
    interpolated_p95_m: float | None
    position_covered_share: float | None  # within 2.6 stated sigmas, which hold 99 % along a line


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of each camera and of all, and how many photos had no readable number."""

    figures: Mapping[str, Figures]
    unread: int

    @property
    def all(self) -> Figures:
        """The figures of all photos."""
        return self.figures[ALL]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"figures": {name: asdict(figures) for name, figures in self.figures.items()}, "unread": self.unread}


def judge(recording: Path, truth: Path) -> Verdict:
    """Compare `recording`/photos.csv with the truth of the car. Raises VerdictError when that cannot be done."""
    rows = _read_photos(recording / "photos.csv")
    street = _street(truth)
    cameras = _cameras(recording, truth)
    errors = []
    for row in rows:
        camera = cameras.get(row["camera"])
        number = None if camera is None else _read_number(recording / row["photo"])
        true_ns = None if camera is None or number is None else camera.frames.get(number)
        if camera is not None and true_ns is not None:
            errors.append(_compare(row, camera.label, true_ns, street.at(true_ns)))
    return Verdict(_summarise(errors), len(rows) - len(errors))


def table(verdict: Verdict) -> str:
    """The figures as a table for a person."""
    head = (
        "camera           photos | time error ms              inside   | position error m, horizontal\n"
        "                        |   bias  median    p95    max its bar | nearest: med   p95  interpolated: med   p95"
    )
    return "\n".join([head, *(_line(name, figures) for name, figures in verdict.figures.items())])


def _line(name: str, figures: Figures) -> str:
    times = (figures.time_bias_ms, figures.time_median_ms, figures.time_p95_ms, figures.time_max_ms)
    cells = "".join(f"{_number(value, 1):>7}" for value in times)
    covered = "-" if figures.time_covered_share is None else f"{figures.time_covered_share:.0%}"
    nearest = f"{_number(figures.nearest_median_m, 2):>13}{_number(figures.nearest_p95_m, 2):>6}"
    between = f"{_number(figures.interpolated_median_m, 3):>18}{_number(figures.interpolated_p95_m, 3):>6}"
    return f"{name:<16} {figures.photos:>6} |{cells}{covered:>8} |{nearest}{between}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _read_photos(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise VerdictError(f"no photos.csv to compare ({error})") from error
    if not rows:
        raise VerdictError(f"{path} lists no photo")
    return rows


def _read_frames(path: Path) -> dict[int, int]:
    """True UTC in ns of each picture number."""
    with path.open(encoding="ascii", newline="") as file:
        return {int(row["number"]): int(row["utc_ns"]) for row in csv.DictReader(file) if row["utc_ns"]}


def _street(truth: Path) -> Street:
    street = json.loads((truth / "world.json").read_text(encoding="utf-8"))["street"]
    return Street(street["seed"], street["start_utc_ns"])


@dataclass(frozen=True, slots=True)
class _Camera:
    label: str
    frames: Mapping[int, int]


def _cameras(recording: Path, truth: Path) -> dict[str, _Camera]:
    """The cameras by any name the result may give them: some cannot tell their serial over the network."""
    known: dict[str, _Camera] = {}
    for camera in json.loads((truth / "world.json").read_text(encoding="utf-8"))["cameras"]:
        frames = _read_frames(truth / f"frames-{camera['serial']}.csv")
        for key in ("label", "serial", "address"):
            known[camera.get(key, "")] = _Camera(camera["label"], frames)
    manifest = recording / "recording.json"
    if manifest.exists():
        for entry in json.loads(manifest.read_text(encoding="utf-8"))["cameras"]:
            if entry["address"] in known:
                known[entry["serial"]] = known[entry["folder"]] = known[entry["address"]]
    return known


def _read_number(photo: Path) -> int | None:
    luma = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if luma is None else read_number(np.asarray(luma, np.uint8))


def _compare(row: Mapping[str, str], label: str, true_ns: int, pose: Pose) -> PhotoError:
    stated_ns = _parse_utc(row["utc"])
    return PhotoError(
        camera=label,
        time_error_ms=(stated_ns - true_ns) / MILLISECOND_NS,
        stated_error_ms=float(row["time_error_ms"] or 0),
        nearest_m=_distance_m(row["latitude"], row["longitude"], pose),
        interpolated_m=_distance_m(row["interpolated_latitude"], row["interpolated_longitude"], pose),
        position_sigma_m=float(row["position_sigma_m"]) if row["position_sigma_m"] else None,
    )


def _parse_utc(text: str) -> int:
    """Nanoseconds of `2026-11-22T14:03:12.345Z`."""
    seconds, _, rest = text.rstrip("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 1000 * MILLISECOND_NS + int(f"{rest:0<9}"[:9])


def _distance_m(latitude: str, longitude: str, pose: Pose) -> float | None:
    if not latitude or not longitude:
        return None
    north = math.radians(float(latitude) - pose.latitude)
    east = math.radians(float(longitude) - pose.longitude) * math.cos(math.radians(pose.latitude))
    return math.hypot(north, east) * EARTH_RADIUS_M


def _summarise(errors: Sequence[PhotoError]) -> dict[str, Figures]:
    groups: dict[str, list[PhotoError]] = defaultdict(list)
    for error in errors:
        groups[error.camera].append(error)
    return {name: _figures(groups[name]) for name in sorted(groups)} | {ALL: _figures(errors)}


def _figures(errors: Sequence[PhotoError]) -> Figures:
    times = [abs(error.time_error_ms) for error in errors]
    nearest = [error.nearest_m for error in errors if error.nearest_m is not None]
    between = [error.interpolated_m for error in errors if error.interpolated_m is not None]
    return Figures(
        photos=len(errors),
        time_bias_ms=_quantile([error.time_error_ms for error in errors], 0.5),
        time_median_ms=_quantile(times, 0.5),
        time_p95_ms=_quantile(times, 0.95),
        time_max_ms=_quantile(times, 1.0),
        # The result gives times to the millisecond.
        time_covered_share=_share(abs(e.time_error_ms) <= e.stated_error_ms + 0.5 for e in errors),
        nearest_median_m=_quantile(nearest, 0.5),
        nearest_p95_m=_quantile(nearest, 0.95),
        interpolated_median_m=_quantile(between, 0.5),
        interpolated_p95_m=_quantile(between, 0.95),
        position_covered_share=_share(
            e.interpolated_m <= 2.6 * e.position_sigma_m
            for e in errors
            if e.interpolated_m is not None and e.position_sigma_m is not None
        ),
    )


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 4) if values else None


def _share(hits: Iterable[bool]) -> float | None:
    flags = list(hits)
    return round(sum(flags) / len(flags), 4) if flags else None
