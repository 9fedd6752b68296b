"""A small fleet for tests: recordings of two files, an S3 server, a Dask cluster of real processes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from rig.drive import checksums
from rig.recordings import Recordings
from simulator.phone import Phone
from tests.films import BEGIN_NS, TICKS_PER_FRAME, steady, write_film, write_index

ROOT = Path(__file__).parents[2]
START_S = 40.0  # of a process, on a busy machine
FIRST, SECOND = 75, 45  # pictures of the two files
PHONE = Phone(shown=((BEGIN_NS, BEGIN_NS + 2_000_000_000),))


def write_recording(folder: Path, size: tuple[int, int] = (320, 180)) -> Path:
    """A recording of one camera: two segments of a stream with a code at its beginning, and positions."""
    left = folder / "videos" / "left"
    left.mkdir(parents=True)
    write_film(left / "stream-001.ts", steady(FIRST), phone=PHONE, size=size)
    write_film(left / "stream-002.ts", steady(SECOND, first=FIRST * TICKS_PER_FRAME), phone=PHONE, size=size)
    for path in sorted(left.glob("*.ts")):
        write_index(path, BEGIN_NS)
    (folder / "positions").mkdir()
    lines = (f"{BEGIN_NS + n * 200_000_000},{47 + n * 2e-5},-1.5,60.0,4,11.1,0.0\n" for n in range(-10, 40))
    header = "utc_ns,latitude,longitude,altitude_m,quality,speed_mps,course_deg\n"
    (folder / "positions" / "positions.csv").write_text(header + "".join(lines))
    sums = sorted(path for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{checksums.sum_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in sums)
    (folder / checksums.NAME).write_text(text)
    return folder


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*words: object, cwd: Path = ROOT, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone afterwards."""
    running = subprocess.Popen(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def await_true(what: str, is_so: object) -> None:
    """Wait until a function of no arguments says so."""
    deadline = time.monotonic() + START_S
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
