"""What the pages show of a recording without opening its large files each time: distance, shares, track, photos.

Made once from `positions.csv` and `photos.csv` with nothing but the standard library (the server carries no pandas),
and kept beside them in hidden files until one of them changes.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rig.clock import parse_utc
from rig.errors import UnknownError
from rig.files import write_atomically
from rig.gnss.fix import METRES_PER_DEGREE
from rig.recordings import OPEN_STATES, Manifest, Recordings, StoredFile

VERSION = 1  # of what is kept
SUMMARY, TRACK = ".summary.json", ".track.json"
POSITIONS, PHOTOS = "positions/positions.csv", "photos.csv"
RTK_FIXED = 4
TRACK_POINTS = 4000  # as many as a phone's screen can tell apart
STEP_M = 2.0  # shorter steps are noise of a standing car
BREAK_S = 5.0  # what lies between two fixes further apart was not driven under our eyes
THUMBNAILS = 3
NUMBERS = (
    "time_error_ms",
    "latitude",
    "longitude",
    "interpolated_latitude",
    "interpolated_longitude",
    "position_sigma_m",
    "fix_dt_ms",
    "quality",
    "speed_mps",
    "heading_deg",
    "sharpness",
)
COLUMNS = ("photo", "camera", "utc_ms", "flags", *NUMBERS)

Row = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """A recording in figures; None where nothing says so. Shares are 0 to 1."""

    distance_m: float | None
    fixes: int
    rtk_fixed_share: float | None
    photos: int
    located_photos: int
    time_error_ms: float | None  # of the middle photo
    size_bytes: int
    thumbnails: tuple[str, ...]  # photos or videos that show it


class Digests:
    """Summaries and tracks of all recordings. New ones are made by a thread, one at a time."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}
        self._coming: dict[str, Future[None]] = {}

    def summary(self, manifest: Manifest) -> dict[str, Any] | None:
        """A closed recording's summary; None while it is being made or recorded."""
        if manifest.state in OPEN_STATES:
            return None
        folder = self._recordings.folder(manifest.id)
        key = _key(folder)
        known = self._known.get(manifest.id)
        if known is None or known[0] != key:
            known = _kept(folder / SUMMARY, key)
            if known is None:
                self._order(manifest.id)
                return None
            self._known[manifest.id] = known
        return known[1]

    def track(self, recording_id: str) -> bytes:
        """The thinned track as JSON: utc_ms, latitude, longitude, quality, sigma_m, speed_mps, each a list."""
        folder = self._recordings.folder(recording_id)
        key = _key(folder)
        known = _kept(folder / TRACK, key) or (key, _thinned(self._fixes(recording_id)))
        return json.dumps(known[1]).encode()

    def photos(self, recording_id: str) -> bytes:
        """The table of photos as {"columns": [...], "rows": [[...], ...]}; no rows without a table."""
        self._recordings.folder(recording_id)
        rows = [[photo.get(name) for name in COLUMNS] for photo in self._photos(recording_id)]
        return json.dumps({"columns": COLUMNS, "rows": rows}, ensure_ascii=False, separators=(",", ":")).encode()

    def close(self) -> None:
        """End the thread."""
        self._maker.shutdown(cancel_futures=True)

    def _order(self, recording_id: str) -> None:
        coming = self._coming.get(recording_id)
        if coming is None or coming.done():
            with suppress(RuntimeError):  # closed
                self._coming[recording_id] = self._maker.submit(self._make, recording_id)

    def _make(self, recording_id: str) -> None:
        folder = self._recordings.folder(recording_id)
        key = _key(folder)
        fixes = self._fixes(recording_id)
        summary = asdict(_summarize(self._recordings.files(recording_id), self._photos(recording_id), fixes))
        self._known[recording_id] = (key, summary)
        with suppress(OSError):  # a full or read-only disk only costs time
            write_atomically(folder / TRACK, json.dumps([key, _thinned(fixes)]).encode())
            write_atomically(folder / SUMMARY, json.dumps([key, summary]).encode())

    def _fixes(self, recording_id: str) -> list[Row]:
        """The rows with a time and a position; a torn one is left out."""
        wanted = ("utc_ns", "latitude", "longitude", "quality", "sigma_lat_m", "sigma_lon_m", "speed_mps")
        fixes = []
        # No cell of this table is quoted: a quotation mark is damage of its row alone.
        for row in self._rows(recording_id, POSITIONS, csv.QUOTE_NONE):
            values = {name: _number(row.get(name)) for name in wanted}
            if None not in (values["utc_ns"], values["latitude"], values["longitude"]):
                sigmas = (values.pop("sigma_lat_m"), values.pop("sigma_lon_m"))
                values["sigma_m"] = None if None in sigmas else round(math.hypot(*map(float, filter(None, sigmas))), 4)
                values["utc_ms"] = int(row["utc_ns"]) // 1_000_000
                fixes.append(values)
        return fixes

    def _photos(self, recording_id: str) -> list[dict[str, Any]]:
        photos = []
        for row in self._rows(recording_id, PHOTOS):
            with suppress(ValueError, KeyError, TypeError):
                texts = {name: row[name] for name in ("photo", "camera", "flags")}
                numbers = {name: _number(row.get(name)) for name in NUMBERS}
                photos.append({**texts, **numbers, "utc_ms": parse_utc(row["utc"]) / 1e6})
        return photos

    def _rows(
        self, recording_id: str, table: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    ) -> Iterator[dict[str, str]]:
        """The rows of a table as far as it can be read; none of one that is a link, or lies behind one."""
        with (
            suppress(OSError, csv.Error, UnknownError),
            self._recordings.file(recording_id, table).open(newline="", encoding="utf-8", errors="replace") as opened,
        ):
            yield from csv.DictReader((line.replace("\0", "") for line in opened), quoting=quoting)


