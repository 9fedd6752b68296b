"""What a receiver says of one epoch, as NMEA 0183 text in the number formats of an EOS Arrow 100+."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from simulator.world import GEOID_SEPARATION_M

KNOTS_PER_MPS = 1 / 0.514444
KMH_PER_MPS = 3.6
PDOP_PER_HDOP, VDOP_PER_HDOP = 1.9, 1.6
CENTISECOND_NS = 10_000_000
SATELLITES_A_GSA = 12
SATELLITES_A_GSV = 4
MODES = MappingProxyType({0: "N", 1: "A", 2: "D", 4: "R", 5: "F"})  # GGA quality -> letter of RMC, VTG, GLL

# A sky for GSA and GSV: (talker of GSV, satellite numbers in the order they come into use)
SKY = (
    ("GP", (2, 5, 7, 13, 15, 18, 23, 29, 30)),
    ("GL", (65, 66, 72, 74, 75, 81, 82, 88)),
    ("GA", (3, 5, 8, 13, 15, 24, 31)),
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What the receiver believes at one instant; a quality of 0 has no position, `timeless` not even the time."""

    utc_ns: int
    latitude: float
    longitude: float
    altitude_m: float  # above the geoid
    quality: int
    satellites: int
    hdop: float
    sigma_m: float  # of latitude and of longitude
    sigma_altitude_m: float
    speed_mps: float
    course_deg: float
    heading_deg: float
    age_s: float
    station: str
    timeless: bool = False
    leap: bool = False  # within the second 23:59:60; `utc_ns` is then that of the second after it


def write(kind: str, epoch: Epoch, talker: str) -> list[str]:
    """The sentences of one kind for an epoch, with `$`, checksum and CR LF. Raises KeyError for an unknown kind."""
    if kind == "GSV":
        return [frame(body) for body in _gsv(epoch)]
    if kind == "GSA":
        return [frame(f"{talker}{body}") for body in _gsa(epoch, talker)]
    return [frame(f"{talker}{kind},{_WRITERS[kind](epoch)}")]


def frame(body: str) -> str:
    """`body` between `$` and its checksum (the exclusive or of its characters)."""
    checksum = 0
    for character in body.encode("ascii"):
        checksum ^= character
    return f"${body}*{checksum:02X}\r\n"


