"""An RTK receiver like the EOS Arrow 100+: NMEA at the pace of a serial line, on a pseudo terminal."""

import argparse
import errno
import json
import math
import os
import random
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from simulator.ending import Ending
from simulator.sentences import KINDS, Epoch, write
from simulator.world import Pose, Street, World

SECOND_NS = 1_000_000_000
RATES_HZ = (1, 2, 4, 5, 8, 10, 20)  # what divides a second into whole milliseconds
DEFAULT_RATE_HZ = 10
DEFAULT_SENTENCES = "GGA,RMC,GST"
DEFAULT_BAUD = 115_200
DEFAULT_LATENCY_MS = 4.0
BITS_A_BYTE = 10  # start bit, eight bits, stop bit
PACKET_INTERVAL_S = 0.001  # a full-speed USB device is polled once a millisecond
MEAN_JITTER_MS = 1.0
SENDER_MEMORY_S = 1.0  # a KiB at 9600 baud
STALL_SHARE, STALL_MS = 0.004, 30.0
EQUATOR_RADIUS_M, POLE_RADIUS_M = 6_378_137.0, 6_356_752.314  # WGS 84

NOISE_MEMORY_S = 20.0  # multipath changes over tens of seconds
VELOCITY_NOISE_MPS = 0.015
HDOP, SATELLITES, SATELLITES_SPREAD = 0.6, 20, 3
STATION = "0123"

USUAL_BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115_200, 230_400, 460_800)
SPEEDS = MappingProxyType({getattr(termios, f"B{baud}"): baud for baud in USUAL_BAUDS})

FIX_HEADER = "utc_ns,latitude,longitude,altitude_m,speed_mps,heading_deg,said_utc_ns,said_latitude,said_longitude\n"
DAY_NS = 86_400 * SECOND_NS
ROLLOVER_NS = 1024 * 7 * DAY_NS
LEAP_NS = 1_798_761_600 * SECOND_NS  # 2027-01-01: the leap second is the one before it


@dataclass(frozen=True, slots=True)
class Quality:
    """One sigma of the position on each horizontal axis and in height, for one value of GGA's quality field."""

    number: int
    sigma_m: float
    sigma_altitude_m: float


FIXED = Quality(4, 0.007, 0.015)
FLOAT = Quality(5, 0.25, 0.40)
NONE = Quality(0, 0.0, 0.0)

# name -> (value when none is given, meaning)
FAULTS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "no_fix": (1.0, "no position; the time goes on"),
        "no_time": (1.0, "no position and no time, as after switching on"),
        "float": (1.0, "RTK float: 0.25 m on each axis, quality 5"),
        "silent": (1.0, "the port is there, nothing comes"),
        "uart": (1.0, "speeds count: a reader at another one than --baud gets rubbish"),
        "unplug": (5.0, "cable out for so many seconds, then a new port under the same name"),
        "checksum": (0.05, "share of the sentences with one damaged character"),
        "noise": (0.05, "share of the sentences with bytes of rubbish before them"),
        "cut": (0.05, "share of the sentences that end too early, without their line end"),
        "order": (1.0, "share of the epochs with their sentences in any order"),
        "jump": (3.0, "all positions so many metres further north"),
        "replug": (1.0, "as unplug, but it comes back as another device"),
        "midnight": (2.0, "its clock is set so that midnight comes in so many seconds"),
        "leap": (2.0, "the same with a leap second before that midnight, on 31 December"),
        "rollover": (1.0, "its date is 1024 weeks too early"),
        "back": (2.0, "its clock goes back by so many seconds"),
    }
)


class FaultError(ValueError):
    """No such fault, or not a number."""


def parse_fault(text: str) -> tuple[str, float]:
    """`NAME` or `NAME=VALUE` as name and value. Raises FaultError in one clear line."""
    name, equals, value = text.partition("=")
    if name not in FAULTS:
        raise FaultError(f"unknown fault {name!r}; the receiver knows {', '.join(FAULTS)}")
    try:
        number = float(value) if equals else FAULTS[name][0]
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise FaultError(f"fault {name} has the value {value!r}; it takes a number from 0 on ({FAULTS[name][1]})")
    return name, number


