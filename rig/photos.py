"""Photos and their table: how sharp a picture is, and the rows of `photos.csv`."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import numpy.typing as npt

from rig.clock import parse_utc
from rig.errors import UnreadableError
from rig.files import write_atomically

Luma = npt.NDArray[np.uint8]

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


def measure(luma: Luma) -> tuple[float, float]:
    """Sharpness (variance of the Laplacian at half size, where noise counts less) and mean luminance (0 to 255)."""
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(half, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2, float(cv2.mean(half)[0])


def encode_jpeg(bgr: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A picture (rows x columns x 3) as JPEG."""
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {bgr.shape}")
    return data.tobytes()


def write_table(folder: Path, photos: Iterable[Photo]) -> Path:
    """Write `photos.csv` into a folder, in time order, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for photo in sorted(photos, key=lambda photo: (photo.utc, photo.camera)):
        writer.writerow([_cell(name, getattr(photo, name)) for name in COLUMNS])
    write_atomically(folder / TABLE_NAME, text.getvalue().encode())
    return folder / TABLE_NAME


def read_table(folder: Path) -> list[Photo]:
    """The rows of a folder's `photos.csv`. Raises UnreadableError when there is none or it is not ours."""
    path = folder / TABLE_NAME
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UnreadableError(f"{path} has other columns than ours", cure=REMAKE)
            return [_photo(row) for row in reader]
    except FileNotFoundError as error:
        raise UnreadableError(f"{folder} has no {TABLE_NAME}", cure="make it with parseVideo.py") from error
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"{path} cannot be read ({error})", cure=REMAKE) from error


def with_flags(flags: str, words: Sequence[str]) -> str:
    """Flags with more words, each once."""
    return " ".join(dict.fromkeys([*flags.split(), *words]))


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return f"{value:.{DECIMALS[name]}f}" if name in DECIMALS else str(value)


def _photo(row: dict[str, str]) -> Photo:
    parse_utc(row["utc"])  # a time that is none shall be told here, with the file's name
    kinds = get_type_hints(Photo)
    return Photo(**{name: _value(kinds[name], text) for name, text in row.items()})


def _value(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if text == "":
        return None
    return int(text) if kind == int | None else float(text)
