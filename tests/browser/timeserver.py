"""A server that tells a time of its own, as the Pi does, and takes the page's draw log."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from server import CODE_POLICY


class TimeServer(ThreadingHTTPServer):
    """Serves one page, `/api/time` from a clock that is `offset_ns` off, `/api/status`, and takes `/api/qrcode/log`."""

    daemon_threads = True

    def __init__(self, page: Path, offset_ns: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = page.read_bytes()
        self.offset_ns = offset_ns
        self.source = "gnss"
        self.alive = True  # a dead one drops connections
        self.missing: set[str] = set()  # paths that answer 404
        self.status: dict[str, Any] = {}
        self.asked: list[str] = []
        self.logs: list[dict[str, Any]] = []

    def utc_ns(self, wall_s: float | None = None) -> int:
        """The server's time, now or when this machine's clock said `wall_s`."""
        return (time.time_ns() if wall_s is None else round(wall_s * 1e9)) + self.offset_ns

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and body for a GET."""
        if path in self.missing:
            return 404, "text/plain", b""
        if path == "/api/time":
            values = {"sigma_ms": 5.8, "source": self.source, "utc_ns": self.utc_ns()}
            return 200, "application/json", json.dumps(values).encode()
        if path == "/api/status":
            return 200, "application/json", json.dumps(self.status).encode()
        return 200, "text/html; charset=utf-8", self.page


class _Handler(BaseHTTPRequestHandler):
    server: TimeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(*self.server.answer(self.path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path not in self.server.missing and self.server.alive:
            self.server.logs.append(json.loads(body))
        self._reply(404 if self.path in self.server.missing else 200, "application/json", b"{}")

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.server.asked.append(self.path)
        if not self.server.alive:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CODE_POLICY)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(page: Path, offset_ns: int) -> Iterator[TimeServer]:
    """A server that runs."""
    with TimeServer(page, offset_ns) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