def parse_sentences(text: str) -> tuple[tuple[str, int | None], ...]:
    """`GGA,RMC,ZDA@1` as kinds with the rate of those that do not come with each epoch. Raises ValueError."""
    wanted = []
    for part in text.upper().split(","):
        kind, at, rate = part.strip().partition("@")
        if kind not in KINDS:
            raise ValueError(f"unknown sentence {kind!r}; there are {', '.join(KINDS)}")
        if at and rate not in map(str, RATES_HZ):
            raise ValueError(f"{part}: a sentence's own rate is one of {', '.join(map(str, RATES_HZ))} Hz")
        wanted.append((kind, int(rate) if at else None))
    return tuple(wanted)


class Port:
    """A pseudo terminal in raw mode under a fixed name; what nobody reads is lost, as on a real line.

    Raises FileExistsError when `link` is something else than an old link.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master: int | None = None
        if link.exists() and not link.is_symlink():
            raise FileExistsError(f"{link} is there already and is not a link")

    def plug(self) -> None:
        """Make the device and its link."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(os.ttyname(slave))
        fresh.replace(self.link)
        # Only readers hold the other end, so that the master sees whether there is one.
        os.close(slave)
        self._master = master

    def plug_elsewhere(self) -> None:
        """The same link to a device of another number than the last one."""
        placeholder = os.openpty()  # has the number that the last one left
        self.plug()
        for number in placeholder:
            os.close(number)

    def unplug(self) -> None:
        """Take the device away; whoever reads it gets an error."""
        with suppress(FileNotFoundError):
            self.link.unlink()
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def send(self, data: bytes) -> None:
        """Hand over some bytes without ever waiting."""
        if self._master is None or not self.is_read:
            return
        try:
            os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise

    @property
    def reader_baud(self) -> int | None:
        """The speed the reader has set, None for an unusual one."""
        return None if self._master is None else SPEEDS.get(termios.tcgetattr(self._master)[5])

    @property
    def is_read(self) -> bool:
        """Whether somebody has the device open; swallows what readers write to it."""
        if self._master is None:
            return False
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        for _, event in poll.poll(0):
            if event & select.POLLIN:
                with suppress(OSError):
                    os.read(self._master, 4096)
            if event & select.POLLHUP:
                return False
        return True


