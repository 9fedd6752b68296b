"""Disks for tests: small, on loop devices or in memory, cut off from their power or turned read-only. Needs root."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WRITES, IN_FLIGHT = 4, 8  # Documentation/block/stat.rst
TRIES = 500

needs_disks = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.ext4"), reason="needs root and the tools of ext4 to make disks"
)


def run(*command: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([str(word) for word in command], capture_output=True, check=True)


@contextmanager
def mounted(at: Path, *options: object) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    try:
        run("mount", *options, at)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"nothing can be mounted here: {error.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=False)


@contextmanager
def in_memory(at: Path, size: int) -> Iterator[Path]:
    with mounted(at, "-t", "tmpfs", "-o", f"size={size}", "tmpfs") as folder:
        yield folder


@contextmanager
def on_loop(image: Path, at: Path, size: str = "1G") -> Iterator[Path]:
    """An ext4 disk that lies in `image`."""
    run("truncate", "-s", size, image)
    run("mkfs.ext4", "-q", image)
    with mounted(at, "-o", "loop,errors=remount-ro", image) as folder:
        yield folder


@contextmanager
def after_power_cut(image: Path, at: Path) -> Iterator[tuple[Path, int]]:
    """What a machine finds that was cut off from its power: the disk without all that memory held; and when that was.

    The copy is one of an instant: it is taken again when the disk was written meanwhile.
    """
    copy = image.with_suffix(".cut")
    device = run("losetup", "-n", "-O", "NAME", "-j", image).stdout.decode().strip()
    counters = Path(f"/sys/block/{Path(device).name}/stat")
    for _ in range(TRIES):
        before, now_ns = counters.read_text().split(), time.monotonic_ns()
        if before[IN_FLIGHT] == "0":
            run("cp", "--sparse=always", image, copy)
            if counters.read_text().split()[WRITES] == before[WRITES]:
                break
    else:
        pytest.fail("the disk is written all the time: no copy is of an instant")
    checked = subprocess.run(["e2fsck", "-p", "-f", str(copy)], capture_output=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout  # 1: the journal was replayed
    with mounted(at, "-o", "loop", copy) as folder:
        yield folder, now_ns
    copy.unlink()
