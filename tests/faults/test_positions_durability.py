"""Positions after the worst that can happen to their program and its power."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rig.gnss.nmea import read_log
from rig.gnss.positions import Track
from simulator.receiver import Receiver
from simulator.world import Street, World
from tests.faults.disks import after_power_cut, needs_disks, on_loop

PROJECT = Path(__file__).parents[2]
BUSY_S = 3.0  # this also runs on machines that have other things to do; the long test in test_disk.py holds the promise


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
    deadline = time.monotonic() + 60
    while not table.exists() or table.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def times(table: Path) -> list[int]:
    with table.open() as file:
        return [int(row["utc_ns"]) for row in csv.DictReader(file)]


def test_kill_loses_no_row(receiver: str, tmp_path: Path) -> None:
    folder, behind = tmp_path / "out", []
    for kill in range(4):
        with capture(receiver, folder) as process:
            wait_for_rows(folder / "positions.csv", 12 * (kill + 1))
            time.sleep(0.07 * kill)
            process.send_signal(signal.SIGKILL)
        heard = [fix for fix in read_log(folder / "raw.nmea") if fix.latitude is not None]
        written = times(folder / "positions.csv")
        assert written == [fix.utc_ns for fix in heard][: len(written)]
        behind.append(len(heard) - len(written))
    assert max(behind) <= 8  # without a pause half a second waits to be understood, and is in raw.nmea
    assert min(behind) <= 1  # only the burst that was coming
    with capture(receiver, folder, "--duration", "1") as process:
        assert process.wait(20) == 0
    heard = [fix for fix in read_log(folder / "raw.nmea") if fix.latitude is not None]
    written = times(folder / "positions.csv")
    assert len(set(written)) == len(written)
    assert set(written) == {fix.utc_ns for fix in heard}
    assert len(Track.load([folder / "positions.csv"])) == len(written)


@needs_disks
def test_power_cut_costs_at_most_a_second(receiver: str, tmp_path: Path) -> None:
    lost_s = []
    with (
        TemporaryDirectory(dir="/dev/shm") as memory,
        on_loop(image := Path(memory) / "disk.img", tmp_path / "disk", "64M"),
    ):
        folder = tmp_path / "disk" / "out"
        with capture(receiver, folder) as process:
            wait_for_rows(folder / "positions.csv", 1)
            for _ in range(3):
                time.sleep(2.37)
                with after_power_cut(image, tmp_path / "cut", [process.pid]) as (found, now_ns):
                    lost_s.append((now_ns - newest_arrival(found / "out" / "positions.csv")) / 1e9)
                    assert len(Track.load([found / "out" / "positions.csv"])) > 0
            process.send_signal(signal.SIGINT)
    print(f"power cuts of capturePositions.py: {max(lost_s):.2f} s of positions lost")
    assert max(lost_s) <= BUSY_S, lost_s


def newest_arrival(table: Path) -> int:
    """CLOCK_MONOTONIC in ns at which the newest whole row came."""
    names, *rows = [line.split(",") for line in table.read_text(errors="replace").splitlines()]
    return next(int(row[names.index("arrival_monotonic_ns")]) for row in reversed(rows) if len(row) == len(names))
