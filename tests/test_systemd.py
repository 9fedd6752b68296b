"""systemd hears that the server is up and lives, only while it does."""

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.systemd import notify, told_to_systemd

PROMPT_S = 10.0


class Health(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Health.status = 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PROMPT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        yield listener


def heard(listener: socket.socket) -> str:
    return listener.recv(4096).decode()


def silence(listener: socket.socket, seconds: float) -> bool:
    listener.settimeout(seconds)
    try:
        listener.recv(4096)
    except TimeoutError:
        return True
    finally:
        listener.settimeout(PROMPT_S)
    return False


def test_ready_then_fed_then_stopping(systemd: socket.socket, port: int) -> None:
    with told_to_systemd("0.0.0.0", port, lambda: "recording\n00:12"):
        assert heard(systemd) == "READY=1\nSTATUS=recording 00:12"
        assert heard(systemd) == heard(systemd) == "WATCHDOG=1\nSTATUS=recording 00:12"
    while (word := heard(systemd)) != "STOPPING=1":
        assert word.startswith("WATCHDOG=1")


def test_a_server_that_is_not_alive_is_not_fed(systemd: socket.socket, port: int) -> None:
    with told_to_systemd("127.0.0.1", port, lambda: "idle"):
        assert heard(systemd).startswith("READY=1")
        Health.status = 503
        time.sleep(0.3)  # one that was on its way
        while not silence(systemd, 0.05):
            pass
        assert silence(systemd, 0.6)
        Health.status = 200
        assert heard(systemd).startswith("WATCHDOG=1")


def test_a_server_that_is_not_up_is_not_ready(systemd: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with told_to_systemd("127.0.0.1", port, lambda: "idle"):
        assert silence(systemd, 0.7)


def test_without_systemd_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    before = threading.active_count()
    with told_to_systemd("127.0.0.1", 1, lambda: "idle"):
        assert threading.active_count() == before
    notify("READY=1")
    assert "NOTIFY_SOCKET" not in os.environ