def _key(folder: Path) -> str:
    """Changes with the files that all is made from."""
    stamps: list[int] = [VERSION]
    for name in (POSITIONS, PHOTOS):
        try:
            known = (folder / name).lstat()
            stamps += (known.st_size, known.st_mtime_ns)
        except OSError:
            stamps += (0, 0)
    return "-".join(map(str, stamps))


def _kept(file: Path, key: str) -> tuple[str, dict[str, Any]] | None:
    with suppress(OSError, ValueError):
        values = json.loads(file.read_bytes())
        if isinstance(values, list) and len(values) == 2 and values[0] == key and isinstance(values[1], dict):
            return key, values[1]
    return None


def _summarize(files: Sequence[StoredFile], photos: Sequence[dict[str, Any]], fixes: Sequence[Row]) -> Summary:
    errors = [error for photo in photos if isinstance(error := photo["time_error_ms"], float)]
    fixed = sum(fix["quality"] == RTK_FIXED for fix in fixes)
    shown = [str(photo["photo"]) for photo in photos]
    shown = shown or [
        file.path for file in files if file.path.startswith("videos/") and file.path[-3:] in (".ts", "MP4")
    ]
    return Summary(
        distance_m=round(_distance_m(fixes), 1) if fixes else None,
        fixes=len(fixes),
        rtk_fixed_share=round(fixed / len(fixes), 4) if fixes else None,
        photos=len(photos),
        located_photos=sum(photo["latitude"] is not None for photo in photos),
        time_error_ms=round(median(errors), 3) if errors else None,
        size_bytes=sum(file.size_bytes for file in files),
        thumbnails=_spread(shown, THUMBNAILS),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _distance_m(fixes: Sequence[Row]) -> float:
    total, last = 0.0, fixes[0]
    for fix in fixes:
        step = _between_m(last, fix)
        if _at(fix, "utc_ms") - _at(last, "utc_ms") > BREAK_S * 1000:
            last = fix
        elif step >= STEP_M:
            total, last = total + step, fix
    return total


def _between_m(a: Row, b: Row) -> float:
    """Over some metres the Earth is flat."""
    east = (_at(b, "longitude") - _at(a, "longitude")) * math.cos(math.radians(_at(a, "latitude")))
    return math.hypot(east, _at(b, "latitude") - _at(a, "latitude")) * METRES_PER_DEGREE


def _at(row: Row, name: str) -> float:
    return row[name] or 0.0


def _thinned(fixes: Sequence[Row]) -> dict[str, list[float | None]]:
    step = max(1, -(-len(fixes) // TRACK_POINTS))
    kept = [*fixes[:-1:step], *fixes[-1:]]
    names = ("utc_ms", "latitude", "longitude", "quality", "sigma_m", "speed_mps")
    return {name: [row[name] for row in kept] for name in names}


def _spread(items: Sequence[str], count: int) -> tuple[str, ...]:
    """So many of a list, evenly from all of it."""
    places = (len(items) * (2 * number + 1) // (2 * count) for number in range(count))
    return tuple(dict.fromkeys(items[place] for place in places)) if items else ()
