"""The display latency by the LED: its pattern and log, the LED in pictures, the latency against the truth."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, UtcClock, system_clock
from rig.errors import DeviceNotFoundError, NoCalibrationError, UnreadableError
from rig.footage import pixels
from rig.timing import led, ledfilm
from rig.timing.gpio import opened
from rig.timing.led import LedLog
from rig.timing.ledfilm import Lights
from rig.workers import Worker
from simulator.film import Film
from simulator.led import Led
from simulator.world import Street, World
from tests.ledfilms import BEGIN_NS, NTSC, Scene, any_scene, simulate, write_film

PHONE = "Mozilla/5.0 (Linux; Android 15; Pixel 8)"


class Wire:
    """A switch that remembers when it was used."""

    def __init__(self) -> None:
        self.switched: list[tuple[int, bool]] = []

    def __call__(self, on: bool) -> None:
        self.switched.append((time.monotonic_ns(), on))


# --- blinking and its log --------------------------------------------------------------------------------------------


def test_a_pattern_is_known_by_its_seed() -> None:
    plan = led.pattern(7, 10.0)
    assert plan == led.pattern(7, 10.0)
    assert plan != led.pattern(8, 10.0)
    steps = [new - old for old, new in pairwise(plan)]
    assert plan[0] == 0
    assert len(plan) % 2 == 0  # ends dark
    assert 40 * NS_PER_MS <= min(steps) < 45 * NS_PER_MS
    assert 115 * NS_PER_MS < max(steps) <= 120 * NS_PER_MS
    assert 10 * NS_PER_S <= plan[-1] < 10.3 * NS_PER_S


def test_the_log_holds_when_the_pin_was_switched() -> None:
    wire, clock = Wire(), UtcClock(BEGIN_NS, 0, 0, "gnss")
    log = led.blink(wire, clock, 0.5, 3, lambda: True, clock_error_ns=1000)
    assert wire.switched.pop()[1] is False  # whatever happened, the LED ends dark
    assert [on for _, on in log.edges] == [on for _, on in wire.switched]
    assert [on for _, on in log.edges[:3]] == [True, False, True]
    # The log is in the clock it was given; each edge was switched when the log says so.
    late = [utc_ns - BEGIN_NS - at for (utc_ns, _), (at, _) in zip(log.edges, wire.switched, strict=True)]
    assert float(np.median(np.abs(late))) < NS_PER_MS
    assert 1000 <= log.clock_error_ns < 5 * NS_PER_MS


def test_blinking_that_is_stopped_ends_dark() -> None:
    wire = Wire()
    log = led.blink(wire, UtcClock(BEGIN_NS, 0, 0, "gnss"), 10.0, 3, lambda: len(wire.switched) < 3)
    assert 4 <= len(log.edges) < 10
    assert log.edges[-1][1] is False
    assert wire.switched[-1][1] is False


def test_a_log_comes_back_as_it_was(tmp_path: Path) -> None:
    log = LedLog(5, ((BEGIN_NS, True), (BEGIN_NS + 1, False)), 17)
    led.write_log(tmp_path / led.LOG_NAME, log)
    assert led.read_log(tmp_path / led.LOG_NAME) == log
    assert json.loads((tmp_path / "led.json").read_bytes()) == {
        "seed": 5,
        "edges": [[BEGIN_NS, True], [BEGIN_NS + 1, False]],
        "clock_error_ns": 17,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"seed": 1, "edges": [], "clock_error_ns": 0}',
        '{"seed": 1, "edges": [[2, true], [1, false]], "clock_error_ns": 0}',
        '{"seed": 1, "edges": [[1, true], [2, true]], "clock_error_ns": 0}',
        '{"seed": 1, "edges": [[1, true]], "clock_error_ns": 0}',
        '{"seed": 1, "edges": 3, "clock_error_ns": 0}',
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "led.json").write_text(text)
    with pytest.raises(UnreadableError, match=r"led\.json.*blink again"):
        led.read_log(tmp_path / "led.json")


def test_a_log_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"led\.json cannot be read \(No such file or directory\): .*--led"):
        led.read_log(tmp_path / "led.json")


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDENCAR_NOSUCH", "1")
    assert led.main(["blink"]) == 2
    assert capsys.readouterr().err.startswith("rig.timing.led: unknown setting 'nosuch'")


def test_off_the_pi_there_is_no_pin(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="Raspberry Pi"), opened("17"):
        pass
    worker = Worker("led", led.blink_worker, tmp_path, 0.5, Settings(), system_clock())
    worker.start()
    worker.join(30)
    assert isinstance(worker.error, DeviceNotFoundError)
    assert led.main(["blink", "--output", str(tmp_path)]) == 6
    assert not list(tmp_path.iterdir())


def test_a_pin_of_the_header_is_switched_and_left_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Device:  # as gpiozero's DigitalOutputDevice
        def __init__(self, number: int) -> None:
            if number > 27:
                raise ValueError(f"no GPIO {number}")
            told.append(f"open {number}")

        def on(self) -> None:
            told.append("on")

        def off(self) -> None:
            told.append("off")

        def close(self) -> None:
            told.append("close")

    monkeypatch.setitem(sys.modules, "gpiozero", SimpleNamespace(DigitalOutputDevice=Device))
    with opened("17") as switch:
        switch(True)
        switch(False)
    assert told == ["open 17", "on", "off", "close"]
    with pytest.raises(DeviceNotFoundError, match="GPIO 40 cannot be opened"), opened("40"):
        pass


@pytest.fixture
def time_server() -> Iterator[str]:
    """Tells a UTC that is BEGIN_NS ahead of CLOCK_MONOTONIC, as /api/time does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"utc_ns": BEGIN_NS + time.monotonic_ns()}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_clock_is_that_of_the_server(time_server: str) -> None:
    clock = led.server_clock(time_server)
    assert abs(clock.utc_ns() - BEGIN_NS - time.monotonic_ns()) <= clock.sigma_ns + NS_PER_MS
    with pytest.raises(DeviceNotFoundError, match="edencar serve"):
        led.server_clock("http://127.0.0.1:9")


