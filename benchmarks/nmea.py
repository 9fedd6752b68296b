"""CPU of reading 20 Hz x 8 sentences from a pseudo terminal, beside readline + pynmea2 at the same work; and the join.

CPU is user and system time of the reading process as a share of one core, after its first second. Delay is from the
moment the sender writes an epoch's first byte to the time stamp that the reader gives it. `bursts` are written at once,
as over USB; `paced` come in packets of a millisecond at 230400 baud, as from a real UART. `reading` understands all and
keeps nothing; `logging` keeps each byte with its time and a row for each epoch, on the disk within a second. The peer
takes position and height of GGA, the first and the last byte of a line have one time, and it puts no epochs together.
"""

import argparse
import itertools
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Sequence
from io import FileIO
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pynmea2
import serial

from benchmarks.damage import sentence
from configs import Settings
from rig.gnss.fix import Fix
from rig.gnss.nmea import read_log
from rig.gnss.positions import Track
from rig.gnss.receiver import Receiver

RATE_HZ = 20
BAUD = 230_400
BUDGET_CORE, BUDGET_OF_PEER, BUDGET_DELAY_MS, BUDGET_JOIN_MS = 0.02, 1 / 8, 5.0, 50.0
PHOTOS, FIXES = 100_000, 1_000_000
BODIES = (
    "GPGGA,{time},4710.11129267,N,00116.04675945,W,4,22,0.6,68.178,M,47.500,M,1.0,0123",
    "GPRMC,{time},A,4710.11129267,N,00116.04675945,W,14.50,16.20,221126,0.4,E,R",
    "GPGST,{time},0.41,0.012,0.009,83.1,0.010,0.009,0.018",
    "GPVTG,16.20,T,15.80,M,14.50,N,26.85,K,R",
    "GPZDA,{time},22,11,2026,00,00",
    "GPGLL,4710.11129267,N,00116.04675945,W,{time},A,R",
    "GPGSA,A,3,01,02,03,04,05,06,07,08,09,10,11,12,1.1,0.6,0.9",
    "GPGSV,4,1,16,02,05,307,,03,21,174,29,04,12,038,23,06,07,270,06",
)
Delays = dict[str, int]


def main() -> int:
    """Print the figures; fails when one is worse than promised: CPU beside the peer's, delay, join, epochs lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    python = sys.version.split()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {python}")
    print(f"command: python -m benchmarks.nmea --seconds {seconds:g}")
    worse = False
    for paced, logging in itertools.product((False, True), repeat=2):
        share, p95_ms = _reader(_read_ours, seconds, paced, logging)
        peer_share, _ = _reader(_read_lines, seconds, paced, logging)
        print(f"        {peer_share / share:.1f} times less than the peer at the same work")
        worse |= share > BUDGET_CORE or share > BUDGET_OF_PEER * peer_share or p95_ms > BUDGET_DELAY_MS
    return int(worse | (_join() > BUDGET_JOIN_MS) | (_load() > 0))


def _reader(read: Callable[..., None], seconds: float, paced: bool, logging: bool) -> tuple[float, float]:
    spawn = multiprocessing.get_context("spawn")
    master, slave = os.openpty()
    tty.setraw(slave)
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=read, args=(theirs, os.ttyname(slave), seconds, logging))
    process.start()
    ours.recv()
    sent = _send(master, seconds + 1.5, paced)
    share, seen = ours.recv()
    process.join()
    os.close(master)
    os.close(slave)
    delays_ms = [(stamp - sent[key]) / 1e6 for key, stamp in seen.items() if key in sent]
    p50_ms, p95_ms = np.percentile(delays_ms, [50, 95])
    way, work = "paced" if paced else "bursts", "logging" if logging else "reading"
    name = "ours" if read is _read_ours else "readline + pynmea2"
    delay = f"delay p50 {p50_ms:.2f} p95 {p95_ms:.2f} ms"
    print(f"{way:7} {work} {name:18} {share * 100:5.2f} % of a core, {delay}, {len(seen)} epochs")
    return share, float(p95_ms)


def _send(master: int, seconds: float, paced: bool) -> Delays:
    """Write epochs at their times; when each began, by its time of day."""
    sent: Delays = {}
    begin = time.monotonic()
    for number in range(round(seconds * RATE_HZ)):
        second = number / RATE_HZ
        text = f"15{int(second) // 60:02}{second % 60:05.2f}"
        data = b"".join(sentence(body.format(time=text)) for body in BODIES)
        time.sleep(max(0.0, begin + second - time.monotonic()))
        sent[text] = time.monotonic_ns()
        written, epoch_begin = 0, time.monotonic()
        while written < len(data):
            carried = 1 + int((time.monotonic() - epoch_begin) * BAUD / 10) if paced else len(data)
            written += os.write(master, data[written:carried])
            if written < len(data):
                time.sleep(0.001)
    return sent


class _Noting(Receiver):
    """Remembers when each epoch came."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.seen: Delays = {}

    def _learn(self, fix: Fix) -> None:
        super()._learn(fix)
        self.seen[(fix.utc or "")[11:22].replace(":", "")] = fix.arrival_monotonic_ns or 0


