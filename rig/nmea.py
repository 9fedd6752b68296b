"""Bytes of a GNSS receiver -> checked NMEA 0183 sentences -> one fix for each epoch."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache, reduce
from operator import attrgetter, xor
from pathlib import Path
from typing import Any

from rig.clock import NS_PER_MS, NS_PER_S, iso_utc

DAY_NS = 86_400 * NS_PER_S
METRES_PER_S_PER_KNOT = 1852 / 3600
LONGEST_BODY = 250  # NMEA says 79; real receivers reach 120
SAME_EPOCH_NS = 25 * NS_PER_MS  # Magellan spreads one epoch's sentences over 10 ms
ZDA_REACH_NS = 500 * NS_PER_MS  # a ZDA may carry the time of sending: only its day is believed
EARLIEST_NS = (date(2024, 1, 1) - date(1970, 1, 1)).days * DAY_NS  # older: a clock never set, or a week rollover
REMEMBERED_EPOCHS = 12_000  # 10 minutes at 20 Hz: how far back a replayed buffer is recognised
CONFLICT_M = 2.0  # between GGA and RMC of one epoch: most formats round by 0.2 m, damage mostly moves further
CONFLICT_RATIO = 3.0
STEADY_EPOCHS = (
    30  # of new places in a row, on which GGA and RMC agreed to the last digit: then any difference is damage
)
METRES_PER_DEGREE = 111_195.0  # of a sphere: enough to compare distances
POSITION_KINDS = ("GGA", "RMC", "GNS", "GLL")  # in order of trust
TIME_FIELD = {"GGA": 0, "RMC": 0, "GNS": 0, "GST": 0, "GLL": 4}
SATELLITE_QUALITIES = (1, 2, 3, 4, 5)
QUALITY_OF_MODE = {"A": 1, "D": 2, "P": 3, "R": 4, "F": 5, "E": 6, "M": 7, "S": 8}
# Horizontal, one sigma at HDOP 1, by quality. Cautious sides of what makers state: RTK 1 cm + 1 ppm of the baseline,
# SBAS below 0.6 m (95 %), autonomous some metres; dead reckoning drifts.
SIGMA_M = {1: 2.5, 2: 0.5, 3: 2.5, 4: 0.02, 5: 0.25, 6: 20.0, 7: 20.0, 8: 2.5, 9: 0.5}
UNKNOWN_HDOP = 2.0
UNTIMED_KINDS = ("VTG", "GSA")

_FRAME = re.compile(rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]{1,%d})\*([0-9A-Fa-f]{2})" % LONGEST_BODY)
_UNFINISHED = re.compile(rb"\$[\x20-\x23\x25-\x29\x2b-\x7e]{0,%d}(\*[0-9A-Fa-f]?)?" % LONGEST_BODY)
_HEADER = re.compile(r"[A-OQ-Z][A-Z][A-Z]{3}")  # P begins proprietary ones: Garmin's PGRMC is no RMC
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(?:\.(\d{0,9}))?", re.ASCII)
_ANGLE = re.compile(r"(\d{0,3})(\d\d(?:\.\d*)?)", re.ASCII)
_NAME = re.compile(r"[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence with a right checksum; `offset` is where its `$` was in the stream."""

    talker: str
    kind: str
    fields: tuple[str, ...]
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One epoch: the columns of positions.csv. None is what the receiver did not say, never zero.

    `utc` is ISO 8601, or only the time of day while no date is known (then `utc_ns` is None). `date_source` is rmc,
    zda, carried or none; `quality` is the number of GGA, `mode` the letter of RMC; arrival is that of the first byte of
    the epoch's first timed sentence, by CLOCK_MONOTONIC and CLOCK_REALTIME: an untimed one before it may be the late
    end of the epoch before.
    """

    utc: str | None = None
    utc_ns: int | None = None
    date_source: str = "none"
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    geoid_separation_m: float | None = None
    ellipsoid_height_m: float | None = None
    quality: int | None = None
    mode: str | None = None
    satellites: int | None = None
    hdop: float | None = None
    pdop: float | None = None
    vdop: float | None = None
    sigma_lat_m: float | None = None
    sigma_lon_m: float | None = None
    sigma_alt_m: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    diff_age_s: float | None = None
    station_id: str | None = None
    arrival_monotonic_ns: int | None = None
    arrival_utc_ns: int | None = None
    flags: tuple[str, ...] = ()


FIX_COLUMNS = tuple(item.name for item in fields(Fix))
_columns = attrgetter(*FIX_COLUMNS)


def csv_line(fix: Fix) -> str:
    """The row of positions.csv, with its line end."""
    return ",".join(map(_cell, FIX_COLUMNS, _columns(fix))) + "\n"


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in ("latitude", "longitude"):
        return f"{value:.10f}"
    return ";".join(value) if isinstance(value, tuple) else str(value)


def quality_of(fix: Fix) -> int:
    """The quality number of a fix: GGA's, or else what the mode letter means; 0 without a position."""
    if fix.latitude is None:
        return 0
    if fix.quality is not None:
        return fix.quality
    letters = (fix.mode or "").strip("N")
    return QUALITY_OF_MODE.get(letters[:1], 1)


