"""gopro.py by itself with a camera that does what users saw cameras do: it ends in order, and says what happened."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import gopro
from rig.camera.vigil import Vigil
from simulator.camera import Camera
from tests.gopros import Client, await_connection, make_camera


@pytest.fixture
def camera() -> Iterator[Camera]:
    with make_camera() as camera:
        yield camera


@dataclass(frozen=True)
class Row:
    """A verb with a fault on: its exit code, what it says, and how many files there are."""

    fault: str
    value: float
    verb: tuple[str, ...] = ("record", "--seconds", "5")
    code: int = 0
    says: str = ""
    files: int = 1


LONGER, STREAM = ("record", "--seconds", "9"), ("stream", "--seconds", "7")
BY_ITSELF = "stopped recording by itself"
ROWS = (
    Row("recording_stops_s", 1.0, LONGER, says=f"{BY_ITSELF} and was started again", files=2),
    Row("recording_stops_s", 4.5, says=BY_ITSELF),
    Row("media_list_404", 1, code=7, says="does not list its files: switch it off and on"),
    Row("overheating", 4, LONGER, code=6, says="the camera is too hot"),
    Row("card_status", 2, code=7, says="does not record: there is no card", files=0),
    Row("card_errors", 2, says="the card is too slow"),
    Row("usb_vanishes_s", 3),
    Row("sleeps_s", 4, LONGER),
    Row("sleeps_s", 4, STREAM),
    Row("overheating", 2, STREAM, says="the camera is too hot"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.fault}={row.value:g} {row.verb[0]}")
def test_verb_ends_in_order_and_says_what_happened(
    row: Row,
    camera: Camera,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = ("--output", str(tmp_path)) if row.verb == STREAM else ()
    Client(camera)("/gopro/camera/keep_alive")
    camera.faults[row.fault] = row.value
    code = gopro.main([*row.verb, *output, "--address", camera.address, "--json"])
    out, errors = capsys.readouterr()
    assert code == row.code, errors
    assert row.says in errors + caplog.text  # as it happens, not only at the end
    if code == 0:
        result = json.loads(out)
        assert len(result["files"]) >= row.files
        assert row.says in str(result["problems"])
    camera.cycle_power(0.2)  # what lay on the card is there, whatever was said
    await_connection(Client(camera), is_there=False)
    camera.faults.clear()
    await_connection(Client(camera), is_there=True)
    assert Client(camera).status(10) == 0
    if row.verb != STREAM:
        assert len(Client(camera).files()) >= row.files


def test_camera_does_not_sleep_while_its_files_are_fetched(camera: Camera, tmp_path: Path) -> None:
    Client(camera).record(1.5)
    (item,) = Client(camera).files()
    camera.faults["download_mb_per_s"] = int(item["s"]) / 8e6
    camera.faults["sleeps_s"] = 4.0
    assert gopro.main(["download", "--output", str(tmp_path), "--address", camera.address]) == 0
    assert (tmp_path / item["n"]).stat().st_size == int(item["s"])


def test_problem_is_told_once(camera: Camera, caplog: pytest.LogCaptureFixture) -> None:
    vigil = Vigil(camera)  # type: ignore[arg-type]  # it is asked for nothing
    for _ in range(2):
        vigil.note("the card is full")
    assert vigil.problems == ["the card is full"]
    assert len(caplog.messages) == 1
