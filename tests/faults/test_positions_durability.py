"""Positions after the worst that can happen to their program and its power."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rig.gnss.nmea import read_log
from rig.gnss.positions import Track
from simulator.receiver import Receiver
from simulator.world import Street, World

PROJECT = Path(__file__).parents[2]
ROW_S = 0.1


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[str]:
    """A 10 Hz receiver's port."""
    world = World(time.time_ns(), time.monotonic_ns())
    with Receiver(tmp_path / "gnss", world, Street(start_utc_ns=world.epoch_utc_ns), rate_hz=10):
        yield str(tmp_path / "gnss")


def capture(port: str, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "capturePositions.py", "--port", port, "--baud", "115200", "--output", str(folder)]
    return subprocess.Popen([*command, *options], cwd=PROJECT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for_rows(table: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while not table.exists() or table.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def times(table: Path) -> list[int]:
    with table.open() as file:
        return [int(row["utc_ns"]) for row in csv.DictReader(file)]


def test_kill_loses_no_row(receiver: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for kill in range(4):
        with capture(receiver, folder) as process:
            wait_for_rows(folder / "positions.csv", 12 * (kill + 1))
            time.sleep(0.07 * kill)
            process.send_signal(signal.SIGKILL)
        heard = [fix for fix in read_log(folder / "raw.nmea") if fix.latitude is not None]
        written = times(folder / "positions.csv")
        assert written == [fix.utc_ns for fix in heard][: len(written)]
        assert len(heard) - len(written) <= 8  # half a second waits to be understood, and is in raw.nmea
    with capture(receiver, folder, "--duration", "1") as process:
        assert process.wait(20) == 0
    heard = [fix for fix in read_log(folder / "raw.nmea") if fix.latitude is not None]
    written = times(folder / "positions.csv")
    assert len(set(written)) == len(written)
    assert set(written) == {fix.utc_ns for fix in heard}
    assert len(Track.load([folder / "positions.csv"])) == len(written)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.ext4"), reason="a power cut needs root and ext4 tools")
def test_power_cut_costs_at_most_a_second(receiver: str, tmp_path: Path) -> None:
    disk, cut, mounted = tmp_path / "disk.img", tmp_path / "cut.img", tmp_path / "mnt"
    mounted.mkdir()
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    if subprocess.run(["mount", "-o", "loop", disk, mounted], capture_output=True, check=False).returncode:
        pytest.skip("no loop device can be mounted here")
    lost_s = []
    try:
        with capture(receiver, mounted / "out") as process:
            for _ in range(3):
                time.sleep(2.37)
                now_ns = time.time_ns()
                subprocess.run(["cp", "--sparse=always", disk, cut], check=True)  # the disk, without what memory holds
                lost_s.append((now_ns - last_time_on(cut, tmp_path / "mnt2")) / 1e9)
            process.send_signal(signal.SIGINT)
    finally:
        subprocess.run(["umount", mounted], check=False)
    assert max(lost_s) <= 1.0 + 2 * ROW_S, lost_s  # a row in the making and one on its way


def last_time_on(image: Path, mounted: Path) -> int:
    """UTC of the newest whole row that a fresh mount of a disk's image shows."""
    mounted.mkdir(exist_ok=True)
    with suppress(subprocess.CalledProcessError):
        subprocess.run(["e2fsck", "-p", "-f", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        return int(Track.load([mounted / "out" / "positions.csv"]).utc_ns[-1])
    finally:
        subprocess.run(["umount", mounted], check=True)