def horizontal_sigma_m(fix: Fix) -> float | None:
    """One sigma of the horizontal position: what GST says, else a usual figure for its quality times HDOP."""
    if fix.latitude is None:
        return None
    if fix.sigma_lat_m is not None and fix.sigma_lon_m is not None:
        return math.hypot(fix.sigma_lat_m, fix.sigma_lon_m)
    hdop = UNKNOWN_HDOP if fix.hdop is None else max(fix.hdop, 1.0)
    return SIGMA_M.get(quality_of(fix), SIGMA_M[1]) * hdop


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
            if reduce(xor, match[1]) != int(match[2], 16):
                self.bad += 1
                continue
            self.good += 1
            header, *values = match[1].decode("ascii").split(",")
            if _HEADER.fullmatch(header):
                offset = self._tail_offset + match.start()
                sentences.append(Sentence(header[:2], header[2:], tuple(values), offset))
        start = _unfinished(data, end)
        self._skip(data[end:start])
        self._tail, self._tail_offset = data[start:], self._tail_offset + start
        return sentences

    def _skip(self, data: bytes) -> None:
        self.skipped_bytes += len(data.strip(b"\r\n"))


def _unfinished(data: bytes, end: int) -> int:
    """Where a sentence begins that later bytes may complete."""
    start = data.find(b"$", max(end, data.rfind(b"$")))
    return start if start >= 0 and _UNFINISHED.fullmatch(data, start) else len(data)


_Said = dict[str, tuple[str, ...]]  # the fields of each kind of sentence


