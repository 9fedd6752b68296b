"""Photos meet positions: to each photo its nearest fix, and the place of the camera at its very instant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT, iso_utc, parse_utc
from rig.errors import EdencarError, NoPositionError, UnreadableError
from rig.gnss.fix import METRES_PER_DEGREE, Fix
from rig.gnss.fixfiles import read_fixes
from rig.gnss.positions import Places, Track, lever_arm
from rig.photo.exif import PhotoTags
from rig.photo.photos import COLUMNS, DECIMALS, Photo, with_flags

NO_FIX = "no-fix-near"
SAME_TIME_S = 2.0  # two logs' fixes within tell of the same time
ELSEWHERE_M = 50.0  # two receivers of one car are never so far apart, not even without corrections in a town
SINGLE_SIGMA_M = 5.0  # of a receiver that does not say how exact it is
QUARTER_HOUR_S = 900  # zones are whole multiples of it
MOST = 0.9
MOST_OF_WAY = 200  # points
_OF_THE_PICTURE = COLUMNS[: COLUMNS.index("fix_utc")] + COLUMNS[COLUMNS.index("sharpness") :]


@dataclass(frozen=True, slots=True)
class Rule:
    """How positions are given: `method` hermite, linear or nearest; no fix further away than `max_gap_s`."""

    method: str
    max_gap_s: float
    lever_arm_m: tuple[float, ...]  # camera minus antenna: forward, right, up

    @staticmethod
    def of(settings: Settings, method: str = "hermite") -> "Rule":
        """As the settings say."""
        return Rule(method, settings.max_gap_s, settings.lever_arm_m)


@dataclass(frozen=True, slots=True)
class Camera:
    """What photos say of their camera; `label` is what the crew calls it."""

    label: str
    make: str = ""
    model: str = ""
    serial: str = ""


def load_track(paths: Sequence[Path]) -> tuple[Track, list[str], list[str]]:
    """The track of one log or of several; warnings, and what was wrong with logs that cannot be read.

    Two receivers never take turns, that would be a zigzag between their antennas: where several logs tell of the
    same time the most exact one counts, and one that was elsewhere is left out. Raises what was wrong with the first
    log, when none is left.
    """
    found, errors = list[tuple[Track, list[Fix], Path]](), list[EdencarError]()
    for path in paths:
        try:
            log = read_fixes(path)
            found.append((Track.of_logs([log], str(path)), log, path))
        except (UnreadableError, NoPositionError) as error:
            errors.append(error)
    if not found:
        raise errors[0]
    (track, best, first), *others = sorted(found, key=lambda one: _doubt(one[0]))
    kept, warnings = [best], list[str]()
    for other, log, path in others:
        apart_m = _apart_m(track, other)
        if apart_m > ELSEWHERE_M:
            warnings.append(f"{path} is left out: it was {apart_m:.0f} m away from {first}")
            continue
        times = np.array([fix.utc_ns or 0 for fix in log], dtype=np.int64)
        free = track.nearest(times, SAME_TIME_S) < 0
        kept.append([fix for fix, is_free in zip(log, free, strict=True) if is_free])
        track = Track.of_logs(kept)
    return track, warnings, [str(error) for error in errors if isinstance(error, UnreadableError)]


def _doubt(track: Track) -> float:
    """The smaller the more exact: the usual sigma, where none is told that of a single receiver."""
    return float(np.nanmedian(track.sigma_m)) if np.isfinite(track.sigma_m).any() else SINGLE_SIGMA_M


def _apart_m(track: Track, other: Track) -> float:
    """How far apart two tracks usually are while both were on, 0 where they never were."""
    places = track.interpolate(other.utc_ns, SAME_TIME_S)
    north_m = (other.latitude - places.latitude) * METRES_PER_DEGREE
    east_m = (other.longitude - places.longitude) * METRES_PER_DEGREE * np.cos(np.radians(other.latitude))
    metres = np.hypot(north_m, east_m)
    return float(np.nanmedian(metres)) if np.isfinite(metres).any() else 0.0


def shift_onto(rows: Sequence[Photo], track: Track, max_gap_s: float) -> float | None:
    """By how many seconds the photos' clock would have to go for most of them to lie on the track: whole zones only."""
    utc_ns = np.array([parse_utc(row.utc) for row in rows], dtype=np.int64)
    for quarters in sorted(range(-56, 57), key=abs):
        shift_ns = quarters * QUARTER_HOUR_S * NS_PER_S
        if np.mean(track.nearest(utc_ns + shift_ns, max_gap_s) >= 0) >= MOST:
            return float(quarters * QUARTER_HOUR_S)
    return None


