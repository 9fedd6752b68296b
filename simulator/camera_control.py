"""What somebody beside a virtual camera can do to it: break it, and take its power; no part of GoPro's interface."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from simulator.camera_faults import FAULTS, FaultError, Faults, parse
from simulator.hero.httpd import Answer, Request, Server, answer_json

FAULT_PATH = "/faults/"
USUAL_OFF_S = 3


class Touched(Protocol):
    """What a hand can do to a camera."""

    @property
    def faults(self) -> Faults: ...
    def cycle_power(self, off_s: float) -> None: ...
    def unplug(self, for_s: float) -> None: ...
    def press_shutter(self) -> None: ...


def serve(camera: Touched, host: str, port: int) -> Server:
    """A server, not yet started, for `/faults` and what hands do; docs/simulator.md lists it.

    Raises OSError when the port is taken.
    """
    hands: Mapping[str, Callable[[Request], None]] = {
        "/power": lambda request: camera.cycle_power(request.number("off_s", USUAL_OFF_S)),
        "/unplug": lambda request: camera.unplug(request.number("for_s", USUAL_OFF_S)),
        "/shutter": lambda request: camera.press_shutter(),
    }

    def handle(request: Request) -> Answer:
        if request.path.startswith(FAULT_PATH):
            return _change(camera.faults, request)
        if request.method == "GET" and request.path == "/faults":
            return answer_json({"on": dict(camera.faults), "known": {name: text for name, (_, text) in FAULTS.items()}})
        if request.method == "POST" and request.path in hands:
            hands[request.path](request)
            return Answer()
        return Answer(HTTPStatus.NOT_FOUND)

    return Server(host, port, handle)


def _change(faults: Faults, request: Request) -> Answer:
    value = request.query.get("value")
    try:
        name, number = parse(request.path.removeprefix(FAULT_PATH) + ("" if value is None else f"={value}"))
    except FaultError as error:
        return answer_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
    if request.method == "PUT":
        faults[name] = number
    elif request.method == "DELETE":
        faults.pop(name, None)
    else:
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED)
    return Answer()
