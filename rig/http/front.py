"""What stands before the application: how many connections are held, and what is kept of a request that still comes.

waitress makes a channel for each connection and has a parser for each request on it. Ours differ from its own in this:
`_Channel` makes room for new connections, cuts off who takes nothing of his answers, and has those who are refused hear
why; `_Parser` keeps of a body only what may come, and refuses in the words of the application.
"""

import errno
import re
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Request
from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer, create_server
from waitress.utilities import BadRequest, Error
from werkzeug.exceptions import HTTPException

from rig.errors import ConflictError, NoSpaceError, UsageError
from rig.files import free_bytes
from rig.http.access import Gate
from rig.http.uploads import UPLOAD_BYTES
from rig.http.web import HEADERS, PROBLEM_TYPE, kind_of, write_problem

THREADS = 32  # more than all long answers together, so that some are left for start, stop and status
CONNECTIONS = 400  # then the one that has been silent longest gives way: half-open ones must not lock out the crew
HEAD_BYTES = 32 << 10
BODY_BYTES = 64 << 10
CHUNK_LINE_BYTES = 4 << 10  # waitress looks through the whole line at each piece that comes
MOST_PATIENCE_S = 60  # for a connection that says nothing
LAST_WORDS_S = 5.0  # how long one that was refused may go on sending, so that it hears why
WAITING_BYTES = 1 << 20  # of an answer in pieces that a slow phone has not taken yet
MOST_WAITING_BYTES = 64 << 20  # of all answers; then the one that holds most of that is cut off
NEVER_BYTES = 1 << 40
NOT_HERE = (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN)  # an address of another machine, or of none


def serve_from(
    listener: socket.socket, app: Flask, gate: Gate, uploading: re.Pattern[str], reserve_bytes: int
) -> TcpWSGIServer:
    """A server of `app` at a socket that listens already.

    Of a long body is kept what shows that it is long, unless it is posted to a path of `uploading` by whom the gate
    admits, and while more than `reserve_bytes` of the disk are free: strangers fill neither the disk nor the memory.
    """

    class Channel(_Channel):
        bodies = _LongBodies(gate, uploading, reserve_bytes)

    server = create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        connection_limit=2 * CONNECTIONS,  # at which waitress would hear nobody any more
        channel_timeout=MOST_PATIENCE_S,
        asyncore_use_poll=True,  # select() ends at 1024 descriptors
        max_request_header_size=HEAD_BYTES,
        max_request_body_size=UPLOAD_BYTES,
        outbuf_high_watermark=WAITING_BYTES,
        outbuf_overflow=NEVER_BYTES,  # onto the disk, which may be full: recordings are downloaded to make room
        log_socket_errors=False,  # phones come and go
        ident="edenCar",
    )
    assert isinstance(server, TcpWSGIServer)  # as for any one socket
    server.channel_class = Channel
    return server


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError for what is no port or address, ConflictError for a port in use."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError as error:
        raise UsageError(f"{port} is no TCP port", cure="take one from 0 to 65535") from error
    except OSError as error:
        if error.errno in NOT_HERE:
            cure = "take one of its own, or 0.0.0.0 for all networks"
            raise UsageError(f"{host} is no address of this machine", cure=cure) from error
        cure = f"stop what listens there, or name another --port ({error.strerror})"
        raise ConflictError(f"port {port} of {host} cannot be used", cure=cure) from error


class _Parser(HTTPRequestParser):
    """Takes one request, in as many pieces as it comes in."""

    def __init__(self, adj: Adjustments, bodies: "_LongBodies") -> None:
        super().__init__(adj)
        self._bodies = bodies

    def parse_header(self, header_plus: bytes) -> None:
        """The head is complete: see what body follows."""
        try:
            super().parse_header(header_plus)
        except (ValueError, TransferEncodingNotImplemented) as error:  # of addresses and lengths that are none
            raise ParsingError("a header says what cannot be") from error
        if self.body_rcv is None:
            self.expect_continue = False  # else waitress would wait for ever for what does not come
        elif self.chunked or self.content_length > BODY_BYTES:
            head: dict[str, Any] = vars(self)  # its stubs say other types, or nothing
            self.body_rcv.buf = self._bodies.buffer(
                head["command"], head["path"], head["headers"], self.adj.inbuf_overflow
            )

    def received(self, data: bytes) -> int:
        """Take a piece; how much of it belongs to this request."""
        consumed = super().received(data)
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and len(body.control_line) + len(body.trailer) > CHUNK_LINE_BYTES:
            self.error = BadRequest("the head of a chunk is too long")
            self.completed = True
        if self.error is not None and not isinstance(self.error, _RefusalError):
            self.error = _RefusalError(self.error.code, self.error.reason, self.error.body)
        if self.completed and body is not None and isinstance(body.buf, _Upload) and body.buf.full:
            full = NoSpaceError("the disk has no room for this", cure="delete recordings")
            self.error = _RefusalError(full.status, full.title, full.message, full.cure, kind_of(full))
        if self.completed and not self.empty and consumed < len(data):
            # One request at a time: a thread would wait until the answers to those before are taken.
            vars(self)["headers"]["CONNECTION"], consumed = "close", len(data)
        return consumed


