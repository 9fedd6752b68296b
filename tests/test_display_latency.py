"""The display latency over HTTP: server and simulated car as programs, an LED beside the phone, filmed together."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from rig.timing.led import STORE_NAME, stored_latency
from simulator.demo import choose_port
from simulator.page import USER_AGENT
from simulator.stage import Api, Child
from tests.test_server import an_app, problem

LATENCY_MS = 44.0
START_S = 120.0


@dataclass
class Scene:
    """The server, the car it drives, and where what it knows lies."""

    api: Api
    control: str
    output: Path

    def show_phone(self) -> None:
        body = {"show": True, "clock": f"{self.api.url}/api/time"}
        assert requests.post(f"{self.control}/phone", json=body, timeout=30).ok

    def measure(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer; a film during which this machine was too busy is made again, as it says."""
        for _ in range(4):
            self.show_phone()
            answer = self.post("/api/display-latency", body)
            if answer.status_code != 422 or " only" not in answer.json()["detail"]:
                break
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["display_latency"]
        return result

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(self.api.url + path, json=body, timeout=180)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("latency")
    output, led = folder / "output", folder / "led"
    command = [sys.executable, "-m", "simulator", "car", "--until-eof", "--cameras", "1", "--size", "360"]
    command += ["--anti-flicker", "50", "--display-latency-ms", str(LATENCY_MS), "--led", str(led)]
    with contextlib.ExitStack() as exits:
        log = exits.enter_context((folder / "log").open("w"))
        car = json.loads(exits.enter_context(Child("simulated car", command, log)).read_line(START_S))
        settings = {
            "EDENCAR_CAMERAS": car["cameras"][0]["address"],
            "EDENCAR_RECEIVER_PORT": car["receiver"],
            "EDENCAR_OUTPUT": str(output),
            "EDENCAR_LED_PIN": str(led),
            "EDENCAR_RESERVE_BYTES": "1000000",
        }
        port = choose_port(0, print)
        command = [sys.executable, "server.py", "--port", str(port)]
        child = exits.enter_context(Child("server", command, log, settings))
        api = exits.enter_context(Api(f"http://127.0.0.1:{port}", child))
        api.wait("/api/status", _is_ready, START_S, "camera and UTC")
        yield Scene(api, car["control"], output)


def _is_ready(status: dict[str, Any]) -> bool:
    return [c["state"] for c in status["cameras"]] == ["idle"] and status["time"]["source"] == "gnss"


def test_the_latency_is_measured_and_kept_over_http(scene: Scene) -> None:
    result = scene.measure({"seconds": 8})
    assert abs(result["latency_ms"] - LATENCY_MS) <= min(result["error_ms"], 3.0)
    assert result["user_agent"] == USER_AGENT
    assert stored_latency(scene.output, USER_AGENT) == (result["latency_ms"], result["error_ms"])
    assert not (scene.output / ".calibration").exists()
    assert scene.api.call("GET", "/api/recordings")["recordings"] == []


def test_while_a_recording_runs_its_own_stream_is_used(scene: Scene) -> None:
    (scene.output / STORE_NAME).unlink(missing_ok=True)
    recording = scene.api.call("POST", "/api/start")["recording"]
    try:
        result = scene.measure({"seconds": 6, "user_agent": "another"})
        assert abs(result["latency_ms"] - LATENCY_MS) <= min(result["error_ms"], 3.0)
        assert [*json.loads((scene.output / STORE_NAME).read_bytes())] == ["another"]
        assert scene.api.call("GET", "/api/status")["state"] == "recording"
    finally:
        scene.api.call("POST", "/api/stop")
    assert (scene.output / recording["id"] / "led.json").exists()


def test_without_a_phone_it_says_what_to_do(scene: Scene) -> None:
    assert requests.post(f"{scene.control}/phone", json={"show": False}, timeout=30).ok
    answer = scene.post("/api/display-latency", {"seconds": 5})
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
    assert "no time code was found" in answer.json()["detail"]
    assert "/qrcode" in answer.json()["cure"]


def test_without_an_led_it_says_so_at_once(tmp_path: Path) -> None:
    with an_app(tmp_path / "a", "C1") as (app, _):
        told = problem(app.test_client().post("/api/display-latency"), 503)
        assert "GPIO" in told["detail"]
        assert "Raspberry Pi" in told["cure"]
        problem(app.test_client().post("/api/display-latency", json={"seconds": 1000}), 400)
    with an_app(tmp_path / "b", "C1", led_pin=str(tmp_path / "nothing")) as (app, _):
        told = problem(app.test_client().post("/api/display-latency"), 503)
        assert "No such file" in told["detail"]
        assert "led_pin" in told["cure"]
