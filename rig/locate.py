"""Photos meet positions: to each photo its nearest fix, and the place of the camera at its very instant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rig.clock import NS_PER_MS, iso_utc, parse_utc
from rig.exif import PhotoTags
from rig.photos import Photo, with_flags
from rig.positions import Places, Track, lever_arm

SIGMAS_IN_99_PERCENT = 2.6  # half-width of a 99 % interval over one sigma of a normal distribution
NO_FIX = "no-fix-near"


@dataclass(frozen=True, slots=True)
class Rule:
    """How positions are given: `method` hermite, linear or nearest; no fix further away than `max_gap_s`."""

    method: str
    max_gap_s: float
    lever_arm_m: tuple[float, ...]  # camera minus antenna: forward, right, up


def locate(rows: Sequence[Photo], track: Track, rule: Rule) -> list[Photo]:
    """The rows with their positions; those without a fix near enough have empty cells and a flag."""
    if not rows:
        return []
    utc_ns = np.array([parse_utc(row.utc) for row in rows], dtype=np.int64)
    nearest = track.nearest(utc_ns, rule.max_gap_s)
    places = None
    if rule.method != "nearest":
        places = lever_arm(track.interpolate(utc_ns, rule.max_gap_s, rule.method), rule.lever_arm_m)
    return [
        _located(row, int(moment), int(fix), number, track, places)
        for number, (row, moment, fix) in enumerate(zip(rows, utc_ns, nearest, strict=True))
    ]


def place_of(row: Photo) -> tuple[float, float, float | None] | None:
    """Latitude, longitude and altitude of a photo: those of its very instant, else of its fix; None without any."""
    if row.interpolated_latitude is not None and row.interpolated_longitude is not None:
        return row.interpolated_latitude, row.interpolated_longitude, row.interpolated_altitude_m
    if row.latitude is not None and row.longitude is not None:
        return row.latitude, row.longitude, row.altitude_m
    return None


def direction_of(row: Photo, name: str, directions: Sequence[str]) -> float | None:
    """Where the camera called `name` looks, in degrees, from the heading; `directions` as in configs.py."""
    if row.heading_deg is None:
        return None
    turns = dict(entry.split("=", 1) for entry in directions)
    return (row.heading_deg + float(turns.get(name, turns.get(row.camera, 0.0)))) % 360


def tags_of(row: Photo, width: int, height: int, direction_deg: float | None = None, **more: Any) -> PhotoTags:
    """What is written into the photo of a row; `more` are make, model, serial and other tags of the camera."""
    latitude, longitude, altitude_m = place_of(row) or (None, None, None)
    return PhotoTags(
        utc_ns=parse_utc(row.utc),
        width=width,
        height=height,
        time_error_ms=row.time_error_ms,
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude_m,
        heading_deg=row.heading_deg,
        direction_deg=direction_deg,
        speed_mps=row.speed_mps,
        hdop=row.hdop,
        sigma_m=row.position_sigma_m,
        satellites=row.satellites,
        quality=row.quality,
        **more,
    )


def _located(row: Photo, utc_ns: int, fix: int, number: int, track: Track, places: Places | None) -> Photo:
    bare = Photo(**{name: getattr(row, name) for name in _OF_THE_PICTURE})
    if fix < 0:
        return replace(bare, flags=with_flags(row.flags, [NO_FIX]))
    values: dict[str, Any] = {
        "fix_utc": iso_utc(int(track.utc_ns[fix])),
        "fix_dt_ms": (int(track.utc_ns[fix]) - utc_ns) / NS_PER_MS,
        "latitude": float(track.latitude[fix]),
        "longitude": float(track.longitude[fix]),
        "altitude_m": _known(track.altitude_m[fix]),
        "quality": _whole(track.quality[fix]),
        "satellites": _whole(track.satellites[fix]),
        "hdop": _known(track.hdop[fix]),
        "fix_sigma_m": _known(track.sigma_m[fix]),
        "speed_mps": _known(track.speed_mps[fix]),
        "heading_deg": _known(track.course_deg[fix]),
        "flags": " ".join(word for word in row.flags.split() if word != NO_FIX),
    }
    sigma_m = float(track.sigma_m[fix])
    if places is not None and places.how[number] != "none":
        values |= {
            "interpolation": places.how[number],
            "interpolated_latitude": float(places.latitude[number]),
            "interpolated_longitude": float(places.longitude[number]),
            "interpolated_altitude_m": _known(places.altitude_m[number]),
            "heading_deg": _known(places.heading_deg[number]),
            "speed_mps": _known(places.speed_mps[number]),
        }
        sigma_m = float(places.sigma_m[number])
    values["position_sigma_m"] = _with_time(sigma_m, values["speed_mps"], row.time_error_ms)
    return replace(bare, **values)


_OF_THE_PICTURE = (
    "photo",
    "camera",
    "utc",
    "time_error_ms",
    "video",
    "pts_s",
    "frame",
    "sharpness",
    "luminance",
    "flags",
)


def _with_time(sigma_m: float, speed_mps: float | None, time_error_ms: float | None) -> float | None:
    """One sigma of the position, the share of the time's error included."""
    if not math.isfinite(sigma_m):
        return None
    return math.hypot(sigma_m, (speed_mps or 0.0) * (time_error_ms or 0.0) / 1000 / SIGMAS_IN_99_PERCENT)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) and value >= 0 else None
