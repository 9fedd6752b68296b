"""CPU of drawing one 1080p picture of a simulated camera, beside that of encoding it with x264 in the same run."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO

import av

from simulator.film import Film
from simulator.phone import Phone
from simulator.world import SECOND_NS, Street, World

WIDTH, HEIGHT = 1920, 1080
FPS = 30
START_NS = 1_795_000_000_000_000_000
TOWN_NS = START_NS + 10 * SECOND_NS  # by then the car drives 48 km/h
BUDGET_MS, BUDGET_WITH_PHONE_MS = 5.0, 10.0
BIT_RATE = 6_000_000


def main() -> int:
    """Print the figures; fails when drawing costs more than its budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=300)
    count = parser.parse_args().pictures
    python = sys.version.split()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {python}")
    print(f"command: python -m benchmarks.film --pictures {count}")
    film, seconds = _cpu(lambda: Film(World(START_NS, 0), Street(1, START_NS), "left", WIDTH, HEIGHT))
    print(f"{'the street, once':38} {seconds * 1000:7.0f} ms of CPU")
    phone = Phone(phase_ns=START_NS, shown=((START_NS, None),))
    plain = _draw(film, count, None)
    with_phone = _draw(film, count, phone)
    _say("a picture", plain)
    _say("a picture with phone and code", with_phone)
    for name, shown in (("driving", None), ("the code", phone)):
        milliseconds, megabits = _encode(film, count, shown)
        _say(f"x264 ultrafast 6 Mbit/s, {name}", milliseconds, f"{megabits:.1f} Mbit/s came out")
    return int(plain > BUDGET_MS or with_phone > BUDGET_WITH_PHONE_MS)


def _say(name: str, milliseconds: float, note: str = "") -> None:
    print(f"{name:38} {milliseconds:7.2f} ms of CPU a picture   {note}".rstrip())


def _cpu(work: Callable[[], Film]) -> tuple[Film, float]:
    begin = time.process_time()
    return work(), time.process_time() - begin


def _draw(film: Film, count: int, phone: Phone | None) -> float:
    begin = time.process_time()
    for number in range(count):
        film.picture(TOWN_NS + number * SECOND_NS // FPS, number, phone)
    return (time.process_time() - begin) / count * 1000


def _encode(film: Film, count: int, phone: Phone | None) -> tuple[float, float]:
    """CPU in ms a picture, and Mbit/s; drawing is not counted."""
    file = BytesIO()
    spent = 0.0
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", BIT_RATE
        stream.codec_context.thread_count = 1
        for number in range(count):
            picture = film.picture(TOWN_NS + number * SECOND_NS // FPS, number, phone)
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            begin = time.process_time()
            container.mux(stream.encode(picture))
            spent += time.process_time() - begin
        container.mux(stream.encode())
    return spent / count * 1000, len(file.getvalue()) * 8 / count * FPS / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
