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
    try:
        root = ElementTree.parse(path, ElementTree.XMLParser(target=points)).getroot()
    except UnreadableError:
        raise
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UnreadableError(f"{path} is no whole GPX file ({error})", cure="export it again") from error
    if _name(root) != "gpx":
        raise UnreadableError(f"{path} is XML but no GPX")
    return points.fixes


class _Points(ElementTree.TreeBuilder):
    """Makes a fix of each point as soon as it is whole, and keeps nothing else of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fixes: list[Fix] = []
        self._path = path

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """GPX has no document type; one could define entities that grow to gigabytes."""
        raise UnreadableError(f"{self._path} has a document type: that is no GPX", cure="export it again")

    def end(self, tag: str) -> ElementTree.Element:
        element = super().end(tag)
        if _name(element) == "trkpt":
            parts = reversed([*element.iter()])  # the first of a name counts
            self.fixes.append(_fix({_name(part): (part.text or "").strip() for part in parts} | element.attrib))
            element.clear()
        return element


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


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
