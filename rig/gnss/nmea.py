"""Bytes of a GNSS receiver -> checked NMEA 0183 sentences -> one fix for each epoch."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, iso_utc
from rig.gnss.fix import Fix

METRES_PER_S_PER_KNOT = 1852 / 3600
LONGEST_BODY = 250  # NMEA says 79; real receivers reach 120
SAME_EPOCH_NS = 25 * NS_PER_MS  # Magellan spreads one epoch's sentences over 10 ms
ZDA_REACH_NS = 500 * NS_PER_MS  # a ZDA may carry the time of sending: only its day is believed
EARLIEST_NS = (date(2024, 1, 1) - date(1970, 1, 1)).days * DAY_NS  # older: a clock never set, or a week rollover
REMEMBERED_EPOCHS = 12_000  # 10 minutes at 20 Hz: how far back a replayed buffer is recognised
CONFLICT_M = 2.0  # between GGA and RMC of one epoch: most formats round by 0.2 m, damage mostly moves further
CONFLICT_RATIO = 3.0
STEADY_EPOCHS = 30  # of new places in a row, on which GGA and RMC agreed to the last digit: any difference is damage
METRES_PER_DEGREE = 111_195.0  # of a sphere: enough to compare distances
SKY_NS = 10 * NS_PER_S  # a system of satellites that was not told of for so long is not in view
POSITION_KINDS = ("GGA", "RMC", "GNS", "GLL")  # in order of trust
TIME_FIELD = {"GGA": 0, "RMC": 0, "GNS": 0, "GST": 0, "GLL": 4}
UNTIMED_KINDS = ("VTG", "GSA")
SATELLITE_QUALITIES = (1, 2, 3, 4, 5)

_FRAME = re.compile(rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]{1,%d})\*([0-9A-Fa-f]{2})" % LONGEST_BODY)
_UNFINISHED = re.compile(rb"\$[\x20-\x23\x25-\x29\x2b-\x7e]{0,%d}(\*[0-9A-Fa-f]?)?" % LONGEST_BODY)
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.(\d{0,9}))?", re.ASCII)
_NAME = re.compile(r"[0-9A-Za-z]+")


def _shape(*patterns: str) -> re.Pattern[str]:
    """What the fields of a sentence look like from the first one on; each may be empty, the last ones missing."""
    following = "$|,"
    for pattern in reversed(patterns):
        following = f"$|,(?:{pattern})?(?:{following})"
    return re.compile(following.removeprefix("$|"), re.ASCII)


_CLOCK = r"\d{6}(?:\.\d{0,9})?"
_DATE = r"[\d-]{6}"  # 2208-1 after a week rollover is no damage
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_COUNT = r"\d{1,4}"
_LETTER = "[A-Za-z]"
_LATLON = (r"\d{4}(?:\.\d*)?", "[NS]", r"\d{5}(?:\.\d*)?", "[EW]")
# Of every three damages that the checksum misses, these find two; what is read needs no other check of its form.
_SHAPES = {
    "GGA": _shape(_CLOCK, *_LATLON, r"\d", _COUNT, _NUMBER, _NUMBER, _LETTER, _NUMBER, _LETTER, _NUMBER),
    "RMC": _shape(_CLOCK, _LETTER, *_LATLON, _NUMBER, _NUMBER, _DATE),
    "GNS": _shape(_CLOCK, *_LATLON, "[A-Z]+", _COUNT, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
    "GLL": _shape(*_LATLON, _CLOCK, _LETTER),
    "GST": _shape(_CLOCK, *[_NUMBER] * 7),
    "VTG": _shape(_NUMBER, _LETTER, _NUMBER, _LETTER, _NUMBER),
    "GSA": _shape(*["[^,]+"] * 14, *[_NUMBER] * 3),
    "ZDA": _shape(_CLOCK, *[_COUNT] * 3),
    "HDT": _shape(_NUMBER),
    "THS": _shape(_NUMBER),
    "GSV": _shape(*[_COUNT] * 3),
}

Fields = tuple[str, ...]
_Said = dict[str, Fields]  # the fields of each kind of sentence
_Place = tuple[float, float]  # latitude and longitude
_Moment = tuple[int | None, bool]  # time of day in ns, and whether it is within a leap second
TIMELESS: _Moment = (None, False)


class Sentence(NamedTuple):
    """One sentence with a right checksum; `offset` is where its `$` was in the stream."""

    talker: str
    kind: str
    fields: Fields
    offset: int


class Framer:
    """Finds the sentences in a stream that may hold anything: noise, binary messages, halves, any line end."""

    def __init__(self) -> None:
        self.good = 0
        self.bad = 0
        self.skipped_bytes = 0
        self._tail = b""
        self._tail_offset = 0

    @property
    def received_bytes(self) -> int:
        """The offset of the byte that comes next."""
        return self._tail_offset + len(self._tail)

    def drop_half(self) -> None:
        """Forget a sentence that is not complete: the line was cut."""
        self._skip(self._tail)
        self._tail, self._tail_offset = b"", self.received_bytes

    def feed(self, data: bytes) -> list[Sentence]:
        """The sentences that `data` completes. Proprietary ones are counted as good and left out."""
        data = self._tail + data
        sentences = []
        end = 0
        for match in _FRAME.finditer(data):
            self._skip(data[end : match.start()])
            end = match.end()
            text = match[1].decode("ascii")
            shape = _SHAPES.get(text[2:5])
            if _checksum(match[1]) != int(match[2], 16) or (shape and text[5:6] == "," and not shape.match(text, 5)):
                self.bad += 1
                continue
            self.good += 1
            header, *values = text.split(",")
            if _is_standard(header):
                offset = self._tail_offset + match.start()
                sentences.append(Sentence(header[:2], header[2:], tuple(values), offset))
        start = _unfinished(data, end)
        self._skip(data[end:start])
        self._tail, self._tail_offset = data[start:], self._tail_offset + start
        return sentences

    def _skip(self, data: bytes) -> None:
        self.skipped_bytes += len(data.strip(b"\r\n"))


def _checksum(body: bytes) -> int:
    """All bytes by exclusive or: folding the upper half onto the lower takes half the time of going byte by byte."""
    bits = int.from_bytes(body)
    bits ^= bits >> 1024  # LONGEST_BODY is below 256 bytes
    bits ^= bits >> 512
    bits ^= bits >> 256
    bits ^= bits >> 128
    bits ^= bits >> 64
    bits ^= bits >> 32
    bits ^= bits >> 16
    return (bits ^ bits >> 8) & 0xFF


def _is_standard(header: str) -> bool:
    """Talker and kind in five capitals; P begins proprietary ones: Garmin's PGRMC is no RMC."""
    return len(header) == 5 and header[0] != "P" and header.isalpha() and header.isupper()