class _Solution:
    """What the receiver believes, from the truth and noise that changes slowly (first-order Gauss-Markov)."""

    def __init__(self, rate_hz: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._memory = math.exp(-1 / (rate_hz * NOISE_MEMORY_S))
        self._east, self._north, self._up, self._sky = (self._random.gauss() for _ in range(4))

    def believe(self, utc_ns: int, pose: Pose, quality: Quality, timeless: bool) -> Epoch:
        """The epoch at `utc_ns`; to be called once for each, in order."""
        self._wander()
        latitude, longitude = _moved(
            pose.latitude, pose.longitude, self._east * quality.sigma_m, self._north * quality.sigma_m
        )
        speed_mps, course_deg = self._velocity(pose)
        spread = max(-1.0, min(1.0, self._sky / 2))
        return Epoch(
            utc_ns=utc_ns,
            latitude=latitude,
            longitude=longitude,
            altitude_m=pose.altitude_m + self._up * quality.sigma_altitude_m,
            quality=quality.number,
            satellites=SATELLITES + round(SATELLITES_SPREAD * spread),
            hdop=HDOP,
            sigma_m=quality.sigma_m,
            sigma_altitude_m=quality.sigma_altitude_m,
            speed_mps=speed_mps,
            course_deg=course_deg,
            heading_deg=pose.heading_deg + self._random.gauss(0, 0.2),
            age_s=0.6 + utc_ns % SECOND_NS / SECOND_NS,  # corrections come each second and are 0.6 s old
            station=STATION,
            timeless=timeless,
        )

    def _wander(self) -> None:
        fresh = math.sqrt(1 - self._memory**2)
        self._east, self._north, self._up, self._sky = (
            self._memory * value + fresh * self._random.gauss()
            for value in (self._east, self._north, self._up, self._sky)
        )

    def _velocity(self, pose: Pose) -> tuple[float, float]:
        heading = math.radians(pose.heading_deg)
        east = pose.speed_mps * math.sin(heading) + self._random.gauss(0, VELOCITY_NOISE_MPS)
        north = pose.speed_mps * math.cos(heading) + self._random.gauss(0, VELOCITY_NOISE_MPS)
        return math.hypot(east, north), math.degrees(math.atan2(east, north)) % 360


def _moved(from_latitude: float, from_longitude: float, east_m: float, north_m: float) -> tuple[float, float]:
    """Latitude and longitude a few metres away; a sphere would do at this distance, the radii only set the scale."""
    latitude = math.radians(from_latitude)
    across = EQUATOR_RADIUS_M**2 / math.hypot(EQUATOR_RADIUS_M * math.cos(latitude), POLE_RADIUS_M * math.sin(latitude))
    along = across**3 * POLE_RADIUS_M**2 / EQUATOR_RADIUS_M**4
    return (
        from_latitude + math.degrees(north_m / along),
        from_longitude + math.degrees(east_m / (across * math.cos(latitude))),
    )


class Receiver:
    """The receiver: a thread that writes each epoch to the port at its time, and its truth to `truth`/fixes.csv.

    `faults` may change while it runs, by `set_fault` and `clear_fault`. Raises ValueError for a rate that does not
    divide a second and FileExistsError when `link` is taken.
    """

    def __init__(
        self,
        link: Path,
        world: World,
        street: Street,
        *,
        rate_hz: int = DEFAULT_RATE_HZ,
        sentences: str = DEFAULT_SENTENCES,
        talker: str = "GP",
        baud: int = DEFAULT_BAUD,
        latency_ms: float = DEFAULT_LATENCY_MS,
        truth: Path | None = None,
        seed: int = 1,
    ) -> None:
        if rate_hz not in RATES_HZ:
            raise ValueError(f"{rate_hz} Hz is not one of the rates {', '.join(map(str, RATES_HZ))}")
        self._port = Port(link)
        self._world, self._street = world, street
        self._sentences, self._talker, self._baud = parse_sentences(sentences), talker, baud
        self._period_ns = SECOND_NS // rate_hz
        self._latency_ms = latency_ms
        self._solution = _Solution(rate_hz, seed)
        self._random = random.Random(seed)
        self._truth = truth
        self._faults: dict[str, float] = {}
        self._shifts_ns: dict[str, int] = {}  # what faults add to the receiver's clock
        self._plugged_s = 0.0  # what was to be sent while the cable was out is lost
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Make the port and begin with the next epoch; the link is there on return (unless it is unplugged)."""
        if "unplug" not in self._faults:
            self._port.plug()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the link."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._port.unplug()

    def set_fault(self, name: str, value: float | None = None) -> None:
        """Switch a fault on (off by 0); without a value it has its usual one. Raises FaultError for an unknown name."""
        name, usual = parse_fault(name)
        self._faults[name] = usual if value is None else value
        if not self._faults[name]:
            self.clear_fault(name)
        elif name in ("midnight", "leap", "rollover", "back"):
            self._shifts_ns[name] = self._shift_ns(name, round(self._faults[name] * SECOND_NS))

    def clear_fault(self, name: str) -> None:
        """Switch a fault off; nothing happens when it is not on."""
        self._shifts_ns.pop(name, None)
        self._faults.pop(name, None)

    @property
    def faults(self) -> Mapping[str, float]:
        """The faults that are on."""
        return dict(self._faults)

    def _run(self) -> None:
        utc_ns = (self._world.utc_ns() // self._period_ns + 1) * self._period_ns
        path = os.devnull if self._truth is None else self._truth / "fixes.csv"
        with Path(path).open("w", encoding="ascii", buffering=1) as truth:
            truth.write(FIX_HEADER)
            while not self._stopping.is_set():
                pose = self._street.at(utc_ns)
                epoch = self._believe(utc_ns, pose)
                truth.write(
                    f"{utc_ns},{pose.latitude:.10f},{pose.longitude:.10f},{pose.altitude_m:.4f},"
                    f"{pose.speed_mps:.4f},{pose.heading_deg % 360:.4f},"
                    f"{epoch.utc_ns},{epoch.latitude:.10f},{epoch.longitude:.10f}\n"
                )
                self._emit(utc_ns, epoch)
                utc_ns += self._period_ns

    def _shift_ns(self, name: str, value_ns: int) -> int:
        if name == "rollover":
            return -ROLLOVER_NS
        if name == "back":
            return -(value_ns // self._period_ns * self._period_ns)
        soon_ns = (self._world.utc_ns() + value_ns) // self._period_ns * self._period_ns
        return (LEAP_NS if name == "leap" else (soon_ns // DAY_NS + 1) * DAY_NS) - soon_ns

    def _believe(self, utc_ns: int, pose: Pose) -> Epoch:
        """The solution, with what faults do to its place and to the receiver's clock."""
        epoch = self._solution.believe(utc_ns, pose, self._quality(), "no_time" in self._faults)
        said_ns = utc_ns + sum(self._shifts_ns.values())
        leap = "leap" in self._shifts_ns and LEAP_NS <= said_ns < LEAP_NS + SECOND_NS
        if "leap" in self._shifts_ns and said_ns >= LEAP_NS + SECOND_NS:
            said_ns -= SECOND_NS
        latitude, longitude = _moved(epoch.latitude, epoch.longitude, 0.0, self._faults.get("jump", 0.0))
        return replace(epoch, utc_ns=said_ns, leap=leap, latitude=latitude, longitude=longitude)

    def _emit(self, utc_ns: int, epoch: Epoch) -> None:
        due_s = (self._world.monotonic_ns(utc_ns) + round(self._delay_ms() * 1e6)) / SECOND_NS
        if "unplug" in self._faults:
            self._stay_unplugged(self._faults.pop("unplug"), self._port.plug)
        if "replug" in self._faults:
            self._stay_unplugged(self._faults.pop("replug"), self._port.plug_elsewhere)
        late_s = time.monotonic() - due_s
        # A line that is too slow for its sentences fills the sender's memory; then whole epochs are lost.
        if late_s < SENDER_MEMORY_S and due_s > self._plugged_s:
            self._stopping.wait(max(0.0, -late_s))
            self._send(self._bytes(epoch))

    def _quality(self) -> Quality:
        if "no_fix" in self._faults or "no_time" in self._faults:
            return NONE
        return FLOAT if "float" in self._faults else FIXED

    def _delay_ms(self) -> float:
        stall = STALL_MS if self._random.random() < STALL_SHARE else 0.0
        return self._latency_ms + self._random.expovariate(1 / MEAN_JITTER_MS) + stall

    def _stay_unplugged(self, seconds: float, plug: Callable[[], None]) -> None:
        self._port.unplug()
        if not self._stopping.wait(seconds):
            plug()
        self._plugged_s = time.monotonic()

    def _bytes(self, epoch: Epoch) -> bytes:
        if "silent" in self._faults:
            return b""
        due = [kind for kind, rate in self._sentences if rate is None or epoch.utc_ns % (SECOND_NS // rate) == 0]
        if self._random.random() < self._faults.get("order", 0.0):
            self._random.shuffle(due)
        return b"".join(self._spoilt(text.encode()) for kind in due for text in write(kind, epoch, self._talker))

    def _spoilt(self, sentence: bytes) -> bytes:
        if self._random.random() < self._faults.get("checksum", 0.0):
            # Digit for digit: what the line makes of it still looks like a sentence.
            at = self._random.choice([i for i, byte in enumerate(sentence) if 48 <= byte <= 57])
            sentence = sentence[:at] + bytes([48 + (sentence[at] - 47) % 10]) + sentence[at + 1 :]
        if self._random.random() < self._faults.get("noise", 0.0):
            sentence = self._random.randbytes(self._random.randint(1, 40)) + sentence
        if self._random.random() < self._faults.get("cut", 0.0):
            sentence = sentence[: self._random.randrange(len(sentence) - 2)]
        return sentence

    def _send(self, data: bytes) -> None:
        """Write at the line's pace: after t seconds the reader has what t seconds can carry, and the first byte."""
        bytes_a_second = self._baud / BITS_A_BYTE
        begun, sent = time.monotonic(), 0
        while sent < len(data) and not self._stopping.is_set():
            carried = 1 + int((time.monotonic() - begun) * bytes_a_second)
            self._port.send(self._heard(data[sent:carried]))
            sent = min(carried, len(data))
            if sent < len(data):
                time.sleep(max(PACKET_INTERVAL_S, 1 / bytes_a_second))

    def _heard(self, data: bytes) -> bytes:
        if "uart" not in self._faults or self._port.reader_baud == self._baud:
            return data
        return self._random.randbytes(round(len(data) * (self._port.reader_baud or self._baud) / self._baud))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator receiver",
        description="A simulated RTK receiver that drives a street and sends NMEA on a pseudo terminal.",
        epilog="faults: " + "; ".join(f"{name}={usual:g}: {meaning}" for name, (usual, meaning) in FAULTS.items()),
    )
    parser.add_argument("--link", type=Path, required=True, help="name under which the port can be opened")
    parser.add_argument("--rate", type=int, default=DEFAULT_RATE_HZ, metavar="HZ", help="epochs a second (%(default)s)")
    parser.add_argument("--sentences", default=DEFAULT_SENTENCES, help="kinds, a rate after @: GGA,RMC,GST,GSV@1")
    parser.add_argument("--talker", choices=("GP", "GN"), default="GP")
    parser.add_argument("--baud", type=int, default=DEFAULT_BAUD, help="pace of the line (%(default)s)")
    parser.add_argument("--latency-ms", type=float, default=DEFAULT_LATENCY_MS, help="epoch to first byte")
    parser.add_argument("--truth", type=Path, help="folder for fixes.csv, the true positions")
    parser.add_argument("--seed", type=int, default=1, help="another street and other noise")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[=VALUE]", help="see below")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; one JSON line on stdout says that the port is there."""
    options = _parser().parse_args(argv)
    try:
        receiver = _build(options)
    except (ValueError, OSError) as error:
        print(f"receiver: {error}", file=sys.stderr)
        return 2
    # Before the ready line: a signal that comes at once must not be lost.
    ending = Ending()
    with receiver:
        ready = {"receiver": str(options.link), "rate_hz": options.rate, "sentences": options.sentences}
        print(json.dumps(ready | {"faults": receiver.faults}), flush=True)
        ending.wait()
    return 0


def _build(options: argparse.Namespace) -> Receiver:
    now_ns = time.time_ns()
    world = World(epoch_utc_ns=now_ns, epoch_monotonic_ns=time.monotonic_ns(), host_rate_ppm=0.0)
    if options.truth is not None:
        options.truth.mkdir(parents=True, exist_ok=True)
    receiver = Receiver(
        options.link,
        world,
        Street(seed=options.seed, start_utc_ns=now_ns),
        rate_hz=options.rate,
        sentences=options.sentences,
        talker=options.talker,
        baud=options.baud,
        latency_ms=options.latency_ms,
        truth=options.truth,
        seed=options.seed,
    )
    for text in options.fault:
        receiver.set_fault(*parse_fault(text))
    return receiver
