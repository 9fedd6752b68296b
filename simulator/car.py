"""The whole rig, simulated: cameras in processes of their own, a receiver, a phone, and the truth about all of them."""

import argparse
import ctypes
import http.client
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from simulator import camera_faults, receiver
from simulator.camera import Camera
from simulator.lamp import BLINKS, Lamp, blinks
from simulator.led import Led, LedWire
from simulator.page import Page
from simulator.phone import Phone
from simulator.receiver import Receiver
from simulator.world import Crystal, Street, World

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SECOND_NS = 1_000_000_000
CAMERA_START_S = 60.0
CAMERA_ANSWER_S = 10.0
STOP_S = 5.0
BLINK_LEAD_NS = SECOND_NS  # each camera hears of it before it happens
NICENESS = -10
AUTOGROUP = Path("/proc/self/autogroup")
LOCALHOST = "127.0.0.1"

EXCHANGES, FIRST_EXCHANGES = 40, 3  # the first ones pay for the connection and are not used
EXCHANGE_INTERVAL_S = 0.03
PHONE_CLOCK_STEP_NS = 100_000  # performance.now() on a page without cross-origin isolation
CLOCK_TIMEOUT_S = 5.0

# label, serial, model, crystal in ppm; the three last digits of a serial make a GoPro's address on USB
KNOWN_CAMERAS = (
    ("left", "C3501324500711", "HERO12 Black", 38.0),
    ("right", "C3531350013906", "HERO13 Black", -21.0),
    ("front", "C3471325208244", "HERO11 Black", 11.0),
    ("rear", "C3501325800142", "HERO12 Black", -63.0),
)
SIDES = {"right": "right", "rear": "right"}  # the street is seen to the left and to the right only

_spawn = multiprocessing.get_context("spawn")


class CarError(RuntimeError):
    """A part of the car does not do what it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarPlan:
    """What the car is made of, and how wrong its clocks are. Times to the light or the wire in ms, rates in ppm."""

    cameras: int = 2
    height: int = 1080
    anti_flicker_hz: int = 60  # 50 gives 25 pictures a second, 60 gives 29.97
    host_rate_ppm: float = 12.0
    crystals_ppm: tuple[float, ...] = tuple(ppm for *_, ppm in KNOWN_CAMERAS)
    crystal_drift_ppm_per_hour: float = 1.0
    stream_latency_ms: float = 230.0
    latency_growth_ms_per_h: float = 0.0
    chart_m: float = 0.0
    phone_offset_s: float = 2.7
    phone_rate_ppm: float = 8.0
    phone_refresh_hz: float = 60.02
    display_latency_ms: float = 38.0
    receiver_latency_ms: float = receiver.DEFAULT_LATENCY_MS
    receiver_rate_hz: int = receiver.DEFAULT_RATE_HZ
    sentences: str = receiver.DEFAULT_SENTENCES
    talker: str = "GP"
    baud: int = receiver.DEFAULT_BAUD
    seed: int = 1
    camera_faults: tuple[tuple[str, float], ...] = ()
    receiver_faults: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera of the car; all that its process needs to know."""

    label: str
    serial: str
    model: str
    side: str
    crystal: Crystal
    truth: Path


@dataclass(frozen=True, slots=True)
class SetPhone:
    """To a camera's process: this is what you see of the phone from now on."""

    phone: Phone


@dataclass(frozen=True, slots=True)
class SetLed:
    """To a camera's process: this is how the LED beside the phone has blinked lately."""

    edges: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, slots=True)
class SetLamp:
    """To a camera's process: this is how the lamp over everything is about to blink."""

    edges: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, slots=True)
class SetFault:
    """To a camera's process: switch a fault on, or off (None)."""

    name: str
    value: float | None


@dataclass(frozen=True, slots=True)
class CountFrames:
    """To a camera's process: say how the stream did."""


class PhoneClock:
    """The phone's own clock, wrong by an offset and a rate, and read in steps as a page reads it."""

    def __init__(self, world: World, offset_s: float, rate_ppm: float) -> None:
        self._world = world
        self._offset_ns = round(offset_s * SECOND_NS)
        self._rate_ppm = rate_ppm

    def error_ns(self, utc_ns: int) -> int:
        """What the clock reads minus true UTC."""
        return self._offset_ns + round((utc_ns - self._world.epoch_utc_ns) * self._rate_ppm * 1e-6)

    def read_ns(self) -> int:
        """The clock now."""
        utc_ns = self._world.utc_ns()
        return (utc_ns + self.error_ns(utc_ns)) // PHONE_CLOCK_STEP_NS * PHONE_CLOCK_STEP_NS


