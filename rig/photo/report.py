"""The report of a recording: one HTML file that needs no network, to be looked at rather than read."""

import base64
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, iso_utc, parse_utc
from rig.files import write_atomically
from rig.footage.tail import read_index
from rig.gnss.fix import METRES_PER_DEGREE
from rig.photo.collection import Collection, read_manifest
from rig.photo.locate import place_of
from rig.photo.look import shrunk_jpeg
from rig.photo.photos import Photo
from rig.recordings import Manifest

NAME = "report.html"
SOURCE = Path(__file__).resolve().parents[2] / "web" / "report"
CALIBRATION = "calibration.json"
MOST_THUMBNAILS = 300  # 6 kB each; the others are seen where the photos lie beside the report
THUMBNAIL_WIDTH, THUMBNAIL_QUALITY = 240, 60
DRAWN_STEP_M = 0.5  # of the track; finer is not seen
MOST_DRAWN = 20_000
MOST_GAPS = 100  # the longest
MOST_MESSAGES = 40

log = logging.getLogger(__name__)


def write(folder: Path, collection: Collection, settings: Settings, messages: Sequence[str]) -> Path:
    """Write `report.html` into a folder of photos. `messages` are what went wrong, in words. Raises OSError."""
    data = json.dumps(_data(folder, collection, settings, messages), ensure_ascii=False, separators=(",", ":"))
    parts = {"@DATA@": data.replace("<", "\\u003c")}  # so that no text in it ends the script
    write_atomically(folder / NAME, page("report.html", ("language.js", "report.js"), parts))
    return folder / NAME


def page(name: str, scripts: Sequence[str], parts: Mapping[str, str]) -> bytes:
    """A page of web/report that needs nothing else: with its style and scripts, and `parts` in place of their marks."""
    whole = (SOURCE / name).read_text(encoding="utf-8")
    files = {"@STYLE@": ("report.css",), "@SCRIPT@": scripts}
    own = {mark: "".join((SOURCE / one).read_text(encoding="utf-8") for one in names) for mark, names in files.items()}
    for mark, text in {**own, **parts}.items():
        whole = whole.replace(mark, text, 1)
    return whole.encode()


def _data(folder: Path, collection: Collection, settings: Settings, messages: Sequence[str]) -> dict[str, Any]:
    """All that the page shows. Metres are east and north of the first photo's place."""
    manifest = read_manifest(folder)
    folders = sorted(collection.cameras)
    scale = _Scale(collection)
    told = [*(manifest.warnings if manifest else ()), *messages]
    return {
        "name": (manifest.name if manifest else "") or collection.name,
        "id": collection.name,
        "software": manifest.software if manifest else "",
        "maxGap": settings.max_gap_s,
        "cameras": [
            {"folder": folder, "name": camera.label, "model": camera.model}
            for folder, camera in sorted(collection.cameras.items())
        ],
        "photos": [
            _photo(row, folders.index(row.camera), direction, scale)
            for row, direction in zip(collection.rows, collection.directions, strict=True)
        ],
        "thumbnails": _thumbnails(folder, collection.rows),
        "track": _track(collection, scale),
        "gaps": _gaps(collection),
        "losses": _losses(folder, manifest),
        "clocks": _clocks(folder),
        "messages": list(dict.fromkeys(told))[:MOST_MESSAGES],
    }


class _Scale:
    """Degrees as metres from the first place."""

    def __init__(self, collection: Collection) -> None:
        located = collection.located()
        track = collection.track
        if located:
            self._origin = located[0].latitude, located[0].longitude
        else:
            self._origin = (float(track.latitude[0]), float(track.longitude[0])) if track is not None else (0.0, 0.0)
        self._east = METRES_PER_DEGREE * float(np.cos(np.radians(self._origin[0])))

    def metres(self, latitude: Any, longitude: Any) -> tuple[Any, Any]:
        """East and north."""
        return (longitude - self._origin[1]) * self._east, (latitude - self._origin[0]) * METRES_PER_DEGREE


def _photo(row: Photo, camera: int, direction: float | None, scale: _Scale) -> dict[str, Any]:
    """A photo; what is not known is left out."""
    values: dict[str, Any] = {
        "photo": row.photo,
        "camera": camera,
        "t": parse_utc(row.utc) // NS_PER_MS,
        "timeError": _rounded(row.time_error_ms, 2),
        "sigma": _rounded(row.position_sigma_m, 3),
        "quality": row.quality,
        "satellites": row.satellites,
        "heading": _rounded(row.heading_deg, 1),
        "direction": _rounded(direction, 1),
        "speed": _rounded(row.speed_mps, 2),
        "sharpness": _rounded(row.sharpness, 0),
        "interpolation": row.interpolation,
        "fixAway": _rounded(row.fix_dt_ms, 1),
        "flags": row.flags,
    }
    if (place := place_of(row)) is not None:
        latitude, longitude, altitude_m = place
        east, north = scale.metres(latitude, longitude)
        values |= {"x": round(east, 2), "y": round(north, 2), "lat": round(latitude, 8), "lon": round(longitude, 8)}
        values["alt"] = _rounded(altitude_m, 2)
    return {name: value for name, value in values.items() if value not in (None, "")}


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, decimals)


