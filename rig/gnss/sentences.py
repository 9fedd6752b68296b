"""What the fields of NMEA 0183 sentences say: places, times, figures; None is what they do not say."""

import re
from datetime import date
from functools import lru_cache
from statistics import median
from typing import Any

from rig.clock import DAY_NS, NS_PER_S
from rig.gnss.framing import Fields, Sentence

METRES_PER_S_PER_KNOT = 1852 / 3600
SKY_NS = 10 * NS_PER_S  # a system of satellites that was not told of for so long is not in view
POSITION_KINDS = ("GGA", "RMC", "GNS", "GLL")  # in order of trust

_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.(\d{0,9}))?", re.ASCII)
_NAME = re.compile(r"[0-9A-Za-z]+")

Said = dict[str, Fields]  # the fields of each kind of sentence of an epoch
Place = tuple[float, float]  # latitude and longitude


def places_of(said: Said) -> dict[str, Place]:
    """The positions that the sentences state; of the less trusted kinds only where it is needed."""
    places: dict[str, Place] = {}
    if integer(said.get("GGA", ()), 5) == 0:
        return places
    for kind in POSITION_KINDS:
        if kind in said and (kind == "RMC" or not places) and (place := place_of(kind, said[kind])):
            places[kind] = place
    return places


def row_of(said: Said, kind: str, place: Place | None) -> dict[str, Any]:
    """The columns that the sentences of one epoch fill, without its times; `place` is that of the sentence `kind`."""
    gga, gns, gsa, gst = (said.get(name, ()) for name in ("GGA", "GNS", "GSA", "GST"))
    source, age_index = (gga, 12) if gga else (gns, 10)
    hdop = _number(source, 7)
    row = {
        "quality": integer(gga, 5),
        "mode": _mode(said),
        "satellites": integer(source, 6),
        "hdop": _number(gsa, 15) if hdop is None else hdop,
        "pdop": _number(gsa, 14),
        "vdop": _number(gsa, 16),
        "diff_age_s": _number(source, age_index),
        "station_id": _name(source, age_index + 1),
    }
    if place is None:
        return row
    altitude_m = _number(gga if kind == "GGA" else gns, 8)
    geoid_m = _number(gga, 10) if kind == "GGA" else _number(gns, 9)
    speed_mps, course_deg = _motion(said)
    return row | {
        "latitude": place[0],
        "longitude": place[1],
        "altitude_m": altitude_m,
        "geoid_separation_m": geoid_m,
        "ellipsoid_height_m": None if altitude_m is None or geoid_m is None else round(altitude_m + geoid_m, 4),
        "sigma_lat_m": _number(gst, 5),
        "sigma_lon_m": _number(gst, 6),
        "sigma_alt_m": _number(gst, 7),
        "speed_mps": speed_mps,
        "course_deg": course_deg,
    }


def place_of(kind: str, values: Fields) -> Place | None:
    """The position a sentence states, None when it states none or an impossible one."""
    begin = {"GGA": 1, "RMC": 2, "GNS": 1, "GLL": 0}.get(kind)
    if begin is None or len(values) < begin + 4 or not _is_valid(kind, values):
        return None
    latitude = _angle(values[begin], values[begin + 1], 2, 90)
    longitude = _angle(values[begin + 2], values[begin + 3], 3, 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None  # off Africa lie only receivers without a fix
    return latitude, longitude


@lru_cache(maxsize=16)  # all sentences of an epoch say the same
def time_of_day(text: str) -> tuple[int, bool] | None:
    """ns since midnight and whether it is a leap second (then that of the second that follows)."""
    match = _TIME.fullmatch(text)
    if not match:
        return None
    hours, minutes, seconds = (int(part) for part in match.groups()[:3])
    leap = (hours, minutes, seconds) == (23, 59, 60)
    if hours > 23 or minutes > 59 or (seconds > 59 and not leap):
        return None
    fraction_ns = int((match[4] or "").ljust(9, "0"))
    return ((hours * 60 + minutes) * 60 + seconds) * NS_PER_S + fraction_ns, leap


def rmc_utc_ns(values: Fields) -> int | None:
    """UTC of an RMC, by its date."""
    text = values[8] if len(values) > 8 else ""
    if not text.isdecimal():
        return None
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:])
    return _utc_ns(values[0], day, month, year + (1900 if year >= 80 else 2000))


