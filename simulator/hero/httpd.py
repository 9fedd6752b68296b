"""A small HTTP/1.1 server such as a camera has: requests in, answers of known length or parts of a file out."""

import itertools
import json
import math
import os
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import BinaryIO, overload
from urllib.parse import parse_qsl, unquote, urlsplit

CHUNK_BYTES = 1 << 16  # of a slow download
IDLE_S = 30.0  # an idle connection is closed after it
POLL_S = 0.05
JSON_TYPE, BYTES_TYPE = "application/json", "application/octet-stream"
# HERO12 v01.30 sent such a line before the status line (OpenGoPro issue 437).
LOG_LINE = "gpHttpServer: [1234567][INFO ] conn 0: {} @civetweb.c:17872\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: the path without its query and double slashes, and by whom."""

    method: str
    path: str
    query: Mapping[str, str]
    client: str
    body: bytes = b""

    @overload
    def number(self, name: str) -> int | None: ...
    @overload
    def number(self, name: str, otherwise: int) -> int: ...
    def number(self, name: str, otherwise: int | None = None) -> int | None:
        """A parameter as an integer; `otherwise` when it is missing or none."""
        try:
            return int(self.query[name])
        except (KeyError, ValueError):
            return otherwise


@dataclass(frozen=True, slots=True)
class Pace:
    """How badly a file is sent."""

    cut_after_bytes: float = math.inf
    bytes_per_s: float = math.inf
    stall_s: float = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether it is sent in small pieces, with pauses between them."""
        return self.stall_s > 0 or self.bytes_per_s < math.inf


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a body in memory, or a file, of which a part may be asked for."""

    status: int = HTTPStatus.OK
    body: bytes = b"{}\n"
    kind: str = JSON_TYPE
    file: Path | None = None
    pace: Pace = Pace()
    log_line: bool = False


def answer_json(content: object, status: int = HTTPStatus.OK) -> Answer:
    """Content as GoPro writes JSON: with tabs and a newline at the end."""
    return Answer(status, (json.dumps(content, indent="\t", ensure_ascii=False) + "\n").encode())


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, of a `Range` header; None for one to be ignored (RFC 9110, 14.2).

    Raises ValueError for a range outside the file.
    """
    unit, _, span = header.partition("=")
    first, dash, last = span.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdigit():
        return None
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
    if begin >= end:
        raise ValueError(f"{header} is outside of {size} bytes")
    return begin, end


class Server(socketserver.ThreadingTCPServer):
    """Serves until `close`, which also ends open connections and all threads."""

    allow_reuse_address = True
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 32

    def __init__(self, host: str, port: int, handle: Callable[[Request], Answer]) -> None:
        self.handle = handle
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_S,), name="camera http", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more, end all connections, wait for all threads."""
        self.closing.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.socket.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Note the connection, so that it can be ended."""
        assert isinstance(request, socket.socket)
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Forget the connection."""
        assert isinstance(request, socket.socket)
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no matter; anything else is a defect and printed."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "civetweb", ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit("/" + self.path.lstrip("/"))  # the SDK sends double slashes
        path = re.sub("/+", "/", unquote(parts.path))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.handle(Request(self.command, path, query, str(self.client_address[0]), body))
        if answer.log_line:
            self.wfile.write(LOG_LINE.format(path).encode())
        if answer.file is None:
            self._send(answer.status, answer.kind, len(answer.body))
            if self.command != "HEAD" and answer.status != HTTPStatus.NO_CONTENT:
                self.wfile.write(answer.body)
        else:
            self._send_file(answer.file, answer.pace)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 (the names in the base class)

    def _send(self, status: int, kind: str, length: int, **headers: str) -> None:
        self.send_response_only(status)  # no Date: a client shall not learn the time from it
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send_file(self, path: Path, pace: Pace) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                part = parse_range(self.headers.get("Range", ""), size)
            except ValueError:
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, BYTES_TYPE, 0, Content_Range=f"bytes */{size}")
                return
            begin, end = part or (0, size)
            if part is None:
                self._send(HTTPStatus.OK, BYTES_TYPE, size, Accept_Ranges="bytes")
            else:
                content_range = f"bytes {begin}-{end - 1}/{size}"
                self._send(HTTPStatus.PARTIAL_CONTENT, BYTES_TYPE, end - begin, Content_Range=content_range)
            if self.command != "HEAD":
                self._copy(file, begin, end, pace)

    def _copy(self, file: BinaryIO, begin: int, end: int, pace: Pace) -> None:
        stop = int(min(end, begin + pace.cut_after_bytes))
        chunk = CHUNK_BYTES if pace.is_slow else max(1, stop - begin)
        pauses_s = itertools.chain([pace.stall_s], itertools.repeat(0.0))
        while begin < stop:
            sent = self.connection.sendfile(file, begin, min(chunk, stop - begin))
            begin += sent
            if self.server.closing.wait(next(pauses_s) + sent / pace.bytes_per_s):
                break
        self.close_connection = self.close_connection or begin < end

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name in the base class)
        """A camera prints nothing."""