def _unfinished(data: bytes, end: int) -> int:
    """Where a sentence begins that later bytes may complete."""
    start = data.find(b"$", max(end, data.rfind(b"$")))
    return start if start >= 0 and _UNFINISHED.fullmatch(data, start) else len(data)


@dataclass(slots=True)
class _Epoch:
    """The sentences of an epoch that is still open, the first of each kind."""

    day_ns: int | None  # time of day of its GGA, else of what opened it; None: a receiver without any time yet
    leap: bool
    arrival_monotonic_ns: int | None
    arrival_utc_ns: int | None
    sentences: _Said


class Epochs:
    """Puts sentences together to epochs, by the rules of docs/receiver.md."""

    def __init__(self) -> None:
        self._open: _Epoch | None = None
        self._early: _Said = {}  # untimed sentences of a burst whose epoch is not open yet
        self._zda_ns: int | None = None
        self._last_ns: int | None = None  # UTC of the last epoch, of 1970 while no date is known
        self._dated = False
        self._usual: frozenset[str] = frozenset()
        self._closed_day_ns: int | None = None
        self._last_place: _Place | None = None
        self._agreed = 0  # new places in a row on which GGA and RMC agreed to the last digit
        self._order_ns: int | None = None
        self._seen: dict[int, bool] = {}  # the epochs that came, and whether with a position
        self._marks: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether sentences wait for more of their epoch, or for `flush`."""
        return self._open is not None or bool(self._early)

    @property
    def is_complete(self) -> bool:
        """Whether the open epoch has all kinds of sentences that the one before had; the first one never knows."""
        return self._open is None or (self._usual <= self._open.sentences.keys() and bool(self._usual))

    def mark(self, flag: str) -> None:
        """Flag the next fix, for instance with `replug`; what was half heard before is closed by `flush` first."""
        self._marks.append(flag)

    def feed(
        self, sentence: Sentence, arrival_monotonic_ns: int | None = None, arrival_utc_ns: int | None = None
    ) -> list[Fix]:
        """The fixes that this sentence proves to be complete: none or one."""
        kind, values = sentence.kind, sentence.fields
        if kind in TIME_FIELD and len(values) > TIME_FIELD[kind]:
            text = values[TIME_FIELD[kind]]
            moment = _time_of_day(text)
            if (moment or not text) and not self._continue(kind, values, moment or TIMELESS):
                early = self._early
                done = self.flush()
                day_ns, leap = moment or TIMELESS
                self._open = _Epoch(day_ns, leap, arrival_monotonic_ns, arrival_utc_ns, {**early, kind: values})
                return done
        elif kind == "ZDA":
            self._zda_ns = _zda_utc_ns(values)
        elif kind in UNTIMED_KINDS:
            (self._open.sentences if self._open else self._early).setdefault(kind, values)
        return []

    def flush(self) -> list[Fix]:
        """Close the open epoch because the line has been idle, or is at its end."""
        epoch, self._open = self._open, None
        self._early = {}
        if epoch is None:
            return []
        continues = epoch.day_ns is not None and epoch.day_ns == self._closed_day_ns  # closed too early: learn from it
        self._usual = frozenset(epoch.sentences) | (self._usual if continues else frozenset())
        self._closed_day_ns = epoch.day_ns
        return self._finish(epoch)

    def _continue(self, kind: str, values: Fields, moment: _Moment) -> bool:
        """Put a sentence into the open epoch if it belongs there."""
        epoch = self._open
        if epoch is None or not _belongs(epoch, kind, moment[0]):
            return False
        if kind == "GGA":
            epoch.day_ns, epoch.leap = moment
        if kind not in epoch.sentences or (_place(kind, values) and not _place(kind, epoch.sentences[kind])):
            epoch.sentences[kind] = values
        return True

    def _finish(self, epoch: _Epoch) -> list[Fix]:
        said = epoch.sentences
        if said.keys().isdisjoint(POSITION_KINDS):
            return []
        places = _places(said)
        kind, doubts = self._choose(places, said)
        values = _row(said, kind, places.get(kind))
        values |= {"arrival_monotonic_ns": epoch.arrival_monotonic_ns, "arrival_utc_ns": epoch.arrival_utc_ns}
        if epoch.day_ns is None:
            return [Fix(**values, flags=self._flags("no-time", *doubts))]
        utc_ns, source = self._date(epoch.day_ns, said.get("RMC", ()))
        order_ns = _order(utc_ns, epoch.leap)
        back = self._order_ns is not None and order_ns <= self._order_ns
        if back and order_ns in self._seen and (self._seen[order_ns] or not kind):
            return []  # the receiver, or its driver, plays a buffer again
        if back:
            self._seen.clear()
        self._last_ns, self._order_ns, self._dated = utc_ns, order_ns, source != "none"
        self._remember(order_ns, places.get(kind))
        reasons = {"clock-set": back, "leap": epoch.leap, "old-date": self._dated and utc_ns < EARLIEST_NS}
        values["flags"] = self._flags(*(flag for flag, holds in reasons.items() if holds), *doubts)
        utc = _utc_text(utc_ns, epoch.leap)
        if not self._dated:
            return [Fix(**values, utc=utc.partition("T")[2])]
        return [Fix(**values, utc=utc, utc_ns=utc_ns, date_source=source)]

    def _choose(self, places: dict[str, _Place], said: _Said) -> tuple[str, tuple[str, ...]]:
        """The kind of sentence whose position is taken, empty for none, and why that is in doubt."""
        kind, last, agreed = next(iter(places), ""), self._last_place, self._agreed
        if kind != "GGA":
            return kind, ()
        gga, rmc = places["GGA"], places.get("RMC")
        if rmc is None:
            # Hemisphere repeats a position of no satellites until it has its first fix; Furuno's RMC vouches for one.
            empty = _integer(said["GGA"], 6) == 0 and _integer(said["GGA"], 5) in SATELLITE_QUALITIES
            return ("", ("no-satellites",)) if empty else (kind, ())
        if gga != last:
            self._agreed = agreed + 1 if gga == rmc else 0
        if _apart_m(gga, rmc) <= (0.0 if agreed >= STEADY_EPOCHS else CONFLICT_M):
            return kind, ()
        if agreed >= STEADY_EPOCHS:
            return "", ("conflict",)  # one of the two is damaged, and nothing tells which
        # Damage that the checksum did not see, or a receiver whose RMC is an epoch late: that one never agrees.
        strayed = agreed and last and _apart_m(last, gga) > CONFLICT_RATIO * _apart_m(last, rmc)
        return "RMC" if strayed else "GGA", ("conflict",)

    def _flags(self, *flags: str) -> tuple[str, ...]:
        marks, self._marks = self._marks, []
        return (*marks, *flags)

    def _remember(self, order_ns: int, place: _Place | None) -> None:
        self._seen[order_ns] = place is not None
        if len(self._seen) > REMEMBERED_EPOCHS:
            del self._seen[next(iter(self._seen))]
        self._last_place = place or self._last_place

    def _date(self, day_ns: int, rmc: Fields) -> tuple[int, str]:
        """UTC of a time of day and where its date comes from; counted from 1970 while there is none."""
        rmc_ns = _rmc_utc_ns(rmc)
        if rmc_ns is not None:
            return _nearest_day(day_ns, rmc_ns), "rmc"
        if self._zda_ns is not None:
            utc_ns = _nearest_day(day_ns, self._zda_ns)
            if abs(utc_ns - self._zda_ns) <= ZDA_REACH_NS:
                return utc_ns, "zda"
            if utc_ns > self._zda_ns:
                self._zda_ns = None  # tomorrow it would put the clock back by a day
        if self._last_ns is None:
            return day_ns, "none"
        days, last_day_ns = divmod(self._last_ns, DAY_NS)
        midnight = last_day_ns - day_ns > DAY_NS // 2  # a smaller step back is a receiver that sets its clock
        return (days + midnight) * DAY_NS + day_ns, "carried" if self._dated else "none"


class Sky:
    """What GSV says of the satellites in view; understood only when it is asked for."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], tuple[int, list[Fields]]] = {}  # by talker and signal

    def feed(self, sentence: Sentence, arrival_monotonic_ns: int) -> None:
        """Take a GSV: one page of the satellites of one system."""
        values = sentence.fields
        signal = values[-1] if len(values) % 4 == 0 else ""  # since NMEA 4.10
        if _integer(values, 1) == 1:
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
    degrees = _number(sentence.fields, 0)
    valid = sentence.kind == "HDT" or sentence.fields[1:2] == ("A",)
    return degrees if valid and degrees is not None and 0 <= degrees <= 360 else None


