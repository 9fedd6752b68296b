"""The clock a GoPro shows and stamps its files with: whole seconds, local time, settable, never quite right."""

from datetime import UTC, datetime, timedelta

from simulator.camera_faults import Faults

SECOND_NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rtc:
    """A clock beside the one that stamps the frames (github.com/gopro/labs/issues/1311, /58).

    Local time is held as GoPro's media list writes it: as if it were UTC, in seconds since 1970.
    """

    def __init__(self, offset_s: float, rate_ppm: float, utc_ns: int, faults: Faults) -> None:
        self.zone_min = 0
        self.is_dst = False
        self._rate_ppm = rate_ppm
        self._faults = faults
        self._set_at_ns = utc_ns
        self._local_ns = utc_ns + round(offset_s * SECOND_NS)

    def set(self, local: datetime, zone_min: int, is_dst: bool, utc_ns: int) -> None:
        """Set to a local time (its tzinfo is not looked at); a new second begins now, and it is no longer wrong."""
        self._faults.pop("clock_offset_s", None)
        self.zone_min, self.is_dst = zone_min, is_dst
        self._set_at_ns = utc_ns
        self._local_ns = round((local.replace(tzinfo=UTC) - EPOCH).total_seconds()) * SECOND_NS

    def local_ns(self, utc_ns: int) -> int:
        """What the clock counts at an instant of true UTC, in parts of a second that it does not show."""
        elapsed_ns = utc_ns - self._set_at_ns
        rate_ppm = self._rate_ppm + self._faults.get("clock_drift_ppm", 0.0)
        wrong_ns = elapsed_ns * rate_ppm * 1e-6 + self._faults.get("clock_offset_s", 0.0) * SECOND_NS
        return self._local_ns + elapsed_ns + round(wrong_ns)

    def local_s(self, utc_ns: int) -> int:
        """What the clock shows then."""
        return self.local_ns(utc_ns) // SECOND_NS

    def utc_s(self, utc_ns: int) -> int:
        """What the clock takes for UTC then (the zone has daylight saving in it: OpenGoPro issue 585)."""
        return self.local_s(utc_ns) - 60 * self.zone_min


def as_datetime(seconds: int) -> datetime:
    """Seconds since 1970 as a date; negative ones, too."""
    return EPOCH + timedelta(seconds=seconds)