def _read_ours(link: Connection, device: str, seconds: float, logging: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        receiver = _Noting(Settings(receiver_port=device, receiver_baud=BAUD))
        if logging:
            receiver.start_log(Path(folder))
        receiver.start()
        while receiver.status().state != "listening":
            time.sleep(0.01)
        link.send("ready")
        share = _share(seconds)
        receiver.stop_log()
        receiver.stop()
    link.send((share, receiver.seen))


def _share(seconds: float) -> float:
    """CPU of this process as a share of one core, while other threads of it work."""
    time.sleep(1.0)
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    time.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (time.monotonic() - begin)


def _read_lines(link: Connection, device: str, seconds: float, logging: bool) -> None:
    port = serial.Serial(device, BAUD, timeout=0.2)
    link.send("ready")
    seen: Delays = {}
    stopping = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder) / name).open("ab", 0) for name in ("raw", "times", "rows")] if logging else []
        threads = [threading.Thread(target=_follow_lines, args=(port, files, seen, stopping))]
        threads += [threading.Thread(target=_sync, args=(files, stopping))] if logging else []
        for thread in threads:
            thread.start()
        share = _share(seconds)
        stopping.set()
        for thread in threads:
            thread.join()
    link.send((share, seen))


def _follow_lines(port: serial.Serial, files: Sequence[FileIO], seen: Delays, stopping: threading.Event) -> None:
    while not stopping.is_set():
        line = port.readline()
        stamp = time.monotonic_ns()
        if not line:
            continue
        parsed = pynmea2.parse(line.decode("ascii", errors="replace"), check=True)
        if files:
            files[0].write(line)
        if parsed.sentence_type == "GGA":
            seen[parsed.data[0]] = stamp
            place = (parsed.latitude, parsed.longitude, parsed.altitude)
            if files:
                files[1].write(b"%d\n" % stamp)
                files[2].write(f"{parsed.timestamp},{place},{stamp}\n".encode())


def _sync(files: Sequence[FileIO], stopping: threading.Event) -> None:
    while not stopping.wait(1.0):
        for file in files:
            os.fdatasync(file.fileno())


def _join() -> float:
    zeros, whole = np.zeros(FIXES), np.zeros(FIXES, dtype=np.int64)
    fixes = 10**18 + np.arange(FIXES, dtype=np.int64) * 100_000_000
    track = Track(fixes, zeros, zeros, zeros, whole, whole, zeros, zeros, zeros, zeros, whole)
    photos = np.sort(np.random.default_rng(1).integers(fixes[0], fixes[-1], PHOTOS))
    left, right = pd.DataFrame({"t": photos}), pd.DataFrame({"t": fixes, "row": np.arange(FIXES)})
    ours_ms = _best_ms(lambda: track.nearest(photos, 1.0))
    print(
        f"join    {PHOTOS} photos, {FIXES} fixes: nearest {ours_ms:.1f} ms, Hermite "
        f"{_best_ms(lambda: track.interpolate(photos, 1.0)):.1f} ms; pandas merge_asof "
        f"{_best_ms(lambda: pd.merge_asof(left, right, on='t', direction='nearest', tolerance=10**9)):.1f} ms"
    )
    return ours_ms


def _load() -> int:
    """Parse epochs as fast as possible; the number of those lost."""
    epochs = 10_000
    times = [f"{15 + i // 36000:02}{i // 600 % 60:02}{i % 600 / 10:05.2f}" for i in range(epochs)]
    data = b"".join(sentence(body.format(time=text)) for text in times for body in BODIES)
    lines = data.decode().splitlines()
    ours_ms = _best_ms(lambda: read_log(data), 2)
    peer_ms = _best_ms(lambda: _parse_all(lines), 2)
    print(
        f"parse   {len(lines)} sentences: ours, epochs put together, {len(lines) / ours_ms:.0f} a ms; "
        f"pynmea2, position of GGA read, {len(lines) / peer_ms:.0f} a ms"
    )
    return epochs - len(read_log(data))


def _parse_all(lines: Sequence[str]) -> None:
    for line in lines:
        parsed = pynmea2.parse(line, check=True)
        if parsed.sentence_type == "GGA":
            _ = (parsed.latitude, parsed.longitude, parsed.altitude)


def _best_ms(work: Callable[[], object], times: int = 5) -> float:
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return min(took) * 1000


if __name__ == "__main__":
    raise SystemExit(main())
