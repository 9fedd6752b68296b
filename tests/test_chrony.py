"""chronyd's reference clock: our datagrams on a socket, and a real chronyd that selects them."""

import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from capturePositions import receiver_worker
from configs import Settings
from rig.gnss.chrony import tell_chrony
from rig.workers import Worker
from simulator.receiver import Receiver
from simulator.world import Street, World

NOW_NS = 1_795_370_837_123_456_789
CONFIGURATION = """refclock SOCK {folder}/edencar.sock refid GNSS poll 0 delay 0.01
bindcmdaddress {folder}/chronyd.sock
cmdport 0
port 0
pidfile {folder}/chronyd.pid
"""


def test_a_sample_has_chronys_forty_bytes(tmp_path: Path) -> None:
    path = tmp_path / "edencar.sock"
    tell_chrony(str(path), NOW_NS, NOW_NS)  # nobody listens: no error
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chronyd:
        chronyd.bind(str(path))
        tell_chrony(str(path), NOW_NS, NOW_NS + 2_500_000)
        sample = chronyd.recv(100)
    assert len(sample) == 40
    seconds, microseconds, offset_s, pulse, leap, _, magic = struct.unpack("=qqdiiii", sample)
    assert (seconds, microseconds, pulse, leap, magic) == (1_795_370_837, 123_456, 0, 0, 0x534F434B)
    assert offset_s == pytest.approx(0.0025, abs=1e-9)


def test_the_worker_feeds_it_when_the_setting_says_so(tmp_path: Path) -> None:
    world = World(time.time_ns() + 90_000_000_000, time.monotonic_ns())  # the host's own clock is 90 s behind
    settings = Settings(
        receiver_port=str(tmp_path / "gnss"),
        receiver_baud=115_200,
        receiver_latency_ms=5.0,
        chrony_socket=str(tmp_path / "edencar.sock"),
    )
    worker = Worker("receiver", receiver_worker, settings)
    with (
        Receiver(tmp_path / "gnss", world, Street(start_utc_ns=world.epoch_utc_ns), rate_hz=10),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chronyd,
    ):
        chronyd.bind(settings.chrony_socket)
        chronyd.settimeout(15)
        worker.start()
        try:
            offsets = [struct.unpack("=qqdiiii", chronyd.recv(100))[2] for _ in range(20)]
        finally:
            worker.stop()
    assert max(offsets) == pytest.approx(90.0, abs=0.005)  # a busy machine is late, never early


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("chronyd"), reason="needs chronyd and the right to start it")
def test_a_real_chronyd_selects_us(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "chrony.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    command = ["chronyd", "-d", "-x", "-u", "root", "-f", str(tmp_path / "chrony.conf")]
    said = tmp_path / "said"
    with said.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        path = str(tmp_path / "edencar.sock")
        deadline = time.monotonic() + 25
        try:
            while "Selected source GNSS" not in said.read_text() and time.monotonic() < deadline:
                now_ns = time.time_ns()
                tell_chrony(path, now_ns, now_ns + 3_000_000)
                time.sleep(0.05)
        finally:
            process.terminate()
    assert "Selected source GNSS" in said.read_text()
