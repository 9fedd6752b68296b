"""Processes that die, hang or are held up: no recording ends, no process stays behind, every gap has its name."""

import fcntl
import itertools
import os
import random
import signal
import statistics
import time

import pytest
import requests

from tests.faults.rig import SERIALS, Server, arrivals, check_gaps, children, log_folder, steps, wait_for
from tests.machine import is_gone

HELD_S = 3.0
TIMEOUT_S = 60  # of those who listen to a server
BACK_S, BUSY_BACK_S = 2.0, 10.0  # the short test also runs on machines that have other things to do
NEAR_NS = 500_000_000
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


def back_after(times: list[int], at_ns: int) -> float:
    """Seconds from a kill to the end of the longest pause that it can have made."""
    pauses = [(end - begin, end) for begin, end in itertools.pairwise(times) if end > at_ns and begin < at_ns + NEAR_NS]
    return (max(pauses)[1] - at_ns) / 1e9


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=LONG)])
def test_killed_workers_cost_seconds_and_their_gaps_are_named(server: Server, kills: int) -> None:
    recording_id = server.record()
    chance, killed = random.Random(kills), []
    for _ in range(kills):
        time.sleep(chance.uniform(1.0, 4.0))
        worker, pid = chance.choice(sorted(server.workers.items()))
        killed.append((worker, time.monotonic_ns()))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda worker=worker, pid=pid: server.workers.get(worker, pid) != pid)  # type: ignore[misc]
        wait_for(lambda: server.status["state"] == "recording")
    time.sleep(2.0)
    assert server.call("POST", "/api/stop")["recording"]["id"] == recording_id
    manifest = server.manifest(recording_id)
    assert manifest["state"] == "finished"
    back_s = []
    for worker in ("receiver", *(f"camera {serial}" for serial in SERIALS)):
        check_gaps(server, recording_id, worker)
        times = arrivals(log_folder(server, recording_id, worker))
        back_s += [back_after(times, at_ns) for name, at_ns in killed if name == worker]
    print(f"{kills} kills: back after {statistics.median(back_s):.2f} s (median), {max(back_s):.2f} s (worst)")
    assert len(back_s) == kills
    assert sorted(back_s)[int(0.95 * (kills - 1))] <= (BACK_S if kills > 10 else BUSY_BACK_S)


def test_a_worker_that_hangs_is_replaced(server: Server) -> None:
    recording_id = server.record()
    worker = f"camera {SERIALS[0]}"
    time.sleep(1.0)
    pid = server.workers[worker]
    os.kill(pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    wait_for(lambda: is_gone(pid))
    assert time.monotonic() - stopped_s < 8.0 + BUSY_BACK_S
    wait_for(lambda: server.status["state"] == "recording" and server.workers.get(worker))
    time.sleep(1.0)
    server.call("POST", "/api/stop")
    (gap,) = (gap for gap in server.manifest(recording_id)["gaps"] if gap["device"] == worker)
    print(f"a worker that hung was back after {gap['seconds']:.1f} s")
    assert gap["seconds"] < 12.0


def test_a_worker_that_is_held_up_for_three_seconds_loses_nothing(server: Server) -> None:
    recording_id = server.record()
    pid = server.workers[f"camera {SERIALS[0]}"]
    time.sleep(1.0)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(HELD_S)
    os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)
    assert server.workers[f"camera {SERIALS[0]}"] == pid
    (camera,) = (one for one in server.status["cameras"] if one["serial"] == SERIALS[0])
    assert camera["lost_datagrams"] == 0
    server.call("POST", "/api/stop")
    # A busy machine may hold up the camera itself for a moment.
    assert all(gap["seconds"] < HELD_S / 2 for gap in server.manifest(recording_id)["gaps"])
    assert not steps(arrivals(server.output / recording_id / "videos" / SERIALS[0]), HELD_S / 2)


@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=LONG)])
def test_a_killed_server_leaves_nothing_and_its_recording_goes_on(server: Server, rounds: int) -> None:
    recording_id, goes_on_s = server.record(name="rue Haute"), []
    for _ in range(rounds):
        time.sleep(1.5)
        family = children(server.process.pid)
        assert len(family) >= 3
        server.end(signal.SIGKILL)
        killed_s = time.monotonic()
        wait_for(lambda family=family: all(map(is_gone, family)))  # type: ignore[misc]
        assert time.monotonic() - killed_s < (1.0 if rounds > 10 else BUSY_BACK_S)
        with (server.output / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        server.start()
        running = wait_for(lambda: server.status["recording"])
        goes_on_s.append(time.monotonic() - killed_s)
        left = server.manifest(recording_id)
        assert (left["state"], left["stopped"]) == ("interrupted", None)
        assert running["id"] != recording_id
        assert (running["name"], server.manifest(running["id"])["continues"]) == ("rue Haute", recording_id)
        wait_for(lambda: "continued" in server.codes)
        recording_id = running["id"]
        wait_for(lambda: {camera["state"] for camera in server.status["cameras"]} == {"streaming"})
    print(f"{rounds} kills of the server: recording again after {max(goes_on_s):.1f} s (worst)")
    wait_for(lambda: len(arrivals(server.output / recording_id / "videos" / SERIALS[0])) > 10)
    assert server.call("POST", "/api/stop")["recording"]["id"] == recording_id


def test_what_was_interrupted_long_ago_does_not_go_on(server: Server) -> None:
    recording_id = server.record()
    server.end(signal.SIGKILL)
    server._settings = {**server._settings, "EDENCAR_RESUME_WITHIN_S": "0.1"}
    time.sleep(0.5)
    server.start()
    wait_for(lambda: "interrupted" in server.codes)
    server.ready(2)
    assert server.status["recording"] is None
    assert server.request("DELETE", f"/api/recordings/{recording_id}").status_code == 204
    assert "interrupted" not in server.codes  # what is in the trash is nobody's problem


def test_sigterm_closes_the_recording_whoever_listens(server: Server) -> None:
    recording_id = server.record()
    listeners = [requests.get(f"{server.url}/api/events", stream=True, timeout=TIMEOUT_S) for _ in range(8)]
    time.sleep(1.0)
    begun_s = time.monotonic()
    assert server.end(signal.SIGTERM) == 0
    took_s = time.monotonic() - begun_s
    for listener in listeners:
        listener.close()
    print(f"SIGTERM during a recording: ended after {took_s:.1f} s")
    assert took_s < TIMEOUT_S / 3, "it waits for nobody"
    manifest = server.manifest(recording_id)
    assert (manifest["state"], manifest["stopped"] is not None) == ("finished", True)
