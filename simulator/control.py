"""What a test or the demo tells the simulated car while it drives, over HTTP."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from simulator.cameraprocess import CarError
from simulator.lamp import BLINKS

if TYPE_CHECKING:
    from simulator.car import Car

LOCALHOST = "127.0.0.1"


class Control(ThreadingHTTPServer):
    """POST /phone, /lamp and /fault, GET / and /counters."""

    daemon_threads = True

    def __init__(self, car: "Car", port: int) -> None:
        self.car = car
        super().__init__((LOCALHOST, port), _ControlHandler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOCALHOST}:{self.server_port}"

    def addresses(self) -> dict[str, Any]:
        """Where everything is."""
        cameras, link = self.car.describe_cameras(), str(self.car.link)
        return {"cameras": cameras, "receiver": link, "control": self.url, "truth": str(self.car.truth)}

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _ControlHandler(BaseHTTPRequestHandler):
    server: Control

    def do_GET(self) -> None:
        self._answer({"/": self.server.addresses, "/counters": lambda: self.server.car.counters()})

    def do_POST(self) -> None:
        self._answer({"/phone": self._phone, "/lamp": self._lamp, "/fault": self._fault})

    def log_message(self, *_: object) -> None:
        """Say nothing: stderr belongs to the car."""

    def _answer(self, routes: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
        status, body = 200, {}
        try:
            body = routes[self.path]()
        except KeyError as error:
            status, body = 404, {"error": f"not here or not given: {error}"}
        except (ValueError, TypeError) as error:
            status, body = 400, {"error": str(error)}
        except CarError as error:
            status, body = 502, {"error": str(error)}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> dict[str, Any]:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if not isinstance(body, dict):
            raise ValueError("a JSON object is needed")
        return body

    def _phone(self) -> dict[str, Any]:
        body = self._body()
        if not body["show"]:
            self.server.car.hide_phone()
            return {"shown": False}
        measured = self.server.car.show_phone(str(body["clock"]))
        return {"shown": True, "offset_ns": measured.offset_ns, "bound_ns": measured.bound_ns}

    def _lamp(self) -> dict[str, Any]:
        self.server.car.blink()
        return {"blinks": BLINKS}

    def _fault(self) -> dict[str, Any]:
        body = self._body()
        value = body.get("value")
        self.server.car.set_fault(str(body["device"]), str(body["name"]), None if value is None else float(value))
        return {"device": body["device"], "name": body["name"], "value": value}
