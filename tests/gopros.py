"""Virtual GoPros for tests: a client and a catcher of datagrams that are no part of edenCar, and a worker that is."""

import http.client
import io
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.container import InputContainer

from configs import Settings
from rig.camera.cameraworker import camera_worker
from rig.status import CameraNow
from rig.workers import Worker
from simulator.camera import Camera
from simulator.world import SECOND_NS, Crystal, Street, World
from tests.machine import free_port

SERIAL = "C3501324500711"
LATENCY_MS = 120.0
HEIGHT = 360  # the smallest in which a picture's number can be read back
CRYSTAL_PPM = 80.0
VIDEO_PID = 0x1011


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client of its own for the tests: one connection for each request."""

    def __init__(self, camera: Camera) -> None:
        self._address = camera.address

    def __call__(self, path: str, method: str = "GET", **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self._address, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def status(self, number: int) -> Any:
        return self("/gopro/camera/state").json["status"][str(number)]

    def wait(self, number: int, value: int, seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while self.status(number) != value:
            assert time.monotonic() < deadline, f"status {number} did not become {value}"
            time.sleep(0.02)

    def record(self, seconds: float) -> None:
        assert self("/gopro/camera/shutter/start").status == 200
        time.sleep(seconds)
        assert self("/gopro/camera/shutter/stop").status == 200
        self.wait(10, 0)
        self.wait(8, 0)

    def files(self) -> list[dict[str, str]]:
        return [item for folder in self("/gopro/media/list").json["media"] for item in folder["fs"]]


def now_world() -> World:
    return World(time.time_ns(), time.monotonic_ns())


@contextmanager
def running(**options: Any) -> Iterator[Camera]:
    world = now_world()
    settings: dict[str, Any] = {
        "world": world,
        "street": Street(seed=1, start_utc_ns=world.epoch_utc_ns - 20 * SECOND_NS),
        "serial": SERIAL,
        "size": HEIGHT,
        "latency_ms": LATENCY_MS,
        "crystal": Crystal(CRYSTAL_PPM, 0.0, world.epoch_utc_ns),
        "clock_offset_s": 0.0,
    }
    with Camera(**(settings | options)) as camera:
        yield camera


@dataclass(frozen=True)
class Caught:
    datagrams: list[bytes]
    arrivals_ns: list[int]

    @property
    def data(self) -> bytes:
        return b"".join(self.datagrams)

    def pictures(self) -> list[tuple[int, int, bool]]:
        """PTS, arrival of the first byte and whether it is a key frame, for each picture."""
        return [
            (pts(packet), arrival, bool(packet[5] & 0x40))
            for datagram, arrival in zip(self.datagrams, self.arrivals_ns, strict=True)
            for packet in split(datagram)
            if pid(packet) == VIDEO_PID and packet[1] & 0x40
        ]


def split(data: bytes) -> list[bytes]:
    return [data[at : at + 188] for at in range(0, len(data), 188)]


def pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3]) & 0x1FFF


def pts(packet: bytes) -> int:
    pes = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    assert pes[:4] == b"\x00\x00\x01\xe0"
    high, middle, low = pes[9], int.from_bytes(pes[10:12]), int.from_bytes(pes[12:14])
    return (high >> 1 & 7) << 30 | middle >> 1 << 15 | low >> 1


def clock_reference(packet: bytes) -> int | None:
    if packet[3] & 0x20 and packet[4] and packet[5] & 0x10:
        return int.from_bytes(packet[6:10]) << 1 | packet[10] >> 7
    return None


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind((host, 0))
        udp.settimeout(5)
        yield udp


def receive(udp: socket.socket, seconds: float) -> Caught:
    datagrams, arrivals = [udp.recv(2000)], [time.monotonic_ns()]
    while time.monotonic_ns() - arrivals[0] < seconds * SECOND_NS:
        datagrams.append(udp.recv(2000))
        arrivals.append(time.monotonic_ns())
    return Caught(datagrams, arrivals)


def catch(camera: Camera, path: str, seconds: float) -> Caught:
    with listening() as udp:
        assert Client(camera)(f"{path}port={udp.getsockname()[1]}").status == 200
        return receive(udp, seconds)


def await_connection(get: Client, is_there: bool) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            get("/gopro/version")
        except (OSError, http.client.HTTPException):
            if not is_there:
                return
        else:
            if is_there:
                return
        time.sleep(0.02)
    pytest.fail(f"the camera {'did not come back' if is_there else 'is still there'}")


def open_video(data: bytes) -> InputContainer:
    return cast(InputContainer, av.open(io.BytesIO(data)))


def make_camera(**options: Any) -> Camera:
    """A small camera whose stream is no test's subject."""
    world = World(epoch_utc_ns=time.time_ns(), epoch_monotonic_ns=time.monotonic_ns())
    street = Street(seed=3, start_utc_ns=world.utc_ns())
    return Camera(world=world, street=street, size=180, udp_port=free_port(), **options)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Driver:
    """A camera worker in a process of its own, as the server keeps one."""

    def __init__(self, camera: Camera, output: Path) -> None:
        self.output = output
        self.worker = Worker("camera", camera_worker, camera.address, Settings(output=output, segment_s=1.0))
        self.worker.start()

    def folder(self, name: str) -> Path:
        folder = self.output / name / "videos" / "left"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def wait(self, wanted: Callable[[CameraNow], bool], timeout_s: float = 10.0) -> CameraNow:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = self.worker.status
            if status is not None and wanted(status):
                return status  # type: ignore[no-any-return]
            time.sleep(0.05)
        raise AssertionError(f"it did not come to that: {self.worker.status}")

    def ask(self, request: object) -> Any:
        return self.worker.ask(request, 20.0)

    def kill(self) -> None:
        assert self.worker.pid is not None
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.join(10.0)
