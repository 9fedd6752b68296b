"""What a demo works with: the car and the server as programs that end with it, and the HTTP API as curl uses it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import requests

LOCALHOST = "127.0.0.1"
CAR_START_S, SERVER_START_S = 60.0, 60.0
PROJECT = Path(__file__).resolve().parent.parent
ANSWER_S = 60.0
POLL_S = 0.3
STOP_S = 10.0
BRIEF_CHARACTERS = 600
SETTINGS_PREFIX = "EDENCAR_"


class DemoError(RuntimeError):
    """The demo cannot go on; one line says why."""


class Child:
    """A program started by the demo: ended with it, even when the demo is killed.

    With `settings` (EDENCAR_*) all it prints goes to the log; without, stdout is for `read_line`.
    """

    def __init__(self, name: str, command: Sequence[str], log: TextIO, settings: dict[str, str] | None = None) -> None:
        self.name = name
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        # The demo is the same whatever this machine's own car is set to.
        environ = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS_PREFIX)}
        self.process = subprocess.Popen(
            [*guard, *command],
            cwd=PROJECT,
            env=environ | (settings or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if settings is None else log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo alone: it ends its children in order
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for end in (self.process.terminate, self.process.kill):
            end()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
                break
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def check(self) -> None:
        """Raise DemoError when it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(f"the {self.name} ended by itself with exit code {code}")

    def read_line(self, timeout_s: float) -> str:
        """Its first line on stdout. Raises DemoError when none comes."""
        lines: list[bytes] = []
        pipe = self.process.stdout
        assert pipe is not None
        reader = threading.Thread(target=lambda: lines.append(pipe.readline()), daemon=True)
        reader.start()
        reader.join(timeout_s)
        if lines == [b""]:  # it closes its pipe a moment before it has ended
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        if not lines or not lines[0]:
            self.check()
            raise DemoError(f"the {self.name} was not ready within {timeout_s:.0f} s")
        return lines[0].decode()


class Api:
    """The server's HTTP API, as curl would use it."""

    def __init__(self, url: str, server: Child) -> None:
        self.url = url
        self._server = server
        self._session = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; its JSON. Raises DemoError with what the server says is wrong."""
        self._server.check()
        try:
            response = self._session.request(method, self.url + path, json=body, timeout=ANSWER_S)
            content = response.json()
        except (requests.RequestException, ValueError) as error:
            raise DemoError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if not response.ok:
            detail = content.get("detail") or content.get("title") or content
            raise DemoError(f"{method} {path} is answered {response.status_code}: {detail}")
        return content

    def wait(self, path: str, ready: Callable[[Any], bool], timeout_s: float, what: str) -> Any:
        """Ask again until the answer is as wanted; until the server has begun, nobody answers. Raises DemoError."""
        deadline = time.monotonic() + timeout_s
        answer: Any = None
        while time.monotonic() < deadline:
            with suppress(DemoError):
                answer = self.call("GET", path)
                if ready(answer):
                    return answer
            self._server.check()
            time.sleep(POLL_S)
        raise DemoError(f"{what} did not come within {timeout_s:.0f} s; {path} last said {brief(answer)}")


@contextmanager
def simulated_car(
    cameras: int, height: int, scratch: Path, log: TextIO, more: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """A running car, whose truth goes to `scratch/truth`; what it prints when it is ready: addresses, ports.

    `more` are further options of `python -m simulator car`.
    """
    command = [sys.executable, "-m", "simulator", "car", "--until-eof", "--cameras", str(cameras)]
    command += ["--size", str(height), "--truth", str(scratch / "truth"), "--link", str(scratch / "receiver"), *more]
    with Child("simulated car", command, log) as child:
        yield json.loads(child.read_line(CAR_START_S))


@contextmanager
def real_server(car: dict[str, Any], output: Path, port: int, log: TextIO) -> Iterator[Api]:
    """The server of the product with that car's devices, ready to record."""
    settings = {
        "EDENCAR_CAMERAS": ",".join(camera["address"] for camera in car["cameras"]),
        "EDENCAR_RECEIVER_PORT": car["receiver"],
        "EDENCAR_OUTPUT": str(output),
        "EDENCAR_HOST": LOCALHOST,
        "EDENCAR_PORT": str(port),
    }
    with (
        Child("server", [sys.executable, "server.py"], log, settings) as child,
        Api(f"http://{LOCALHOST}:{port}", child) as api,
    ):
        wanted = len(car["cameras"])
        api.wait("/api/status", lambda s: _has_devices(s, wanted), SERVER_START_S, "cameras, fix and UTC")
        yield api


def _has_devices(status: dict[str, Any], cameras: int) -> bool:
    ready = [camera for camera in status["cameras"] if camera["state"] == "idle"]
    receiver = status.get("receiver") or {}
    has_fix = receiver.get("quality") not in (None, "none")
    return len(ready) == cameras and has_fix and status["time"]["source"] == "gnss"


def show_phone(control: str, clock: str | None) -> dict[str, Any]:
    """Have the car's phone show the code after it has asked a clock (an URL), or put it away; what it measured."""
    return _tell_car(control, "phone", {"show": True, "clock": clock} if clock else {"show": False})


def blink_lamp(control: str) -> None:
    """Have the lamp over all that the cameras see switched on and off, some times."""
    _tell_car(control, "lamp", {})


def _tell_car(control: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        response = requests.post(f"{control}/{what}", json=body, timeout=ANSWER_S)
        answer: dict[str, Any] = response.json()
    except (requests.RequestException, ValueError) as error:
        raise DemoError(f"the simulated car does not answer ({error})") from error
    if not response.ok:
        raise DemoError(f"the simulated {what} failed: {answer.get('error')}")
    return answer


def brief(answer: Any) -> str:
    """An answer in a line that fits a screen."""
    text = json.dumps(answer)
    return text if len(text) <= BRIEF_CHARACTERS else text[:BRIEF_CHARACTERS] + "..."