@dataclass(frozen=True, slots=True)
class _Place:
    latitude: float
    longitude: float


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
        self._early: dict[str, tuple[str, ...]] = {}  # untimed sentences of a burst whose epoch is not open yet
        self._zda_ns: int | None = None
        self._last_ns: int | None = None  # UTC of the last epoch, of 1970 while no date is known
        self._dated = False
        self._usual: frozenset[str] = frozenset()
        self._closed_day_ns: int | None = None
        self._last_place: _Place | None = None
        self._agreed = 0
        self._order_ns: int | None = None
        self._seen: dict[int, bool] = {}
        self._marks: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether sentences wait for more of their epoch, or for `flush`."""
        return self._open is not None or bool(self._early)

    @property
    def is_complete(self) -> bool:
        """Whether the open epoch has all kinds of sentences that the one before had."""
        return self._open is None or self._usual <= self._open.sentences.keys()

    def mark(self, flag: str) -> None:
        """Flag the next fix, for instance with `replug`; what was half heard before is closed by `flush` first."""
        self._marks.append(flag)

    def feed(
        self, sentence: Sentence, arrival_monotonic_ns: int | None = None, arrival_utc_ns: int | None = None
    ) -> list[Fix]:
        """The fixes that this sentence proves to be complete: none or one."""
        kind, values = sentence.kind, sentence.fields
        if kind == "ZDA":
            self._zda_ns = _zda_utc_ns(values)
        elif kind in UNTIMED_KINDS:
            (self._open.sentences if self._open else self._early).setdefault(kind, values)
        elif kind in TIME_FIELD and len(values) > TIME_FIELD[kind]:
            text = values[TIME_FIELD[kind]]
            moment = _time_of_day(text)
            if moment or not text:
                arrival = (arrival_monotonic_ns, arrival_utc_ns)
                return self._take(kind, values, moment or (None, False), arrival)
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

    def _take(
        self,
        kind: str,
        values: tuple[str, ...],
        moment: tuple[int | None, bool],
        arrival: tuple[int | None, int | None],
    ) -> list[Fix]:
        epoch = self._open
        day_ns, leap = moment
        if epoch is not None and _belongs(epoch, kind, values, day_ns):
            if kind == "GGA":
                epoch.day_ns, epoch.leap = day_ns, leap
            if kind not in epoch.sentences or (_place(kind, values) and not _place(kind, epoch.sentences[kind])):
                epoch.sentences[kind] = values
            return []
        early = self._early
        done = self.flush()
        self._open = _Epoch(day_ns, leap, *arrival, {**early, kind: values})
        return done

    def _finish(self, epoch: _Epoch) -> list[Fix]:
        if not any(kind in epoch.sentences for kind in POSITION_KINDS):
            return []
        places = _places(epoch.sentences)
        values, doubts = _compose(epoch.sentences, places, self._last_place, self._agreed >= STEADY_EPOCHS)
        if "RMC" in places and "GGA" in places and places["GGA"] != self._last_place:
            self._agreed = self._agreed + 1 if places["RMC"] == places["GGA"] else 0
        values |= {"arrival_monotonic_ns": epoch.arrival_monotonic_ns, "arrival_utc_ns": epoch.arrival_utc_ns}
        if epoch.day_ns is None:
            return [Fix(**values, flags=self._flags(["no-time"], doubts))]
        utc_ns, source = self._date(epoch.day_ns, epoch.sentences.get("RMC", ()))
        order_ns = _order(utc_ns, epoch.leap)
        placed = "latitude" in values
        back = self._order_ns is not None and order_ns <= self._order_ns
        if back and order_ns in self._seen and (self._seen[order_ns] or not placed):
            return []  # the receiver, or its driver, plays a buffer again
        if back:
            self._seen.clear()
        self._last_ns, self._order_ns, self._dated = utc_ns, order_ns, source != "none"
        self._remember(order_ns, _Place(values["latitude"], values["longitude"]) if placed else None)
        reasons = {"clock-set": back, "leap": epoch.leap, "old-date": self._dated and utc_ns < EARLIEST_NS}
        flags = self._flags([flag for flag, holds in reasons.items() if holds], doubts)
        utc = _utc_text(utc_ns, epoch.leap)
        if not self._dated:
            return [Fix(**values, utc=utc.partition("T")[2], flags=flags)]
        return [Fix(**values, utc=utc, utc_ns=utc_ns, date_source=source, flags=flags)]

    def _flags(self, flags: list[str], doubts: tuple[str, ...]) -> tuple[str, ...]:
        marks, self._marks = self._marks, []
        return (*marks, *flags, *doubts)

    def _remember(self, order_ns: int, place: _Place | None) -> None:
        self._seen[order_ns] = place is not None
        if len(self._seen) > REMEMBERED_EPOCHS:
            del self._seen[next(iter(self._seen))]
        self._last_place = place or self._last_place

    def _date(self, day_ns: int, rmc: tuple[str, ...]) -> tuple[int, str]:
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


def read_log(source: Path | bytes) -> list[Fix]:
    """All epochs of an NMEA log, without arrival times."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    return assemble(Framer().feed(data))