class _RefusalError(Error):
    """What is refused before the application hears of it, in the words of the application."""

    def __init__(self, status: int, title: str, detail: str, cure: str = "", kind: str = "about:blank") -> None:
        super().__init__(detail)
        self.code, self.reason = status, title
        self._problem = write_problem(status, title, detail, cure, kind)

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:  # type: ignore[override]
        head = [("Content-Type", PROBLEM_TYPE), ("Cache-Control", "no-store"), *HEADERS.items()]
        return f"{self.code} {self.reason}", head, self._problem.encode()


@dataclass(frozen=True, slots=True)
class _LongBodies:
    """Where a long body goes, by who sends it and where to."""

    gate: Gate
    uploading: re.Pattern[str]
    reserve_bytes: int

    def buffer(self, method: str, path: str, headers: Mapping[str, str], overflow: int) -> OverflowableBuffer:
        """What takes it; more than `overflow` bytes not in memory."""
        shown = {f"HTTP_{name}": headers.get(name, "") for name in ("AUTHORIZATION", "COOKIE")}
        with suppress(HTTPException):  # a wrong PIN, which the application will say again
            if method == "POST" and self.uploading.fullmatch(path) and self.gate.admits(Request(shown)):
                return _Upload(overflow, self.reserve_bytes)
        return _Beginning(overflow)


class _Beginning(OverflowableBuffer):
    """Forgets what is too much of a body; the application sees that there was more and says so."""

    def append(self, s: bytes) -> None:
        super().append(s[: max(0, BODY_BYTES + 1 - len(self))])


class _Upload(OverflowableBuffer):
    """Keeps a long body on the disk while that has room; then it is `full`, and only counts what comes."""

    def __init__(self, overflow: int, reserve_bytes: int) -> None:
        super().__init__(overflow)
        self.full = False
        self._reserve_bytes = reserve_bytes

    def append(self, s: bytes) -> None:
        with suppress(OSError):
            if self._has_room(len(s)):
                super().append(s)
                return
        self.full = True
        with suppress(OSError):  # of what it could not write before
            self.close()

    def _has_room(self, more: int) -> bool:
        in_memory = len(self) + more < self.overflow
        return not self.full and (in_memory or free_bytes(Path(tempfile.gettempdir())) > self._reserve_bytes)


class _Channel(HTTPChannel):
    """One connection: a thread of waitress's answers its requests (`service`, `write_soon`), its loop does the rest."""

    bodies: _LongBodies

    def __init__(self, server: TcpWSGIServer, sock: socket.socket, *args: Any, **options: Any) -> None:
        self.heard_s = time.monotonic()  # waitress has the wall clock for this, and that may jump
        self._refused = False
        self._leaves_s = 0.0  # when one that was refused must be gone
        # Who takes nothing of an answer for so long is cut off by the kernel; waitress would wait until he does.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * MOST_PATIENCE_S)
        super().__init__(server, sock, *args, **options)
        if len(channels := self._channels()) > CONNECTIONS:
            idle = [one for one in channels if not one.requests and not one.will_close]
            min(idle, key=lambda one: one.heard_s, default=self).handle_close()

    def parser_class(self, adj: Adjustments) -> HTTPRequestParser:  # type: ignore[override]  # waitress only calls it
        """What takes the next request."""
        return _Parser(adj, self.bodies)

    @property
    def waiting_bytes(self) -> int:
        """What is held in memory of answers that are not taken yet."""
        return sum(len(answer) for answer in [*self.outbufs] if isinstance(answer, OverflowableBuffer))

    def write_soon(self, data: Any) -> int:
        """Take a piece of an answer; who has most of his untaken is cut off when it is too much of all."""
        waiting = [(one.waiting_bytes, one) for one in self._channels()]
        if sum(size for size, _ in waiting) > MOST_WAITING_BYTES:
            _, greediest = max(waiting, key=lambda each: each[0])
            with suppress(OSError, AttributeError):  # gone meanwhile
                greediest.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # its own thread closes it
        return super().write_soon(data)

    def service(self) -> None:
        """Answer a request."""
        self._refused = self.requests[0].error is not None
        super().service()

    def readable(self) -> bool:
        """Whether something that comes is wanted: of who is to leave, so that it can be thrown away."""
        return bool(self._leaves_s or super().readable())

    def handle_read(self) -> None:
        """Something has come."""
        self.heard_s = time.monotonic()
        if not self._leaves_s:
            super().handle_read()
        elif self.heard_s > self._leaves_s:
            self.handle_close()
        else:
            with suppress(OSError):
                self.recv(self.adj.recv_bytes)  # closes at the end

    def handle_close(self) -> None:
        """Close, or have one that was refused first hear why: what it still sends would have it hear a reset."""
        if self._refused and self.connected and self.socket is not None:
            self._refused, self.will_close = False, False
            self._leaves_s = time.monotonic() + LAST_WORDS_S
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def _channels(self) -> "list[_Channel]":
        channels = [*vars(self.server)["active_channels"].values()]
        return [one for one in channels if isinstance(one, _Channel)]
