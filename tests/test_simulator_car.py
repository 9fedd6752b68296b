"""The simulated car as others use it: a command, its JSON line, its control, and nothing left behind."""

import csv
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests
import serial
import zxingcpp

from simulator.cameraprocess import CarError
from simulator.car import PhoneClock, main, measure
from simulator.film import read_number
from simulator.lamp import BLINKS
from simulator.stage import DemoError, show_phone
from simulator.world import World

COMMAND = [sys.executable, "-m", "simulator", "car", "--until-eof"]
ANTI_FLICKER, ANTI_FLICKER_50_HZ = 134, 3  # HERO9 to 12
PI_ERROR_NS = 250_000_000  # of the clock that stands for the Pi's


@contextmanager
def pi_clock(way_up_s: float = 0.0, way_down_s: float = 0.0, body: bytes | None = None) -> Iterator[str]:
    """A server that tells a time as the Pi does, after a way up and before a way down; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(way_up_s)
            answer = json.dumps({"utc_ns": time.time_ns() + PI_ERROR_NS}).encode() if body is None else body
            time.sleep(way_down_s)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
            self.wfile.write(head.encode() + answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/time"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A car process and what it said when it was ready."""
    command = [*COMMAND, "--truth", str(folder / "truth"), "--link", str(folder / "gnss"), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def car(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One small car for the tests that only ask it things."""
    with running(tmp_path_factory.mktemp("car"), "--size", "360", "--rate", "20") as (_, said):
        yield said


def children(pid: int) -> set[int]:
    """Live processes below a process."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found |= {int(stat.parent.name)} | children(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(pids: set[int], seconds: float) -> set[int]:
    """Those that are left after some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(is_alive, pids)):
        time.sleep(0.05)
    return {pid for pid in pids if is_alive(pid)}


def test_it_says_where_everything_is(car: dict[str, Any]) -> None:
    assert [camera["model"] for camera in car["cameras"]] == ["HERO12 Black", "HERO13 Black"]
    assert len({camera["serial"][-3:] for camera in car["cameras"]}) == 2
    for camera in car["cameras"]:
        assert requests.get(f"http://{camera['address']}/gopro/version", timeout=5).ok
    with serial.Serial(car["receiver"], timeout=1, exclusive=True) as port:
        assert port.read_until(b"GGA")
    assert requests.get(car["control"], timeout=5).json() == car


def test_its_truth_says_how_wrong_its_clocks_are(car: dict[str, Any]) -> None:
    world = json.loads((Path(car["truth"]) / "world.json").read_text())
    assert world["world"]["host_rate_ppm"] == 12.0
    assert [camera["crystal_ppm"] for camera in world["cameras"]] == [38.0, -21.0]
    assert world["plan"]["display_latency_ms"] == 38.0
    with (Path(car["truth"]) / "fixes.csv").open() as file:
        row = next(csv.DictReader(file))
    assert int(row["utc_ns"]) % 50_000_000 == 0


def test_the_cameras_see_the_code_of_the_phone(car: dict[str, Any]) -> None:
    address, truth = car["cameras"][0]["address"], Path(car["truth"])
    with pi_clock() as clock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind(("127.0.0.1", 0))
        # 25 pictures a second: at 29.97 the phase to 60 Hz may stand still where all pictures mix two codes.
        anti_flicker = {"setting": ANTI_FLICKER, "option": ANTI_FLICKER_50_HZ}
        assert requests.get(f"http://{address}/gopro/camera/setting", anti_flicker, timeout=5).ok
        shown = requests.post(f"{car['control']}/phone", json={"show": True, "clock": clock}, timeout=20).json()
        assert abs(shown["offset_ns"] - (PI_ERROR_NS - 2_700_000_000)) < shown["bound_ns"] + 2_000_000
        start = f"http://{address}/gopro/webcam/start"
        requests.get(start, {"res": 7, "fov": 0, "port": udp.getsockname()[1], "protocol": "TS"}, timeout=5)
        data = receive(udp, 1.5)
        requests.get(f"http://{address}/gopro/webcam/exit", timeout=5)
        assert requests.post(f"{car['control']}/phone", json={"show": False}, timeout=5).json() == {"shown": False}
    lags = code_lags_ms(data, frames(truth / f"frames-{car['cameras'][0]['serial']}.csv"))
    # The phone's latency and what is left of a refresh; two codes overlap in one exposure.
    assert len(lags) > 5
    assert 20 < np.median(lags) < 75
    log = json.loads((truth / "phone.json").read_text())
    assert log[-1]["until_utc_ns"] > log[-1]["from_utc_ns"]
    counts = requests.get(f"{car['control']}/counters", timeout=5).json()[car["cameras"][0]["serial"]]
    assert counts["sent"] >= len(lags)


def test_the_cameras_see_a_lamp_blink(car: dict[str, Any]) -> None:
    address = car["cameras"][1]["address"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind(("127.0.0.1", 0))
        start = f"http://{address}/gopro/webcam/start"
        requests.get(start, {"res": 7, "fov": 0, "port": udp.getsockname()[1], "protocol": "TS"}, timeout=5)
        assert requests.post(f"{car['control']}/lamp", json={}, timeout=5).json() == {"blinks": BLINKS}
        light = [float(picture.mean()) for picture in pictures(receive(udp, 4.0))]
        requests.get(f"http://{address}/gopro/webcam/exit", timeout=5)
    steps = np.abs(np.diff(light)) > 15
    assert 1 <= steps.sum() <= 8, "on or off a few times, in a picture or two each"


def receive(udp: socket.socket, seconds: float) -> bytes:
    """All datagrams of some time."""
    udp.settimeout(0.2)
    deadline, data = time.monotonic() + seconds, bytearray()
    while time.monotonic() < deadline:
        try:
            data += udp.recv(65536)
        except TimeoutError:
            continue
    return bytes(data)


def frames(path: Path) -> dict[int, int]:
    """True UTC in ns of each picture number."""
    with path.open() as file:
        return {int(row["number"]): int(row["utc_ns"]) for row in csv.DictReader(file)}


def code_lags_ms(data: bytes, truth: dict[int, int]) -> list[float]:
    """Per readable picture: its true instant in the Pi's time minus the time in the code."""
    lags = []
    for picture in pictures(data):
        number = read_number(picture)
        codes = zxingcpp.read_barcodes(np.kron(picture, np.ones((2, 2), np.uint8)))
        if number in truth and codes and len(codes[0].text) == 17:
            lags.append((truth[number] + PI_ERROR_NS) / 1e6 - int(codes[0].text[:14]) / 10)
    return lags


def pictures(data: bytes) -> Iterator[Any]:
    """The luma planes in a transport stream."""
    with av.open(io.BytesIO(data), "r", format="mpegts") as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            yield np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[:, : frame.width]


def test_faults_are_switched_while_it_drives(car: dict[str, Any]) -> None:
    def switch(**body: object) -> requests.Response:
        return requests.post(f"{car['control']}/fault", json=body, timeout=5)

    assert switch(device="right", name="battery_percent", value=7).ok
    state = requests.get(f"http://{car['cameras'][1]['address']}/gopro/camera/state", timeout=5).json()
    assert state["status"]["70"] == 7
    assert switch(device="right", name="battery_percent", value=None).ok
    assert switch(device="receiver", name="no_fix", value=1).ok
    assert switch(device="receiver", name="no_fix", value=None).ok
    for body in ({"device": "right", "name": "flying", "value": 1}, {"device": "receiver", "name": "x", "value": 1}):
        answer = switch(**body)
        assert answer.status_code == 400
        assert "unknown fault" in answer.json()["error"]
    assert switch(device="roof", name="flying", value=1).status_code == 502
    assert switch(device="roof").status_code == 404


def test_control_answers_nonsense_with_an_error(car: dict[str, Any]) -> None:
    control = car["control"]
    assert requests.get(f"{control}/nowhere", timeout=5).status_code == 404
    assert requests.post(f"{control}/phone", data="{", timeout=5).status_code == 400
    assert requests.post(f"{control}/phone", data="[]", timeout=5).status_code == 400
    dead = {"show": True, "clock": "http://127.0.0.1:1/api/time"}
    answer = requests.post(f"{control}/phone", json=dead, timeout=5)
    assert answer.status_code == 502
    assert "does not tell the time" in answer.json()["error"]


def test_a_phone_that_gets_no_time_is_told(car: dict[str, Any]) -> None:
    with pytest.raises(DemoError, match="the simulated phone failed: "):
        show_phone(car["control"], "http://127.0.0.1:9/api/time")


def test_the_phone_measures_its_clock_within_its_bound() -> None:
    world = World(time.time_ns(), time.monotonic_ns())
    clock = PhoneClock(world, -11.0, 8.0)
    with pi_clock(way_up_s=0.004) as url:
        measured = measure(url, clock, exchanges=10)
    true_ns = PI_ERROR_NS - clock.error_ns(world.utc_ns())
    assert abs(measured.offset_ns - true_ns) <= measured.bound_ns
    assert 2_000_000 <= measured.bound_ns < 20_000_000


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"utc_ns": "soon"}', b"<html>"])
def test_a_clock_that_makes_no_sense_is_an_error(body: bytes) -> None:
    clock = PhoneClock(World(time.time_ns(), time.monotonic_ns()), 0.0, 0.0)
    with pi_clock(body=body) as url, pytest.raises(CarError, match="does not tell the time"):
        measure(url, clock, exchanges=1)


def test_nothing_lives_on_when_the_car_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, "--size", "180") as (process, _):
        below = children(process.pid)
        assert len(below) >= 2
        process.kill()
        process.wait(5)
        assert wait_for_end(below, 5) == set()


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, None], ids=["SIGTERM", "SIGINT", "end of stdin"])
def test_it_ends_in_order(way: signal.Signals | None, tmp_path: Path) -> None:
    with running(tmp_path, "--size", "180", "--cameras", "1") as (process, _):
        below = children(process.pid)
        if way is None:
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(way)
            process.send_signal(way)
        assert process.wait(10) == 0
        assert wait_for_end(below, 3) == set()
        assert not (tmp_path / "gnss").is_symlink()


@pytest.mark.parametrize(
    "wrong",
    [["--camera-fault", "flying"], ["--receiver-fault", "x=1"], ["--sentences", "ABC"], ["--crystals-ppm", "a"]],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert main(wrong) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
