"""A live stream of a camera: pictures encoded while they wait, and sent by UDP when the camera's latency is over."""

import queue
import random
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass

from simulator.camera_faults import Faults
from simulator.hero.encoder import TransportStream
from simulator.hero.sensor import Rate, Sensor, Shutter, Size

START_DELAY_S = 0.3  # from the command to the first frame
HOUR_NS = 3_600_000_000_000
LATE_NS = 5_000_000
BURST_DATAGRAMS, BURST_PAUSE_S = 8, 0.001  # a key frame leaves over some 20 ms: a full-size burst overruns receivers
PATIENCE_SHARE = 0.5  # of the latency: a busy machine then leaves frames out rather than sending all of them late
PTS_SPAN = 2**32  # of the random first time stamp; 33 bits would wrap now and then within a test


@dataclass(frozen=True, slots=True)
class Latency:
    """From mid-exposure to the datagrams; it may grow from an instant on."""

    ms: float
    growth_ms_per_h: float = 0.0
    since_utc_ns: int = 0

    def at_ns(self, utc_ns: int) -> int:
        """Of a frame that was exposed at `utc_ns`."""
        return round((self.ms + self.growth_ms_per_h * (utc_ns - self.since_utc_ns) / HOUR_NS) * 1e6)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What is streamed, and to whom."""

    name: str
    target: tuple[str, int]
    size: Size
    rate: Rate
    bit_rate: int
    latency: Latency
    codec: str
    has_audio: bool


@dataclass(slots=True)
class Counts:
    """Frames that were sent, those of them that left late, and those that there was no time to draw."""

    sent: int = 0
    late: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Unit:
    due_monotonic_ns: int
    datagrams: list[bytes]


class Streamer:
    """Two threads: one draws and encodes each frame as soon as it is exposed, the other sends it on time."""

    def __init__(self, plan: StreamPlan, sensor: Sensor, faults: Faults, dice: random.Random, counts: Counts) -> None:
        self.plan = plan
        self._sensor, self._faults, self._counts = sensor, faults, counts
        self._first_pts = dice.randrange(PTS_SPAN)
        self._dice = random.Random(dice.random())
        self._shutter = Shutter()
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=f"{plan.name} {target.__name__}", daemon=True)
            for target in (self._film, self._send)
        ]

    def start(self) -> None:
        """Begin with a frame a moment from now."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop at once: pictures still in the pipe are not sent."""
        self._shutter.close()
        for thread in self._threads:
            thread.join()

    def _film(self) -> None:
        try:
            plan = self.plan
            made = TransportStream(plan.size, plan.rate, plan.bit_rate, plan.codec, plan.has_audio)
            with closing(made) as stream:
                self._fill(stream)
        finally:
            self._units.put(None)

    def _fill(self, stream: TransportStream) -> None:
        rate, latency = self.plan.rate, self.plan.latency
        next_index = 0
        patience_s = PATIENCE_SHARE * latency.ms / 1000
        for shot in self._sensor.expose(rate, self.plan.size, self._shutter, START_DELAY_S, patience_s):
            self._counts.left_out += shot.index - next_index
            next_index = shot.index + 1
            pts = self._first_pts + shot.index * rate.ticks
            datagrams = stream.datagrams(shot.picture, pts)
            self._sensor.truth.add(shot.number, self.plan.name, pts, shot.utc_ns)
            due_ns = self._sensor.world.monotonic_ns(shot.utc_ns + latency.at_ns(shot.utc_ns))
            self._units.put(_Unit(due_ns, datagrams))

    def _send(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            while (unit := self._units.get()) is not None and self._shutter.wait_until(unit.due_monotonic_ns):
                late = time.monotonic_ns() - unit.due_monotonic_ns > LATE_NS
                self._send_unit(udp, unit.datagrams)
                self._counts.sent += 1
                self._counts.late += late

    def _send_unit(self, udp: socket.socket, datagrams: list[bytes]) -> None:
        for number, datagram in enumerate(self._damaged(datagrams) if self._faults else datagrams, start=1):
            with suppress(OSError):  # nobody listens, or the cable is out: a camera does not care
                udp.sendto(datagram, self.plan.target)
            if number % BURST_DATAGRAMS == 0:
                time.sleep(BURST_PAUSE_S)

    def _damaged(self, datagrams: list[bytes]) -> list[bytes]:
        loss, reordering = (self._faults.get(name, 0.0) for name in ("udp_loss", "udp_reordering"))
        prefix = bytes(int(self._faults.get("udp_prefix_bytes", 0)))
        sent = [prefix + datagram for datagram in datagrams if self._dice.random() >= loss]
        return overtake(sent, reordering, self._dice)


def overtake(datagrams: list[bytes], share: float, dice: random.Random) -> list[bytes]:
    """The datagrams with a share of them overtaken by the next; none is overtaken twice."""
    sent = datagrams.copy()
    first = 0
    while first < len(sent) - 1:
        if dice.random() < share:
            sent[first : first + 2] = reversed(sent[first : first + 2])
            first += 1
        first += 1
    return sent