def assemble(sentences: Iterable[Sentence]) -> list[Fix]:
    """All epochs of a finished sequence of sentences."""
    epochs = Epochs()
    fixes = [fix for sentence in sentences for fix in epochs.feed(sentence)]
    return fixes + epochs.flush()


def _belongs(epoch: _Epoch, kind: str, values: tuple[str, ...], day_ns: int | None) -> bool:
    if day_ns is None or epoch.day_ns is None:
        return day_ns is epoch.day_ns and kind not in epoch.sentences
    if kind in epoch.sentences:  # at 50 Hz two epochs are nearer than the tolerance
        return _time_of_day(epoch.sentences[kind][TIME_FIELD[kind]]) == _time_of_day(values[TIME_FIELD[kind]])
    apart_ns = abs(day_ns - epoch.day_ns)
    return min(apart_ns, DAY_NS - apart_ns) <= SAME_EPOCH_NS


def _compose(
    said: _Said, places: dict[str, _Place], last: _Place | None, steady: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns that the sentences of one epoch fill, without its times, and what is doubtful about them."""
    gga, gsa = said.get("GGA", ()), said.get("GSA", ())
    quality = _integer(gga, 5)
    kind, doubts = _choose(places, gga, last, steady)
    source = gga or said.get("GNS", ())
    age, station = (12, 13) if gga else (10, 11)
    hdop = _number(source, 7)
    values = {
        "quality": quality,
        "mode": _mode(said),
        "satellites": _integer(source, 6),
        "hdop": _number(gsa, 15) if hdop is None else hdop,
        "pdop": _number(gsa, 14),
        "vdop": _number(gsa, 16),
        "diff_age_s": _number(source, age),
        "station_id": _name(source, station),
    }
    return values | (_with_place(kind, places[kind], said) if kind else {}), doubts


def _places(said: _Said) -> dict[str, _Place]:
    """The positions that the sentences state; of the less trusted kinds only where it is needed."""
    places: dict[str, _Place] = {}
    if _integer(said.get("GGA", ()), 5) == 0:
        return places
    for kind in POSITION_KINDS:
        if kind in said and (kind == "RMC" or not places):
            place = _place(kind, said[kind])
            if place:
                places[kind] = place
    return places


def _with_place(kind: str, place: _Place, said: _Said) -> dict[str, Any]:
    altitude_m, geoid_m = _heights(kind, said)
    speed_mps, course_deg = _motion(said)
    sigmas = said.get("GST", ())
    return {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "altitude_m": altitude_m,
        "geoid_separation_m": geoid_m,
        "ellipsoid_height_m": None if altitude_m is None or geoid_m is None else round(altitude_m + geoid_m, 4),
        "sigma_lat_m": _number(sigmas, 5),
        "sigma_lon_m": _number(sigmas, 6),
        "sigma_alt_m": _number(sigmas, 7),
        "speed_mps": speed_mps,
        "course_deg": course_deg,
    }


def _heights(kind: str, said: _Said) -> tuple[float | None, float | None]:
    if kind == "GGA":
        return _number(said[kind], 8), _number(said[kind], 10)
    if "GNS" in said:
        return _number(said["GNS"], 8), _number(said["GNS"], 9)
    return None, None


def _motion(said: _Said) -> tuple[float | None, float | None]:
    """Speed in m/s and course, of RMC or else of VTG."""
    for values, speed_index, course_index in ((said.get("RMC", ()), 6, 7), (said.get("VTG", ()), 4, 0)):
        knots = _number(values, speed_index)
        course = _number(values, course_index)
        if knots is not None and 0 <= knots < 1000:
            valid = course is not None and 0 <= course <= 360
            return round(knots * METRES_PER_S_PER_KNOT, 4), course if valid else None
    return None, None


def _mode(said: _Said) -> str | None:
    for kind, index in (("RMC", 11), ("GNS", 5), ("GLL", 6), ("VTG", 8)):
        mode = _name(said.get(kind, ()), index)
        if mode:
            return mode
    return None


def _choose(
    places: dict[str, _Place], gga: tuple[str, ...], last: _Place | None, steady: bool
) -> tuple[str, tuple[str, ...]]:
    """The kind of sentence whose position is taken, empty for none, and why that is in doubt."""
    kind = next(iter(places), "")
    if kind == "GGA" and _integer(gga, 5) in SATELLITE_QUALITIES and _integer(gga, 6) == 0:
        return "", ("no-satellites",)  # Hemisphere repeats such a position until it has its first fix
    apart_m = _apart_m(places["GGA"], places["RMC"]) if kind == "GGA" and "RMC" in places else 0.0
    if apart_m <= (0.0 if steady else CONFLICT_M):
        return kind, ()
    if steady:
        return "", ("conflict",)  # one of the two is damaged, and nothing tells which
    # Damage that the checksum did not see, or a receiver that rounds: the last position tells them apart.
    strayed = last and _apart_m(last, places["GGA"]) > CONFLICT_RATIO * _apart_m(last, places["RMC"])
    return "RMC" if strayed else "GGA", ("conflict",)


def _apart_m(one: _Place, other: _Place) -> float:
    east_deg = abs(one.longitude - other.longitude)
    east_deg = min(east_deg, 360 - east_deg) * math.cos(math.radians(one.latitude))
    return METRES_PER_DEGREE * math.hypot(one.latitude - other.latitude, east_deg)


def _place(kind: str, values: tuple[str, ...]) -> _Place | None:
    """The position a sentence states, None when it states none or an impossible one."""
    begin, valid = _PLACES.get(kind, (0, _never))
    if len(values) < begin + 4 or not valid(values):
        return None
    latitude = _angle(values[begin], values[begin + 1], "NS", 90)
    longitude = _angle(values[begin + 2], values[begin + 3], "EW", 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None  # off Africa lie only receivers without a fix
    return _Place(latitude, longitude)


def _never(values: tuple[str, ...]) -> bool:
    return False


_PLACES: dict[str, tuple[int, Callable[[tuple[str, ...]], bool]]] = {
    "GGA": (1, lambda values: (_integer(values, 5) or 0) > 0),
    "RMC": (2, lambda values: values[1] == "A" and values[11:12] != ("N",)),
    "GNS": (1, lambda values: bool(values[5:6]) and values[5].strip("N") != ""),
    "GLL": (0, lambda values: values[5:6] == ("A",) and values[6:7] != ("N",)),
}


def _angle(text: str, side: str, sides: str, limit: int) -> float | None:
    match = _ANGLE.fullmatch(text)
    if not match or len(side) != 1 or side not in sides or float(match[2]) >= 60:
        return None
    degrees = int(match[1] or 0) + float(match[2]) / 60
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


def _rmc_utc_ns(values: tuple[str, ...]) -> int | None:
    if len(values) < 9 or len(values[8]) != 6 or not values[8].isascii() or not values[8].isdigit():
        return None
    day, month, year = (int(values[8][i : i + 2]) for i in (0, 2, 4))
    return _utc_ns(values[0], day, month, year + (1900 if year >= 80 else 2000))


def _zda_utc_ns(values: tuple[str, ...]) -> int | None:
    day, month, year = (_integer(values, index) for index in (1, 2, 3))
    if day is None or month is None or year is None:
        return None
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


def _number(values: tuple[str, ...], index: int) -> float | None:
    text = values[index] if index < len(values) else ""
    return float(text) if _NUMBER.fullmatch(text) else None


def _integer(values: tuple[str, ...], index: int) -> int | None:
    number = _number(values, index)
    return None if number is None or number < 0 or number != int(number) else int(number)


def _name(values: tuple[str, ...], index: int) -> str | None:
    text = values[index] if index < len(values) else ""
    return text if _NAME.fullmatch(text) else None