@dataclass(frozen=True, slots=True)
class Measured:
    """The Pi's clock minus the phone's, and the half-width of the interval that holds it."""

    offset_ns: int
    bound_ns: int


def measure(url: str, clock: PhoneClock, exchanges: int = EXCHANGES) -> Measured:
    """Compare the phone's clock with the Pi's by real requests: separate minima of the way up and the way down.

    Raises CarError when the Pi does not answer with a JSON object that has `utc_ns`.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CLOCK_TIMEOUT_S)
    up, down = [], []
    try:
        for _ in range(FIRST_EXCHANGES + exchanges):
            sent = clock.read_ns()
            pi = _ask_time(connection, parts.path or "/")
            received = clock.read_ns()
            up.append(pi - sent)
            down.append(received - pi)
            time.sleep(EXCHANGE_INTERVAL_S)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise CarError(f"{url} does not tell the time ({type(error).__name__}: {error})") from error
    finally:
        connection.close()
    way_up, way_down = min(up[FIRST_EXCHANGES:]), min(down[FIRST_EXCHANGES:])
    return Measured((way_up - way_down) // 2, (way_up + way_down) // 2)


def _ask_time(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    if response.status != http.HTTPStatus.OK:
        raise ValueError(f"status {response.status}")
    return int(json.loads(body)["utc_ns"])


def _end_with_parent() -> None:
    """Have the kernel end this process when the car dies, even by SIGKILL (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _go_first() -> None:
    """Real devices have processors of their own: what else runs here shall not make the simulated ones late."""
    with suppress(OSError):  # only root may
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        if os.getsid(0) == os.getpid():
            # Linux shares the processor out to sessions first (autogroup), then among the processes of each.
            AUTOGROUP.write_text(str(NICENESS))


def _be_camera(connection: Connection, plan: CameraPlan, car: CarPlan, world: World, street: Street) -> None:
    """The life of a camera's process: until the car's end of the pipe is closed."""
    _end_with_parent()
    _go_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the car ends its cameras
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # in order: the card is a folder to be removed
    with _make_camera(plan, car, world, street) as camera, suppress(EOFError, ConnectionError):
        connection.send(camera.address)
        while True:
            connection.send(_obey(camera, connection.recv()))


def _make_camera(plan: CameraPlan, car: CarPlan, world: World, street: Street) -> Camera:
    return Camera(
        world=world,
        street=street,
        serial=plan.serial,
        model=plan.model,
        side=plan.side,
        crystal=plan.crystal,
        latency_ms=car.stream_latency_ms,
        latency_growth_ms_per_h=car.latency_growth_ms_per_h,
        chart_m=car.chart_m or None,
        size=car.height,
        anti_flicker_hz=car.anti_flicker_hz,
        seed=car.seed,
        truth=plan.truth,
        faults=dict(car.camera_faults),
    )


def _obey(camera: Camera, message: object) -> object:
    if isinstance(message, SetPhone):
        camera.phone = message.phone
    elif isinstance(message, SetLed):
        camera.led = Led(message.edges)
    elif isinstance(message, SetLamp):
        camera.lamp = Lamp(message.edges)
    elif isinstance(message, SetFault):
        if message.value is None:
            camera.faults.pop(message.name, None)
        else:
            camera.faults[message.name] = message.value
    elif isinstance(message, CountFrames):
        return asdict(camera.counts)
    return None


class CameraProcess:
    """The car's end of one camera: started, told things, ended."""

    def __init__(self, plan: CameraPlan, car: CarPlan, world: World, street: Street) -> None:
        self.plan = plan
        self.address = ""
        self._asking = threading.Lock()
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(
            target=_be_camera, args=(theirs, plan, car, world, street), name=f"camera {plan.label}", daemon=True
        )
        self._process.start()
        theirs.close()

    def wait_ready(self) -> None:
        """Wait for its address. Raises CarError when the process ends before."""
        self.address = str(self._receive(CAMERA_START_S))

    def tell(self, message: object) -> Any:
        """Send a message and wait for its answer. Raises CarError when the process is gone or stuck."""
        with self._asking:
            try:
                self._connection.send(message)
            except OSError as error:
                raise CarError(f"the {self.plan.label} camera's process is gone") from error
            return self._receive(CAMERA_ANSWER_S)

    def stop(self) -> None:
        """End the process: in order, else by force."""
        self._connection.close()
        self._process.join(STOP_S)
        for end in (self._process.terminate, self._process.kill):
            if self._process.exitcode is None:
                end()
                self._process.join(STOP_S)

    def _receive(self, timeout_s: float) -> Any:
        try:
            if self._connection.poll(timeout_s):
                return self._connection.recv()
        except (EOFError, OSError) as error:
            raise CarError(f"the {self.plan.label} camera's process ended") from error
        raise CarError(f"the {self.plan.label} camera did not answer within {timeout_s:.0f} s")


class Car:
    """Everything on and in the simulated car, and the crew member with the phone.

    Writes `truth`/world.json, frames-<serial>.csv, fixes.csv and phone.json. `led` is a pipe that is made: what is
    written there, 1 or 0, switches an LED beside the phone.
    """

    def __init__(self, plan: CarPlan, truth: Path, link: Path, led: Path | None = None) -> None:
        now_ns = time.time_ns()
        self.plan, self.truth, self.link, self.led = plan, truth, link, led
        self.world = World(now_ns, time.monotonic_ns(), plan.host_rate_ppm)
        self.street = Street(plan.seed, now_ns)
        self.cameras: list[CameraProcess] = []
        self._clock = PhoneClock(self.world, plan.phone_offset_s, plan.phone_rate_ppm)
        self._phone = make_phone(plan, now_ns)
        self._phone_log: list[dict[str, int | None]] = []
        self._page: Page | None = None
        self._showing = threading.Lock()
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self.truth.mkdir(parents=True, exist_ok=True)
        with ExitStack() as exits:
            for plan in self._camera_plans():
                self.cameras.append(CameraProcess(plan, self.plan, self.world, self.street))
                exits.callback(self.cameras[-1].stop)
            for camera in self.cameras:
                camera.wait_ready()
            self._write("world.json", self._describe())
            self.receiver = exits.enter_context(self._make_receiver())
            if self.led is not None:
                self._tell_all(SetLed(()))
                exits.enter_context(LedWire(self.led, self.world.utc_ns, lambda edges: self._tell_all(SetLed(edges))))
            exits.callback(self._close_page)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.close()

    def show_phone(self, clock_url: str) -> Measured:
        """Measure the phone against the Pi's clock, then hold its screen before the cameras. Takes over a second."""
        with self._showing:
            measured = measure(clock_url, self._clock)
            now_ns = self.world.utc_ns()
            to_pi_ns = self._clock.error_ns(now_ns) + measured.offset_ns
            shown = (*self._hidden(now_ns), (now_ns, None))
            self._phone_log.append(
                {"from_utc_ns": now_ns, "until_utc_ns": None, "to_pi_ns": to_pi_ns, "bound_ns": measured.bound_ns}
            )
            self._turn(replace(self._phone, to_pi_ns=to_pi_ns, shown=shown))
            self._close_page()
            name = f"simulated{len(self._phone_log)}"
            self._page = Page(clock_url, self._phone, measured.bound_ns, self.world.utc_ns, name)
        return measured

    def hide_phone(self) -> None:
        """Take the phone away from the cameras."""
        with self._showing:
            self._turn(replace(self._phone, shown=self._hidden(self.world.utc_ns())))
            self._close_page()

    def blink(self) -> None:
        """Switch the lamp over all that the cameras see on and off, some times from a moment from now on."""
        self._tell_all(SetLamp(blinks(self.world.utc_ns() + BLINK_LEAD_NS, self.plan.seed)))

    def set_fault(self, device: str, name: str, value: float | None) -> None:
        """Switch a fault of `receiver` or of a camera (its label or serial) on, or off with None.

        Raises CarError for an unknown device and ValueError for an unknown fault.
        """
        if device == "receiver":
            if value is None:
                self.receiver.clear_fault(name)
            else:
                self.receiver.set_fault(name, value)
            return
        for camera in self.cameras:
            if device in (camera.plan.label, camera.plan.serial):
                camera.tell(SetFault(name, None if value is None else camera_faults.check(name, value)))
                return
        raise CarError(f"there is no {device!r}; there are receiver, {', '.join(c.plan.label for c in self.cameras)}")

    def describe_cameras(self) -> list[dict[str, Any]]:
        """Label, serial, model and address of each camera."""
        return [
            {"label": c.plan.label, "serial": c.plan.serial, "model": c.plan.model, "address": c.address}
            for c in self.cameras
        ]

    def counters(self) -> dict[str, Any]:
        """How each camera's streams did, by serial."""
        return {camera.plan.serial: camera.tell(CountFrames()) for camera in self.cameras}

    def _hidden(self, now_ns: int) -> tuple[tuple[int, int | None], ...]:
        if self._phone_log and self._phone_log[-1]["until_utc_ns"] is None:
            self._phone_log[-1]["until_utc_ns"] = now_ns
        return tuple((begin, now_ns if end is None else end) for begin, end in self._phone.shown)

    def _turn(self, phone: Phone) -> None:
        self._phone = phone
        self._tell_all(SetPhone(phone))
        self._write("phone.json", self._phone_log)

    def _tell_all(self, message: object) -> None:
        for camera in self.cameras:
            camera.tell(message)

    def _close_page(self) -> None:
        if self._page is not None:
            self._page.close()
        self._page = None

    def _make_receiver(self) -> Receiver:
        plan = self.plan
        made = Receiver(
            self.link,
            self.world,
            self.street,
            rate_hz=plan.receiver_rate_hz,
            sentences=plan.sentences,
            talker=plan.talker,
            baud=plan.baud,
            latency_ms=plan.receiver_latency_ms,
            truth=self.truth,
            seed=plan.seed,
        )
        for name, value in plan.receiver_faults:
            made.set_fault(name, value)
        return made

    def _camera_plans(self) -> list[CameraPlan]:
        drift, begin = self.plan.crystal_drift_ppm_per_hour, self.world.epoch_utc_ns
        known = zip(KNOWN_CAMERAS[: self.plan.cameras], self.plan.crystals_ppm, strict=False)
        return [
            CameraPlan(label, serial, model, SIDES.get(label, "left"), Crystal(ppm, drift, begin), self.truth)
            for (label, serial, model, _), ppm in known
        ]

    def _describe(self) -> dict[str, Any]:
        crystals = {camera.plan.serial: camera.plan.crystal.rate_ppm for camera in self.cameras}
        return {
            "world": asdict(self.world),
            "street": {"seed": self.street.seed, "start_utc_ns": self.street.start_utc_ns},
            "cameras": [c | {"crystal_ppm": crystals[c["serial"]]} for c in self.describe_cameras()],
            "plan": asdict(self.plan),
        }

    def _write(self, name: str, content: object) -> None:
        (self.truth / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_phone(plan: CarPlan, now_ns: int) -> Phone:
    """The phone as it is before it is shown to anybody."""
    phone = Phone(refresh_hz=plan.phone_refresh_hz, phase_ns=now_ns)
    # Its own figure is the delay of the screen's top row; the code is in the middle.
    return replace(phone, latency_ms=plan.display_latency_ms - phone.scan_out_ms / 2)


class Control(ThreadingHTTPServer):
    """What a test or the demo tells the car while it drives: POST /phone, /lamp and /fault, GET / and /counters."""

    daemon_threads = True

    def __init__(self, car: Car, port: int) -> None:
        self.car = car
        super().__init__((LOCALHOST, port), _ControlHandler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOCALHOST}:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="control", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _ControlHandler(BaseHTTPRequestHandler):
    server: Control

    def do_GET(self) -> None:
        self._answer({"/": self._state, "/counters": lambda: self.server.car.counters()})

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

    def _state(self) -> dict[str, Any]:
        return _addresses(self.server.car, self.server)

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


def _addresses(car: Car, control: Control) -> dict[str, Any]:
    cameras = car.describe_cameras()
    return {"cameras": cameras, "receiver": str(car.link), "control": control.url, "truth": str(car.truth)}


def _parser() -> argparse.ArgumentParser:
    usual = CarPlan()
    parser = argparse.ArgumentParser(
        prog="python -m simulator car", description="A simulated car: GoPros, a receiver, a street and a phone."
    )
    add = parser.add_argument
    add("--cameras", type=int, choices=range(len(KNOWN_CAMERAS) + 1), default=usual.cameras)
    add("--truth", type=Path, help="folder for what is true (default: a temporary one)")
    add("--link", type=Path, help="name of the receiver's port (default: a temporary one)")
    add("--led", type=Path, metavar="PIPE", help="a pipe to be made that switches an LED beside the phone: 1 or 0")
    add("--control-port", type=int, default=0, help="0 is a free one")
    add("--size", type=int, choices=(1080, 720, 360, 180), default=usual.height, help="rows of a picture")
    add("--anti-flicker", type=int, choices=(50, 60), default=usual.anti_flicker_hz, help="50: 25 pictures a second")
    add("--until-eof", action="store_true", help="end when stdin is closed")
    for name, meaning in _NUMBERS.items():
        add(f"--{name.replace('_', '-')}", type=float, default=getattr(usual, name), metavar="X", help=meaning)
    add("--crystals-ppm", default=",".join(map(str, usual.crystals_ppm)), help="one for each camera")
    add("--rate", type=int, choices=receiver.RATES_HZ, default=usual.receiver_rate_hz, help="of the receiver, in Hz")
    add("--sentences", default=usual.sentences)
    add("--talker", choices=("GP", "GN"), default=usual.talker)
    add("--baud", type=int, default=usual.baud)
    add("--seed", type=int, default=usual.seed, help="another street and other noise")
    add("--camera-fault", action="append", default=[], metavar="NAME[=VALUE]", help="of all cameras")
    add("--receiver-fault", action="append", default=[], metavar="NAME[=VALUE]")
    return parser


_NUMBERS = {
    "host_rate_ppm": "how much too fast this machine's clock runs",
    "crystal_drift_ppm_per_hour": "of the cameras, while they get warm",
    "stream_latency_ms": "mid-exposure to datagrams",
    "latency_growth_ms_per_h": "how much longer that becomes",
    "chart_m": "metres from the cameras to the chart that they see instead of the street; 0: the street",
    "phone_offset_s": "phone's clock minus UTC",
    "phone_rate_ppm": "how much too fast it runs",
    "phone_refresh_hz": "of its screen",
    "display_latency_ms": "animation frame to light, of the code's middle row",
    "receiver_latency_ms": "epoch to first byte",
}


def _plan(options: argparse.Namespace) -> CarPlan:
    receiver.parse_sentences(options.sentences)
    return CarPlan(
        cameras=options.cameras,
        height=options.size,
        anti_flicker_hz=options.anti_flicker,
        crystals_ppm=tuple(float(ppm) for ppm in options.crystals_ppm.split(",")),
        receiver_rate_hz=options.rate,
        sentences=options.sentences,
        talker=options.talker,
        baud=options.baud,
        seed=options.seed,
        camera_faults=tuple(camera_faults.parse(text) for text in options.camera_fault),
        receiver_faults=tuple(receiver.parse_fault(text) for text in options.receiver_fault),
        **{name: getattr(options, name) for name in _NUMBERS},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Drive until SIGTERM, SIGINT or (`--until-eof`) the end of stdin; a JSON line on stdout says that all is ready."""
    options = _parser().parse_args(argv)
    try:
        plan = _plan(options)
    except ValueError as error:
        print(f"car: {error}", file=sys.stderr)
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _go_first()
    if options.until_eof:
        threading.Thread(target=_wait_for_eof, args=(stopped,), name="stdin", daemon=True).start()
    try:
        _drive(plan, options, stopped)
    except (CarError, OSError) as error:
        print(f"car: {error}", file=sys.stderr)
        return 1
    return 0


def _drive(plan: CarPlan, options: argparse.Namespace, stopped: threading.Event) -> None:
    with ExitStack() as exits:
        truth, link = options.truth, options.link
        if truth is None or link is None:
            scratch = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="edencar-car-")))
            truth, link = truth or scratch / "truth", link or scratch / "receiver"
        car = exits.enter_context(Car(plan, truth, link, options.led))
        control = exits.enter_context(Control(car, options.control_port))
        print(json.dumps(_addresses(car, control)), flush=True)
        stopped.wait()


def _wait_for_eof(stopped: threading.Event) -> None:
    # Not by way of sys.stdin: its lock would be held when the interpreter ends.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    stopped.set()
