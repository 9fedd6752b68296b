"""Fault by fault: what a camera that does what users saw cameras do makes of a recording, and what is said of it.

Each fault of the virtual camera has at least one row below. The rule: nothing is lost that could be kept.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.camera.opengopro import GoPro
from rig.camera.streamcapture import SILENCE_S
from rig.errors import DeviceError
from rig.workers import StartCapture, StopCapture
from simulator.camera import Camera
from simulator.camera_faults import FAULTS
from tests.gopros import Driver, make_camera, names_in

RECORDING = "2026-11-22_14-03-12"


@pytest.fixture
def camera() -> Iterator[Camera]:
    with make_camera() as camera:
        yield camera


@pytest.fixture
def driver(camera: Camera, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(camera, tmp_path)
    driver.wait(lambda status: status.state == "idle")
    yield driver
    driver.worker.stop()


def index_of(folder: Path) -> list[list[int]]:
    """All lines of all segments: PTS, arrival, offset, key, continuity errors."""
    lines = [line for path in sorted(folder.glob("*.idx")) for line in path.read_text().splitlines()[1:]]
    return [[int(cell) for cell in line.split(",")] for line in lines]


# The stream


@dataclass(frozen=True)
class Streams:
    """A stream is recorded all the same. `lost`: datagrams are; `says`: in what is told of the camera; `fps`."""

    fault: str
    value: float | None = None
    lost: bool = False
    says: str = ""
    fps: float = 29.97


STREAMS = (
    Streams("log_line_before_status", 4),
    Streams("webcam_error_once", 1),
    Streams("webcam_unavailable", 1),
    Streams("preview_409"),
    Streams("preview_stuck"),
    Streams("media_list_404"),
    Streams("no_battery"),
    Streams("battery_percent", 3, says="battery_percent=3"),
    Streams("card_status", 2, says="there is no card"),
    Streams("card_errors", 1, says="the card is too slow"),
    Streams("stale_idle"),
    Streams("clock_offset_s", 7200),
    Streams("clock_drift_ppm", 80),
    Streams("anti_flicker_50_hz", fps=25.0),
    Streams("udp_loss", 0.02, lost=True),
    Streams("udp_reordering", 0.05),
    Streams("udp_prefix_bytes"),
    Streams("udp_early_s", 0.5),
)


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.fault)
def test_stream_is_recorded_in_spite_of(row: Streams, camera: Camera, driver: Driver) -> None:
    folder = driver.folder(RECORDING)
    camera.faults[row.fault] = FAULTS[row.fault][0] if row.value is None else row.value
    driver.ask(StartCapture(folder, "video"))
    status = driver.wait(lambda status: status.state == "streaming" and abs((status.fps or 0) - row.fps) < 1.0, 15.0)
    time.sleep(1.0)
    if row.says:
        driver.wait(lambda status: row.says in str(status))
    driver.ask(StopCapture())
    lines = index_of(folder)
    assert len(lines) > row.fps
    status = driver.worker.status
    sent = camera.counts
    errors = sum(line[4] for line in lines)
    assert (status.lost_datagrams > 0 or errors > 0) == row.lost, (status, sent)
    driver.wait(lambda status: status.state == "idle")


@pytest.mark.parametrize(
    ("fault", "value", "says"),
    [("webcam_unavailable", 2, "unavailable"), ("webcam_500", 1, "500"), ("lens_refused", 4, "lens")],
)
def test_stream_that_cannot_be_is_refused_with_a_reason(
    fault: str, value: float, says: str, camera: Camera, driver: Driver
) -> None:
    camera.faults[fault] = value
    with pytest.raises(DeviceError, match=says):
        driver.ask(StartCapture(driver.folder(RECORDING), "video"))
    assert driver.worker.status.state == "idle"
    del camera.faults[fault]
    driver.ask(StartCapture(driver.folder(RECORDING), "video"))  # nothing stands in the way afterwards
    driver.ask(StopCapture())


def test_camera_is_kept_awake(camera: Camera, driver: Driver) -> None:
    camera.faults["sleeps_s"] = 4.0
    driver.ask(StartCapture(driver.folder(RECORDING), "video"))
    time.sleep(7.0)
    assert driver.worker.status.state == "streaming"
    assert not driver.worker.status.problems


def test_stream_of_a_camera_that_gets_too_hot_is_kept_and_goes_on(camera: Camera, driver: Driver) -> None:
    folder = driver.folder(RECORDING)
    driver.ask(StartCapture(folder, "video"))
    camera.faults["overheating"] = 3.0
    driver.wait(lambda status: "too hot" in str(status.problems))
    driver.wait(lambda status: status.state == "lost" and "no camera answers" in str(status.problems), 20.0)
    before = len(index_of(folder))
    assert before > 30
    camera.cycle_power(0.2)  # it has cooled down, somebody switches it on
    driver.wait(lambda status: status.state == "streaming" and not status.problems, 20.0 + SILENCE_S)
    time.sleep(1.0)
    driver.ask(StopCapture())
    assert len(index_of(folder)) > before + 20


# The card


@dataclass(frozen=True)
class Records:
    """A video is recorded on the card and is here afterwards, in `files` files. `says`: in its status meanwhile."""

    fault: str
    value: float | None = None
    during: bool = False  # switched on when it records already
    says: str = ""
    files: int = 1


RECORDS = (
    Records("log_line_before_status", 4),
    Records("preview_409"),
    Records("preview_stuck"),
    Records("large_files_bytes", 6e6),
    Records("chapter_info_404"),
    Records("download_cut_bytes", 20_000),
    Records("download_mb_per_s", 0.2),
    Records("download_stall_s", 6.0),  # longer than a time-out
    Records("no_battery"),
    Records("recording_stops_s", 2.0, says="stopped recording by itself", files=2),
    Records("usb_vanishes_s", 4.0, says="no camera answers"),
    Records("card_status", 1, during=True, says="the card is full"),
    Records("card_errors", 2, during=True, says="the card is too slow"),
    Records("clock_offset_s", -86_400),
)


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: row.fault)
def test_video_on_the_card_comes_in_spite_of(row: Records, camera: Camera, driver: Driver) -> None:
    folder = driver.folder(RECORDING)
    value = FAULTS[row.fault][0] if row.value is None else row.value
    if not row.during:
        camera.faults[row.fault] = value
    driver.ask(StartCapture(folder, "camera"))
    time.sleep(1.0)
    if row.during:
        camera.faults[row.fault] = value
    if row.says:
        driver.wait(lambda status: row.says in str(status), 15.0)
    if row.files > 1:
        camera.faults.pop(row.fault)
        time.sleep(1.0)
    driver.wait(lambda status: status.state == "recording", 15.0)
    files = driver.ask(StopCapture())
    assert len(files) == row.files
    driver.wait(lambda status: status.state == "idle" and names_in(folder) == {*files}, 40.0)
    camera.faults.clear()
    with closing(GoPro(camera.address)) as client:
        sizes = {media.name: media.size_bytes for media in client.media()}
    assert {name: (folder / name).stat().st_size for name in files} == {name: sizes[name] for name in files}


def test_card_that_is_not_there_is_told(camera: Camera, driver: Driver) -> None:
    camera.faults["card_status"] = 2
    with pytest.raises(DeviceError, match="there is no card"):
        driver.ask(StartCapture(driver.folder(RECORDING), "camera"))
    assert list(driver.folder(RECORDING).iterdir()) == []


def test_card_that_cannot_be_listed_until_a_reboot_is_recorded_on_and_fetched_then(
    camera: Camera, driver: Driver
) -> None:
    camera.faults["media_list_404"] = 1
    folder = driver.folder(RECORDING)
    driver.ask(StartCapture(folder, "camera"))
    driver.wait(lambda status: "does not list its files" in str(status.problems))
    time.sleep(0.7)
    with pytest.raises(DeviceError, match="does not list its files"):
        driver.ask(StopCapture())
    driver.wait(lambda status: "could not be stopped" in str(status.problems) or "not list" in str(status.problems))
    with closing(GoPro(camera.address)) as client:
        assert not client.state().encoding  # at least that
    camera.cycle_power(0.2)
    driver.wait(lambda status: status.state == "idle" and len(list(folder.glob("*.MP4"))) == 1, 30.0)


def test_video_of_a_camera_that_gets_too_hot_comes_when_it_is_back(camera: Camera, driver: Driver) -> None:
    folder = driver.folder(RECORDING)
    driver.ask(StartCapture(folder, "camera"))
    camera.faults["overheating"] = 3.0
    driver.wait(lambda status: "too hot" in str(status.problems))
    driver.wait(lambda status: status.state == "lost", 20.0)
    with pytest.raises(DeviceError, match="as soon as it answers"):
        driver.ask(StopCapture())
    camera.cycle_power(0.2)
    driver.wait(lambda status: status.state == "idle" and {path.suffix for path in folder.iterdir()} == {".MP4"}, 30.0)


def test_each_fault_has_a_row() -> None:
    here = Path(__file__).read_text()
    assert [name for name in FAULTS if f'"{name}"' not in here] == []
