"""Bytes of a GNSS receiver -> checked NMEA 0183 sentences -> one fix for each epoch."""

from dataclasses import dataclass, field, fields


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
    the burst by CLOCK_MONOTONIC and CLOCK_REALTIME.
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
