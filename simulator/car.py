"""The whole rig, simulated: cameras in processes of their own, a receiver, a phone, and the truth about all of them."""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from simulator import camera_faults, receiver
from simulator.camera import Camera
from simulator.cameraprocess import CameraProcess, CarError, go_first
from simulator.control import Control
from simulator.ending import Ending
from simulator.lamp import Lamp, blinks
from simulator.led import Led, LedWire
from simulator.page import Page
from simulator.phone import Phone
from simulator.receiver import Receiver
from simulator.world import Crystal, Street, World

SECOND_NS = 1_000_000_000
BLINK_LEAD_NS = SECOND_NS  # each camera hears of it before it happens

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
            for camera in self._make_cameras():
                self.cameras.append(camera)
                exits.callback(camera.stop)
            for camera in self.cameras:
                camera.wait_ready()
            self._write("world.json", self._describe())
            self.receiver = exits.enter_context(self._make_receiver())
            if self.led is not None:
                self._switch_led(())
                exits.enter_context(LedWire(self.led, self.world.utc_ns, self._switch_led))
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
        self._tell_all("lamp", Lamp(blinks(self.world.utc_ns() + BLINK_LEAD_NS, self.plan.seed)))

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
            if device in (camera.label, camera.serial):
                camera.tell(_set_fault, name, None if value is None else camera_faults.check(name, value))
                return
        raise CarError(f"there is no {device!r}; there are receiver, {', '.join(c.label for c in self.cameras)}")

    def describe_cameras(self) -> list[dict[str, Any]]:
        """Label, serial, model and address of each camera."""
        return [camera.describe() for camera in self.cameras]

    def counters(self) -> dict[str, Any]:
        """How each camera's streams did, by serial."""
        return {camera.serial: camera.tell(_counts) for camera in self.cameras}

    def _hidden(self, now_ns: int) -> tuple[tuple[int, int | None], ...]:
        if self._phone_log and self._phone_log[-1]["until_utc_ns"] is None:
            self._phone_log[-1]["until_utc_ns"] = now_ns
        return tuple((begin, now_ns if end is None else end) for begin, end in self._phone.shown)

    def _turn(self, phone: Phone) -> None:
        self._phone = phone
        self._tell_all("phone", phone)
        self._write("phone.json", self._phone_log)

    def _switch_led(self, edges: tuple[tuple[int, bool], ...]) -> None:
        self._tell_all("led", Led(edges))

    def _tell_all(self, name: str, seen: Phone | Led | Lamp) -> None:
        """This is what you see from now on."""
        for camera in self.cameras:
            camera.tell(setattr, name, seen)

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

    def _make_cameras(self) -> Iterator[CameraProcess]:
        plan, begin_ns = self.plan, self.world.epoch_utc_ns
        for (label, serial, model, _), ppm in zip(KNOWN_CAMERAS[: plan.cameras], plan.crystals_ppm, strict=False):
            yield CameraProcess(
                label,
                world=self.world,
                street=self.street,
                serial=serial,
                model=model,
                side=SIDES.get(label, "left"),
                crystal=Crystal(ppm, plan.crystal_drift_ppm_per_hour, begin_ns),
                latency_ms=plan.stream_latency_ms,
                latency_growth_ms_per_h=plan.latency_growth_ms_per_h,
                chart_m=plan.chart_m or None,
                size=plan.height,
                anti_flicker_hz=plan.anti_flicker_hz,
                seed=plan.seed,
                truth=self.truth,
                faults=dict(plan.camera_faults),
            )

    def _describe(self) -> dict[str, Any]:
        return {
            "world": asdict(self.world),
            "street": {"seed": self.street.seed, "start_utc_ns": self.street.start_utc_ns},
            "cameras": [c.describe() | {"crystal_ppm": c.options["crystal"].rate_ppm} for c in self.cameras],
            "plan": asdict(self.plan),
        }

    def _write(self, name: str, content: object) -> None:
        (self.truth / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _set_fault(camera: Camera, name: str, value: float | None) -> None:
    if value is None:
        camera.faults.pop(name, None)
    else:
        camera.faults[name] = value


def _counts(camera: Camera) -> dict[str, Any]:
    return asdict(camera.counts)


def make_phone(plan: CarPlan, now_ns: int) -> Phone:
    """The phone as it is before it is shown to anybody."""
    phone = Phone(refresh_hz=plan.phone_refresh_hz, phase_ns=now_ns)
    # Its own figure is the delay of the screen's top row; the code is in the middle.
    return replace(phone, latency_ms=plan.display_latency_ms - phone.scan_out_ms / 2)


def _parser() -> argparse.ArgumentParser:
    usual = CarPlan()
    parser = argparse.ArgumentParser(
        prog="python -m simulator car", description="A simulated car: GoPros, a receiver, a street and a phone."
    )
    add = parser.add_argument

    def set_plan(option: str, name: str, **more: Any) -> None:
        add(option, dest=name, default=getattr(usual, name), **more)

    set_plan("--cameras", "cameras", type=int, choices=range(len(KNOWN_CAMERAS) + 1))
    add("--truth", type=Path, help="folder for what is true (default: a temporary one)")
    add("--link", type=Path, help="name of the receiver's port (default: a temporary one)")
    add("--led", type=Path, metavar="PIPE", help="a pipe to be made that switches an LED beside the phone: 1 or 0")
    add("--control-port", type=int, default=0, help="0 is a free one")
    set_plan("--size", "height", type=int, choices=(1080, 720, 360, 180), help="rows of a picture")
    set_plan("--anti-flicker", "anti_flicker_hz", type=int, choices=(50, 60), help="50: 25 pictures a second")
    add("--until-eof", action="store_true", help="end when stdin is closed")
    for name, meaning in _NUMBERS.items():
        set_plan(f"--{name.replace('_', '-')}", name, type=float, metavar="X", help=meaning)
    add("--crystals-ppm", default=",".join(map(str, usual.crystals_ppm)), help="one for each camera")
    set_plan("--rate", "receiver_rate_hz", type=int, choices=receiver.RATES_HZ, help="of the receiver, in Hz")
    set_plan("--sentences", "sentences")
    set_plan("--talker", "talker", choices=("GP", "GN"))
    set_plan("--baud", "baud", type=int)
    set_plan("--seed", "seed", type=int, help="another street and other noise")
    for device, of in (("camera", "of all cameras"), ("receiver", "of the receiver")):
        add(f"--{device}-fault", dest=f"{device}_faults", action="append", default=[], metavar="NAME[=VALUE]", help=of)
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
    read = {
        "crystals_ppm": tuple(map(float, options.crystals_ppm.split(","))),
        "camera_faults": tuple(map(camera_faults.parse, options.camera_faults)),
        "receiver_faults": tuple(map(receiver.parse_fault, options.receiver_faults)),
    }
    return CarPlan(**{item.name: getattr(options, item.name) for item in fields(CarPlan)} | read)


def main(argv: Sequence[str] | None = None) -> int:
    """Drive until SIGTERM, SIGINT or (`--until-eof`) the end of stdin; a JSON line on stdout says that all is ready."""
    options = _parser().parse_args(argv)
    try:
        plan = _plan(options)
    except ValueError as error:
        print(f"car: {error}", file=sys.stderr)
        return 2
    ending = Ending()
    go_first()
    if options.until_eof:
        threading.Thread(target=_wait_for_eof, args=(ending,), name="stdin", daemon=True).start()
    try:
        _drive(plan, options, ending)
    except (CarError, OSError) as error:
        print(f"car: {error}", file=sys.stderr)
        return 1
    return 0


def _drive(plan: CarPlan, options: argparse.Namespace, ending: Ending) -> None:
    with ExitStack() as exits:
        truth, link = options.truth, options.link
        if truth is None or link is None:
            scratch = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="edencar-car-")))
            truth, link = truth or scratch / "truth", link or scratch / "receiver"
        car = exits.enter_context(Car(plan, truth, link, options.led))
        control = exits.enter_context(Control(car, options.control_port))
        print(json.dumps(control.addresses()), flush=True)
        ending.wait()


def _wait_for_eof(ending: Ending) -> None:
    # Not by way of sys.stdin: its lock would be held when the interpreter ends.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    ending.tell()
