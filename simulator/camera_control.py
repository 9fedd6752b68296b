"""What somebody beside a virtual camera can do to it: break it, and take its power; no part of GoPro's interface."""

from collections.abc import Callable
from http import HTTPStatus

from simulator.camera_faults import FAULTS, FaultError, Faults, parse
from simulator.hero.httpd import Answer, Request, Server, answer_json

FAULT_PATH = "/faults/"
USUAL_OFF_S = 3


def serve(faults: Faults, cycle_power: Callable[[float], None], host: str, port: int) -> Server:
    """A server, not yet started: `GET /faults`, `PUT` and `DELETE /faults/NAME`, `POST /power`. Raises OSError."""

    def handle(request: Request) -> Answer:
        if request.method == "GET" and request.path == "/faults":
            return answer_json({"on": dict(faults), "known": {name: text for name, (_, text) in FAULTS.items()}})
        if request.method == "POST" and request.path == "/power":
            cycle_power(request.number("off_s", USUAL_OFF_S))
            return Answer()
        if request.path.startswith(FAULT_PATH):
            return _change(faults, request)
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