def zda_utc_ns(values: Fields) -> int | None:
    """UTC of a ZDA."""
    day, month, year = (integer(values, index) or 0 for index in (1, 2, 3))
    return _utc_ns(values[0], day, month, year)


def integer(values: Fields, index: int) -> int | None:
    """A field that is a whole number."""
    return int(values[index]) if index < len(values) and values[index] else None


class Sky:
    """What GSV says of the satellites in view; understood only when it is asked for."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], tuple[int, list[Fields]]] = {}  # by talker and signal

    def feed(self, sentence: Sentence, arrival_monotonic_ns: int) -> None:
        """Take a GSV: one page of the satellites of one system."""
        values = sentence.fields
        signal = values[-1] if len(values) % 4 == 0 else ""  # since NMEA 4.10
        if integer(values, 1) == 1:
            self._said[sentence.talker, signal] = (arrival_monotonic_ns, [values])
        elif (sentence.talker, signal) in self._said:
            self._said[sentence.talker, signal][1].append(values)

    def view(self, now_monotonic_ns: int) -> tuple[int | None, float | None]:
        """How many satellites are in view, and the median C/N0 in dB-Hz of those that are heard."""
        strengths: dict[tuple[str, str], float] = {}
        for (talker, _), (arrival_ns, pages) in self._said.items():
            for values in pages if now_monotonic_ns - arrival_ns < SKY_NS else ():
                for at in range(3, len(values) - 3, 4):
                    if values[at]:
                        satellite = (talker, values[at])
                        said = values[at + 3] if values[at + 3].replace(".", "", 1).isdecimal() else "0"
                        strengths[satellite] = max(float(said), strengths.get(satellite, 0.0))
        heard = [strength for strength in strengths.values() if strength]
        return len(strengths) or None, median(heard) if heard else None


def heading_of(sentence: Sentence) -> float | None:
    """Where a receiver with two antennas points to (HDT, THS), in degrees; None while it does not know."""
    valid = sentence.kind == "HDT" or sentence.fields[1:2] == ("A",)
    return _bearing(sentence.fields, 0) if valid else None


def _motion(said: Said) -> tuple[float | None, float | None]:
    """Speed in m/s and course, of RMC or else of VTG."""
    for kind, speed_index, course_index in (("RMC", 6, 7), ("VTG", 4, 0)):
        knots = _number(said.get(kind, ()), speed_index)
        if knots is not None and 0 <= knots < 1000:
            return round(knots * METRES_PER_S_PER_KNOT, 4), _bearing(said[kind], course_index)
    return None, None


def _bearing(values: Fields, index: int) -> float | None:
    degrees = _number(values, index)
    return degrees if degrees is not None and 0 <= degrees <= 360 else None


def _mode(said: Said) -> str | None:
    modes = (_name(said.get(kind, ()), index) for kind, index in (("RMC", 11), ("GNS", 5), ("GLL", 6), ("VTG", 8)))
    return next(filter(None, modes), None)


def _is_valid(kind: str, values: Fields) -> bool:
    """Whether the receiver itself believes in the position of this sentence."""
    if kind == "GGA":
        return (integer(values, 5) or 0) > 0
    if kind == "GNS":
        return bool(values[5:6]) and values[5].strip("N") != ""
    status, mode = (1, 11) if kind == "RMC" else (5, 6)
    return values[status : status + 1] == ("A",) and values[mode : mode + 1] != ("N",)


def _angle(text: str, side: str, degree_digits: int, limit: int) -> float | None:
    minutes = float(text[degree_digits:] or 60)
    if minutes >= 60 or not side:
        return None
    degrees = int(text[:degree_digits]) + minutes / 60
    return None if degrees > limit else -degrees if side in "SW" else degrees


def _utc_ns(clock: str, day: int, month: int, year: int) -> int | None:
    moment = time_of_day(clock)
    try:
        days = (date(year, month, day) - date(1970, 1, 1)).days
    except ValueError:
        return None
    return None if moment is None else days * DAY_NS + moment[0]


def _number(values: Fields, index: int) -> float | None:
    return float(values[index]) if index < len(values) and values[index] else None


def _name(values: Fields, index: int) -> str | None:
    text = values[index] if index < len(values) else ""
    return text if _NAME.fullmatch(text) else None
