"""Who may do what: reading is open; changing, downloading and deleting ask for the PIN where one is set."""

import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from flask import Flask, Request, Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from configs import SettingError
from rig.files import write_atomically

READING = ("GET", "HEAD", "OPTIONS")
COOKIE = "edencar"
USER = "edencar"  # of HTTP Basic: curl -u edencar:PIN
TOKEN_BYTES = 16
SESSION_S = 30 * 86400
MOST_SESSIONS = 50
TRIES, TRY_WINDOW_S = 5, 60.0
STRANGERS = "*"  # all addresses that never knew the PIN share their tries: an address costs nothing

log = logging.getLogger(__name__)


class Gate:
    """Knows the PIN and who has given it; with an empty PIN everything is open. Safe to use from several threads.

    `book` keeps a hash of each session with the PIN in it, so that a restart in mid-drive asks nobody again and a new
    PIN asks everybody.
    """

    def __init__(self, pin: str, book: Path) -> None:
        self._pin = pin.encode()
        self._book = book
        self._lock = threading.Lock()
        self._failures: dict[str, deque[float]] = {}
        self._known: set[str] = set()
        self._sessions = _read(book)

    @property
    def closed(self) -> bool:
        """Whether a PIN is set."""
        return bool(self._pin)

    def open_session(self, pin: str, address: str) -> str:
        """A token for who knows the PIN. Raises Unauthorized, TooManyRequests."""
        self._check(pin, address)
        token = secrets.token_hex(TOKEN_BYTES)
        with self._lock:
            self._sessions = [*self._sessions, self._hash(token)][-MOST_SESSIONS:]
            self._write()
        return token

    def close_session(self, token: str) -> None:
        """Forget a token."""
        with self._lock:
            self._sessions = [known for known in self._sessions if known != self._hash(token)]
            self._write()

    def admits(self, asked: Request) -> bool:
        """Whether a request shows the PIN or a token. Raises Unauthorized for a wrong PIN, TooManyRequests."""
        if not self.closed or self._hash(asked.cookies.get(COOKIE, "")) in self._sessions:
            return True
        given = asked.authorization
        if given is None or given.type not in ("basic", "bearer"):
            return False
        secret = given.token if given.type == "bearer" else given.password
        if self._hash(secret or "") not in self._sessions:
            self._check(secret or "", asked.remote_addr or "")
        return True

    def _check(self, pin: str, address: str) -> None:
        """Compare in constant time, at most five wrong ones a minute."""
        with self._lock:
            bucket = address if address in self._known else STRANGERS
            failures = self._failures.setdefault(bucket, deque(maxlen=TRIES))
            wait_s = failures[0] + TRY_WINDOW_S - time.monotonic() if len(failures) == TRIES else 0.0
            if wait_s > 0:
                raise TooManyRequests("too many wrong PINs", retry_after=int(wait_s) + 1)
            if hmac.compare_digest(pin.encode(errors="replace"), self._pin):
                self._known.add(address)
                return
            failures.append(time.monotonic())
        log.warning("a wrong PIN from %s", address)
        raise _unauthorized("that is not the PIN")

    def _hash(self, token: str) -> str:
        return hashlib.sha256(token.encode(errors="replace") + b"\0" + self._pin).hexdigest()

    def _write(self) -> None:
        with suppress(OSError):  # a full disk keeps nobody out
            write_atomically(self._book, json.dumps(self._sessions).encode())


def read_pin(file: str) -> str:
    """The PIN in a file, empty when none is named. Raises SettingError rather than leave all open."""
    if not file:
        return ""
    try:
        pin = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"pin_file {file} cannot be read ({error}): write a PIN into it") from error
    if not pin:
        raise SettingError(f"pin_file {file} is empty: write a PIN into it, or unset pin_file")
    return pin


def guard(app: Flask, gate: Gate, closed: Collection[str], free: Collection[str]) -> None:
    """Have a gate asked before anything is changed and before the endpoints `closed`, but not before those `free`."""

    def ask() -> None:
        if request.routing_exception is not None:
            return  # 404 or 405, whoever asks
        needed = request.method not in READING or request.endpoint in closed
        if needed and request.endpoint not in free and not gate.admits(request):
            raise _unauthorized("this needs the PIN")

    app.before_request(ask)


def remember(response: Response, token: str) -> Response:
    """Give a browser its token. Not `Secure`: the car has no TLS (docs/security.md)."""
    response.set_cookie(COOKIE, token, max_age=SESSION_S, httponly=True, samesite="Strict", path="/")
    return response


def _unauthorized(detail: str) -> Unauthorized:
    # Not Basic: browsers would ask for it in a window of their own.
    return Unauthorized(detail, www_authenticate=WWWAuthenticate("bearer", {"realm": USER}))


def _read(book: Path) -> list[str]:
    with suppress(OSError, ValueError):
        values = json.loads(book.read_bytes())
        if isinstance(values, list):
            return [value for value in values if isinstance(value, str)]
    return []
