"""UTC from CLOCK_MONOTONIC: what the receiver's epochs say of it, and the one place where UTC becomes text."""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig.arrays import Float64, Int64  # the server imports this module and needs none: loaded where they are made

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
DAY_NS = 86_400 * NS_PER_S
SIGMAS_IN_99_PERCENT = 2.6  # half-width of a 99 % interval over one sigma of a normal distribution
SYSTEM_SIGMA_NS = 1_000_000_000  # a Pi has no battery behind its clock: anything may be in it
WINDOW_NS = 60 * NS_PER_S  # a crystal that is 20 ppm off moves 1.2 ms in it
MINIMUM_SPAN_NS = 3 * NS_PER_S
CRYSTAL_PPM = 20  # how fast an estimate grows old
CURVE_WINDOW_NS = 20 * NS_PER_S  # of a finished recording (measured: 0.23 ms between windows of 20 s, 0.64 of 10 s)
MAJORITY_NS = NS_PER_S  # half-width around what most epochs say: 100 ppm move 0.36 s in an hour
STEP_NS = NS_PER_S // 2  # arrivals jitter by less; a receiver that sets its clock jumps by more
STEP_EPOCHS = 5  # so many in a row are a new clock, fewer are damage
EARLY_SHARE = 0.1  # single early arrivals make the plain minimum worse (measured: 0.64 against 3.4 ms)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY, _MINUTE, _SECOND = r"(\d{4}-\d\d-\d\d)", r"((?:[01]\d|2[0-3]):[0-5]\d)", r"([0-5]\d|60)(?:[.,](\d{1,9})\d*)?"
_ISO = re.compile(rf"{_DAY}[T ]{_MINUTE}:{_SECOND}\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class UtcClock:
    """UTC as CLOCK_MONOTONIC plus an offset that was right at one instant; `source` is 'gnss' or 'system'."""

    offset_ns: int
    at_monotonic_ns: int
    sigma_ns: int
    source: str

    def utc_ns(self, monotonic_ns: int | None = None) -> int:
        """UTC in ns since 1970 of an instant of CLOCK_MONOTONIC, of now by default."""
        return self.offset_ns + (time.monotonic_ns() if monotonic_ns is None else monotonic_ns)

    def aged(self) -> "UtcClock":
        """The same with the doubt that has grown since."""
        age_ns = max(0, time.monotonic_ns() - self.at_monotonic_ns)
        return replace(self, sigma_ns=self.sigma_ns + age_ns * CRYSTAL_PPM // 1_000_000)


def system_clock() -> UtcClock:
    """The operating system's idea of UTC, with the doubt it deserves in a car."""
    monotonic_ns = time.monotonic_ns()
    return UtcClock(time.time_ns() - monotonic_ns, monotonic_ns, SYSTEM_SIGMA_NS, "system")


def best_clock(*known: UtcClock | None) -> UtcClock:
    """The one with the least doubt of those known and the operating system's."""
    return min(filter(None, (*known, system_clock())), key=lambda clock: clock.sigma_ns)


class GnssClock:
    """UTC from the arrival of the receiver's epochs, over the last minute.

    `latency_ns` is the known delay from the epoch to its first byte, `latency_error_ns` the half-width of what nobody
    measured of it: NMEA alone cannot show a constant delay.
    """

    def __init__(self, latency_ns: int = 0, latency_error_ns: int = 0) -> None:
        self.latency_ns = latency_ns
        self._latency_sigma_ns = latency_error_ns / 3**0.5  # of a uniform distribution
        self._epochs: deque[tuple[int, int]] = deque()
        self._strangers: list[tuple[int, int]] = []

    def observe(self, arrival_monotonic_ns: int, utc_ns: int) -> None:
        """Take the arrival of an epoch's first byte and the epoch's UTC."""
        epoch = (arrival_monotonic_ns, utc_ns - arrival_monotonic_ns)
        if self._epochs and abs(epoch[1] - self._epochs[-1][1]) > STEP_NS:
            self._strangers.append(epoch)
            if len(self._strangers) < STEP_EPOCHS:
                return
            self._epochs = deque(self._strangers)
        else:
            self._epochs.append(epoch)
        self._strangers = []
        while self._epochs[-1][0] - self._epochs[0][0] > WINDOW_NS:
            self._epochs.popleft()

    def estimate(self, now_monotonic_ns: int | None = None) -> UtcClock | None:
        """What the last minute says; None before 3 s of epochs. The doubt grows when no more epochs come."""
        if not self._epochs or self._epochs[-1][0] - self._epochs[0][0] < MINIMUM_SPAN_NS:
            return None
        offsets = [offset for _, offset in self._epochs]
        offset_ns = _early(offsets)
        quarter = -(-len(offsets) // 4)
        spread_ns = max(abs(_early(offsets[i : i + quarter]) - offset_ns) for i in range(0, len(offsets), quarter))
        newest = self._epochs[-1][0]
        age_ns = max(0, (time.monotonic_ns() if now_monotonic_ns is None else now_monotonic_ns) - newest)
        sigma_ns = (spread_ns**2 + self._latency_sigma_ns**2) ** 0.5 + age_ns * CRYSTAL_PPM * 1e-6
        return UtcClock(offset_ns + self.latency_ns, newest, round(sigma_ns), "gnss")


@dataclass(frozen=True, slots=True)
class ClockCurve:
    """UTC over CLOCK_MONOTONIC for a whole recording: a straight line, and what is left of it at some instants.

    `sigma_ns` is that of the curve; a constant delay of the receiver is not in it.
    """

    base_monotonic_ns: int
    base_utc_ns: int
    rate: float  # UTC gained by each ns of CLOCK_MONOTONIC, less one
    knots_ns: "Float64"  # from base_monotonic_ns
    rest_ns: "Float64"
    sigma_ns: int

    def utc_ns(self, monotonic_ns: "Int64") -> "Int64":
        """UTC of instants of CLOCK_MONOTONIC; before and after the recording the line goes on."""
        import numpy as np

        since = np.asarray(monotonic_ns, dtype=np.int64) - self.base_monotonic_ns
        bend = self.rate * since + np.interp(since, self.knots_ns, self.rest_ns)
        return np.asarray(since + self.base_utc_ns + np.rint(bend).astype(np.int64))


def fit_clock(
    arrival_monotonic_ns: "Int64", utc_ns: "Int64", latency_ns: int = 0, latency_error_ns: int = 0
) -> ClockCurve | None:
    """The clock from all epochs of a recording: arrivals of first bytes and their UTC, in any order.

    In windows of 20 s the early arrivals count, less a straight line over all; between windows it is linear. Times
    that most epochs contradict (a receiver that had not set its clock yet) are left out. None for less than 3 s.
    """
    import numpy as np

    offset_ns = utc_ns - arrival_monotonic_ns
    kept = np.abs(offset_ns - np.median(offset_ns)) <= MAJORITY_NS if len(offset_ns) else []
    order = np.argsort(arrival_monotonic_ns[kept])
    arrival_ns, offset_ns = arrival_monotonic_ns[kept][order], offset_ns[kept][order]
    if len(arrival_ns) == 0 or arrival_ns[-1] - arrival_ns[0] < MINIMUM_SPAN_NS:
        return None
    base_ns, base_offset_ns = int(arrival_ns[0]), int(offset_ns[0])
    since, offset = (arrival_ns - base_ns).astype(float), (offset_ns - base_offset_ns).astype(float)
    windows = np.split(np.arange(len(since)), np.flatnonzero(np.diff(since // CURVE_WINDOW_NS)) + 1)
    knots = np.array([since[window].mean() for window in windows])
    rate = 0.0
    for _ in range(2):  # the second time without the drift within each window
        rest = np.array(
            [np.quantile(offset[w] - rate * (since[w] - since[w].mean()), 1 - EARLY_SHARE) for w in windows]
        )
        rate = float(np.polyfit(knots, rest, 1)[0]) if len(knots) > 2 else 0.0
    strays = rest[1:-1] - (rest[2:] + rest[:-2]) / 2  # their variance is 1.5 of a window's
    spread = np.sqrt(np.mean(strays**2) / 1.5) if len(strays) else offset.std()
    return ClockCurve(
        base_monotonic_ns=base_ns,
        base_utc_ns=base_ns + base_offset_ns + latency_ns,
        rate=rate,
        knots_ns=knots,
        rest_ns=rest - rate * knots,
        sigma_ns=round(float(np.hypot(spread, latency_error_ns / 3**0.5))),
    )


def _early(offsets_ns: Sequence[int]) -> int:
    """The offset of arrivals that came early: late ones make UTC minus arrival small, so it is the 90th percentile."""
    ordered = sorted(offsets_ns)
    return ordered[round((1 - EARLY_SHARE) * (len(ordered) - 1))]


def rate_hz(arrivals_ns: Sequence[int], since_ns: int, least_ns: int = 1) -> float | None:
    """How often something has come since an instant, by when it came; None unless that spans `least_ns`."""
    recent = [arrival_ns for arrival_ns in arrivals_ns if arrival_ns > since_ns]
    span_ns = recent[-1] - recent[0] if recent else 0
    return None if span_ns < least_ns else round((len(recent) - 1) * NS_PER_S / span_ns, 2)


def iso_utc(utc_ns: int) -> str:
    """`2026-11-22T14:03:12.345Z`, to the nearest millisecond."""
    milliseconds = (utc_ns + NS_PER_MS // 2) // NS_PER_MS
    return (EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_utc(text: str) -> int:
    """ns since 1970 of an ISO 8601 instant; without a zone it is UTC, second 60 is the next second's beginning.

    Raises ValueError for anything else.
    """
    match = _ISO.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a time such as 2026-11-22T14:03:12.345Z")
    day, minute, seconds, fraction, zone = match.groups()
    begin = datetime.fromisoformat(f"{day}T{minute}{zone or 'Z'}")
    total_s = (begin - EPOCH) // timedelta(seconds=1) + int(seconds)
    return total_s * NS_PER_S + int((fraction or "0").ljust(9, "0"))
