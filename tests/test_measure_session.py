"""A measurement records through the server: what it asks of the crew, what it leaves alone, how it ends."""

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from measure import session
from measure.session import SAMPLES, Server, Session, Show
from rig.errors import ConflictError, DeviceError, UnreadableError
from rig.recordings import FINISHED
from tests.browser.site import Site, a_site
from tests.machine import free_port, wait_for

PIN = "271828"
LAMP = Show("switch the lamp", 0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("session")
    (folder / "pin").write_text(f"{PIN}\n")
    with a_site(folder / "output", "C1", pin_file=str(folder / "pin")) as site:
        yield site


@pytest.fixture
def record(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """A session of a second, which looks at the server more often than one of hours does."""
    monkeypatch.setattr(session, "POLL_S", 0.1)
    monkeypatch.setattr(session, "SAMPLE_S", 0.3)

    def run(
        say: Callable[[str], None] = lambda _: None, server: Server | None = None, recordings: Path | None = None
    ) -> Path:
        server = server or Server(site.url(), PIN)
        return Session(server, recordings or site.car.recordings.output, 1.0, LAMP).record(tmp_path / "mine", say)

    yield run
    site.car.stop()


def state_of(site: Site, folder: Path) -> str:
    return site.car.recordings.get(folder.name).state


def test_a_session_records_asks_for_the_lamp_and_samples_each_process(
    site: Site, record: Callable[..., Path], tmp_path: Path
) -> None:
    said: list[str] = []
    folder = record(said.append)
    assert said[0] == f"recording {folder.name} for 0 minutes"
    assert set(said[1:]) == {LAMP.words}
    assert state_of(site, folder) == FINISHED
    with (tmp_path / "mine" / SAMPLES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"receiver", "camera C1"} < {row["process"] for row in rows}
    assert str(os.getpid()) in {row["pid"] for row in rows}
    assert all(float(row["memory_mb"]) > 1 for row in rows)


def test_a_recording_of_the_crew_is_neither_measured_nor_stopped(site: Site, record: Callable[..., Path]) -> None:
    theirs, _ = site.car.start(name="rue Haute")
    with pytest.raises(ConflictError, match=f"records {theirs.id} already"):
        record()
    now = site.car.status().recording
    assert now
    assert now.id == theirs.id


def test_a_session_that_somebody_ends_leaves_the_next_recording_alone(site: Site, record: Callable[..., Path]) -> None:
    said: list[str] = []

    def somebody(text: str) -> None:
        said.append(text)
        if len(said) == 1:
            site.car.stop()
            site.car.start(name="theirs")

    mine = record(somebody)
    assert "not by this measurement" in said[-1]
    assert state_of(site, mine) == FINISHED
    now = site.car.status().recording
    assert now
    assert now.name == "theirs"


def test_an_interrupted_session_leaves_nothing_running(site: Site, record: Callable[..., Path]) -> None:
    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(interrupt)
    assert site.car.status().recording is None


def test_a_server_that_ends_meanwhile_is_told(site: Site, record: Callable[..., Path]) -> None:
    server = Server(site.url(), PIN)

    def vanish(_text: str) -> None:
        server.url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(DeviceError, match="does not answer"):
        record(vanish, server)


def test_a_wrong_pin_is_told_before_anything_is_recorded(site: Site, record: Callable[..., Path]) -> None:
    before = len(site.car.recordings.list())
    with pytest.raises(DeviceError, match=r"POST /api/start: .*PIN"):
        record(server=Server(site.url(), "1"))
    assert len(site.car.recordings.list()) == before


def test_recordings_that_lie_elsewhere_are_told_and_the_session_is_ended(
    site: Site, record: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UnreadableError, match="keeps its recordings elsewhere: name its output folder"):
        record(recordings=tmp_path)
    wait_for(lambda: site.car.status().state == "idle")
    assert site.car.recordings.list()[0].state == FINISHED
