"""NMEA 0183 sentences -> one fix for each epoch."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, iso_utc, parse_utc
from rig.gnss.fix import METRES_PER_DEGREE, Fix
from rig.gnss.framing import Fields, Framer, Sentence
from rig.gnss.sentences import (
    POSITION_KINDS,
    Place,
    Said,
    integer,
    place_of,
    places_of,
    rmc_utc_ns,
    row_of,
    time_of_day,
    zda_utc_ns,
)

SAME_EPOCH_NS = 25 * NS_PER_MS  # Magellan spreads one epoch's sentences over 10 ms
ZDA_REACH_NS = 500 * NS_PER_MS  # a ZDA may carry the time of sending: only its day is believed
EARLIEST_NS = parse_utc("2024-01-01T00:00:00Z")  # older: a clock never set, or a week rollover
REMEMBERED_EPOCHS = 12_000  # 10 minutes at 20 Hz: how far back a replayed buffer is recognised
CONFLICT_M = 2.0  # between GGA and RMC of one epoch: most formats round by 0.2 m, damage mostly moves further
CONFLICT_RATIO = 3.0
SET_BACK_EPOCHS = 3  # in a row that put known times at other places: no replay
STEADY_EPOCHS = 30  # of new places in a row, on which GGA and RMC agreed to the last digit: any difference is damage
TIME_FIELD = {"GGA": 0, "RMC": 0, "GNS": 0, "GST": 0, "GLL": 4}
UNTIMED_KINDS = ("VTG", "GSA")
SATELLITE_QUALITIES = (1, 2, 3, 4, 5)

Stamp = tuple[int, int]  # CLOCK_MONOTONIC and CLOCK_REALTIME, ns
_Moment = tuple[int | None, bool]  # time of day in ns, and whether it is within a leap second
TIMELESS: _Moment = (None, False)


@dataclass(slots=True)
class _Epoch:
    """The sentences of an epoch that is still open, the first of each kind."""

    day_ns: int | None  # time of day of its GGA, else of what opened it; None: a receiver without any time yet
    leap: bool
    arrival_monotonic_ns: int | None
    arrival_utc_ns: int | None
    sentences: Said


class Epochs:
    """Puts sentences together to epochs, by the rules of docs/receiver.md."""

    def __init__(self) -> None:
        self._open: _Epoch | None = None
        self._early: Said = {}  # untimed sentences of a burst whose epoch is not open yet
        self._zda_ns: int | None = None
        self._dated = False
        self._usual: frozenset[str] = frozenset()
        self._closed_day_ns: int | None = None
        self._last_place: Place | None = None
        self._agreed = 0  # new places in a row on which GGA and RMC agreed to the last digit
        self._order_ns: int | None = None  # of the last epoch; of 1970 while no date is known
        self._seen: dict[int, Place | None] = {}  # the epochs that came, and where they were
        self._waiting: list[tuple[int, _Epoch]] = []  # in a row at times that have been before, but at other places
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
        """The fixes that this sentence proves to be complete."""
        kind, values = sentence.kind, sentence.fields
        if kind in TIME_FIELD and len(values) > TIME_FIELD[kind]:
            text = values[TIME_FIELD[kind]]
            moment = time_of_day(text)
            if (moment or not text) and not self._continue(kind, values, moment or TIMELESS):
                early = self._early
                done = self.flush()
                day_ns, leap = moment or TIMELESS
                self._open = _Epoch(day_ns, leap, arrival_monotonic_ns, arrival_utc_ns, {**early, kind: values})
                return done
        elif kind == "ZDA":
            self._zda_ns = zda_utc_ns(values)
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
        if kind not in epoch.sentences or (place_of(kind, values) and not place_of(kind, epoch.sentences[kind])):
            epoch.sentences[kind] = values
        return True

    def _finish(self, epoch: _Epoch) -> list[Fix]:
        said = epoch.sentences
        if said.keys().isdisjoint(POSITION_KINDS):
            return []
        places = places_of(said)
        kind, doubts = self._choose(places, said)
        values = row_of(said, kind, places.get(kind))
        values |= {"arrival_monotonic_ns": epoch.arrival_monotonic_ns, "arrival_utc_ns": epoch.arrival_utc_ns}
        if epoch.day_ns is None:
            return [Fix(**values, flags=self._flags("no-time", *doubts))]
        utc_ns, source = self._date(epoch.day_ns, said.get("RMC", ()))
        order_ns = _order(utc_ns, epoch.leap)
        place = places.get(kind)
        if order_ns in self._seen and (place is None or self._seen[order_ns]):
            return self._again(epoch, order_ns, place)
        back = self._order_ns is not None and order_ns <= self._order_ns
        if back:
            self._seen.clear()
        self._waiting.clear()
        self._order_ns, self._dated = order_ns, source != "none"
        self._remember(order_ns, place)
        reasons = {"clock-set": back, "leap": epoch.leap, "old-date": self._dated and utc_ns < EARLIEST_NS}
        values["flags"] = self._flags(*(flag for flag, holds in reasons.items() if holds), *doubts)
        utc = _utc_text(utc_ns, epoch.leap)
        if not self._dated:
            return [Fix(**values, utc=utc.partition("T")[2])]
        return [Fix(**values, utc=utc, utc_ns=utc_ns, date_source=source)]

    def _choose(self, places: dict[str, Place], said: Said) -> tuple[str, tuple[str, ...]]:
        """The kind of sentence whose position is taken, empty for none, and why that is in doubt."""
        kind, last, agreed = next(iter(places), ""), self._last_place, self._agreed
        if kind != "GGA":
            return kind, ()
        gga, rmc = places["GGA"], places.get("RMC")
        if rmc is None:
            # Hemisphere repeats a position of no satellites until it has its first fix; Furuno's RMC vouches for one.
            empty = integer(said["GGA"], 6) == 0 and integer(said["GGA"], 5) in SATELLITE_QUALITIES
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

    def _again(self, epoch: _Epoch, order_ns: int, place: Place | None) -> list[Fix]:
        """The fixes of an epoch whose time has been before, mostly none: a buffer is played again.

        Those in a row that say other places than before may be damage, or a second receiver: they wait. With the third
        one the clock was set back, and all of them count.
        """
        known = self._seen[order_ns]
        if known is None or place is None:
            return []
        elsewhere = _apart_m(known, place) > CONFLICT_M
        if not elsewhere or (self._waiting and order_ns <= self._waiting[-1][0]):
            self._waiting.clear()
        if elsewhere:
            self._waiting.append((order_ns, epoch))
        if len(self._waiting) < SET_BACK_EPOCHS:
            return []
        waiting, self._waiting = self._waiting, []
        self._seen.clear()  # what was said of these times before was another clock's
        return [fix for _, one in waiting for fix in self._finish(one)]

    def _flags(self, *flags: str) -> tuple[str, ...]:
        marks, self._marks = self._marks, []
        return (*marks, *flags)

    def _remember(self, order_ns: int, place: Place | None) -> None:
        self._seen[order_ns] = place
        if len(self._seen) > REMEMBERED_EPOCHS:
            del self._seen[next(iter(self._seen))]
        self._last_place = place or self._last_place

    def _date(self, day_ns: int, rmc: Fields) -> tuple[int, str]:
        """UTC of a time of day and where its date comes from; counted from 1970 while there is none."""
        rmc_ns = rmc_utc_ns(rmc)
        if rmc_ns is not None:
            return _nearest_day(day_ns, rmc_ns), "rmc"
        if self._zda_ns is not None:
            utc_ns = _nearest_day(day_ns, self._zda_ns)
            if abs(utc_ns - self._zda_ns) <= ZDA_REACH_NS:
                return utc_ns, "zda"
            if utc_ns > self._zda_ns:
                self._zda_ns = None  # tomorrow it would put the clock back by a day
        if self._order_ns is None:
            return day_ns, "none"
        days, last_day_ns = divmod(self._order_ns, DAY_NS)  # a leap second is still of the day that it ends
        midnight = last_day_ns - day_ns > DAY_NS // 2  # a smaller step back is a receiver that sets its clock
        return (days + midnight) * DAY_NS + day_ns, "carried" if self._dated else "none"


def read_log(source: Path | bytes) -> list[Fix]:
    """All epochs of an NMEA log, without arrival times."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    return assemble(Framer().feed(data))


