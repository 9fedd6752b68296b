"""Disks for tests: small, on loop devices or in memory, cut off from their power or turned read-only. Needs root."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

WRITES, IN_FLIGHT = 4, 8  # Documentation/block/stat.rst
TRIES = 5000

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
def on_loop(image: Path, at: Path, size: str = "256M") -> Iterator[Path]:
    """An ext4 disk that lies in `image`."""
    run("truncate", "-s", size, image)
    # Small and all there from the start: a copy of it takes some milliseconds, and the kernel has nothing to complete.
    run("mkfs.ext4", "-q", "-N", "1024", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    with mounted(at, "-o", "loop,errors=remount-ro", image) as folder:
        yield folder


def copy_quickly(source: Path, target: Path) -> None:
    """Only what is data, without a program that has to be started first."""
    with source.open("rb") as old, target.open("wb") as new:
        new.truncate(size := os.fstat(old.fileno()).st_size)
        end = 0
        while end < size:
            try:
                begin = os.lseek(old.fileno(), end, os.SEEK_DATA)
            except OSError:  # only a hole is left
                return
            end = os.lseek(old.fileno(), begin, os.SEEK_HOLE)
            new.seek(begin)
            while (left := end - begin) and (done := os.sendfile(new.fileno(), old.fileno(), begin, left)):
                begin += done


@contextmanager
def standing_still(pids: Sequence[int]) -> Iterator[None]:
    """Processes that do nothing meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def after_power_cut(image: Path, at: Path, writers: Sequence[int]) -> Iterator[tuple[Path, int]]:
    """What a machine finds that was cut off from its power: the disk without all that memory held; and when that was.

    The copy is one of an instant: those who write stand still, and it is taken again when the kernel wrote meanwhile.
    """
    copy = image.with_suffix(".cut")
    device = run("losetup", "-n", "-O", "NAME", "-j", image).stdout.decode().strip()
    counters = Path(f"/sys/block/{Path(device).name}/stat")
    with standing_still(writers):
        for _ in range(TRIES):
            before, now_ns = counters.read_text().split(), time.monotonic_ns()
            if before[IN_FLIGHT] == "0":
                copy_quickly(image, copy)
                if counters.read_text().split()[WRITES] == before[WRITES]:
                    break
            time.sleep(0.001)  # until the kernel has written what is on its way
        else:
            pytest.fail("the disk is written all the time: no copy is of an instant")
    checked = subprocess.run(["e2fsck", "-p", "-f", str(copy)], capture_output=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout  # 1: the journal was replayed
    with mounted(at, "-o", "loop", copy) as folder:
        yield folder, now_ns
    copy.unlink()
