"""A phone that shows the time code: when each refresh is drawn, what it holds, and when its light appears."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import segno

MILLISECOND_NS = 1_000_000
TICK_NS = 100_000  # of the code: 0.1 ms
CHECK_MODULUS = 97
MASK = 3  # one for all codes: two successive ones then differ in few modules
MODULES = 21  # of a QR code, version 1
QUIET_MODULES = 4
MICRO_PERIOD = 10**15  # ns x uHz: a period in ns times a rate in uHz
HALF_MICRO_PERIOD = MICRO_PERIOD // 2
_ODD = 0x9E3779B97F4A7C15  # multiplier of Fibonacci hashing, 2^64 / golden ratio
_WORD = 2**64


@dataclass(frozen=True, slots=True)
class Drawn:
    """One code that was really drawn, from its first light at the screen's top row until the next one's."""

    refresh: int
    utc_ns: int
    payload: str
    light_utc_ns: int
    dark_utc_ns: int


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone's screen; all instants are true UTC.

    Refresh n begins at `phase_ns` + n / `refresh_hz`. The code drawn in it holds that instant as the phone believes the
    Pi's clock to read (`to_pi_ns` added). Its light appears `latency_ms` later in the top row of the screen and
    `scan_out_ms` after that in the bottom row. A share of refreshes is missed: the old code then stays.
    """

    refresh_hz: float = 60.02
    phase_ns: int = 0
    latency_ms: float = 38.0
    shown: tuple[tuple[int, int | None], ...] = ()
    to_pi_ns: int = 0
    skip_share: float = 0.01
    scan_out_ms: float = 13.0

    def is_shown(self, utc_ns: int) -> bool:
        """Whether somebody holds the screen before the cameras."""
        return any(begin <= utc_ns and (end is None or utc_ns < end) for begin, end in self.shown)

    def drawn(self, from_utc_ns: int, until_utc_ns: int) -> list[Drawn]:
        """The codes whose animation frames began in an interval, in their order (what a draw log lists)."""
        numbers = [n for n in self._refreshes(from_utc_ns, until_utc_ns) if not self.is_skipped(n)]
        return [self._draw(number) for number in numbers]

    def lit(self, from_utc_ns: int, until_utc_ns: int | None = None) -> list[Drawn]:
        """The codes whose light left the screen's top row at an instant, or at any time until another, in order."""
        last_utc_ns = from_utc_ns if until_utc_ns is None else until_utc_ns
        first = self._first_at_or_after(from_utc_ns - self._latency_ns)
        before = self._draw(self._neighbour(first, -1))
        later = self.drawn(self.frame_utc_ns(first), last_utc_ns - self._latency_ns + 1)
        return [code for code in (before, *later) if code.dark_utc_ns > from_utc_ns]

    def payload(self, utc_ns: int) -> str:
        """The 17 digits for an animation frame: Pi time in 0.1 ms, last digit of the refresh, first 15 mod 97."""
        refresh = ((utc_ns - self.phase_ns) * self._micro_hertz + HALF_MICRO_PERIOD) // MICRO_PERIOD
        digits = f"{(utc_ns + self.to_pi_ns) // TICK_NS:014d}{refresh % 10}"
        return f"{digits}{int(digits) % CHECK_MODULUS:02d}"

    def frame_utc_ns(self, refresh: int) -> int:
        """When the animation frame of a refresh begins; exact, however large the number."""
        return self.phase_ns + refresh * MICRO_PERIOD // self._micro_hertz

    def is_skipped(self, refresh: int) -> bool:
        """Whether the page missed a refresh; the same answer each time."""
        mixed = (refresh + 1) * _ODD % _WORD
        mixed = (mixed ^ (mixed >> 29)) * _ODD % _WORD
        return mixed >> 11 < self.skip_share * (_WORD >> 11)

    def _refreshes(self, from_utc_ns: int, until_utc_ns: int) -> range:
        return range(self._first_at_or_after(from_utc_ns), self._first_at_or_after(until_utc_ns))

    def _first_at_or_after(self, utc_ns: int) -> int:
        number = (utc_ns - self.phase_ns) * self._micro_hertz // MICRO_PERIOD
        while self.frame_utc_ns(number) < utc_ns:
            number += 1
        return number

    def _neighbour(self, refresh: int, step: int) -> int:
        refresh += step
        while self.is_skipped(refresh):
            refresh += step
        return refresh

    def _draw(self, refresh: int) -> Drawn:
        utc_ns = self.frame_utc_ns(refresh)
        dark_ns = self.frame_utc_ns(self._neighbour(refresh, 1)) + self._latency_ns
        return Drawn(refresh, utc_ns, self.payload(utc_ns), utc_ns + self._latency_ns, dark_ns)

    @property
    def _micro_hertz(self) -> int:
        return round(self.refresh_hz * 1e6)

    @property
    def _latency_ns(self) -> int:
        return round(self.latency_ms * MILLISECOND_NS)


def draw_modules(payload: str) -> npt.NDArray[np.uint8]:
    """The code as 21 x 21 modules, 1 is dark."""
    code = segno.make_qr(payload, error="h", version=1, mode="numeric", mask=MASK, boost_error=False)
    return np.array(code.matrix, dtype=np.uint8)
