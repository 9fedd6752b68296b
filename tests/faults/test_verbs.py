"""Any order of anybody's wishes: one recording at a time, nothing lost, the last wish holds."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from capturePositions import ReceiverStatus
from car import Car, Devices
from configs import Settings
from rig.camera.finding import FoundCamera
from rig.errors import ConflictError, UnknownError
from rig.status import CameraNow
from rig.workers import Link, StartCapture, StopCapture
from tests.faults.rig import Server, wait_for

CLIENTS = 8
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
POSITIONS = {"allow": "positions-only"}


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=LONG)])
def test_many_who_start_at_once_get_one_recording(server: Server, rounds: int) -> None:
    for number in range(rounds):
        together = threading.Barrier(CLIENTS)
        answers: list[tuple[int, str]] = []

        def start(together: threading.Barrier = together, answers: list[tuple[int, str]] = answers) -> None:
            together.wait()
            answer = server.request("POST", "/api/start", {"cameras": [], **POSITIONS})
            answers.append((answer.status_code, answer.json()["recording"]["id"]))

        threads = [threading.Thread(target=start) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in answers) == [200] * (CLIENTS - 1) + [201]
        assert len({recording_id for _, recording_id in answers}) == 1
        assert server.call("POST", "/api/stop")["recording"]["id"] == answers[0][1]
        assert len(server.call("GET", "/api/recordings")["recordings"]) == number + 1
    print(f"{rounds} rounds of {CLIENTS} starts at once: no second recording")


def run_camera(link: Link, _address: str, _settings: Settings) -> None:
    """A camera that does what it is told at once."""
    capture: list[StartCapture] = []

    def status() -> CameraNow:
        state = "streaming" if capture else "idle"
        return CameraNow(serial="C1", model="HERO12 Black", address="C1", state=state)

    def start(request: StartCapture) -> None:
        (request.folder / "stream-001.ts").write_bytes(b"G" * 188)
        capture[:] = [request]

    link.serve({StartCapture: start, StopCapture: lambda _request: capture.clear()}, status, 0.1)


def run_receiver(link: Link, _settings: Settings) -> None:
    """A receiver that says nothing of use."""
    link.serve({StartCapture: lambda _: None, StopCapture: lambda _: ReceiverStatus(epochs_logged=1)}, ReceiverStatus)


@contextmanager
def a_car(output: Path) -> Iterator[Car]:
    devices = Devices(lambda _: [FoundCamera("C1", "HERO12 Black", "C1", "127.0.0.1")], run_camera, run_receiver)
    with Car(Settings(output=output, reserve_bytes=1 << 20), devices) as car:
        wait_for(lambda: [camera.state for camera in car.status().cameras] == ["idle"])
        yield car


class Verbs(RuleBasedStateMachine):
    """The car beside a model of it: which recordings there are, which is in the trash, which runs."""

    car: Car  # one for all sequences: a car takes a second to start

    def __init__(self) -> None:
        super().__init__()
        self.car.stop()
        for manifest in self.car.recordings.list():
            self.car.recordings.trash(manifest.id)
        while self.car.recordings.drop_oldest_trash():
            pass
        self.kept: set[str] = set()
        self.trash: set[str] = set()
        self.running: str | None = None
        self.names: dict[str, str] = {}

    @rule(name=st.sampled_from(["", "rue Haute", "été"]))
    def start(self, name: str) -> None:
        manifest, new = self.car.start(name=name)
        assert new == (self.running is None)
        if new:
            assert manifest.id not in self.kept | self.trash
            self.kept.add(manifest.id)
            self.names[manifest.id] = name
        self.running = self.running or manifest.id
        assert manifest.id == self.running

    @rule()
    def start_in_another_mode(self) -> None:
        if self.running:
            with pytest.raises(ConflictError):
                self.car.start("camera")

    @rule()
    def stop(self) -> None:
        stopped = self.car.stop()
        assert (stopped.id if stopped else None) == self.running
        assert stopped is None or stopped.state == "finished"
        self.running = None

    @rule(data=st.data(), verb=st.sampled_from(["trash", "restore", "rename"]))
    def change(self, data: st.DataObject, verb: str) -> None:
        known = sorted(self.kept | self.trash)[-6:]
        chosen = data.draw(st.sampled_from([*known, "2000-01-01_00-00-00"]))
        if verb == "trash":
            self.trash_one(chosen)
        elif verb == "restore":
            self.restore_one(chosen)
        elif chosen in self.kept:
            self.car.change(chosen, name="renamed")
            self.names[chosen] = "renamed"

    def trash_one(self, chosen: str) -> None:
        if chosen not in self.kept:
            with pytest.raises(UnknownError):
                self.car.recordings.trash(chosen)
        elif chosen == self.running:
            with pytest.raises(ConflictError):
                self.car.recordings.trash(chosen)
        else:
            self.car.recordings.trash(chosen)
            self.kept.remove(chosen)
            self.trash.add(chosen)

    def restore_one(self, chosen: str) -> None:
        if chosen not in self.trash:
            with pytest.raises(UnknownError):
                self.car.restore(chosen)
        else:
            self.car.restore(chosen)
            self.trash.remove(chosen)
            self.kept.add(chosen)

    @precondition(lambda self: self.trash and not self.running)
    @rule()
    def need_room(self) -> None:
        oldest = self.car.recordings.drop_oldest_trash()
        assert oldest == min(self.trash, key=_age)
        self.trash.remove(oldest)

    @invariant()
    def agrees(self) -> None:
        status = self.car.status()
        assert (status.recording.id if status.recording else None) == self.running
        assert (status.state == "idle") == (self.running is None)
        assert {manifest.id for manifest in self.car.recordings.list()} == self.kept
        assert {*self.car.recordings.list_trash()} == self.trash
        for recording_id, name in [*self.names.items()][-3:]:
            if recording_id in self.kept:
                assert self.car.recordings.get(recording_id).name == name
        if status.recording:
            assert status.recording.name == self.names[status.recording.id]


def _age(recording_id: str) -> tuple[str, int]:
    return recording_id[:19], int(recording_id[20:] or 1)


@pytest.mark.parametrize("sequences", [6, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(0)])])
def test_any_sequence_of_verbs_agrees_with_a_model(sequences: int) -> None:
    with ExitStack() as stack:
        # Recordings lie in memory: what is tested is their order, not the disk.
        where = stack.enter_context(TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        Verbs.car = stack.enter_context(a_car(Path(where)))
        begun_s = time.monotonic()
        run_state_machine_as_test(
            Verbs, settings=settings(max_examples=sequences, stateful_step_count=12, deadline=None)
        )
        print(f"{sequences} sequences of verbs in {time.monotonic() - begun_s:.0f} s")


def test_start_and_stop_mashed_end_as_last_asked(server: Server) -> None:
    answers: list[Any] = []

    def mash(verb: str) -> None:
        body = {"cameras": [], **POSITIONS} if verb == "start" else None
        answers.extend(server.request("POST", f"/api/{verb}", body) for _ in range(12))

    threads = [threading.Thread(target=mash, args=(verb,)) for verb in ("start", "stop", "start", "stop")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    server.call("POST", "/api/stop")
    assert server.status["state"] == "idle"
    recordings = server.call("GET", "/api/recordings")["recordings"]
    assert len(recordings) == sum(answer.status_code == 201 for answer in answers)
    assert {recording["state"] for recording in recordings} <= {"finished"}
