"""CPU of recording one 1080p30 stream sent over loopback: our receiver, PyAV remuxing it, OpenCV only grabbing it.

The stream is encoded once, then sent to each receiver in turn at the pace of its time stamps. CPU is user and system
time of the receiving process, from its first picture (or datagram) to its last, as a share of one core.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np

from rig.stream import StreamRecorder

FPS = 30
WIDTH, HEIGHT = 1920, 1080
DATAGRAM_BYTES = 7 * 188
SPREAD_S = 0.004  # how long the datagrams of a picture take, as over USB
HOST = "127.0.0.1"
UDP_OPTIONS = "?fifo_size=28672&overrun_nonfatal=1"

Schedule = list[tuple[float, bytes]]


def main() -> int:
    """Print the figures; fails when our receiver lost anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--megabits", type=float, default=7.0)
    options = parser.parse_args()
    schedule = encode(options.seconds, options.megabits)
    sent = sum(len(data) for _, data in schedule)
    python = sys.version.split()[0]
    rate = sent * 8 / options.seconds / 1e6
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {python}")
    print(f"command: python -m benchmarks.stream --seconds {options.seconds:g} --megabits {options.megabits:g}")
    print(f"stream: {WIDTH}x{HEIGHT}, {FPS} pictures/s, {rate:.1f} Mbit/s, {len(schedule)} datagrams")
    lost = 0
    for name, receiver in (("own receiver", record), ("PyAV remux", remux), ("cv2.VideoCapture.grab", grab)):
        share, note, missing = measure(receiver, schedule)
        lost += missing
        print(f"{name:24} {share * 100:5.1f} % of a core   {note}")
    return 1 if lost else 0


def encode(seconds: float, megabits: float) -> Schedule:
    """A moving street of noise as H.264 in MPEG-TS: datagrams, each with the second at which it is due."""
    sink = BytesIO()
    ends = []
    with av.open(sink, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = round(megabits * 1e6)
        stream.codec_context.time_base = Fraction(1, FPS)
        frames = chain(map(draw, range(round(seconds * FPS))), [None])
        for packet in (packet for frame in frames for packet in stream.encode(frame)):
            container.mux(packet)
            ends.append(sink.tell())
    data = sink.getvalue()
    schedule = []
    begin = 0
    for number, end in enumerate([*ends[:-1], len(data)]):
        pieces = range(begin, end - end % DATAGRAM_BYTES if end < len(data) else end, DATAGRAM_BYTES)
        for index, at in enumerate(pieces):
            schedule.append((number / FPS + SPREAD_S * index / len(pieces), data[at : at + DATAGRAM_BYTES]))
            begin = at + DATAGRAM_BYTES
    return schedule


_STRIP = np.random.default_rng(1).integers(16, 236, (HEIGHT // 4, 2048), np.uint8).repeat(4, 0).repeat(4, 1)


def draw(number: int) -> av.VideoFrame:
    """One picture of the street, moved by 12 pixels a picture."""
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    shift = number * 12 % (_STRIP.shape[1] - WIDTH)
    planes[:HEIGHT] = _STRIP[:, shift : shift + WIDTH]
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = number
    return frame


Receiver = Callable[[int, Path, float], tuple[float, str, int]]


def measure(receiver: Receiver, schedule: Schedule) -> tuple[float, str, int]:
    """Share of a core, a note and how many datagrams were lost, of one receiver in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="edencar-bench-"))
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, receiver, port, folder, schedule[-1][0]))
    process.start()
    try:
        ours.recv()
        send(schedule, port)
        share, note, lost = ours.recv()
    finally:
        process.join(10)
        process.kill()
        shutil.rmtree(folder)
    return share, note, lost


def _child(
    pipe: "multiprocessing.connection.Connection", receiver: Receiver, port: int, folder: Path, seconds: float
) -> None:
    pipe.send("ready")
    pipe.send(receiver(port, folder, seconds))


def send(schedule: Schedule, port: int) -> None:
    """Send each datagram when it is due."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        time.sleep(1.0)  # the receiver binds
        began = time.monotonic()
        for due, data in schedule:
            wait = began + due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sender.sendto(data, (HOST, port))


def record(port: int, folder: Path, seconds: float) -> tuple[float, str, int]:
    """Our receiver, through all its threads, with sync to disk."""
    recorder = StreamRecorder(folder, HOST, port)
    recorder.start()
    while not recorder.counters().datagrams:
        time.sleep(0.01)
    before = _used()
    time.sleep(max(0.0, seconds - 1.0))
    share = (_used()[0] - before[0]) / (_used()[1] - before[1])
    time.sleep(1.5)
    recorder.stop()
    counted = recorder.counters()
    note = f"{counted.pictures} pictures, {counted.lost_datagrams} datagrams lost, index and sync included"
    return share, note, counted.lost_datagrams


def remux(port: int, folder: Path, seconds: float) -> tuple[float, str, int]:
    """PyAV copying packets into another MPEG-TS file, without sync and without arrival times."""
    count = 0
    with (
        av.open(f"udp://{HOST}:{port}{UDP_OPTIONS}", timeout=(10, 3)) as source,
        av.open(str(folder / "out.ts"), "w") as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        before = _used()
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
                count += 1
            if _used()[1] - before[1] >= seconds - 2.0:
                break
        after = _used()
    return (after[0] - before[0]) / (after[1] - before[1]), f"{count} packets", 0


def grab(port: int, folder: Path, seconds: float) -> tuple[float, str, int]:
    """OpenCV's grab(), which decodes but hands nothing over."""
    capture = cv2.VideoCapture(f"udp://{HOST}:{port}{UDP_OPTIONS}", cv2.CAP_FFMPEG)
    count = 0
    before = _used()
    while capture.grab() and _used()[1] - before[1] < seconds - 3.0:
        count += 1
    after = _used()
    capture.release()
    return (after[0] - before[0]) / (after[1] - before[1]), f"{count} pictures", 0


def _used() -> tuple[float, float]:
    """Seconds of CPU of this process and of the monotonic clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, time.monotonic()


if __name__ == "__main__":
    raise SystemExit(main())
