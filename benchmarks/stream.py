"""Streams of 1080p30 recorded at once, and a picture's way to whoever watches live, beside OpenCV, PyAV and ffmpeg.

One stream is encoded once and sent over loopback at the pace of its time stamps, each picture bearing its number. Part
one: four recorders, a process each, as in a car: datagrams lost, share of a core, memory, arrival stamps against the
time of sending. Part two: the delay from a picture's last datagram until its pixels are in the program, for readers
that keep pace and for such as need 50 ms more for each picture; ours follows the files of a
recorder (rig.footage.tail).
"""

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from configs import Settings
from rig.footage.decoding import Decoder
from rig.footage.stream import StreamRecorder
from rig.footage.tail import Line, Tail

FPS = 30
WIDTH, HEIGHT = 1920, 1080
DATAGRAM_BYTES = 7 * 188
SPREAD_S = 0.004  # how long the datagrams of a picture take, as over USB
HOST = "127.0.0.1"
UDP_OPTIONS = "?fifo_size=28672&overrun_nonfatal=1"
BLOCK, BITS = 32, 16  # pixels, and how many of the picture's number are drawn
SLOW_S = 0.05
LATE_NS = 300_000_000  # then ours goes on with the newest key frame
LOOP_S = 20  # of encoded stream, sent again and again


class Due(NamedTuple):
    """A datagram, the second at which it is sent, and the picture that it begins or ends (-1: neither)."""

    second: float
    data: bytes
    begins: int
    ends: int


