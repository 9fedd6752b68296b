"""A simulated car and the real server as programs of their own, so that anything in them can be killed."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from simulator.receiver import Receiver
from simulator.world import Street, World

PROJECT = Path(__file__).parents[2]
LOCALHOST = "127.0.0.1"
PATIENCE_S = 60.0  # this machine is shared; a quiet one needs a tenth
# What is started ends with whoever runs the tests, even when that is killed: it would hold ports that others get.
GUARD = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
LONGEST_S = 0.5  # between two arrivals of a stream, or of a receiver's bytes, when all is well
SURELY_S = 2.0  # a gap, whatever is usual
SERIALS = ("C3501324500711", "C3531350013906")


@dataclass
class Cameras:
    """Virtual GoPros, each a program: what it says of itself, by serial."""

    said: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def addresses(self) -> str:
        return ",".join(str(one["address"]) for one in self.said.values())

    def fault(self, serial: str, name: str, value: float | None) -> None:
        """Switch a fault on, or off with None."""
        url = f"{self.said[serial]['control']}/faults/{name}"
        if value is None:
            requests.delete(url, timeout=PATIENCE_S)
        else:
            assert requests.put(url, params={"value": str(value)}, timeout=PATIENCE_S).ok

    def cycle_power(self, serial: str, off_s: float) -> None:
        """Take a camera's power and cable for so long."""
        url = f"{self.said[serial]['control']}/power"
        assert requests.post(url, params={"off_s": str(off_s)}, timeout=PATIENCE_S).ok


@contextmanager
def cameras(folder: Path, count: int) -> Iterator[Cameras]:
    """So many cameras, small ones: what they film does not matter here."""
    command = [*GUARD, sys.executable, "-m", "simulator", "camera", "--size", "180", "--truth", str(folder)]
    made = [
        subprocess.Popen([*command, "--control-port", "0", "--serial", serial], cwd=PROJECT, stdout=subprocess.PIPE)
        for serial in SERIALS[:count]
    ]
    try:
        found = Cameras()
        for one in made:
            assert one.stdout
            said = json.loads(one.stdout.readline())
            found.said[said["serial"]] = said
        yield found
    finally:
        for one in made:
            one.kill()
            one.communicate()


@contextmanager
def receiver(port: Path, **options: Any) -> Iterator[Receiver]:
    """A receiver with a good fix at 10 Hz."""
    world = World(time.time_ns(), time.monotonic_ns())
    street = Street(start_utc_ns=world.epoch_utc_ns)
    with Receiver(port, world, street, **{"rate_hz": 10} | options) as made:
        yield made


class Server:
    """The server's process as something that is started, killed and asked."""

    def __init__(self, output: Path, settings: Mapping[str, str]) -> None:
        self.output = output
        self.url = ""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log = output.parent / "server.log"

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it answers."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("EDENCAR_")}
        self._log.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*GUARD, sys.executable, "server.py", "--port", "0", "--output", str(self.output)],
                cwd=PROJECT,
                env={**clean, **self._settings, **(environment or {})},
                stderr=log,
                stdout=log,
            )
        self.url = wait_for(self._listens)

    def _listens(self) -> str:
        assert self.process.poll() is None, self._log.read_text()
        said = self._log.read_text()
        return said.partition("serves ")[2].partition(" ")[0] if "\n" in said.partition("serves ")[2] else ""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process
        return self._process

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def request(self, method: str, path: str, body: object = None, timeout_s: float = PATIENCE_S) -> requests.Response:
        return requests.request(method, self.url + path, json=body, timeout=timeout_s)

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.request(method, path, body)
        assert answer.ok, (answer.status_code, answer.text)
        return answer.json()

    @property
    def status(self) -> Any:
        return self.call("GET", "/api/status")

    @property
    def codes(self) -> set[str]:
        return {problem["code"] for problem in self.status["problems"]}

    def ready(self, count: int) -> None:
        """Wait until so many cameras, a fix and the receiver's time are there."""

        def good() -> bool:
            status = self.status
            states = [camera["state"] for camera in status["cameras"]]
            return states == ["idle"] * count and status["time"]["source"] == "gnss"

        wait_for(good)

    def record(self, **body: object) -> str:
        """Start a recording; its id, when all of it runs."""
        recording_id = str(self.call("POST", "/api/start", body or None)["recording"]["id"])
        wait_for(lambda: self.status["state"] == "recording")
        return recording_id

    def manifest(self, recording_id: str) -> Any:
        return json.loads((self.output / recording_id / "recording.json").read_bytes())

    @property
    def workers(self) -> dict[str, int]:
        """The processes of the devices, by name."""
        found = {}
        for pid in children(self.process.pid):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if "rig.workers" in " ".join(words):
                    found[words[-2]] = pid
        return found


def children(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def wait_for(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(requests.RequestException):
            if answer := condition():
                return answer
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def arrivals(folder: Path) -> list[int]:
    """All arrivals in the logs of one device's folder, CLOCK_MONOTONIC in ns, in order."""
    found = []
    for file in folder.glob("*.idx"):
        for line in file.read_text(errors="replace").splitlines()[1:]:
            columns = line.split(",")
            if len(columns) >= 3 and columns[1].isdigit():
                found.append(int(columns[1]))
    return sorted(found)


def steps(times: list[int], longer_s: float) -> list[tuple[int, int]]:
    """Where nothing came for so long."""
    return [(a, b) for a, b in itertools.pairwise(times) if b - a > longer_s * 1e9]


def log_folder(server: Server, recording_id: str, device: str) -> Path:
    """Where a device's log is: the receiver's, or that of `camera SERIAL`."""
    kind, _, serial = device.partition(" ")
    return server.output / recording_id / ("positions" if kind == "receiver" else f"videos/{serial}")


def check_gaps(server: Server, recording_id: str, device: str) -> list[tuple[int, int]]:
    """The gaps of a device in the manifest, which are where nothing came: all of them, to the stamp, and no other."""
    times = arrivals(log_folder(server, recording_id, device))
    gaps = [gap for gap in server.manifest(recording_id)["gaps"] if gap["device"] == device]
    named = [(gap["from_monotonic_ns"], gap["until_monotonic_ns"]) for gap in gaps]
    # Of a receiver that a busy machine makes slow, only what is much longer than usual is a gap.
    assert set(steps(times, SURELY_S)) <= set(named) <= set(steps(times, LONGEST_S))
    assert all(abs(gap["seconds"] - (end - begin) / 1e9) < 0.002 for gap, (begin, end) in zip(gaps, named, strict=True))
    return named
