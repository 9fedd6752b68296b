"""The table of photos: the rows of `photos.csv`, written whole, read back, taken over from run to run."""

import csv
import io
import math
import re
import shutil
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from rig.clock import parse_utc
from rig.errors import EdencarError, NoSpaceError, UnreadableError
from rig.files import is_full, sync_data, sync_folder, write_atomically

TABLE_NAME = "photos.csv"
REMAKE = "move it away and make it again with parseVideo.py"
DECIMALS = {  # digits after the point in the table: what the value is good for
    "time_error_ms": 3,
    "pts_s": 9,
    "fix_dt_ms": 3,
    "latitude": 10,
    "longitude": 10,
    "interpolated_latitude": 10,
    "interpolated_longitude": 10,
    "altitude_m": 3,
    "interpolated_altitude_m": 3,
    "hdop": 2,
    "fix_sigma_m": 4,
    "position_sigma_m": 4,
    "heading_deg": 2,
    "speed_mps": 3,
    "sharpness": 1,
    "luminance": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One row of `photos.csv`; None where nothing is known. `flags` are words separated by spaces."""

    photo: str  # path below the table's folder
    camera: str
    utc: str
    time_error_ms: float | None = None
    video: str = ""
    pts_s: float | None = None
    frame: int | None = None
    fix_utc: str = ""
    fix_dt_ms: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    quality: int | None = None
    satellites: int | None = None
    hdop: float | None = None
    fix_sigma_m: float | None = None
    interpolation: str = "none"
    interpolated_latitude: float | None = None
    interpolated_longitude: float | None = None
    interpolated_altitude_m: float | None = None
    heading_deg: float | None = None
    speed_mps: float | None = None
    position_sigma_m: float | None = None
    sharpness: float | None = None
    luminance: float | None = None
    flags: str = ""


COLUMNS = tuple(field.name for field in fields(Photo))
_KINDS = get_type_hints(Photo)


def path_of(camera: str, utc: str) -> str:
    """`photos/left/20261122T140315233Z.jpg` for the photo that a camera took at 2026-11-22T14:03:15.233Z."""
    return f"photos/{camera}/{re.sub('[-:.]', '', utc)}.jpg"


def write_table(folder: Path, photos: Iterable[Photo]) -> Path:
    """Write `photos.csv` into a folder, in time order, whole or not at all."""
    ordered = sorted(photos, key=lambda photo: (photo.utc, photo.camera))
    write_atomically(folder / TABLE_NAME, f"{','.join(COLUMNS)}\n{_lines(ordered)}".encode())
    return folder / TABLE_NAME


def append_rows(folder: Path, photos: Iterable[Photo]) -> None:
    """Add rows to a folder's `photos.csv`; after a power cut its last row may be torn. Raises OSError."""
    with (folder / TABLE_NAME).open("a", encoding="utf-8") as file:
        file.write(_lines(photos))
        file.flush()
        sync_data(file.fileno())


def put_in_order(folder: Path) -> None:
    """Put the rows of a folder's `photos.csv`, if there is one, in time order: who added them was cut short.

    Raises OSError, UnreadableError.
    """
    if (folder / TABLE_NAME).exists():
        write_table(folder, read_table(folder))


def replace_cameras(folder: Path, made: Path, cameras: Iterable[str], rows: Iterable[Photo]) -> None:
    """Put photos that were made in `made/<camera>` and their rows in the place of all that these cameras had.

    Raises OSError, UnreadableError for a table that is not ours.
    """
    gone = set(cameras)
    others = rows_of_others(folder, gone)
    (folder / "photos").mkdir(exist_ok=True)
    for camera in sorted(gone):
        place, old = folder / "photos" / camera, made / f"{camera}.old"
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        (made / camera).rename(place)
    sync_folder(folder / "photos")
    write_table(folder, [*others, *rows])


def read_table(folder: Path) -> list[Photo]:
    """The rows of a folder's `photos.csv`, without a torn last one.

    Raises UnreadableError when there is none or it is not ours.
    """
    path = folder / TABLE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        whole, _, last = text.rpartition("\n")
        rows = list(csv.reader(io.StringIO(text if last.count(",") >= len(COLUMNS) - 1 else whole, newline="")))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise UnreadableError(f"{path} has other columns than ours", cure=REMAKE)
        return [_photo(dict(zip(COLUMNS, row, strict=True))) for row in rows[1:] if row]
    except FileNotFoundError as error:
        raise UnreadableError(f"{folder} has no {TABLE_NAME}", cure="make it with parseVideo.py") from error
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"{path} cannot be read ({error})", cure=REMAKE) from error


def rows_of_others(folder: Path, cameras: Container[str]) -> list[Photo]:
    """Rows of other cameras from earlier runs; none where there is no table. Raises UnreadableError."""
    rows = read_table(folder) if (folder / TABLE_NAME).exists() else []
    return [row for row in rows if row.camera not in cameras]


def unwritable(error: OSError, folder: Path) -> EdencarError:
    """That a folder for photos and their table is full, or cannot be written."""
    if is_full(error):
        return NoSpaceError(f"no room for the photos in {folder}", cure="make room or name another --output")
    return UnreadableError(f"{folder} cannot be written ({error})", cure="name another --output")


def with_flags(flags: str, words: Sequence[str]) -> str:
    """Flags with more words, each once."""
    return " ".join(dict.fromkeys([*flags.split(), *words]))


def _lines(photos: Iterable[Photo]) -> str:
    text = io.StringIO()
    rows = ([_cell(name, getattr(photo, name)) for name in COLUMNS] for photo in photos)
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.{DECIMALS[name]}f}" if name in DECIMALS else str(value)


def _photo(row: dict[str, str]) -> Photo:
    parse_utc(row["utc"])  # a time that is none shall be told here, with the file's name
    return Photo(**{name: _value(_KINDS[name], text) for name, text in row.items()})


def _value(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if text == "":
        return None
    return int(text) if kind == int | None else float(text)