def locate(rows: Sequence[Photo], track: Track, rule: Rule) -> list[Photo]:
    """The rows with their positions; those without a fix near enough have empty cells and a flag."""
    if not rows:
        return []
    utc_ns = np.array([parse_utc(row.utc) for row in rows], dtype=np.int64)
    nearest = track.nearest(utc_ns, rule.max_gap_s)
    places = None
    if rule.method != "nearest":
        places = lever_arm(track.interpolate(utc_ns, rule.max_gap_s, rule.method), rule.lever_arm_m)
    track = replace(track, course_deg=track.headings())
    return [
        _located(row, int(moment), int(fix), number, track, places, rule)
        for number, (row, moment, fix) in enumerate(zip(rows, utc_ns, nearest, strict=True))
    ]


def place_of(row: Photo) -> tuple[float, float, float | None] | None:
    """Latitude, longitude and altitude of a photo: those of its very instant, else of its fix; None without any."""
    if row.interpolated_latitude is not None and row.interpolated_longitude is not None:
        return row.interpolated_latitude, row.interpolated_longitude, row.interpolated_altitude_m
    if row.latitude is not None and row.longitude is not None:
        return row.latitude, row.longitude, row.altitude_m
    return None


def way_of(rows: Sequence[Photo]) -> tuple[tuple[float, float], ...]:
    """Latitude and longitude of some of the photos in the order of time: enough for a map of many drives."""
    found = [place for row in sorted(rows, key=lambda row: row.utc) if (place := place_of(row)) is not None]
    step = max(1, -(-len(found) // MOST_OF_WAY))
    kept = [*found[::step], *found[-1:]]
    return tuple((round(latitude, 6), round(longitude, 6)) for latitude, longitude, _ in kept)


def direction_of(row: Photo, name: str, directions: Sequence[str]) -> float | None:
    """Where the camera called `name` looks, in degrees, from the heading; `directions` as in configs.py."""
    if row.heading_deg is None:
        return None
    turns = dict(entry.casefold().split("=", 1) for entry in directions)  # phones begin a name with a capital
    return (row.heading_deg + float(turns.get(name.casefold(), turns.get(row.camera.casefold(), 0.0)))) % 360


def tags_of(row: Photo, size: tuple[int, int], camera: Camera, directions: Sequence[str], **own: str) -> PhotoTags:
    """What is written into the photo of a row, of so many columns and rows; `own` are `camera_time` and `privacy`."""
    latitude, longitude, altitude_m = place_of(row) or (None, None, None)
    return PhotoTags(
        utc_ns=parse_utc(row.utc),
        width=size[0],
        height=size[1],
        time_error_ms=row.time_error_ms,
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude_m,
        heading_deg=row.heading_deg,
        direction_deg=direction_of(row, camera.label, directions),
        speed_mps=row.speed_mps,
        hdop=row.hdop,
        sigma_m=row.position_sigma_m,
        satellites=row.satellites,
        quality=row.quality,
        make=camera.make,
        model=camera.model,
        serial=camera.serial,
        **own,
    )


def _located(row: Photo, utc_ns: int, fix: int, number: int, track: Track, places: Places | None, rule: Rule) -> Photo:
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
        "heading_deg": _turned(track.course_deg[fix]),
        "flags": " ".join(word for word in row.flags.split() if word != NO_FIX),
    }
    sigma_m = float(track.sigma_m[fix])
    if places is not None and places.how[number] != "none":
        values |= {
            "interpolation": places.how[number],
            "interpolated_latitude": float(places.latitude[number]),
            "interpolated_longitude": float(places.longitude[number]),
            "interpolated_altitude_m": _known(places.altitude_m[number]),
            "heading_deg": _turned(places.heading_deg[number]),
            "speed_mps": _known(places.speed_mps[number]),
        }
        sigma_m = float(places.sigma_m[number])
    else:  # the photo is where the car was at another time, and the antenna
        way_m = (values["speed_mps"] or 0.0) * values["fix_dt_ms"] / 1000
        sigma_m = math.hypot(sigma_m, way_m, *rule.lever_arm_m[:2])
    values["position_sigma_m"] = _with_time(sigma_m, values["speed_mps"], row.time_error_ms)
    return replace(bare, **values)


def _with_time(sigma_m: float, speed_mps: float | None, time_error_ms: float | None) -> float | None:
    """One sigma of the position, the share of the time's error included."""
    if not math.isfinite(sigma_m):
        return None
    return math.hypot(sigma_m, (speed_mps or 0.0) * (time_error_ms or 0.0) / 1000 / SIGMAS_IN_99_PERCENT)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _turned(degrees: float) -> float | None:
    return round(float(degrees), DECIMALS["heading_deg"]) % 360 if math.isfinite(degrees) else None  # 360 is 0


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) and value >= 0 else None
