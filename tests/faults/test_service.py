"""The server under a service manager: fed while it lives, killed and started again when it hangs."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.rig import PATIENCE_S, Server, children, wait_for
from tests.machine import is_gone

WATCHDOG_S = 6.0


class Manager:
    """Does for one server what systemd does with Type=notify, WatchdogSec and Restart=always."""

    def __init__(self, socket_path: Path) -> None:
        self.words: list[str] = []
        self._path = socket_path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(socket_path))

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}

    def hears(self, word: str, within_s: float) -> bool:
        """Whether it is said in time; what else is said is kept."""
        deadline_s = time.monotonic() + within_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            with suppress(TimeoutError):
                self.words += self._socket.recv(4096).decode().splitlines()
                if word in self.words[-3:]:
                    return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_a_server_that_hangs_is_noticed_and_its_recording_goes_on(stopped_server: Server, manager: Manager) -> None:
    server = stopped_server
    server.start(manager.environment)
    assert manager.hears("READY=1", PATIENCE_S)
    server.ready(2)
    recording_id = server.record()
    assert manager.hears("WATCHDOG=1", WATCHDOG_S)
    assert wait_for(lambda: manager.hears("WATCHDOG=1", WATCHDOG_S) and "recording" in manager.words[-1])
    family = children(server.process.pid)
    os.kill(server.process.pid, signal.SIGSTOP)
    hung_s = time.monotonic()
    while manager.hears("WATCHDOG=1", WATCHDOG_S):
        pass
    server.end(signal.SIGKILL)  # systemd sends SIGABRT, which a process that stands still does not hear, then this
    wait_for(lambda: all(map(is_gone, family)))
    server.start(manager.environment)
    assert manager.hears("READY=1", PATIENCE_S)
    back_s = time.monotonic() - hung_s
    running = wait_for(lambda: server.status["recording"])
    assert server.manifest(running["id"])["continues"] == recording_id
    print(f"a server that hung served again after {back_s:.1f} s with a watchdog of {WATCHDOG_S:.0f} s")
    assert back_s < 2 * WATCHDOG_S + 10.0
    assert server.end() == 0
    assert manager.hears("STOPPING=1", 1.0)


@pytest.mark.long
def test_a_server_whose_supervision_hangs_is_not_fed(stopped_server: Server, manager: Manager, tmp_path: Path) -> None:
    """The web side alone would still answer: the health of the server is that of its supervision."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\n"
        "begun = time.monotonic()\n"
        "def wait(self, timeout=None, real=threading.Event.wait):\n"
        "    if threading.current_thread().name == '_tend' and time.monotonic() - begun > 8:\n"
        "        time.sleep(3600)\n"
        "    return real(self, timeout)\n"
        "threading.Event.wait = wait\n"
    )
    server = stopped_server
    server.start({**manager.environment, "PYTHONPATH": str(tmp_path)})
    assert manager.hears("READY=1", PATIENCE_S)
    wait_for(lambda: server.request("GET", "/healthz").status_code == 503)
    time.sleep(WATCHDOG_S / 3)  # one that was on its way
    while manager.hears("WATCHDOG=1", 0.05):
        pass
    assert not manager.hears("WATCHDOG=1", WATCHDOG_S)
    assert server.request("GET", "/").status_code == 200
