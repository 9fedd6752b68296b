"""One epoch of a receiver: the columns of positions.csv, what its quality is and how far it may be off."""

import math
from dataclasses import dataclass, fields
from operator import attrgetter

QUALITY_OF_MODE = {"A": 1, "D": 2, "P": 3, "R": 4, "F": 5, "E": 6, "M": 7, "S": 8}
# Horizontal, one sigma at HDOP 1, by quality. Cautious sides of what makers state: RTK 1 cm + 1 ppm of the baseline,
# SBAS below 0.6 m (95 %), autonomous some metres; dead reckoning drifts.
SIGMA_M = {1: 2.5, 2: 0.5, 3: 2.5, 4: 0.02, 5: 0.25, 6: 20.0, 7: 20.0, 8: 2.5, 9: 0.5}
UNKNOWN_HDOP = 2.0
METRES_PER_DEGREE = 111_195.0  # of latitude, mean sphere: good to 0.5 %, for short distances


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
_LATITUDE = FIX_COLUMNS.index("latitude")


def csv_line(fix: Fix) -> str:
    """The row of positions.csv, with its line end."""
    cells = ["" if value is None else str(value) for value in _columns(fix)]
    if fix.latitude is not None:
        cells[_LATITUDE : _LATITUDE + 2] = f"{fix.latitude:.10f}", f"{fix.longitude:.10f}"
    cells[-1] = ";".join(fix.flags)
    return ",".join(cells) + "\n"


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
