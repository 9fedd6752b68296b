"""One simulated car for all tests of a module; each test has a server and a folder of its own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.receiver import Receiver
from tests.faults import rig


@pytest.fixture(scope="module")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Cameras]:
    with rig.cameras(tmp_path_factory.mktemp("truth"), 2) as made:
        yield made


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The name of the receiver's port."""
    return tmp_path_factory.mktemp("receiver") / "gnss"


@pytest.fixture(scope="module")
def receiver(port: Path) -> Iterator[Receiver]:
    with rig.receiver(port) as made:
        yield made


@pytest.fixture
def stopped_server(tmp_path: Path, cameras: rig.Cameras, port: Path, receiver: Receiver) -> Iterator[rig.Server]:
    """A server that is not started yet, with the car's devices."""
    (tmp_path / "output").mkdir()
    settings = {
        "EDENCAR_CAMERAS": cameras.addresses,
        "EDENCAR_RECEIVER_PORT": str(port),
        "EDENCAR_RESERVE_BYTES": str(1 << 20),
        "EDENCAR_DISCOVER_INTERVAL_S": "0.5",
    }
    server = rig.Server(tmp_path / "output", settings)
    yield server
    if server._process is not None and server.process.poll() is None:
        server.end(signal.SIGKILL)


@pytest.fixture
def server(stopped_server: rig.Server, cameras: rig.Cameras) -> rig.Server:
    """A server that sees both cameras, a fix and the time."""
    stopped_server.start()
    stopped_server.ready(len(cameras.said))
    return stopped_server
