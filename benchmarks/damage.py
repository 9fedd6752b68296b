"""A million damaged sentences: exceptions, and positions that the receiver never said, in the rows and in the track.

A drive of GGA, RMC and GST as an Arrow sends them (8 decimals, both positions alike), 10 Hz, 55 km/h. Damage is what
lines and buffers do: bytes put in, taken out, doubled, cut, changed, bits turned; then, apart, two digits of one
sentence swapped, which no checksum sees. `gga` sends GGA alone with RMC once a second: little there to compare with.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

from rig.errors import NoPositionError
from rig.gnss.fix import Fix, csv_line
from rig.gnss.nmea import read_log
from rig.gnss.positions import Track

EPOCHS = 200
NORTH_PER_EPOCH = 81_000  # 1e-8 minutes: 1.5 m, 54 km/h
EAST_PER_EPOCH = 23_000
Place = tuple[int, float, float]
Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True)
class Result:
    """Rows with a position nobody sent, those of them still in the track, and how far off the furthest is."""

    sentences: int
    wrong_rows: int
    wrong_in_track: int
    furthest_m: float


def sentence(body: str) -> bytes:
    """With `$`, checksum and line end."""
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n".encode()


def damage(whole: bytes, luck: random.Random) -> bytes:
    """One sentence after the kind of accident that lines and buffers have."""
    kind = luck.randrange(6)
    at, until = sorted((luck.randrange(len(whole)), luck.randrange(len(whole))))
    if kind == 0:
        return whole[:at] + luck.randbytes(luck.randint(0, 9)) + whole[at:]
    if kind == 1:
        return whole[:at] + whole[until:]
    if kind == 2:
        return whole[:until] + whole[at:]
    if kind == 3:
        return whole[:at]
    changed = bytearray(whole)
    for _ in range(luck.randint(1, 4)):
        spot = luck.randrange(len(whole))
        changed[spot] = luck.choice(b"0123456789.,NSEWAV*$") if kind == 4 else changed[spot] ^ 1 << luck.randrange(8)
    return bytes(changed)


def swap(whole: bytes, luck: random.Random) -> bytes:
    """Two digits change places: the checksum stays right."""
    digits = [i for i, byte in enumerate(whole[: whole.index(b"*")]) if i > 6 and 48 <= byte <= 57]
    one, other = luck.sample(digits, 2)
    changed = bytearray(whole)
    changed[one], changed[other] = changed[other], changed[one]
    return bytes(changed)


def drive(luck: random.Random, kinds: str) -> list[bytes]:
    """20 s, one sentence each item."""
    first, lines = luck.randrange(30_000), []
    for number in range(first, first + EPOCHS):
        clock = f"{12 + number // 36_000:02}{number // 600 % 60:02}{number // 10 % 60:02}.{number % 10}0"
        minutes = [10 * 10**8 + 11_129_267 + NORTH_PER_EPOCH * (number - first), 116 * 10**8 + EAST_PER_EPOCH * number]
        north, east = f"47{minutes[0] // 10**8:02}.{minutes[0] % 10**8:08}", f"00116.{minutes[1] % 10**8:08}"
        place = f"{north},N,{east},W"
        lines.append(sentence(f"GPGGA,{clock},{place},4,18,0.7,68.000,M,47.500,M,1.0,0123"))
        if kinds != "gga" or number % 10 == 0:
            lines.append(sentence(f"GPRMC,{clock},A,{place},29.60,345.20,221126,0.4,E,R"))
        if kinds != "gga":
            lines.append(sentence(f"GPGST,{clock},0.41,0.012,0.009,83.1,0.010,0.009,0.018"))
    return lines


def measure(sentences: int, share: float, how: Damage, kinds: str = "gga,rmc,gst", seed: int = 1) -> Result:
    """Damage so many sentences, `share` of all; raises whatever the parser raises."""
    luck, spoilt, rows, kept, furthest_m = random.Random(seed), 0, 0, 0, 0.0
    while spoilt < sentences:
        lines = drive(luck, kinds)
        true = {_place(fix): fix for fix in read_log(b"".join(lines))}
        undated = {((fix.utc or "")[11:], fix.latitude, fix.longitude) for fix in true.values()}  # no RMC was whole yet
        hit = [luck.random() < share for _ in lines]
        fixes = read_log(b"".join(how(line, luck) if bad else line for line, bad in zip(lines, hit, strict=True)))
        for fix in fixes:
            csv_line(fix)
        said = [
            fix for fix in fixes if fix.latitude is not None and (fix.utc, fix.latitude, fix.longitude) not in undated
        ]
        wrong = [fix for fix in said if _place(fix) not in true]
        inside = _in_track(fixes)
        left = [fix for fix in wrong if _place(fix) in inside]
        furthest_m = max([furthest_m, *(_off_m(fix, list(true.values())) for fix in left)])
        spoilt, rows, kept = spoilt + sum(hit), rows + len(wrong), kept + len(left)
    return Result(spoilt, rows, kept, furthest_m)


def _place(fix: Fix) -> Place:
    return (fix.utc_ns or 0, fix.latitude or 0.0, fix.longitude or 0.0)


def _in_track(fixes: Sequence[Fix]) -> set[Place]:
    try:
        track = Track.of_logs([fixes])
    except NoPositionError:
        return set()
    return set(zip(track.utc_ns.tolist(), track.latitude.tolist(), track.longitude.tolist(), strict=True))


def _off_m(fix: Fix, true: Sequence[Fix]) -> float:
    """How far from where the car was at that time."""
    utc_ns, latitude, longitude = _place(fix)
    near = min(true, key=lambda other: abs((other.utc_ns or 0) - utc_ns))
    begin, end = _place(true[0]), _place(true[-1])
    share = (utc_ns - near.utc_ns) / (end[0] - begin[0]) if near.utc_ns else 0.0
    north = latitude - (near.latitude or 0) - share * (end[1] - begin[1])
    east = longitude - (near.longitude or 0) - share * (end[2] - begin[2])
    return 111_195 * math.hypot(north, east * math.cos(math.radians(latitude)))


def main() -> int:
    """Print the figures; fails when the track keeps a position that was never sent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=1_000_000)
    count = parser.parse_args().sentences
    print(f"command: python -m benchmarks.damage --sentences {count}; Python {sys.version.split()[0]}")
    worse = 0
    for name, share, how, kinds, sentences in (
        ("damaged, all of them", 1.0, damage, "gga,rmc,gst", count),
        ("damaged, one in ten", 0.1, damage, "gga,rmc,gst", count // 4),
        ("damaged, one in ten, GGA alone", 0.1, damage, "gga", count // 10),
        ("two digits swapped, one in a hundred", 0.01, swap, "gga,rmc,gst", count // 200),
        ("the same, GGA alone", 0.01, swap, "gga", count // 200),
    ):
        begin = time.monotonic()
        result = measure(sentences, share, how, kinds)
        took_s = time.monotonic() - begin
        worse += result.wrong_in_track if kinds != "gga" else 0
        print(
            f"{name:38} {result.sentences:8} sentences, 0 exceptions, {result.wrong_rows:5} rows never sent, "
            f"{result.wrong_in_track:4} of them in the track, at most {result.furthest_m:.2f} m off ({took_s:.0f} s)"
        )
    return int(worse > 0)


if __name__ == "__main__":
    raise SystemExit(main())
