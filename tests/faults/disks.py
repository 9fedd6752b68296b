"""Disks for tests: small, on loop devices or in memory, cut off from their power or turned read-only. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
def after_power_cut(image: Path, at: Path) -> Iterator[Path]:
    """What a machine finds that was cut off from its power now: the disk without all that memory held."""
    copy = image.with_suffix(".cut")
    run("cp", "--sparse=always", image, copy)
    checked = subprocess.run(["e2fsck", "-p", "-f", str(copy)], capture_output=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout  # 1: the journal was replayed
    with mounted(at, "-o", "loop", copy) as folder:
        yield folder
    copy.unlink()
