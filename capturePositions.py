"""One GNSS receiver on a serial port: found, read, logged; the server's receiver worker and a command."""

from dataclasses import dataclass
from pathlib import Path

from rig.clock import UtcClock


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """How the receiver is now; None is what it did not say. `quality` is in words, `state` is searching, listening
    or lost, `sigma_m` is horizontal, one sigma."""

    port: str | None = None
    state: str = "searching"
    quality: str = "none"
    fix_age_s: float | None = None
    correction_age_s: float | None = None
    satellites: int | None = None
    hdop: float | None = None
    sigma_m: float | None = None
    rate_hz: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    speed_mps: float | None = None
    clock: UtcClock | None = None
    epochs_logged: int = 0
    capture: Path | None = None
    problems: tuple[str, ...] = ()
