"""What systemd is told of the server: that it is up, lives, or ends (sd_notify(3), sd_watchdog_enabled(3)).

Outside of systemd nothing is told and nothing runs.
"""

import http.client
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

USUAL_S = 10.0  # between two looks where no watchdog asks for more
ANSWER_S = 4.0  # how long the server may take to answer itself

log = logging.getLogger(__name__)


@contextmanager
def told_to_systemd(host: str, port: int, describe: Callable[[], str]) -> Iterator[None]:
    """While inside, feed the watchdog as long as GET /healthz of this very server answers 200.

    `describe` says in a few words what the server does.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        yield
        return
    ending = threading.Event()
    thread = threading.Thread(target=_feed, args=(_own(host), port, describe, ending), name="systemd", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        notify("STOPPING=1")


def notify(message: str) -> None:
    """Send a message to systemd, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(message.encode())


def answers(host: str, port: int) -> bool:
    """Whether the server answers and says that its supervision runs."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException) as error:
        log.error("the server does not answer itself: %s", error)
        return False
    finally:
        connection.close()


def _feed(host: str, port: int, describe: Callable[[], str], ending: threading.Event) -> None:
    asked_s = int(os.environ.get("WATCHDOG_USEC", 0)) / 1e6
    ready = False
    while True:
        if answers(host, port):
            notify("\n".join(("WATCHDOG=1" if ready else "READY=1", f"STATUS={_line(describe)}")))
            ready = True
        if ending.wait(asked_s / 3 if ready and asked_s else USUAL_S if ready else 0.2):
            return


def _line(describe: Callable[[], str]) -> str:
    try:
        return " ".join(describe().split())
    except Exception:  # a word about the server must not be the end of it
        log.exception("the state is not told")
        return "serving"


def _own(host: str) -> str:
    """The address at which a server that listens at `host` reaches itself."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
