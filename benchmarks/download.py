"""Fetching a file from a camera's HTTP server, ours beside curl on the same file, in turn; both end with it on disk."""

import argparse
import functools
import http.server
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rig.camera.cardfiles import download
from rig.camera.goproanswers import Media
from rig.camera.opengopro import GoPro

MEDIA = "100GOPRO/GX010001.MP4"
HOST = "127.0.0.1"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def main() -> int:
    """Print the figures; fails when ours is slower than 90 % of curl, or uses that much more processor time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="edencar-bench-"))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs, scratch / "card"))
    try:
        file = scratch / "card/videos/DCIM" / MEDIA
        file.parent.mkdir(parents=True)
        with file.open("wb") as card:
            for _ in range(options.megabytes):
                card.write(os.urandom(1_000_000))
        size = file.stat().st_size
        server.start()
        ways = {"curl": _by_curl, "ours": _by_us}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        address = f"{HOST}:{ours.recv()}"
        for _ in range(options.rounds):
            for name, way in ways.items():
                spent[name].append(_measure(way, address, size, scratch))
    finally:
        server.kill()
        server.join()
        shutil.rmtree(scratch)
    load = os.getloadavg()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f}, Linux {platform.release()}")
    print(f"command: python -m benchmarks.download {' '.join(sys.argv[1:])}\n")
    wall = {name: statistics.median(one[0] for one in all_) for name, all_ in spent.items()}
    processor = {name: statistics.median(one[1] for one in all_) for name, all_ in spent.items()}
    for name in ways:
        print(f"{name}: {size / wall[name] / 1e6:6.0f} MB/s, {processor[name]:.2f} s of processor time (medians)")
    return 1 if wall["ours"] * 0.9 > wall["curl"] and processor["ours"] * 0.9 > processor["curl"] else 0


def _serve(pipe: Any, folder: Path) -> None:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((HOST, 0), handler) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


def _measure(way: Callable[[str, int, Path], Path], address: str, size: int, scratch: Path) -> tuple[float, float]:
    """Seconds until the file is on the disk, and of the processor."""
    began, used = time.monotonic(), _used()
    file = way(address, size, scratch)
    result = time.monotonic() - began, _used() - used
    file.unlink()
    return result


def _by_curl(address: str, _size: int, scratch: Path) -> Path:
    file = scratch / "curl"
    subprocess.run(["curl", "-sf", "-o", str(file), f"http://{address}/videos/DCIM/{MEDIA}"], check=True)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    return file


def _by_us(address: str, size: int, scratch: Path) -> Path:
    folder, _, name = MEDIA.partition("/")
    with closing(GoPro(address)) as camera:
        return download(camera, Media(folder, name, size), scratch)


def _used() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
