"""Cameras and a receiver that lose power or cable, grow hot or weak, while a recording runs."""

import time
from pathlib import Path

import pytest

from rig.drive.power import machine_problems
from simulator.receiver import Receiver
from tests.faults.rig import SERIALS, Cameras, Server, arrivals, check_gaps, wait_for

SHOWN_S = 3.0
COMPLAINTS = (("overheating", 60, "too hot"), ("card_errors", 3, "card is too slow"), ("battery_percent", 4, "battery"))
BUSY_S = 5.0  # more on a machine that has other things to do


def camera(server: Server, serial: str) -> dict[str, object]:
    found: dict[str, object] = next(one for one in server.status["cameras"] if one["serial"] == serial)
    return found


def test_a_camera_without_power_comes_back_into_the_same_recording(server: Server, cameras: Cameras) -> None:
    serial, other = SERIALS
    recording_id = server.record()
    time.sleep(1.0)
    cameras.cycle_power(serial, 3.0)
    gone_s = time.monotonic()
    wait_for(lambda: server.status["state"] == "degraded")
    noticed_s = time.monotonic() - gone_s
    wait_for(lambda: camera(server, serial)["state"] == "streaming" and server.status["state"] == "recording")
    back_s = time.monotonic() - gone_s - 3.0
    print(f"a camera without power: noticed after {noticed_s:.1f} s, recorded again {back_s:.1f} s after it had some")
    assert noticed_s < SHOWN_S + BUSY_S
    assert back_s < 5.0 + 3 * BUSY_S
    time.sleep(1.0)
    server.call("POST", "/api/stop")
    assert check_gaps(server, recording_id, f"camera {serial}")
    check_gaps(server, recording_id, f"camera {other}")  # it has some where the machine is too busy to simulate it


def test_a_receiver_without_cable_comes_back_into_the_same_log(server: Server, receiver: Receiver) -> None:
    recording_id = server.record()
    time.sleep(1.0)
    receiver.set_fault("unplug", 3.0)
    gone_s = time.monotonic()
    wait_for(lambda: "receiver_lost" in server.codes)
    assert time.monotonic() - gone_s < SHOWN_S + BUSY_S
    wait_for(lambda: server.status["receiver"]["state"] == "listening")
    time.sleep(1.5)
    server.call("POST", "/api/stop")
    manifest = server.manifest(recording_id)
    longest_s = max(end - begin for begin, end in check_gaps(server, recording_id, "receiver")) / 1e9
    print(f"a receiver without cable for 3 s: gap of {longest_s:.1f} s")
    assert longest_s > 2.5
    assert any("receiver" in warning for warning in manifest["warnings"])


def test_what_a_camera_complains_of_is_shown_and_noted(server: Server, cameras: Cameras) -> None:
    serial, recording_id = SERIALS[0], server.record()
    for fault, value, words in COMPLAINTS:
        cameras.fault(serial, fault, value)
        begun_s = time.monotonic()
        try:
            (problem,) = wait_for(lambda words=words: [p for p in server.status["problems"] if words in p["text"]])  # type: ignore[misc]
            shown_s = time.monotonic() - begun_s
            wait_for(lambda words=words: words in " ".join(server.manifest(recording_id)["warnings"]))  # type: ignore[misc]
        finally:
            cameras.fault(serial, fault, None)
        print(f"{fault}: shown after {shown_s:.1f} s")
        assert shown_s < SHOWN_S + BUSY_S
        assert (problem["subject"], serial in problem["text"]) == (serial, True)
    server.call("POST", "/api/stop")


def test_a_camera_that_answers_500_for_ever_costs_nothing_else(server: Server, cameras: Cameras) -> None:
    serial, other = SERIALS
    cameras.fault(serial, "webcam_500", 1)
    try:
        recording_id = server.call("POST", "/api/start")["recording"]["id"]
        wait_for(lambda: camera(server, other)["state"] == "streaming")
        assert server.status["state"] == "degraded"
        assert "camera_not_recording" in server.codes
        pid = server.workers[f"camera {serial}"]
        time.sleep(4.0)
        assert server.workers[f"camera {serial}"] == pid  # told again and again, never started again
    finally:
        cameras.fault(serial, "webcam_500", None)
    wait_for(lambda: server.status["state"] == "recording")
    time.sleep(1.0)
    server.call("POST", "/api/stop")
    assert arrivals(server.output / recording_id / "videos" / serial)
    check_gaps(server, recording_id, f"camera {other}")


@pytest.mark.parametrize(
    ("bits", "words"),
    [("0x0", ()), ("0x50005", ("too little voltage", "slowed down")), ("50000", ("since",)), ("what", ()), (None, ())],
)
def test_a_weak_supply_of_the_pi_is_told(tmp_path: Path, bits: str | None, words: tuple[str, ...]) -> None:
    file = tmp_path / "get_throttled"
    if bits is not None:
        file.write_text(f"{bits}\n")
    problems = [*machine_problems(file)]
    assert len(problems) == len(words)
    assert all(word in problem.text for word, problem in zip(words, problems, strict=True))
