"""Power cuts, full and failing disks: what was recorded stays readable, and the crew is told in time."""

import fcntl
import json
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import pytest

from rig.drive.checksums import seal, verify
from rig.gnss.positions import Track
from rig.recordings import Recordings
from tests.faults.disks import after_power_cut, in_memory, mounted, needs_disks, on_loop, run
from tests.faults.rig import SERIALS, Server, arrivals, wait_for

LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
POSITIONS_S, VIDEO_S = 1.5, 2.0
BUSY_S = 3.0  # more on a machine that has other things to do
MIB = 1 << 20
BEGUN_BYTES = 64 << 10  # a segment as short as that may not yet hold a picture
EXT4_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # linux/fs/ext4/ext4.h
CLUTTER_BYTES_PER_S = 3 * MIB


def turn_read_only(disk: Path) -> None:
    """What the kernel does when it meets an error."""
    device = Path(run("findmnt", "-n", "-o", "SOURCE", disk).stdout.decode().strip()).name
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")


def vanish(disk: Path) -> None:
    """Whatever is asked of the disk from now on is an error."""
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where a disk is mounted below which the server records."""
    return tmp_path / "output"


@needs_disks
@pytest.mark.parametrize("cuts", [3, pytest.param(200, marks=LONG)])
def test_a_power_cut_costs_a_second_or_two(stopped_server: Server, disk: Path, tmp_path: Path, cuts: int) -> None:
    chance, lost = random.Random(cuts), []
    with TemporaryDirectory(dir="/dev/shm") as memory, on_loop(Path(memory) / "disk.img", disk):
        server = stopped_server
        server._settings = {**server._settings, "EDENCAR_CAMERA_BIT_RATE_MBPS": "0.5"}
        server.start()
        server.ready(2)
        recording_id, closed = record_for_a_while(server), ""
        for number in range(cuts):
            if number and number % max(2, cuts // 10) == 0:  # the disk is small, and one that is closed must be whole
                server.call("POST", "/api/stop")
                if closed:
                    server.request("DELETE", f"/api/recordings/{closed}")
                recording_id, closed = record_for_a_while(server), recording_id
            time.sleep(chance.uniform(0.3, 2.0))
            writers = [*server.workers.values(), server.process.pid]
            with after_power_cut(Path(memory) / "disk.img", tmp_path / "mounted", writers) as (found, now_ns):
                lost.append(losses(found, recording_id, now_ns))
        server.call("POST", "/api/stop")
        server.end()
    positions, video = (sorted(one) for one in zip(*lost, strict=True))
    print(f"{cuts} power cuts: at most {positions[-1]:.2f} s of positions and {video[-1]:.2f} s of video lost")
    assert positions[-1] <= (POSITIONS_S if cuts > 10 else BUSY_S)
    assert video[-1] <= (VIDEO_S if cuts > 10 else BUSY_S)


def record_for_a_while(server: Server) -> str:
    """Start a recording; its id, when all devices have been in it for some seconds."""
    recording_id = server.record()
    folder = server.output / recording_id / "videos"
    wait_for(lambda: all(arrivals(folder / serial) for serial in SERIALS))
    time.sleep(2.0)
    return recording_id


def losses(output: Path, recording_id: str, now_ns: int) -> tuple[float, float]:
    """Seconds of positions and of the worst camera's video that are missing after a cut; all else must be whole."""
    manifest = json.loads((output / recording_id / "recording.json").read_bytes())
    assert manifest["state"] == "recording"
    for other in Recordings(output).list():
        assert other.state == ("recording" if other.id == recording_id else "finished")
        for stream in (output / other.id).glob("videos/*/*.ts") if other.state == "finished" else ():
            assert stream.stat().st_size > BEGUN_BYTES
            readable(stream)
    track = Track.load([output / recording_id / "positions" / "positions.csv"])
    assert len(track) > 0
    rows = (output / recording_id / "positions" / "positions.csv").read_text(errors="replace").splitlines()
    newest = [int(row.split(",")[-3]) for row in rows[1:] if row.count(",") == rows[0].count(",")]
    video = [arrivals(output / recording_id / "videos" / serial)[-1] for serial in SERIALS]
    for serial in SERIALS:
        *streams, newest_one = sorted((output / recording_id / "videos" / serial).glob("*.ts"))
        for stream in [*streams, *([newest_one] if newest_one.stat().st_size > BEGUN_BYTES else [])]:
            readable(stream)
    return (now_ns - newest[-1]) / 1e9, (now_ns - min(video)) / 1e9