def _thumbnails(folder: Path, rows: Sequence[Photo]) -> dict[int, str]:
    """Small pictures of photos spread evenly over the drive, by the photo's number."""
    step = max(1, -(-len(rows) // MOST_THUMBNAILS))
    numbers = range(0, len(rows), step)
    with ThreadPoolExecutor() as pool:
        made = pool.map(partial(_thumbnail, folder), (rows[number].photo for number in numbers))
        return {number: picture for number, picture in zip(numbers, made, strict=True) if picture}


def _thumbnail(folder: Path, photo: str) -> str:
    try:
        data = np.frombuffer((folder / photo).read_bytes(), np.uint8)
    except OSError:
        return ""
    with suppress(cv2.error):
        picture = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_8) if len(data) else None
        if picture is not None:
            small = shrunk_jpeg(picture.astype(np.uint8, copy=False), THUMBNAIL_WIDTH, THUMBNAIL_QUALITY)
            return base64.b64encode(small).decode()
    return ""


def _track(collection: Collection, scale: _Scale) -> list[dict[str, Any]]:
    """The track's legs, as coarse as the eye allows."""
    step_m = DRAWN_STEP_M
    while True:
        drawn = []
        for track, leg in collection.legs():
            east, north = scale.metres(track.latitude[leg], track.longitude[leg])
            kept = _spaced(east, north, step_m)
            quality = int(track.quality[leg.start])
            drawn.append(
                {"quality": quality, "x": np.round(east[kept], 2).tolist(), "y": np.round(north[kept], 2).tolist()}
            )
        if sum(len(leg["x"]) for leg in drawn) <= MOST_DRAWN or step_m > 1000:
            return drawn
        step_m *= 2


def _spaced(east: Any, north: Any, step_m: float) -> list[int]:
    """Numbers of points at least `step_m` along the way from each other, the first and the last among them."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(east), np.diff(north)))]) // step_m
    kept = np.flatnonzero(np.concatenate([[True], np.diff(way) > 0]))
    return sorted({*kept.tolist(), len(east) - 1})


def _gaps(collection: Collection) -> list[dict[str, Any]]:
    """Where the track does not hold together, the longest breaks first kept, in the order of time."""
    found: list[dict[str, Any]] = []
    for (track, before), (_, after) in pairwise(collection.legs()):
        last, first = before.stop - 1, after.start
        changed = track.quality[last] != track.quality[first]
        found.append(
            {
                "t": int(track.utc_ns[last]) // NS_PER_MS,
                "seconds": round(int(track.utc_ns[first] - track.utc_ns[last]) / NS_PER_S, 2),
                "from": int(track.quality[last]),
                "to": int(track.quality[first]),
                "why": "quality" if changed else "silence",
            }
        )
    longest = sorted(found, key=lambda gap: -gap["seconds"])[:MOST_GAPS]
    return sorted(longest, key=lambda gap: gap["t"])


def _losses(folder: Path, manifest: Manifest | None) -> list[dict[str, Any]]:
    """What the streams lost on their way: for each camera its pictures, and the times of those that are damaged."""
    clock = manifest.clock if manifest else None
    losses = []
    for camera in sorted(path for path in (folder / "videos").glob("*") if path.is_dir()):
        pictures, damaged, times = 0, 0, Counter[int]()
        for segment in sorted(camera.glob("*.idx")):
            for line in read_index(segment)[0]:
                pictures += 1
                if line.errors:
                    damaged += 1
                    times[clock.utc_ns(line.arrival_monotonic_ns) // NS_PER_MS if clock else 0] += line.errors
        if pictures:
            when = [{"t": t, "errors": errors} for t, errors in times.most_common(MOST_GAPS) if t]
            losses.append(
                {
                    "camera": camera.name,
                    "pictures": pictures,
                    "damaged": damaged,
                    "errors": times.total(),
                    "when": when,
                }
            )
    return losses


def _clocks(folder: Path) -> list[dict[str, Any]]:
    """What calibration.json says of each camera."""
    try:
        table = json.loads((folder / CALIBRATION).read_bytes())
        return [_clock(camera, values) for camera, values in table.items()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        log.warning("%s is not used: %s", folder / CALIBRATION, error)
        return []


def _clock(camera: str, values: dict[str, Any]) -> dict[str, Any]:
    anchors = values.get("anchors") or []
    residuals = values.get("residuals_ms") or []
    points = [
        {
            "t": int(anchor["utc_ns"]) // NS_PER_MS,
            "at": iso_utc(int(anchor["utc_ns"])),
            "half": round(int(anchor["half_width_ns"]) / NS_PER_MS, 3),
            "codes": anchor.get("codes", 0),
            "residual": residual,
        }
        for anchor, residual in zip(anchors, residuals, strict=False)
    ]
    kept = (
        "source",
        "rate_ppm",
        "rate_error_ppm",
        "error_ms",
        "error_ms_without_constants",
        "codes_read",
        "codes_rejected",
    )
    drive = values.get("drive_check") or {}
    return {
        "camera": camera,
        **{name: values.get(name) for name in kept},
        "points": points,
        "drive": drive.get("verdict"),
        "warnings": values.get("warnings") or [],
    }
