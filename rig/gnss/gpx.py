"""GPX 1.1 (and 1.0) tracks -> fixes; a document type, and with it every entity, is refused."""

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rig.clock import iso_utc, parse_utc
from rig.errors import UnreadableError
from rig.gnss.fix import Fix

QUALITY_OF_FIX = {"none": 0, "2d": 1, "3d": 1, "dgps": 2, "pps": 3}
NUMBERS = {
    "ele": "altitude_m",
    "geoidheight": "geoid_separation_m",
    "hdop": "hdop",
    "vdop": "vdop",
    "pdop": "pdop",
    "ageofdgpsdata": "diff_age_s",
    "speed": "speed_mps",  # of GPX 1.0, and of Garmin's extension
    "course": "course_deg",
}


def read_fixes(path: Path) -> list[Fix]:
    """The track points of a GPX file, in its order.

    Raises UnreadableError for anything else than GPX and for one with a document type.
    """
    points = _Points(path)
    parser = ElementTree.XMLParser(target=points)
    try:
        with path.open("rb") as file:
            while data := file.read(1 << 16):
                parser.feed(data)
            parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UnreadableError(f"{path} is no whole GPX file ({error})", cure="export it again") from error
    return points.fixes


class _Points:
    """What the parser tells its findings to."""

    def __init__(self, path: Path) -> None:
        self.fixes: list[Fix] = []
        self._path = path
        self._depth = 0
        self._said: dict[str, str] | None = None  # of the point that is open, by element name
        self._text: list[str] = []

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """GPX has no document type; one could define entities that grow to gigabytes."""
        raise UnreadableError(f"{self._path} has a document type: that is no GPX", cure="export it again")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if self._depth == 0 and name != "gpx":
            raise UnreadableError(f"{self._path} is XML but no GPX")
        self._depth += 1
        self._text = []
        if name == "trkpt":
            self._said = dict(attributes)

    def data(self, text: str) -> None:
        self._text.append(text)

    def end(self, tag: str) -> None:
        name = tag.rpartition("}")[2]
        self._depth -= 1
        if self._said is not None and name == "trkpt":
            self.fixes.append(_fix(self._said))
            self._said = None
        elif self._said is not None:
            self._said.setdefault(name, "".join(self._text).strip())

    def close(self) -> None:
        """Nothing is left to be done."""


def _fix(said: dict[str, str]) -> Fix:
    """A point; what is not a number is taken as not said."""
    numbers: dict[str, Any] = {column: _number(said.get(name, "")) for name, column in NUMBERS.items()}
    latitude, longitude = _number(said.get("lat", "")), _number(said.get("lon", ""))
    satellites = _number(said.get("sat", ""))
    utc_ns = _utc_ns(said.get("time", ""))
    placed = latitude is not None and longitude is not None
    return Fix(
        utc=None if utc_ns is None else iso_utc(utc_ns),
        utc_ns=utc_ns,
        latitude=latitude if placed else None,
        longitude=longitude if placed else None,
        quality=QUALITY_OF_FIX.get(said.get("fix", "")),
        satellites=None if satellites is None else int(satellites),
        **numbers,
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _utc_ns(text: str) -> int | None:
    try:
        return parse_utc(text)
    except ValueError:
        return None