def _date(epoch: Epoch) -> datetime:
    return datetime.fromtimestamp(epoch.utc_ns // 1_000_000_000 - epoch.leap, UTC)


def _time(epoch: Epoch) -> str:
    if epoch.timeless:
        return ""
    below_second = epoch.utc_ns % 1_000_000_000
    second = "235960" if epoch.leap else f"{_date(epoch):%H%M%S}"
    if below_second % CENTISECOND_NS:  # 8 Hz
        return f"{second}.{below_second // 1_000_000:03d}"
    return f"{second}.{below_second // CENTISECOND_NS:02d}"


def _angle(degrees: float, digits: int, positive: str, negative: str) -> str:
    # In whole 1e-8 minutes, so that rounding never gives 60.00000000 minutes.
    units = round(abs(degrees) * 60 * 10**8)
    whole, rest = divmod(units, 60 * 10**8)
    return f"{whole:0{digits}d}{rest // 10**8:02d}.{rest % 10**8:08d},{positive if degrees >= 0 else negative}"


def _place(epoch: Epoch) -> str:
    if epoch.quality == 0:
        return ",,,"
    return f"{_angle(epoch.latitude, 2, 'N', 'S')},{_angle(epoch.longitude, 3, 'E', 'W')}"


def _height(epoch: Epoch) -> str:
    return f"{epoch.altitude_m:.3f},M,{GEOID_SEPARATION_M:.3f},M"


def _gga(epoch: Epoch) -> str:
    if epoch.quality == 0:
        return f"{_time(epoch)},,,,,0,,,,M,,M,,"
    differential = f"{epoch.age_s:.1f},{epoch.station}" if epoch.quality > 1 else ","
    return (
        f"{_time(epoch)},{_place(epoch)},{epoch.quality},{epoch.satellites:02d},{epoch.hdop:.1f},"
        f"{_height(epoch)},{differential}"
    )


def _gns(epoch: Epoch) -> str:
    mode = MODES[epoch.quality] * 3
    if epoch.quality == 0:
        return f"{_time(epoch)},,,,,{mode},00,,,,,"
    return (
        f"{_time(epoch)},{_place(epoch)},{mode},{epoch.satellites:02d},{epoch.hdop:.1f},"
        f"{epoch.altitude_m:.3f},{GEOID_SEPARATION_M:.3f},{epoch.age_s:.1f},{epoch.station}"
    )


def _motion(epoch: Epoch) -> tuple[str, str, str]:
    if epoch.quality == 0:
        return "", "", ""
    return (
        f"{epoch.speed_mps * KNOTS_PER_MPS:.2f}",
        f"{epoch.speed_mps * KMH_PER_MPS:.2f}",
        f"{epoch.course_deg % 360:.2f}",
    )


def _rmc(epoch: Epoch) -> str:
    knots, _, course = _motion(epoch)
    state = "A" if epoch.quality else "V"
    day = "" if epoch.timeless else f"{_date(epoch):%d%m%y}"
    return f"{_time(epoch)},{state},{_place(epoch)},{knots},{course},{day},,,{MODES[epoch.quality]}"


def _vtg(epoch: Epoch) -> str:
    knots, kmh, course = _motion(epoch)
    return f"{course},T,,M,{knots},N,{kmh},K,{MODES[epoch.quality]}"


def _gll(epoch: Epoch) -> str:
    return f"{_place(epoch)},{_time(epoch)},{'A' if epoch.quality else 'V'},{MODES[epoch.quality]}"


def _gst(epoch: Epoch) -> str:
    if epoch.quality == 0:
        return f"{_time(epoch)},,,,,,,"
    sigma = f"{epoch.sigma_m:.3f}"
    return f"{_time(epoch)},0.41,{sigma},{sigma},0.0,{sigma},{sigma},{epoch.sigma_altitude_m:.3f}"


def _zda(epoch: Epoch) -> str:
    return ",,,,,," if epoch.timeless else f"{_time(epoch)},{_date(epoch):%d,%m,%Y},00,00"


def _hdt(epoch: Epoch) -> str:
    return f"{epoch.heading_deg % 360:.2f},T" if epoch.quality else ",T"


def _used(epoch: Epoch) -> list[tuple[str, list[int]]]:
    """Satellites of each system, dealt in turn until the epoch's number is reached."""
    count = epoch.satellites if epoch.quality else 0
    ranked = sorted((rank, system, number) for system, (_, sky) in enumerate(SKY) for rank, number in enumerate(sky))
    return [(talker, [n for _, s, n in ranked[:count] if s == index]) for index, (talker, _) in enumerate(SKY)]


def _gsa(epoch: Epoch, talker: str) -> list[str]:
    groups = [numbers for _, numbers in _used(epoch)]
    if talker != "GN":
        groups = [[n for numbers in groups for n in numbers][:SATELLITES_A_GSA]]
    hdop = epoch.hdop
    dops = f"{hdop * PDOP_PER_HDOP:.1f},{hdop:.1f},{hdop * VDOP_PER_HDOP:.1f}" if epoch.quality else ",,"
    dimension = "3" if epoch.quality else "1"
    return [
        f"GSA,A,{dimension},{','.join([f'{n:02d}' for n in numbers] + [''] * (SATELLITES_A_GSA - len(numbers)))},{dops}"
        for numbers in groups
    ]


def _gsv(epoch: Epoch) -> list[str]:
    bodies = []
    for talker, numbers in _used(epoch):
        pages = max(1, math.ceil(len(numbers) / SATELLITES_A_GSV))
        for page in range(pages):
            shown = numbers[page * SATELLITES_A_GSV : (page + 1) * SATELLITES_A_GSV]
            each = "".join(f",{n:02d},{10 + n * 13 % 75:02d},{n * 47 % 360:03d},{38 + n % 12}" for n in shown)
            bodies.append(f"{talker}GSV,{pages},{page + 1},{len(numbers):02d}{each}")
    return bodies


_WRITERS: Mapping[str, Callable[[Epoch], str]] = {
    "GGA": _gga,
    "GNS": _gns,
    "RMC": _rmc,
    "VTG": _vtg,
    "GLL": _gll,
    "GST": _gst,
    "ZDA": _zda,
    "HDT": _hdt,
}
KINDS = (*_WRITERS, "GSA", "GSV")
