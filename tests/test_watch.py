"""Streams watched while they are recorded: pictures, codes, delays; the recording goes on whatever happens to this."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import segno
from flask.testing import FlaskClient

import server
from car import SCRATCH, Car, Devices
from configs import Settings
from jobs import Jobs
from rig.camera.camerabook import load_delays
from rig.camera.cameraworker import camera_worker
from rig.clock import system_clock
from rig.footage.tail import Tail, read_unit
from rig.live.glimpse import BLURRED, NONE_SEEN, TOO_DARK, TOO_SMALL, WRONG_SCREEN, why_unread
from rig.live.lookout import Lookout, calibration
from rig.live.streaming import Streams
from rig.live.watch import DONE, Look, Picture, Sight, TakePicture, watch_worker
from rig.timing.led import LatencyResult, store
from rig.timing.qrtime import encode
from rig.workers import Link, StartCapture, StopCapture, Worker
from simulator.camera import Camera
from simulator.phone import Phone
from simulator.world import Street, World
from tests.films import steady, write_film, write_index
from tests.machine import wait_for
from tests.test_car import room_enough, run_receiver
from tests.test_server import problem, work

Luma = npt.NDArray[np.uint8]

LATENCY_MS = 230.0
SMALL = 360  # rows
ALWAYS = Phone(shown=((0, None),))
POST = {"page": "0a1b2c3d", "refresh_hz": 60.02, "offset_bound_ms": 0.4, "missed": 0, "draws": [[1, 17953561920000]]}
CODE_NS = 1_795_356_192_000_000_000


# Pictures and segments on disk


def scene(text: str, unit_px: int, **options: Any) -> Luma:
    """A screen with a code in front of a wall."""
    code = segno.make_qr(text, error="h", boost_error=False, **options)
    modules = np.pad(1 - np.array(code.matrix, dtype=np.uint8), 4, constant_values=1)
    screen = np.kron(modules, np.ones((unit_px, unit_px), np.uint8)) * 200 + 30
    picture = np.full((720, 1280), 90, np.uint8)
    picture[200 : 200 + len(screen), 500 : 500 + len(screen)] = screen
    return picture


def our_code(unit_px: int) -> Luma:
    return scene(encode(CODE_NS, 3), unit_px, version=1, mask=3)


@pytest.mark.parametrize(
    ("picture", "hint"),
    [
        (np.full((720, 1280), 120, np.uint8), NONE_SEEN),
        (np.full((720, 1280), 17, np.uint8), TOO_DARK),
        (our_code(10) // 9 + 16, TOO_DARK),
        (cv2.GaussianBlur(our_code(2), (0, 0), 1.2), TOO_SMALL),
        (cv2.GaussianBlur(our_code(10), (0, 0), 7), BLURRED),
        (scene("https://example.org/menu", 8), WRONG_SCREEN),
    ],
)
def test_why_no_code_is_read(picture: Luma, hint: str) -> None:
    assert why_unread(picture) == hint


def add_segment(folder: Path, number: int, first: int, count: int, **options: Any) -> Path:
    path = folder / f"stream-{number:03d}.ts"
    write_film(path, steady(count, first), first_number=first, size=(320, 180), **options)
    write_index(path, time.monotonic_ns() - round(first / 90_000 * 1e9))
    return path


def test_a_tail_follows_the_segments(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "later")
    assert tail.poll() == []
    (tmp_path / "later").mkdir()
    add_segment(tmp_path / "later", 1, 0, 5)
    newest = add_segment(tmp_path / "later", 2, 90_000, 5)
    lines = tail.poll()
    assert [line.pts_90khz for line in lines] == steady(5, 90_000)  # the last line, half written, comes later
    with newest.with_suffix(".idx").open("a") as file:
        file.write("?4,5,0,0\n")  # now whole, but damaged
        file.write("105015,1000,0,1,0\n")
    following = add_segment(tmp_path / "later", 3, 180_000, 2)
    assert [line.pts_90khz for line in tail.poll()] == [105_015, *steady(2, 180_000)]
    assert tail.poll() == []
    assert lines[0].segment == newest
    following.unlink()


def test_a_unit_is_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "stream-001.ts"
    write_film(path, steady(3), size=(320, 180))
    data = path.read_bytes()
    starts = [at for at in range(0, len(data), 188) if data[at + 1] & 0x5F == 0x41 and data[at + 2] == 0]
    assert len(starts) == 3
    path.with_suffix(".idx").write_text("".join(f"{n},{n},{at},1,0\n" for n, at in enumerate(starts)))
    units = [read_unit(line) for line in Tail(tmp_path).poll()]
    assert all(unit.startswith(b"\0\0\0\1") for unit in units)
    assert sum(map(len, units)) < len(data)


# A watcher alone


@contextmanager
def streaming(folder: Path, **options: Any) -> Iterator[Camera]:
    """A camera whose stream is recorded into `folder`."""
    now_ns = time.time_ns()
    world = World(epoch_utc_ns=now_ns, epoch_monotonic_ns=time.monotonic_ns(), host_rate_ppm=0.0)
    street = Street(seed=1, start_utc_ns=now_ns)
    folder.mkdir(parents=True)
    with Camera(
        world=world, street=street, size=SMALL, anti_flicker_hz=50, latency_ms=LATENCY_MS, udp_port=0, **options
    ) as camera:
        yield camera


@pytest.fixture(scope="module")
def a_film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Camera, Path]]:
    """A camera that streams, and where that is recorded."""
    output = tmp_path_factory.mktemp("film")
    folder = output / "recording" / "videos" / "C"
    with streaming(folder) as camera:
        recorder = Worker("camera", camera_worker, camera.address, Settings(output=output))
        recorder.start()
        try:
            recorder.ask(StartCapture(folder, "video"), 30.0)
            yield camera, folder
            recorder.ask(StopCapture(), 30.0)
        finally:
            recorder.stop()


@contextmanager
def a_watcher(folder: Path, look: Look, settings: Settings | None = None) -> Iterator[Worker]:
    worker = Worker("watcher", watch_worker, folder, settings or Settings(), look)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def sight_of(worker: Worker) -> Sight:
    assert worker.alive, worker.error
    sight: Sight = worker.status or Sight()
    return sight


def is_done(worker: Worker) -> bool:
    return sight_of(worker).state == DONE


def test_a_code_is_read_while_it_is_recorded(a_film: tuple[Camera, Path]) -> None:
    camera, folder = a_film
    camera.phone = ALWAYS
    with a_watcher(folder, Look(True, system_clock())) as worker:
        wait_for(lambda: sight_of(worker).codes > 3)  # 3 s on a machine that is not busy
        wait_for(lambda: sight_of(worker).state == DONE)
        sight = sight_of(worker)
        assert sight.error_ms is not None
        assert sight.error_ms < 8.0
        assert sight.whole_error_ms is not None
        assert sight.whole_error_ms > sight.error_ms + 20.0  # the display's delay is not known
        assert sight.delay_ms == pytest.approx(LATENCY_MS, abs=20.0)
        assert sight.delay_sigma_ms is not None
        assert 10.0 < sight.delay_sigma_ms < 50.0  # that of the display is 14.5; the rest grows with the load
        camera.phone = None
        wait_for(lambda: sight_of(worker).pictures > sight.pictures + 30)
        assert sight_of(worker).state == DONE
        assert sight_of(worker).hint == ""


def test_the_latency_measured_of_a_phone_is_used_for_it(a_film: tuple[Camera, Path], tmp_path: Path) -> None:
    camera, folder = a_film
    camera.phone = ALWAYS
    latency_ms = ALWAYS.latency_ms + ALWAYS.scan_out_ms / 2  # of the code's centre
    store(tmp_path, LatencyResult("Phone/1", latency_ms, 1.5, "2026-11-21T08:00:00Z", 60, "led+vernier"))
    exact = replace(system_clock(), sigma_ns=0)
    for agent, error_ms, off_ms in (("Phone/1", 1.5, 0.0), ("Phone/2", 25.0, latency_ms - 35.0)):
        with a_watcher(folder, Look(True, exact, 0, agent), Settings(output=tmp_path)) as worker:
            wait_for(partial(is_done, worker))
            sight = sight_of(worker)
        assert sight.error_ms is not None
        assert sight.whole_error_ms is not None
        assert max(sight.error_ms, error_ms) < sight.whole_error_ms
        assert sight.whole_error_ms < sight.error_ms + error_ms + 0.01  # each is rounded for itself
        # The time that the camera takes differs by as much as the picture is believed to be younger.
        assert sight.delay_ms == pytest.approx(LATENCY_MS + off_ms, abs=8.0)


def test_without_a_code_only_key_frames_are_decoded(a_film: tuple[Camera, Path]) -> None:
    camera, folder = a_film
    camera.phone = None
    with a_watcher(folder, Look(False, system_clock())) as worker:
        wait_for(lambda: sight_of(worker).pictures >= 3)
        assert sight_of(worker).state == "off"
        picture: Picture = worker.ask(TakePicture(), 5.0)
        assert time.monotonic_ns() - picture.arrival_monotonic_ns < 10_000_000_000
        decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert decoded.shape == (360, 640, 3)
        worker.ask(Look(True, system_clock()), 5.0)
        wait_for(lambda: sight_of(worker).hint != "")
        assert sight_of(worker).codes == 0
        seen = calibration(sight_of(worker))
        assert (seen.state, seen.text, seen.done) == ("searching", "no code read yet", False)


def test_who_is_late_goes_on_from_the_newest_key_frame(a_film: tuple[Camera, Path]) -> None:
    camera, folder = a_film
    camera.phone = None
    with a_watcher(folder, Look(True, system_clock())) as worker:
        wait_for(lambda: sight_of(worker).pictures > 0)
        assert worker.pid
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(worker.pid, signal.SIGCONT)
        wait_for(lambda: sight_of(worker).skipped > 0)
        wait_for(lambda: time.monotonic_ns() - worker.ask(TakePicture(), 5.0).arrival_monotonic_ns < 1_500_000_000)


def test_a_segment_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "stream-001.ts").write_bytes(b"no stream at all" * 1000)
    (tmp_path / "stream-001.idx").write_text("0,1,0,1,0\n3003,2,188,1,0\n")
    with a_watcher(tmp_path, Look(True, system_clock())) as worker:
        wait_for(lambda: worker.status is not None)
        assert worker.ask(TakePicture(), 5.0) is None
        assert sight_of(worker).pictures == 0


# The watchers of a car


def run_watcher(link: Link, folder: Path, _settings: Settings, asked: Look) -> None:
    """Says that it has read 30 codes as soon as it is asked for codes, but for a folder called `dies`."""
    if folder.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    asks = [asked]

    def report() -> Sight:
        return (
            Sight(state=DONE, codes=30, pictures=9, error_ms=2.1, delay_ms=231.0, delay_sigma_ms=14.0)
            if asks[-1].codes
            else Sight()
        )

    link.serve({Look: asks.append, TakePicture: lambda _: Picture(folder.name.encode(), 0)}, report, 0.05)


@contextmanager
def a_lookout() -> Iterator[tuple[Lookout, list[tuple[str, Sight]]]]:
    delays: list[tuple[str, Sight]] = []
    lookout = Lookout(Settings(), system_clock, lambda *delay: delays.append(delay), run_watcher)
    try:
        yield lookout, delays
    finally:
        lookout.close()


def test_watchers_run_only_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.live.lookout.PREVIEW_S", 0.6)
    monkeypatch.setattr("rig.live.lookout.FIRST_PICTURE_S", 60.0)  # however busy this machine is
    streams = {"A": tmp_path / "a", "B": tmp_path / "b"}
    with a_lookout() as (lookout, delays):
        lookout.tend(streams)
        assert lookout._watched == {}
        assert lookout.picture("A") is None
        lookout.tend(streams)
        assert [*lookout._watched] == ["A"]

        def has_picture() -> bool:
            picture = lookout.picture("A")
            return picture is not None and picture.jpeg == b"a"

        wait_for(has_picture)
        assert lookout.sight("A") is None

        def seen() -> bool:
            lookout.tend(streams)
            return lookout.live("A") is not None and lookout.live("B") is not None

        with ThreadPoolExecutor(1) as threads:
            watching = threads.submit(lookout.watch, ["A", "B"], 0.5, Streams([], streams, tmp_path, lambda: None).wait)
            wait_for(seen, 60.0)
            assert {serial: sight.codes for serial, sight in watching.result(20.0).items()} == {"A": 30, "B": 30}
        time.sleep(0.7)
        lookout.tend(streams)
        assert lookout._watched == {}
        assert lookout.live("A") is None
        kept = lookout.sight("A")
        assert kept is not None
        assert calibration(kept).text == "code read, 30 codes, ±2.1 ms, done"
        assert {serial for serial, _ in delays} == {"A", "B"}
        lookout.tend({})
        assert lookout.sight("A") is None


def test_a_dead_watcher_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.live.lookout.RESTART_S", 0.1)
    with a_lookout() as (lookout, _):
        lookout.want_codes(0.4)
        lookout.tend({"A": tmp_path / "dies"})
        first = lookout._watched["A"].worker
        first.join(10.0)

        def is_another() -> bool:
            lookout.want_codes(0.4)
            lookout.tend({"A": tmp_path / "dies"})
            return lookout._watched["A"].worker is not first

        wait_for(is_another)
        assert lookout.live("A") is None


def test_a_hung_watcher_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {"A": tmp_path / "a"}
    with a_lookout() as (lookout, _):

        def sees() -> bool:
            lookout.want_codes(0.4)
            lookout.tend(streams)
            return lookout.live("A") is not None

        wait_for(sees)
        first = lookout._watched["A"].worker
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        monkeypatch.setattr("rig.workers.SILENCE_S", 0.5)
        wait_for(lambda: sees() and lookout._watched["A"].worker is not first)
        assert not first.alive


# The whole rig, by HTTP


@dataclass
class Rig:
    car: Car
    client: FlaskClient
    camera: Camera
    output: Path

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.client.get("/api/status").data)
        return status

    @property
    def first(self) -> dict[str, Any]:
        camera: dict[str, Any] = self.status()["cameras"][0]
        return camera

    def calibrate(self, seconds: float) -> Any:
        response = self.client.post("/api/calibrate", data=json.dumps({"seconds": seconds}))
        assert response.status_code == 200, response.text
        return json.loads(response.data)["cameras"]


@pytest.fixture(scope="module")
def one_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    output = tmp_path_factory.mktemp("rig")
    (output / SCRATCH / "left").mkdir(parents=True)  # by a server that was killed
    with streaming(output / "unused") as camera:
        settings = Settings(output=output, cameras=(camera.address,), discover_interval_s=0.2, reserve_bytes=1 << 20)
        with (
            room_enough(),
            Car(settings, Devices(receiver_worker=run_receiver)) as car,
            Jobs(settings, car.recordings, car.clock, work) as jobs,
        ):
            app = server.create_app(car, jobs, settings)
            wait_for(lambda: [one.state for one in car.status().cameras] == ["idle"])
            yield Rig(car, app.test_client(), camera, output)


@pytest.fixture
def rig(one_rig: Rig) -> Iterator[Rig]:
    yield one_rig
    one_rig.client.post("/api/stop")  # a test that failed shall not make the others fail


def test_calibrate_without_a_recording(rig: Rig) -> None:
    assert not (rig.output / SCRATCH).exists()
    rig.camera.phone = ALWAYS
    [result] = rig.calibrate(6)
    assert result["state"] == "done"
    assert result["serial"] == rig.camera.serial
    assert result["codes"] >= 20
    assert result["error_ms"] < 8.0 < result["whole_error_ms"]
    # The receiver of these tests is 7 s ahead of the phone.
    assert result["delay_ms"] == pytest.approx(LATENCY_MS + 7000.0, abs=20.0)
    assert result["text"].startswith("code read, ")
    assert not (rig.output / SCRATCH).exists()
    # The watcher reads on for a moment after the answer.
    assert rig.first["delay_ms"] == pytest.approx(result["delay_ms"], abs=2.0)
    wait_for(lambda: rig.first["calibration"] is None)
    stored = load_delays(rig.output).get(rig.camera.serial)
    assert stored is None or stored.delay_ms < 3000.0  # no stream is so late: it was another clock's code
    wait_for(lambda: rig.first["state"] == "idle")


def test_a_recording_with_all_that_looks_at_it(rig: Rig) -> None:
    serial = rig.camera.serial
    preview = f"/api/cameras/{serial}/preview.jpg"
    rig.camera.phone = None
    assert rig.client.get(preview).status_code == 503
    assert rig.client.post("/api/qrcode/log", json={**POST, "draws": [[0, 17953561919000]]}).status_code == 204
    named = rig.client.patch(f"/api/cameras/{serial}", json={"label": "côté gauche"})
    assert json.loads(named.data)["camera"]["label"] == "côté gauche"
    recording_id = json.loads(rig.client.post("/api/start").data)["recording"]["id"]
    folder = rig.output / recording_id
    assert [path.name for path in (folder / "videos").iterdir()] == ["cote_gauche"]

    rig.camera.phone = ALWAYS

    def is_done() -> bool:
        assert rig.client.post("/api/qrcode/log", json=POST).status_code == 204
        calibration = rig.first["calibration"]  # None until the car has looked at the streams again
        return calibration is not None and calibration["done"]

    wait_for(is_done)  # 4 s on a machine that is not busy
    lines = (folder / "codes" / "0a1b2c3d.jsonl").read_text().splitlines()
    assert [json.loads(line)["draws"][0][0] for line in lines[:2]] == [0, 1]
    assert {**json.loads(lines[1]), "pi_offset_ns": 0} == {**POST, "pi_offset_ns": 0}

    wait_for(lambda: rig.client.get(preview).status_code == 200)
    response = rig.client.get(preview)
    assert response.mimetype == "image/jpeg"
    assert response.headers["Cache-Control"] == "no-store"
    assert 0 <= int(response.headers["X-Picture-Age-Ms"]) < 3000

    watcher = rig.car.gear.lookout._watched[serial].worker
    assert watcher.pid
    os.kill(watcher.pid, signal.SIGKILL)
    watcher.join(10.0)
    wait_for(is_done)
    assert rig.status()["recording"]["id"] == recording_id
    assert rig.first["state"] == "streaming"
    wait_for(lambda: rig.calibrate(2)[0]["state"] in ("reading", "done"))
    stopped = json.loads(rig.client.post("/api/stop").data)["recording"]
    assert (stopped["state"], stopped["warnings"]) == ("finished", [])
    assert stopped["cameras"][0]["folder"] == "cote_gauche"
    wait_for(lambda: rig.first["calibration"] is None)
    assert rig.client.patch(f"/api/cameras/{serial}", json={"label": ""}).status_code == 200
    assert json.loads((rig.output / "cameras.json").read_text()) == {}


def test_a_start_goes_before_a_calibration(rig: Rig) -> None:
    with ThreadPoolExecutor(1) as threads:
        calibrating = threads.submit(rig.client.post, "/api/calibrate", json={"seconds": 60})
        wait_for(lambda: rig.status()["calibrating"] and rig.first["state"] == "streaming")
        problem(rig.client.application.test_client().post("/api/calibrate"), 409)
        assert json.loads(rig.client.application.test_client().post("/api/stop").data) == {"recording": None}
        started = rig.client.application.test_client().post("/api/start")
        assert started.status_code == 201
        problem(calibrating.result(30.0), 409)
    recording_id = json.loads(started.data)["recording"]["id"]
    stream = rig.output / recording_id / "videos" / rig.camera.serial / "stream-001.ts"
    wait_for(lambda: stream.exists() and stream.stat().st_size > 0)  # its state may still be that of the calibration
    assert not (rig.output / SCRATCH).exists()
    stopped = json.loads(rig.client.post("/api/stop").data)["recording"]
    assert (stopped["id"], stopped["state"]) == (recording_id, "finished")


def test_no_calibration_while_the_cameras_record_on_their_cards(rig: Rig) -> None:
    assert rig.client.post("/api/start", json={"mode": "camera"}).status_code == 201
    assert "cards" in problem(rig.client.post("/api/calibrate"), 409)["detail"]


def test_a_camera_is_set_up_by_the_api_but_not_while_it_records(rig: Rig) -> None:
    where = f"/api/cameras/{rig.camera.serial}"
    wait_for(lambda: rig.first["state"] == "idle")
    shown = json.loads(rig.client.get(f"{where}/settings").data)
    assert set(shown["recommended"]) <= set(shown["options"])
    for wanted, possible in (("wide", True), ("linear", True), ("narrow", False)):
        refused = json.loads(rig.client.patch(where, json={"settings": [f"lens={wanted}"]}).data)["refused"]
        assert [text.partition(":")[0] for text in refused] == ([] if possible else [f"lens={wanted}"])
    assert json.loads(rig.client.get(f"{where}/settings").data)["settings"]["lens"] == "linear"
    short = {"settings": ["control=pro"], "resolution": "1080", "fov": "wide", "fps": 60}
    assert json.loads(rig.client.patch(where, json=short).data)["refused"] == []
    present = json.loads(rig.client.get(f"{where}/settings").data)["settings"]
    assert (present["resolution"], present["lens"], present["fps"]) == ("1080", "wide", "60")
    problem(rig.client.patch(where, json={"settings": ["lens=telescope"]}), 400)
    problem(rig.client.patch(where, json={"fps": "60"}), 400)
    assert "recommended" in problem(rig.client.patch(where, json={}), 400)["cure"]
    assert rig.client.post("/api/start").status_code == 201
    wait_for(lambda: rig.first["state"] == "streaming")
    assert "in use" in problem(rig.client.patch(where, json={"settings": ["recommended"]}), 409)["detail"]


def test_a_picture_is_made_while_another_thread_still_loads_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "typing")  # as long as that lasts
    spec = find_spec("rig.photo.look")
    assert spec is not None
    assert spec.loader is not None
    anew = module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert anew.encode_jpeg(np.zeros((2, 2, 3), np.uint8), 90)