def main() -> int:
    """Print the figures; fails when a recorder lost anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of recording")
    parser.add_argument("--live-seconds", type=float, default=15.0, help=f"of each reader, at most {LOOP_S}")
    parser.add_argument("--megabits", type=float, default=8.0)
    parser.add_argument("--streams", type=int, default=4)
    options = parser.parse_args()
    loop = encode(LOOP_S, options.megabits)
    rate = sum(len(due.data) for due in loop) * 8 / LOOP_S / 1e6
    load = os.getloadavg()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f}, Linux {platform.release()}")
    print(f"command: python -m benchmarks.stream {' '.join(sys.argv[1:])}")
    print(f"stream: {WIDTH}x{HEIGHT}, {FPS} pictures/s, {rate:.1f} Mbit/s\n")
    lost = record_all(loop, options.streams, options.seconds)
    for slow in (False, True):
        print(f"\nlive, {'50 ms of work for each picture' if slow else 'no other work'}:")
        for name, reader in READERS.items():
            print(f"  {name:22} {watch(reader, loop, options.live_seconds, slow)}")
    return 1 if lost else 0


# The stream


def encode(seconds: float, megabits: float) -> list[Due]:
    """A moving street of noise as H.264 in MPEG-TS, as datagrams."""
    sink = BytesIO()
    ends = []
    rate = round(megabits * 1e6)
    with av.open(sink, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", rate
        stream.codec_context.time_base = Fraction(1, FPS)
        frames = chain(map(draw, range(round(seconds * FPS))), [None])
        for packet in (packet for frame in frames for packet in stream.encode(frame)):
            container.mux(packet)
            ends.append(sink.tell())
    data, begin, schedule = sink.getvalue(), 0, []
    for number, end in enumerate(ends):
        pieces = [data[at : min(at + DATAGRAM_BYTES, end)] for at in range(begin, end, DATAGRAM_BYTES)]
        begin = end
        for index, piece in enumerate(pieces):
            second = number / FPS + SPREAD_S * index / len(pieces)
            last = index == len(pieces) - 1
            schedule.append(Due(second, piece, number if index == 0 else -1, number if last else -1))
    return schedule


_STRIP = np.random.default_rng(1).integers(16, 236, (HEIGHT // 4, 2048), np.uint8).repeat(4, 0).repeat(4, 1)


def draw(number: int) -> av.VideoFrame:
    """One picture of the street, moved by 12 pixels a picture, with its number as a row of blocks."""
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    shift = number * 12 % (_STRIP.shape[1] - WIDTH)
    planes[:HEIGHT] = _STRIP[:, shift : shift + WIDTH]
    for bit in range(BITS):
        planes[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = number
    return frame


def number_of(luma: Any) -> int:
    """The number that a picture bears."""
    middle = BLOCK // 2
    return sum(1 << bit for bit in range(BITS) if luma[middle, bit * BLOCK + middle] > 128)


def send(loop: Sequence[Due], ports: Sequence[int], seconds: float) -> tuple[list[list[int]], list[int]]:
    """Send to all ports; for each, when each picture's first datagram went; and how many datagrams went to each.

    The loop's time stamps begin anew with each round, as a camera's do that is started anew.
    """
    began = [[] for _ in ports]  # type: list[list[int]]
    counts = [0] * len(ports)
    shifts = [index / FPS / len(ports) for index in range(len(ports))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        start = time.monotonic()
        for round_ in range(int(-(-seconds // LOOP_S))):
            plan = sorted((due.second + shift, index, due) for index, shift in enumerate(shifts) for due in loop)
            for second, index, due in plan:
                wait = start + round_ * LOOP_S + second - time.monotonic()
                if wait > 0.0005:
                    time.sleep(wait)
                if round_ * LOOP_S + second > seconds:
                    return began, counts
                if due.begins >= 0:
                    began[index].append(time.monotonic_ns())
                sender.sendto(due.data, (HOST, ports[index]))
                counts[index] += 1
    return began, counts


# Part one: recording


def record_all(loop: Sequence[Due], streams: int, seconds: float) -> int:
    """Record streams at once and print the figures; how many datagrams were lost."""
    context = multiprocessing.get_context("spawn")
    folders = [Path(tempfile.mkdtemp(prefix="edencar-bench-")) for _ in range(streams)]
    pipes = [context.Pipe() for _ in folders]
    processes = [
        context.Process(target=_record, args=(theirs, folder, seconds))
        for (_, theirs), folder in zip(pipes, folders, strict=True)
    ]
    try:
        for process in processes:
            process.start()
        ports = [ours.recv() for ours, _ in pipes]
        began, counts = send(loop, ports, seconds)
        results = [ours.recv() for ours, _ in pipes]
        lost = sum(sent - int(result["datagrams"]) for sent, result in zip(counts, results, strict=True))
        late_ms = np.concatenate([_lateness_ms(folder, sent) for folder, sent in zip(folders, began, strict=True)])
    finally:
        for process in processes:
            process.join(10)
            process.kill()
        for folder in folders:
            shutil.rmtree(folder)
    said = sum(result["lost"] for result in results)
    print(f"{streams} recorders, {seconds:g} s: {sum(counts)} datagrams sent, {lost} lost ({said} counted as lost)")
    shares = ", ".join(f"{100 * result['share']:.1f}" for result in results)
    print(f"  share of a core each: {shares} %")
    memory = ", ".join(f"{result['first_mib']:.1f} -> {result['last_mib']:.1f}" for result in results)
    print(f"  memory each, after 5 s and at the end: {memory} MiB")
    p50, p95, p99 = np.percentile(late_ms, (50, 95, 99))
    print(f"  arrival stamp less time of sending: p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f} ms")
    return int(lost)


def _record(pipe: Any, folder: Path, seconds: float) -> None:
    recorder = StreamRecorder(folder, HOST, 0, Settings())
    recorder.start()
    pipe.send(recorder.port)
    while not recorder.datagrams:
        time.sleep(0.01)
    time.sleep(min(5.0, seconds / 2))
    before, first = _used(), _resident_mib()
    while time.monotonic_ns() - (recorder.last_arrival_monotonic_ns or 0) < 1_000_000_000:
        time.sleep(0.25)
    after, last = _used(), _resident_mib()
    recorder.stop()
    share = (after[0] - before[0]) / (after[1] - before[1])
    result = {"datagrams": recorder.datagrams, "lost": recorder.socket_drops, "share": share}
    pipe.send({**result, "first_mib": first, "last_mib": last})


def _lateness_ms(folder: Path, sent_ns: list[int]) -> Any:
    lines = [line.split(",") for path in sorted(folder.glob("*.idx")) for line in path.read_text().splitlines()[1:]]
    came = np.array([int(line[1]) for line in lines])
    late_ms: Any = (came - np.array(sent_ns[: len(came)])) / 1e6
    return late_ms


# Part two: watching

Pictures = Iterator[Any]  # luma planes, each as soon as it is there
Reader = Callable[[int, Path], Pictures]


def watch(reader: Reader, loop: Sequence[Due], seconds: float, slow: bool) -> str:
    """The figures of one reader, in words."""
    context = multiprocessing.get_context("spawn")
    port, folder = _free_port(), Path(tempfile.mkdtemp(prefix="edencar-bench-"))
    ours, theirs = context.Pipe()
    recorder = context.Process(target=_keep, args=(folder, port))
    process = context.Process(target=_watch, args=(theirs, reader, port, folder, slow))
    started = [recorder, process] if reader is follow else [process]
    try:
        for one in started:
            one.start()
        ours.recv()
        time.sleep(1.0)
        sent = _send_once(loop, port, seconds)
        time.sleep(2.0)
        ours.send("enough")
        seen: list[tuple[int, int]] = ours.recv() if ours.poll(5.0) else []
    finally:
        for one in started:
            one.kill()
            one.join(10)
        shutil.rmtree(folder)
    return _summary(seen, sent, seconds)


def _send_once(loop: Sequence[Due], port: int, seconds: float) -> dict[int, int]:
    """When each picture's last datagram went."""
    sent = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        start = time.monotonic()
        for due in loop:
            wait = start + due.second - time.monotonic()
            if due.second > seconds:
                break
            if wait > 0.0005:
                time.sleep(wait)
            sender.sendto(due.data, (HOST, port))
            if due.ends >= 0:
                sent[due.ends] = time.monotonic_ns()
    return sent