def readable(stream: Path) -> None:
    with av.open(str(stream)) as container:
        assert any(packet.pts is not None for packet in container.demux(video=0))


@needs_disks
def test_a_disk_that_fills_up_stops_the_recording_a_minute_before(stopped_server: Server, disk: Path) -> None:
    """Something else fills the disk at 25 Mbit/s; the pace is measured, whatever the settings expect."""
    server = stopped_server
    with in_memory(disk, 72 * CLUTTER_BYTES_PER_S):
        server._settings = {**server._settings, "EDENCAR_CAMERA_BIT_RATE_MBPS": "0.5"}
        server.start()
        server.ready(2)
        recording_id = server.record()
        ending = threading.Event()
        filler = threading.Thread(target=fill, args=(disk / "clutter", ending))
        filler.start()
        try:
            wait_for(lambda: "little_room" in server.codes)
            wait_for(lambda: server.manifest(recording_id)["state"] == "finished", 90.0)
        finally:
            ending.set()
            filler.join()
        left_s = server.status["storage"]["bytes_free"] / CLUTTER_BYTES_PER_S
        print(f"stopped when {left_s:.0f} s were left at the pace at which the disk filled")
        assert 50.0 <= left_s <= 70.0
        assert "disk_full" in server.codes
        assert "the disk is full" in server.manifest(recording_id)["warnings"][-1]
        assert not list((disk / recording_id).rglob("*.tmp"))
        fill_up(disk / "clutter")
        refused = server.request("POST", "/api/start")
        assert (refused.status_code, refused.json()["title"]) == (507, "No space left")
        server.end()


def fill(file: Path, ending: threading.Event) -> None:
    begun_s, written = time.monotonic(), 0
    with file.open("wb", buffering=0) as out:
        while not ending.wait(0.1):
            due = int((time.monotonic() - begun_s) * CLUTTER_BYTES_PER_S) - written
            written += out.write(bytes(max(0, due)))


def fill_up(file: Path) -> None:
    with file.open("ab", buffering=0) as out, suppress(OSError):
        while out.write(bytes(MIB)):
            pass


@needs_disks
def test_a_disk_that_is_full_at_once_leaves_no_torn_file(stopped_server: Server, disk: Path) -> None:
    server = stopped_server
    with in_memory(disk, 64 * MIB):
        server._settings = {**server._settings, "EDENCAR_CAMERA_BIT_RATE_MBPS": "0.1"}
        server.start()
        server.ready(2)
        recording_id = server.record()
        time.sleep(1.5)
        fill_up(disk / "clutter")
        wait_for(lambda: server.status["recording"] is None)
        assert "disk_full" in server.codes
        (disk / "clutter").unlink()
        wait_for(lambda: server.manifest(recording_id)["state"] == "finished")
        for file_name in (disk / recording_id).rglob("*.idx"):
            lines = file_name.read_text().splitlines()
            assert all(line.count(",") == lines[0].count(",") for line in lines[:-1])
        assert len(Track.load([disk / recording_id / "positions" / "positions.csv"])) > 0
        for serial in SERIALS:
            readable(max((disk / recording_id / "videos" / serial).glob("*.ts")))
        assert seal(Recordings(disk), recording_id)
        assert verify(Recordings(disk), recording_id).good
        server.record()  # and there is room again
        server.call("POST", "/api/stop")
        server.end()


@needs_disks
@pytest.mark.parametrize("failure", [turn_read_only, pytest.param(vanish, marks=pytest.mark.long)])
def test_a_disk_that_fails_ends_the_recording_not_the_server(
    stopped_server: Server, disk: Path, tmp_path: Path, failure: Callable[[Path], None]
) -> None:
    server = stopped_server
    with on_loop(tmp_path / "disk.img", disk, "1G"):
        server.start()
        server.ready(2)
        recording_id = server.record()
        time.sleep(1.0)
        failure(disk)
        failed_s = time.monotonic()
        wait_for(lambda: server.status["recording"] is None)
        print(f"noticed after {time.monotonic() - failed_s:.1f} s")
        assert "disk_failed" in server.codes
        refused = server.request("POST", "/api/start")
        assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
        assert server.request("GET", "/healthz").status_code == 200
        assert server.end() == 0
    with mounted(disk, "-o", "loop", tmp_path / "disk.img") as found:
        server.start()
        running = wait_for(lambda: server.status["recording"])  # as after any end that nobody wanted
        assert server.manifest(running["id"])["continues"] == recording_id
        assert Recordings(found).get(recording_id).state == "interrupted"
        server.end()