def assemble(
    sentences: Iterable[Sentence], arrival_at: Callable[[int], Stamp | tuple[None, None]] = lambda _: (None, None)
) -> list[Fix]:
    """All epochs of a finished sequence of sentences; `arrival_at` tells when the byte at an offset came."""
    epochs = Epochs()
    fixes = [fix for one in sentences for fix in epochs.feed(one, *arrival_at(one.offset))]
    return fixes + epochs.flush()


def _belongs(epoch: _Epoch, kind: str, day_ns: int | None) -> bool:
    if day_ns is None or epoch.day_ns is None:
        return day_ns is epoch.day_ns and kind not in epoch.sentences
    if kind in epoch.sentences:  # at 50 Hz two epochs are nearer than the tolerance
        moment = time_of_day(epoch.sentences[kind][TIME_FIELD[kind]])
        return moment is not None and moment[0] == day_ns
    apart_ns = abs(day_ns - epoch.day_ns)
    return min(apart_ns, DAY_NS - apart_ns) <= SAME_EPOCH_NS


def _apart_m(one: Place, other: Place) -> float:
    east_deg = abs(one[1] - other[1])
    east_deg = min(east_deg, 360 - east_deg) * math.cos(math.radians(one[0]))
    return METRES_PER_DEGREE * math.hypot(one[0] - other[0], east_deg)


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