def test_the_command_blinks_whatever_takes_1_and_0(
    time_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lamp = tmp_path / "brightness"
    lamp.touch()
    command = ["blink", "--pin", str(lamp), "--server", time_server, "--seconds", "0.3", "--output", str(tmp_path)]
    assert led.main(command) == 0
    log = led.read_log(tmp_path / led.LOG_NAME)
    assert capsys.readouterr().out.startswith(f"{len(log.edges)} edges, each within ")
    told = lamp.read_text().split()
    assert told[: len(log.edges)] == ["1" if on else "0" for _, on in log.edges]
    assert told[-1] == "0"


# --- the latency, simulated ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "refresh_hz"), [(Fraction(25), 60.0), (Fraction(25), 120.0), (NTSC, 60.0)])
def test_the_latency_is_exact_and_its_bar_holds_the_truth(fps: Fraction, refresh_hz: float) -> None:
    rng = np.random.default_rng(21)
    found = []
    for _ in range(4):
        scene = any_scene(rng, fps, refresh_hz)
        try:
            latency = simulate(scene, rng)
        except NoCalibrationError:
            continue  # the phase stood still
        found.append((abs(latency.latency_ms - scene.truth_ms), latency.error_ms))
    errors, bars = np.array(found).T
    assert len(found) >= 3
    assert errors.max() <= 1.5
    assert (errors <= bars).all()
    assert np.median(bars) <= 2.5


def test_a_code_of_another_clock_gives_no_latency() -> None:
    scene = Scene(latency_ms=-90.0)  # the phone is 130 ms ahead of the Pi
    with pytest.raises(NoCalibrationError, match="which no phone does"):
        simulate(scene, np.random.default_rng(22))


# --- the LED in pictures ---------------------------------------------------------------------------------------------

SCENE = Scene(seconds=5.0, seed=11)
ROWS = 540


@cache
def lights(spot: Led | None) -> Lights:
    """Five seconds of pictures, not encoded."""
    film = Film(World(BEGIN_NS, 0), Street(1, BEGIN_NS), "left", ROWS * 16 // 9, ROWS)
    pts_ns = SCENE.pts_ns
    blocks = []
    for number, pts in enumerate(pts_ns.tolist()):
        picture = film.picture(BEGIN_NS + pts, number, SCENE.phone, spot)
        blocks.append(ledfilm.block_light(pixels.luma(picture)))
    return Lights(pts_ns, np.array(blocks))


def row_shift_ns(spot: Led) -> int:
    return round((spot.down - 0.5) * 15 * NS_PER_MS)


@pytest.mark.parametrize(
    ("light", "sway", "diameter"),
    [(0.8, 0.0, 14.0), (5.0, 0.0, 14.0), (60.0, 0.0, 14.0), (0.8, 8.0, 14.0), (0.8, 0.0, 9.0)],
    ids=["usual", "saturated", "blinding", "held in a hand", "small"],
)
def test_the_led_is_found_and_times_the_pictures(light: float, sway: float, diameter: float) -> None:
    spot = Led(SCENE.log.edges, light=light, sway=sway, diameter=diameter)
    found = ledfilm.find(lights(spot), SCENE.log, BEGIN_NS - 45 * NS_PER_MS)
    error_ms = (found.offset_ns - BEGIN_NS - row_shift_ns(spot)) / NS_PER_MS
    assert abs(error_ms) <= min(1.0, found.half_width_ns / NS_PER_MS)
    assert found.half_width_ns < 2 * NS_PER_MS
    assert (found.across, found.down) == pytest.approx((spot.across, spot.down), abs=0.02)


def test_without_the_right_led_there_is_no_time() -> None:
    dark, blinking = lights(None), lights(Led(SCENE.log.edges))
    other = replace(SCENE, seed=12).log
    near = BEGIN_NS - 45 * NS_PER_MS
    for seen, log in ((dark, SCENE.log), (blinking, other), (blinking, _steady())):
        with pytest.raises(NoCalibrationError, match="no LED in the picture follows the pattern"):
            ledfilm.find(seen, log, near)
    # A page that runs on its own clock is seconds off: the LED then follows at no latency that is looked for.
    with pytest.raises(NoCalibrationError, match="no LED in the picture"):
        ledfilm.find(blinking, SCENE.log, near + NS_PER_S)
    short = Lights(blinking.pts_ns[:70], blinking.blocks[:70])
    with pytest.raises(NoCalibrationError, match="70 pictures"):
        ledfilm.find(short, SCENE.log, near)


def _steady() -> LedLog:
    """Blinking without a pattern."""
    first = SCENE.log.edges[0][0]
    return LedLog(0, tuple((first + n * 80 * NS_PER_MS, n % 2 == 0) for n in range(64)), 0)


# --- from a file to the store ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LED and the code, encoded, with the log beside them."""
    path = tmp_path_factory.mktemp("led") / "film.mp4"
    write_film(path, SCENE, height=720, bit_rate=6_000_000)
    led.write_log(path.parent / led.LOG_NAME, SCENE.log)
    return path


def test_a_film_gives_the_latency_and_keeps_it(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["estimate", str(film), "--user-agent", PHONE, "--output", str(tmp_path / "output"), "--json"]
    assert led.stored_latency(tmp_path / "output", PHONE) is None
    assert led.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert abs(result["latency_ms"] - SCENE.truth_ms) <= min(1.5, result["error_ms"])
    assert result["error_ms"] <= 2.5
    assert result["method"] in ("led+vernier", "led+interval")
    assert led.stored_latency(tmp_path / "output", PHONE) == (result["latency_ms"], result["error_ms"])
    assert led.stored_latency(tmp_path / "output", "another browser") is None
    stored = json.loads((tmp_path / "output" / led.STORE_NAME).read_bytes())
    assert set(stored[PHONE]) == {"latency_ms", "error_ms", "when", "codes", "method"}
    assert stored[PHONE]["when"].startswith("2026-11-22T14:03:1")


def test_a_film_with_another_log_changes_nothing(film: Path, tmp_path: Path) -> None:
    with pytest.raises(NoCalibrationError, match="no LED"):
        led.measure(film, replace(SCENE, seed=12).log, PHONE, (), Settings())
    hour = 3600 * NS_PER_S
    later = LedLog(11, tuple((utc_ns + hour, on) for utc_ns, on in SCENE.log.edges), 0)
    with pytest.raises(NoCalibrationError, match="in 0 pictures"):
        led.measure(film, later, PHONE, (), Settings())
    with pytest.raises(UnreadableError):
        led.measure(film.parent / led.LOG_NAME, SCENE.log, PHONE, (), Settings())
    assert led.stored_latency(tmp_path, PHONE) is None
    assert led.main(["estimate", str(film), "--output", str(tmp_path)]) == 3  # nobody says which phone it was


def test_a_damaged_store_counts_as_empty(tmp_path: Path) -> None:
    for text in ("", "[]", '{"x": 3}', json.dumps({PHONE: {"latency_ms": "?"}})):
        (tmp_path / led.STORE_NAME).write_text(text)
        assert led.stored_latency(tmp_path, PHONE) is None