def _summary(seen: Sequence[tuple[int, int]], sent: dict[int, int], seconds: float) -> str:
    late = {number: (at_ns - sent[number]) / 1e6 for number, at_ns in seen if number in sent}
    if len(late) < 10:
        return f"{len(late)} pictures only"
    steady = [ms for number, ms in late.items() if number > 2 * FPS]
    p50, p95, worst = (float(value) for value in np.percentile(steady, (50, 95, 100)))
    missed = len([number for number in sent if min(late) <= number <= max(late) and number not in late])
    return (
        f"p50 {p50:6.1f}  p95 {p95:6.1f}  most {worst:6.1f} ms   {len(late)} pictures, {missed} of those between missed"
    )


def _watch(pipe: Any, reader: Reader, port: int, folder: Path, slow: bool) -> None:
    pipe.send("ready")
    seen: list[tuple[int, int]] = []
    ending = threading.Event()

    def listen() -> None:
        pipe.recv()
        pipe.send([*seen])
        ending.set()

    threading.Thread(target=listen, daemon=True).start()
    for luma in reader(port, folder):
        seen.append((number_of(luma), time.monotonic_ns()))
        if slow:
            time.sleep(SLOW_S)
        if ending.is_set():
            break


def _keep(folder: Path, port: int) -> None:
    StreamRecorder(folder, HOST, port, Settings()).start()
    time.sleep(3600)


def follow(port: int, folder: Path) -> Pictures:
    """Ours: the files of a recorder in another process, as the live page and the photos of mode `photos` do."""
    tail, decoder, pending = Tail(folder), Decoder(), list[Line]()
    while True:
        pending += tail.poll()
        keys = [number for number, line in enumerate(pending) if line.key]
        if keys and time.monotonic_ns() - pending[0].arrival_monotonic_ns > LATE_NS:
            del pending[: keys[-1]]  # go on with the newest key frame
        if not pending:
            time.sleep(0.005)
            continue
        line = pending.pop(0)
        frame = decoder.decode(line, anew=line.key)
        if frame is not None:
            yield frame.to_ndarray(format="gray")


def by_pyav(port: int, folder: Path) -> Pictures:
    """PyAV as its documentation shows it."""
    with av.open(f"udp://{HOST}:{port}{UDP_OPTIONS}", timeout=(20, 5)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="gray")


def by_opencv(port: int, folder: Path) -> Pictures:
    """OpenCV as its documentation shows it."""
    capture = cv2.VideoCapture(f"udp://{HOST}:{port}{UDP_OPTIONS}", cv2.CAP_FFMPEG)
    while True:
        done, picture = capture.read()
        if not done:
            return
        yield picture[:, :, 1]


def by_ffmpeg(port: int, folder: Path) -> Pictures:
    """The ffmpeg program, with raw pictures on a pipe."""
    command = ["ffmpeg", "-loglevel", "quiet", "-i", f"udp://{HOST}:{port}{UDP_OPTIONS}"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while len(data := process.stdout.read(WIDTH * HEIGHT)) == WIDTH * HEIGHT:
            yield np.frombuffer(data, np.uint8).reshape(HEIGHT, WIDTH)


READERS: dict[str, Reader] = {
    "ours, from disk": follow,
    "PyAV": by_pyav,
    "OpenCV": by_opencv,
    "ffmpeg on a pipe": by_ffmpeg,
}


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _used() -> tuple[float, float]:
    """Seconds of CPU of this process and of the monotonic clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, time.monotonic()


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    raise SystemExit(main())