def read_log(source: Path | bytes) -> list[Fix]:
    """All epochs of an NMEA log, without arrival times."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    return assemble(Framer().feed(data))


def assemble(sentences: Iterable[Sentence]) -> list[Fix]:
    """All epochs of a finished sequence of sentences."""
    epochs = Epochs()
    fixes = [fix for sentence in sentences for fix in epochs.feed(sentence)]
    return fixes + epochs.flush()


def _belongs(epoch: _Epoch, kind: str, day_ns: int | None) -> bool:
    if day_ns is None or epoch.day_ns is None:
        return day_ns is epoch.day_ns and kind not in epoch.sentences
    if kind in epoch.sentences:  # at 50 Hz two epochs are nearer than the tolerance
        moment = _time_of_day(epoch.sentences[kind][TIME_FIELD[kind]])
        return moment is not None and moment[0] == day_ns
    apart_ns = abs(day_ns - epoch.day_ns)
    return min(apart_ns, DAY_NS - apart_ns) <= SAME_EPOCH_NS


def _places(said: _Said) -> dict[str, _Place]:
    """The positions that the sentences state; of the less trusted kinds only where it is needed."""
    places: dict[str, _Place] = {}
    if _integer(said.get("GGA", ()), 5) == 0:
        return places
    for kind in POSITION_KINDS:
        if kind in said and (kind == "RMC" or not places) and (place := _place(kind, said[kind])):
            places[kind] = place
    return places


def _row(said: _Said, kind: str, place: _Place | None) -> dict[str, Any]:
    """The columns that the sentences of one epoch fill, without its times; `place` is that of the sentence `kind`."""
    gga, gns, gsa, gst = (said.get(name, ()) for name in ("GGA", "GNS", "GSA", "GST"))
    source, age_index = (gga, 12) if gga else (gns, 10)
    hdop = _number(source, 7)
    row = {
        "quality": _integer(gga, 5),
        "mode": _mode(said),
        "satellites": _integer(source, 6),
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


def _motion(said: _Said) -> tuple[float | None, float | None]:
    """Speed in m/s and course, of RMC or else of VTG."""
    for kind, speed_index, course_index in (("RMC", 6, 7), ("VTG", 4, 0)):
        knots = _number(said.get(kind, ()), speed_index)
        if knots is not None and 0 <= knots < 1000:
            course = _number(said[kind], course_index)
            return round(
                knots * METRES_PER_S_PER_KNOT, 4
            ), course if course is not None and 0 <= course <= 360 else None
    return None, None


def _mode(said: _Said) -> str | None:
    modes = (_name(said.get(kind, ()), index) for kind, index in (("RMC", 11), ("GNS", 5), ("GLL", 6), ("VTG", 8)))
    return next(filter(None, modes), None)


def _apart_m(one: _Place, other: _Place) -> float:
    east_deg = abs(one[1] - other[1])
    east_deg = min(east_deg, 360 - east_deg) * math.cos(math.radians(one[0]))
    return METRES_PER_DEGREE * math.hypot(one[0] - other[0], east_deg)


def _place(kind: str, values: Fields) -> _Place | None:
    """The position a sentence states, None when it states none or an impossible one."""
    begin = {"GGA": 1, "RMC": 2, "GNS": 1, "GLL": 0}.get(kind)
    if begin is None or len(values) < begin + 4 or not _is_valid(kind, values):
        return None
    latitude = _angle(values[begin], values[begin + 1], 2, 90)
    longitude = _angle(values[begin + 2], values[begin + 3], 3, 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None  # off Africa lie only receivers without a fix
    return latitude, longitude


def _is_valid(kind: str, values: Fields) -> bool:
    """Whether the receiver itself believes in the position of this sentence."""
    if kind == "GGA":
        return (_integer(values, 5) or 0) > 0
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


@lru_cache(maxsize=16)  # all sentences of an epoch say the same
def _time_of_day(text: str) -> tuple[int, bool] | None:
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


def _rmc_utc_ns(values: Fields) -> int | None:
    text = values[8] if len(values) > 8 else ""
    if not text.isdecimal():
        return None
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:])
    return _utc_ns(values[0], day, month, year + (1900 if year >= 80 else 2000))


def _zda_utc_ns(values: Fields) -> int | None:
    day, month, year = (_integer(values, index) or 0 for index in (1, 2, 3))
    return _utc_ns(values[0], day, month, year)


def _utc_ns(time_of_day: str, day: int, month: int, year: int) -> int | None:
    moment = _time_of_day(time_of_day)
    try:
        days = (date(year, month, day) - date(1970, 1, 1)).days
    except ValueError:
        return None
    return None if moment is None else days * DAY_NS + moment[0]


def _nearest_day(day_ns: int, utc_ns: int) -> int:
    """The instant with this time of day that is nearest to another instant."""
    return round((utc_ns - day_ns) / DAY_NS) * DAY_NS + day_ns


def _order(instant_ns: int, leap: bool) -> int:
    """A key that puts a leap second between its neighbours, though POSIX time gives it that of the next second."""
    if not leap:
        return instant_ns
    midnight_ns = instant_ns // DAY_NS * DAY_NS
    return midnight_ns - NS_PER_MS + (instant_ns - midnight_ns) // 1000


def _utc_text(utc_ns: int, leap: bool) -> str:
    return iso_utc(utc_ns - NS_PER_S).replace("23:59:59", "23:59:60") if leap else iso_utc(utc_ns)


def _number(values: Fields, index: int) -> float | None:
    return float(values[index]) if index < len(values) and values[index] else None


def _integer(values: Fields, index: int) -> int | None:
    return int(values[index]) if index < len(values) and values[index] else None


def _name(values: Fields, index: int) -> str | None:
    text = values[index] if index < len(values) else ""
    return text if _NAME.fullmatch(text) else None
