"""Fixes from any file that has some: our own table, NMEA, GPX, a GoPro's film."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rig.errors import UnreadableError
from rig.files import read_lines
from rig.gnss import gpx
from rig.gnss.fix import FIX_COLUMNS, Fix
from rig.gnss.framing import Framer
from rig.gnss.nmea import read_log

PROBE_BYTES = 1 << 20
NEEDED_COLUMNS = frozenset(("utc_ns", "latitude", "longitude"))
_XML = re.compile(rb"(\xef\xbb\xbf)?\s*<|\xff\xfe<|\xfe\xff\0<")


def read_fixes(path: Path) -> list[Fix]:
    """All epochs of one of our CSV files, an NMEA log, a GPX file or a film with GPMF. Raises UnreadableError."""
    try:
        with path.open("rb") as file:
            beginning = file.read(PROBE_BYTES)  # a film of gigabytes may have been given
        header = beginning.decode("utf-8-sig", errors="replace").partition("\n")[0].strip().split(",")
        if set(header) >= NEEDED_COLUMNS:
            return list(csv_fixes(read_lines(path)[0]))
        if beginning[4:8] == b"ftyp":
            from rig.gnss import gpmf  # PyAV is loaded only where a film is read

            return gpmf.Telemetry(path).fixes()
        if _XML.match(beginning):
            return gpx.read_fixes(path)
        if Framer().feed(beginning):
            return read_log(path)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({error.strerror})") from error
    raise UnreadableError(f"{path} is neither positions.csv, NMEA, GPX nor a GoPro's film", cure="give one of these")


def csv_fixes(lines: Iterable[bytes]) -> Iterator[Fix]:
    """The fixes of our own table. A row that was cut off by a crash, or glued to another, is left out."""
    # A power cut may leave zeros, or anything. No cell of ours is quoted: a quotation mark is damage of its row alone.
    rows = (line.replace(b"\0", b"").decode("utf-8-sig", errors="replace").strip().split(",") for line in lines)
    header = next(rows, [])
    for row in rows:
        if len(row) == len(header):
            try:
                yield _csv_fix(dict(zip(header, row, strict=True)))
            except ValueError:
                continue


def _csv_fix(row: dict[str, str]) -> Fix:
    values = {name: _VALUES[name](text) for name in FIX_COLUMNS if name in _VALUES and (text := row.get(name, ""))}
    return Fix(**values, flags=tuple(filter(None, row.get("flags", "").split(";"))))  # type: ignore[arg-type]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_VALUES: dict[str, Callable[[str], object]] = {
    **{name: _finite for name in FIX_COLUMNS if name.endswith(("_m", "_mps", "_deg", "dop", "tude"))},
    **dict.fromkeys(("utc_ns", "quality", "satellites", "arrival_monotonic_ns"), int),
    "mode": str,
}
